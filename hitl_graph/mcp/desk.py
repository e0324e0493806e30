"""What the tools share: the inbox, who asks, and where else a person can decide."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote

from hitl_graph.errors import (
    AlreadyDecidedError,
    ClaimedError,
    HitlError,
    NotEntitledError,
    StaleRequestError,
    UnknownRequestError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, handling
from hitl_graph.mcp.asking import Mode, Talk
from hitl_graph.mcp.identity import Known
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer, person
from hitl_graph.voting import Standing, check_claims, may_decide

__all__ = ["CHANNEL", "Desk"]

CHANNEL = "mcp"
_TYPED = 4  # digits of an id at least


@dataclass(frozen=True)
class Desk:
    """What the tools share (see `create_server`)."""

    ledger: Ledger
    known: Known
    url: str | None
    mode: Mode
    command: str
    patience: timedelta
    linger: timedelta

    @property
    def inbox(self) -> Inbox:
        """The one way to look and to decide."""
        return Inbox(self.ledger)

    async def who(self, talk: Talk, scope: str) -> Reviewer:
        """Who is at the other end of a call.

        Raises:
            NotEntitledError: Nobody whom we know, or they may not do this.
        """
        return await self.known(talk.request_context.request, scope)

    async def look(self, request_id: str) -> tuple[Request, Standing]:
        """A request, and how far it is.

        Raises:
            UnknownRequestError: None begins so, or several do, or it is too short to say.
        """
        name = request_id.strip().lower()
        if len(name) < _TYPED:
            raise UnknownRequestError(request_id, f"give at least {_TYPED} digits of the id; list_pending has them")
        request = await self.inbox.aget(name)
        return request, await self.inbox.astanding(request.id)

    async def barred(self, request: Request, standing: Standing, who: Reviewer) -> HitlError | None:
        """Why this person cannot decide it now: nobody is asked in vain. What counts is what the ledger says then."""
        if request.decision is not None:
            return AlreadyDecidedError(request.id, str(request.reviewer), request.decision.type)
        if request.state != "pending":
            return StaleRequestError(request.id, f"it is {request.state} ({request.note or 'no longer asked'})")
        away = await asyncio.to_thread(self._away, who)
        try:
            may_decide(request, who, away, standing.votes)
            check_claims(request, standing.votes, who.name, self.ledger.clock())
        except (NotEntitledError, ClaimedError) as exc:
            return exc
        return None

    def link(self, request: Request) -> str | None:
        """The request's page, if there is one."""
        return f"{self.url}/requests/{quote(request.id, safe='')}" if self.url else None

    def _away(self, who: Reviewer) -> list[Reviewer]:
        """Whose deputy they are now."""
        names = self.ledger.read(handling.deputised, self.ledger.now_ms(), who.name)
        return [person(name, self.ledger.directory) for name in names]
