"""One connection to PostgreSQL, always in pipeline mode: statements are sent without waiting for what came before.

A *sync* ends a segment of the pipeline. Statements up to a sync, outside of a BEGIN, are one implicit transaction:
stored together or not at all. So a write whose results nobody reads costs one round trip, and so does a batch of
statements. This speaks to libpq through `psycopg.pq`; psycopg's own pipeline takes twice the processor time.
"""

import os
import select
import time
from collections import OrderedDict, deque
from itertools import count
from typing import Final

import psycopg
from psycopg import errors, pq

from hitl_graph.errors import StorageError
from hitl_graph.storage.postgres_replies import BINARY, Command, Reply

__all__ = ["QuietConnection", "Session"]

_PREPARED: Final = 256
_TUPLES_OK, _COMMAND_OK = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK
_SYNC, _ABORTED = pq.ExecStatus.PIPELINE_SYNC, pq.ExecStatus.PIPELINE_ABORTED

_Key = tuple[bytes, tuple[int, ...]]


class Session:
    """One connection, used by one thread at a time. Once it is `broken` it can only be closed."""

    def __init__(self, conninfo: str, *, prepare: bool) -> None:
        self._connection = QuietConnection.connect(conninfo, autocommit=True)
        self._pgconn = self._connection.pgconn
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._socket = self._pgconn.socket
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        # What the server still has to answer: a statement, a prepare (by its key), a statement that nobody asks after
        # (None), or the end of a segment.
        self._expected: deque[Reply | _Key | str | None] = deque()
        self._names: OrderedDict[_Key, bytes] | None = OrderedDict() if prepare else None
        self._numbers = count(1)
        self._failure: psycopg.Error | None = None
        self._segment_failure: psycopg.Error | None = None
        self._pid = os.getpid()
        self.broken = False
        self.used_at = time.monotonic()

    @property
    def info(self) -> psycopg.ConnectionInfo:
        """Server version, host, encoding."""
        return self._connection.info

    @property
    def is_ours(self) -> bool:
        """Whether this process made the connection: one that came through a fork belongs to the parent."""
        return self._pid == os.getpid()

    def send(self, command: Command, reply: Reply | None) -> None:
        """Queue a statement. Without a reply nobody asks what became of it."""
        if not self.is_ours:
            raise StorageError("the process was forked inside of a transaction, which belongs to the parent")
        try:
            name = self._prepared((command.text, command.types)) if self._names is not None else b""
            if name:
                self._pgconn.send_query_prepared(name, command.values, command.formats, BINARY)
            else:
                self._pgconn.send_query_params(command.text, command.values, command.types, command.formats, BINARY)
        except psycopg.Error:
            self.broken = True
            raise
        self._expected.append(reply)

    def sync(self) -> None:
        """End a segment and send what is queued: it is committed, unless a BEGIN came before it."""
        try:
            self._pgconn.pipeline_sync()
        except psycopg.Error:
            self.broken = True
            raise
        self._expected.append("sync")

    def wait(self) -> None:
        """Wait for all answers.

        Raises:
            psycopg.Error: The first failure among them; or the connection is lost (then `broken` is set).
        """
        try:
            while self._expected:
                if self._pgconn.is_busy():
                    self._communicate()
                else:
                    self._take()
        except psycopg.OperationalError as error:
            self.broken = True
            raise self._failure or error from None
        except BaseException:
            self.broken = True  # interrupted: answers that nobody awaits are still to come
            raise
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def is_usable(self) -> bool:
        """Whether the connection still stands, as far as can be told without asking the server."""
        if self.broken or not self.is_ours:
            return False
        if not self._poll.poll(0):
            return True
        if not self._expected:
            return False  # nothing was asked, so this is a farewell
        try:
            while self._expected and self._poll.poll(0):
                self._pgconn.consume_input()
                while self._expected and not self._pgconn.is_busy():
                    self._take()
        except psycopg.Error:
            self.broken = True
        return not self.broken and (bool(self._expected) or not self._poll.poll(0))

    def close(self) -> None:
        """Close the connection, if it is of this process."""
        self.broken = True
        if self.is_ours:
            self._connection.close()

    def _communicate(self) -> None:
        if self._pgconn.flush():
            self._poll.modify(self._socket, select.POLLIN | select.POLLOUT)
            self._poll.poll()
            self._poll.modify(self._socket, select.POLLIN)
        else:
            self._poll.poll()
        self._pgconn.consume_input()

    def _take(self) -> None:
        """Take one answer, which has come, to where it belongs."""
        result = self._pgconn.get_result()
        if result is None:
            raise psycopg.OperationalError("the connection to the server was lost")
        status = result.status
        if status == _SYNC:
            self._expected.popleft()
            self._segment_failure = None
            return
        head = self._expected[0]
        failed = status != _TUPLES_OK and status != _COMMAND_OK
        if failed and status != _ABORTED:
            self._segment_failure = errors.error_from_result(result)
            if head is not None:
                self._failure = self._failure or self._segment_failure
        if isinstance(head, Reply):
            head.result = result
            if failed:
                head.failure = self._segment_failure
                self._failure = self._failure or self._segment_failure
        elif isinstance(head, tuple) and failed and self._names is not None:
            self._names.pop(head, None)
        if head != "sync":  # else it failed to commit, and the end of the segment is still to come
            self._expected.popleft()
        self._pgconn.get_result()  # None, which ends each answer

    def _prepared(self, key: _Key) -> bytes:
        """The name of a prepared statement; none for a text that is used for the first time."""
        names = self._names
        assert names is not None
        name = names.get(key)
        if name is None:
            names[key] = b""
            if len(names) > _PREPARED:
                _, old = names.popitem(last=False)
                if old:
                    self._pgconn.send_query_params(b"DEALLOCATE " + old, None)
                    self._expected.append(None)
            return b""
        names.move_to_end(key)
        if not name:
            name = names[key] = b"hitl_%d" % next(self._numbers)
            self._pgconn.send_prepare(name, key[0], key[1])
            self._expected.append(key)
        return name


class QuietConnection(psycopg.Connection):
    """A connection that is closed without a warning when it is forgotten, and not closed at all in a fork's child."""

    def __del__(self, *_: object) -> None: ...
