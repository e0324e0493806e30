"""How a row of the log is sealed, and how the rows are read again. `docs/verify_audit.py` does the same without us.

A seal is SHA-256 over the seal before and the row's fields, each as the ASCII of its Python literal, with NUL between
them: `'alice'`, `42`, `None`. No field can pass for two, and a string never for a number. A body is sealed through
a commitment, SHA-256 of 16 random bytes (the salt) and the body, so that it can go and the chain still holds.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.storage import Rows, Transaction

__all__ = ["FIELDS", "GENESIS", "PAGE", "SALT", "commitment", "is_sealed", "pages", "readable", "seal"]

GENESIS: Final = "0" * 64
SALT: Final = 16
PAGE: Final = 1000
FIELDS: Final[tuple[str, ...]] = (
    "seq", "at_ms", "event", "thread_id", "subject", "actor", "commitment", "hash", "salt", "body",
)  # fmt: skip
"""Of a row, in the order in which they are read and exported; all up to the commitment are sealed."""


def seal(previous: str, fields: Sequence[object]) -> str:
    """The hash of a row, from the hash before it and its fields up to the commitment."""
    return hashlib.sha256("\0".join([previous, *map(ascii, fields)]).encode()).hexdigest()


def is_sealed(sealed: object, previous: str, fields: Sequence[object]) -> bool:
    """Whether this is the hash of the row.

    0.1.0 did not write letters beyond ASCII as escapes, and which of them Python escapes differs with its version. Both
    ways of writing are read back as the same value, so that taking either opens no door.
    """
    if sealed == seal(previous, fields):
        return True
    return sealed == hashlib.sha256("\0".join([previous, *map(repr, fields)]).encode()).hexdigest()


def commitment(salt: bytes, body: str) -> str:
    """What is sealed of a body."""
    return hashlib.sha256(salt + body.encode()).hexdigest()


def pages(tx: Transaction) -> Iterator[list[tuple[Any, ...]]]:
    """All rows of the log in order, some at a time: a million would not fit into memory.

    Raises:
        DatabaseCorruptError: A row holds what is no text.
    """
    sql, bound, size, last = f"SELECT {', '.join(FIELDS)} FROM hitl_audit", "", PAGE, list[Any]()
    number = 0
    while True:
        try:
            rows = readable(tx.execute(f"{sql} {bound} ORDER BY seq LIMIT ?", [*last, size]), "hitl_audit")
        except DatabaseCorruptError as error:
            if size == 1:
                raise DatabaseCorruptError(f"row {number + 1} of the log cannot be read: {error}") from error
            size = 1  # as far as it can be read, and what comes then is the one
            continue
        if not rows:
            return
        yield rows
        number = rows[-1][0]
        bound, last = "WHERE seq > ?", [number]


def readable(found: Rows, table: str) -> list[tuple[Any, ...]]:
    """The rows that were found.

    Raises:
        DatabaseCorruptError: SQLite takes any bytes for a text; these are none.
    """
    try:
        return found.fetchall()
    except Exception as error:
        if "decode to UTF-8" not in str(error):
            raise
        raise DatabaseCorruptError(f"a row of {table} cannot be read: {error}") from error
