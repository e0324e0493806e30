"""Whose answer counts, and when enough people agree. Pure functions over a request and its votes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hitl_graph.errors import AlreadyVotedError, ClaimedError, InvalidDecisionError, NotEntitledError
from hitl_graph.handling import Claim, Delegation, Handling
from hitl_graph.model import Decision, Request, digest, from_ms
from hitl_graph.reviewers import Reviewer, same, selects
from hitl_graph.terms import Stage, Terms, Turn

__all__ = [
    "Right",
    "Standing",
    "Vote",
    "agreed",
    "check_claims",
    "check_vote",
    "in_hand",
    "is_no",
    "left",
    "may_decide",
    "missing",
    "outcome",
    "proposal",
    "right",
    "satisfied",
    "standing",
    "supporting",
    "version",
    "who",
]

_ANYBODY = ("*",)


@dataclass(frozen=True)
class Vote:
    """One person's answer to a request.

    Attributes:
        stage: In which stage it was given, from 0.
        behalf: Whose right was used, where it is not the reviewer's own (a delegation, an absence).
        rights: As which of the stage's reviewers it counts.
    """

    reviewer: str
    decision: Decision
    channel: str
    at: datetime
    stage: int = 0
    behalf: str | None = None
    rights: tuple[str, ...] = _ANYBODY


@dataclass(frozen=True)
class Right:
    """By what somebody may decide now.

    Attributes:
        behalf: Whose right it is, where it is not their own.
        selectors: What of the stage's reviewers they count as; none: they may do no more than reject, by a veto.
        veto: Where they reject it, it needs nobody else.
    """

    behalf: str | None = None
    selectors: tuple[str, ...] = _ANYBODY
    veto: bool = False


@dataclass(frozen=True)
class Standing:
    """How far a request is.

    Attributes:
        stage: In which stage it is, from 0, of `stages`.
        reviewers: Selectors of who may decide now; `*`: anybody.
        quorum: How many the present stage takes, and of these `left` are still needed.
        missing: Who is still needed, in words; empty once it is decided.
        votes: In the order in which they were given.
        claims: Who is at it, until when.
        delegations: Who gave their vote to whom, the oldest first; also those that were handed back.
        upcoming: What comes when, if nobody decides.
    """

    stage: int
    stages: int
    reviewers: tuple[str, ...]
    quorum: int
    left: int
    missing: str
    votes: tuple[Vote, ...]
    claims: tuple[Claim, ...]
    delegations: tuple[Delegation, ...]
    upcoming: tuple[Turn, ...]


def who(request: Request) -> tuple[str, ...]:
    """Selectors of who may decide now: those of the stage, and those to whom it was escalated."""
    terms = request.terms
    if terms is None or not (named := terms.stages[request.stage].reviewers):
        return _ANYBODY
    added = [s for turn in terms.schedule[: request.fired] if turn.then == "escalate" for s in turn.to]
    return tuple(dict.fromkeys((*named, *added)))


def right(
    request: Request, reviewer: Reviewer, away: Iterable[Reviewer] = (), votes: Sequence[Vote] = ()
) -> Right | None:
    """By what this person may decide now; None if they may not.

    Args:
        away: Whose deputy they are now, because those are out of office.
        votes: Whoever voted has no right left that a deputy could use.
    """
    terms, handling = request.terms, request.handling or Handling()
    if terms is None or not terms.names_people:
        return Right()
    if reviewer.is_anonymous or _excluded(terms, reviewer.name):
        return None
    means, veto = who(request), any(selects(selector, reviewer) for selector in terms.veto)
    if not handling.gave_away(reviewer.name, request.stage):
        if own := tuple(selector for selector in means if selects(selector, reviewer)):
            return Right(None, own, veto)
        given = handling.principal(reviewer.name, request.stage)
        if given is not None and not _excluded(terms, given.by):
            return Right(given.by, given.rights, veto)
    spent = [vote.behalf or vote.reviewer for vote in votes if not same(vote.reviewer, reviewer.name)]
    for absent in away if any(selects(selector, reviewer) for selector in terms.delegates) else ():
        theirs = tuple(selector for selector in means if selects(selector, absent))
        barred = _excluded(terms, absent.name) or handling.gave_away(absent.name, request.stage)
        if theirs and not barred and not any(same(absent.name, name) for name in spent):
            return Right(absent.name, theirs, veto)
    return Right(None, (), veto) if veto else None


def may_decide(
    request: Request, reviewer: Reviewer, away: Iterable[Reviewer] = (), votes: Sequence[Vote] = ()
) -> Right:
    """As `right`.

    Raises:
        NotEntitledError: They may not; says why, and who may.
    """
    if found := right(request, reviewer, away, votes):
        return found
    terms = request.terms or Terms()
    if reviewer.is_anonymous:
        why = "nobody was authenticated, and it takes somebody who was"
    elif _excluded(terms, reviewer.name):
        why = f"{reviewer.name} may not decide it, as it is their own"
    elif (request.handling or Handling()).gave_away(reviewer.name, request.stage):
        why = f"{reviewer.name} gave their vote to somebody else; it can be taken back"
    else:
        roles = [*(f"role:{role}" for role in sorted(reviewer.roles)), *(f"group:{g}" for g in sorted(reviewer.groups))]
        known = f"known as {', '.join(roles)}" if roles else "not known to have any role; is the directory given?"
        why = f"{reviewer.name} may not decide it ({known})"
    raise NotEntitledError(request.id, f"{why}. Needed: {' or '.join(who(request))}. Nothing was recorded")


def _excluded(terms: Terms, name: str) -> bool:
    return any(same(name, excluded) for excluded in terms.excluded)


def is_no(request: Request, decision: Decision) -> bool:
    """Whether an answer means that nothing shall happen: it does not take everybody to say so."""
    if request.kind in ("approval", "review"):
        return decision.type in ("reject", "respond")
    return decision.type == "reject"


def proposal(decision: Decision) -> str:
    """What has to be the same in two answers for them to agree: all but a comment for the record."""
    meant = decision.model_dump(mode="json", exclude_defaults=True) | {"type": decision.type}
    if decision.type in ("approve", "edit", "reject"):
        meant.pop("message", None)
    return digest(meant)


def check_vote(request: Request, votes: Sequence[Vote], vote: Vote, *, veto: bool) -> None:
    """Refuse an answer that cannot count.

    Args:
        veto: Whoever gives it can end it alone.

    Raises:
        AlreadyVotedError: This person, or whose right they use, has answered already.
        InvalidDecisionError: A veto that is no reject, or not what the stage before agreed on.
    """
    if veto and is_no(request, vote.decision):
        return
    for earlier in votes:
        own = same(earlier.reviewer, vote.reviewer)
        if own or same(earlier.behalf or earlier.reviewer, vote.behalf or vote.reviewer):
            changed = earlier.stage == vote.stage and proposal(earlier.decision) != proposal(vote.decision)
            if not (own and changed):  # they may change their mind while it waits
                raise AlreadyVotedError(request.id, earlier.reviewer, earlier.decision.type)
    if not vote.rights:
        raise InvalidDecisionError(
            request.id, f"{vote.reviewer} may only reject it; for more it takes {' or '.join(who(request))}"
        )
    if is_no(request, vote.decision):
        return
    before = _agreed_before(request, votes)
    if before is not None and proposal(before.decision) != proposal(vote.decision):
        raise InvalidDecisionError(
            request.id,
            f"{before.reviewer} agreed to {_named(before.decision)} in the stage before, and this is"
            f" {_named(vote.decision)}; agree to the same, or reject it and say what to change",
        )


def _agreed_before(request: Request, votes: Sequence[Vote]) -> Vote | None:
    """A vote for that on which the stage before agreed: others of that stage may have wanted something else."""
    if request.stage == 0 or request.terms is None:
        return None
    stage = request.terms.stages[request.stage - 1]
    cast = [v for v in votes if v.stage == request.stage - 1 and not is_no(request, v.decision)]
    alike = ([v for v in cast if proposal(v.decision) == proposal(one.decision)] for one in cast)
    return next(same_as[0] for same_as in alike if _count(stage, same_as) >= stage.quorum)


def _named(decision: Decision) -> str:
    lasting = " with a standing permission" if decision.grant is not None else ""
    return ("it as shown" if decision.type == "approve" else f"another {decision.type}") + lasting


def outcome(request: Request, votes: Sequence[Vote], vote: Vote, *, veto: bool) -> Literal["decided", "next", "waits"]:
    """What comes of the last of these votes."""
    terms = request.terms or Terms()
    if is_no(request, vote.decision):
        against = [v for v in votes if is_no(request, v.decision)]
        return "decided" if veto or len(against) >= terms.rejects else "waits"
    stage = terms.stages[request.stage]
    agreeing = _agreeing(request, votes, vote.decision)
    if _count(stage, agreeing) < stage.quorum:
        return "waits"
    return "decided" if request.stage + 1 == len(terms.stages) else "next"


def agreed(request: Request, votes: Sequence[Vote], decision: Decision) -> str:
    """The names of those by whom it was decided, in all stages."""
    if is_no(request, decision):
        return ", ".join(vote.reviewer for vote in votes if is_no(request, vote.decision))
    wanted = proposal(decision)
    return ", ".join(vote.reviewer for vote in votes if proposal(vote.decision) == wanted)


def _agreeing(request: Request, votes: Sequence[Vote], decision: Decision) -> list[Vote]:
    wanted = proposal(decision)
    return [vote for vote in votes if vote.stage == request.stage and proposal(vote.decision) == wanted]


def _count(stage: Stage, votes: Sequence[Vote]) -> int:
    """How many of these votes count: all, or as many as can stand for a role of their own (a matching)."""
    return _matched([vote.rights for vote in votes]) if stage.distinct_roles else len(votes)


def _matched(able: Sequence[Sequence[str]]) -> int:
    """To how many of these a place of their own can be given, each of them being able to take some."""
    holder: dict[str, int] = {}

    def place(number: int, tried: set[str]) -> bool:
        for role in able[number]:
            if role in tried:
                continue
            tried.add(role)
            if role not in holder or place(holder[role], tried):
                holder[role] = number
                return True
        return False

    return sum(place(number, set()) for number in range(len(able)))


def missing(request: Request, votes: Sequence[Vote]) -> str:
    """Who is still needed, in words."""
    if request.state != "pending":
        return ""
    terms = request.terms or Terms()
    parts = []
    for number, stage in enumerate(terms.stages[request.stage :], request.stage):
        needed = left(request, votes) if number == request.stage else stage.quorum
        names = who(request) if number == request.stage else stage.reviewers or _ANYBODY
        people = "anybody" if names == _ANYBODY else " or ".join(names)
        parts.append(f"{needed} of {people}" + (", each for another role" if stage.distinct_roles else ""))
    against = [vote for vote in votes if is_no(request, vote.decision)]
    rejected = f"; or {terms.rejects - len(against)} more to reject it" if against else ""
    return ", then ".join(parts) + rejected


def supporting(request: Request, votes: Sequence[Vote]) -> list[Vote]:
    """The votes, of all stages, by which it was decided as it was."""
    return [vote for vote in votes if request.decision and proposal(vote.decision) == proposal(request.decision)]


def left(request: Request, votes: Sequence[Vote]) -> int:
    """How many answers the present stage still takes, at best."""
    stage = (request.terms or Terms()).stages[request.stage]
    yes = [v for v in votes if v.stage == request.stage and not is_no(request, v.decision)]
    return stage.quorum - max((_count(stage, _agreeing(request, votes, v.decision)) for v in yes), default=0)


def in_hand(request: Request, votes: Sequence[Vote], reviewer: str, now: datetime) -> list[Claim]:
    """The claims of others that keep this person from deciding."""
    voted = {v.reviewer for v in votes}
    if any(v.stage == request.stage and same(v.reviewer, reviewer) for v in votes):
        return []
    others = [
        claim
        for claim in (request.handling or Handling()).claimed(now)
        if not same(claim.reviewer, reviewer) and not any(same(claim.reviewer, name) for name in voted)
    ]
    return others if others and len(others) >= left(request, votes) else []


def check_claims(request: Request, votes: Sequence[Vote], reviewer: str, now: datetime) -> None:
    """Refuse while as many others are at it as are still needed. Whoever has voted may still change their mind.

    Raises:
        ClaimedError: Says who, until when, and what to do.
    """
    if others := in_hand(request, votes, reviewer, now):
        until = max(claim.until for claim in others)
        names = ", ".join(claim.reviewer for claim in others)
        raise ClaimedError(
            request.id,
            f"{names} has claimed it until {until:%Y-%m-%d %H:%M} UTC; wait, or ask them to hand it back."
            " Nothing was recorded",
        )


def satisfied(terms: Terms | None, decided: Terms | None, people: Sequence[tuple[str, Reviewer]]) -> bool:
    """Whether a decision of these people, made on other terms, would also be one on these.

    Args:
        people: Who agreed, and by whose right.
    """
    if terms is None or not terms.names_people or (decided and decided.unscheduled == terms.unscheduled):
        return True
    if any(stage.distinct_roles for stage in terms.stages):
        return False
    slots = [(f"{i} {k}", stage) for i, stage in enumerate(terms.stages) for k in range(stage.quorum)]
    able = [
        tuple(slot for slot, stage in slots if any(selects(s, human) for s in stage.reviewers or _ANYBODY))
        for voter, human in people
        if not human.is_anonymous and not _excluded(terms, human.name) and not _excluded(terms, voter)
    ]
    return _matched(able) == len(slots)


def version(request: Request, votes: Sequence[Vote]) -> str:
    """A short token of what moves: state, stage, votes, decision. Another one means that somebody did something.

    Claims, delegations and deadlines do not count: they do not change what is decided.
    """
    given = [[vote.reviewer, vote.stage, digest(vote.decision.model_dump(mode="json"))] for vote in votes]
    decision = request.decision and request.decision.model_dump(mode="json")
    return digest([request.state, request.stage, given, decision, request.reviewer, request.note])[:12]


def standing(request: Request, votes: Sequence[Vote], now_ms: int) -> Standing:
    """How far it is."""
    now = from_ms(now_ms)
    terms, handling = request.terms or Terms(), request.handling or Handling()
    return Standing(
        stage=request.stage,
        stages=len(terms.stages),
        reviewers=who(request),
        quorum=terms.stages[request.stage].quorum,
        left=left(request, votes) if request.state == "pending" else 0,
        missing=missing(request, votes),
        votes=tuple(votes),
        claims=handling.claimed(now) if request.state == "pending" else (),
        delegations=handling.delegations,
        upcoming=terms.schedule[request.fired :] if request.state == "pending" else (),
    )
