"""Rules in Claude Code's form: lists of `Tool` and `Tool(specifier)` that are allowed, asked about or denied.

An `allow` with a specifier counts only where the call is surely what it says; an `ask` or a `deny` where it may be.
So each of them errs on the side of asking. See https://code.claude.com/docs/en/permissions for where the form is from.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hitl_graph.errors import PolicyError
from hitl_graph.policy.places import HostPattern, PathPattern, TextPattern
from hitl_graph.policy.rules import Rule
from hitl_graph.policy.shell import CommandPattern
from hitl_graph.policy.verdict import Call, Outcome

__all__ = ["Specifier", "rules_of"]

_ENTRY = re.compile(r"(?P<tool>[^\s()]+)(?:\((?P<specifier>.*)\))?", re.DOTALL)
_NAMED = re.compile(r"(?P<argument>[A-Za-z_]\w*)\s*[:=]\s*(?P<glob>.+)", re.DOTALL)

# Tools that take a command, a file or a URL, as they are called in Claude Code, deep agents and LangChain; and where.
_COMMANDS = {"Bash": "command", "bash": "command", "shell": "command", "execute": "command", "terminal": "commands"}
_READS = {"Read": "file_path", "read_file": "file_path", "NotebookRead": "notebook_path"}
_EDITS = {
    "Edit": "file_path", "Write": "file_path", "MultiEdit": "file_path", "NotebookEdit": "notebook_path",
    "edit_file": "file_path", "write_file": "file_path", "file_delete": "file_path",
}  # fmt: skip
_SEARCHES = {"Grep": "path", "Glob": "path", "LS": "path", "grep": "path", "glob": "path", "ls": "path"}
_FETCHES = {"WebFetch": "url", "fetch": "url", "fetch_url": "url", "requests_get": "url"}
_FAMILIES = (_COMMANDS, _READS, _EDITS, _SEARCHES, _FETCHES)
# Arguments that are never compared as mere text, whichever tool has them.
_COMMAND_NAMES = frozenset({"command", "commands", "cmd", "script", "shell_command"})
_PATH_NAMES = frozenset({"file_path", "path", "filename", "file", "notebook_path", "directory", "dir_path"})


class _Pattern(Protocol):
    def surely(self, value: str, /) -> bool: ...
    def perhaps(self, value: str, /) -> bool: ...


@dataclass(frozen=True)
class Specifier:
    """Whether a call is what an entry speaks of; a predicate for `Rule(when=...)`.

    Attributes:
        entry: As it was written.
        argument: Which argument of the call it looks at.
        certain: Whether it has to be sure, since it allows.
    """

    entry: str
    argument: str
    pattern: _Pattern
    certain: bool

    def __call__(self, call: "Call") -> bool:
        """Whether it is; without the argument, or with one of another type, only if in doubt means yes."""
        if self.argument not in call.args:
            return not self.certain
        given = call.args[self.argument]
        values = given if isinstance(given, list) and given else [given]
        if self.certain:
            return all(any(map(self.pattern.surely, self._forms(value))) for value in values)
        return any(not (forms := self._forms(value)) or any(map(self._perhaps, forms)) for value in values)

    @property
    def told(self) -> str:
        """For an explanation."""
        return self.entry

    def _forms(self, value: Any) -> tuple[str, ...]:
        """How a value may be written; nothing for one that is not of the type."""
        if isinstance(value, str) or not isinstance(self.pattern, TextPattern):
            return (value,) if isinstance(value, str) else ()
        return _texts(value)

    def _perhaps(self, text: str) -> bool:
        try:
            return self.pattern.perhaps(text)
        except (ValueError, RecursionError):
            return True


def rules_of(entry: object, outcome: "Outcome", *, root: str, source: str | None, optional: bool) -> Iterator["Rule"]:
    """The rules that an entry comes to.

    Raises:
        PolicyError: It makes no sense.
    """
    found = _ENTRY.fullmatch(entry.strip()) if isinstance(entry, str) else None
    if found is None:
        raise PolicyError(f"{entry!r} is no rule; write Tool or Tool(specifier), such as Bash(git push:*)")
    tool, text = found["tool"], found["specifier"]
    reason = f"rule {entry} says {outcome}"
    if text is None or (text in ("*", "**") and (outcome != "allow" or tool in _COMMANDS)):
        for name in _names(tool):
            yield Rule(name, outcome, reason=reason, source=source, optional=optional or name != tool)
        return
    family = next((family for family in _FAMILIES if tool in family), {})
    argument, pattern = _pattern(tool, text.strip(), family, root)
    if outcome == "allow" and isinstance(pattern, CommandPattern) and not pattern.names_program:
        raise PolicyError(f"{entry!r} does not begin with a program, so it would allow any; name one")
    # What is denied to one tool is denied to the others that do the same; what is allowed is allowed to none but it.
    for name in (tool, *(other for other in family if outcome != "allow" and other != tool)):
        when = Specifier(str(entry), argument or family[name], pattern, outcome == "allow")
        yield Rule(name, outcome, when, reason, source=source, optional=optional or name != tool)


def _names(tool: str) -> tuple[str, ...]:
    """`mcp__github` is all tools of that server."""
    return (tool, f"{tool}__*") if re.fullmatch(r"mcp__(?:(?!__)[^*])+", tool) else (tool,)


def _pattern(tool: str, text: str, family: dict[str, str], root: str) -> tuple[str | None, _Pattern]:
    """The argument, where it is not the tool's usual one, and what it is compared with."""
    if not text:
        raise PolicyError(f"{tool}() has an empty specifier; write {tool} for every call of it")
    named = _NAMED.fullmatch(text)
    if family and not (named and named["argument"] == family[tool]):
        return None, _of_family(tool, text, family, root)
    if named is None:
        raise PolicyError(f"{tool}({text}): it is not known what {tool} takes; write {tool}(argument:text)")
    argument, glob = named["argument"], named["glob"]
    if family is _FETCHES or not family:
        pattern: _Pattern = TextPattern(glob)
        if argument in _COMMAND_NAMES:
            pattern = CommandPattern(glob)
        elif argument in _PATH_NAMES:
            pattern = PathPattern(glob, root)
        return argument, pattern
    return argument, _of_family(tool, glob, family, root)


def _of_family(tool: str, text: str, family: dict[str, str], root: str) -> _Pattern:
    if family is _COMMANDS:
        return CommandPattern(text)
    if family is not _FETCHES:
        return PathPattern(text, root)
    kind, _, host = text.partition(":")
    if kind != "domain":
        raise PolicyError(f"{tool}({text}): write {tool}(domain:example.com), or {tool}({family[tool]}:https://...*)")
    return HostPattern(host.strip())


def _texts(value: Any) -> tuple[str, ...]:
    match value:
        case bool():
            return ("true",) if value else ("false",)
        case int():
            return (str(value),)
        case float() if value.is_integer():
            return (str(value), str(int(value)))
        case float():
            return (str(value),)
        case _:
            return ()
