"""On which line of a TOML or JSON text each value stands.

`tomllib` and `json` say where a text is malformed, and not where its values were. This walks a text that they have
accepted, so that it need not know what is valid, only where keys and values begin and end.
"""

import json
import re
import tomllib
from bisect import bisect_right
from typing import Literal

__all__ = ["Lines", "Path", "duplicate", "lines_of"]

Path = tuple[str | int, ...]
Lines = dict[Path, int]
"""Path of keys and indexes to line number, from 1."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_TEXT = re.compile(
    r'"""(?:\\[\s\S]|(?!""")[^\\])*"{3,5}' r"|'''(?:(?!''')[\s\S])*'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'"
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str, kind: Literal["toml", "json"]) -> Lines:
    """Where each value of a valid text stands; a table of TOML, where its header does.

    Raises:
        ValueError: The text is not valid.
    """
    walk = _Walk(text, kind)
    if kind == "toml":
        walk.document()
    else:
        walk.value(())
    return walk.lines


def duplicate(text: str) -> tuple[Path, int] | None:
    """The first key that JSON has twice, with its second line."""
    walk = _Walk(text, "json")
    walk.value(())
    return walk.repeated


class _Walk:
    def __init__(self, text: str, kind: Literal["toml", "json"]) -> None:
        self.text, self.at, self.kind = text, 0, kind
        self.lines: Lines = {}
        self.repeated: tuple[Path, int] | None = None
        self._starts = [match.end() for match in re.finditer("\n", text)]
        self._arrays: dict[Path, int] = {}

    def document(self) -> None:
        here: Path = ()
        while self._blank() < len(self.text):
            line = self._line()
            if self.text.startswith("[[", self.at):
                self.at += 2
                path = self._resolved(self._key())
                self._arrays[path] = self._arrays.get(path, -1) + 1
                self.lines.setdefault(path, line)
                here = (*path, self._arrays[path])
                self._skip("]]")
            elif self.text[self.at] == "[":
                self.at += 1
                here = self._resolved(self._key(), last=True)
                self._skip("]")
            else:
                self._pair(here)
                continue
            self._note(here, line)

    def value(self, path: Path) -> None:
        self._blank()
        self.lines.setdefault(path, self._line())
        if self.text[self.at] == "[":
            self._open()
            index = 0
            while self.text[self.at] != "]":
                self.value((*path, index))
                index += 1
                self._comma()
            self.at += 1
        elif self.text[self.at] == "{":
            self._open()
            while self.text[self.at] != "}":
                self._pair(path)
                self._comma()
            self.at += 1
        else:
            self._match(_TEXT if self.text[self.at] in "\"'" else _SCALAR)

    def _pair(self, base: Path) -> None:
        line = self._line()
        path = (*base, *self._key())
        if path in self.lines and self.repeated is None:
            self.repeated = path, line
        for length in range(len(base) + 1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
        self._skip(":" if self.kind == "json" else "=")
        self.value(path)

    def _key(self) -> Path:
        parts = list[str]()
        while True:
            self._match(_SPACE)
            if self.text[self.at] in "\"'":
                quoted = self._match(_TEXT)
                parts.append(json.loads(quoted) if self.kind == "json" else tomllib.loads(f"k = {quoted}")["k"])
            else:
                parts.append(self._match(_BARE))
            self._match(_SPACE)
            if self.kind == "json" or self.text[self.at : self.at + 1] != ".":
                return tuple(parts)
            self.at += 1

    def _resolved(self, key: Path, last: bool = False) -> Path:
        """A header's key with the indexes of the arrays of tables that it goes through."""
        path: Path = ()
        for number, part in enumerate(key, 1):
            path = (*path, part)
            if path in self._arrays and (last or number < len(key)):
                path = (*path, self._arrays[path])
        return path

    def _note(self, path: Path, line: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _open(self) -> None:
        self.at += 1
        self._blank()

    def _comma(self) -> None:
        self._blank()
        if self.text[self.at] == ",":
            self._open()

    def _skip(self, what: str) -> None:
        self._blank()
        if not self.text.startswith(what, self.at):
            raise ValueError(f"line {self._line()}: no {what!r}")
        self.at += len(what)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise ValueError(f"line {self._line()} cannot be read")
        self.at = found.end()
        return found[0]

    def _blank(self) -> int:
        self._match(_BLANK if self.kind == "toml" else re.compile(r"\s*"))
        return self.at

    def _line(self) -> int:
        return bisect_right(self._starts, self.at) + 1
