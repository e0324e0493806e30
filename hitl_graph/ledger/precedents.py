"""What people decided before about calls and drafts like one that they are asked about now.

How alike two are is counted, not learned, so that it can be explained: of the arguments, those with the same value
count in full, and texts by the share of their words that is in both. Only decisions of people count, not what a
deadline brought; and only what was not redacted. Labels of a pool are for `DecisionLog`, and do not count here.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import JsonValue

from hitl_graph.ledger import requests, words
from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Kind, Request
from hitl_graph.storage import Transaction

__all__ = [
    "LEAST",
    "LOOKED_AT",
    "about",
    "alike",
    "decided",
    "inputs",
    "is_precedent",
    "likeness",
    "overlap",
    "tools",
    "words_in",
]

LOOKED_AT = 200
"""Decisions that are looked at: the latest about calls of one tool, or about drafts."""
LEAST = 1 / 3
"""The likeness from which on something is called alike."""
# As in the index, word for word.
_COUNT = (
    f"decided_ms IS NOT NULL AND shown IS NOT NULL AND channel <> '{CHANNEL}' AND kind IN ('approval', 'review')"
    " AND interrupt_id <> 'label'"
)
_KINDS: tuple[Kind, ...] = ("approval", "review")  # a review of a call is an audit


def alike(tx: Transaction, request: Request, *, limit: int = LOOKED_AT) -> list[Request]:
    """Decided requests that are like this one, the most alike first, and of these the latest.

    None for an audit: whoever says whether something was right is not to be led.

    Args:
        limit: How many of the latest decisions are looked at.
    """
    if request.is_audit or request.kind not in _KINDS or (request.action is None and request.draft is None):
        return []
    near_to = likeness(about(request))
    found = [
        (near_to(about(other)), number, other)
        for number, other in enumerate(decided(tx, request.action.name if request.action else None, limit=limit))
        if other.id != request.id
    ]
    return [other for near, _, other in sorted(found, key=lambda one: (-one[0], one[1])) if near >= LEAST]


def decided(tx: Transaction, tool: str | None, *, limit: int = LOOKED_AT) -> list[Request]:
    """What people decided, the latest first.

    Args:
        tool: Calls of it; None: drafts.
    """
    parts, parameters = list[str](), list[Any]()
    for kind in _KINDS if tool is not None else ("review",):
        which = "tool = ?" if tool is not None else "tool IS NULL"
        parts.append(
            f"SELECT id FROM (SELECT id FROM hitl_requests WHERE {which} AND kind = ? AND {_COUNT}"
            f" ORDER BY decided_ms DESC, id DESC LIMIT ?) AS {kind}s"
        )
        parameters += [*([tool] if tool is not None else []), kind, limit]
    where = f"id IN ({' UNION ALL '.join(parts)}) ORDER BY decided_ms DESC, id DESC LIMIT ?"
    return [request for request in requests.select(tx, where, [*parameters, limit]) if is_precedent(request)]


def tools(tx: Transaction) -> list[str | None]:
    """The tools whose calls people decided about; None among them: there are drafts, too."""
    # From one to the next along the index, however many decisions there are.
    following = f"SELECT min(tool) FROM hitl_requests WHERE {_COUNT} AND tool >"
    rows = tx.execute(
        f"WITH RECURSIVE names (name) AS ({following} '' UNION ALL"
        f" SELECT ({following} names.name) FROM names WHERE names.name IS NOT NULL)"
        " SELECT name FROM names WHERE name IS NOT NULL"
    ).fetchall()
    has_drafts = f"SELECT 1 FROM hitl_requests WHERE tool IS NULL AND kind = 'review' AND {_COUNT} LIMIT 1"
    return [*(row[0] for row in rows), *([None] if tx.execute(has_drafts).fetchone() else [])]


def inputs(tx: Transaction, found: Sequence[Request]) -> dict[str, JsonValue]:
    """What the model had to go by, where it is known (see `routing`), by the key of the action."""
    keys = [request.action_key for request in found if request.action_key is not None]
    if not keys:
        return {}
    where = f"action_key IN ({','.join('?' * len(keys))}) AND input IS NOT NULL"
    rows = tx.execute(f"SELECT action_key, input FROM hitl_routed WHERE {where}", keys).fetchall()
    return {row[0]: json.loads(row[1]) for row in rows}


def is_precedent(request: Request) -> bool:
    """Whether a person decided it, and it says what was asked."""
    asked = request.kind in _KINDS and (request.action is not None or request.draft is not None)
    return asked and request.decision is not None and request.channel != CHANNEL and not request.is_label


def about(request: Request) -> JsonValue:
    """What a request is about: the arguments of its call, else its draft."""
    return request.action.args if request.action is not None else request.draft


def likeness(one: JsonValue) -> Callable[[JsonValue], float]:
    """How alike something is to one of `about`, from 0 to 1.

    Arguments and JSON objects are compared name by name, and texts by the share of their words that is in both. Another
    number, or a name that only one of them has, is nothing alike.
    """
    parts: dict[str, Any] = one if isinstance(one, dict) else {"": one}
    known = {name: (value, words_in(value)) for name, value in parts.items()}

    def measured(other: JsonValue) -> float:
        if isinstance(one, dict) != isinstance(other, dict):
            return overlap(words_in(one), words_in(other))
        theirs: dict[str, Any] = other if isinstance(other, dict) else {"": other}
        names = known.keys() | theirs.keys()
        near = (_nearness(*known[name], theirs[name]) for name in known if name in theirs)
        return sum(near) / len(names) if names else 1.0

    return measured


def _nearness(value: Any, its_words: frozenset[str], other: Any) -> float:
    if type(value) is type(other) and value == other:
        return 1.0
    are_told = isinstance(value, str | list | dict) and isinstance(other, str | list | dict)
    return overlap(its_words, words_in(other)) if are_told else 0.0


def words_in(value: Any) -> frozenset[str]:
    """The words of all texts in a value."""
    found = set[str]()
    for text in words.texts(value):
        found.update(words.of(text))
        if len(found) > words.MOST:
            break
    return frozenset(found)


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of the words of two texts that is in both."""
    return len(one & other) / len(one | other) if one or other else 0.0
