"""What PostgreSQL's errors mean, in words that say what to do."""

import psycopg

from hitl_graph.errors import DatabaseCorruptError, DatabaseWriteError, StorageError

__all__ = ["explain", "is_conflict"]


def is_conflict(error: BaseException | None) -> bool:
    """Whether another transaction was in the way (a deadlock, a failed serialization): it may be tried again."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("40001", "40P01")


def explain(error: psycopg.Error, place: str) -> Exception:
    """The same error in our words, or itself if it is no trouble of the server (a constraint, wrong SQL)."""
    state, said = error.sqlstate or "", _first_line(error)
    match state:
        case "53100":
            return DatabaseWriteError(
                f"{place}: the server's disk is full; nothing was stored. Free some space ({said})"
            )
        case "25006":
            return DatabaseWriteError(
                f"{place} is read-only (a standby, or default_transaction_read_only is set); nothing was stored."
                f" Connect to the primary: target_session_attrs=read-write chooses it among several hosts ({said})"
            )
        case "53300":
            return StorageError(
                f"{place} has no connection left; raise the server's max_connections, lower max_connections= here (per"
                f" process), or put pgbouncer between ({said})"
            )
        case "42501":
            return DatabaseWriteError(
                f"{place}: the user lacks a right; nothing was stored. Let the owner of the tables open the database"
                f" once after an upgrade, and GRANT the others SELECT, INSERT, UPDATE, DELETE ({said})"
            )
        case "57014":
            return DatabaseWriteError(
                f"{place}: a statement was cancelled, by statement_timeout or by somebody; nothing was stored. Raise"
                f" statement_timeout for this user, or look for a long lock in pg_stat_activity ({said})"
            )
        case "55P03":
            return DatabaseWriteError(
                f"{place}: another transaction held a lock for longer than lock_timeout; nothing was stored. Find out"
                f" in pg_stat_activity who is idle in transaction, and try again ({said})"
            )
        case "40001" | "40P01":
            return DatabaseWriteError(
                f"{place}: other transactions were in the way at every attempt; nothing was stored. Try again ({said})"
            )
        case "42P01" | "3F000":
            return DatabaseCorruptError(
                f"{place}: a table or schema is not there. Was it dropped, or restored in part? Give the schema that"
                f" has the hitl_ tables (schema=..., or search_path) ({said})"
            )
        case "26000" | "42P05" | "08P01":
            return StorageError(
                f"{place}: something between us and the server does not keep prepared statements; open it with"
                f" prepare=False, or set max_prepared_statements in pgbouncer 1.21 or later ({said})"
            )
        case "22P05" | "22021":
            return DatabaseWriteError(
                f"{place}: the database's encoding lacks a character; nothing was stored. Create it with"
                f" ENCODING 'UTF8' ({said})"
            )
        case "3D000":
            return StorageError(f"{place} does not exist; create it (createdb), or correct dbname ({said})")
        case "28000" | "28P01":
            return StorageError(
                f"{place} did not let us in; check user and password (or ~/.pgpass) and the server's pg_hba.conf"
                f" ({said})"
            )
        case "XX001" | "XX002":
            return DatabaseCorruptError(f"{place} is damaged; restore it from a backup ({said})")
        case _:
            pass
    if state[:2] in ("53", "57", "58", "08", "25") or (not state and isinstance(error, psycopg.OperationalError)):
        return _explain_connection(error, place, said)
    return error


def _explain_connection(error: psycopg.Error, place: str, said: str) -> StorageError:
    if not error.sqlstate:  # libpq gives no code for what happens while it connects
        for words, state in (
            ("password", "28P01"),
            ("authentication failed", "28P01"),
            ("no pg_hba.conf entry", "28000"),
            ("too many clients", "53300"),
            ("connection slots are reserved", "53300"),
            ("too many connections", "53300"),
        ):
            if words in said:
                return _as_state(state, said, place)
        for words, state in (('database "', "3D000"), ('role "', "28000")):
            if words in said and "does not exist" in said:
                return _as_state(state, said, place)
    return DatabaseWriteError(
        f"{place} cannot be reached, or cut the connection; check that the server runs, host and port ({said})"
    )


def _as_state(state: str, said: str, place: str) -> StorageError:
    explained = explain(psycopg.errors.lookup(state)(said), place)
    assert isinstance(explained, StorageError)
    return explained


def _first_line(error: psycopg.Error) -> str:
    """What the server said, without the statement that it quotes on later lines."""
    said = error.diag.message_primary or str(error)
    return " ".join(line.strip() for line in said.splitlines() if line.strip())
