"""How far a request is, as plain data: who may decide, who has, who is missing, and what comes when nobody does."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import JsonValue

from hitl_graph.card.words import asked, in_time, turn
from hitl_graph.errors import NotEntitledError
from hitl_graph.handling import Handling
from hitl_graph.model import Comment, Request, Word
from hitl_graph.reviewers import Reviewer, same
from hitl_graph.terms import Terms
from hitl_graph.visible import visible
from hitl_graph.voting import Standing, in_hand, is_no, may_decide, right

__all__ = ["Claimed", "Coming", "Given", "Mine", "People", "Said", "mine_of", "people_of", "votes"]


@dataclass(frozen=True)
class Said:
    """One vote, or the decision."""

    by: str
    word: Word
    at: datetime | None
    channel: str
    behalf: str | None = None
    stage: int = 0
    message: str = ""
    value: JsonValue = None
    args: dict[str, JsonValue] | None = None
    draft: JsonValue = None
    comments: tuple[Comment, ...] = ()
    lasting: bool = False


@dataclass(frozen=True)
class Claimed:
    """Somebody is at it, until then."""

    by: str
    until: datetime


@dataclass(frozen=True)
class Given:
    """Somebody gave their vote to somebody else."""

    by: str
    to: str
    at: datetime
    comment: str
    back: bool


@dataclass(frozen=True)
class Coming:
    """What comes if nobody decides.

    Attributes:
        short: `rejected in 3h`.
        text: What then happens, in a sentence.
    """

    at: datetime
    short: str
    text: str


@dataclass(frozen=True)
class People:
    """Who decides.

    Attributes:
        named: It matters who decides; else one answer of anybody is enough.
        who: Who may decide now, in words.
        missing: Who is still needed, in words; empty once it is decided.
        votes: In words: `1 of 2, 1 against, stage 1/2`; empty where one answer of anybody is enough.
        rules: What else holds, each as a name and a text: stages, who may not, who has a veto.
    """

    named: bool
    who: str
    missing: str
    votes: str
    rules: tuple[tuple[str, str], ...]
    said: tuple[Said, ...]
    claims: tuple[Claimed, ...]
    given: tuple[Given, ...]
    coming: tuple[Coming, ...]


@dataclass(frozen=True)
class Mine:
    """What one person can do about it now.

    Attributes:
        may: They may decide.
        why_not: Why they may not, and who may.
        behalf: Whose right they would use, where it is not their own.
        only_reject: They have no more than a veto.
        voted: The answer that they have given already.
        held_by: Who has claimed it, so that they cannot decide now.
    """

    name: str
    may: bool
    why_not: str = ""
    behalf: str | None = None
    only_reject: bool = False
    voted: Word | None = None
    held_by: str = ""
    claimed: bool = False
    can_claim: bool = False
    can_hand_back: bool = False
    can_delegate: bool = False
    can_take_back: bool = False


def people_of(request: Request, standing: Standing, now: datetime) -> People:
    """How far it is."""
    terms = request.terms
    named = terms is not None and terms.names_people
    return People(
        named,
        asked(standing.reviewers),
        standing.missing,
        votes(request, standing) if named or len(standing.votes) > 1 else "",
        _rules(request, standing, terms) if terms is not None and named else (),
        tuple(
            Said(
                vote.reviewer,
                vote.decision.type,
                vote.at,
                vote.channel,
                vote.behalf,
                vote.stage,
                vote.decision.message or "",
                vote.decision.value,
                vote.decision.args,
                vote.decision.draft,
                vote.decision.comments,
                vote.decision.grant is not None,
            )
            for vote in standing.votes
        ),
        tuple(Claimed(claim.reviewer, claim.until) for claim in standing.claims),
        tuple(Given(step.by, step.to, step.at, step.comment or "", step.back) for step in standing.delegations),
        tuple(Coming(one.at, in_time(one, now), turn(request, one)) for one in standing.upcoming),
    )


def votes(request: Request, standing: Standing) -> str:
    """How many have agreed: `1 of 2, 1 against, stage 1/2`; empty where one answer of anybody is enough."""
    if standing.stages == 1 and standing.quorum == 1 and not standing.votes:
        return ""
    text = f"{standing.quorum - standing.left} of {standing.quorum}"
    against = sum(is_no(request, vote.decision) for vote in standing.votes)
    text += f", {against} against" if against else ""
    return text + (f", stage {standing.stage + 1}/{standing.stages}" if standing.stages > 1 else "")


def _rules(request: Request, standing: Standing, terms: Terms) -> tuple[tuple[str, str], ...]:
    rows: list[tuple[str, str]] = []
    if request.state == "pending":
        rows += [("stage", f"{standing.stage + 1} of {standing.stages}")] if standing.stages > 1 else []
    else:
        rows += [
            (f"stage {number}", f"{stage.quorum} of {asked(stage.reviewers or ('*',))}")
            for number, stage in enumerate(terms.stages, 1)
        ]
    rows += [("not", f"{', '.join(map(visible, terms.excluded))}: it is their own")] if terms.excluded else []
    rows += [("veto", f"{asked(terms.veto)} can reject it alone")] if terms.veto else []
    return tuple(rows)


def mine_of(
    request: Request, standing: Standing, reviewer: Reviewer, now: datetime, away: Iterable[Reviewer] = ()
) -> Mine:
    """What this person can do about it now.

    Args:
        away: Whose deputy they are now.
    """
    name, handling = reviewer.name, request.handling or Handling()
    own_votes = (vote for vote in standing.votes if same(vote.reviewer, name) and vote.stage == standing.stage)
    voted: Word | None = next((vote.decision.type for vote in own_votes), None)
    if request.state != "pending":
        return Mine(name, may=False, why_not=f"it is {request.state}", voted=voted)
    claimed = any(same(claim.reviewer, name) for claim in standing.claims)
    given = handling.principal(name, request.stage) is not None and voted is None
    gave = handling.gave_away(name, request.stage) and not _used(request, standing, name)
    mine = Mine(name, may=False, voted=voted, claimed=claimed, can_hand_back=claimed or given, can_take_back=gave)
    try:
        by = may_decide(request, reviewer, away, standing.votes)
    except NotEntitledError as exc:
        return replace(mine, why_not=str(exc.args[1]).removesuffix(". Nothing was recorded"))
    held = in_hand(request, standing.votes, name, now)
    own = right(request, reviewer, (), standing.votes)
    can_act = not reviewer.is_anonymous and voted is None
    return replace(
        mine,
        may=True,
        behalf=by.behalf,
        only_reject=not by.selectors,
        held_by=", ".join(claim.reviewer for claim in held),
        can_claim=can_act and bool(by.selectors) and not held,
        can_delegate=can_act and own is not None and bool(own.selectors),
    )


def _used(request: Request, standing: Standing, name: str) -> bool:
    return any(v.stage == request.stage and v.behalf and same(v.behalf, name) for v in standing.votes)
