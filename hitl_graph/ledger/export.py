"""The log as JSON lines: all that it takes to verify the chain elsewhere, without this library.

The first line says the format, whose texts are in it, how many rows the log has and its head. Each other line is a row:
its sealed fields, its hash, and salt and body where the text is exported and was not redacted.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from hitl_graph.errors import DatabaseCorruptError, StorageError
from hitl_graph.ledger import chain
from hitl_graph.ledger.verification import Progress
from hitl_graph.storage import Database, Transaction

__all__ = ["FORMAT", "Exported", "once"]

FORMAT: Final = "hitl-graph audit 1"


class Exported(NamedTuple):
    """What was exported.

    Attributes:
        rows: Number of rows.
        head: Hash of the last one.
    """

    rows: int
    head: str


def once(
    database: Database, write: Callable[[str], object], thread_id: str | None, progress: Progress | None
) -> Exported:
    """Write the lines of one snapshot."""
    begun = False

    def work(tx: Transaction) -> Exported:
        nonlocal begun
        tip = tx.execute("SELECT seq, hash FROM hitl_audit_tip").fetchone() or (None, None)
        if begun:  # a read is run again after a lost connection, but what is written is written
            raise StorageError("the connection was lost while the log was exported; what was written is not whole")
        begun = True
        write(_line({"format": FORMAT, "thread": thread_id, "rows": tip[0], "head": tip[1]}))
        rows, head = 0, chain.GENESIS
        for page in chain.pages(tx):
            for row in page:
                write(_line(_told(row, thread_id)))
            rows, head = rows + len(page), page[-1][7]
            if progress is not None:
                progress(rows, tip[0] or rows)
        return Exported(rows, head)

    return database.read(work)


def _told(row: tuple[Any, ...], thread_id: str | None) -> dict[str, Any]:
    told = dict(zip(chain.FIELDS, row, strict=True))
    redaction = told["event"] == "audit.redacted" and told["subject"] == thread_id
    if thread_id is not None and told["thread_id"] != thread_id and not redaction:
        told["salt"] = told["body"] = None
    elif isinstance(told["salt"], bytes):
        told["salt"] = told["salt"].hex()
    return told


def _line(told: dict[str, Any]) -> str:
    try:
        return _encode(told) + "\n"
    except TypeError as error:
        raise DatabaseCorruptError(
            f"row {told.get('seq')} of the log cannot be exported ({error}); see `hitl audit verify`"
        ) from error


_encode = json.JSONEncoder(separators=(",", ":")).encode
