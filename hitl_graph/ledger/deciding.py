"""People's answers: each is a vote; as soon as enough of them agree, it is the decision. One transaction an answer."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from hitl_graph import voting
from hitl_graph.errors import (
    AlreadyDecidedError,
    GrantError,
    InvalidDecisionError,
    NotEntitledError,
    StaleRequestError,
)
from hitl_graph.ledger import audit, grants, requests
from hitl_graph.model import Decision, Request, canonical, from_ms
from hitl_graph.reviewers import Reviewer, same
from hitl_graph.storage import Transaction
from hitl_graph.voting import Vote, agreed, check_claims, check_vote, is_no, may_decide, outcome, proposal
from hitl_graph.wire import validate

__all__ = ["TurnDue", "check_open", "check_turn", "decide", "votes", "votes_on"]

_STRINGS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


class TurnDue(Exception):
    """A turn of the request's schedule has to come first; nothing was written."""


def check_open(tx: Transaction, request_id: str, shown: str | None = None) -> Request:
    """The request, if it waits.

    Args:
        shown: Digest of what the caller looked at; None where it just read the request.

    Raises:
        UnknownRequestError: No such request.
        AlreadyDecidedError: It was decided.
        StaleRequestError: It is not asked any more, or something else is.
    """
    span = (prefix := request_id.strip().lower(), f"{prefix}g")
    digests = tx.execute("SELECT id, digest FROM hitl_requests WHERE id >= ? AND id < ? LIMIT 3", span)
    request = requests.find(tx, request_id)
    if request.interrupt_id and dict(digests.fetchall())[request.id] != request.digest:
        raise StaleRequestError(request.id, "its record was changed behind our back; see `hitl audit verify`")
    if shown is not None and shown != request.digest:
        raise StaleRequestError(request.id, "it is not what you were shown; look again and answer what is asked now")
    if request.decision is not None:
        raise AlreadyDecidedError(request.id, str(request.reviewer), request.decision.type)
    if request.state != "pending":
        raise StaleRequestError(request.id, f"it is {request.state} ({request.note or 'no longer asked'})")
    return request


def check_turn(request: Request, now_ms: int) -> None:
    """Let what is due come first, whoever acts.

    Raises:
        TurnDue: A turn of its schedule is.
    """
    due = request.terms.due_ms(request.fired) if request.terms else None
    if due is not None and due <= now_ms:
        raise TurnDue(request.id)


def decide(
    tx: Transaction, now_ms: int, request_id: str, decision: Decision, *, reviewer: Reviewer, channel: str,
    shown: str | None = None, version: str | None = None, away: Sequence[Reviewer] = (),
) -> Request:  # fmt: skip
    """Record an answer; the request is then decided, or waits for others.

    Args:
        shown: Digest of what the reviewer looked at; None where the caller just read the request.
        version: How far it was then (see `voting.version`); None where that does not matter.
        away: Those out of office whose deputy the reviewer is.

    Raises:
        UnknownRequestError: No such request.
        AlreadyDecidedError: It is decided.
        AlreadyVotedError: This person has answered.
        StaleRequestError: It is not asked any more, or something else is.
        NotEntitledError: This person may not decide it.
        ClaimedError: Others are at it.
        InvalidDecisionError: The answer does not fit.
        TurnDue: Its schedule has to go on first.
    """
    request = check_open(tx, request_id, shown)
    now = from_ms(now_ms)
    check_turn(request, now_ms)
    before = votes(tx, request.id) if request.terms else ()
    if version is not None and version != voting.version(request, before):
        raise StaleRequestError(request.id, "somebody did something to it since you looked; look again, then answer")
    entitled = may_decide(request, reviewer, away, before)
    decision = validate(decision, request)
    if decision.grant is not None and reviewer.is_anonymous:
        raise NotEntitledError(
            request.id, "a standing permission needs somebody who was authenticated. Nothing was recorded"
        )
    name = next((vote.reviewer for vote in before if same(vote.reviewer, reviewer.name)), reviewer.name)
    vote = Vote(name, decision, channel, now, stage=request.stage, behalf=entitled.behalf, rights=entitled.selectors)
    check_vote(request, before, vote, veto=entitled.veto)
    if not (entitled.veto and is_no(request, decision)):
        check_claims(request, before, name, now)
    _store(tx, now_ms, request, vote)
    after = (*(earlier for earlier in before if earlier.reviewer != vote.reviewer), vote)
    result = outcome(request, after, vote, veto=entitled.veto)
    if result == "decided":
        names = agreed(request, after, decision) if request.terms else vote.reviewer
        settled = requests.settle(tx, now_ms, request, decision, reviewer=names, channel=channel)
        if decision.grant is not None:
            _give(tx, now_ms, request, decision, after, by=names)
        return settled
    stage = request.stage + (result == "next")
    done = request.handling and request.handling.without_claim(vote.reviewer)
    settled = request.model_copy(update={"handling": done})
    changed = requests.move_on(tx, settled, stage=stage, fired=request.fired)
    body: dict[str, Any] = {"vote": requests.decision_text(decision), "voter": vote.reviewer, "stage": stage}
    audit.append(tx, now_ms, "request.voted", request.id, body, thread_id=request.thread_id, actor=vote.reviewer)
    requests.check_waiting(request, changed)
    tx.notify("inbox")
    return requests.find(tx, request.id)


def _give(
    tx: Transaction, now_ms: int, request: Request, decision: Decision, votes: Sequence[Vote], *, by: str
) -> None:
    """Record the standing permission in a decision, with those who agreed to it and the terms on which they did."""
    assert decision.grant is not None
    wanted = proposal(decision)
    # Under other terms, only those are counted again who used their own right.
    people = [vote.reviewer for vote in votes if vote.behalf is None and proposal(vote.decision) == wanted]
    try:
        grants.give(
            tx, now_ms, decision.grant, tool=request.action.name if request.action else None, by=by, people=people,
            terms=request.terms, request_id=request.id, note=decision.message,
        )  # fmt: skip
    except GrantError as exc:
        raise InvalidDecisionError(request.id, str(exc)) from exc


def votes(tx: Transaction, request_id: str) -> tuple[Vote, ...]:
    """The votes on a request, stage by stage, in the order in which they were given."""
    return votes_on(tx, [request_id])[request_id]


def votes_on(tx: Transaction, request_ids: Sequence[str]) -> dict[str, tuple[Vote, ...]]:
    """As `votes`, of several requests."""
    found: dict[str, tuple[Vote, ...]] = dict.fromkeys(request_ids, ())
    for row in tx.execute(
        "SELECT reviewer, decision, channel, at_ms, stage, behalf, rights, request_id FROM hitl_votes"
        f" WHERE request_id IN ({','.join('?' * len(request_ids))}) AND decision IS NOT NULL"
        " ORDER BY stage, at_ms, reviewer",
        list(request_ids),
    ):
        found[row[7]] += (_vote(row),)
    return found


def _vote(row: Sequence[Any]) -> Vote:
    return Vote(
        row[0],
        Decision.model_validate_json(row[1]),
        row[2],
        from_ms(row[3]),
        stage=row[4] or 0,
        behalf=row[5],
        rights=_STRINGS.validate_json(row[6]) if row[6] else ("*",),
    )


def _store(tx: Transaction, now_ms: int, request: Request, vote: Vote) -> None:
    has_terms = request.terms is not None
    tx.execute(
        "INSERT INTO hitl_votes (request_id, reviewer, decision, channel, at_ms, stage, behalf, rights)"
        " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (request_id, reviewer) DO UPDATE SET decision = excluded.decision,"
        " channel = excluded.channel, at_ms = excluded.at_ms, stage = excluded.stage, behalf = excluded.behalf,"
        " rights = excluded.rights",
        (
            request.id, vote.reviewer, requests.decision_text(vote.decision), vote.channel, now_ms,
            vote.stage if has_terms else None, vote.behalf, canonical(list(vote.rights)) if has_terms else None,
        ),
    )  # fmt: skip
