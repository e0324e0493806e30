"""The application: its routes, who is let in, and what every part of it shares."""

from collections.abc import Sequence
from typing import Literal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from hitl_graph.ledger import Ledger
from hitl_graph.web.door import HERE, Door, door_of
from hitl_graph.web.visitors import Authenticator

__all__ = ["Door", "create_app", "door_of"]


def create_app(
    ledger: Ledger,
    *,
    authenticators: Sequence[Authenticator],
    title: str = "Inbox",
    sees: Literal["all", "mine"] = "all",
) -> Starlette:
    """The inbox as an ASGI application.

    Args:
        ledger: Whose requests.
        authenticators: Who is believed to be whom; the first that knows counts. Without any, nobody is let in.
        title: Of the page.
        sees: Whether people see every request, or only those that concern them.
    """
    routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=HERE / "static"), name="static")]
    app = Starlette(routes=routes, middleware=[Middleware(_LetIn, authenticators=tuple(authenticators))])
    app.state.door = Door(ledger, title=title, sees=sees)
    return app


class _LetIn:
    """Lets in whom an authenticator knows, and nobody else."""

    def __init__(self, app: ASGIApp, authenticators: Sequence[Authenticator]) -> None:
        self._app, self._authenticators = app, authenticators

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        for authenticator in self._authenticators:
            if (visitor := await authenticator(connection)) is not None:
                scope["hitl.visitor"] = visitor
                return await self._app(scope, receive, send)
        await PlainTextResponse("Who are you? Log in first.", status_code=401)(scope, receive, send)
