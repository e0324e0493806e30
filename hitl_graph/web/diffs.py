"""What changed from one text or value to another, piece by piece, for the page. Pure functions."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hitl_graph.form import MISSING

__all__ = ["Change", "Piece", "changes", "words"]

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST = 4000  # words; longer texts are compared line by line
_PAIRS = 1_000_000  # places that are the same; more would take minutes to be put in order


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
    head = _common(one, two)
    tail = _common(one[head:][::-1], two[head:][::-1])
    yield from _same(one[:head])
    yield from _middle(one[head : len(one) - tail], two[head : len(two) - tail])
    yield from _same(one[len(one) - tail :])


def _common(one: list[str], two: list[str]) -> int:
    """With how many parts both begin."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((number for number, (here, there) in pairs if here != there), min(len(one), len(two)))


def _same(parts: list[str]) -> Iterator[Piece]:
    if parts:
        yield Piece("same", "".join(parts))


def _middle(one: list[str], two: list[str]) -> Iterator[Piece]:
    here, there = Counter(one), Counter(two)
    if sum(times * there[part] for part, times in here.items()) > _PAIRS:
        yield Piece("removed", "".join(one))
        yield Piece("added", "".join(two))
        return
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
