"""What lets somebody in: their sessions and API tokens; of others, for those who may manage them."""

import asyncio
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hitl_graph.errors import CredentialError
from hitl_graph.ledger import credentials
from hitl_graph.ledger.credentials import SCOPES, Credential, Identity, Scope
from hitl_graph.reviewers import person, same
from hitl_graph.web.door import door_of
from hitl_graph.web.login import way_on
from hitl_graph.web.rendering import render
from hitl_graph.web.visitors import Visitor, visitor_of

__all__ = ["routes"]

_LONGEST = 366


async def _show(request: Request) -> Response:
    return await _page(request)


async def _create(request: Request) -> Response:
    visitor, door = visitor_of(request), door_of(request)
    if (refused := await _by_hand(request)) is not None:
        return refused
    async with request.form() as form:
        scopes = frozenset[Scope](scope for scope in SCOPES if scope in form.getlist("scope"))
        label, days = str(form.get("label", "")).strip()[:100], str(form.get("days", "")).strip()
    if not scopes or not scopes <= visitor.scopes:
        return await _page(
            request, status=422, problem="Choose at least one scope; those that you do not have cannot be given on."
        )
    if not days.isdecimal() or not 1 <= int(days[:9]) <= _LONGEST:
        return await _page(request, status=422, problem=f"Say for how many days it shall hold, {_LONGEST} at most.")
    identity = await asyncio.to_thread(_identity, request, visitor, scopes)
    secret, _ = await asyncio.to_thread(
        door.ledger.write, credentials.issue, door.ledger.now_ms(), "token", identity, by=visitor.reviewer.name,
        lifetime=timedelta(days=int(days)), label=label,
    )  # fmt: skip
    return await _page(request, secret=secret)


async def _end(request: Request) -> Response:
    visitor, door = visitor_of(request), door_of(request)
    if (refused := await _by_hand(request)) is not None:
        return refused
    async with request.form() as form:
        wanted = str(form.get("id", ""))
    found = next((one for one in await _listed(request) if one.id == wanted), None)
    if found is None:
        return await _page(
            request, status=404, problem="There is no such session or token of yours. Nothing was ended."
        )
    try:
        await asyncio.to_thread(
            door.ledger.write, credentials.revoke, door.ledger.now_ms(), found.id, by=visitor.reviewer.name,
            why="by hand",
        )  # fmt: skip
    except CredentialError as exc:
        return await _page(request, status=404, problem=str(exc))
    return way_on(request, "/account")


def _identity(request: Request, visitor: Visitor, scopes: frozenset[Scope]) -> Identity:
    """Whom a token of this visitor lets in: with the roles of today, unless the directory says them each time."""
    who = visitor.reviewer
    if person(who.name, door_of(request).ledger.directory) == who:
        return Identity(who.name, scopes=scopes, via="account")
    return Identity(who.name, who.roles, who.groups, scopes, via="account")


async def _by_hand(request: Request) -> Response | None:
    """A program that was let in must not let in others."""
    if visitor_of(request).csrf is not None:
        return None
    return await _page(request, status=403, problem="An API token manages no tokens and sessions. Nothing was changed.")


async def _listed(request: Request) -> list[Credential]:
    visitor, door = visitor_of(request), door_of(request)
    own = None if "admin" in visitor.scopes else visitor.reviewer.name
    found = await asyncio.to_thread(door.ledger.read, credentials.listed, door.ledger.now_ms(), reviewer=own)
    return [one for one in found if one.status == "live"]


async def _page(
    request: Request, *, status: int = 200, problem: str | None = None, secret: str | None = None
) -> Response:
    visitor, found = visitor_of(request), await _listed(request)
    return render(
        request,
        "account.html",
        status_code=status,
        problem=problem,
        secret=secret,
        scopes=[scope for scope in SCOPES if scope in visitor.scopes],
        mine=[one for one in found if same(one.identity.name, visitor.reviewer.name)],
        others=[one for one in found if not same(one.identity.name, visitor.reviewer.name)],
    )


routes: list[BaseRoute] = [
    Route("/account", _show, name="account"),
    Route("/account/tokens", _create, methods=["POST"], name="create_token"),
    Route("/account/end", _end, methods=["POST"], name="end_credential"),
]
