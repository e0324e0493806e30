"""What stands between the network and the routes: in which order, and how strict."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hitl_graph.web.csrf import Csrf
from hitl_graph.web.entrance import Entrance
from hitl_graph.web.failing import Failing
from hitl_graph.web.headers import Headers
from hitl_graph.web.shape import Bodies, Shape
from hitl_graph.web.throttling import AddressLimits, Limits, PersonLimits, Throttle
from hitl_graph.web.visitors import PEER, PEER_IS_SURE, Authenticator

__all__ = ["Security"]


@dataclass(frozen=True)
class Security:
    """How strict the inbox is.

    Attributes:
        hosts: Names by which it may be called; `*`: by any, where something in front of it sees to that.
        proxies: Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Only
            where the server does not do that itself: uvicorn with `proxy_headers=False`.
        body: How long a request may be, in bytes.
        limits: How often somebody may come.
        hsts: For how many seconds a browser that came by https is to come by nothing else; 0: the proxy says so.
    """

    hosts: Sequence[str] = ("localhost", "127.0.0.1", "::1")
    proxies: Sequence[str] = ()
    body: int = 1_048_576
    limits: Limits = field(default_factory=Limits)
    hsts: int = 31_536_000

    def stack(self, authenticators: Sequence[Authenticator]) -> list[Middleware]:
        """What a request goes through, the first one first."""
        throttle = Throttle(self.limits)
        return [
            Middleware(_Peer, proxies=self.proxies),
            Middleware(Headers, hsts=self.hsts),
            Middleware(Failing),
            Middleware(Shape, hosts=self.hosts),
            Middleware(AddressLimits, throttle=throttle),
            Middleware(Bodies, limit=self.body),
            Middleware(Entrance, authenticators=tuple(authenticators)),
            Middleware(Csrf),
            Middleware(PersonLimits, throttle=throttle),
        ]


class _Peer:
    """Keeps whom a connection comes from, before trusted proxies say on whose behalf."""

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        inner: Any = app  # uvicorn's types of the same things
        self._app: Any = ProxyHeadersMiddleware(inner, trusted_hosts=list(proxies)) if proxies else inner
        self._is_sure = bool(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[PEER], scope[PEER_IS_SURE] = scope.get("client"), self._is_sure
        await self._app(scope, receive, send)
