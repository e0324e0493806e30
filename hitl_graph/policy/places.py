"""Files and hosts that an argument names, compared as text: what a specifier says of them. No I/O.

As for commands there are two questions. Surely this: only the plain spelling counts. Perhaps this: any spelling that a
tool, a file system or a URL parser could take for it does. Links are not followed.
"""

import os
import re
import socket
import unicodedata
from collections.abc import Iterator
from posixpath import join, normpath
from typing import Any
from urllib.parse import unquote, urlsplit

from hitl_graph.errors import PolicyError
from hitl_graph.policy.wildcard import fits

__all__ = ["HostPattern", "PathPattern", "TextPattern"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")
_HOST = re.compile(r"([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\Z")
_PORTS = {"http": 80, "https": 443}


class PathPattern:
    """Files, as in `.gitignore`: `.env`, `src/**`, `~/notes/*.md`, `//etc/**`.

    Args:
        text: Begins with `//`: from the root of the file system. `~/`: the home folder. `/` or `./`: from `root`.
            Anything else: from `root` too, at any depth if there is no slash within, as git has it.
        root: Where relative paths lie, absolute.

    Raises:
        PolicyError: It is no such pattern, or the library for them is missing.
    """

    def __init__(self, text: str, root: str) -> None:
        self.text, self.root = text, normpath(root)
        if text.startswith("//"):
            self._base, pattern = "/", "/" + text.lstrip("/")
        elif text.startswith("~/"):
            self._base, pattern = os.path.expanduser("~"), text[1:]
        else:
            self._base, pattern = self.root, text[1:] if text.startswith("./") else text
        if not pattern.strip("/") or pattern[:1] in "!#" or _CONTROL.search(text) or ".." in pattern.split("/"):
            raise PolicyError(f"{text!r} names no files; write src/**, ./.env, ~/notes/*.md or //etc/**")
        self._relative = self._base == self.root and not text.startswith(("//", "~/"))
        self._exact, self._loose = _spec(pattern), _spec(_folded(pattern))

    def surely(self, value: str) -> bool:
        """Whether the path is plainly within: no `..`, nothing that somebody else would read otherwise."""
        if not value or _CONTROL.search(value) or value[0] in "~ " or value[-1] == " " or "\\" in value:
            return False
        if ".." in value.split("/") or _DRIVE.match(value) or value.startswith("//"):
            return False
        inner = _inside(normpath(join(self.root, value)), self._base)
        return inner is not None and self._exact.match_file(inner)

    def perhaps(self, value: str) -> bool:
        """Whether some reading of the path is within."""
        return _CONTROL.search(value) is not None or any(map(self._may_be, _spellings(value)))

    def _may_be(self, value: str) -> bool:
        home = _folded(os.path.expanduser("~"))
        path = join(home, value[2:]) if value.startswith("~/") else join(_folded(self.root), value)
        path = "/" + normpath(path).lstrip("/")
        inner = _inside(path, _folded(self._base))
        if inner is not None and self._loose.match_file(inner):
            return True
        if not self._relative:
            return value.startswith("~") and not value.startswith("~/")
        parts = path.strip("/").split("/")  # the tool may have another root than we think
        return any(self._loose.match_file("/".join(parts[start:])) for start in range(len(parts)))


class HostPattern:
    """Hosts that a URL names: `example.com`; `*.example.com` for those below it.

    Raises:
        PolicyError: It is no host.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._host = text.lower()
        if self._host != "*" and not _HOST.match(self._host.removeprefix("*.")):
            hint = "; write other letters as they are in DNS (xn--...)" if not text.isascii() else ""
            raise PolicyError(f"{text!r} is no host; write example.com or *.example.com{hint}")

    def surely(self, value: str) -> bool:
        """Whether it is an http(s) URL of this host on the usual port, in its plain spelling."""
        if _CONTROL.search(value) or " " in value or "\\" in value or not value.isascii():
            return False
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError:
            return False
        host = url.netloc.lower().removesuffix(f":{port}")
        if url.scheme not in _PORTS or port not in (None, _PORTS[url.scheme]) or not _HOST.match(host):
            return False
        if self._host == "*":
            return True
        return host.endswith(self._host[1:]) if self._host.startswith("*.") else host == self._host

    def perhaps(self, value: str) -> bool:
        """Whether some reading of it goes to this host, or below it; also if no host can be found."""
        hosts = set(_hosts(value))
        return self._host == "*" or not hosts or any(map(self._may_be, hosts))

    def _may_be(self, host: str) -> bool:
        wanted = self._host.removeprefix("*.")
        if host == wanted or host.endswith(f".{wanted}"):
            return True
        return (number := _ipv4(wanted)) is not None and number == _ipv4(host)


class TextPattern:
    """The text of an argument, with `*` for anything."""

    def __init__(self, text: str) -> None:
        self.text = text

    def surely(self, value: str) -> bool:
        """Whether it is this. A `*` takes no step up in a path and no control characters."""
        if "*" in self.text and (_CONTROL.search(value) or ".." in re.split(r"[/\\]", value)):
            return False
        return fits(self.text, value)

    def perhaps(self, value: str) -> bool:
        """Whether it is this but for case, blanks around it and the like."""
        pattern = _folded(self.text)
        return any(fits(pattern, form) for form in {_folded(value), _folded(value.strip())})


def _spec(pattern: str) -> Any:
    try:
        from pathspec import GitIgnoreSpec
    except ModuleNotFoundError as exc:
        raise PolicyError(f"file patterns ({pattern!r}) need a library: pip install 'hitl-graph[policy]'") from exc
    if "[" in re.sub(r"\\.|\[!?\]?[^\]]*\]", "", pattern):  # libraries differ on what it then is
        raise PolicyError(f"{pattern!r} is no pattern for files: a bracket is not closed")
    try:
        spec: Any = GitIgnoreSpec.from_lines([pattern])
    except ValueError as exc:
        raise PolicyError(f"{pattern!r} is no pattern for files: {exc}") from exc
    if not all(one.include for one in spec.patterns):  # a comment, a negation, or a bracket that is not closed
        raise PolicyError(f"{pattern!r} is no pattern for files")
    return spec


def _folded(text: str) -> str:
    """As a file system that knows no case, or composes letters, has it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _inside(path: str, base: str) -> str | None:
    """The path from `base` on; None if it is not below it."""
    base = base.rstrip("/") + "/"
    return path[len(base) :] if path.startswith(base) and len(path) > len(base) else None


def _spellings(value: str) -> Iterator[str]:
    for text in {value, value.strip(), unquote(value), unquote(unquote(value))}:
        for path in {text, text.replace("\\", "/")}:
            path = re.sub(r"\Afile:/*(localhost/)?", "/", path, flags=re.IGNORECASE)
            path = _DRIVE.sub("", path, count=1) if _DRIVE.match(path) else path
            yield _folded(path)
            yield _folded(path.rstrip(" ."))


def _hosts(value: str) -> Iterator[str]:
    """Every host that one parser or another would find."""
    value = re.sub(r"[\t\r\n]", "", value.strip().lstrip("\x00 "))
    for text in {value, unquote(value)}:
        rests = [text, text.partition(":")[2], *re.split(r"[/\\]{2,}", text, maxsplit=1)[1:]]
        for authority in (re.split(r"[/?#]", rest.lstrip("/\\"))[0] for rest in rests):
            for part in re.split(r"[@\\]", authority):
                yield from _spelled(part if part.startswith("[") else part.partition(":")[0])


def _spelled(host: str) -> Iterator[str]:
    host = _folded(host).replace("\u3002", ".").strip(".").strip()
    if host:
        yield host
        try:
            yield host.encode("idna").decode().lower()
        except UnicodeError:
            pass


def _ipv4(host: str) -> bytes | None:
    if not re.fullmatch(r"[0-9a-fx.]+", host) or not host[:1].isdigit():
        return None
    try:
        return socket.inet_aton(host)
    except OSError:
        return None
