"""Every call on record, page by page: what people were asked about, what ran unasked, what was denied."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import from_ms
from hitl_graph.policy.recorded import Recorded, Then
from hitl_graph.storage import Transaction
from hitl_graph.terms import Origin, Terms

__all__ = ["SOURCES", "Page", "Span", "asked", "count", "denied", "unasked"]

_DELIVERY = "deliver"
"""The tool that the delivery of a draft is for the ledger (see `hitl_graph.model.delivery`)."""


@dataclass(frozen=True)
class Span:
    """Which calls are wanted: in milliseconds since 1970 (UTC), from `since_ms` up to `until_ms`."""

    since_ms: int
    until_ms: int
    thread_id: str | None = None

    def where(self, column: str) -> tuple[str, list[Any]]:
        """The condition, and its parameters."""
        if self.thread_id is None:
            return f"{column} >= ? AND {column} <= ?", [self.since_ms, self.until_ms]
        return f"thread_id = ? AND {column} >= ? AND {column} <= ?", [self.thread_id, self.since_ms, self.until_ms]


@dataclass(frozen=True)
class Page:
    """Some of them, in no order.

    Attributes:
        after: Where the next page begins; None: there is none.
        rows: How many rows were read for it.
        several: In how many of them people were asked about several calls at once.
    """

    calls: list[Recorded]
    after: str | None
    rows: int
    several: int = 0


def count(tx: Transaction, span: Span) -> int:
    """How many rows there are to read."""
    total = 0
    for table, (column, only) in _TABLES.items():
        where, parameters = span.where(column)
        total += tx.execute(f"SELECT count(*) FROM {table} WHERE {where} AND {only}", parameters).fetchone()[0]
    return total


_TABLES = {
    "hitl_requests": (
        "created_ms",
        "kind IN ('approval', 'review') AND route NOT IN ('audit', 'query')",
    ),  # these are no calls that people were asked about
    "hitl_permits": ("issued_ms", "request_id IS NULL AND attempt = 1"),
    "hitl_denials": (  # what was denied after it was asked about counts as asked, what ran on a fork as allowed
        "at_ms",
        "NOT EXISTS (SELECT 1 FROM hitl_requests r WHERE r.action_key = hitl_denials.action_key"
        " AND r.kind IN ('approval', 'review') AND r.route NOT IN ('audit', 'query'))"
        " AND NOT EXISTS (SELECT 1 FROM hitl_permits p WHERE p.id = hitl_denials.action_key || '#1')",
    ),
}


def asked(tx: Transaction, span: Span, after: str, limit: int, voters: bool) -> Page:
    """Calls that people were asked about. One that was asked about several times counts once, by its first question.

    Args:
        voters: Whether it matters who agreed.
    """
    rows = _rows(tx, "hitl_requests", "id", _QUESTION, span, after, limit)
    again = _asked_again(tx, [row[1] for row in rows if row[1] is not None])
    calls, several = list[Recorded](), 0
    for row in rows:
        questions = again.get(row[1], [row])
        if questions[0][0] != row[0]:
            continue
        call = _call(questions)
        several += call is None
        if call is not None:
            calls.append(call)
    if voters:
        calls = _with_voters(tx, calls)
    return Page(calls, _next(rows, limit), len(rows), several)


def unasked(tx: Transaction, span: Span, after: str, limit: int, voters: bool) -> Page:
    """Calls that ran without asking."""
    del voters
    columns = "id, thread_id, tool, args, reason, issued_ms, grant_id"
    rows = _rows(tx, "hitl_permits", "id", columns, span, after, limit)
    calls = [_unasked(*row[1:6], then="ran", granted=row[6] is not None) for row in rows]
    return Page(calls, _next(rows, limit), len(rows))


def denied(tx: Transaction, span: Span, after: str, limit: int, voters: bool) -> Page:
    """Calls that were denied without asking."""
    del voters
    columns = "action_key, thread_id, tool, args, reason, at_ms"
    rows = _rows(tx, "hitl_denials", "action_key", columns, span, after, limit)
    return Page([_unasked(*row[1:6], then="denied") for row in rows], _next(rows, limit), len(rows))


SOURCES: tuple[Callable[[Transaction, Span, str, int, bool], Page], ...] = (asked, unasked, denied)
"""Each is given where the page before ended, first `""`, and how many rows to read at most."""

_QUESTION = (
    "id, action_key, thread_id, created_ms, tool, kind, shown, decision, reviewer, channel"  # in the order of `_call`
)


def _rows(
    tx: Transaction, table: str, key: str, columns: str, span: Span, after: str, limit: int
) -> list[Sequence[Any]]:
    column, only = _TABLES[table]
    where, parameters = span.where(column)
    return tx.execute(
        f"SELECT {columns} FROM {table} WHERE {key} > ? AND {where} AND {only} ORDER BY {key} LIMIT ?",
        [after, *parameters, limit],
    ).fetchall()


def _next(rows: Sequence[Sequence[Any]], limit: int) -> str | None:
    return rows[-1][0] if len(rows) == limit else None


def _asked_again(tx: Transaction, keys: Sequence[str]) -> dict[str, list[Sequence[Any]]]:
    """Of these actions those about which there were several questions: all of them, the oldest first."""
    if not keys:
        return {}
    marks = ",".join("?" * len(keys))
    asks = f"action_key IN ({marks}) AND kind IN ('approval', 'review') AND route NOT IN ('audit', 'query')"
    several = tx.execute(
        f"SELECT action_key FROM hitl_requests WHERE {asks} GROUP BY action_key HAVING count(*) > 1", list(keys)
    ).fetchall()
    found: dict[str, list[Sequence[Any]]] = {}
    for (key,) in several:
        found[key] = tx.execute(
            f"SELECT {_QUESTION} FROM hitl_requests WHERE action_key = ? AND kind IN ('approval', 'review')"
            " AND route NOT IN ('audit', 'query') ORDER BY created_ms, id",
            (key,),
        ).fetchall()
    return found


def _call(questions: Sequence[Sequence[Any]]) -> Recorded | None:
    """A call from its questions; None: they were about several calls at once."""
    id_, _, thread_id, created_ms, tool, kind, _, _, _, _ = questions[0]
    first, last = _shown(questions[0]), _shown(questions[-1])
    decision, reviewer, channel = questions[-1][7:]
    is_draft = kind == "review"
    if first and not is_draft and first.get("action") is None:
        return None
    args = _args(first, is_draft)
    said: dict[str, Any] = json.loads(decision) if decision else {}
    silent = channel == CHANNEL
    then: Then = "open" if silent and said.get("type") == "reject" else said.get("type", "open")
    chosen = None
    if then in ("approve", "edit"):
        chosen = {"draft": said.get("draft")} if is_draft else said.get("args")
        chosen = chosen if then == "edit" else _args(last, is_draft)
        then = "approve" if chosen == args else "edit"
    return Recorded(
        tool=tool or "", args=args, then=then, at=from_ms(created_ms), thread_id=thread_id, request_id=id_,
        call_id=first.get("tool_call_id") if first else None, edited=chosen if then == "edit" else None,
        reviewer=reviewer, why=said.get("message") or "", silent=silent,
        terms=_terms(first), decided=_terms(last), last_id=questions[-1][0],
        origin=Origin(**first["origin"]) if first and first.get("origin") else None, draft=is_draft,
    )  # fmt: skip


def _shown(question: Sequence[Any]) -> dict[str, Any]:
    """What was shown; nothing where it was redacted, or damaged."""
    try:
        return json.loads(question[6]) if question[6] else {}
    except ValueError:
        return {}


def _args(shown: dict[str, Any], is_draft: bool) -> dict[str, Any] | None:
    if is_draft:
        return {"draft": shown["draft"]} if "draft" in shown else None
    return (shown.get("action") or {}).get("args")


def _terms(shown: dict[str, Any]) -> Terms | None:
    terms = shown.get("terms")
    return None if terms is None else _parsed(json.dumps({**terms, "schedule": []}))


@lru_cache(maxsize=1024)
def _parsed(terms: str) -> Terms:
    return Terms.model_validate_json(terms)


def _unasked(
    thread_id: str, tool: str, args: str | None, reason: str, at_ms: int, *, then: Then, granted: bool = False
) -> Recorded:
    known: dict[str, Any] | None = json.loads(args) if args else None
    is_draft = tool == _DELIVERY and (known is None or known.keys() == {"draft"})
    return Recorded(tool, known, then, from_ms(at_ms), thread_id, why=reason, granted=granted, draft=is_draft)


def _with_voters(tx: Transaction, calls: list[Recorded]) -> list[Recorded]:
    """The calls; those that people let run with the names of those who agreed on it."""
    ids = [call.last_id for call in calls if call.then in ("approve", "edit") and not call.silent]
    if not ids:
        return calls
    found: dict[str, list[str]] = {}
    for id_, name, vote, decision in tx.execute(
        "SELECT v.request_id, coalesce(v.behalf, v.reviewer), v.decision, r.decision FROM hitl_votes v"
        f" JOIN hitl_requests r ON r.id = v.request_id WHERE v.request_id IN ({','.join('?' * len(ids))})",
        ids,
    ):
        if vote and decision and (vote == decision or _meant(vote) == _meant(decision)):
            found.setdefault(id_, []).append(name)
    return [replace(call, voters=tuple(found.get(call.last_id or "", ()))) for call in calls]


def _meant(decision: str) -> list[Any]:
    said = json.loads(decision)
    return [said.get(part) for part in ("type", "args", "draft")]
