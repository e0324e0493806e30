"""Several requests at once: first a page that says what will happen to each, then each is decided by itself."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request as Visit
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hitl_graph.card import done, version
from hitl_graph.card.words import arguments
from hitl_graph.errors import HitlError
from hitl_graph.ledger import deciding, handling, requests
from hitl_graph.model import Decision, Request, approve, reject
from hitl_graph.reviewers import Reviewer, person, same
from hitl_graph.storage import Transaction
from hitl_graph.voting import Vote, in_hand, right, standing
from hitl_graph.web import seeing
from hitl_graph.web.door import Door, door_of
from hitl_graph.web.errors import problem_of
from hitl_graph.web.pages.listing import Row, rows_of
from hitl_graph.web.rendering import render
from hitl_graph.web.templating import link
from hitl_graph.web.visitors import Visitor, visitor_of

__all__ = ["MOST", "routes"]

MOST = 100
"""Requests that can be decided at once."""
_KINDS = {"approve": ("approval",), "reject": ("approval", "review")}

Many = Literal["reject", "approve"]


@dataclass(frozen=True)
class _Item:
    """One of the requests.

    Attributes:
        digest: Of what is shown.
        version: Of how far it is.
        why_not: Why it is left out; None if it is not.
    """

    row: Row
    args: dict[str, Any]
    digest: str
    version: str
    why_not: str | None


@dataclass(frozen=True)
class _Outcome:
    """What became of one of the requests."""

    row: Row
    recorded: bool
    says: str


async def _confirm(visit: Visit) -> Response:
    """What would happen; nothing is recorded."""
    picked, word = _picked(visit.query_params.getlist("pick")), _word(visit.query_params.get("word"))
    if word is None or not picked:
        return RedirectResponse(link(visit, "inbox"), status_code=303)
    items = await asyncio.to_thread(_shown, door_of(visit), visitor_of(visit), picked, word)
    return _confirming(visit, items, word)


async def _decide(visit: Visit) -> Response:
    """Decide each by itself, as it was shown; then say what became of each."""
    door, visitor = door_of(visit), visitor_of(visit)
    async with visit.form(max_fields=10 * MOST) as form:
        picked = _picked([value for value in form.getlist("pick") if isinstance(value, str)])
        given = {name: value for name, value in form.items() if isinstance(value, str)}
    word, message = _word(given.get("word")), given.get("message", "").strip()
    if word is None or not picked:
        return RedirectResponse(link(visit, "inbox"), status_code=303)
    decision = approve(message or None) if word == "approve" else reject(message)
    outcomes: list[_Outcome] = []
    for own in picked:
        found = await asyncio.to_thread(_items, door, visitor, [own], word)
        outcomes += [await _decided(door, visitor, item, decision, given) for item in found]
    return render(visit, "bulk_done.html", outcomes=outcomes, word=word, recorded=sum(o.recorded for o in outcomes))


async def _decided(door: Door, visitor: Visitor, item: _Item, decision: Decision, given: dict[str, str]) -> _Outcome:
    own = item.row.request.id
    if item.why_not is not None:
        return _Outcome(item.row, False, item.why_not)
    if given.get(f"version-{own}") != item.version:
        return _Outcome(item.row, False, "It changed while you looked; look at it again")
    digest = given.get(f"digest-{own}", "")
    try:
        after = await door.inbox.adecide(
            own, decision, reviewer=visitor.reviewer, digest=digest, version=item.version, channel="web"
        )
    except HitlError as exc:
        return _Outcome(item.row, False, problem_of(exc).detail)
    if after.state == "pending":
        missing = (await door.inbox.astanding(own)).missing
        return _Outcome(item.row, True, f"Your vote is recorded; it waits for {missing}")
    return _Outcome(item.row, True, done(after, decision).capitalize())


def _confirming(visit: Visit, items: Sequence[_Item], word: Many) -> Response:
    taken = [item for item in items if item.why_not is None]
    text = " ".join(f"{item.row.request.id} {item.digest} {item.version}" for item in taken)
    return render(
        visit, "bulk.html", word=word, taken=taken, left=[item for item in items if item.why_not is not None],
        version=hashlib.sha256(text.encode()).hexdigest()[:16], here=f"{link(visit, 'bulk')}?{visit.url.query}",
    )  # fmt: skip


def _word(given: str | None) -> Many | None:
    return "approve" if given == "approve" else "reject" if given == "reject" else None


def _picked(ids: Sequence[str]) -> list[str]:
    return [own for own in dict.fromkeys(ids) if own and all(c in "0123456789abcdef" for c in own)][:MOST]


def _shown(door: Door, visitor: Visitor, ids: Sequence[str], word: Many) -> list[_Item]:
    """As `_items`; the log says that they were shown."""
    items = _items(door, visitor, ids, word)
    for item in items:
        if item.why_not is None:
            door.inbox.seen(item.row.request, reviewer=visitor.reviewer, channel="web")
    return items


def _items(door: Door, visitor: Visitor, ids: Sequence[str], word: Many) -> list[_Item]:
    """Those of these requests that there are and that the visitor may see, in this order."""
    ledger, who = door.ledger, visitor.reviewer
    found = {request.id: request for request in ledger.read(_named, list(ids))}
    seen = seeing.visible(door, visitor, [found[own] for own in ids if own in found])
    votes = ledger.read(_votes, [request.id for request in seen]) if seen else {}
    away = [person(name, ledger.directory) for name in ledger.read(handling.deputised, ledger.now_ms(), who.name)]
    items: list[_Item] = []
    for row in rows_of(door, seen):
        request, given = row.request, votes[row.request.id]
        stands = standing(request, given, ledger.now_ms())
        why = _why_not(door, request, given, who, away, word)
        items.append(_Item(row, arguments(request), request.digest, version(request, stands), why))
    return items


def _named(tx: Transaction, ids: list[str]) -> list[Request]:
    return requests.select(tx, f"id IN ({','.join('?' * len(ids))})", ids)


def _votes(tx: Transaction, ids: list[str]) -> dict[str, tuple[Vote, ...]]:
    return deciding.votes_on(tx, ids)


def _why_not(
    door: Door, request: Request, votes: Sequence[Vote], who: Reviewer, away: Sequence[Reviewer], word: Many
) -> str | None:
    """Why it cannot be decided with others; None if it can."""
    if request.state != "pending":
        by = f" by {request.reviewer}" if request.reviewer else ""
        return f"It is {done(request, request.decision)}{by} already" if request.decision else f"It is {request.state}"
    if request.risk == "high":
        return "High risk: it has to be looked at by itself"
    if request.is_audit:
        return f"For {'a label' if request.is_label else 'an audit'}, say of each by itself whether it is right"
    if request.kind not in _KINDS[word] or (request.kind == "approval" and request.action is None):
        return {
            "review": "A draft: read it before it is delivered",
            "approval": "Several calls in one: open it to see each",
        }.get(request.kind, "It takes an answer of its own")
    if word not in request.allowed:
        return "It cannot be approved as it is" if word == "approve" else "It cannot be rejected"
    if any(same(name, who.name) for vote in votes for name in (vote.reviewer, vote.behalf or vote.reviewer)):
        return "You have answered it already"
    if right(request, who, away, votes) is None:
        return "You may not decide it"
    if claims := in_hand(request, votes, who.name, door.ledger.clock()):
        return f"{', '.join(claim.reviewer for claim in claims)} has it in hand"
    return None


routes = [
    Route("/bulk", _confirm, name="bulk"),
    Route("/bulk", _decide, methods=["POST"], name="bulk_decide"),
]
