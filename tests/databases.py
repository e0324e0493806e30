"""The database of a test: an SQLite file, or a schema of the PostgreSQL database that a note beside it names.

So a test, and the processes that it starts, name a file, and the note decides what it stands for.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.checkpointers.postgres import PostgresCheckpointer
from hitl_graph.checkpointers.sqlite import SqliteCheckpointer
from hitl_graph.ledger import Ledger
from hitl_graph.storage.postgres import PostgresDatabase
from tests.spare_schemas import lend

__all__ = ["NOTE", "open_checkpointer", "open_ledger"]

NOTE = "postgres.dsn"


def open_checkpointer(path: str | os.PathLike[str], **options: Any) -> Checkpointer:
    """The checkpointer of a test."""
    if (dsn := _noted(path)) is None:
        return SqliteCheckpointer(path, **options)
    return PostgresCheckpointer(dsn, schema=_schema(dsn, path), max_connections=4, **options)


def open_ledger(path: str | os.PathLike[str]) -> Ledger:
    """The ledger of a test."""
    if (dsn := _noted(path)) is None:
        return Ledger.open(path)
    return Ledger(PostgresDatabase.open(dsn, schema=_schema(dsn, path), max_connections=4))


def _noted(path: str | os.PathLike[str]) -> str | None:
    note = Path(path).parent / NOTE
    return note.read_text() if note.exists() else None


def _schema(dsn: str, path: str | os.PathLike[str]) -> str:
    lend(dsn, name := "t" + hashlib.sha256(os.fspath(path).encode()).hexdigest()[:12])
    return name
