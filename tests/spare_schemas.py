"""Schemas of PostgreSQL whose tables are there and empty: made once, lent to a test, emptied, lent to the next.

To make the tables costs the server 150 ms, to empty them a few. A schema whose tables are not as they were made
is not lent again, nor one that somebody still works in.
"""

from collections.abc import Generator

import psycopg
import pytest
from psycopg import errors, sql

from hitl_graph.storage.postgres import PostgresDatabase

__all__ = ["lend", "spare_schemas", "spares"]

_FIRST = "pristine"

_PREPARE = f"""
CREATE FUNCTION shape(wanted name) RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT concat_ws(' ', c.relname, c.relkind, c.relpersistence, c.relrowsecurity, c.relacl, c.reloptions,
                         a.attname, a.atttypid, a.attnotnull, a.attcollation, i.indisvalid)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_index i ON i.indexrelid = c.oid
        WHERE c.relnamespace = wanted::regnamespace
        UNION ALL SELECT concat_ws(' ', conname, contype, convalidated) FROM pg_constraint
        WHERE connamespace = wanted::regnamespace
        UNION ALL SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE relnamespace = wanted::regnamespace
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = wanted::regnamespace
        UNION ALL SELECT nspacl::text FROM pg_namespace WHERE nspname = wanted
    ) AS lines(line) $$;

CREATE FUNCTION empty(wanted name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    it record;
BEGIN
    FOR it IN SELECT relname, relkind, pg_relation_size(oid) AS size FROM pg_class
              WHERE relnamespace = wanted::regnamespace AND relkind IN ('r', 'S') LOOP
        IF it.relkind = 'S' THEN
            PERFORM setval(format('%I.%I', wanted, it.relname), 1, false);
        ELSIF it.size > 0 THEN
            IF it.size > 100000 THEN
                EXECUTE format('TRUNCATE %I.%I', wanted, it.relname);
            ELSE
                EXECUTE format('DELETE FROM %I.%I', wanted, it.relname);
            END IF;
            EXECUTE format('INSERT INTO %I.%I SELECT * FROM {_FIRST}.%I', wanted, it.relname, it.relname);
        END IF;
    END LOOP;
END $$;
"""


class _Spares:
    def __init__(self, dsn: str) -> None:
        PostgresDatabase.open(dsn, schema=_FIRST).close()
        self.dsn, self.lending = dsn, False
        self._lent, self._spare, self._made = set[str](), list[str](), 0
        self._admin = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
        self._admin.execute(_PREPARE.encode())
        self._admin.execute("SET lock_timeout = '100ms'")
        self._shape = self._row("SELECT shape(%s)", _FIRST)

    def lend(self, name: str) -> None:
        if not self.lending or name in self._lent:
            return
        spare = self._spare.pop() if self._spare else self._make()
        try:
            self._rename(spare, name)
        except errors.DuplicateSchema:  # a process of the test was there first, and made it
            self._spare.append(spare)
        else:
            self._lent.add(name)

    def take_back(self) -> None:
        for name in self._lent:
            try:
                with self._admin.transaction():
                    if self._row("SELECT shape(%s)", name) != self._shape:
                        continue
                    self._admin.execute("SELECT empty(%s)", (name,))
                    self._rename(name, spare := f"spare{self._next()}")
            except (errors.LockNotAvailable, errors.InvalidSchemaName):
                continue
            self._spare.append(spare)
        self._lent.clear()

    def close(self) -> None:
        self._admin.close()

    def _make(self) -> str:
        PostgresDatabase.open(self.dsn, schema=(spare := f"spare{self._next()}")).close()
        return spare

    def _next(self) -> int:
        self._made += 1
        return self._made

    def _rename(self, old: str, new: str) -> None:
        names = sql.Identifier(old), sql.Identifier(new)
        self._admin.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(*names), prepare=False)

    def _row(self, query: str, name: str) -> tuple[object, ...] | None:
        return self._admin.execute(query.encode(), (name,)).fetchone()


_by_dsn: dict[str, _Spares] = {}


def lend(dsn: str, name: str) -> None:
    """Before a test opens this schema: let it be there. The processes that a test starts make their own."""
    if (there := _by_dsn.get(dsn)) is not None:
        there.lend(name)


@pytest.fixture(scope="session")
def spares(shared_postgres_dsn: str) -> Generator[_Spares]:
    """The spare schemas of this pytest process."""
    made = _by_dsn[shared_postgres_dsn] = _Spares(shared_postgres_dsn)
    yield made
    del _by_dsn[shared_postgres_dsn]
    made.close()


@pytest.fixture
def spare_schemas(spares: _Spares) -> Generator[str]:
    """The connection string of a database where a test keeps to schemas of its own; they are emptied after it."""
    spares.lending = True
    yield spares.dsn
    spares.lending = False
    spares.take_back()
