"""The engine for SQLite: one writer with group commit, and readers that never wait for it."""

import asyncio
import contextlib
import copy
import functools
import inspect
import os
import shutil
import sqlite3
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self, TypeVar, cast

from hitl_graph.errors import DatabaseClosedError, DatabaseWriteError, StorageError
from hitl_graph.storage import Channel, Sizes, Transaction, Watch
from hitl_graph.storage.batching import Deferring, GroupCommit, Job
from hitl_graph.storage.sqlite_file import connect, execute, explain, prepare

__all__ = ["SqliteDatabase"]

T = TypeVar("T")
Synchronous = Literal["FULL", "NORMAL", "EXTRA"]

_MOMENT = 0.005  # seconds for which a step may wait for the next one, to be committed together
_READER_THREADS = 8
_IDLE_READERS = 16
_WAIT_FOR_READERS = 1.0
_CHECKPOINT_PAGES = 4000  # 16 MB of log: pages that many steps touch are copied into the file less often
_CACHE_KIB = 16_000
_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class SqliteDatabase(Deferring):
    """One SQLite file in write-ahead mode, for any number of threads, event loops and processes.

    Writes of one process are committed together and in the order in which they were asked for; a write that returns is
    durable (`synchronous=FULL` survives loss of power, `NORMAL` only the end of the process). Reads see one consistent
    snapshot. The file may be opened before a fork: the child gets connections of its own.
    """

    def __init__(self, path: str | os.PathLike[str], *, synchronous: Synchronous = "FULL") -> None:
        url = os.fspath(path)
        if url in ("", ":memory:") or url.startswith("file:"):
            raise StorageError(
                f"{url!r} is no file name. hitl-graph keeps decisions for other processes, so it needs a file; for a"
                " throw-away one take tempfile.mkdtemp() + '/agent.db'"
            )
        if synchronous not in ("FULL", "NORMAL", "EXTRA"):
            raise StorageError(
                f"synchronous={synchronous!r} is unknown; take 'FULL' (the default), 'EXTRA' or 'NORMAL'"
            )
        self._path = os.path.abspath(url)  # a later chdir must not move us to another file
        self._synchronous = synchronous
        self._mode = prepare(self._path, synchronous)
        self._closed = False
        self._start()
        _open_databases.add(self)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, synchronous: Synchronous = "FULL") -> "SqliteDatabase":
        """Open a database, creating it or bringing it up to date if need be.

        Raises:
            DatabaseCorruptError: The file belongs to another program, or is damaged.
            DatabaseTooNewError: A newer hitl-graph wrote it.
            DatabaseWriteError: It cannot be opened, or has to be created or brought up to date and is read-only.
        """
        return cls(path, synchronous=synchronous)

    def _start(self) -> None:
        self._writes = GroupCommit(self._commit, moment=_MOMENT, name="hitl-writer")
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[sqlite3.Connection] = deque()
        self._reading: set[sqlite3.Connection] = set()
        self._read_threads: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    @property
    def url(self) -> str:
        """The absolute path of the file."""
        return self._path

    @property
    def hold(self) -> str:
        """Nothing is needed: there is one writer."""
        return ""

    def write(self, work: Callable[[Transaction], T], /, *, durable: bool = True, in_turn: bool = False) -> T:
        """Run `work` in a write transaction; when this returns, its effects are durable.

        With `durable=False` they outlive this process, and loss of power only once a later write was durable. All
        writes are `in_turn` here.

        Raises:
            DatabaseWriteError: Read-only file, full disk, or locked by another process for 30 s. Nothing was stored.
            DatabaseClosedError: After `close()`.
        """
        self._check_open()
        return cast(T, self._writes.run(work, durable=durable))

    async def awrite(self, work: Callable[[Transaction], T], /, *, durable: bool = True) -> T:
        """As `write`, in a thread of its own. If the caller is cancelled, the write is still finished first."""
        self._check_open()
        return cast(T, await self._writes.arun(work, durable=durable))

    def execute(self, sql: str, parameters: Sequence[Any], /, *, durable: bool = True) -> int:
        """Run one statement that writes, in a transaction of its own; returns how many rows it changed."""
        self._check_open()
        return cast(int, self._writes.run((sql, parameters), durable=durable))

    async def aexecute(self, sql: str, parameters: Sequence[Any], /, *, durable: bool = True) -> int:
        """As `execute`, in a thread of its own."""
        self._check_open()
        return cast(int, await self._writes.arun((sql, parameters), durable=durable))

    def read(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T:
        """Run `work` on one consistent snapshot. Never waits for writers, but for what this process deferred."""
        self._check_open()
        self._writes.refuse_nesting()
        if self._writes.is_waiting(scope):
            self._writes.settle(())
        try:
            connection = self._reader()
            self._reading.add(connection)
            try:
                connection.execute("BEGIN")
                return work(cast(Transaction, connection))
            except BaseException as error:
                _forget_cursors(error)
                raise
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._reading.discard(connection)
                self._put_back(connection)
        except sqlite3.Error as error:
            explained = explain(error, self._path)
            if explained is error:
                raise
            raise explained from error

    async def aread(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T:
        """As `read`, in another thread."""
        self._check_open()
        with self._starting:
            if self._read_threads is None:
                self._read_threads = ThreadPoolExecutor(_READER_THREADS, thread_name_prefix="hitl-reader")
        reading = functools.partial(self.read, work, scope=scope)
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, reading)

    def watch(self, channel: Channel, /) -> Watch:
        """SQLite sends no news between processes: a watch only passes the time until one looks again."""
        return _Pause()

    def sizes(self) -> Sizes:
        """How much room the file and its log take."""

        def work(tx: Transaction) -> int:
            [pages], [size] = (tx.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_size"))
            return int(pages * size)

        file, log = (_size(self._path + end) for end in ("", "-wal"))
        return Sizes(file + log, log, self.read(work), {})

    def vacuum(self) -> None:
        """Write the file anew without what was deleted. Others wait meanwhile.

        Raises:
            DatabaseWriteError: The disk has no room for a second copy, or another process uses the file all the time.
        """
        self._check_open()
        needed, room = _size(self._path), shutil.disk_usage(os.path.dirname(self._path)).free
        if room < 2 * needed:
            raise DatabaseWriteError(
                f"{self._path}: a vacuum writes a second copy, which may take {2 * needed:,} bytes, and {room:,} are"
                " free; nothing was changed"
            )
        try:
            connection = connect(self._path, "rw", self._synchronous)
            try:
                # The index of words keeps what left it until parts of it are merged.
                execute(connection, "INSERT INTO hitl_words (hitl_words) VALUES ('optimize')")
                execute(connection, "VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def close(self) -> None:
        """Finish running writes and close all connections. May be called twice."""
        if self._closed:
            return
        self._writes.refuse_nesting()
        self._writes.settle(())
        self._closed = True
        if self._read_threads is not None:
            self._read_threads.shutdown(wait=True)
        self._writes.stop()
        with self._writes.lock:
            self._disconnect()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosedError(f"{self._path} was closed; open it again")

    def _disconnect(self) -> None:
        while self._readers:
            self._readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._readers.pop()  # the one used last has the warmest cache
        except IndexError:
            connection = connect(self._path, self._mode, self._synchronous)
            connection.execute("PRAGMA query_only=1")
            return connection

    def _put_back(self, connection: sqlite3.Connection) -> None:
        # An immutable connection believes that the file never changes: good for one look only.
        if self._closed or self._mode == "immutable" or len(self._readers) >= _IDLE_READERS:
            connection.close()
        else:
            self._readers.append(connection)

    def _commit(self, jobs: Sequence[Job]) -> None:
        """Run a batch in one transaction. Several jobs get a savepoint each, so that one which fails fails alone."""
        alone = len(jobs) == 1
        failure: BaseException | None = None
        committed = False
        try:
            connection = self._connection(any(job.durable for job in jobs))
            if alone and isinstance(jobs[0].work, tuple) and jobs[0].otherwise is None:
                jobs[0].value = execute(connection, *jobs[0].work)  # pyright: ignore[reportArgumentType]
            else:
                execute(connection, "BEGIN IMMEDIATE")
                for job in jobs:
                    self._run(connection, job, alone)
                if not (alone and jobs[0].error):
                    connection.execute("COMMIT")
            committed = True
        except (sqlite3.Error, StorageError) as error:
            failure = error
        finally:
            if not committed:
                # KeyboardInterrupt can arrive after the commit went through: then there is nothing to give up.
                committed = failure is None and self._writer is not None and not self._writer.in_transaction
                if not committed:
                    self._give_up()
            for job in jobs:
                if job.error is None and not committed:
                    job.error = self._explained(
                        failure or DatabaseWriteError(f"{self._path}: the write was interrupted")
                    )
                job.done = True

    def _run(self, connection: sqlite3.Connection, job: Job, alone: bool) -> None:
        try:
            if isinstance(job.work, tuple):  # what one statement did is undone by SQLite itself
                job.value = connection.execute(*job.work).rowcount  # pyright: ignore[reportArgumentType]
                if job.otherwise is not None and job.value < job.expected:
                    job.value = _undoing(connection, job.otherwise, alone)
            elif job.work is not None:
                job.value = _undoing(connection, job.work, alone)
        except BaseException as error:
            _forget_cursors(error)
            job.error = self._explained(error)
            if not (alone or connection.in_transaction):
                # A full disk makes SQLite give up the whole transaction, with the others' work in it.
                raise DatabaseWriteError(
                    f"{self._path}: a write committed together with this one failed ({error}); nothing was stored"
                ) from error

    def _connection(self, durable: bool) -> sqlite3.Connection:
        self._check_open()
        synchronous = self._synchronous if durable else "NORMAL"
        if self._writer is None:
            self._writer = connect(self._path, self._mode, self._synchronous, timeout=0)
            self._writer.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            self._writer.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._writer_synchronous: str = self._synchronous
        if synchronous != self._writer_synchronous:
            self._writer.execute(f"PRAGMA synchronous={synchronous}")
            self._writer_synchronous = synchronous
        return self._writer

    def _give_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()  # rolls back; after an I/O error its state is not to be trusted

    def _explained(self, error: BaseException) -> BaseException:
        """A fresh error for one caller: several may raise what one commit failed with."""
        explained = explain(error, self._path) if isinstance(error, sqlite3.Error) else error
        if isinstance(explained, StorageError):
            explained = copy.copy(explained)
        if explained is not error:
            explained.__cause__ = error
        return explained

    def _before_fork(self) -> None:
        # SQLite's locks belong to a process and its bookkeeping of them is inherited wrongly: leave nothing open.
        self._writes.lock.acquire()
        deadline = time.monotonic() + _WAIT_FOR_READERS
        while self._reading and time.monotonic() < deadline:
            time.sleep(0.001)
        self._disconnect()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._disconnect()


def _undoing(connection: sqlite3.Connection, work: Callable[[Transaction], T], alone: bool) -> T:
    """Run a work; if it fails, undo what it did and leave what others of the batch did."""
    if not alone:
        connection.execute("SAVEPOINT job")
    try:
        return work(cast(Transaction, connection))
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK" if alone else "ROLLBACK TO job")
        raise
    finally:
        if not alone and connection.in_transaction:
            connection.execute("RELEASE job")


def _forget_cursors(error: BaseException | None) -> None:
    """Empty the frames of what failed: a cursor in them that was not read to its end keeps its snapshot.

    A connection with an old snapshot reads what is no longer so, and cannot write once anybody else has.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if not frame.f_code.co_flags & _SUSPENDABLE:  # one that waits would be closed
                with contextlib.suppress(RuntimeError):  # it still runs
                    frame.clear()
        error = error.__cause__ or error.__context__


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


class _Pause:
    def wait(self, timeout: float) -> bool:
        time.sleep(timeout)
        return False

    async def await_news(self, timeout: float) -> bool:  # noqa: ASYNC109 - the twin of wait()
        await asyncio.sleep(timeout)
        return False

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


_open_databases: weakref.WeakSet[SqliteDatabase] = weakref.WeakSet()
_forking: list[SqliteDatabase] = []


def _before_fork() -> None:
    for database in list(_open_databases):
        if not database._closed:
            database._before_fork()
            _forking.append(database)


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop()._writes.lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop()._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
