"""The SQLite file itself: how to open it, whose it is, which version it has, and what its errors mean."""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import quote

from hitl_graph.errors import DatabaseCorruptError, DatabaseTooNewError, DatabaseWriteError, StorageError
from hitl_graph.storage import Dialect

__all__ = ["APPLICATION_ID", "BUSY_SECONDS", "connect", "execute", "explain", "migrations", "prepare", "stored_version"]

APPLICATION_ID = 0x48495447  # "HITG", at byte 68 of the file
BUSY_SECONDS = 30.0
T = TypeVar("T")


class _Connection(sqlite3.Connection):
    dialect: Dialect = "sqlite"

    def notify(self, channel: str, /) -> None:
        """SQLite sends no news."""


def connect(path: str, mode: str, synchronous: str, *, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open one connection. `mode` is `rwc`, `rw`, or `immutable` (we may not write, and nobody does)."""
    options = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"file:{quote(path)}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=_Connection,
    )
    connection.execute(f"PRAGMA synchronous={synchronous}")  # looks into the file, which another process may recover
    if timeout != BUSY_SECONDS:
        connection.execute(f"PRAGMA busy_timeout={timeout * 1000:.0f}")
    return connection


def prepare(path: str, synchronous: str) -> str:
    """Make sure that the file is ours and of this version, migrating it if need be.

    Returns:
        The mode in which to open it from now on: `rw` (also for a read-only file beside its log) or `immutable`.
    """
    mode = _usable_mode(path, synchronous)
    connection = connect(path, mode, synchronous)
    try:
        if _version(connection, path) == len(migrations()):
            _ensure_log(connection, mode)
            return mode
        if mode != "rw":
            raise DatabaseWriteError(
                f"{path} has to be created or brought up to date, but it is read-only; make the file and its folder"
                " writable, or work on a copy"
            )
        _begin_log(connection)
        _migrate(connection, path)
        return mode
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        connection.close()


def execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> int:
    """Run a statement that begins a write, or is one; returns how many rows it changed.

    Waits for other processes in short random steps: SQLite's own growing ones starve some.
    """
    return _retrying(lambda: connection.execute(sql, parameters).rowcount)


@cache
def migrations() -> tuple[str, ...]:
    """The numbered migrations, the first one at index 0."""
    folder = resources.files("hitl_graph.storage") / "migrations" / "sqlite"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    numbers = [int(f.name.split("_")[0]) for f in files]
    if numbers != list(range(1, len(files) + 1)):
        raise StorageError(f"the migrations of hitl-graph are incomplete ({numbers}); install it again")
    return tuple(f.read_text(encoding="utf-8") for f in files)


def explain(error: sqlite3.Error, path: str) -> Exception:
    """The same error in our words, or itself if it is no trouble of the file (a constraint, wrong SQL)."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    match code:
        case sqlite3.SQLITE_FULL:
            return DatabaseWriteError(f"{path}: the disk is full; nothing of this write was stored. Free some space")
        case sqlite3.SQLITE_READONLY:
            return DatabaseWriteError(
                f"{path} is read-only; nothing was stored. Make the file and its folder writable, or work on a copy"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseWriteError(
                f"{path} was locked by another process for {BUSY_SECONDS:.0f} s; nothing was stored. Find out who holds"
                " a transaction open (a database browser?) and try again"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseCorruptError(
                f"{path} is damaged or is not an SQLite database ({error}); restore it from a backup, or let"
                " `sqlite3 FILE .recover` save what is readable"
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_NOLFS:
            return DatabaseWriteError(
                f"{path} could not be opened, read or written ({error}); check that the folder exists, who owns it,"
                " and that the disk is in order"
            )
        case _:
            return error


def stored_version(path: str) -> int:
    """The version of a file as it is, without bringing it up to date."""
    connection = connect(path, "rw", "FULL")
    try:
        return _version(connection, path)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    finally:
        connection.close()


def _usable_mode(path: str, synchronous: str) -> str:
    mode = "rw" if os.path.exists(path) else "rwc"
    try:
        _look_into(path, mode, synchronous)
        return "rw"
    except sqlite3.Error as error:
        if isinstance(explain(error, path), DatabaseCorruptError) or not _is_whole(path):
            raise explain(error, path) from error
        # A folder that we may not write to: SQLite cannot place its -shm file there.
        try:
            _look_into(path, "immutable", synchronous)
        except sqlite3.Error:
            raise explain(error, path) from error
        return "immutable"


def _look_into(path: str, mode: str, synchronous: str) -> None:
    connection = connect(path, mode, synchronous)
    try:
        _retrying(lambda: connection.execute("SELECT count(*) FROM sqlite_master").fetchone())
    finally:
        connection.close()


def _is_whole(path: str) -> bool:
    """Whether all of the data is in the file itself, none in a write-ahead log that we may not open."""
    try:
        return os.path.getsize(path) > 0 and os.path.getsize(path + "-wal") == 0
    except FileNotFoundError:
        return os.path.exists(path)


def _version(connection: sqlite3.Connection, path: str) -> int:
    [owner] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if owner != APPLICATION_ID:
        [objects] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner or version or objects:
            raise DatabaseCorruptError(
                f"{path} is an SQLite database of another program (application id {owner}, {objects} objects in its"
                " schema); give hitl-graph a file of its own"
            )
        return 0
    if version > len(migrations()):
        raise DatabaseTooNewError(
            f"{path} has version {version}, and this hitl-graph knows versions up to {len(migrations())};"
            " upgrade hitl-graph (pip install -U hitl-graph) before you open it"
        )
    return int(version)


def _ensure_log(connection: sqlite3.Connection, mode: str) -> None:
    """Begin the log that `.recover` or VACUUM INTO did not write: without it no commit succeeds if somebody reads."""
    if mode == "rw" and connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            _begin_log(connection)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_READONLY:
                raise


def _begin_log(connection: sqlite3.Connection) -> None:
    _retrying(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    for number, script in enumerate(migrations(), 1):
        execute(connection, "BEGIN IMMEDIATE")
        try:
            if _version(connection, path) < number:  # another process may have been here first
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit in the middle of our transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        if not statement and (not line.strip() or line.lstrip().startswith("--")):
            continue
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _retrying(step: Callable[[], T]) -> T:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.0005, 0.004))
