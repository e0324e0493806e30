"""Runs that go on from a pause: one at a time, over all processes.

Two processes that resume one pause both read the question, both take their own answer for the answer, and both go on.
So a run that begins at a pause claims its thread when it reads it, and others wait until it has ended. A checkpointer
is not told of the end of a run. But LangGraph keeps the config that it was given with the checkpoint as long as the run
lasts, and drops it in the moment in which the run returns: when our key in it is finalised, the run is over.
"""

import asyncio
import os
import threading
import time
import weakref
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from langchain_core.runnables import RunnableConfig

from hitl_graph.errors import HitlError, ThreadBusyError
from hitl_graph.ledger import owner
from hitl_graph.steps import Step, Steps
from hitl_graph.storage import Database, Transaction

__all__ = ["RUN", "Run", "Runs", "is_run"]

RUN = "__pregel_hitl_run"  # LangGraph leaves out what begins so when it shows a config
_WAIT = 10.0
_NAP = 0.01
_LEASE_MS = 300_000  # for a run on a machine that cannot be seen from here


class Run(str):
    """The name of a run; it lives as long as the run does."""


class _Here(NamedTuple):
    ns: int
    thread: int
    task: "asyncio.Task[object] | None"


_alive: dict[str, _Here] = {}


def is_run(config: RunnableConfig) -> bool:
    """Whether it is the config of a run, not of somebody who only looks."""
    return "__pregel_runtime" in config.get("configurable", {})


class Runs:
    """The claims of one checkpointer's runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ended: SimpleQueue[tuple[int, str] | None] = SimpleQueue()  # its put() is safe in a finaliser
        self._pid = 0
        self._starting = threading.Lock()

    def claim(self, ns: int, thread_id: str, claimed: str) -> Steps[Run]:
        """Become the run that goes on with a thread, when it is free.

        Args:
            ns: Its root namespace.
            thread_id: For the message.
            claimed: Who had it when it was read; "" for nobody.

        Raises:
            ThreadBusyError: Another run has not ended within ten seconds.
        """
        run = Run(f"{owner.current()}|{os.urandom(4).hex()}|{time.time_ns() // 1_000_000}")
        until = time.monotonic() + _WAIT
        while True:
            if not claimed or _is_over(claimed):
                sql, parameters = "UPDATE hitl_namespaces SET claim = ? WHERE ns = ? AND claim = ?", (run, ns, claimed)
                execute, aexecute = self._database.execute, self._database.aexecute
                if (yield Step(partial(execute, sql, parameters, durable=False),
                               partial(aexecute, sql, parameters, durable=False))):  # fmt: skip
                    break
            elif time.monotonic() > until:
                raise ThreadBusyError(thread_id, claimed)
            else:
                yield Step(partial(time.sleep, _NAP), partial(asyncio.sleep, _NAP))
            read, aread = self._database.read, self._database.aread
            row = yield Step(partial(read, partial(_claim_of, ns)), partial(aread, partial(_claim_of, ns)))
            if row is None:
                return run  # the thread was deleted
            claimed = row[0]
        self._watch(run, ns)
        return run

    def end(self, run: object) -> None:
        """A run has failed: it does nothing more, although whoever has its exception still keeps it."""
        if isinstance(run, Run):
            self._over(str(run))

    def close(self) -> None:
        """Give back what has ended. May be called twice."""
        with self._starting:
            if self._pid == os.getpid():
                self._pid = 0
                self._ended.put(None)
                self._thread.join()

    def _watch(self, run: Run, ns: int) -> None:
        name = str.__str__(run)  # another object: the registry must not keep the run alive
        _alive[name] = _Here(ns, threading.get_ident(), _current_task())
        finalizer = weakref.finalize(run, self._over, name)
        finalizer.atexit = False  # then the process itself is gone
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


def _claim_of(ns: int, tx: Transaction) -> tuple[str] | None:
    found: tuple[str] | None = tx.execute("SELECT claim FROM hitl_namespaces WHERE ns = ?", (ns,)).fetchone()
    return found


def _is_over(claimed: str) -> bool:
    place, _, rest = claimed.partition("|")
    if place == owner.current():
        here = _alive.get(claimed)
        # A run that another one follows in the same thread or task has ended, or will never be continued.
        return here is None or here[1:] == (threading.get_ident(), _current_task()) or _is_done(here.task)
    dead = owner.is_dead(place)
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
