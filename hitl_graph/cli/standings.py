"""How far a request is, for people: who may decide, who has, who is still missing, and what comes when nobody does."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from hitl_graph.card import words
from hitl_graph.card.people import people_of, votes
from hitl_graph.cli import reviews, views
from hitl_graph.handling import Claim
from hitl_graph.model import Request
from hitl_graph.reviewers import Directory, Reviewer, same
from hitl_graph.voting import Standing, Vote, right

__all__ = ["able", "columns", "contents"]

_NAMED = 8


def columns(request: Request, standing: Standing, now: datetime) -> tuple[str, str, str]:
    """In a list: who is asked or has claimed it, how many have agreed, what comes next."""
    people = words.asked(standing.reviewers)
    if standing.claims:
        taken = ", ".join(f"{views.visible(c.reviewer)} has it for {words.left(c.until, now)}" for c in standing.claims)
        people = taken if people == "anybody" else f"{people}; {taken}"
    return people, votes(request, standing), words.in_time(standing.upcoming[0], now) if standing.upcoming else ""


def contents(
    out: Console, request: Request, standing: Standing, now: datetime, directory: Directory | None
) -> list[Text | str]:
    """On a card: all of it. Nothing where one answer of anybody is all that it takes."""
    lines: list[Text | str] = []
    if rows := [*_who(request, standing, now, directory), *_when(request, standing, now)]:
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


def _who(request: Request, standing: Standing, now: datetime, directory: Directory | None) -> list[tuple[str, str]]:
    people = people_of(request, standing, now)
    if not people.named:
        return []
    if request.state != "pending":
        return list(people.rules)
    rows = [("needed", views.visible(people.missing)), *people.rules]
    if isinstance(directory, Iterable):
        at = 2 if standing.stages > 1 else 1
        rows.insert(at, ("people", _people(request, standing, directory)))
    return rows


def _when(request: Request, standing: Standing, now: datetime) -> list[tuple[str, str]]:
    rows = [("claimed", _claim(claim, now)) for claim in standing.claims]
    for number, coming in enumerate(standing.upcoming):
        span = words.left(coming.at, now)
        when = f"{views.clock(coming.at)} ({'due' if span == 'overdue' else f'in {span}'})"
        rows.append(("then" if number else "next", f"{when}: {words.turn(request, coming)}"))
    return rows


def _claim(claim: Claim, now: datetime) -> str:
    return f"by {views.visible(claim.reviewer)}, until {views.clock(claim.until)} ({words.left(claim.until, now)} left)"


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
