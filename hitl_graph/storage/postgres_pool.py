"""Connections that wait to be used again.

A stack under a semaphore and not psycopg-pool: taking a connection is to cost less than a statement, needs no thread
besides ours, and ours are sessions in pipeline mode. A connection is looked at when it is taken (one system call, no
round trip), so that one which the server has cut meanwhile is replaced before anything is sent.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from hitl_graph.errors import DatabaseClosedError, StorageError
from hitl_graph.storage.postgres_session import Session

__all__ = ["Pool"]

_WAIT_SECONDS = 30.0
_IDLE_SECONDS = 300.0


class Pool:
    """At most `size` connections that are in use at once, and those that wait."""

    def __init__(self, connect: Callable[[], Session], size: int) -> None:
        self._connect = connect
        self._size = size
        self._free = threading.Semaphore(size)
        self._idle: deque[Session] = deque()  # the one used last is on the right
        self._closed = False

    @contextmanager
    def session(self) -> Generator[Session]:
        """A connection, for as long as the block lasts."""
        if not self._free.acquire(timeout=_WAIT_SECONDS):
            raise StorageError(
                f"all {self._size} connections were in use for {_WAIT_SECONDS:.0f} s; look for work that does not end,"
                " or raise max_connections"
            )
        try:
            with self.extra_session() as session:
                yield session
        finally:
            self._free.release()

    @contextmanager
    def extra_session(self) -> Generator[Session]:
        """A connection over and above `size`."""
        session = self._take()
        try:
            yield session
        finally:
            self._give_back(session)

    def _take(self) -> Session:
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:
                break
            if session.is_usable():
                return session
            session.close()
        return self._connect()

    def _give_back(self, session: Session) -> None:
        now = session.used_at = time.monotonic()
        if session.broken or self._closed:
            session.close()
            return
        self._idle.append(session)
        if self._closed:  # meanwhile
            self.close()
        elif now - self._idle[0].used_at > _IDLE_SECONDS:
            try:
                self._idle.popleft().close()
            except IndexError:
                pass

    def close(self) -> None:
        """Close what waits now, and later whatever is given back."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def check_open(self, place: str) -> None:
        """Raise once it was closed."""
        if self._closed:
            raise DatabaseClosedError(f"{place} was closed; open it again")
