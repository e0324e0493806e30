"""Group commit: whoever holds the lock commits for everybody who waits for it.

A caller queues a job and takes the lock. The first one there runs all queued jobs in one transaction; the others
find their job done when they get the lock. An uncontended write so costs neither a second thread nor a hand-over.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any, TypeVar

from hitl_graph.errors import DatabaseWriteError, StorageError
from hitl_graph.storage import Statement, Transaction

__all__ = ["GroupCommit", "Job"]

T = TypeVar("T")

_LARGEST_BATCH = 256
_PATIENCE = 0.003
_is_patient = attrgetter("patient")


class Job:
    """One piece of work and, once it is committed or has failed, its outcome."""

    __slots__ = ("_waits", "done", "durable", "error", "future", "patient", "value", "work")

    def __init__(
        self,
        work: Callable[[Transaction], Any] | Statement,
        durable: bool,
        patient: bool,
        future: "asyncio.Future[None] | None" = None,
    ) -> None:
        self.work = work
        self.patient = patient
        self.durable = durable
        self.future = future
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False

        self._waits: threading.Lock | None = None

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after at most so long."""
        self._waits = threading.Lock()
        self._waits.acquire()
        return self.done or self._waits.acquire(timeout=seconds)

    def wake(self) -> None:
        """Tell a thread that waits that it is done."""
        if self._waits is not None and self._waits.locked():
            self._waits.release()

    def outcome(self) -> Any:
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # the traceback refers to this frame: do not keep a cycle
        return self.value


class GroupCommit:
    """Runs jobs one batch at a time, for threads and event loops alike.

    Args:
        commit: Runs a batch in one transaction and sets `value` or `error` of each job. Never called by two
            threads at once.
        name: What to call the thread that serves event loops.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None], name: str) -> None:
        self._commit = commit
        self._name = name
        self._queue: deque[Job] = deque()
        self.lock = threading.Lock()
        self._owner: int | None = None
        self._scheduled = False
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def run(self, work: Callable[[Transaction], T] | Statement, *, durable: bool = True, patient: bool = False) -> Any:
        """Run `work`, or one statement; when this returns, it is committed.

        What is `patient` waits a little for another write, to be committed after it and together with it.
        """
        self.refuse_nesting()
        job = Job(work, durable, patient)
        self._queue.append(job)
        if patient and job.wait(_PATIENCE):
            return job.outcome()
        with self.lock:
            while not job.done:
                self._next_batch()
        return job.outcome()

    async def arun(
        self, work: Callable[[Transaction], T] | Statement, *, durable: bool = True, patient: bool = False
    ) -> Any:
        """As `run`. A cancelled caller still waits for the end of its write, so that it is known what happened."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        job = Job(work, durable, patient, future)
        self._queue.append(job)
        timer = loop.call_later(_PATIENCE, self._schedule) if patient else None
        if not patient:
            self._schedule()
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                cancelled = error
        if timer is not None:
            timer.cancel()
        if cancelled is not None:
            raise cancelled
        return job.outcome()

    def refuse_nesting(self) -> None:
        """Raise when called by the work of a running write, which would wait for itself."""
        if self._owner == threading.get_ident():
            raise StorageError("the database was used inside a running write; use the transaction that was passed in")

    def stop(self) -> None:
        """Finish what is queued and end the worker thread."""
        with self._starting:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)

    def _worker(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix=self._name)
            return self._executor

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            try:
                self._worker().submit(self._serve)
            except BaseException:
                self._scheduled = False
                raise

    def _serve(self) -> None:
        self._scheduled = False
        while self._queue:
            with self.lock:
                self._next_batch()

    def _next_batch(self) -> None:
        batch: list[Job] = []
        while self._queue and len(batch) < _LARGEST_BATCH:
            batch.append(self._queue.popleft())
        if not batch:
            return
        batch.sort(key=_is_patient)
        self._owner = threading.get_ident()
        try:
            self._commit(batch)
        finally:
            self._owner = None
            _announce(batch)


def _announce(batch: Sequence[Job]) -> None:
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in batch:
        if not job.done:
            job.error = DatabaseWriteError("the write was interrupted before its commit; nothing of it was stored")
            job.done = True
        job.wake()
        if job.future is not None:
            waiting.setdefault(job.future.get_loop(), []).append(job.future)
    for loop, futures in waiting.items():
        try:
            loop.call_soon_threadsafe(_wake, futures)  # one wake-up for all of a batch
        except RuntimeError:
            pass  # that loop was closed: nobody waits there any more


def _wake(futures: Sequence["asyncio.Future[None]"]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
