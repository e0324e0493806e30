"""A policy file as plain data, with the line of each value: TOML, YAML, and JSON for Claude Code's settings."""

import json
import re
import tomllib
from collections.abc import Hashable
from typing import Any

from hitl_graph.policy.positions import Lines, Path, duplicate, lines_of

__all__ = ["NotReadableError", "Source", "read"]

_MOST = 100_000  # values; aliases of YAML can name a great many in a few lines


class NotReadableError(Exception):
    """The text is not what its name says; the line, and why."""

    def __init__(self, line: int | None, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(line, why)


class Source:
    """A text that was read.

    Attributes:
        name: Of the file.
        data: What it says.
    """

    def __init__(self, name: str, data: Any, lines: Lines) -> None:
        self.name, self.data, self._lines = name, data, lines

    def line(self, path: Path) -> int:
        """Where the value stands, or what it would be in."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def at(self, path: Path) -> str:
        """`policy.toml:12`."""
        return f"{self.name}:{self.line(path)}"


def read(text: str, name: str) -> Source:
    """Read a text as what the end of its name says it is.

    Raises:
        NotReadableError: It is not.
    """
    ending = name.rpartition(".")[2].lower()
    try:
        match ending:
            case "toml":
                return Source(name, tomllib.loads(text), lines_of(text.replace("\r\n", "\n"), "toml"))
            case "json":
                return _json(text, name)
            case "yaml" | "yml":
                return _yaml(text, name)
            case _:
                raise NotReadableError(None, "a policy file is called .toml, .yaml, .yml, or .json for permissions")
    except tomllib.TOMLDecodeError as exc:
        what, _, place = str(exc).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        raise NotReadableError(int(line[1]) if line else text.count("\n") + 1, what) from exc
    except RecursionError as exc:
        raise NotReadableError(None, "it is nested too deeply") from exc


def _json(text: str, name: str) -> Source:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as exc:
        raise NotReadableError(exc.lineno, exc.msg) from exc
    if (twice := duplicate(text)) is not None:
        raise NotReadableError(twice[1], f"{'.'.join(map(str, twice[0]))} is there twice")
    return Source(name, data, lines_of(text, "json"))


def _yaml(text: str, name: str) -> Source:
    try:
        import yaml
    except ModuleNotFoundError as exc:
        raise NotReadableError(None, "YAML needs a library: pip install 'hitl-graph[policy]'") from exc

    class Loader(yaml.SafeLoader):
        """With the words of YAML 1.2: in 1.1, `no` and `on` are booleans, 22:30 is a number, and so on."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    for tag, pattern, first in _RESOLVED:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)
    try:
        loader = Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
        raise NotReadableError(mark.line + 1 if mark else None, getattr(exc, "problem", None) or str(exc)) from exc
    built = _Built(yaml)
    return Source(name, None if node is None else built.value(node, (), ()), built.lines)


_RESOLVED: tuple[tuple[str, str, list[str]], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$",
     list("-+.0123456789")),
)  # fmt: skip


class _Built:
    """Plain data from the nodes of YAML, and their lines."""

    def __init__(self, yaml: Any) -> None:
        self.lines: Lines = {}
        self._yaml, self._count = yaml, 0

    def value(self, node: Any, path: Path, around: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if id(node) in around or self._count > _MOST:
            raise NotReadableError(line, "an alias (*name) makes it endless")
        self.lines.setdefault(path, line)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        inner = (*around, id(node))
        match node:
            case self._yaml.MappingNode() if kind == "map":
                return self._mapping(node, path, inner)
            case self._yaml.SequenceNode() if kind == "seq":
                return [self.value(item, (*path, index), inner) for index, item in enumerate(node.value)]
            case self._yaml.ScalarNode() if kind in ("null", "bool", "int", "float", "str"):
                return _scalar(kind, node.value, line)
            case _:
                raise NotReadableError(line, f"the tag {node.tag!r} is not read here")

    def _mapping(self, node: Any, path: Path, around: tuple[int, ...]) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, self._yaml.ScalarNode):
                raise NotReadableError(line, "a key is a word")
            if key.value in found:
                raise NotReadableError(line, f"{key.value} is there twice")
            self.lines[(*path, key.value)] = line
            found[key.value] = self.value(item, (*path, key.value), around)
        return found


def _scalar(kind: str, text: str, line: int) -> Any:
    try:
        match kind:
            case "null":
                return None
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                return text
    except (ValueError, KeyError) as exc:
        raise NotReadableError(line, f"{text!r:.80} is no {kind}") from exc
