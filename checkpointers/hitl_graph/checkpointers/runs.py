"""Runs that go on from a pause: one at a time, over all processes.

Two processes that resume one pause both read the question, both take their own answer for the answer, and both go on.
So a run that begins at a pause claims its thread when it reads it, and others wait until it has ended. LangGraph does
not tell a checkpointer of the end of a run, but has a stack of what is to be undone then, and that takes our end, too.
"""

import asyncio
import os
import sys
import threading
import time
import weakref
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple, Protocol, cast

from hitl_graph.errors import AlreadyDecidedError, HitlError, ThreadBusyError
from hitl_graph.ledger import owner, requests
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.storage import Database, Transaction

__all__ = ["Run", "Runs", "running"]

_WAIT = 5.0
_NAP = 0.01
_LEASE_MS = 300_000  # for a run on a machine that cannot be seen from here
_NEAR = 6  # frames: between a run and its checkpointer may be a wrapper


class Run(Protocol):
    """What `langgraph.pregel._loop.PregelLoop` has for us: what it undoes when the run has ended."""

    stack: ExitStack | AsyncExitStack


class _Here(NamedTuple):
    ns: int
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
    """The claims of one checkpointer's runs."""

    def __init__(self, database: Database) -> None:
        owner.current()  # looks into /proc once, which should not be in an event loop
        self._database = database
        self._ended: SimpleQueue[tuple[int, str] | None] = SimpleQueue()  # its put() is safe in a finaliser
        self._pid = 0
        self._starting = threading.Lock()

    def claim(self, run: Run, ns: int, thread_id: str, claimed: str) -> Steps[None]:
        """Go on with a thread as this run and no other, as soon as it is free.

        Args:
            run: Who goes on.
            ns: The thread's root namespace.
            thread_id: For the message.
            claimed: Who had it when it was read; "" for nobody.

        Raises:
            AlreadyDecidedError: Another run has not ended within five seconds, and carries out what was decided.
            ThreadBusyError: It has not, and answers what was not asked by this library.
        """
        name = f"{owner.current()}|{os.urandom(4).hex()}|{time.time_ns() // 1_000_000}"
        until = time.monotonic() + _WAIT
        while True:
            if not claimed or (yield from _is_over(claimed)):
                sql, parameters = "UPDATE hitl_namespaces SET claim = ? WHERE ns = ? AND claim = ?", (name, ns, claimed)
                execute, aexecute = self._database.execute, self._database.aexecute
                if (yield Step(partial(execute, sql, parameters, durable=False),
                               partial(aexecute, sql, parameters, durable=False))):  # fmt: skip
                    break
            elif time.monotonic() > until:
                read, aread = self._database.read, self._database.aread
                lost = yield Step(partial(read, partial(_lost, thread_id)), partial(aread, partial(_lost, thread_id)))
                raise lost or ThreadBusyError(thread_id, claimed)
            else:
                yield Step(partial(time.sleep, _NAP), partial(asyncio.sleep, _NAP))
            read, aread = self._database.read, self._database.aread
            row = yield Step(partial(read, partial(_claim_of, ns)), partial(aread, partial(_claim_of, ns)))
            if row is None:
                return  # the thread was deleted
            claimed = row[0]
        self._watch(run, name, ns)

    def close(self) -> None:
        """Give back what has ended. May be called twice."""
        with self._starting:
            if self._pid == os.getpid():
                self._pid = 0
                self._ended.put(None)
                self._thread.join()

    def _watch(self, run: Run, name: str, ns: int) -> None:
        _alive[name] = _Here(ns, threading.get_ident(), _current_task())
        held = _Held()
        finalizer = weakref.finalize(held, self._over, name)
        finalizer.atexit = False  # then the process itself is gone
        run.stack.callback(_end, held, finalizer)  # undone last, when all writes are through
        with self._starting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._give_back, name="hitl-runs", daemon=True)
                self._thread.start()

    def _over(self, run: str) -> None:
        here = _alive.pop(run, None)
        if here is not None:
            self._ended.put((here.ns, run))

    def _give_back(self) -> None:
        while (ended := self._ended.get()) is not None:
            ns, run = ended
            try:
                self._database.execute(
                    "UPDATE hitl_namespaces SET claim = '' WHERE ns = ? AND claim = ?", (ns, run), durable=False
                )
            except HitlError:
                pass  # closed, or not to be reached: whoever wants the thread finds out that the run is over


def _end(_held: _Held, finalizer: "weakref.finalize[..., _Held]") -> None:
    finalizer()


def _lost(thread_id: str, tx: Transaction) -> AlreadyDecidedError | None:
    """That what waited in the thread is answered, and just carried out."""
    waiting = requests.select(tx, "thread_id = ? AND state IN ('pending', 'decided')", (thread_id,))
    if not waiting or any(request.decision is None for request in waiting):
        return None
    [request, *_] = waiting
    assert request.decision is not None
    return AlreadyDecidedError(request.id, request.reviewer or "", request.decision.type)


def _claim_of(ns: int, tx: Transaction) -> tuple[str] | None:
    found: tuple[str] | None = tx.execute("SELECT claim FROM hitl_namespaces WHERE ns = ?", (ns,)).fetchone()
    return found


def _is_over(claimed: str) -> Steps[bool]:
    place, _, rest = claimed.partition("|")
    if place == owner.current():
        here = _alive.get(claimed)
        # A run that another one follows in the same thread or task has ended, or will never be continued.
        return here is None or here[1:] == (threading.get_ident(), _current_task()) or _is_done(here.task)
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
