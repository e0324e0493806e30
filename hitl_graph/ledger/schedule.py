"""What comes when people do not decide: reminders, escalations, and the end of waiting. Each turn exactly once.

A turn is taken in the transaction that counts it, so that any number of sweepers in any processes may be at it. What
is due is taken in the order in which it was due, across all requests, however late.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC
from heapq import heapify, heappop, heappush

from hitl_graph.errors import StaleRequestError
from hitl_graph.ledger import audit, deciding, requests
from hitl_graph.model import Decision, Request, from_ms
from hitl_graph.storage import Transaction
from hitl_graph.terms import Turn
from hitl_graph.voting import Vote, is_no, who

__all__ = ["CHANNEL", "Came", "catch_up", "next_due", "sweep"]

CHANNEL = "deadline"
"""By whom and through what a request is decided that nobody decided in time."""
_OPEN = "state = 'pending' AND parked = 1 AND deadline_ms IS NOT NULL"
_EVENTS = {"remind": "request.reminded", "escalate": "request.escalated"}


@dataclass(frozen=True)
class Came:
    """A turn of a schedule that was taken.

    Attributes:
        request: As it is after the turn.
        to: Selectors of whom it concerns.
        late: Seconds between the time it was due and the time it was taken.
        lapsed: Why it did not approve what it was to approve; the request waits on.
    """

    request: Request
    turn: Turn
    to: tuple[str, ...]
    late: float
    lapsed: str | None = None


def sweep(tx: Transaction, now_ms: int, *, limit: int = 50, damaged: set[str] | None = None) -> list[Came]:
    """Take the turns that are due, in the order in which they were due, at most so many.

    Args:
        damaged: Requests that are passed over, as their records were changed behind our back; those found are added.
    """
    passed = set[str]() if damaged is None else damaged
    came: list[Came] = []
    while not came:
        beside = f" AND id NOT IN ({','.join('?' * len(passed))})" if passed else ""
        found = requests.select(
            tx, f"{_OPEN} AND deadline_ms <= ?{beside} ORDER BY deadline_ms, id LIMIT ?", (now_ms, *passed, limit)
        )
        if not found:
            break
        sound = _sound(tx, now_ms, found)
        passed.update(request.id for request in found if request.id not in sound)
        waiting = [(due, own, request) for own, (due, request) in sound.items()]
        last = waiting[-1][:2] if waiting and len(found) == limit else None  # what comes after it was not read
        heapify(waiting)
        while waiting and len(came) < limit and (last is None or waiting[0][:2] <= last):
            _, own, request = heappop(waiting)
            came.append(one := _take(tx, now_ms, request))
            due = _due(one.request)
            if due is not None and due <= now_ms:
                heappush(waiting, (due, own, one.request))
    return came


def catch_up(tx: Transaction, now_ms: int, request_id: str) -> list[Came]:
    """Take the turns of one request that are due.

    Raises:
        StaleRequestError: Its pause is not stored yet, so that none can be taken.
    """
    came: list[Came] = []
    request = requests.get(tx, request_id)
    while request is not None and (due := _due(request)) is not None and due <= now_ms:
        if not came and request.id not in _sound(tx, now_ms, [request]):
            raise StaleRequestError(request.id, "its record was changed behind our back; see `hitl audit verify`")
        came.append(_take(tx, now_ms, request))
        request = came[-1].request
    return came


def next_due(tx: Transaction, damaged: Collection[str] = ()) -> int | None:
    """When the next turn of any request comes, in milliseconds since 1970 (UTC).

    Args:
        damaged: Requests that are passed over.
    """
    beside = f" AND id NOT IN ({','.join('?' * len(damaged))})" if damaged else ""
    row = tx.execute(
        f"SELECT deadline_ms FROM hitl_requests WHERE {_OPEN}{beside} ORDER BY deadline_ms, id LIMIT 1", list(damaged)
    ).fetchone()
    return None if row is None else row[0]


def _due(request: Request) -> int | None:
    waits = request.state == "pending" and request.terms is not None
    return request.terms.due_ms(request.fired) if waits and request.terms else None


def _sound(tx: Transaction, now_ms: int, found: Iterable[Request]) -> dict[str, tuple[int, Request]]:
    """Those that are what they were when they were asked, each with when its turn is due."""
    asked = {request.id: request for request in found}
    digests = tx.execute(
        f"SELECT id, digest FROM hitl_requests WHERE id IN ({','.join('?' * len(asked))})", list(asked)
    )
    stored: dict[str, str] = dict(digests.fetchall())
    return {
        own: (due, request)
        for own, request in asked.items()
        if stored[own] == request.digest and (due := _due(request)) is not None and due <= now_ms
    }


def _take(tx: Transaction, now_ms: int, request: Request) -> Came:
    assert request.terms is not None
    turn = request.terms.schedule[request.fired]
    changed = requests.move_on(tx, request, stage=request.stage, fired=request.fired + 1)
    came = request.model_copy(update={"fired": request.fired + 1})
    votes = deciding.votes(tx, request.id) if turn.then in ("approve", "reject") else ()
    lapsed = _objection(request, turn, votes, now_ms) if turn.then == "approve" else None
    to = turn.to if turn.then == "escalate" else tuple(dict.fromkeys((*who(came), *turn.to)))
    event = "request.lapsed" if lapsed else _EVENTS.get(turn.then, "request.timed_out")
    body = {"due_ms": turn.at_ms, "to": list(to), "turn": request.fired} | ({"why": lapsed} if lapsed else {})
    audit.append(tx, now_ms, event, request.id, body, thread_id=request.thread_id, actor=CHANNEL)
    requests.check_waiting(request, changed)
    if turn.then in ("approve", "reject") and lapsed is None:
        nobody = "Not enough people agreed" if votes else "Nobody decided"
        decision = Decision(type=turn.then, message=f"{nobody} by {turn.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.")
        came = requests.settle(tx, now_ms, came, decision, reviewer=CHANNEL, channel=CHANNEL)
    else:
        tx.notify("inbox")
    late = (from_ms(now_ms) - turn.at).total_seconds()
    return Came(came, turn, to, late, lapsed)


def _objection(request: Request, turn: Turn, votes: Iterable[Vote], now_ms: int) -> str | None:
    """Why silence does not approve, though its time has come."""
    if turn.lapsed(now_ms):
        return "nobody came to take the turn in time, so perhaps nobody could answer either"
    if "approve" not in request.allowed:
        return "approve is not offered"
    if against := [vote.reviewer for vote in votes if is_no(request, vote.decision)]:
        return f"{', '.join(against)} voted against it"
    others = [vote.reviewer for vote in votes if vote.decision.type != "approve"]
    return f"{', '.join(others)} wanted something else" if others else None
