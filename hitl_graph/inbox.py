"""Look at what waits for people, and decide. Every door (command line, notebook, web) goes through here."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Decision, Request

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox:
    """Pending requests over all threads of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def pending(
        self,
        *,
        kind: str | None = None,
        thread_id: str | None = None,
        reviewer: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Request]:
        """What waits, oldest first.

        Args:
            kind: `approval`, `review`, `escalation` or `question`; None for all.
            thread_id: Only of this thread.
            reviewer: Only what this person may decide. Rules cannot name reviewers yet, so that is everything.
            limit: Rows a page.
            after: Id of the last request of the page before.

        Raises:
            UnknownRequestError: `after` names no request.
        """
        return self.ledger.read(requests.pending, kind=kind, thread_id=thread_id, limit=limit, after=after)

    def get(self, request_id: str) -> Request:
        """One request, by its id or an unambiguous beginning of it.

        Raises:
            UnknownRequestError: None begins so, or several do.
        """
        return self.ledger.read(requests.find, request_id)

    def decide(
        self, request_id: str, decision: Decision, *, reviewer: str, digest: str | None = None, channel: str = "api"
    ) -> Request:
        """Record a decision. When this returns, it cannot be lost; a worker carries it out.

        Args:
            request_id: Id or an unambiguous beginning of it.
            decision: `approve()`, `edit(...)`, `reject(...)` or `respond(...)`.
            reviewer: Who decides, as the authentication of the door says.
            digest: `Request.digest` of what the reviewer looked at; refused if something else is asked now.
            channel: The door.

        Raises:
            UnknownRequestError: No such request.
            AlreadyDecidedError: Another answer came first; this one is not recorded.
            StaleRequestError: It is not asked any more, or is not what was shown.
            InvalidDecisionError: The word is not offered, or the edit does not fit. It can be answered again.
        """
        if not isinstance(decision, Decision):
            raise TypeError(f"decide() takes approve(), edit(...), reject(...) or respond(...), not {decision!r:.80}")
        if not reviewer:
            raise ValueError("decide() needs the name of the reviewer")
        return self.ledger.write(
            requests.decide, self.ledger.now_ms(), request_id, decision,
            reviewer=reviewer, channel=channel, shown=digest,
        )  # fmt: skip

    async def apending(
        self,
        *,
        kind: str | None = None,
        thread_id: str | None = None,
        reviewer: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Request]:
        """As `pending`."""
        return await asyncio.to_thread(
            self.pending, kind=kind, thread_id=thread_id, reviewer=reviewer, limit=limit, after=after
        )

    async def aget(self, request_id: str) -> Request:
        """As `get`."""
        return await asyncio.to_thread(self.get, request_id)

    async def adecide(
        self, request_id: str, decision: Decision, *, reviewer: str, digest: str | None = None, channel: str = "api"
    ) -> Request:
        """As `decide`. If the caller is cancelled, the decision is still recorded before the cancellation is raised."""
        return await _to_the_end(
            partial(self.decide, request_id, decision, reviewer=reviewer, digest=digest, channel=channel)
        )


async def _to_the_end(work: Callable[[], T]) -> T:
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
