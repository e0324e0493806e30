"""The application: its routes, who is let in, and what every part of it shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Receive, Scope, Send

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.web.visitors import Authenticator

__all__ = ["Door", "create_app", "door_of"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Door:
    """What the parts of the application share: `door_of(request)` has it.

    Attributes:
        sees: `all`: whoever is let in sees every request. `mine`: only those that they may decide or have voted on.
    """

    ledger: Ledger
    title: str = "Inbox"
    sees: Literal["all", "mine"] = "all"
    templates: Jinja2Templates = field(default_factory=lambda: Jinja2Templates(env=_environment()))

    @property
    def inbox(self) -> Inbox:
        """The one way to look and to decide."""
        return Inbox(self.ledger)


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
    routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=_HERE / "static"), name="static")]
    app = Starlette(routes=routes, middleware=[Middleware(_LetIn, authenticators=tuple(authenticators))])
    app.state.door = Door(ledger, title=title, sees=sees)
    return app


def door_of(connection: HTTPConnection) -> Door:
    """What the parts of the application share."""
    found = connection.app.state.door
    assert isinstance(found, Door)
    return found


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


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
