"""Statements on their way to PostgreSQL, and what comes back: parameters to bytes, results to rows."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.abc import Transformer as Adapter
from psycopg.adapt import AdaptersMap, PyFormat, Transformer
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader

from hitl_graph.errors import DatabaseWriteError, StorageError

__all__ = ["BINARY", "NOT_DURABLE", "Adapter", "Command", "Reply", "adapter"]

BINARY: Final = pq.Format.BINARY


class _NumericLoader(NumericBinaryLoader):
    """sum(bigint) is numeric on PostgreSQL: give an int, as SQLite does."""

    def load(self, data: Any) -> Any:
        value = super().load(data)
        return int(value) if value == value.to_integral_value() else float(value)


_ADAPTERS = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_dumper(int, Int8BinaryDumper)  # one type for all numbers: one prepared statement, not three
_ADAPTERS.register_dumper(bool, Int8BinaryDumper)
_ADAPTERS.register_loader("numeric", _NumericLoader)


def adapter() -> Adapter:
    """What turns parameters into bytes and results into rows. For one thread at a time."""
    return Transformer(_ADAPTERS)


class Command:
    """A statement with its parameters, ready to be sent.

    Raises:
        DatabaseWriteError: A parameter is text with a NUL character, which PostgreSQL cannot store.
    """

    __slots__ = ("formats", "sql", "text", "types", "values")

    def __init__(self, sql: str, parameters: Sequence[Any], adapt: Adapter) -> None:
        self.sql = sql
        self.text, marks = _translate(sql)
        if len(marks) != len(parameters):
            raise psycopg.ProgrammingError(f"{len(parameters)} parameters for {len(marks)} placeholders: {sql}")
        if not marks:
            self.values: Sequence[Any] | None = None
            self.types: tuple[int, ...] = ()
            self.formats: Sequence[pq.Format] | None = None
            return
        try:
            self.values = adapt.dump_sequence(parameters, marks)
        except psycopg.DataError as error:
            for number, value in enumerate(parameters, 1):
                if isinstance(value, str) and "\0" in value:
                    raise DatabaseWriteError(
                        f"parameter {number} of {_short(sql)!r} has a NUL character (\\x00) at position"
                        f" {value.index(chr(0))}: PostgreSQL cannot store it in text. Nothing was stored; remove it"
                    ) from error
            raise
        self.types = adapt.types or ()
        self.formats = adapt.formats


class Reply:
    """What a statement gave, or will give: reading it before it has come calls `settle`, which waits for it."""

    __slots__ = ("_adapt", "_next", "_rows", "_settle", "failure", "result")

    def __init__(self, adapt: Adapter, settle: Callable[[], None]) -> None:
        self._adapt = adapt
        self._settle = settle
        self._rows: list[Any] | None = None
        self._next = 0
        self.result: pq.abc.PGresult | None = None
        self.failure: psycopg.Error | None = None

    @property
    def rowcount(self) -> int:
        """Rows that were changed or found."""
        changed = self._arrived().command_tuples
        return -1 if changed is None else changed

    def fetchall(self) -> list[Any]:
        """All rows that were not yet read."""
        rows, start = self._all(), self._next
        self._next = len(rows)
        return rows[start:] if start else rows

    def fetchone(self) -> Any:
        """The next row, or None."""
        rows = self._all()
        if self._next >= len(rows):
            return None
        self._next += 1
        return rows[self._next - 1]

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def load(self) -> None:
        """Turn what has come into rows now, so that any thread may read them."""
        self._all()

    def _arrived(self) -> "pq.abc.PGresult":
        if self.result is None:
            self._settle()
        if self.failure is not None:
            raise self.failure
        if self.result is None:
            raise StorageError("the transaction has ended; read its results inside of the work")
        return self.result

    def _all(self) -> list[Any]:
        if self._rows is None:
            result = self._arrived()
            if result.status == pq.ExecStatus.TUPLES_OK:
                self._adapt.set_pgresult(result, format=BINARY)
                self._rows = self._adapt.load_rows(0, result.ntuples, tuple)
            else:
                self._rows = []
        return self._rows


@lru_cache(1024)
def _translate(sql: str) -> tuple[bytes, list[PyFormat]]:
    """`?` to `$1`, `$2`...; those inside of quotes and comments stay."""
    parts, number = list[str](), 0
    for part in _TOKENS.split(sql):
        if part == "?":
            number += 1
            part = f"${number}"
        parts.append(part)
    return "".join(parts).encode(), [PyFormat.AUTO] * number


_TOKENS = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\?)""")


def _short(sql: str) -> str:
    words = " ".join(sql.split())
    return words if len(words) <= 80 else words[:77] + "..."


NOT_DURABLE: Final = Command("SELECT set_config('synchronous_commit', 'off', true)", (), adapter())
"""Before what need not wait for the disk; true: for this transaction."""
