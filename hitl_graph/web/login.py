"""Logging in and out."""

import re
from collections.abc import Iterator
from typing import Protocol, runtime_checkable
from urllib.parse import quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from hitl_graph.errors import CredentialError
from hitl_graph.web.rendering import render
from hitl_graph.web.sessions import Sessions
from hitl_graph.web.visitors import Authenticator, visitor_if_any

__all__ = ["Elsewhere", "login_page", "place", "routes", "sessions_of", "way_on"]

_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


@runtime_checkable
class Elsewhere(Protocol):
    """An authenticator whose people log in elsewhere.

    Attributes:
        label: What that is called.
        route: Name of the route that leads there.
        routes: Its routes, below `/login/`.
    """

    label: str
    route: str
    routes: list[BaseRoute]


def place(wanted: str | None) -> str:
    """Where to go on: a path below the mount, and nothing else whatever was asked for."""
    if not wanted or len(wanted) > 2048 or not _PATH.fullmatch(wanted):
        return "/"
    path = wanted.partition("?")[0].partition("#")[0].lower()
    is_odd = "//" in path or "%2f" in path or "%5c" in path or "/." in path
    return "/" if is_odd or path.startswith(("/login", "/logout")) else wanted


def way_on(connection: HTTPConnection, wanted: str | None) -> RedirectResponse:
    """Go on there."""
    root = str(connection.scope.get("root_path", "")).rstrip("/")
    return RedirectResponse(quote(root) + quote(place(wanted), safe="/?#=&%:;,+@!$'()*~-._"), status_code=303)


def sessions_of(connection: HTTPConnection) -> Sessions | None:
    """What opens and ends sessions here; None where nobody can log in, since a proxy says who they are."""
    return next((one for one in _authenticators(connection) if isinstance(one, Sessions)), None)


async def _show(request: Request) -> Response:
    return login_page(request, request.query_params.get("next"))


async def _confirm(request: Request) -> Response:
    """Whoever fetches the link to show what is behind it must not use it up."""
    sessions = sessions_of(request)
    link = None if sessions is None else await sessions.link(request.path_params["secret"])
    if link is None:
        return login_page(request, status=403, problem=_TOO_LATE)
    wanted = place(request.query_params.get("next"))
    return render(request, "login_link.html", link=link, next=wanted)


async def _use(request: Request) -> Response:
    sessions = sessions_of(request)
    async with request.form() as form:
        wanted = form.get("next")
    response = way_on(request, wanted if isinstance(wanted, str) else None)
    try:
        if sessions is None:
            raise CredentialError("nobody logs in here by a link")
        await sessions.log_in(request, response, request.path_params["secret"])
    except CredentialError:
        return login_page(request, status=403, problem=_TOO_LATE)
    return response


async def _leave(request: Request) -> Response:
    root = quote(str(request.scope.get("root_path", "")).rstrip("/"))
    response = RedirectResponse(f"{root}/login", status_code=303, headers={"clear-site-data": '"cache"'})
    if (sessions := sessions_of(request)) is not None:
        await sessions.log_out(request, response)
    return response


_TOO_LATE = (
    "This login link does not exist, was used already, or is too old. Nobody was logged in; ask for another one."
)


def login_page(
    request: Request, wanted: str | None = None, *, status: int = 200, problem: str | None = None
) -> Response:
    """How to get in.

    Args:
        wanted: Where to go on after it.
        problem: Why it did not work.
    """
    ways = [one for one in _authenticators(request) if isinstance(one, Elsewhere)]
    return render(
        request,
        "login.html",
        status_code=status,
        problem=problem,
        next=place(wanted),
        ways=ways,
        links=sessions_of(request) is not None,
        known=visitor_if_any(request),
    )


def _authenticators(connection: HTTPConnection) -> Iterator[Authenticator]:
    yield from connection.scope.get("hitl.authenticators", ())


routes: list[BaseRoute] = [
    Route("/login", _show, name="login"),
    Route("/login/{secret}", _confirm, name="login_link"),
    Route("/login/{secret}", _use, methods=["POST"]),
    Route("/logout", _leave, methods=["POST"], name="logout"),
]
