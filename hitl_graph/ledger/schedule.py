"""What comes when people do not decide: reminders, escalations, and the end of waiting. Each turn exactly once.

A turn is taken in the transaction that counts it, so that any number of sweepers in any processes may be at it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from hitl_graph.ledger import audit, requests
from hitl_graph.ledger.deciding import votes
from hitl_graph.model import Decision, Request
from hitl_graph.storage import Transaction
from hitl_graph.terms import Turn
from hitl_graph.voting import silence_says, who

__all__ = ["CHANNEL", "Came", "catch_up", "next_due", "sweep"]

CHANNEL = "deadline"
"""By whom and through what a request is decided that nobody decided in time."""
_OPEN = "state = 'pending' AND parked = 1 AND deadline_ms IS NOT NULL"


@dataclass(frozen=True)
class Came:
    """A turn of a schedule that was taken.

    Attributes:
        request: As it is after the turn.
        to: Selectors of whom it concerns.
        late: Seconds between the time it was due and the time it was taken.
    """

    request: Request
    turn: Turn
    to: tuple[str, ...]
    late: float


def sweep(tx: Transaction, now_ms: int, *, limit: int = 50) -> list[Came]:
    """Take the turns that are due, in the order in which they were due, at most so many."""
    came: list[Came] = []
    while len(came) < limit:
        due = requests.select(tx, f"{_OPEN} AND deadline_ms <= ? ORDER BY deadline_ms, id LIMIT 1", (now_ms,))
        if not due:
            break
        came.append(_take(tx, now_ms, due[0]))
    return came


def catch_up(tx: Transaction, now_ms: int, request_id: str) -> list[Came]:
    """Take the turns of one request that are due."""
    came: list[Came] = []
    while due := requests.select(tx, f"{_OPEN} AND deadline_ms <= ? AND id = ?", (now_ms, request_id)):
        came.append(_take(tx, now_ms, due[0]))
    return came


def next_due(tx: Transaction) -> int | None:
    """When the next turn of any request comes, in milliseconds since 1970 (UTC)."""
    row = tx.execute(f"SELECT min(deadline_ms) FROM hitl_requests WHERE {_OPEN}").fetchone()
    return None if row is None else row[0]


def _take(tx: Transaction, now_ms: int, request: Request) -> Came:
    assert request.terms is not None
    turn = request.terms.schedule[request.fired]
    requests.check_waiting(request, requests.move_on(tx, request, stage=request.stage, fired=request.fired + 1))
    came = request.model_copy(update={"fired": request.fired + 1})
    to = turn.to if turn.then == "escalate" else tuple(dict.fromkeys((*who(came), *turn.to)))
    event = {"remind": "request.reminded", "escalate": "request.escalated"}.get(turn.then, "request.timed_out")
    body = {"due_ms": turn.at_ms, "to": list(to), "turn": request.fired}
    audit.append(tx, now_ms, event, request.id, body, thread_id=request.thread_id, actor=CHANNEL)
    if turn.then in ("approve", "reject"):
        unheard = silence_says(turn, request, votes(tx, request.id))
        decision = Decision(type=unheard, message=f"Nobody decided by {turn.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.")
        requests.settle(tx, now_ms, came, decision, reviewer=CHANNEL, channel=CHANNEL)
    tx.notify("inbox")
    late = (datetime.fromtimestamp(now_ms / 1000, UTC) - turn.at).total_seconds()
    return Came(requests.find(tx, request.id), turn, to, late)
