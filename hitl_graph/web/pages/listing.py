"""The page with the list of what waits: filters, search, saved views."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request as Visit
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from hitl_graph.card import People, heading, left, what
from hitl_graph.card.people import people_of
from hitl_graph.card.words import sort
from hitl_graph.errors import UnknownRequestError
from hitl_graph.facts import Situation, facts_of
from hitl_graph.ledger import deciding, events, requests, views
from hitl_graph.ledger.views import View
from hitl_graph.model import Request, from_ms
from hitl_graph.reviewers import Reviewer, selects
from hitl_graph.storage import Transaction
from hitl_graph.visible import visible
from hitl_graph.voting import Standing, Vote, standing
from hitl_graph.web.door import Door, door_of
from hitl_graph.web.filters import AGES, KINDS, MINE, RISKS, Wanted
from hitl_graph.web.rendering import render
from hitl_graph.web.sharing import sharing_of
from hitl_graph.web.templating import link
from hitl_graph.web.visitors import Visitor, visitor_of

__all__ = ["PAGE", "Row", "routes", "rows_of"]

PAGE = 50
"""Requests a page."""
_COUNTED = 10_000  # more are not counted
_MENU = 200  # entries
_URGENT = 3600  # seconds
_VARY = {"vary": "x-part, hx-request"}


@dataclass(frozen=True)
class Row:
    """One request in the list, in words.

    Attributes:
        verb: What is wanted, in a word; `what` says of what.
        name: The tool, where `what` begins with it.
        urgent: What comes when nobody decides comes within the hour.
    """

    request: Request
    verb: str
    heading: str
    name: str
    what: str
    people: People
    taken: str
    urgent: bool


@dataclass(frozen=True)
class _Listing:
    """A page of the list.

    Attributes:
        own: Which of the saved views this is.
        earlier: The query of the page before; None where this is the first one.
        later: The query of the next page; None where this is the last one.
        count: How many there are in all; None where it is not known.
        seq: The position in the log before it was read.
    """

    rows: list[Row]
    earlier: str | None
    later: str | None
    count: int | None
    more: bool
    views: list[View]
    own: View | None
    tools: list[tuple[str, str]]
    assignees: list[tuple[str, str]]
    seq: int


async def _inbox(visit: Visit) -> Response:
    """The list, or for a script (`X-Part: list`) its changing part."""
    visitor, wanted = visitor_of(visit), Wanted.of(visit.query_params)
    try:
        if visit.headers.get("x-part") != "list":
            return await _drawn(visit, wanted, "list.html", whole="hx-request" not in visit.headers)

        async def draw() -> bytes:
            return bytes((await _drawn(visit, wanted, "_list.html", whole=False)).body)

        who = visitor.reviewer if _is_personal(door_of(visit), wanted) else None
        alike = (link(visit, "inbox"), wanted, "decide" in visitor.scopes, who)
        part = await sharing_of(visit).get(alike, draw)  # when something happens, everybody who watches comes at once
        return HTMLResponse(part, headers=_VARY)
    except UnknownRequestError:  # the request of the cursor is gone
        return RedirectResponse(f"{link(visit, 'inbox')}?{wanted.query}", status_code=303)


async def _drawn(visit: Visit, wanted: Wanted, template: str, *, whole: bool) -> Response:
    listing = await asyncio.to_thread(_look, door_of(visit), visitor_of(visit), wanted, whole=whole)
    ages = [(name, words) for name, (words, *_) in AGES.items()]
    return render(
        visit, template, listing=listing, wanted=wanted, KINDS=KINDS, RISKS=RISKS, AGES=ages, MINE=MINE, headers=_VARY
    )


def _is_personal(door: Door, wanted: Wanted) -> bool:
    return door.sees == "mine" or wanted.who == MINE


async def _save_view(visit: Visit) -> Response:
    """Save, rename or delete one of one's own views; then back to the list."""
    door, owner = door_of(visit), visitor_of(visit).reviewer.name
    async with visit.form() as form:
        given = {name: value for name, value in form.items() if isinstance(value, str)}
    wanted = Wanted.of_query(given.get("query", ""))
    try:
        await asyncio.to_thread(door.ledger.database.write, lambda tx: _change(tx, door.ledger.now_ms(), owner, given))
    except (ValueError, LookupError) as exc:
        return render(visit, "refused.html", status_code=422, why=str(exc), back=wanted.query)
    query = "" if given.get("do") == "delete" else f"?{wanted.query}"
    return RedirectResponse(link(visit, "inbox") + query, status_code=303)


def _change(tx: Transaction, now_ms: int, owner: str, given: dict[str, str]) -> None:
    name = given.get("name", "")
    match given.get("do"):
        case "save":
            views.save(tx, now_ms, owner, name, Wanted.of_query(given.get("query", "")).query)
        case "rename":
            views.rename(tx, owner, name, given.get("new", ""))
        case "delete":
            views.delete(tx, owner, name)
        case other:
            raise ValueError(f"a view can be saved, renamed or deleted, not {other!r}")


def _look(door: Door, visitor: Visitor, wanted: Wanted, *, whole: bool) -> _Listing:
    inbox, ledger = door.inbox, door.ledger
    seq = ledger.read(events.last)
    filters, newest = wanted.filters(ledger.clock()), wanted.sort == "newest"
    reviewer = visitor.reviewer if _is_personal(door, wanted) else None
    backwards, cursor = bool(wanted.before), wanted.before or wanted.after or None
    found = inbox.pending(reviewer=reviewer, newest_first=newest != backwards, limit=PAGE + 1, after=cursor, **filters)
    more, found = len(found) > PAGE, found[:PAGE]
    found = found[::-1] if backwards else found
    is_first, is_last = not (wanted.after or (backwards and more)), not (more or backwards)
    is_cheap = reviewer is None and not filters.get("assignee") and not filters.get("search")
    count = inbox.count(limit=_COUNTED, **filters) if is_cheap else len(found) if is_first and is_last else None
    tools, assignees = _menus(door, reviewer) if whole else ([], [])
    saved = ledger.read(views.listed, visitor.reviewer.name)
    return _Listing(
        rows=rows_of(door, found),
        earlier=wanted.at(before=found[0].id) if found and not is_first else None,
        later=wanted.at(after=found[-1].id) if found and not is_last else None,
        count=count,
        more=count == _COUNTED,
        views=saved,
        own=next((view for view in saved if view.query == wanted.query), None),
        tools=tools,
        assignees=assignees,
        seq=seq,
    )


def _menus(door: Door, reviewer: Reviewer | None) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The tools and the assignees that there are to choose from, each as value and words."""
    tools = door.inbox.facets(reviewer=reviewer, limit=1 if reviewer is None else 1000).tools
    sets = door.ledger.read(requests.asked_of, lambda selector: reviewer is None or selects(selector, reviewer))
    named = sorted({selector for stored in sets for selector in json.loads(stored)} - {"*"})
    return [(name, name) for name in [*tools][:_MENU]], [(name, f"For {name}") for name in named[:_MENU]]


def rows_of(door: Door, found: Sequence[Request]) -> list[Row]:
    """Requests in words. Reads their votes."""
    ledger = door.ledger
    votes, now_ms = ledger.read(_votes, [request.id for request in found]) if found else {}, ledger.now_ms()
    now = from_ms(now_ms)
    return [_row(request, standing(request, votes[request.id], now_ms), now) for request in found]


def _votes(tx: Transaction, ids: list[str]) -> dict[str, tuple[Vote, ...]]:
    return deciding.votes_on(tx, ids)


def _row(request: Request, stands: Standing, now: datetime) -> Row:
    coming = stands.upcoming[0] if stands.upcoming else None
    name = visible(request.action.name) if request.action else ""
    return Row(
        request=request,
        verb=_verb(request),
        heading=heading(request),
        name=name if (said := what(request)).startswith(name) else "",
        what=said,
        people=people_of(request, stands, now),
        taken=", ".join(f"{visible(claim.reviewer)} has it for {left(claim.until, now)}" for claim in stands.claims),
        urgent=coming is not None and coming.then != "remind" and (coming.at - now).total_seconds() < _URGENT,
    )


def _verb(request: Request) -> str:
    facts = facts_of(request)
    if request.is_audit:
        return sort(request).capitalize()
    if isinstance(facts, Situation):
        return "Failed" if facts.failure is not None else "Stuck"
    return {"approval": "Call", "review": "Deliver"}.get(request.kind, "Asks")


routes = [
    Route("/", _inbox, name="inbox"),
    Route("/views", _save_view, methods=["POST"], name="views"),
]
