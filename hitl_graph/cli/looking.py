"""`hitl inbox` and `hitl show`."""

from collections.abc import Callable
from typing import Annotated, get_args

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hitl_graph.card.precedents import precedents_of
from hitl_graph.card.words import sort
from hitl_graph.cli import queries, standings, views
from hitl_graph.cli.app import (
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    answers_at,
    app,
    emit,
    note,
    open_ledger,
    reviewer_name,
)
from hitl_graph.cli.cards import card, facts
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.ledger.waiting import Filters
from hitl_graph.model import Kind, Request, Risk, Route

__all__: list[str] = []


@app.command(cls=Command)
def inbox(
    ctx: typer.Context,
    db: Db = "agent.db",
    thread: Annotated[str | None, typer.Option(help="Only of this thread.")] = None,
    kind: Annotated[str | None, typer.Option(help="approval, review, escalation or question.")] = None,
    tool: Annotated[str | None, typer.Option(metavar="NAME", help="Only calls of this tool.")] = None,
    risk: Annotated[str | None, typer.Option(help="low, medium or high, as a rule says.")] = None,
    route: Annotated[
        str | None, typer.Option(help="How it came to people: policy, unsure, audit or query; see learning.")
    ] = None,
    search: Annotated[str | None, typer.Option(metavar="WORDS", help="Only with all of these words in it.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only what you may decide now; see hitl whoami.")] = False,
    reviewer: As = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this request.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show what changes. Ctrl-C ends it.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    as_json: Json = False,
) -> None:
    """What waits for a person, oldest first.

    With --watch --json each request is one line, once, as it comes.
    """
    if kind is not None and kind not in (kinds := get_args(Kind)):
        raise Failure(USAGE, f"--kind is one of {', '.join(kinds)}, not {kind!r}")
    if risk is not None and risk not in (risks := get_args(Risk)):
        raise Failure(USAGE, f"--risk is one of {', '.join(risks)}, not {risk!r}")
    if route is not None and route not in (routes := get_args(Route)):
        raise Failure(USAGE, f"--route is one of {', '.join(routes)}, not {route!r}")
    wanted: Filters = {
        "kind": kind, "thread_id": thread, "tool": tool, "risk": risk, "route": route, "search": search,
    }  # fmt: skip
    out, who = views.console(), reviewer_name(reviewer) if mine else None
    if watch and not as_json and not out.is_terminal:
        raise Failure(USAGE, "--watch draws on a terminal; for a program use --watch --json")
    with open_ledger(db) as ledger:
        cursor = queries.find(ledger, after).id if after else None

        def look(rows: int) -> list[Request]:
            return Inbox(ledger).pending(reviewer=who, limit=rows, after=cursor, **wanted)

        if watch:
            try:
                (_stream if as_json else _watch)(ledger, out, look, limit, interval)
            except KeyboardInterrupt:
                return
        waiting = look(limit + 1)
        if as_json:
            known = queries.standings(ledger, waiting[:limit])
            for request in waiting[:limit]:
                emit(facts(request, known[request.id]))
        elif waiting:
            views.show(out, [_listing(ledger, out, waiting[:limit])])
        elif who is not None:
            note(f"Nothing waits for {views.visible(who)}.")
        else:
            note("Nothing waits." if not (any(wanted.values()) or after) else "Nothing waits that fits these options.")
        if len(waiting) > limit and not as_json:
            last = queries.short_ids(ledger, [waiting[limit - 1].id])[waiting[limit - 1].id]
            note(f"There are more: hitl inbox --after {last}{answers_at(ctx, db)}")


def _listing(ledger: Ledger, out: Console, waiting: list[Request]) -> Text:
    now, short = ledger.clock(), queries.short_ids(ledger, [request.id for request in waiting])
    known = queries.standings(ledger, waiting)
    rows = [
        (
            short[r.id],
            views.age(r.created_at, now),
            views.visible(r.thread_id),
            sort(r),
            r.risk or "-",
            views.what(r),
            views.visible(r.reason) or "-",
            *(cell or "-" for cell in standings.columns(r, known[r.id], now)),
        )
        for r in waiting
    ]
    headers = ["ID", "AGE", "THREAD", "KIND", "RISK", "WANTS", "WHY", "WHO", "VOTES", "NEXT"]
    plain = {"RISK": "-", "WHO": "anybody", "VOTES": "-", "NEXT": "-"}
    kept = [n for n, name in enumerate(headers) if name not in plain or any(row[n] != plain[name] for row in rows)]
    whole = [n for n, at in enumerate(kept) if headers[at] in ("ID", "AGE", "KIND", "RISK", "VOTES", "NEXT")]
    return views.table(
        out,
        [headers[n] for n in kept],
        [[row[n] for n in kept] for row in rows],
        whole=whole,
        main=kept.index(headers.index("WANTS")),
    )


def _watch(ledger: Ledger, out: Console, look: Callable[[int], list[Request]], limit: int, interval: float) -> None:
    def screen() -> Group:
        room = min(limit, max(1, out.height - 4))  # title, header, what is left out, and the cursor's line
        waiting = look(limit + 1)
        title = Text(f"{len(waiting)} waiting" if len(waiting) <= limit else f"more than {limit} waiting", style="bold")
        title.append(f"   {views.clock(ledger.clock())}   Ctrl-C ends", style="dim")
        title.truncate(out.width, overflow="ellipsis")
        if not waiting:
            return Group(title, Text("Nothing waits."))
        left = len(waiting) - room
        return Group(
            title,
            _listing(ledger, out, waiting[:room]),
            *([Text(f"... and {left} more", style="dim")] if left > 0 else []),
        )

    with (
        ledger.database.watch("inbox") as news,
        Live(screen(), console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        while True:
            news.wait(interval)
            live.update(screen(), refresh=True)


def _stream(ledger: Ledger, out: Console, look: Callable[[int], list[Request]], limit: int, interval: float) -> None:
    del out, limit
    told = set[str]()
    with ledger.database.watch("inbox") as news:
        while True:
            waiting = look(1_000_000)
            new = [request for request in waiting if request.id not in told]
            known = queries.standings(ledger, new)
            for request in new:
                emit(facts(request, known[request.id]))
            told = {request.id for request in waiting}
            news.wait(interval)


@app.command(cls=Command)
def show(
    ctx: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    db: Db = "agent.db",
    alike: Annotated[
        bool, typer.Option("--alike", help="With what people decided about requests like it, one by one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One request in full: what will happen, every argument, and how to answer."""
    with open_ledger(db) as ledger:
        request = queries.find(ledger, request_id)
        ran = [row for row in ledger.executed(request.thread_id) if row["request_id"] == request.id]
        standing = queries.standings(ledger, [request])[request.id]
        if as_json:
            emit(facts(request, standing) | {"executed": ran})
            return
        out = views.console()
        short = queries.short_ids(ledger, [request.id])[request.id]
        here, people = answers_at(ctx, db), ledger.directory
        found = (
            precedents_of(request, Inbox(ledger).precedents(request)) if request.state == "pending" or alike else None
        )
        now = ledger.clock()
        views.show(out, card(out, request, standing, ran, now, short, here, people, found, all_alike=alike))
