"""The tables in PostgreSQL: which version they have, and how they are made and brought up to date."""

from functools import cache
from importlib import resources
from typing import Any

import psycopg
from psycopg import errors, sql

from hitl_graph.errors import DatabaseCorruptError, DatabaseTooNewError, StorageError

__all__ = ["OLDEST_SERVER", "VERSION", "check_server", "check_version", "migrate", "migrations", "stored_version"]

OLDEST_SERVER = 13
VERSION = "SELECT max(version) FROM hitl_migrations"
_LOCK = 0x48495447  # "HITG": an advisory lock of this number is held by whoever migrates


@cache
def migrations() -> tuple[str, ...]:
    """The numbered migrations, the first one at index 0."""
    folder = resources.files("hitl_graph.storage") / "migrations" / "postgres"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    numbers = [int(f.name.split("_")[0]) for f in files]
    if numbers != list(range(1, len(files) + 1)):
        raise StorageError(f"the migrations of hitl-graph are incomplete ({numbers}); install it again")
    return tuple(f.read_text(encoding="utf-8") for f in files)


def check_server(info: psycopg.ConnectionInfo, place: str) -> None:
    """Refuse a server that is too old, or a database that cannot store every character."""
    if info.server_version < OLDEST_SERVER * 10000:
        raise StorageError(
            f"{place} runs PostgreSQL {info.server_version // 10000}; hitl-graph needs {OLDEST_SERVER} or later"
        )
    encoding = info.parameter_status("server_encoding")
    if encoding not in ("UTF8", "SQL_ASCII", None):
        raise StorageError(
            f"{place} has the encoding {encoding}, which lacks most characters; create it with"
            " CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'"
        )


def check_version(version: object, place: str) -> bool:
    """Whether the tables are of this version; False if they have to be made or brought up to date."""
    if version is None:
        return False
    if not isinstance(version, int):
        raise _foreign(place, "hitl_migrations has no numbers of versions")
    if version > len(migrations()):
        raise DatabaseTooNewError(
            f"{place} was brought up to date by a newer hitl-graph (version {version}; this one knows up to"
            f" {len(migrations())}); upgrade hitl-graph (pip install -U hitl-graph) before you open it"
        )
    return version == len(migrations())


def migrate(conninfo: str, schema: str | None, place: str) -> None:
    """Make the tables or bring them up to date, in one transaction; other processes wait for it and find it done."""
    with psycopg.connect(conninfo, prepare_threshold=None) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if schema is not None:
            if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
        try:
            version = _version(connection)
            if check_version(version, place):
                return
            if version is None:
                connection.execute("CREATE TABLE hitl_migrations (version bigint PRIMARY KEY, at timestamptz NOT NULL)")
            for number, script in enumerate(migrations(), 1):
                if number > (version or 0):
                    connection.execute(script.encode())
                    connection.execute("INSERT INTO hitl_migrations VALUES (%s, now())", (number,))
        except errors.UndefinedColumn as error:
            raise _foreign(place, f"hitl_migrations: {error.diag.message_primary}") from error
        except (errors.DuplicateTable, errors.DuplicateObject, errors.WrongObjectType) as error:
            raise _foreign(place, error.diag.message_primary or str(error)) from error


def stored_version(conninfo: str) -> int:
    """The version of the tables as they are, without bringing them up to date; 0 if there are none."""
    with psycopg.connect(conninfo, prepare_threshold=None) as connection:
        return int(_version(connection) or 0)


def _version(connection: psycopg.Connection) -> Any:
    [there] = connection.execute("SELECT to_regclass('hitl_migrations') IS NOT NULL").fetchone() or (False,)
    if not there:
        return None
    [version] = connection.execute(VERSION).fetchone() or (None,)
    return version


def _foreign(place: str, found: str) -> DatabaseCorruptError:
    return DatabaseCorruptError(
        f"{place} has a table with a name of ours that is not ours, or only a part of our tables ({found}); give"
        " hitl-graph a schema of its own (schema='hitl')"
    )
