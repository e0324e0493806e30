"""The engine for PostgreSQL: pooled connections in pipeline mode, few round trips, news between processes."""

import asyncio
import contextlib
import copy
import functools
import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Literal, TypeVar, cast

if find_spec("psycopg") is None:
    raise ImportError("PostgreSQL needs psycopg: pip install 'hitl-graph[postgres]'")

from hitl_graph.errors import DatabaseWriteError, StorageError
from hitl_graph.storage import Channel, Sizes, Transaction, Watch
from hitl_graph.storage.batching import Deferring, GroupCommit, Job
from hitl_graph.storage.postgres_attempts import may_run_again, retrying, unknown_outcome
from hitl_graph.storage.postgres_pool import Pool
from hitl_graph.storage.postgres_replies import Reply
from hitl_graph.storage.postgres_server import Server
from hitl_graph.storage.postgres_session import Session
from hitl_graph.storage.postgres_statements import run_statements
from hitl_graph.storage.postgres_transaction import READ, PostgresTransaction
from hitl_graph.storage.postgres_watch import Listener

__all__ = ["PostgresDatabase"]

T = TypeVar("T")
_MOMENT = 0.005
_SIZES = (
    "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class"
    " WHERE relkind = 'r' AND relname LIKE 'hitl\\_%' AND pg_table_is_visible(oid) ORDER BY relname"
)


class PostgresDatabase(Deferring):
    """One schema of a PostgreSQL database, for any number of threads, event loops, processes and machines.

    A write that returns is durable as far as the server's `synchronous_commit` goes (a server-wide `off` is overruled).
    Work that meets a deadlock is run again, so it must have no effects but on its transaction. Reads see one consistent
    snapshot. The database may be opened before a fork: the child gets connections of its own.

    Args:
        conninfo: As libpq takes it: `postgresql://...` or `host=... dbname=...`.
        schema: Where the tables are; it is created if need be. Without it: the first schema of the search path.
        max_connections: How many connections this process has in use at once (two more may listen and send batches).
        synchronous_commit: `off` trades the last moments before a crash of the server for speed.
        prepare: Whether to use prepared statements. `False` behind a pooler that cannot keep them.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str | None = None,
        max_connections: int = 16,
        synchronous_commit: Literal["on", "off"] = "on",
        prepare: bool = True,
    ) -> None:
        if synchronous_commit not in ("on", "off"):
            raise StorageError(
                f"synchronous_commit={synchronous_commit!r} is unknown; take 'on' (the default) or 'off'"
            )
        if max_connections < 1:
            raise StorageError(f"max_connections={max_connections}: at least 1 is needed")
        self._server = Server(conninfo, schema, synchronous_commit=synchronous_commit, prepare=prepare)
        self._max_connections = max_connections
        self._closed = False
        self._start()
        self._listener = Listener(self._server)
        try:
            with self._server.explaining(), self._pool.session() as session:
                self._server.prepare(session)
        except BaseException:
            self.close()
            raise
        _open_databases.add(self)

    @classmethod
    def open(
        cls,
        conninfo: str,
        *,
        schema: str | None = None,
        max_connections: int = 16,
        synchronous_commit: Literal["on", "off"] = "on",
        prepare: bool = True,
    ) -> "PostgresDatabase":
        """Open a database, creating the tables or bringing them up to date if need be.

        Raises:
            StorageError: The server cannot be reached, refuses us, or is older than PostgreSQL 13.
            DatabaseCorruptError: There are tables with our names that are not ours.
            DatabaseTooNewError: A newer hitl-graph made them.
            DatabaseWriteError: They have to be made or brought up to date, and we may not.
        """
        return cls(
            conninfo,
            schema=schema,
            max_connections=max_connections,
            synchronous_commit=synchronous_commit,
            prepare=prepare,
        )

    def _start(self) -> None:
        self._pool = Pool(self._server.connect, self._max_connections)
        self._writes = GroupCommit(self._run_batch, moment=_MOMENT, name="hitl-statements")
        self._in_turn = GroupCommit(self._run_batch, moment=_MOMENT, name="hitl-in-turn")
        self._threads: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()
        self._inside = threading.local()

    @property
    def url(self) -> str:
        """`postgresql://...`, which leads another process to the same tables; without the password."""
        return self._server.url

    @property
    def hold(self) -> str:
        """A shared lock on the rows: whoever updates them waits."""
        return " FOR SHARE"

    def write(self, work: Callable[[Transaction], T], /, *, durable: bool = True, in_turn: bool = False) -> T:
        """Run `work` in a transaction (READ COMMITTED); when this returns, its effects are durable.

        A statement is sent when a result is read, or at the end: reading nothing costs one round trip, each reading at
        most one more. An error of a statement whose result nobody reads is raised at the end. Work that met a deadlock
        is run again from its beginning. With `durable=False` a crash of the server may lose it within the next second.

        Raises:
            DatabaseWriteError: It could not be stored; nothing was. Or, as the message says, the connection was lost
                during the commit, and it is not known whether it was stored.
            DatabaseClosedError: After `close()`.
        """
        self._refuse_nesting()
        if self._writes.is_waiting(None):
            return cast(T, self._writes.run(work, durable=durable))
        if in_turn:
            return cast(T, self._in_turn.run(work, durable=durable))
        return self._write(work, durable)

    def _write(self, work: Callable[[Transaction], T], durable: bool) -> T:
        def once(session: Session) -> T:
            transaction = PostgresTransaction(session, durable=durable)
            self._inside.write = True
            try:
                with self._given_up(transaction, session):
                    value = work(cast(Transaction, transaction))
                    transaction.commit()
                return value
            finally:
                self._inside.write = False

        with self._server.explaining():
            return retrying(self._pool, once)

    async def awrite(self, work: Callable[[Transaction], T], /, *, durable: bool = True) -> T:
        """As `write`, together with what other tasks write. A cancelled caller still waits for the end of its write."""
        self._check_open()
        return cast(T, await self._writes.arun(work, durable=durable))

    def read(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T:
        """Run `work` on one consistent snapshot. Never waits for writers, but for what this process deferred."""
        self._refuse_nesting()
        if self._writes.is_waiting(scope):
            self._writes.settle(())

        def once(session: Session) -> T:
            transaction = PostgresTransaction(session, READ)
            with self._given_up(transaction, session):
                value = work(cast(Transaction, transaction))
                transaction.end_reading()
            return value

        with self._server.explaining():
            return retrying(self._pool, once)

    async def aread(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T:
        """As `read`, in another thread."""
        self._check_open()
        return await asyncio.wrap_future(self._executor().submit(functools.partial(self.read, work, scope=scope)))

    def execute(self, sql: str, parameters: Sequence[Any] = (), /, *, durable: bool = True) -> int:
        """Run one statement as a transaction of its own; returns how many rows it changed.

        Those of several threads and tasks that wait at the same time are one round trip and one commit. For short
        statements: one that waits for a lock holds up the others.

        Raises:
            DatabaseWriteError: As `write`.
        """
        self._refuse_nesting()
        return cast(Reply, self._writes.run((sql, parameters), durable=durable)).rowcount

    async def aexecute(self, sql: str, parameters: Sequence[Any] = (), /, *, durable: bool = True) -> int:
        """As `execute`. If the caller is cancelled, the statement is still finished first."""
        self._check_open()
        return cast(Reply, await self._writes.arun((sql, parameters), durable=durable)).rowcount

    def statement(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement as a transaction of its own, in one round trip on a connection of its own; its rows."""
        self._refuse_nesting()
        job = Job((sql, parameters))
        run_statements(self._pool.session, [job], self._server.place)
        return cast(Reply, job.outcome()).fetchall()

    async def astatement(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """As `aexecute`, for the rows that it gives."""
        self._check_open()
        return cast(Reply, await self._writes.arun((sql, parameters))).fetchall()

    def watch(self, channel: Channel, /) -> Watch:
        """Begin to listen for news. Needs a connection of its own, not through a pooler of transactions."""
        self._check_open()
        return self._listener.watch(channel)

    def sizes(self) -> Sizes:
        """How much room our tables take."""
        with self._server.explaining():
            tables = {name: int(size) for name, size in self.statement(_SIZES)}
        return Sizes(sum(tables.values()), 0, None, tables)

    def vacuum(self) -> None:
        """Make room within the tables for what comes, and tell the planner how they are filled. Nobody waits."""
        with self._server.explaining():
            for name in self.sizes().tables:
                self.statement(f"VACUUM (ANALYZE) {name}")

    def close(self) -> None:
        """Finish running work and close all connections. May be called twice."""
        if self._closed:
            return
        if getattr(self._inside, "write", False):
            self._refuse_nesting()
        self._writes.settle(())
        self._closed = True
        self._writes.stop()
        self._in_turn.stop()
        with self._starting:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        self._pool.close()
        self._listener.close()

    def _run_batch(self, jobs: Sequence[Job]) -> None:
        statements = [job for job in jobs if isinstance(job.work, tuple)]
        if len(statements) < len(jobs) > 1:
            self._run_together(jobs)
        elif statements:
            run_statements(self._pool.extra_session, statements, self._server.place)
            for job in statements:
                if job.otherwise is not None and job.error is None and job.value.rowcount < job.expected:
                    self._run_alone(job, job.otherwise)
        else:
            self._run_alone(jobs[0])

    def _run_together(self, jobs: Sequence[Job]) -> None:
        """Run all in one transaction; a work that fails fails alone."""

        def each(tx: Transaction) -> list[tuple[Any, Exception | None]]:
            cast(PostgresTransaction, tx).begin()
            # The statements first: nobody waits for their answers, and a work that reads does so for all.
            replies = {
                id(job): tx.execute(*job.work)  # pyright: ignore[reportArgumentType]
                for job in jobs
                if isinstance(job.work, tuple)
            }
            outcomes: dict[int, tuple[Any, Exception | None]] = {
                id(job): self._undoing(tx, job.work) for job in jobs if id(job) not in replies
            }
            for job in jobs:
                if (reply := replies.get(id(job))) is not None:
                    enough = job.otherwise is None or reply.rowcount >= job.expected
                    outcomes[id(job)] = (reply, None) if enough else self._undoing(tx, job.otherwise)
            return [outcomes[id(job)] for job in jobs]

        try:
            outcomes = self._write(each, any(job.durable for job in jobs))
        except DatabaseWriteError as failure:  # also when it is not known whether they were stored
            outcomes = [(None, copy.copy(failure)) for _ in jobs]
        except Exception:  # which of them it was is not told
            for job in jobs:
                self._run_alone(job)
            return
        for job, (value, error) in zip(jobs, outcomes, strict=True):
            if isinstance(value, Reply):
                value.load()
            job.value, job.error, job.done = value, error, True

    @staticmethod
    def _undoing(tx: Transaction, work: Any) -> tuple[Any, Exception | None]:
        tx.execute("SAVEPOINT job")
        try:
            value, failure = work(tx), None
        except Exception as error:
            if cast(PostgresTransaction, tx).failure is not None:
                raise
            tx.execute("ROLLBACK TO SAVEPOINT job")
            value, failure = None, error
        tx.execute("RELEASE SAVEPOINT job")
        return value, failure

    def _run_alone(self, job: Job, work: Any = None) -> None:
        if work is None and isinstance(job.work, tuple):
            run_statements(self._pool.extra_session, [job], self._server.place)
            if job.otherwise is None or job.error is not None or job.value.rowcount >= job.expected:
                return
            work = job.otherwise
        try:
            job.value = self._write(work or cast(Callable[[Transaction], Any], job.work), job.durable)
        except Exception as error:
            job.error = error
        job.done = True

    def _executor(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._threads is None:
                self._check_open()
                self._threads = ThreadPoolExecutor(self._max_connections, thread_name_prefix="hitl-postgres")
            return self._threads

    def _check_open(self) -> None:
        self._pool.check_open(self._server.place)

    def _refuse_nesting(self) -> None:
        self._check_open()
        if getattr(self._inside, "write", False):
            raise StorageError("the database was used inside a running write; use the transaction that was passed in")

    @contextlib.contextmanager
    def _given_up(self, transaction: PostgresTransaction, session: Session) -> Generator[None]:
        """Roll back what fails, and tell whether it is worth another attempt."""
        try:
            yield
        except BaseException as error:
            failure = transaction.failure or error
            transaction.rollback()
            if not isinstance(error, Exception):
                raise
            if session.broken and transaction.in_doubt:
                raise unknown_outcome(self._server.place, failure) from failure
            again = may_run_again(session, failure)
            if again is None:
                raise
            raise again from failure

    def _after_fork(self) -> None:
        if not self._closed:
            self._start()
            self._listener.after_fork()


_open_databases: "weakref.WeakSet[PostgresDatabase]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for database in list(_open_databases):
        database._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
