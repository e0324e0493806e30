"""News from other processes: one connection that listens, and the watches that it wakes."""

import asyncio
import contextlib
import os
import random
import select
import threading
import weakref
from typing import Self

import psycopg
from psycopg import sql

from hitl_graph.errors import DatabaseClosedError, StorageError
from hitl_graph.storage import Channel
from hitl_graph.storage.postgres_server import Server
from hitl_graph.storage.postgres_session import QuietConnection

__all__ = ["CHANNELS", "NOTIFY", "Listener", "NewsWatch"]

CHANNELS: dict[Channel, str] = {"inbox": "hitl_inbox", "decided": "hitl_decided"}
NOTIFY = "SELECT pg_notify(?, current_schema())"  # the payload tells the schemas of one database apart
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class NewsWatch:
    """News of one channel, from when the watch was made. One waits on it at a time, thread or task."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._news = threading.Event()
        self._sleeper: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._closed = False

    def wait(self, timeout: float) -> bool:
        """Wait for news, at most so many seconds; whether there may be some."""
        self._check_open()
        if not self._news.wait(timeout):
            return False
        self._check_open()
        self._news.clear()
        return True

    async def await_news(self, timeout: float) -> bool:  # noqa: ASYNC109 - the protocol
        """As `wait`."""
        self._check_open()
        woken = asyncio.Event()
        self._sleeper = asyncio.get_running_loop(), woken
        try:
            if not self._news.is_set():  # else it came before the sleeper was in place
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), timeout)
        finally:
            self._sleeper = None
        return self.wait(0)

    def close(self) -> None:
        """Stop listening. Whoever waits gets a DatabaseClosedError."""
        self._listener.forget(self)
        self._closed = True
        self.report()

    def report(self) -> None:
        """Wake whoever waits."""
        self._news.set()
        sleeper = self._sleeper
        if sleeper is not None:
            with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there any more
                sleeper[0].call_soon_threadsafe(sleeper[1].set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosedError("this watch or its database was closed")
        self._listener.ensure_running()


class Listener:
    """One connection and one thread for all watches of a database, from the first watch on.

    When the connection is lost the thread makes a new one and then reports news everywhere, as it may have missed some.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._watches: dict[NewsWatch, str] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake: int | None = None

    def watch(self, channel: Channel) -> NewsWatch:
        """Begin to listen for news.

        Raises:
            StorageError: The server cannot be reached.
        """
        watch = NewsWatch(self)
        self._watches[watch] = CHANNELS[channel]
        try:
            self.ensure_running()
        except BaseException:
            self.forget(watch)
            raise
        return watch

    def forget(self, watch: NewsWatch) -> None:
        """Report no more to a watch."""
        self._watches.pop(watch, None)

    def ensure_running(self) -> None:
        """Start the thread if there is none: at first, and in a fork's child."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                listening = _listen(self._server)
                sleep, self._wake = os.pipe()
                serve = (weakref.ref(self), self._server, listening, sleep)
                self._thread = threading.Thread(target=_serve, args=serve, name="hitl-listener", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread and all watches."""
        with self._lock:
            thread = self._thread
            self._end()
        if thread is not None:
            thread.join()
        for watch in list(self._watches):
            watch.close()

    def after_fork(self) -> None:
        """In the child: thread and connection are the parent's. Watches report news and go on with new ones."""
        self._lock = threading.Lock()
        if self._wake is not None:
            os.close(self._wake)
            self._wake = self._thread = None
        self.report(None)

    def report(self, channel: str | None) -> None:
        """Wake the watches of a channel, or all."""
        for watch, listens_to in list(self._watches.items()):
            if channel is None or listens_to == channel:
                watch.report()

    def _end(self) -> None:
        if self._wake is not None:
            os.write(self._wake, b"x")
            os.close(self._wake)
            self._wake = self._thread = None

    def __del__(self) -> None:
        self._end()  # its database was forgotten without close()


_Listening = tuple[QuietConnection, str | None]


def _listen(server: Server) -> _Listening:
    with server.explaining():
        connection = QuietConnection.connect(server.conninfo, autocommit=True, prepare_threshold=None)
        try:
            schema = server.schema
            if schema is None:
                [schema] = connection.execute("SELECT current_schema()").fetchone() or (None,)
            for name in CHANNELS.values():
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
        except BaseException:
            connection.close()
            raise
    return connection, schema


def _serve(listener: "weakref.ref[Listener]", server: Server, listening: _Listening | None, sleep: int) -> None:
    """Pass on news until something is written to the pipe."""
    pause = _FIRST_PAUSE
    try:
        while True:
            if listening is not None:
                with contextlib.closing(listening[0]), contextlib.suppress(psycopg.Error):
                    if not _pass_on(listener, *listening, sleep):
                        return
                listening = None
            if select.select([sleep], [], [], pause * random.uniform(0.5, 1.5))[0]:
                return
            try:
                listening = _listen(server)
            except (psycopg.Error, StorageError):
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                _report(listener, None)
    finally:
        os.close(sleep)


def _pass_on(listener: "weakref.ref[Listener]", connection: QuietConnection, schema: str | None, sleep: int) -> bool:
    """Pass on what the connection hears; False when it is to end."""
    pgconn = connection.pgconn
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    poll.register(sleep, select.POLLIN)
    while True:
        while (news := pgconn.notifies()) is not None:
            if news.extra == (schema or "").encode():
                _report(listener, news.relname.decode())
        if any(ready == sleep for ready, _ in poll.poll()):
            return False
        pgconn.consume_input()


def _report(listener: "weakref.ref[Listener]", channel: str | None) -> None:
    there = listener()
    if there is not None:
        there.report(channel)
