"""The entrance: lets in whom an authenticator knows, to what they may do at all, and nobody else."""

from collections.abc import Sequence
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hitl_graph.web.csrf import SAFE
from hitl_graph.web.refusing import is_for_a_script, refusal, under_mount
from hitl_graph.web.visitors import RECHECKED, Authenticator, Visitor

__all__ = ["Entrance", "let_in_again"]

_OWN = ("/login", "/logout", "/account", "/views")
"""Where a visitor changes nothing but what is their own: no scope to decide is needed."""


class Entrance:
    """Finds out who comes; strangers get no further than to the login."""

    def __init__(self, app: ASGIApp, authenticators: Sequence[Authenticator]) -> None:
        self._app, self._authenticators = app, authenticators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none here
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope["hitl.authenticators"] = self._authenticators
        scope.pop("hitl.visitor", None)
        try:
            visitor = await _known(scope, self._authenticators)
        except HTTPException as exc:
            return await refusal(scope, exc.status_code, exc.detail, exc.headers)(scope, receive, send)
        if visitor is not None:
            scope["hitl.visitor"] = visitor
            wanted = "read" if scope["method"] in SAFE or _is_under(scope, _OWN) else "decide"
            if wanted not in visitor.scopes and not _is_open(scope):
                has = ", ".join(sorted(visitor.scopes)) or "nothing"
                why = f"This takes the scope `{wanted}`; {visitor.reviewer.name} came with {has}. Nothing was recorded."
                return await refusal(scope, 403, why)(scope, receive, send)
        elif not _is_open(scope):
            return await _turned_away(scope)(scope, receive, send)
        await self._app(scope, receive, send)


async def let_in_again(connection: HTTPConnection) -> Visitor | None:
    """Who was let in, with the roles of now; None if they would not be any more: for what stays open."""
    before: Visitor | None = connection.scope.get("hitl.visitor")
    try:
        now = await _known({**connection.scope, RECHECKED: True}, connection.scope["hitl.authenticators"])
    except HTTPException:
        return None
    is_same = before is not None and now is not None and now.reviewer.name == before.reviewer.name
    return now if is_same and now is not None and "read" in now.scopes else None


async def _known(scope: Scope, authenticators: Sequence[Authenticator]) -> Visitor | None:
    connection = HTTPConnection(scope)
    for authenticator in authenticators:
        if (visitor := await authenticator(connection)) is not None:
            return visitor
    return None


def _is_under(scope: Scope, places: Sequence[str]) -> bool:
    path = under_mount(scope)
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _is_open(scope: Scope) -> bool:
    """Whether strangers may come here: to log in or out, and to what the page of the login looks like."""
    if _is_under(scope, ("/login", "/logout")):
        return True
    return scope["method"] in SAFE and _is_under(scope, ("/static", "/api/v1/health"))


def _turned_away(scope: Scope) -> Response:
    if is_for_a_script(scope) or scope["method"] not in SAFE:
        headers = {"www-authenticate": 'Bearer realm="hitl"'}
        return refusal(scope, 401, "Nobody is logged in here. Log in, or send a token.", headers)
    query = scope.get("query_string", b"").decode("latin-1")
    wanted = under_mount(scope) + (f"?{query}" if query else "")
    root = quote(str(scope.get("root_path", "")).rstrip("/"))
    return RedirectResponse(f"{root}/login?next={quote(wanted, safe='')}", status_code=303)
