"""One transaction on one connection: statements are queued until somebody reads a result, or the end."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg

from hitl_graph.errors import StorageError
from hitl_graph.storage import Channel, Dialect
from hitl_graph.storage.postgres_replies import NOT_DURABLE, Adapter, Command, Reply, adapter
from hitl_graph.storage.postgres_session import Session
from hitl_graph.storage.postgres_watch import CHANNELS, NOTIFY

__all__ = ["READ", "WRITE", "PostgresTransaction"]

WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_FULL_QUEUE = 500


class PostgresTransaction:
    """What a work is given.

    Nothing is sent before a result is read: a work that reads none is one segment of the pipeline, which PostgreSQL
    commits as one, with no BEGIN. After a failure nothing more is sent, and every later use raises it again.

    Attributes:
        failure: Why the server gave up, even if the work has swallowed it.
        in_doubt: The end was sent, and no answer came: it may be stored or not.
    """

    dialect: Dialect = "postgres"

    def __init__(self, session: Session, begin: str = WRITE, *, durable: bool = True) -> None:
        self._session = session
        self._adapt: Adapter = adapter()
        self._begin = begin
        self._begun = False
        self._queued: list[tuple[Command, Reply]] = []
        self._news: set[Channel] = set()
        self.failure: BaseException | None = None
        self.in_doubt = False
        if not durable:
            self._queued.append((NOT_DURABLE, Reply(self._adapt, self._settle)))
        self._silent = len(self._queued)

    def begin(self) -> None:
        """Make a block of it from its first statement on, for savepoints."""
        self._begun = True
        self._queued.insert(0, (Command(self._begin, (), self._adapt), Reply(self._adapt, self._settle)))

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Reply:
        """Queue a statement."""
        if self.failure is not None:
            raise self.failure
        reply = Reply(self._adapt, self._settle)
        self._queued.append((Command(sql, parameters, self._adapt), reply))
        if len(self._queued) > _FULL_QUEUE:
            self._guard(self._send_queued)
        return reply

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> "_Replies":
        """Queue a statement for each set of parameters."""
        return _Replies([self.execute(sql, each) for each in parameters])

    def notify(self, channel: Channel, /) -> None:
        """Wake whoever watches this channel, in any process, once this is committed."""
        self._news.add(channel)

    def commit(self) -> None:
        """Store everything.

        Raises:
            psycopg.Error: A queued statement failed, or the connection was lost; see `in_doubt`.
        """
        if self.failure is not None:
            raise self.failure
        for channel in sorted(self._news):
            self.execute(NOTIFY, (CHANNELS[channel],))
        if self._begun or len(self._queued) > self._silent:
            self._guard(self._commit)
        self._end()

    def end_reading(self) -> None:
        """End a read, without waiting for the answer: it stores nothing, and whoever is next finds it."""
        self._queued.clear()
        if self._begun and self.failure is None:
            self._session.send(Command("COMMIT", (), self._adapt), None)
            self._session.sync()
        self._end()

    def rollback(self) -> None:
        """Forget everything."""
        self._queued.clear()
        if self._begun and not self._session.broken:
            try:
                self._session.send(Command("ROLLBACK", (), self._adapt), None)
                self._session.sync()
                self._session.wait()
            except psycopg.Error:
                self._session.broken = True
        self._end()

    def _settle(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._guard(self._send_and_wait)

    def _end(self) -> None:
        self.failure = self.failure or StorageError("the transaction has ended; read its results inside of the work")

    def _send_and_wait(self) -> None:
        self._send_queued()
        self._session.sync()
        self._session.wait()

    def _send_queued(self) -> None:
        if not self._begun:
            self._begun = True
            self._session.send(Command(self._begin, (), self._adapt), None)
        for command, reply in self._queued:
            self._session.send(command, reply)
        self._queued.clear()

    def _commit(self) -> None:
        replies = [reply for _, reply in self._queued]
        if self._begun:
            self.execute("COMMIT")
        for command, reply in self._queued:
            self._session.send(command, reply)
        self._queued.clear()
        self.in_doubt = True
        self._session.sync()
        try:
            self._session.wait()
        except BaseException:
            # An answer to a statement before the end says that the end was not reached.
            self.in_doubt = not any(reply.failure is not None for reply in replies)
            raise
        self.in_doubt = False

    def _guard(self, step: Any) -> None:
        try:
            step()
        except BaseException as error:
            self.failure = error
            raise


class _Replies:
    """What several runs of one statement gave."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self._replies = replies

    @property
    def rowcount(self) -> int:
        return sum(reply.rowcount for reply in self._replies)

    def fetchall(self) -> list[Any]:
        return [row for reply in self._replies for row in reply.fetchall()]

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def __iter__(self) -> Iterator[Any]:
        for reply in self._replies:
            yield from reply
