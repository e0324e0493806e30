"""The course of one request: every row of the log that is about it."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["Step", "course"]


@dataclass(frozen=True)
class Step:
    """One row of the log.

    Attributes:
        name: Such as `request.opened`, `request.voted`, `request.seen`.
        body: What it says; empty once it was redacted.
    """

    seq: int
    at: datetime
    name: str
    actor: str
    body: dict[str, Any]


def course(tx: Transaction, request_id: str, *, limit: int = 200) -> list[Step]:
    """What happened to a request, oldest first; of more than `limit` rows the newest."""
    rows = tx.execute(
        "SELECT seq, at_ms, event, actor, body FROM hitl_audit WHERE subject = ? AND event LIKE 'request.%'"
        " ORDER BY seq DESC LIMIT ?",
        (request_id, limit),
    ).fetchall()
    return [Step(row[0], from_ms(row[1]), row[2], row[3], json.loads(row[4]) if row[4] else {}) for row in rows[::-1]]
