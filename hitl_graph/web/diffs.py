"""What changed from one text or value to another, piece by piece, for the page. Pure functions."""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hitl_graph.form import MISSING

__all__ = ["Change", "Piece", "changes", "words"]

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST = 4000  # words; longer texts are compared line by line


@dataclass(frozen=True)
class Piece:
    """A piece of text: `same`, `removed` or `added`."""

    kind: Literal["same", "removed", "added"]
    text: str


@dataclass(frozen=True)
class Change:
    """One value that is another one now; without a name: all of it."""

    name: str
    pieces: tuple[Piece, ...]


def words(before: str, after: str) -> tuple[Piece, ...]:
    """From one text to another, word by word."""
    one, two = _WORD.findall(before), _WORD.findall(after)
    if len(one) + len(two) > _MOST:
        one, two = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return tuple(_pieces(one, two))


def _pieces(one: list[str], two: list[str]) -> Iterator[Piece]:
    for kind, i, j, k, m in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(one[i:j]))
            continue
        if i < j:
            yield Piece("removed", "".join(one[i:j]))
        if k < m:
            yield Piece("added", "".join(two[k:m]))


def changes(before: Any, after: Any) -> tuple[Change, ...]:
    """What is different, by name where both are objects."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return (Change("", words(_shown(before), _shown(after))),) if _differ(before, after) else ()
    names = dict.fromkeys((*before, *after))
    return tuple(
        Change(name, words(_shown(was), _shown(new)))
        for name, was, new in ((name, before.get(name, MISSING), after.get(name, MISSING)) for name in names)
        if _differ(was, new)
    )


def _differ(one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return one is not other
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _shown(value: Any) -> str:
    if value is MISSING:
        return "(not given)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
