"""`hitl claim`, `hand-back`, `delegate`, `take-back`, `away`, `back`, `whoami`."""

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.text import Text

from hitl_graph.card import words
from hitl_graph.cli import queries, views
from hitl_graph.cli.app import USAGE, As, Command, Db, Failure, Json, app, emit, note, open_ledger, reviewer_name
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, handling
from hitl_graph.model import Request
from hitl_graph.reviewers import person, same

__all__: list[str] = []

_Id = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or the beginning of it.")]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PAGE = 1000


@app.command("claim", cls=Command)
def claim_request(
    request_id: _Id,
    lease: Annotated[str, typer.Option("--for", metavar="TIME", help="For how long, as 30m or 2h.")] = "15m",
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Take a request in hand: nobody else decides it meanwhile, unless more people are needed."""
    who, span = reviewer_name(reviewer), _span(lease)
    with open_ledger(db) as ledger:
        found = queries.find(ledger, request_id)
        try:
            request = Inbox(ledger).claim(found.id, reviewer=who, lease=span)
        except ValueError as exc:
            raise Failure(USAGE, f"--for {lease}: {exc}; nothing was recorded") from exc
        until = next(c.until for c in Inbox(ledger).standing(request.id).claims if same(c.reviewer, who))
        _told(ledger, request, f"Claimed as {who} until {views.clock(until)}: {views.what(request)}")


@app.command("hand-back", cls=Command)
def hand_back_request(request_id: _Id, reviewer: As = None, db: Db = "agent.db") -> None:
    """Give up your claim, and a vote that somebody gave you."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        request = Inbox(ledger).hand_back(queries.find(ledger, request_id).id, reviewer=who)
        _told(ledger, request, f"Handed back as {who}: {views.what(request)}")


@app.command("delegate", cls=Command)
def delegate_request(
    request_id: _Id,
    to: Annotated[str, typer.Argument(metavar="NAME", help="Who gets your vote.")],
    message: Annotated[str | None, typer.Option("-m", "--message", help="Why, for the record.")] = None,
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Give your vote on a request to somebody else. It stays on record whose it is."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        _warn_of_a_stranger(ledger, to)
        request = Inbox(ledger).delegate(queries.find(ledger, request_id).id, to, reviewer=who, comment=message)
        _told(ledger, request, f"{who} gave their vote to {views.visible(to)}: {views.what(request)}")


@app.command("take-back", cls=Command)
def take_back_request(request_id: _Id, reviewer: As = None, db: Db = "agent.db") -> None:
    """Take back a vote that you gave to somebody and that was not used."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        request = Inbox(ledger).take_back(queries.find(ledger, request_id).id, reviewer=who)
        _told(ledger, request, f"Taken back as {who}: {views.what(request)}")


@app.command("away", cls=Command)
def note_absence(
    deputy: Annotated[str | None, typer.Option("--deputy", metavar="NAME", help="Who decides in your place.")] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="WHEN", help="The last day (2026-12-24), an instant, or a time such as 3d."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="WHEN", help="The first day, or an instant. Default: now.")
    ] = None,
    reviewer: As = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Be out of office: your deputy may decide what you may. Without options: who is away."""
    with open_ledger(db) as ledger:
        inbox = Inbox(ledger)
        if deputy is None and until is None and start is None:
            _list_absences(ledger, inbox, as_json)
            return
        if deputy is None or until is None:
            raise Failure(USAGE, "give --deputy NAME and --until WHEN; nothing was recorded")
        now = ledger.clock()
        _warn_of_a_stranger(ledger, deputy)
        try:
            absence = inbox.leave(
                reviewer=reviewer_name(reviewer),
                deputy=deputy,
                until=_instant(until, now, ends=True),
                start=_instant(start, now) if start else None,
            )
        except ValueError as exc:
            raise Failure(USAGE, f"{exc}; nothing was recorded") from exc
        if as_json:
            emit(absence.model_dump(mode="json"))
            return
        span = f"from {views.clock(absence.start)} until {views.clock(absence.until)}"
        who, instead = views.visible(absence.reviewer), views.visible(absence.deputy)
        print(f"{who} is away {span}; {instead} may decide in their place. `hitl back` ends it.")


@app.command("back", cls=Command)
def end_absence(reviewer: As = None, db: Db = "agent.db") -> None:
    """Be back: your absences end, also those that have not begun."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        ended = Inbox(ledger).returned(reviewer=who)
        print(f"{who} is back." if ended else f"{who} was not away.")


@app.command("whoami", cls=Command)
def tell_who(reviewer: As = None, db: Db = "agent.db", as_json: Json = False) -> None:
    """What the directory knows of you, and how much waits for you."""
    name = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        known = ledger.directory(name) if ledger.directory is not None else None
        who = person(name, ledger.directory)
        deputised = ledger.read(handling.deputised, ledger.now_ms(), who.name)
        mine = len(Inbox(ledger).pending(reviewer=who, limit=_PAGE))
        if as_json:
            emit(
                {
                    "name": who.name, "known": known is not None, "roles": sorted(who.roles),
                    "groups": sorted(who.groups), "deputy_of": deputised, "waiting": mine,
                }
            )  # fmt: skip
            return
        rows = [
            ("name", views.visible(who.name)),
            ("roles", ", ".join(map(views.visible, sorted(who.roles))) or "-"),
            ("groups", ", ".join(map(views.visible, sorted(who.groups))) or "-"),
        ]
        rows += [("deputy of", ", ".join(map(views.visible, deputised)))] if deputised else []
        many = f"{_PAGE} or more" if mine >= _PAGE else str(mine)
        rows.append(("waiting", f"{many} that you may decide now" + (": hitl inbox --mine" if mine else "")))
        views.show(views.console(), views.pairs(rows))
        if ledger.directory is None:
            note("No directory is given, so nobody has roles: --directory FILE or HITL_DIRECTORY.")
        elif known is None:
            note(f"The directory does not know {views.visible(name)}.")


def _list_absences(ledger: Ledger, inbox: Inbox, as_json: bool) -> None:
    found, now = inbox.absences(), ledger.clock()
    if as_json:
        for absence in found:
            emit(absence.model_dump(mode="json"))
        return
    if not found:
        note("Nobody is away.")
        return
    rows = [
        (
            views.visible(a.reviewer),
            views.visible(a.deputy),
            views.clock(a.start),
            views.clock(a.until),
            "now" if a.start <= now else f"in {words.left(a.start, now)}",
        )
        for a in found
    ]
    out = views.console()
    views.show(out, [views.table(out, ("AWAY", "DEPUTY", "FROM", "UNTIL", ""), rows, whole=(2, 3, 4), main=0)])


def _told(ledger: Ledger, request: Request, done: str) -> None:
    standing = Inbox(ledger).standing(request.id)
    short = queries.short_ids(ledger, [request.id])[request.id]
    needed = f"; needed: {views.visible(standing.missing)}" if standing.missing else ""
    lines: list[Text | str] = [done, f"Request {short} of thread {views.visible(request.thread_id)}{needed}."]
    views.show(views.console(), lines)


def _warn_of_a_stranger(ledger: Ledger, name: str) -> None:
    """A misspelt name is noticed, though it is no error: the directory need not know everybody."""
    if ledger.directory is not None and ledger.directory(name) is None:
        note(f"The directory does not know {views.visible(name)}; is the name right?")


def _span(text: str) -> timedelta:
    parts = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if parts is None:
        raise Failure(USAGE, f"{text!r} is no time; write 30m, 2h or 1d; nothing was recorded")
    return timedelta(seconds=int(parts[1]) * _UNITS[parts[2]])


def _instant(text: str, now: datetime, *, ends: bool = False) -> datetime:
    """A day, an instant (local, unless it says more), or a time from now. A day that ends something counts whole."""
    if re.fullmatch(r"\d{1,6}[smhdw]", text.strip()):
        return now + _span(text)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Failure(
            USAGE, f"{text!r} is no time; write 2026-12-24, 2026-12-24T18:00 or 3d; nothing was recorded"
        ) from None
    if ends and re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
        found += timedelta(days=1)
    return found.astimezone() if found.tzinfo is None else found
