"""Which engine a database is for."""

import os
import re

from hitl_graph.errors import StorageError
from hitl_graph.storage import Database, sqlite_file
from hitl_graph.storage.sqlite import SqliteDatabase

__all__ = ["is_postgres", "open_database", "versions"]


def is_postgres(url: str | os.PathLike[str]) -> bool:
    """Whether this names a PostgreSQL server; anything else is the path of an SQLite file.

    Raises:
        StorageError: It is the URL of another kind of database.
    """
    scheme = re.match(r"([a-z][a-z0-9+]*)://", os.fspath(url))
    if scheme is None:
        return False
    if scheme[1] in ("postgresql", "postgres"):
        return True
    raise StorageError(f"{scheme[0]}... is no database that hitl-graph knows; take a file name or postgresql://...")


def open_database(url: str | os.PathLike[str]) -> Database:
    """Open a database, creating it (SQLite) or its tables if need be."""
    if not is_postgres(url):
        return SqliteDatabase.open(url)
    from hitl_graph.storage.postgres import PostgresDatabase  # needs psycopg, which comes with an extra

    return PostgresDatabase.open(os.fspath(url))


def versions(url: str | os.PathLike[str]) -> tuple[int, int]:
    """The version of a database as it is, and the one that this hitl-graph brings it to. Changes nothing."""
    if not is_postgres(url):
        return sqlite_file.stored_version(os.fspath(url)), len(sqlite_file.migrations())
    from hitl_graph.storage import postgres_schema

    return postgres_schema.stored_version(os.fspath(url)), len(postgres_schema.migrations())
