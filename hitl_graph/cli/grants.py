"""`hitl grants`: standing permissions, and what each let through."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from hitl_graph.cli import views
from hitl_graph.cli.app import (
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    Listing,
    app,
    emit,
    note,
    open_ledger,
    reviewer_name,
)
from hitl_graph.grants import Budget, Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.ledger.grants import Given, Use
from hitl_graph.model import Request

__all__ = ["For", "Limit", "Uses", "described", "duration", "given_with", "made"]

For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="For how long: 30m, 12h, 7d.")]
Uses = Annotated[int | None, typer.Option("--uses", min=1, metavar="N", help="For so many calls.")]
Limit = Annotated[
    str | None,
    typer.Option("--budget", metavar="ARG<=SUM/DURATION", help="Up to a sum over one argument: 'amount<=500/1d'."),
]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHOWN = 5
"""So many calls of each are shown to people."""

group = typer.Typer(cls=Listing, help="Standing permissions: what is not asked about any more.")
app.add_typer(group, name="grants")


@group.command("list", cls=Command)
def list_grants(
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """What is allowed for good, by whom, and what it let through."""
    with open_ledger(db) as ledger:
        inbox, now = Inbox(ledger), ledger.clock()
        found = [given for given in inbox.grants() if everything or given.status == "live"]
        if as_json:
            for given in found:
                emit(_row(given, inbox.uses(given.id)))
            return
        if not found:
            note("No standing permission is live." + ("" if everything else " --all shows those that have ended."))
            return
        lines = list[Text | str]()
        for given in found:
            lines += _card(given, inbox.uses(given.id, limit=_SHOWN), now)
    views.show(views.console(), lines[:-1])


@group.command("give", cls=Command)
def give_grant(
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Name of a tool, or a glob.")],
    args: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=GLOB", help="What an argument has to be; may be given again."),
    ] = None,
    thread: Annotated[str | None, typer.Option("--thread", help="Only in this thread.")] = None,
    requester: Annotated[str | None, typer.Option("--requester", help="Only on behalf of this person.")] = None,
    graph: Annotated[str | None, typer.Option("--graph", help="Only in the graph of this name.")] = None,
    lasting: For = None,
    uses: Uses = None,
    budget: Limit = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Why.")] = None,
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Allow calls for good without being asked first. It is worth what your own answer would be."""
    who = reviewer_name(reviewer)
    patterns = dict[str, Any]()
    for one in args or ():
        name, equals, pattern = one.partition("=")
        if not name or not equals:
            raise Failure(USAGE, f"--arg takes NAME=GLOB, not {one!r}; nothing was recorded")
        patterns[name] = pattern
    scope: dict[str, Any] = {
        "tool": tool,
        "args": patterns or None,
        "thread_id": thread,
        "requester": requester,
        "graph": graph,
    }
    with open_ledger(db) as ledger:
        grant = made(lambda: Grant(**scope), lasting, uses, budget)
        given = Inbox(ledger).grant(grant, reviewer=who, reason=message)
        print(f"Given as {views.visible(who)}: {described(given.grant)}.")
        print(f"Standing permission {given.id[:8]}; `hitl grants revoke {given.id[:8]} -m WHY` ends it.")


@group.command("revoke", cls=Command)
def revoke_grant(
    grant_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the beginning of it.")],
    message: Annotated[str, typer.Option("-m", "--message", help="Why. It stays on record.")],
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """End a standing permission at once, for queued and running threads, too. What has started has started."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        given = Inbox(ledger).revoke(grant_id, reviewer=who, reason=message)
    by, at = views.visible(given.revoked_by or ""), views.clock(given.revoked_at)
    print(f"Standing permission {given.id[:8]} ended at {at} by {by}: {described(given.grant)}.")
    print(f"It let {_calls(given.used)} through.")


def made(make: Callable[[], Grant], lasting: str | None, uses: int | None, budget: str | None) -> Grant:
    """A grant with what was typed for how long, how often and how much."""
    try:
        limits = {"uses": uses, "budget": _budget(budget) if budget else None}
        until = duration(lasting, "--for") if lasting else None
        return Grant.model_validate({**make().model_dump(), **limits, "expires_in": until})
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise Failure(USAGE, f"this is no standing permission: {where} {error['msg']}; nothing was recorded") from exc
    except ValueError as exc:
        raise Failure(USAGE, f"this is no standing permission: {exc}; nothing was recorded") from exc


def given_with(ledger: Ledger, decided: Request) -> list[Text | str]:
    """What was allowed for good with a decision."""
    if decided.decision is None or decided.decision.grant is None:
        return []
    given = next(given for given in Inbox(ledger).grants() if given.request_id == decided.id)
    return [
        f"From now on without asking: {described(given.grant)}. `hitl grants revoke {given.id[:8]} -m WHY` ends it."
    ]


def duration(text: str, option: str) -> timedelta:
    """A duration such as `30m`."""
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if found is None or not int(found[1]):
        raise Failure(USAGE, f"{option} takes a duration such as 30m, 12h or 7d, not {text!r}; nothing was recorded")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def described(grant: Grant) -> str:
    """What a grant covers, in words."""
    parts = [views.visible(grant.tool or "?")]
    if grant.args:
        shown = ", ".join(f"{views.visible(name)}={views.one_line(value)}" for name, value in grant.args.items())
        parts.append(f"{'exactly ' if grant.only else ''}with {shown}")
    for word, value in (("in thread", grant.thread_id), ("for", grant.requester), ("in graph", grant.graph)):
        parts += [f"{word} {views.visible(value)}"] if value else []
    parts += [f"in version {views.visible(grant.version)}"] if grant.version else []
    parts += ["while its code stays the same"] if grant.implementation else []
    if grant.budget:
        per = f" in {_span(grant.budget.per)}" if grant.budget.per else ""
        parts.append(f"while {views.visible(grant.budget.arg)} adds up to at most {grant.budget.limit}{per}")
    parts += [_calls(grant.uses)] if grant.uses else []
    parts += [f"until {views.clock(grant.expires_at)}"] if grant.expires_at else []
    return ", ".join(parts)


def _budget(text: str) -> Budget:
    found = re.fullmatch(r"\s*([^<=\s]+)\s*<=\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\w+))?\s*", text)
    if found is None:
        raise Failure(
            USAGE, f"--budget takes ARG<=SUM/DURATION such as 'amount<=500/1d', not {text!r}; nothing was recorded"
        )
    return Budget(arg=found[1], limit=Decimal(found[2]), per=duration(found[3], "--budget") if found[3] else None)


def _span(per: timedelta) -> str:
    seconds = int(per.total_seconds())
    return next(
        f"{seconds // size}{unit}"
        for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
        if not seconds % size
    )


def _calls(count: int) -> str:
    return f"{count} call{'' if count == 1 else 's'}"


def _card(given: Given, uses: list[Use], now: datetime) -> list[Text | str]:
    why = f" ({given.revoked_why})" if given.revoked_why else ""
    status = given.status + (f" by {given.revoked_by}{why}" if given.revoked_by else "")
    by, ago = views.visible(given.given_by), views.age(given.given_at, now)
    lines: list[Text | str] = [Text.assemble((given.id[:8], "cyan"), f"  {described(given.grant)}")]
    said = f": {views.visible(given.note)}" if given.note else ""
    lines.append(f"    {views.visible(status)}; given by {by} {ago} ago{said}")
    spent = f", {_amount(given)} of {given.grant.budget.limit} spent" if given.grant.budget else ""
    lines.append(f"    let {_calls(given.used)} through{spent}" + (":" if uses else ""))
    for use in uses:
        args = "(redacted)" if use.args is None else views.call(use.tool, use.args)
        lines.append(f"      {views.clock(use.at)}  {use.state:<8}  thread {views.visible(use.thread_id)}  {args}")
    if given.used > len(uses):
        lines.append(f"      and {given.used - len(uses)} more; --json has the last 50")
    return [*lines, ""]


def _amount(given: Given) -> str:
    return f"{float(given.spent):g}"


def _row(given: Given, uses: list[Use]) -> dict[str, Any]:
    def at(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat().replace("+00:00", "Z")

    return {
        "id": given.id,
        "status": given.status,
        "grant": given.grant.model_dump(mode="json", exclude_none=True),
        "given_by": given.given_by,
        "people": list(given.people),
        "given_at": at(given.given_at),
        "request_id": given.request_id,
        "revoked_at": at(given.revoked_at),
        "revoked_by": given.revoked_by,
        "revoked_why": given.revoked_why,
        "note": given.note,
        "used": given.used,
        "spent": _amount(given),
        "uses": [
            {
                "at": at(use.at), "thread_id": use.thread_id, "tool": use.tool, "args": use.args, "amount": use.amount,
                "state": use.state, "permit_id": use.permit_id,
            }
            for use in uses
        ],
    }  # fmt: skip
