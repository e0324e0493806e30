"""Runs: one at a time goes on from a pause, and what a run stores is on disk when it ends.

Two processes that resume one pause both read the question, both take their own answer for the answer, and both go on.
So a run that begins at a pause claims its thread when it reads it, and others wait until it has ended.

What a run stores may wait a moment, so that a few steps share a commit, if LangGraph does not wait for it either. It is
settled before the run returns. LangGraph does not tell a checkpointer of the end of a run, but has a stack of what is
to be undone then, and that takes our end, too.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import NamedTuple, Protocol, cast

from hitl_graph.checkpointers.rows import Row
from hitl_graph.errors import AlreadyDecidedError, HitlError, ThreadBusyError
from hitl_graph.ledger import owner, requests
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.storage import Database, Deferred, Transaction

__all__ = ["WAIT", "Going", "Run", "Runs", "running"]

WAIT = 5.0
"""Seconds for which a run waits for another one that goes on with its thread."""
_NAP = 0.01
_LEASE_MS = 300_000  # for a run on a machine that cannot be seen from here
_NEAR = 6  # frames: between a run and its checkpointer may be a wrapper
_CLAIM = (
    "UPDATE hitl_namespaces SET claim = ? WHERE ns = ? AND claim = ?"
    " AND ? IN ('', (SELECT max(checkpoint_id) FROM hitl_states WHERE ns = ? AND checkpoint_id <> ''))"
    " AND ? = (SELECT count(*) FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?)"
)


class Run(Protocol):
    """What `langgraph.pregel._loop.PregelLoop` has for us.

    Attributes:
        stack: What it undoes when the run has ended.
        durability: `sync` if it waits for each checkpoint before it goes on.
    """

    stack: ExitStack | AsyncExitStack
    durability: str


class Going:
    """The runs that go on in one namespace now.

    Attributes:
        deferred: What they stored and what may not be on disk yet.
        runs: How many they are.
        waiting: How many of them wait for each checkpoint.
    """

    __slots__ = ("deferred", "runs", "waiting")

    def __init__(self) -> None:
        self.deferred: deque[Deferred] = deque()
        self.runs = 0
        self.waiting = 0

    def add(self, write: Deferred) -> None:
        """Note a write, and forget those that are stored."""
        with contextlib.suppress(IndexError):
            while self.deferred[0].done and self.deferred[0].error is None:
                self.deferred.popleft()
        self.deferred.append(write)


class _Here(NamedTuple):
    thread: int
    task: "asyncio.Task[object] | None"


class _Held:
    """Lives as long as the run does, if LangGraph never comes to the end of its stack."""


_alive: dict[str, _Here] = {}


def running() -> Run | None:
    """The run that is just reading where it begins; None for whoever only looks."""
    frame = sys._getframe(1)
    for _ in range(_NEAR):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name in ("__enter__", "__aenter__"):
            found = frame.f_locals.get("self")
            if type(found).__module__ == "langgraph.pregel._loop" and hasattr(found, "stack"):
                return cast(Run, found)
    return None


class Runs:
    """The runs of one checkpointer.

    Args:
        database: Where they are.
        failed: Told of a thread when something of it could not be stored.
    """

    def __init__(self, database: Database, failed: Callable[[str], object]) -> None:
        owner.current()  # looks into /proc once, which should not be in an event loop
        self._database = database
        self._failed = failed
        self._going: dict[tuple[str, str], Going] = {}
        self._lock = threading.RLock()  # a run that nobody ended ends in a finaliser, at any moment

    def of(self, thread_id: str, checkpoint_ns: str) -> Going | None:
        """The runs that go on there, in this process."""
        return self._going.get((thread_id, checkpoint_ns))

    def claim(self, row: Row, writes: int, *, latest: bool, until: float) -> Steps[str | None]:
        """Try to go on with a thread as one run and no other.

        Args:
            row: Where it begins.
            writes: How many pending writes it has there.
            latest: Whether that is the latest checkpoint, and has to be.
            until: When to give up waiting for another one (`time.monotonic`).

        Returns:
            The claim; None if the thread has changed, or is not free yet: read it again.

        Raises:
            AlreadyDecidedError: Another run has not ended in time, and carries out what was decided.
            ThreadBusyError: It has not, and answers what was not asked by this library.
        """
        if not row.claim or (yield from _is_over(row.claim)):
            name = f"{owner.current()}|{os.urandom(4).hex()}|{time.time_ns() // 1_000_000}"
            head = row.checkpoint_id if latest else ""
            wanted = (name, row.ns, row.claim, head, row.ns, writes, row.ns, row.checkpoint_id)
            execute, aexecute = self._database.execute, self._database.aexecute
            if (yield Step(partial(execute, _CLAIM, wanted, durable=False),
                           partial(aexecute, _CLAIM, wanted, durable=False))):  # fmt: skip
                return name
        elif time.monotonic() > until:
            read, aread, lost = self._database.read, self._database.aread, partial(_lost, row.thread_id)
            raise (yield Step(partial(read, lost), partial(aread, lost))) or ThreadBusyError(row.thread_id, row.claim)
        else:
            yield Step(partial(time.sleep, _NAP), partial(asyncio.sleep, _NAP))
        return None

    def begin(self, run: Run, thread_id: str, checkpoint_ns: str, claim: tuple[int, str] | None) -> None:
        """Have what a run stores settled at its end.

        Args:
            run: It has just read where it begins.
            thread_id: Of what thread.
            checkpoint_ns: Of what graph or subgraph.
            claim: Number of the namespace and name of the claim that it gives back, if it has one.
        """
        key, waits = (thread_id, checkpoint_ns), getattr(run, "durability", "sync") == "sync"
        with self._lock:
            going = self._going.setdefault(key, Going())
            going.runs += 1
            going.waiting += waits
        if claim is not None:
            _alive[claim[1]] = _Here(threading.get_ident(), _current_task())
        held = _Held()
        finalizer = weakref.finalize(held, self._over, key, going, waits, claim)
        finalizer.atexit = False  # then the process itself is gone
        if isinstance(run.stack, AsyncExitStack):  # undone last, when all writes are through
            run.stack.push_async_callback(self._aend, held, finalizer, thread_id, going)
        else:
            run.stack.callback(self._end, held, finalizer, thread_id, going)

    def _end(self, _held: _Held, finalizer: "weakref.finalize[..., _Held]", thread_id: str, going: Going) -> None:
        finalizer()
        try:
            self._database.settle(going.deferred)
        except BaseException:
            self._failed(thread_id)
            raise

    async def _aend(
        self, _held: _Held, finalizer: "weakref.finalize[..., _Held]", thread_id: str, going: Going
    ) -> None:
        finalizer()
        try:
            await self._database.asettle(going.deferred)
        except BaseException:
            self._failed(thread_id)
            raise

    def _over(self, key: tuple[str, str], going: Going, waited: bool, claim: tuple[int, str] | None) -> None:
        with self._lock:
            going.runs -= 1
            going.waiting -= waited
            if not going.runs:
                self._going.pop(key, None)
        if claim is not None:
            _alive.pop(claim[1], None)
            with contextlib.suppress(HitlError):  # closed: whoever wants the thread finds out that the run is over
                self._database.defer(partial(_give_back, claim), scope=key[0], durable=False)


def _give_back(claim: tuple[int, str], tx: Transaction) -> None:
    """Not as a single statement: those may be stored before what was deferred earlier, and is done otherwise."""
    tx.execute("UPDATE hitl_namespaces SET claim = '' WHERE ns = ? AND claim = ?", claim)


def _lost(thread_id: str, tx: Transaction) -> AlreadyDecidedError | None:
    """That what waited in the thread is answered, and just carried out."""
    waiting = requests.select(tx, "thread_id = ? AND state IN ('pending', 'decided')", (thread_id,))
    if not waiting or any(request.decision is None for request in waiting):
        return None
    [request, *_] = waiting
    assert request.decision is not None
    return AlreadyDecidedError(request.id, request.reviewer or "", request.decision.type)


def _is_over(claimed: str) -> Steps[bool]:
    place, _, rest = claimed.partition("|")
    if place == owner.current():
        here = _alive.get(claimed)
        # A run that another one follows in the same thread or task has ended, or will never be continued.
        return here is None or here == (threading.get_ident(), _current_task()) or _is_done(here.task)
    dead: bool | None = yield blocking(owner.is_dead, place)
    if dead is None:
        return time.time_ns() // 1_000_000 > int(rest.rpartition("|")[2]) + _LEASE_MS
    return dead


def _is_done(task: "asyncio.Task[object] | None") -> bool:
    return task is not None and task.done()


def _current_task() -> "asyncio.Task[object] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
