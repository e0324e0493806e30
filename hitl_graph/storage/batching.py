"""Group commit: whoever holds the lock commits for everybody who waits for it.

A caller queues a job and takes the lock. The first one there runs all queued jobs in one transaction; the others
find their job done when they get the lock. An uncontended write so costs neither a second thread nor a hand-over.

A deferred job waits in the queue for the next write, for whoever settles it, or for a moment at most.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from hitl_graph.errors import DatabaseWriteError, StorageError
from hitl_graph.storage import Deferred, Statement, Transaction

__all__ = ["Deferring", "GroupCommit", "Job"]

T = TypeVar("T")

_LARGEST_BATCH = 256
_IDLE = 1.0


class Job:
    """One piece of work and, once it is committed or has failed, its outcome.

    Attributes:
        otherwise: Run in the same transaction where `work`, a statement, changed fewer than `expected` rows.
        scope: Whose reads have to see it, of what is deferred.
        since: When it was deferred.
    """

    __slots__ = ("done", "durable", "error", "expected", "future", "otherwise", "scope", "since", "value", "work")

    def __init__(
        self,
        work: Callable[[Transaction], Any] | Statement | None,
        durable: bool = True,
        *,
        future: "asyncio.Future[None] | None" = None,
        scope: str | None = None,
        expected: int = 0,
        otherwise: Callable[[Transaction], Any] | None = None,
    ) -> None:
        self.work = work
        self.durable = durable
        self.future = future
        self.scope = scope
        self.expected = expected
        self.otherwise = otherwise
        self.since = 0.0
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False

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
        moment: Seconds for which a deferred job waits for others.
        name: What to call the threads that serve event loops and what is deferred.
    """

    def __init__(self, commit: Callable[[Sequence[Job]], None], *, moment: float, name: str) -> None:
        self._commit = commit
        self._moment = moment
        self._name = name
        self._queue: deque[Job] = deque()
        self._batch: list[Job] = []  # a job is in one of them, and perhaps in both, until it is done
        self.lock = threading.Lock()
        self._owner: int | None = None
        self._scheduled = False
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.RLock()  # a finaliser may defer something at any moment, in any thread
        self._late: SimpleQueue[bool] = SimpleQueue()
        self._is_late_awake = False
        self._late_thread: threading.Thread | None = None

    def run(self, work: Callable[[Transaction], T] | Statement, *, durable: bool = True) -> Any:
        """Run `work`, or one statement; when this returns, it is committed."""
        self.refuse_nesting()
        job = Job(work, durable)
        self._queue.append(job)
        with self.lock:
            while not job.done:
                self._next_batch()
        return job.outcome()

    async def arun(self, work: Callable[[Transaction], T] | Statement | None, *, durable: bool = True) -> Any:
        """As `run`. A cancelled caller still waits for the end of its write, so that it is known what happened."""
        future = asyncio.get_running_loop().create_future()
        job = Job(work, durable, future=future)
        self._queue.append(job)
        self._schedule()
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return job.outcome()

    def defer(self, job: Job) -> None:
        """Queue a job and go on: it is stored within a moment, or with the next write."""
        job.since = time.monotonic()
        self._queue.append(job)
        if not self._is_late_awake:
            self._is_late_awake = True
            self._late.put(True)
            if self._late_thread is None:
                self._start_late()

    def settle(self, jobs: Iterable[Job]) -> None:
        """Store all that is queued, and raise what one of these jobs failed with."""
        if self._owner == threading.get_ident():
            return  # read by the work of a running write: what was deferred before it is stored before it
        if self._queue or self._batch:
            with self.lock:
                while self._queue:
                    self._next_batch()
        _raise_first(jobs)

    async def asettle(self, jobs: Iterable[Job]) -> None:
        """As `settle`."""
        if self._queue or self._batch:
            await self.arun(None)
        _raise_first(jobs)

    def is_waiting(self, scope: str | None) -> bool:
        """Whether something that was deferred is not stored yet, of this scope or of any."""
        if not self._queue and not self._batch:
            return False
        scopes = {job.scope for job in (*self._queue.copy(), *self._batch)} - {None}
        return bool(scopes) if scope is None else scope in scopes

    def refuse_nesting(self) -> None:
        """Raise when called by the work of a running write, which would wait for itself."""
        if self._owner == threading.get_ident():
            raise StorageError("the database was used inside a running write; use the transaction that was passed in")

    def stop(self) -> None:
        """Finish what is queued and end the threads."""
        self.settle(())
        with self._starting:
            executor, self._executor = self._executor, None
            late, self._late_thread = self._late_thread, None
        if executor is not None:
            executor.shutdown(wait=True)
        if late is not None:
            self._late.put(False)
            late.join()

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

    def _start_late(self) -> None:
        with self._starting:
            if self._late_thread is None:
                name = f"{self._name}-late"
                self._late_thread = threading.Thread(target=self._serve_late, name=name, daemon=True)
                self._late_thread.start()

    def _serve_late(self) -> None:
        while True:
            try:
                goes_on = self._late.get(timeout=_IDLE)
            except Empty:
                with self._starting:
                    if self._late_thread is not threading.current_thread():
                        return  # told to stop just now
                    if self._late.empty():
                        self._late_thread = None
                        return
                continue
            if not goes_on:
                return
            time.sleep(self._moment)
            while (young := self._age() - self._moment) < 0:  # what it was woken for is stored, others came
                time.sleep(-young)
            self._is_late_awake = False
            self._serve()

    def _age(self) -> float:
        """For how long the first job has been waiting."""
        try:
            return time.monotonic() - self._queue[0].since
        except IndexError:
            return self._moment

    def _next_batch(self) -> None:
        batch: list[Job] = []
        self._batch = batch
        while self._queue and len(batch) < _LARGEST_BATCH:
            batch.append(self._queue[0])
            self._queue.popleft()
        self._owner = threading.get_ident()
        try:
            if work := [job for job in batch if job.work is not None]:
                self._commit(work)
        finally:
            self._owner = None
            _announce(batch)
            self._batch = []


class Deferring:
    """The half of a `Database` that is about writes which may wait, whatever stands behind the group commit."""

    _writes: GroupCommit

    def _check_open(self) -> None:
        raise NotImplementedError

    def defer(
        self,
        work: Callable[[Transaction], Any] | Statement,
        /,
        *,
        scope: str,
        expected: int = 0,
        otherwise: Callable[[Transaction], Any] | None = None,
        durable: bool = True,
    ) -> Deferred:
        """Store something within a moment, and go on at once; see `Database`."""
        self._check_open()
        job = Job(work, durable, scope=scope, expected=expected, otherwise=otherwise)
        self._writes.defer(job)
        return job

    def settle(self, deferred: Iterable[Deferred], /) -> None:
        """Store all that was deferred; raises what one of these failed with."""
        self._writes.settle(cast("Iterable[Job]", deferred))

    async def asettle(self, deferred: Iterable[Deferred], /) -> None:
        """As `settle`."""
        await self._writes.asettle(cast("Iterable[Job]", deferred))


def _raise_first(jobs: Iterable[Job]) -> None:
    for job in jobs:
        if job.error is not None:
            job.outcome()


def _announce(batch: Sequence[Job]) -> None:
    waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in batch:
        if not job.done:
            if job.work is not None:
                job.error = DatabaseWriteError("the write was interrupted before its commit; nothing of it was stored")
            job.done = True
        if job.future is not None:
            waiting.setdefault(job.future.get_loop(), []).append(job.future)
    for loop, futures in waiting.items():
        with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_wake, futures)  # one wake-up for all of a batch


def _wake(futures: Sequence["asyncio.Future[None]"]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
