"""Who has a waiting request in hand: claims, delegations, and deputies of those who are away."""

import os
from datetime import UTC, datetime
from typing import Any

from hitl_graph.errors import NotEntitledError, StaleRequestError
from hitl_graph.handling import Claim, Delegation, Handling
from hitl_graph.ledger import audit, requests
from hitl_graph.ledger.deciding import check_open, check_turn, votes
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer, same, selects
from hitl_graph.storage import Transaction
from hitl_graph.terms import Terms
from hitl_graph.voting import check_claims, may_decide

__all__ = ["absences", "claim", "delegate", "deputised", "hand_back", "leave", "returned", "take_back"]


def claim(
    tx: Transaction, now_ms: int, request_id: str, until: datetime, *, reviewer: Reviewer,
    away: tuple[Reviewer, ...] = (),
) -> Request:  # fmt: skip
    """Take a request in hand, or keep it for longer: others cannot decide it until then.

    Raises:
        NotEntitledError: This person may not decide it.
        ClaimedError: As many others are at it as are still needed.
    """
    request = _open(tx, now_ms, request_id)
    before = votes(tx, request.id)
    may_decide(request, reviewer, away, before)
    check_claims(request, before, reviewer.name, _at(now_ms))
    handling = request.handling or Handling()
    others = tuple(c for c in handling.claimed(_at(now_ms)) if not same(c.reviewer, reviewer.name))
    taken = handling.model_copy(update={"claims": (*others, Claim(reviewer=reviewer.name, until=until))})
    body = {"until_ms": round(until.timestamp() * 1000)}
    return _store(tx, now_ms, request, taken, "request.claimed", body, actor=reviewer.name)


def hand_back(
    tx: Transaction, now_ms: int, request_id: str, *, reviewer: Reviewer, away: tuple[Reviewer, ...] = ()
) -> Request:
    """Give up a claim and a vote that was delegated to this person; they go back to whom they came from.

    Raises:
        StaleRequestError: There is nothing to hand back, or the vote was used or given on.
    """
    request = _open(tx, now_ms, request_id)
    handling, stage = request.handling or Handling(), request.stage
    claims = handling.claimed(_at(now_ms))
    kept = tuple(c for c in claims if not same(c.reviewer, reviewer.name))
    got = next((step for step in handling.given(stage) if same(step.to, reviewer.name)), None)
    if got is None and kept == claims:
        raise StaleRequestError(request.id, f"{reviewer.name} has neither claimed it nor been given a vote")
    if got is not None:
        _check_unused(tx, request, got)
        if any(same(step.by, reviewer.name) and same(step.whose, got.whose) for step in handling.given(stage)):
            raise StaleRequestError(request.id, f"{reviewer.name} delegated it further; take that back first")
    given = tuple(step.model_copy(update={"back": True}) if step is got else step for step in handling.delegations)
    new = Handling(claims=kept, delegations=given)
    return _store(tx, now_ms, request, new, "request.handed_back", {}, actor=reviewer.name)


def take_back(
    tx: Transaction, now_ms: int, request_id: str, *, reviewer: Reviewer, away: tuple[Reviewer, ...] = ()
) -> Request:
    """End a delegation by this person, or by a deputy of theirs, and those that came of it, with their claims.

    Raises:
        StaleRequestError: There is none, or whoever got the vote has used it.
    """
    request = _open(tx, now_ms, request_id)
    handling = request.handling or Handling()
    given = handling.given(request.stage)
    first = next((i for i, d in enumerate(given) if same(d.by, reviewer.name) or same(d.whose, reviewer.name)), None)
    if first is None:
        raise StaleRequestError(request.id, f"{reviewer.name} has not delegated it")
    _check_unused(tx, request, given[first])
    ended = [step for step in given[first:] if same(step.whose, given[first].whose)]
    kept = tuple(c for c in handling.claims if not any(same(c.reviewer, step.to) for step in ended))
    marked = tuple(step.model_copy(update={"back": True}) if step in ended else step for step in handling.delegations)
    new = Handling(claims=kept, delegations=marked)
    return _store(tx, now_ms, request, new, "request.taken_back", {}, actor=reviewer.name)


def _check_unused(tx: Transaction, request: Request, given: Delegation) -> None:
    """Refuse to give back a vote that was used."""
    if used := next((v for v in votes(tx, request.id) if v.behalf and same(v.behalf, given.whose)), None):
        raise StaleRequestError(request.id, f"{used.reviewer} has voted with it already")


def delegate(
    tx: Transaction, now_ms: int, request_id: str, to: Reviewer, comment: str | None, *, reviewer: Reviewer,
    away: tuple[Reviewer, ...] = (),
) -> Request:  # fmt: skip
    """Give one's vote in the present stage to somebody else. The chain of who gave it is kept.

    Raises:
        NotEntitledError: This person may not decide it, or `to` may not be given it.
        StaleRequestError: One of them has voted, or had it before.
    """
    request = _open(tx, now_ms, request_id)
    before = votes(tx, request.id)
    right = may_decide(request, reviewer, away, before)
    terms, handling, stage = request.terms or Terms(), request.handling or Handling(), request.stage
    whose = right.behalf or reviewer.name
    if not right.selectors:
        raise NotEntitledError(request.id, f"{reviewer.name} has a veto, and a veto cannot be delegated")
    for vote in before:
        if any(same(vote.reviewer, name) for name in (reviewer.name, to.name)) or same(vote.behalf or "", whose):
            raise StaleRequestError(request.id, f"{vote.reviewer} has voted already; nothing was delegated")
    if to.is_anonymous or any(same(to.name, excluded) for excluded in terms.excluded):
        raise NotEntitledError(request.id, f"{to.name} may not decide it, so it cannot be delegated to them")
    if not any(selects(selector, to) for selector in terms.delegates):
        raise NotEntitledError(request.id, f"it may be delegated only to {' or '.join(terms.delegates)}, not {to.name}")
    chain = {n for step in handling.given(stage) for n in (step.by, step.to, step.whose)} | {reviewer.name, whose}
    if any(same(name, to.name) for name in chain):
        raise StaleRequestError(request.id, f"{to.name} has given or got it already; nothing was delegated")
    step = Delegation(
        by=reviewer.name, to=to.name, whose=whose, rights=right.selectors, at=_at(now_ms), stage=stage, comment=comment
    )
    kept = tuple(c for c in handling.claims if not same(c.reviewer, reviewer.name))
    new = Handling(claims=kept, delegations=(*handling.delegations, step))
    body = {"to": to.name, "comment": comment}
    return _store(tx, now_ms, request, new, "request.delegated", body, actor=reviewer.name)


def leave(
    tx: Transaction, now_ms: int, reviewer: str, deputy: str, from_: datetime, until: datetime, *, actor: str
) -> str:
    """Note that somebody is out of office, and who may decide in their place. Returns the id of the note."""
    absence = os.urandom(6).hex()
    span = [round(at.timestamp() * 1000) for at in (from_, until)]
    tx.execute(
        "INSERT INTO hitl_absences (id, reviewer, deputy, from_ms, until_ms) VALUES (?,?,?,?,?)",
        (absence, reviewer, deputy, *span),
    )
    body = {"reviewer": reviewer, "deputy": deputy, "from_ms": span[0], "until_ms": span[1]}
    audit.append(tx, now_ms, "absence.noted", absence, body, thread_id=None, actor=actor)
    return absence


def returned(tx: Transaction, now_ms: int, reviewer: str, *, actor: str) -> int:
    """End all absences of somebody now. Returns how many there were."""
    ended = tx.execute("SELECT id, reviewer FROM hitl_absences WHERE until_ms > ? ORDER BY id", (now_ms,)).fetchall()
    mine = [row[0] for row in ended if same(row[1], reviewer)]
    for absence in mine:
        tx.execute("UPDATE hitl_absences SET until_ms = ? WHERE id = ?", (now_ms, absence))
        audit.append(tx, now_ms, "absence.ended", absence, {"until_ms": now_ms}, thread_id=None, actor=actor)
    return len(mine)


def deputised(tx: Transaction, now_ms: int, deputy: str) -> list[str]:
    """Names of those who are away now and whose deputy this person is."""
    rows = tx.execute(
        "SELECT reviewer, deputy FROM hitl_absences WHERE from_ms <= ? AND until_ms > ? ORDER BY id", (now_ms, now_ms)
    )
    return list(dict.fromkeys(row[0] for row in rows if same(row[1], deputy)))


def absences(tx: Transaction, now_ms: int) -> list[dict[str, Any]]:
    """Who is or will be out of office: id, reviewer, deputy, from_ms, until_ms."""
    rows = tx.execute(
        "SELECT id, reviewer, deputy, from_ms, until_ms FROM hitl_absences WHERE until_ms > ? ORDER BY from_ms, id",
        (now_ms,),
    )
    return [dict(zip(("id", "reviewer", "deputy", "from_ms", "until_ms"), row, strict=True)) for row in rows]


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _open(tx: Transaction, now_ms: int, request_id: str) -> Request:
    request = check_open(tx, request_id)
    check_turn(request, now_ms)
    return request


def _store(
    tx: Transaction, now_ms: int, request: Request, handling: Handling, event: str, body: dict[str, Any], *, actor: str
) -> Request:
    changed = tx.execute(
        "UPDATE hitl_requests SET handling = ? WHERE id = ? AND state = 'pending' AND parked = 1",
        (handling.model_dump_json(), request.id),
    )
    requests.check_waiting(request, changed)
    audit.append(tx, now_ms, event, request.id, body, thread_id=request.thread_id, actor=actor)
    tx.notify("inbox")
    return requests.find(tx, request.id)
