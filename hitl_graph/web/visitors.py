"""Who is at the door: the authenticated visitor of a request, and how they were authenticated.

An authenticator looks at a connection and says who it is, or that it does not know. The first that knows counts; where
none does, nobody is let in.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Literal, Protocol

from langgraph_sdk.auth.types import StudioUser
from starlette.requests import HTTPConnection

from hitl_graph.ledger.credentials import SCOPES, Scope
from hitl_graph.reviewers import Directory, Reviewer, authenticated, person
from hitl_graph.web.cookies import double_submit

__all__ = [
    "PEER",
    "PEER_IS_SURE",
    "RECHECKED",
    "SCOPES",
    "Authenticator",
    "HostUser",
    "Scope",
    "TrustedProxy",
    "Visitor",
    "visitor_if_any",
    "visitor_of",
]

log = logging.getLogger(__name__)

PEER, PEER_IS_SURE, RECHECKED = "hitl.peer", "hitl.peer_is_sure", "hitl.rechecked"
"""In the scope: whom the server says the connection comes from, before any header is looked at; whether it looked at
none itself; and whether a visitor is only looked at again."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who was authenticated.

    Attributes:
        reviewer: Who they are; what they may decide is up to the rules.
        scopes: What they may do through this door at all.
        how: By what they were authenticated.
        csrf: The token that their forms carry; None where no browser sends the credential by itself.
        credential: Id of their session or token (see `hitl_graph.ledger.credentials`).
    """

    reviewer: Reviewer
    scopes: frozenset[Scope] = field(default_factory=lambda: frozenset[Scope](("read", "decide")))
    how: Literal["session", "token", "proxy", "host"] = "session"
    csrf: str | None = None
    credential: str | None = None


class Authenticator(Protocol):
    """Knows visitors."""

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        """Who this is; None if it cannot tell.

        Raises:
            HTTPException: It can tell that this is nobody who may come in.
        """
        ...


class TrustedProxy:
    """Believes the header in which a proxy in front of us names whom it authenticated.

    Only of connections that come from the proxy itself: whoever else sends the header is not believed. Where the server
    (uvicorn, unless told `proxy_headers=False`) may have put what `X-Forwarded-For` says in place of the address of the
    connection, nobody is; `Security(proxies=...)` says that it does not, and looks at that header itself.

    Args:
        header: Its name.
        proxies: Addresses or networks of the proxy, such as `10.0.0.0/8`; `unix`: whoever can reach the server's socket
            in the file system.
        directory: Knows roles and groups of people, where the proxy does not say them.
        roles: Name of a header with the roles, separated by commas.
        groups: Name of a header with the groups, separated by commas.
        scopes: What people may do through this door at all.
    """

    def __init__(
        self,
        header: str = "x-forwarded-user",
        *,
        proxies: Sequence[str],
        directory: Directory | None = None,
        roles: str | None = None,
        groups: str | None = None,
        scopes: Collection[Scope] = ("read", "decide"),
    ) -> None:
        self._header, self._roles, self._groups = header, roles, groups
        self._by_socket = "unix" in proxies
        self._proxies = [ip_network(proxy) for proxy in proxies if proxy != "unix"]
        self._directory, self._scopes = directory, frozenset(scopes)

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        name = _said(connection, self._header)
        if not name or not self._comes_from_proxy(connection):
            return None
        try:
            reviewer = await asyncio.to_thread(self._reviewer, connection, name)
        except ValueError:
            return None
        if reviewer.is_anonymous:
            return None
        return Visitor(reviewer, self._scopes, how="proxy", csrf=double_submit(connection))

    def _reviewer(self, connection: HTTPConnection, name: str) -> Reviewer:
        if self._roles is None and self._groups is None:
            return person(name, self._directory)
        said = [_said(connection, header) if header else "" for header in (self._roles, self._groups)]
        roles, groups = ([item.strip() for item in (text or "").split(",") if item.strip()] for text in said)
        return Reviewer(name, roles, groups)

    def _comes_from_proxy(self, connection: HTTPConnection) -> bool:
        peer: tuple[str, int] | None = connection.scope.get(PEER, connection.scope.get("client"))
        if peer is None:
            return self._by_socket
        try:
            address = ip_address(peer[0].partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        if not any(address in network for network in self._proxies):
            return False
        if not connection.scope.get(PEER_IS_SURE, False) and peer[0] in _forwarded_for(connection):
            log.warning(
                "%s is the proxy, and X-Forwarded-For names it, too: the server may have taken the address from there,"
                " so nobody is believed. Run uvicorn with proxy_headers=False, and pass Security(proxies=[...])",
                peer[0],
            )
            return False
        return True


def _said(connection: HTTPConnection, header: str) -> str | None:
    """What a header says; None if it is not there, is there twice, or is no plain text."""
    values = connection.headers.getlist(header)
    try:
        text = values[0].encode("latin-1").decode() if len(values) == 1 else ""
    except UnicodeError:
        return None
    return text if text.isprintable() and 0 < len(text) <= 4096 else None


def _forwarded_for(connection: HTTPConnection) -> set[str]:
    """Each address in X-Forwarded-For, with and without brackets and port."""
    entries = [entry.strip() for entry in ",".join(connection.headers.getlist("x-forwarded-for")).split(",")]
    return {form.strip("[]") for entry in entries for form in (entry, entry.rpartition(":")[0])}


class HostUser:
    """Believes the application that the inbox is mounted into: the user of Starlette's `AuthenticationMiddleware`.

    So does LangGraph Server with `"http": {"enable_custom_route_auth": true}`. Whoever claims to be LangGraph Studio
    is let in by a server for development without any proof, and is nobody here.

    Args:
        directory: Adds the roles and groups that it knows.
    """

    def __init__(self, *, directory: Directory | None = None) -> None:
        self._directory = directory

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        user = connection.scope.get("user")
        if user is None or isinstance(user, StudioUser):
            return None
        reviewer = authenticated(user, self._directory)
        if reviewer.is_anonymous:
            return None
        scheme = connection.headers.get("authorization", "").partition(" ")[0].lower()
        csrf = None if scheme == "bearer" else double_submit(connection)  # no browser sends a bearer's token by itself
        return Visitor(reviewer, how="host", csrf=csrf)


def visitor_of(connection: HTTPConnection) -> Visitor:
    """The visitor whom the application has let in."""
    found = connection.scope["hitl.visitor"]
    assert isinstance(found, Visitor)
    return found


def visitor_if_any(connection: HTTPConnection) -> Visitor | None:
    """The visitor, also on the few pages that are open to strangers (logging in)."""
    found = connection.scope.get("hitl.visitor")
    return found if isinstance(found, Visitor) else None
