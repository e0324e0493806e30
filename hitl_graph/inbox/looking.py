"""What the inbox tells: what waits, how far it is, who has looked at it, and what has happened."""

import asyncio
from typing import Unpack

from hitl_graph.inbox.desk import Desk, to_the_end
from hitl_graph.ledger import deciding, events, handling, precedents, requests, viewers, waiting, words
from hitl_graph.ledger.events import Event
from hitl_graph.ledger.precedents import LOOKED_AT
from hitl_graph.ledger.viewers import Viewer
from hitl_graph.ledger.waiting import Facets, Filters, Mine
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer, person
from hitl_graph.storage import Transaction
from hitl_graph.voting import Standing, standing

__all__ = ["Looking"]


class Looking(Desk):
    """Of an `Inbox`: what changes nothing."""

    def pending(
        self,
        *,
        reviewer: str | Reviewer | None = None,
        newest_first: bool = False,
        limit: int = 50,
        after: str | None = None,
        **wanted: Unpack[Filters],
    ) -> list[Request]:
        """What waits, oldest first.

        The page before one: `after=` its first request, in the other order, and then turned around.

        Args:
            reviewer: Only what this person may decide now, also as a deputy or by delegation. What they have answered
                already, and what others have claimed, is left out.
            newest_first: In the other order.
            limit: Rows a page.
            after: Id of the last request of the page before; it need not wait any more.
            wanted: `kind`, `thread_id`, `tool`, `risk`, `route`, `assignee`, `since`, `before`, `search`: all that is
                given has to be so (see `hitl_graph.ledger.waiting.Filters`).

        Raises:
            UnknownRequestError: `after` names no request.
        """
        self._index(wanted)
        return self.ledger.read(
            waiting.page, self.ledger.clock(), wanted, self._mine(reviewer), newest_first=newest_first, limit=limit,
            after=after,
        )  # fmt: skip

    def count(
        self, *, reviewer: str | Reviewer | None = None, limit: int | None = None, **wanted: Unpack[Filters]
    ) -> int:
        """How many there are of what `pending` lists, `limit` at most.

        Args:
            limit: None: 10,000; with `reviewer`, `assignee` or `search`, where each request has to be looked at, 1,000.
        """
        self._index(wanted)
        is_slow = reviewer is not None or wanted.get("assignee") or wanted.get("search")
        most = limit or (1000 if is_slow else 10_000)
        return self.ledger.read(waiting.count, self.ledger.clock(), wanted, self._mine(reviewer), limit=most)

    def facets(self, *, reviewer: str | Reviewer | None = None, limit: int = 10_000) -> Facets:
        """What there is to filter by: the kinds, tools and risks of what waits, each with how many there are.

        Args:
            reviewer: Only of what is asked of this person.
            limit: Of that, how many of the oldest are looked at.
        """
        return self.ledger.read(waiting.facets, self._mine(reviewer), limit=limit)

    def get(self, request_id: str) -> Request:
        """One request, by its id or an unambiguous beginning of it.

        Raises:
            UnknownRequestError: None begins so, or several do.
        """
        return self.ledger.read(requests.find, request_id)

    def precedents(self, request: Request, *, limit: int = LOOKED_AT) -> list[Request]:
        """What people decided about requests like this one: calls of the same tool, or other drafts.

        The most alike first (see `hitl_graph.ledger.precedents`). None for audits, escalations and questions; nothing
        that a deadline decided, and nothing that was redacted.

        Args:
            limit: How many of the latest decisions are looked at.
        """
        return self.ledger.read(precedents.alike, request, limit=limit)

    def standing(self, request_id: str) -> Standing:
        """How far a request is: its votes, who is still needed, who has it in hand, what comes when."""
        return self.ledger.read(_standing, self.ledger.now_ms(), request_id)

    def seen(self, request: Request, *, reviewer: str | Reviewer, channel: str) -> None:
        """Note in the log that a request is shown to somebody: once a person, channel and digest.

        Nothing is noted of who was not authenticated.

        Args:
            request: What they are shown.
            channel: The door.

        Raises:
            UnknownRequestError: There is no such request.
        """
        who = person(reviewer, self.ledger.directory)
        if who.is_anonymous:
            return
        look = {"reviewer": who.name, "channel": channel}
        if not self.ledger.read(viewers.has_seen, request.id, request.digest, **look):
            self.ledger.note(viewers.note, self.ledger.now_ms(), request, request.digest, **look)

    def viewers(self, request_id: str) -> list[Viewer]:
        """To whom a request was shown, in the order in which they first looked (see `seen`).

        Raises:
            UnknownRequestError: There is no such request.
        """
        return self.ledger.read(_viewers, request_id)

    def events(self, after: int | None = None, *, limit: int = 1000) -> list[Event]:
        """What became of requests, in the order in which it happened: opened, decided, claimed, delivered ...

        That somebody looked at one is not among it.

        Args:
            after: `Event.seq` of the last one that is known, or what `last_event` gave; None: from the beginning.
            limit: How many at most; there may be more where there are so many.
        """
        return self.ledger.read(events.since, after or 0, limit=limit)

    def last_event(self) -> int:
        """The position after all that has happened: `events(after=...)` gives what comes then."""
        return self.ledger.read(events.last)

    def _index(self, wanted: Filters) -> None:
        """Before the first search: what was asked by a version that had none."""
        if wanted.get("search") and self.ledger.read(words.is_behind):
            while self.ledger.write(requests.index_older):
                pass

    def _mine(self, reviewer: str | Reviewer | None) -> Mine | None:
        if reviewer is None:
            return None
        who = person(reviewer, self.ledger.directory)
        names = self.ledger.read(handling.deputised, self.ledger.now_ms(), who.name)
        return Mine(who, [person(name, self.ledger.directory) for name in names])

    async def apending(
        self,
        *,
        reviewer: str | Reviewer | None = None,
        newest_first: bool = False,
        limit: int = 50,
        after: str | None = None,
        **wanted: Unpack[Filters],
    ) -> list[Request]:
        """As `pending`."""
        return await asyncio.to_thread(
            self.pending, reviewer=reviewer, newest_first=newest_first, limit=limit, after=after, **wanted
        )

    async def acount(
        self, *, reviewer: str | Reviewer | None = None, limit: int | None = None, **wanted: Unpack[Filters]
    ) -> int:
        """As `count`."""
        return await asyncio.to_thread(self.count, reviewer=reviewer, limit=limit, **wanted)

    async def afacets(self, *, reviewer: str | Reviewer | None = None, limit: int = 10_000) -> Facets:
        """As `facets`."""
        return await asyncio.to_thread(self.facets, reviewer=reviewer, limit=limit)

    async def aget(self, request_id: str) -> Request:
        """As `get`."""
        return await asyncio.to_thread(self.get, request_id)

    async def aprecedents(self, request: Request, *, limit: int = LOOKED_AT) -> list[Request]:
        """As `precedents`."""
        return await asyncio.to_thread(self.precedents, request, limit=limit)

    async def astanding(self, request_id: str) -> Standing:
        """As `standing`."""
        return await asyncio.to_thread(self.standing, request_id)

    async def aseen(self, request: Request, *, reviewer: str | Reviewer, channel: str) -> None:
        """As `seen`."""
        await to_the_end(self.seen, request, reviewer=reviewer, channel=channel)

    async def aviewers(self, request_id: str) -> list[Viewer]:
        """As `viewers`."""
        return await asyncio.to_thread(self.viewers, request_id)

    async def aevents(self, after: int | None = None, *, limit: int = 1000) -> list[Event]:
        """As `events`."""
        return await asyncio.to_thread(self.events, after, limit=limit)

    async def alast_event(self) -> int:
        """As `last_event`."""
        return await asyncio.to_thread(self.last_event)


def _standing(tx: Transaction, now_ms: int, request_id: str) -> Standing:
    request = requests.find(tx, request_id)
    return standing(request, deciding.votes(tx, request.id), now_ms)


def _viewers(tx: Transaction, request_id: str) -> list[Viewer]:
    return viewers.viewers(tx, requests.find(tx, request_id).id)
