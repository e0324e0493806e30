"""How far a request is, for people: who may decide, who has, who is still missing, and what comes when nobody does."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from hitl_graph.cli import reviews, views
from hitl_graph.handling import Claim
from hitl_graph.model import Request
from hitl_graph.reviewers import Directory, Reviewer, same
from hitl_graph.terms import Terms, Turn
from hitl_graph.voting import Standing, Vote, is_no, right

__all__ = ["able", "asked", "columns", "contents", "in_time", "left"]

_NAMED = 8
_ENDS = {"remind": "reminder", "escalate": "escalates", "reject": "rejected", "approve": "APPROVED"}


def asked(selectors: Sequence[str]) -> str:
    """Whom selectors mean, in words."""
    return "anybody" if tuple(selectors) == ("*",) else " or ".join(map(views.visible, selectors))


def left(until: datetime, now: datetime) -> str:
    """How long there is until then: `3h 12m`, `45s`; `overdue` when it has passed."""
    seconds = int((until - now).total_seconds())
    if seconds < 0:
        return "overdue"
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{seconds}s"


def in_time(turn: Turn, now: datetime) -> str:
    """The next turn, in a few words."""
    if (span := left(turn.at, now)) == "overdue":
        return f"{_ENDS[turn.then]}: due"
    return f"{_ENDS[turn.then]} in {span}"


def columns(request: Request, standing: Standing, now: datetime) -> tuple[str, str, str]:
    """In a list: who is asked or has claimed it, how many have agreed, what comes next."""
    people = asked(standing.reviewers)
    if standing.claims:
        taken = ", ".join(f"{views.visible(c.reviewer)} has it for {left(c.until, now)}" for c in standing.claims)
        people = taken if people == "anybody" else f"{people}; {taken}"
    votes = ""
    if standing.stages > 1 or standing.quorum > 1 or standing.votes:
        votes = f"{standing.quorum - standing.left} of {standing.quorum}"
        against = sum(is_no(request, vote.decision) for vote in standing.votes)
        votes += f", {against} against" if against else ""
        votes += f", stage {standing.stage + 1}/{standing.stages}" if standing.stages > 1 else ""
    return people, votes, in_time(standing.upcoming[0], now) if standing.upcoming else ""


def contents(
    out: Console, request: Request, standing: Standing, now: datetime, directory: Directory | None
) -> list[Text | str]:
    """On a card: all of it. Nothing where one answer of anybody is all that it takes."""
    lines: list[Text | str] = []
    if rows := [*_who(request, standing, directory), *_when(request, standing, now)]:
        lines += ["", Text("Who decides" if request.state == "pending" else "Who decided", style="bold")]
        lines += _rows(rows)
    if standing.votes and (request.terms is not None or len(standing.votes) > 1):
        lines += ["", Text("Votes", style="bold")]
        for vote in standing.votes:
            lines += _vote(out, request, standing, vote, now)
    if standing.delegations:
        lines += ["", Text("Given to somebody else", style="bold")]
        for step in standing.delegations:
            gone = "  (given back)" if step.back else ""
            head = f"{views.visible(step.by)} -> {views.visible(step.to)}, {views.clock(step.at)}{gone}"
            lines += views.quoted(out, [head], "  ")
            lines += views.quoted(out, views.block(step.comment), "      ") if step.comment else []
    return lines


def _rows(rows: Sequence[tuple[str, str]]) -> list[Text]:
    return [Text.assemble("  ", (f"{name:<9}", "cyan"), text) for name, text in rows]


def able(request: Request, standing: Standing, people: Iterable[Reviewer]) -> list[Reviewer]:
    """Who of these people can still add a vote."""
    spent = [name for vote in standing.votes for name in (vote.reviewer, vote.behalf or vote.reviewer)]
    found = [(who, right(request, who, (), standing.votes)) for who in people]
    return [who for who, by in found if by and by.selectors and not any(same(who.name, name) for name in spent)]


def _people(request: Request, standing: Standing, people: Iterable[Reviewer]) -> str:
    names = [views.visible(who.name) for who in able(request, standing, people)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more if names else "nobody in the directory may decide it"


def _who(request: Request, standing: Standing, directory: Directory | None) -> list[tuple[str, str]]:
    terms, rows = request.terms, list[tuple[str, str]]()
    if terms is not None and terms.names_people:
        if request.state == "pending":
            rows.append(("needed", views.visible(standing.missing)))
            rows += [("stage", f"{standing.stage + 1} of {standing.stages}")] if standing.stages > 1 else []
            rows += [("people", _people(request, standing, directory))] if isinstance(directory, Iterable) else []
        else:
            rows += [(f"stage {n + 1}", _stage(terms, n)) for n in range(len(terms.stages))]
        if terms.excluded:
            rows.append(("not", f"{', '.join(map(views.visible, terms.excluded))}: it is their own"))
        if terms.veto:
            rows.append(("veto", f"{asked(terms.veto)} can reject it alone"))
    return rows


def _stage(terms: Terms, number: int) -> str:
    stage = terms.stages[number]
    return f"{stage.quorum} of {asked(stage.reviewers or ('*',))}"


def _when(request: Request, standing: Standing, now: datetime) -> list[tuple[str, str]]:
    rows = [("claimed", _claim(claim, now)) for claim in standing.claims]
    for number, turn in enumerate(standing.upcoming):
        span = left(turn.at, now)
        when = f"{views.clock(turn.at)} ({'due' if span == 'overdue' else f'in {span}'})"
        rows.append(("then" if number else "next", f"{when}: {_turn(request, turn)}"))
    return rows


def _claim(claim: Claim, now: datetime) -> str:
    return f"by {views.visible(claim.reviewer)}, until {views.clock(claim.until)} ({left(claim.until, now)} left)"


def _turn(request: Request, turn: Turn) -> str:
    if turn.then == "remind":
        return "they are reminded" + (f", and {asked(turn.to)} told" if turn.to else "")
    if turn.then == "escalate":
        return f"{asked(turn.to)} may decide, too"
    word = turn.then if turn.then in request.allowed else "reject"
    means = f": {views.visible(request.labels[word])}" if word in request.labels else ""
    ends = "APPROVED without an answer" if word == "approve" else "rejected"
    return f"if nobody has decided, it is {ends}{means}"


def _vote(out: Console, request: Request, standing: Standing, vote: Vote, now: datetime) -> list[Text]:
    for_whom = f" for {views.visible(vote.behalf)}" if vote.behalf else ""
    stage = f" in stage {vote.stage + 1}" if standing.stages > 1 else ""
    when = f"{views.clock(vote.at)} ({views.age(vote.at, now)} ago), through {views.visible(vote.channel)}"
    head = f"{views.visible(vote.reviewer)}{for_whom}: {vote.decision.type}{stage}, {when}"
    lines = views.quoted(out, [head], "  ")
    decision = vote.decision
    if decision.args is not None and request.decision != decision:
        lines += views.quoted(out, views.lines_of(views.arguments(request, decision.args)), "      ")
    if decision.draft is not None and request.draft is not None and request.decision != decision:
        lines += reviews.changes(out, request.draft, decision.draft)
    if decision.message:
        lines += views.quoted(out, views.block(decision.message), "      ")
    if decision.value is not None:
        lines += views.quoted(out, views.value_lines(decision.value), "      ")
    return lines
