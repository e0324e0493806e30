"""Forms count only where they come from our own page.

A browser sends cookies, and what a proxy goes by, with any request, whoever made it. So what changes something has to
come from this origin (as the browser says), and to carry a token that only our own pages know.
"""

import hmac

from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hitl_graph.web.cookies import CSRF, cookie, set_cookie
from hitl_graph.web.refusing import refusal
from hitl_graph.web.visitors import Visitor

__all__ = ["SAFE", "Csrf"]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_WEEK = 7 * 86_400
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Csrf:
    """Refuses what changes something and does not come from our own page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        visitor: Visitor | None = scope.get("hitl.visitor")
        if scope["method"] not in SAFE and (visitor is None or visitor.how != "token"):
            if (foreign := _foreign(HTTPConnection(scope))) is not None:
                return await refusal(scope, 403, foreign)(scope, receive, send)
            if visitor is not None and visitor.csrf is not None:
                receive, why = await _checked(scope, receive, visitor.csrf)
                if why is not None:
                    return await refusal(scope, 403, why)(scope, receive, send)
        if visitor is not None and visitor.how in ("proxy", "host") and visitor.csrf is not None:
            send = _with_cookie(scope, send, visitor.csrf)
        await self._app(scope, receive, send)


def _foreign(connection: HTTPConnection) -> str | None:
    """Why this comes from another page; None if it does not, or no browser sent it."""
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    elif origin is not None:
        is_own = origin.partition("://")[2].lower() == connection.headers.get("host", "").lower() != ""
    else:
        return None
    told = f"This came from another page ({origin or site}), and nothing was recorded."
    return None if is_own else f"{told} Open the inbox and decide there."


async def _checked(scope: Scope, receive: Receive, expected: str) -> tuple[Receive, str | None]:
    """The body to go on with, and why the token does not count."""
    headers = HTTPConnection(scope).headers
    given: object = headers.get("x-csrf-token")
    if given is None and headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return receive, "The connection was lost before all was sent; nothing was recorded."
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        receive, again = _replayed(body, receive), _replayed(body, receive)
        try:
            async with Request(scope, again).form() as form:
                given = form.get("csrf")
        except (HTTPException, MultiPartException, FormParserError, ValueError):
            return receive, "The form cannot be read; nothing was recorded. Open the page again."
    if isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode()):
        return receive, None
    missing = "has no CSRF token" if not given else "has a CSRF token that is not yours, or not any more"
    return receive, f"This {missing}, so nothing was recorded. Open the page again and repeat it there."


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_cookie(scope: Scope, send: Send, token: str) -> Send:
    connection = HTTPConnection(scope)
    if cookie(connection, CSRF) == token:
        return send
    response = Response()
    set_cookie(response, connection, CSRF, token, _WEEK)
    headers = [header for header in response.raw_headers if header[0] == b"set-cookie"]

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return sent
