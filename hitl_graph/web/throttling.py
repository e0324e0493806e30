"""How often somebody may knock. Counted in this process, in a fixed amount of memory."""

import hashlib
import math
import os
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hitl_graph.web.csrf import SAFE
from hitl_graph.web.refusing import refusal, under_mount
from hitl_graph.web.visitors import visitor_if_any

__all__ = ["AddressLimits", "Limits", "PersonLimits", "Throttle"]

_PLACES = 4096


@dataclass(frozen=True)
class Limits:
    """How often, as `20/minute`; None: as often as they like.

    Attributes:
        requests: All requests of one address. People behind one proxy share it, unless `Security(proxies=...)` says
            whose `X-Forwarded-For` is believed.
        logins: Uses of login links and callbacks of the identity provider, of one address.
        tokens: Wrong API tokens of one address; after these, right ones are refused, too.
        decisions: What one person changes.
    """

    requests: str | None = "6000/minute"
    logins: str | None = "20/minute"
    tokens: str | None = "30/minute"
    decisions: str | None = "300/minute"


class Throttle:
    """Counts. Who knocks is one of a few thousand numbers, so that nobody can fill the memory with new addresses."""

    def __init__(self, limits: Limits) -> None:
        self._items: dict[str, RateLimitItem] = {
            name: parse(text) for name, text in vars(limits).items() if text is not None
        }
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._salt = os.urandom(16)

    def takes(self, what: str, who: str) -> int | None:
        """Count one; None if it may be, else for how many seconds there is no use in trying again."""
        return self._ask(what, who, count=True)

    def is_out(self, what: str, who: str) -> int | None:
        """As `takes`, without counting."""
        return self._ask(what, who, count=False)

    def _ask(self, what: str, who: str, *, count: bool) -> int | None:
        if (item := self._items.get(what)) is None:
            return None
        place = int.from_bytes(hashlib.blake2b(who.encode(), key=self._salt, digest_size=4).digest()) % _PLACES
        if (self._limiter.hit if count else self._limiter.test)(item, what, str(place)):
            return None
        ends = self._limiter.get_window_stats(item, what, str(place)).reset_time
        return max(1, math.ceil(ends - time.time()))


class AddressLimits:
    """Refuses addresses that knock too often."""

    def __init__(self, app: ASGIApp, throttle: Throttle) -> None:
        self._app, self._throttle = app, throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        address = _address(scope)
        wait = self._throttle.takes("requests", address)
        if wait is None and under_mount(scope).startswith("/login/"):
            wait = self._throttle.takes("logins", address)
        is_bearer = HTTPConnection(scope).headers.get("authorization", "").lower().startswith("bearer")
        if wait is None and is_bearer:
            wait = self._throttle.is_out("tokens", address)
        if wait is not None:
            return await _too_often(scope, wait)(scope, receive, send)
        if not is_bearer:
            return await self._app(scope, receive, send)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._throttle.takes("tokens", address)
            await send(message)

        await self._app(scope, receive, sent)


class PersonLimits:
    """Refuses people who change things too often."""

    def __init__(self, app: ASGIApp, throttle: Throttle) -> None:
        self._app, self._throttle = app, throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE:
            visitor = visitor_if_any(HTTPConnection(scope))
            if visitor is not None:
                wait = self._throttle.takes("decisions", visitor.reviewer.name.casefold())
                if wait is not None:
                    return await _too_often(scope, wait)(scope, receive, send)
        await self._app(scope, receive, send)


def _too_often(scope: Scope, wait: int) -> ASGIApp:
    why = f"That was too often. Nothing was recorded; try again in {wait} seconds."
    return refusal(scope, 429, why, {"retry-after": str(wait)})


def _address(scope: Scope) -> str:
    """Who knocks: an address, of IPv6 the network, since each house has a few trillions of those."""
    host = str((scope.get("client") or ("unix",))[0])
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or address.exploded[:19])
    return str(address)
