"""Who the human at the other end is: whoever started the server, or whose token each call carries."""

import asyncio
import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

from mcp.server.auth.provider import AccessToken
from starlette.requests import Request as HttpRequest

from hitl_graph.errors import NotEntitledError
from hitl_graph.ledger import Ledger, credentials
from hitl_graph.reviewers import Directory, Reviewer, person

__all__ = ["ApiTokens", "Guest", "Known", "Tokens", "Verifier"]


class Guest(Protocol):
    """Somebody who was authenticated."""

    @property
    def reviewer(self) -> Reviewer:
        """Who they are."""
        ...

    @property
    def scopes(self) -> AbstractSet[str]:
        """What they may do at all: `read`, `decide`."""
        ...


class Tokens(Protocol):
    """Knows whose tokens are whose."""

    def __call__(self, token: str, /) -> Guest | None:
        """Who carries this token; None: nobody, any more. May read a database: not called on the event loop."""
        ...


@dataclass(frozen=True)
class _Bearer:
    reviewer: Reviewer
    scopes: AbstractSet[str]


class ApiTokens:
    """The API tokens of a ledger (`hitl token`)."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __call__(self, token: str, /) -> Guest | None:
        """Who carries it; None if it is unknown, expired or revoked."""
        ledger = self._ledger
        found = ledger.read(credentials.look_up, ledger.now_ms(), "token", token)
        if found is None:
            return None
        if credentials.is_due(found, ledger.clock()):
            ledger.note(credentials.see, ledger.now_ms(), found)
        return _Bearer(found.identity.reviewer(ledger.directory), found.identity.scopes)


class Known:
    """Who each call comes from.

    Args:
        reviewer: The one person whom a server on standard input serves.
        tokens: Of a server on HTTP. Exactly one of both is given.

    Raises:
        ValueError: Nobody is known, or it is not clear who.
    """

    def __init__(self, reviewer: str | Reviewer | None, tokens: Tokens | None, directory: Directory | None) -> None:
        if (reviewer is None) == (tokens is None):
            raise ValueError("give reviewer= (who sits at the client) or tokens= (over HTTP), not both")
        if reviewer is not None and person(reviewer, None).is_anonymous:
            raise ValueError("somebody has to be known; anonymous is nobody")
        self._reviewer, self._tokens, self._directory = reviewer, tokens, directory

    async def __call__(self, request: object, scope: str) -> Reviewer:
        """Who asks.

        Args:
            request: The HTTP request that a call came by; None on standard input.
            scope: What they want to do.

        Raises:
            NotEntitledError: Nobody whom we know, or they may not do this through this door.
        """
        if self._tokens is None:
            if request is not None:
                raise NotEntitledError("-", "over HTTP each call has to carry a token; this server takes none")
            assert self._reviewer is not None
            return await asyncio.to_thread(person, self._reviewer, self._directory)
        guest = None
        user: Any = request.scope.get("user") if isinstance(request, HttpRequest) else None
        if isinstance(token := getattr(user, "access_token", None), AccessToken):
            guest = await asyncio.to_thread(self._tokens, token.token)
        if guest is None or guest.reviewer.is_anonymous:
            raise NotEntitledError("-", "the token is not valid any more")
        if scope not in guest.scopes:
            raise NotEntitledError("-", f"the token of {guest.reviewer.name} has no scope {scope}")
        return guest.reviewer


class Verifier:
    """What the SDK asks about each bearer's token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whose token it is; None: nobody's, so the door stays shut."""
        guest = await asyncio.to_thread(self._tokens, token)
        if guest is None or guest.reviewer.is_anonymous:
            return None
        own = hashlib.sha256(token.encode()).hexdigest()  # a session, and what is asked in it, is one token's
        return AccessToken(token=token, client_id=own, subject=guest.reviewer.name, scopes=sorted(guest.scopes))
