"""One engine per database: connections, transactions, numbered SQL migrations.

Everything above this package sees a `Database` and, inside a transaction, a `Transaction`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

__all__ = ["Channel", "Database", "Deferred", "Dialect", "Rows", "Sizes", "Statement", "Transaction", "Watch"]

T = TypeVar("T")
Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters."""
Dialect = Literal["sqlite", "postgres"]
Channel = Literal["inbox", "decided"]
"""What there can be news about: requests that people may answer, and threads that a worker may resume."""


class Rows(Protocol):
    """What a statement gave: rows are tuples, in the order of the columns."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Any: ...


class Transaction(Protocol):
    """Statements that are committed together or not at all. Placeholders are `?`.

    Attributes:
        dialect: Which database it is, for the little that cannot be said to both in the same way.
    """

    dialect: Dialect

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Rows: ...
    def notify(self, channel: Channel, /) -> None:
        """Wake whoever watches this channel, in any process, once this is committed. Does nothing on SQLite."""
        ...


class Deferred(Protocol):
    """A write that will be stored soon.

    Attributes:
        done: It is stored, or has failed.
        error: Why it failed.
    """

    done: bool
    error: BaseException | None


class Watch(Protocol):
    """News of one channel, from when the watch was made."""

    def wait(self, timeout: float) -> bool:
        """Wait for news, at most so many seconds; whether there may be some (SQLite cannot tell: False, at the end)."""
        ...

    async def await_news(self, timeout: float) -> bool:  # noqa: ASYNC109 - the twin of wait()
        """As `wait`."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Sizes(NamedTuple):
    """How much room a database takes, in bytes.

    Attributes:
        total: All of it, with indexes and the write-ahead log.
        log: The write-ahead log, where it belongs to this database alone (SQLite).
        free: What `vacuum` would give back to the file system; None if that is not known.
        tables: Each table with its indexes, where the database tells.
    """

    total: int
    log: int
    free: int | None
    tables: dict[str, int]


class Database(Protocol):
    """Transactions on one database, for threads and for asyncio alike."""

    @property
    def url(self) -> str: ...
    @property
    def hold(self) -> str:
        """What a SELECT ends with to keep others from changing its rows until the end of the transaction."""
        ...

    def write(self, work: Callable[[Transaction], T], /, *, durable: bool = True, in_turn: bool = False) -> T:
        """Run `work` in a write transaction; when this returns, its effects are durable.

        Args:
            work: May be run more than once; only the last time counts.
            durable: False: the effects outlive this process, and loss of power only once a later write was durable.
            in_turn: Such works take the same lock: those of several threads share a transaction instead of waiting
                for one another's commit.
        """
        ...

    async def awrite(self, work: Callable[[Transaction], T], /, *, durable: bool = True) -> T: ...
    def execute(self, sql: str, parameters: Sequence[Any], /, *, durable: bool = True) -> int:
        """Run one statement that writes, in a transaction of its own; returns how many rows it changed."""
        ...

    async def aexecute(self, sql: str, parameters: Sequence[Any], /, *, durable: bool = True) -> int: ...
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
        """Store something within a moment, and go on at once.

        Works are stored in the order in which they were deferred; a statement may come earlier than what was deferred
        before it.

        Args:
            work: As for `write`, or one statement.
            scope: Reads of this scope see it.
            expected: How many rows the statement is to change.
            otherwise: Run in the same transaction if it changed fewer.
            durable: As for `write`.
        """
        ...

    def settle(self, deferred: Iterable[Deferred], /) -> None:
        """Store all that was deferred; when this returns, it is durable.

        Raises:
            DatabaseWriteError: One of `deferred` could not be stored (or whatever its work raised).
        """
        ...

    async def asettle(self, deferred: Iterable[Deferred], /) -> None: ...
    def read(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T:
        """Run `work` on one consistent snapshot. Never waits for writers.

        Args:
            scope: Only what this process deferred of it has to be seen; None: of everything.
        """
        ...

    async def aread(self, work: Callable[[Transaction], T], /, *, scope: str | None = None) -> T: ...
    def watch(self, channel: Channel, /) -> Watch:
        """Begin to listen for news."""
        ...

    def sizes(self) -> Sizes:
        """How much room it takes."""
        ...

    def vacuum(self) -> None:
        """Give back the room of what was deleted. Takes as long as reading all of it."""
        ...

    def close(self) -> None: ...
