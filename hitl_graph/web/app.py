"""The application: its routes, who is let in, and what every part of it shares."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal, Protocol
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from hitl_graph.ledger import Ledger
from hitl_graph.web import account, api, login
from hitl_graph.web.door import HERE, Door
from hitl_graph.web.errors import HANDLERS
from hitl_graph.web.pages import bulk, deciding, listing
from hitl_graph.web.security import Security
from hitl_graph.web.visitors import Authenticator

__all__ = ["Serving", "create_app"]

log = logging.getLogger(__name__)


class Serving(Protocol):
    """A worker."""

    async def arun(self) -> None:
        """Serve until `stop()`."""
        ...

    def stop(self) -> None:
        """Let `arun` come to its end."""
        ...


def create_app(
    ledger: Ledger,
    *,
    authenticators: Sequence[Authenticator],
    title: str = "Inbox",
    sees: Literal["all", "mine"] = "all",
    at: str = "",
    security: Security | None = None,
    worker: Serving | None = None,
) -> Starlette:
    """The inbox as an ASGI application.

    Args:
        ledger: Whose requests.
        authenticators: Who is believed to be whom; the first that knows counts. Without any, nobody is let in.
        title: Of the page.
        sees: Whether people see every request, or only those that concern them.
        at: A path such as `/inbox` under which all of it lies, so that the application can be merged into another one
            as LangGraph Server does with its `http.app`. Not needed where it is mounted.
        security: What else is refused, such as other host names; None: `Security()`.
        worker: Runs while the application does: a `Worker`, or a `ServerWorker` inside LangGraph Server. An application
            that this one is mounted into has to run it by itself, since Starlette starts nothing of what is mounted.

    Raises:
        ValueError: `at` is no such path.
    """
    if at and (not at.startswith("/") or at.endswith("/") or any(character in at for character in "{}?# ")):
        raise ValueError(f"at={at!r}: give a path such as '/inbox'")
    if not authenticators:
        log.warning("nobody is let into the inbox: create_app() was given no authenticators")
    if _is_open_server():
        log.warning(
            "this LangGraph Server has no `auth`: its own API answers anybody who reaches this port, and an answer that"
            " is sent there is one of nobody in particular. The inbox authenticates by itself all the same."
        )
    routes: list[BaseRoute] = [Mount("/static", StaticFiles(directory=HERE / "static"), name="static")]
    routes += [route for one in authenticators if isinstance(one, login.Elsewhere) for route in one.routes]
    routes += [*login.routes, *account.routes, *api.routes, *listing.routes, *bulk.routes, *deciding.routes]
    app = Starlette(
        routes=routes,
        middleware=(security or Security()).stack(authenticators),
        exception_handlers=HANDLERS,
        lifespan=partial(_lifespan, worker),
    )
    app.state.door = Door(ledger, title=title, sees=sees)
    if not at:
        return app
    # Our middleware stays inside the mount: what a server merges with its own routes would guard those, too.
    return Starlette(routes=[Route(at, _to_it), Mount(at, app=app)], lifespan=partial(_lifespan, worker))


@asynccontextmanager
async def _lifespan(worker: Serving | None, app: Starlette) -> AsyncGenerator[None]:
    if worker is None:
        yield
        return
    serving = asyncio.create_task(worker.arun())
    try:
        yield
    finally:
        worker.stop()
        await serving


async def _to_it(request: Request) -> RedirectResponse:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{quote(request.url.path)}/{query}")  # not to where the header Host says that this is


def _is_open_server() -> bool:
    """Whether this process is a LangGraph Server that asks nobody who they are."""
    config = sys.modules.get("langgraph_api.config")
    return config is not None and not getattr(config, "LANGGRAPH_AUTH", None)
