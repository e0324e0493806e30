"""Take what is due: reminders, escalations, and the end of waiting.

What a turn does is in `hitl_graph.ledger.schedule`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from threading import Event

from hitl_graph.errors import DatabaseClosedError
from hitl_graph.ledger import Ledger, schedule
from hitl_graph.ledger.schedule import Came
from hitl_graph.model import from_ms
from hitl_graph.steps import Step, Steps, arun, blocking, calling, run

__all__ = ["Came", "Sweeper"]

log = logging.getLogger(__name__)

_NAP = 0.5  # seconds, after which `stop` is noticed


class Sweeper:
    """Takes the turns that are due, by the ledger's clock. A `Worker` has one; alone it is for graphs without a worker.

    Any number may run, in any number of processes: each turn is taken once, in the transaction that records it.

    Args:
        on_turn: Told of each turn once it is stored; sync or async. It is told at most once: not again if the process
            dies before, or if it raises (which is logged).
        batch: How many turns share a transaction. Others who write wait for its end.
    """

    def __init__(self, ledger: Ledger, *, on_turn: Callable[[Came], object] | None = None, batch: int = 50) -> None:
        if batch < 1:
            raise ValueError(f"batch={batch} is no number of turns")
        self.ledger, self.on_turn, self.batch = ledger, on_turn, batch
        self._stopping = Event()
        self._damaged = frozenset[str]()
        self._due: int | None = None

    def run_once(self) -> list[Came]:
        """Take all that is due, in the order in which it was due, however late."""
        return run(self.steps())

    async def arun_once(self) -> list[Came]:
        """As `run_once`."""
        return await arun(self.steps())

    def next_due(self) -> datetime | None:
        """When the next turn of any request comes (UTC); in the past if it was not taken yet."""
        due = self.ledger.read(schedule.next_due, self._damaged)
        return None if due is None else from_ms(due)

    async def anext_due(self) -> datetime | None:
        """As `next_due`."""
        return await asyncio.to_thread(self.next_due)

    def run(self, *, interval: float = 1.0) -> None:
        """Serve until `stop()`: take each turn when it is due. What goes wrong is logged, and tried again.

        Args:
            interval: Seconds after which it looks for new requests, at the latest.
        """
        run(self._serve(interval))

    async def arun(self, *, interval: float = 1.0) -> None:
        """Serve until `stop()`, or until cancelled."""
        await arun(self._serve(interval))

    def stop(self) -> None:
        """`run` and `arun` return when the current batch is done. From any thread, or a signal."""
        self._stopping.set()

    def steps(self, stopping: Event | None = None) -> Steps[list[Came]]:
        """As `run_once`; a worker's rounds go through it.

        Args:
            stopping: Begin no other batch once it is set.
        """
        stopped, taken = stopping or self._stopping, list[Came]()
        while not stopped.is_set():
            self._due = yield blocking(self.ledger.read, schedule.next_due, self._damaged)
            if self._due is None or self._due > self.ledger.now_ms():  # a look is cheap, a transaction is not
                break
            came: list[Came] = yield blocking(self._take)
            taken += came
            for one in came:
                yield from self._tell(one)
        return taken

    def tried(self, stopping: Event | None = None) -> Steps[float | None]:
        """As `steps`; what goes wrong is logged. Gives the seconds until the next turn; None where none is known.

        Raises:
            DatabaseClosedError: It will not get better.
        """
        try:
            yield from self.steps(stopping)
        except DatabaseClosedError:
            raise
        except Exception:
            log.exception("what is due could not be taken; it is tried again")
            return None
        return None if self._due is None else max(0.0, (self._due - self.ledger.now_ms()) / 1000)

    def _take(self) -> list[Came]:
        damaged = set(self._damaged)
        came = self.ledger.write(schedule.sweep, self.ledger.now_ms(), limit=self.batch, damaged=damaged)
        for request_id in damaged - self._damaged:
            log.error("%s was changed behind our back; its deadline is not kept. See `hitl audit verify`", request_id)
        self._damaged = frozenset(damaged)
        return came

    def _tell(self, came: Came) -> Steps[None]:
        if self.on_turn is None:
            return
        try:
            yield calling(self.on_turn, came, in_thread=True)
        except Exception:
            log.exception("on_turn failed for request %s; the turn (%s) counts", came.request.id, came.turn.then)

    def _serve(self, interval: float) -> Steps[None]:
        while not self._stopping.is_set():
            wait = yield from self.tried()
            until = time.monotonic() + (interval if wait is None else min(interval, wait))
            while not self._stopping.is_set() and (left := until - time.monotonic()) > 0:
                nap = min(_NAP, left)
                yield Step(partial(self._stopping.wait, nap), partial(asyncio.sleep, nap))
