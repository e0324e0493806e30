"""Calls that were denied without asking, and how many in a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.ledger import audit
from hitl_graph.model import Action, canonical, from_ms
from hitl_graph.storage import Transaction

__all__ = ["Denial", "in_a_row", "of_thread", "record", "redact"]

_COLUMNS = "action_key, thread_id, tool, args, reason, at_ms, number, streak, asks"


@dataclass(frozen=True)
class Denial:
    """A call that was denied.

    Attributes:
        args: None once redacted.
        number: Of the thread's denials, from 1.
        streak: How many in a row with this one: in between no call of the thread ran, nor were people asked.
        asks: People are asked what now.
    """

    key: str
    thread_id: str
    tool: str
    args: dict[str, Any] | None
    reason: str
    at: datetime
    number: int
    streak: int
    asks: bool


def record(
    tx: Transaction, now_ms: int, key: str, thread_id: str, action: Action, reason: str, *, limit: int | None
) -> Denial:
    """Record that a call was denied; what was once recorded of it stays.

    Args:
        limit: From how many in a row people are asked; None: never.
    """
    if known := _select(tx, "action_key = ?", (key,)):
        return known[0]
    ran = tx.execute("SELECT count(*) FROM hitl_permits WHERE thread_id = ?", (thread_id,)).fetchone()[0]
    last = tx.execute(
        "SELECT number, ran, streak, asks FROM hitl_denials WHERE thread_id = ? ORDER BY number DESC LIMIT 1",
        (thread_id,),
    ).fetchone()
    number, streak = (last[0] + 1 if last else 1), 1
    if last and last[1] == ran and not last[3]:
        streak = last[2] + 1
    asks = limit is not None and streak >= limit
    tx.execute(
        "INSERT INTO hitl_denials (action_key, thread_id, tool, args, reason, at_ms, number, ran, streak, asks)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (key, thread_id, action.name, canonical(action.args), reason, now_ms, number, ran, streak, int(asks)),
    )
    body = {"tool": action.name, "digest": action.digest, "reason": reason, "streak": streak}
    audit.append(tx, now_ms, "denial.recorded", key, body, thread_id=thread_id, actor="graph")
    return _select(tx, "action_key = ?", (key,))[0]


def in_a_row(tx: Transaction, denial: Denial) -> list[Denial]:
    """The denials of a streak, the oldest first."""
    where = "thread_id = ? AND number > ? AND number <= ? ORDER BY number"
    return _select(tx, where, (denial.thread_id, denial.number - denial.streak, denial.number))


def of_thread(tx: Transaction, thread_id: str) -> list[Denial]:
    """What was denied in a thread, the oldest first."""
    return _select(tx, "thread_id = ? ORDER BY number", (thread_id,))


def redact(tx: Transaction, thread_id: str) -> None:
    """Remove what a thread's denied calls said."""
    tx.execute("UPDATE hitl_denials SET args = NULL, reason = '' WHERE thread_id = ?", (thread_id,))


def _select(tx: Transaction, where: str, parameters: Sequence[Any]) -> list[Denial]:
    rows = tx.execute(f"SELECT {_COLUMNS} FROM hitl_denials WHERE {where}", parameters).fetchall()
    return [
        Denial(
            key, thread_id, tool, json.loads(args) if args else None, reason,
            from_ms(at_ms), number, streak, bool(asks),
        )
        for key, thread_id, tool, args, reason, at_ms, number, streak, asks in rows
    ]  # fmt: skip
