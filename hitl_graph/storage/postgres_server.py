"""Where the database is, how to connect to it, and that its tables are there."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import psycopg
from psycopg import errors

from hitl_graph.storage.postgres_conninfo import place_of, public_url, quote_name, with_defaults
from hitl_graph.storage.postgres_errors import explain
from hitl_graph.storage.postgres_replies import Command, Reply, adapter
from hitl_graph.storage.postgres_schema import VERSION, check_server, check_version, migrate
from hitl_graph.storage.postgres_session import Session

__all__ = ["Server"]

# Session settings, in one statement: what the promise needs, and no endless wait for somebody's forgotten transaction.
_SETTINGS = """
SELECT set_config('default_transaction_isolation', 'read committed', false),
       set_config('synchronous_commit',
                  CASE WHEN ? = 'off' THEN 'off' WHEN durable = 'off' THEN 'on' ELSE durable END, false),
       set_config('lock_timeout', CASE locks WHEN '0' THEN '30s' ELSE locks END, false),
       set_config('search_path', coalesce(?, path), false)
FROM (SELECT current_setting('synchronous_commit') AS durable, current_setting('lock_timeout') AS locks,
             current_setting('search_path') AS path) AS now
"""


class Server:
    """A schema of a database on a server.

    Attributes:
        url: Leads here from another process; without the password.
        place: How messages name the database.
        conninfo: The connection string, with our defaults.
        schema: Where the tables are; None: where the search path leads.
    """

    def __init__(self, conninfo: str, schema: str | None, *, synchronous_commit: str, prepare: bool) -> None:
        self.url = public_url(conninfo, schema)
        self.place = place_of(conninfo)
        self.conninfo = with_defaults(conninfo)
        self.schema = schema
        self._settings = synchronous_commit, None if schema is None else quote_name(schema)
        self._prepare = prepare

    def connect(self) -> Session:
        """A new connection, with the settings that we rely on.

        Raises:
            psycopg.Error: The server cannot be reached, or refuses us.
        """
        session = Session(self.conninfo, prepare=self._prepare)
        try:
            _ask(session, _SETTINGS, self._settings)
        except BaseException:
            session.close()
            raise
        return session

    def prepare(self, session: Session) -> None:
        """Make sure that the tables are there and of this version. Costs one round trip if they are."""
        check_server(session.info, self.place)
        try:
            [(version,)] = _ask(session, VERSION)
            ready = check_version(version, self.place)
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName):
            ready = False
        if not ready:
            migrate(self.conninfo, self.schema, self.place)

    @contextlib.contextmanager
    def explaining(self) -> Generator[None]:
        """Say in our words what is wrong with the server; errors of a statement pass as they are."""
        try:
            yield
        except psycopg.Error as error:
            explained = explain(error, self.place)
            if explained is error:
                raise
            raise explained from error


def _ask(session: Session, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    adapt = adapter()
    reply = Reply(adapt, session.wait)
    session.send(Command(sql, parameters, adapt), reply)
    session.sync()
    session.wait()
    return reply.fetchall()
