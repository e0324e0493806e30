"""What people decided about requests like this one: a count, and each of them in short.

For people to look up, after they have read what is asked: it proposes no answer.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from hitl_graph.card.words import arguments, done, one_line, what
from hitl_graph.drafts import difference
from hitl_graph.model import WORDS, Decision, Request, canonical
from hitl_graph.visible import visible

__all__ = ["Precedent", "Precedents", "precedents_of"]

_SHOWN = 10  # requests; the count is of all
_LONG = 60  # characters of a value that was another one
_BEFORE = 12  # characters before the first that is another one
_LINES = 6  # of what changed in one draft


@dataclass(frozen=True)
class Precedent:
    """One decision about something alike.

    Attributes:
        done: In a word: `approved`, `edited`, `rejected`, `sent back`.
        summary: What it was about, in one line.
        same: The arguments that have the same value.
        message: What they said; empty where they said nothing.
        changes: Of an edit, in short: `to: "bob" → "carol"`, or lines that begin with `-` and `+`.
    """

    id: str
    done: str
    by: str
    at: datetime | None
    summary: str
    same: tuple[str, ...]
    message: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Precedents:
    """All of them.

    Attributes:
        told: In one line: `3 alike: 2 approved, 1 edited`.
        shown: The most alike, the most alike first.
        more: How many are not shown.
    """

    told: str
    shown: tuple[Precedent, ...]
    more: int


def precedents_of(request: Request, found: Sequence[Request]) -> Precedents | None:
    """What was decided about requests like this one; None if nothing was.

    Args:
        found: Decided requests, the most alike first.
    """
    pairs = [(one, one.decision) for one in found if one.decision is not None]
    if not pairs:
        return None
    counted = Counter(done(one, decision) for one, decision in sorted(pairs, key=lambda pair: _place(pair[1])))
    told = f"{len(pairs)} alike: {', '.join(f'{count} {name}' for name, count in counted.items())}"
    shown = tuple(_precedent(request, one, decision) for one, decision in pairs[:_SHOWN])
    return Precedents(told, shown, len(pairs) - len(shown))


def _place(decision: Decision) -> int:
    return WORDS.index(decision.type)


def _precedent(request: Request, one: Request, decision: Decision) -> Precedent:
    said = [decision.message or "", *(comment.text for comment in decision.comments)]
    said += [one_line(decision.value)] if decision.value is not None else []
    return Precedent(
        one.id, done(one, decision), one.reviewer or "?", one.decided_at, what(one), _same(request, one),
        "\n".join(filter(None, said)), _changes(one, decision),
    )  # fmt: skip


def _same(request: Request, one: Request) -> tuple[str, ...]:
    if request.action is None or one.action is None:
        return ()
    mine, theirs = arguments(request), one.action.args
    return tuple(name for name in mine if name in theirs and canonical(mine[name]) == canonical(theirs[name]))


def _changes(one: Request, decision: Decision) -> tuple[str, ...]:
    if decision.type != "edit":
        return ()
    if one.action is not None and decision.args is not None:
        return _by_name(arguments(one), arguments(one, decision.args))
    if isinstance(one.draft, dict) and isinstance(decision.draft, dict):
        return _by_name(one.draft, decision.draft)
    return _by_line(one.draft, decision.draft)


def _by_name(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    rows = list[str]()
    for name in dict.fromkeys((*before, *after)):
        was, new = (one_line(values[name]) if name in values else "(not given)" for values in (before, after))
        if was != new:
            rows.append(f"{visible(name)}: {' → '.join(_cut(was, new))}")
    return tuple(rows)


def _cut(was: str, new: str) -> tuple[str, str]:
    """Two texts in short, from a little before the place at which they begin to differ."""
    if max(len(was), len(new)) <= _LONG:
        return was, new
    first = next((n for n, (a, b) in enumerate(zip(was, new, strict=False)) if a != b), min(len(was), len(new)))
    start = max(0, first - _BEFORE)
    return _window(was, start), _window(new, start)


def _window(text: str, start: int) -> str:
    end = start + _LONG
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"


def _by_line(before: JsonValue, after: JsonValue) -> tuple[str, ...]:
    lines = [line for line in difference(before, after).split("\n") if line[:1] in ("+", "-")]
    shown = [line if len(line) <= 2 * _LONG else f"{line[: 2 * _LONG]}…" for line in lines[:_LINES]]
    return (*shown, *([f"… {len(lines) - _LINES} more"] if len(lines) > _LINES else []))
