"""One watcher of a ledger's events for all who listen in this process.

Nobody has a queue of their own. The newest events are kept once, for all; each listener has only a position in the log.
Whoever is slow falls behind, reads from the log what is not kept any more, and misses nothing.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sse_starlette.event import ServerSentEvent

from hitl_graph.errors import HitlError
from hitl_graph.ledger import Ledger, events
from hitl_graph.ledger.events import Event
from hitl_graph.storage import Transaction

__all__ = ["Batch", "EventDocument", "Hub", "Told"]

_log = logging.getLogger(__name__)
_KEPT = 2_000
_PAGE = 500
_POLL = 0.15  # seconds between two looks at a database that sends no news
_LOOK = 2.0  # and at one that does, in case it lost some
_BREATH = 0.1  # events of this many seconds are sent together
_AGAIN = 1.0


class EventDocument(BaseModel):
    """Something became of a request."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    seq: int = Field(description="Its number in the log; go on after it.")
    name: str = Field(description="Such as `request.opened`, `request.voted`, `request.decided`, `request.claimed`.")
    request_id: str
    thread_id: str | None
    actor: str = Field(description="Who brought it on; `graph` where nobody did.")
    at: AwareDatetime


@dataclass(frozen=True, slots=True)
class Told:
    """An event, and how it is written into a stream."""

    event: Event
    text: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What came.

    Attributes:
        position: Where to go on from.
        is_last: The server ends; there will be no more.
    """

    told: Sequence[Told]
    position: int
    is_last: bool = False


class Hub:
    """Tells listeners of one event loop what becomes of requests. Watches the ledger only while somebody listens."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sends_news = ledger.database.url.startswith("postgres")
        self._kept: deque[Told] = deque(maxlen=_KEPT)
        self._from = self._head = 0  # what is kept is all that came after `_from`, up to `_head`
        self._news = asyncio.Event()
        self._listeners = 0
        self._watching: asyncio.Task[None] | None = None
        self._ends = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return self._listeners

    @contextlib.contextmanager
    def listening(self) -> Generator[None]:
        """For as long as somebody listens."""
        self._listeners += 1
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="hitl-events")
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._stop()

    def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching, self._ends = None, False

    def set(self) -> None:
        """End all streams: the server shuts down."""
        self._ends = True
        self._wake()

    async def head(self) -> int:
        """The position after everything that has happened."""
        return await asyncio.to_thread(self._ledger.read, events.last)

    async def after(self, position: int, seconds: float) -> Batch:
        """What came after a position; nothing, if nothing comes for so many seconds."""
        news = self._news  # taken before looking: what comes while we look wakes us
        batch = await self._look(position)
        if not batch.told and not self._ends:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), max(seconds, 0.001))
            batch = await self._look(batch.position)
        return Batch((), batch.position, True) if self._ends else batch

    async def _look(self, position: int) -> Batch:
        if self._watching is not None and self._head and position >= self._from:
            return self._remembered(position)
        found, upto = await asyncio.to_thread(self._ledger.read, _after, position)
        return Batch([_told(event) for event in found], upto)

    def _remembered(self, position: int) -> Batch:
        newer = takewhile(lambda told: told.event.seq > position, reversed(self._kept))
        found = list(newer)[::-1][:_PAGE]
        return Batch(found, found[-1].event.seq if found else max(position, self._head))

    async def _watch(self) -> None:
        self._kept.clear()
        self._from = self._head = 0
        while True:
            try:
                await self._follow()
            except Exception as exc:  # whatever it is, those who listen must not wait for ever
                _log.warning(
                    "the events cannot be read; trying again: %s", exc, exc_info=not isinstance(exc, HitlError)
                )
                await asyncio.sleep(_AGAIN)

    async def _follow(self) -> None:
        pause = _LOOK if self._sends_news else _POLL
        with await asyncio.to_thread(self._ledger.database.watch, "inbox") as news:
            if not self._head:
                self._from = self._head = await self.head()
                self._wake()  # whoever began meanwhile may have looked before this
            while True:
                await self._take()
                await asyncio.sleep(_BREATH)
                await news.await_news(pause - _BREATH)

    async def _take(self) -> None:
        while True:
            found, upto = await asyncio.to_thread(self._ledger.read, _after, self._head)
            for event in found:
                if len(self._kept) == _KEPT:
                    self._from = self._kept[0].event.seq
                self._kept.append(_told(event))
            self._head = upto
            if found:
                self._wake()
            if len(found) < _PAGE:
                return

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _after(tx: Transaction, position: int) -> tuple[list[Event], int]:
    found = events.since(tx, position, limit=_PAGE)
    return found, found[-1].seq if len(found) == _PAGE else max(position, events.last(tx))


def _told(event: Event) -> Told:
    data = EventDocument.model_validate(event).model_dump_json()
    return Told(event, ServerSentEvent(data, event="request", id=str(event.seq), sep="\n").encode())
