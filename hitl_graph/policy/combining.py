"""What several rules that ask want together: never less than any of them."""

from dataclasses import replace

from hitl_graph.model import Risk
from hitl_graph.policy.deadline import Deadline, Earliest, earliest
from hitl_graph.terms import Stage, Terms

__all__ = ["both", "earlier", "rejecting", "riskier"]

_RISKS: tuple[Risk | None, ...] = (None, "low", "medium", "high")


def both(one: Terms | None, other: Terms | None) -> Terms | None:
    """Terms that satisfy both: stages with the same reviewers become one, others follow one another.

    Stages without reviewers only say how many people there have to be in all.
    """
    if one is None or other is None or one == other:
        return one or other
    stages = [stage for stage in one.stages if stage.reviewers]
    free = list(range(len(stages)))  # each of the other's stages becomes one with at most one of these
    for stage in other.stages:
        same = next((i for i in free if stages[i].reviewers == stage.reviewers), None)
        if same is not None:
            free.remove(same)
            stages[same], *more = _higher(stages[same], stage)
            stages += more
        elif stage.reviewers:
            stages.append(stage)
    needed = max(_people(one), _people(other))
    missing = needed - sum(stage.quorum for stage in stages)
    if missing > 0:
        stages.append(Stage(quorum=missing))
    return Terms(
        stages=tuple(stages),
        excluded=tuple(dict.fromkeys((*one.excluded, *other.excluded))),
        veto=tuple(dict.fromkeys((*one.veto, *other.veto))),
        rejects=min(one.rejects, other.rejects),
        delegates=one.delegates if other.delegates == ("*",) else tuple(d for d in other.delegates if _within(d, one)),
    )


def earlier(one: Deadline | Earliest | None, other: Deadline | Earliest | None) -> Deadline | Earliest | None:
    """The deadline that counts: one that approves only if both do, else the earlier one."""
    if one is None or other is None or one == other:
        return one or other
    strict = [deadline for deadline in (one, other) if deadline.then != "approve"] or [one, other]
    return earliest([d for given in strict for d in (given.deadlines if isinstance(given, Earliest) else (given,))])


def rejecting(deadline: Deadline | Earliest | None) -> Deadline | Earliest | None:
    """What remains of a deadline that may only make things stricter: a rejection, and the reminders before it."""
    given = deadline.deadlines if isinstance(deadline, Earliest) else (deadline,)
    kept = [replace(each, escalate=()) for each in given if each is not None and each.then == "reject"]
    return earliest(kept) if kept else None


def riskier(one: Risk | None, other: Risk | None) -> Risk | None:
    """The higher of two risks; a rule that says none takes nothing away."""
    return one if _RISKS.index(one) >= _RISKS.index(other) else other


def _people(terms: Terms) -> int:
    """How many people there have to be in all, whoever they are."""
    return sum(stage.quorum for stage in terms.stages)


def _within(selector: str, terms: Terms) -> bool:
    return terms.delegates == ("*",) or selector in terms.delegates


def _higher(one: Stage, other: Stage) -> list[Stage]:
    distinct, quorum = one.distinct_roles or other.distinct_roles, max(one.quorum, other.quorum)
    roles = min(quorum, len(one.reviewers)) if distinct else quorum
    first = Stage(reviewers=one.reviewers, quorum=roles, distinct_roles=distinct)
    return [first] if roles == quorum else [first, Stage(reviewers=one.reviewers, quorum=quorum - roles)]
