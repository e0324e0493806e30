"""What stands between the network and the routes: in which order, and how strict."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.middleware import Middleware

from hitl_graph.web.csrf import Csrf
from hitl_graph.web.entrance import Entrance
from hitl_graph.web.headers import Headers
from hitl_graph.web.visitors import Authenticator

__all__ = ["Security"]


@dataclass(frozen=True)
class Security:
    """How strict the inbox is.

    Attributes:
        hsts: For how many seconds a browser that came by https is to come by nothing else; 0: the proxy says so.
    """

    hsts: int = 31_536_000

    def stack(self, authenticators: Sequence[Authenticator]) -> list[Middleware]:
        """What a request goes through, the first one first."""
        return [
            Middleware(Headers, hsts=self.hsts),
            Middleware(Entrance, authenticators=tuple(authenticators)),
            Middleware(Csrf),
        ]
