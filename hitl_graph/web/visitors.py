"""Who is at the door: the authenticated visitor of a request, and how they were authenticated.

An authenticator looks at a connection and says who it is, or that it does not know. The first that knows counts; where
none does, nobody is let in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal, Protocol

from starlette.requests import HTTPConnection

from hitl_graph.reviewers import Directory, Reviewer, authenticated, person
from hitl_graph.web.cookies import double_submit

__all__ = [
    "SCOPES",
    "Authenticator",
    "HostUser",
    "Scope",
    "TrustedProxy",
    "Visitor",
    "visitor_if_any",
    "visitor_of",
]

Scope = Literal["read", "decide", "admin"]
"""What a visitor may do at all: look; answer and claim; manage tokens and sessions of others."""
SCOPES: tuple[Scope, ...] = ("read", "decide", "admin")


@dataclass(frozen=True)
class Visitor:
    """Somebody who was authenticated.

    Attributes:
        reviewer: Who they are; what they may decide is up to the rules.
        scopes: What they may do through this door at all.
        how: By what they were authenticated.
        csrf: The token that their forms carry; None where no browser sends the credential by itself.
    """

    reviewer: Reviewer
    scopes: frozenset[Scope] = field(default_factory=lambda: frozenset[Scope](("read", "decide")))
    how: Literal["session", "token", "proxy", "host"] = "session"
    csrf: str | None = None


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

    Only of connections that come from the proxy itself: whoever else sends the header is not believed.

    Args:
        header: Its name.
        proxies: Addresses or networks of the proxy, such as `10.0.0.0/8`.
        directory: Knows roles and groups of people.
    """

    def __init__(
        self, header: str = "x-forwarded-user", *, proxies: Sequence[str], directory: Directory | None = None
    ) -> None:
        self._header = header
        self._proxies: list[IPv4Network | IPv6Network] = [ip_network(proxy) for proxy in proxies]
        self._directory = directory

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        name = connection.headers.get(self._header)
        client = connection.client
        if not name or client is None or len(connection.headers.getlist(self._header)) != 1:
            return None
        try:
            address = ip_address(client.host)
        except ValueError:
            return None
        if not any(address in network for network in self._proxies):
            return None
        return Visitor(person(name, self._directory), how="proxy", csrf=double_submit(connection))


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
        if user is None or getattr(user, "kind", None) == "StudioUser":
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
