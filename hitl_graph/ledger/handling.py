"""Who has a waiting request in hand: claims, delegations, and deputies of those who are away."""

import os
from datetime import datetime
from typing import Any

from hitl_graph.errors import NotEntitledError, StaleRequestError
from hitl_graph.handling import Absence, Claim, Delegation, Handling
from hitl_graph.ledger import audit, requests
from hitl_graph.ledger.deciding import check_open, check_turn, votes
from hitl_graph.model import Request, from_ms
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
        NotEntitledError: This person may not decide it, or is not known, or needs no claim.
        ClaimedError: As many others are at it as are still needed.
    """
    request = _open(tx, now_ms, request_id)
    before = votes(tx, request.id)
    if reviewer.is_anonymous:
        raise NotEntitledError(request.id, "nobody was authenticated, and a claim has to be somebody's")
    if not may_decide(request, reviewer, away, before).selectors:
        raise NotEntitledError(request.id, f"{reviewer.name} may only reject it, at any time; that needs no claim")
    check_claims(request, before, reviewer.name, from_ms(now_ms))
    handling = request.handling or Handling()
    others = tuple(c for c in handling.claimed(from_ms(now_ms)) if not same(c.reviewer, reviewer.name))
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
    handling = handling.model_copy(update={"claims": handling.claimed(from_ms(now_ms))})
    used = any(v.behalf and v.stage == stage and same(v.reviewer, reviewer.name) for v in votes(tx, request.id))
    given = tuple(
        step.model_copy(update={"back": True})
        if step.stage == stage and not step.back and same(step.to, reviewer.name) and not used
        else step
        for step in handling.delegations
    )
    if handling.gave_away(reviewer.name, stage) and given != handling.delegations:
        raise StaleRequestError(request.id, f"{reviewer.name} delegated it further; take that back first")
    new = handling.without_claim(reviewer.name).model_copy(update={"delegations": given})
    if new == handling:
        raise StaleRequestError(request.id, f"{reviewer.name} has neither claimed it nor been given a vote")
    return _store(tx, now_ms, request, new, "request.handed_back", {}, actor=reviewer.name)


def take_back(
    tx: Transaction, now_ms: int, request_id: str, *, reviewer: Reviewer, away: tuple[Reviewer, ...] = ()
) -> Request:
    """End a delegation by this person, and those that came of it.

    Raises:
        StaleRequestError: There is none, or whoever got the vote has used it.
    """
    request = _open(tx, now_ms, request_id)
    handling, stage = request.handling or Handling(), request.stage
    if not handling.gave_away(reviewer.name, stage):
        raise StaleRequestError(request.id, f"{reviewer.name} has not delegated it")
    holders = _holders(handling, reviewer.name, stage)
    if used := next((v for v in votes(tx, request.id) if v.behalf and _among(v.reviewer, holders)), None):
        raise StaleRequestError(request.id, f"{used.reviewer} has voted with it already")
    taken, holder = list(handling.delegations), reviewer.name
    while (at := _given_by(taken, holder, stage)) is not None:
        holder = taken[at].to
        taken[at] = taken[at].model_copy(update={"back": True})
    new = handling.model_copy(update={"delegations": tuple(taken)})
    for name in holders:  # who has no vote any more is not at it any more
        new = new.without_claim(name)
    return _store(tx, now_ms, request, new, "request.taken_back", {}, actor=reviewer.name)


def _holders(handling: Handling, name: str, stage: int) -> list[str]:
    """Through whose hands a vote went after this person gave it."""
    steps, holders = list(handling.delegations), [name]
    while (at := _given_by(steps, holders[-1], stage)) is not None and not _among(steps[at].to, holders):
        holders.append(steps[at].to)
    return holders[1:]


def _among(name: str, names: list[str]) -> bool:
    return any(same(name, other) for other in names)


def _given_by(delegations: list[Delegation], name: str, stage: int) -> int | None:
    found = (i for i, d in enumerate(delegations) if d.stage == stage and not d.back and same(d.by, name))
    return next(found, None)


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
    right = may_decide(request, reviewer, (), before)  # a deputy decides, or leaves it to whoever is back
    terms, handling, stage = request.terms or Terms(), request.handling or Handling(), request.stage
    if not right.selectors:
        raise NotEntitledError(request.id, f"{reviewer.name} has a veto, and a veto cannot be delegated")
    for vote in before:
        names = (vote.reviewer, vote.behalf or vote.reviewer)
        if any(same(name, person) for name in names for person in (reviewer.name, to.name)):
            raise StaleRequestError(request.id, f"{vote.reviewer} has voted already; nothing was delegated")
    if to.is_anonymous or any(same(to.name, excluded) for excluded in terms.excluded):
        raise NotEntitledError(request.id, f"{to.name} may not decide it, so it cannot be delegated to them")
    if not any(selects(selector, to) for selector in terms.delegates):
        raise NotEntitledError(request.id, f"it may be delegated only to {' or '.join(terms.delegates)}, not {to.name}")
    chain = {name for step in handling.given(stage) for name in (step.by, step.to)} | {reviewer.name}
    if any(same(name, to.name) for name in chain):
        raise StaleRequestError(request.id, f"{to.name} has given or got it already; nothing was delegated")
    step = Delegation(
        by=reviewer.name, to=to.name, at=from_ms(now_ms), stage=stage, rights=right.selectors, comment=comment
    )
    kept = handling.without_claim(reviewer.name)
    new = kept.model_copy(update={"delegations": (*handling.delegations, step)})
    body = {"to": to.name, "comment": comment}
    return _store(tx, now_ms, request, new, "request.delegated", body, actor=reviewer.name)


def leave(tx: Transaction, now_ms: int, absence: Absence, *, actor: str) -> None:
    """Note that somebody is out of office, and who may decide in their place."""
    own = os.urandom(6).hex()
    span = [round(at.timestamp() * 1000) for at in (absence.start, absence.until)]
    tx.execute(
        "INSERT INTO hitl_absences (id, reviewer, deputy, from_ms, until_ms) VALUES (?,?,?,?,?)",
        (own, absence.reviewer, absence.deputy, *span),
    )
    body = {"reviewer": absence.reviewer, "deputy": absence.deputy, "from_ms": span[0], "until_ms": span[1]}
    audit.append(tx, now_ms, "absence.noted", own, body, thread_id=None, actor=actor)
    tx.notify("inbox")


def returned(tx: Transaction, now_ms: int, reviewer: str, *, actor: str) -> int:
    """End all absences of somebody now. Returns how many there were."""
    ended = tx.execute("SELECT id, reviewer FROM hitl_absences WHERE until_ms > ? ORDER BY id", (now_ms,)).fetchall()
    mine = [row[0] for row in ended if same(row[1], reviewer)]
    for absence in mine:
        tx.execute(
            "UPDATE hitl_absences SET until_ms = ?, from_ms = CASE WHEN from_ms > ? THEN ? ELSE from_ms END"
            " WHERE id = ?",
            (now_ms, now_ms, now_ms, absence),
        )
        audit.append(tx, now_ms, "absence.ended", absence, {"until_ms": now_ms}, thread_id=None, actor=actor)
    if mine:
        tx.notify("inbox")
    return len(mine)


def deputised(tx: Transaction, now_ms: int, deputy: str) -> list[str]:
    """Names of those who are away now and whose deputy this person is, the longest away first."""
    rows = tx.execute(
        "SELECT reviewer, deputy FROM hitl_absences WHERE from_ms <= ? AND until_ms > ? ORDER BY from_ms, reviewer",
        (now_ms, now_ms),
    )
    return list(dict.fromkeys(row[0] for row in rows if same(row[1], deputy)))


def absences(tx: Transaction, now_ms: int) -> list[Absence]:
    """Who is or will be out of office, in the order in which they leave."""
    rows = tx.execute(
        "SELECT reviewer, deputy, from_ms, until_ms FROM hitl_absences WHERE until_ms > ? ORDER BY from_ms, id",
        (now_ms,),
    )
    return [Absence(reviewer=row[0], deputy=row[1], start=from_ms(row[2]), until=from_ms(row[3])) for row in rows]


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
