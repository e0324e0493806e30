"""The events as a stream (server-sent events): in order, without a gap, from where the listener left off."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import anyio
from pydantic import Field
from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hitl_graph.ledger import requests
from hitl_graph.storage import Transaction
from hitl_graph.web.bodies import Number, Query, read_query
from hitl_graph.web.door import Door, door_of
from hitl_graph.web.entrance import let_in_again
from hitl_graph.web.errors import ProblemError, Wrong
from hitl_graph.web.hub import Hub, Told
from hitl_graph.web.seeing import visible
from hitl_graph.web.visitors import Visitor, visitor_of

__all__ = ["EventsQuery", "events", "hub_of"]

_log = logging.getLogger(__name__)
_HEARTBEAT = 15
_SLOWEST = 30.0  # seconds that a listener may take to read what was sent
_LET_IN = 30.0  # seconds after which it is asked again whether they are
_OWN = 1.0  # and between two batches, where each listener sees only what concerns them
_GRACE = 2.0
_MOST = 2_000
_LARGEST = 2**63 - 1


class EventsQuery(Query):
    """From where to listen."""

    after: Number | None = Field(
        default=None, ge=0, le=_LARGEST,
        description="`seq` of the last event that you know, or of a list; left out: only what comes from now on.",
    )  # fmt: skip


def hub_of(request: Request) -> Hub:
    """The one watcher of this application."""
    state = request.app.state
    if not hasattr(state, "hub"):
        state.hub = Hub(door_of(request).ledger)
    return cast(Hub, state.hub)


async def events(request: Request) -> Response:
    """GET /events."""
    hub, after = hub_of(request), _position(request)
    if hub.listeners >= _MOST:
        raise ProblemError(
            503, "too-many-listeners", "Too many listen", f"{_MOST:,} streams are open; try again in a while"
        )
    return _Stream(
        _written(request, hub, after), ping=_HEARTBEAT, sep="\n", send_timeout=_SLOWEST,
        shutdown_event=cast(anyio.Event, hub), shutdown_grace_period=_GRACE,
        ping_message_factory=lambda: ServerSentEvent(comment="", sep="\n"),
    )  # fmt: skip


def _position(request: Request) -> int | None:
    """From where to go on; what a browser sends when it comes again is newer than the address."""
    given, asked = request.headers.get("last-event-id"), read_query(request, EventsQuery).after
    if not given:
        return asked
    if not (given.isascii() and given.isdecimal() and int(given[:20]) <= _LARGEST):
        place = Wrong(place="header.last-event-id", message="is no number of an event")
        raise ProblemError(422, "invalid", "What was sent does not fit", "Last-Event-ID is no number", errors=(place,))
    return int(given)


async def _written(request: Request, hub: Hub, after: int | None) -> AsyncIterator[bytes]:
    door, visitor, clock = door_of(request), visitor_of(request), asyncio.get_running_loop().time
    with hub.listening():
        head = await hub.head()
        position = head if after is None else after
        if position > head:  # of another database, or of one that was put back to an earlier day
            position = head
            yield ServerSentEvent(f'{{"seq":{head}}}', event="resync", id=str(head), sep="\n").encode()
        yield ServerSentEvent(id=str(position), retry=1000, sep="\n").encode()
        ask = clock() + _LET_IN
        while True:
            batch = await hub.after(position, ask - clock())
            position = batch.position
            if batch.is_last:
                return
            told = batch.told if door.sees == "all" else await _own(door, visitor, batch.told)
            if told:
                yield b"".join(one.text for one in told)
            if clock() >= ask:
                if (again := await let_in_again(request)) is None:
                    return
                visitor = again
                ask = clock() + _LET_IN
            if door.sees == "mine":
                await asyncio.sleep(_OWN)


async def _own(door: Door, visitor: Visitor, told: Sequence[Told]) -> Sequence[Told]:
    """Those about requests that this visitor sees."""
    if not told:
        return told
    ids = list({one.event.request_id for one in told})
    seen = await asyncio.to_thread(_seen, door, visitor, ids)
    return [one for one in told if one.event.request_id in seen]


def _seen(door: Door, visitor: Visitor, ids: list[str]) -> set[str]:
    def work(tx: Transaction) -> list[Any]:
        return requests.select(tx, f"id IN ({','.join('?' * len(ids))})", ids)

    return {request.id for request in visible(door, visitor, door.ledger.read(work))}


class _Stream(EventSourceResponse):
    """As its base; a listener who does not read is let go, without a traceback in the log."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            _log.info("a listener who took nothing for %d s was let go; it can go on where it was", _SLOWEST)
