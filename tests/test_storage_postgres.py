"""The PostgreSQL engine: durable writes in few round trips, and clear words when the server is in trouble."""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hitl_graph.errors import (
    DatabaseClosedError,
    DatabaseCorruptError,
    DatabaseTooNewError,
    DatabaseWriteError,
    StorageError,
)
from hitl_graph.ledger import Ledger
from hitl_graph.storage import Database, Transaction, postgres_schema
from hitl_graph.storage.postgres import PostgresDatabase
from hitl_graph.storage.postgres_errors import explain
from hitl_graph.storage.postgres_session import Session
from hitl_graph.storage.sqlite import SqliteDatabase
from tests.postgres import Cluster

WRITE = "INSERT INTO hitl_thread_claims (thread_id, owner, until_ms) VALUES (?, 'x', 0)"
NAMES = "SELECT thread_id FROM hitl_thread_claims"
COUNT = "UPDATE hitl_thread_claims SET until_ms = until_ms + 1 WHERE thread_id = ?"


def write(name: str) -> Any:
    return lambda tx: tx.execute(WRITE, (name,))


def names(database: PostgresDatabase) -> set[str]:
    return {row[0] for row in database.statement(NAMES)}


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


@pytest.fixture
def database(postgres_dsn: str) -> Generator[PostgresDatabase]:
    with closing(PostgresDatabase.open(postgres_dsn)) as opened:
        yield opened


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the engine waited for the server."""
    counter = Counter[str]()
    wait = Session.wait

    def counted(session: Session) -> None:
        counter["waits"] += 1
        wait(session)

    monkeypatch.setattr(Session, "wait", counted)
    return counter


def backends(cluster: Cluster, dsn: str) -> list[int]:
    """The connections that a database has on the server."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    rows = cluster.admin.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", (name,)).fetchall()
    return [row[0] for row in rows]


def cut(cluster: Cluster, dsn: str) -> None:
    """Cut all connections of a database, and wait until they are gone."""
    for pid in backends(cluster, dsn):
        cluster.admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    until(lambda: not backends(cluster, dsn))


# Transactions


def test_it_is_a_database_as_the_layers_above_want_it(database: PostgresDatabase) -> None:
    typed: Database = database
    assert typed.read(lambda tx: tx.execute("SELECT 1").fetchone()) == (1,)
    assert Ledger(typed).verify_audit().ok


def test_rows_are_tuples_of_the_types_that_sqlite_has(database: PostgresDatabase) -> None:
    state = (1, 2, "c", "", "{}", "é\u20ac\U0001f600", 0, -1, 7, b"\x00\xff")
    database.execute("INSERT INTO hitl_states VALUES (?,?,?,?,?,?,?,?,?,?)", state)

    def work(tx: Transaction) -> None:
        rows = tx.execute("SELECT * FROM hitl_states WHERE ns = ?", (2,))
        assert rows.rowcount == 1
        assert rows.fetchone() == state
        assert rows.fetchone() is None
        [total] = tx.execute("SELECT sum(count) FROM hitl_states").fetchone()
        assert (total, type(total)) == (7, int)
        assert tx.execute("SELECT ?, ?, '?', \"count\" -- ?\n FROM hitl_states", (1.5, None)).fetchall() == [
            (1.5, None, "?", 7)
        ]
        assert tx.execute("SELECT 1 WHERE 'a%b' LIKE '%' || ?", ("b",)).fetchall() == [(1,)]
        assert list(tx.execute("SELECT 1 WHERE 1 = 2")) == []

    database.write(work)
    many = database.write(lambda tx: tx.executemany(WRITE, [(str(number),) for number in range(1200)]))
    assert many.rowcount == 1200
    assert len(names(database)) == 1200


@pytest.mark.parametrize("prepare", [True, False])
def test_prepared_or_not_the_same_texts_run_again_and_again(postgres_dsn: str, prepare: bool) -> None:
    with closing(PostgresDatabase.open(postgres_dsn, prepare=prepare)) as database:
        for number in range(600):  # more texts than are kept prepared, some of them again and again
            assert database.statement(f"SELECT ?, {number % 300}", (number,)) == [(number, number % 300)]
            database.write(write(str(number)))
        prepared = database.statement("SELECT count(*) FROM pg_prepared_statements")[0][0]
        assert (prepared > 0) == prepare
        assert prepared <= 256


def test_a_write_without_reading_is_one_round_trip_and_each_reading_one_more(
    database: PostgresDatabase, round_trips: Counter[str]
) -> None:
    def blind(tx: Transaction) -> None:
        for name in ("a", "b", "c"):
            tx.execute(WRITE, (name,))
        tx.notify("inbox")

    def seeing(tx: Transaction) -> Any:
        tx.execute(WRITE, ("d",))
        found = tx.execute(NAMES)
        other = tx.execute("SELECT 1")
        assert len(found.fetchall()) == 4
        assert other.fetchone() == (1,)
        tx.execute(WRITE, ("e",))

    for work, expected in ((blind, 1), (seeing, 2), (lambda tx: None, 0)):
        round_trips.clear()
        database.write(work)
        assert round_trips["waits"] == expected
    round_trips.clear()
    assert len(database.read(lambda tx: tx.execute(NAMES).fetchall())) == 5
    assert round_trips["waits"] == 1
    round_trips.clear()
    assert database.execute(COUNT, ("a",)) == 1
    assert round_trips["waits"] == 1


def test_a_failure_that_nobody_reads_is_raised_at_the_end_and_nothing_is_stored(database: PostgresDatabase) -> None:
    def twice(tx: Transaction) -> None:
        tx.execute(WRITE, ("a",))
        tx.execute(WRITE, ("a",))
        tx.execute(WRITE, ("b",))

    def swallowed(tx: Transaction) -> str:
        tx.execute(WRITE, ("a",))
        with suppress(psycopg.Error):
            tx.execute(WRITE, ("a",)).fetchall()
        return "all is well"

    for work in (twice, swallowed):
        with pytest.raises(psycopg.errors.UniqueViolation):
            database.write(work)
        assert names(database) == set()
    with pytest.raises(psycopg.errors.SyntaxError):
        database.read(lambda tx: tx.execute("SELEKT 1").fetchall())
    with pytest.raises(psycopg.ProgrammingError, match="1 parameters for 2"):
        database.read(lambda tx: tx.execute("SELECT ?, ?", (1,)).fetchall())
    for _ in range(3):  # a text that fails again and again is not taken for prepared
        with pytest.raises(psycopg.errors.UndefinedColumn):
            database.statement("SELECT nonsense FROM hitl_votes")
    database.write(write("after"))
    assert names(database) == {"after"}


def test_work_that_raises_is_rolled_back(database: PostgresDatabase) -> None:
    def work(tx: Transaction) -> None:
        tx.execute(WRITE, ("a",))
        assert len(tx.execute(NAMES).fetchall()) == 1
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        database.write(work)
    assert names(database) == set()


def test_results_are_read_inside_of_the_work(database: PostgresDatabase) -> None:
    unread = database.read(lambda tx: tx.execute(NAMES))
    with pytest.raises(StorageError, match="inside of the work"):
        unread.fetchall()
    inserted = database.write(write("a"))
    assert inserted.rowcount == 1  # this one has come with the commit


def test_a_read_sees_one_snapshot_and_cannot_write(database: PostgresDatabase) -> None:
    def work(tx: Transaction) -> None:
        before = tx.execute(NAMES).fetchall()
        database.write(write("meanwhile"))
        assert tx.execute(NAMES).fetchall() == before == []

    database.read(work)
    assert names(database) == {"meanwhile"}
    with pytest.raises(DatabaseWriteError, match="read-only"):
        database.read(lambda tx: tx.execute(WRITE, ("x",)).fetchall())


def test_synchronous_commit_is_what_was_asked_for(postgres_dsn: str, postgres_cluster: Cluster) -> None:
    def setting(tx: Transaction) -> str:
        return str(tx.execute("SHOW synchronous_commit").fetchone()[0])

    name = psycopg.conninfo.conninfo_to_dict(postgres_dsn)["dbname"]
    postgres_cluster.admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with closing(PostgresDatabase.open(postgres_dsn)) as database:
        assert database.write(setting) == "on"
        assert database.write(setting, durable=False) == "off"
        database.write(write("a"), durable=False)
        database.execute(WRITE, ("b",), durable=False)
        assert database.write(setting) == "on"
        assert names(database) == {"a", "b"}
    with closing(PostgresDatabase.open(postgres_dsn, synchronous_commit="off")) as database:
        assert database.write(setting) == "off"


def test_a_deadlock_is_resolved_by_running_the_work_again(database: PostgresDatabase, postgres_dsn: str) -> None:
    database.write(lambda tx: tx.executemany(WRITE, [("a",), ("b",)]))
    barrier, runs = threading.Barrier(2), Counter[str]()
    finished = {"a": threading.Event(), "b": threading.Event()}

    def cross(first: str, second: str) -> None:
        def work(tx: Transaction) -> None:
            runs[first] += 1
            if runs[first] > 1:  # else it can take its row again before the other one does, and meet it once more
                assert finished[second].wait(10)
            tx.execute(COUNT, (first,)).fetchall()
            if runs[first] == 1:
                barrier.wait(10)
            tx.execute(COUNT, (second,)).fetchall()

        database.write(work)
        finished[first].set()

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(cross, "a", "b"), pool.submit(cross, "b", "a")]:
            done.result(30)
    assert runs.total() == 3
    assert database.statement("SELECT until_ms FROM hitl_thread_claims") == [(2,), (2,)]


def test_writes_of_many_threads_and_a_failing_one_fails_alone(database: PostgresDatabase) -> None:
    def work(number: int) -> str:
        def job(tx: Transaction) -> None:
            tx.execute(WRITE, (str(number),))
            if number % 5 == 0:
                raise LookupError(number)

        try:
            database.write(job)
        except LookupError:
            return "failed"
        return "stored"

    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(work, range(200)))
    assert results == ["failed" if number % 5 == 0 else "stored" for number in range(200)]
    assert names(database) == {str(number) for number in range(200) if number % 5}


def test_use_inside_of_a_write_is_refused_instead_of_hanging(database: PostgresDatabase) -> None:
    for inner in (
        lambda: database.write(write("inner")),
        lambda: database.read(lambda tx: None),
        lambda: database.execute(WRITE, ("inner",)),
        database.close,
    ):
        with pytest.raises(StorageError, match="inside a running write"):
            database.write(lambda tx, inner=inner: inner())  # type: ignore[misc]
    assert names(database) == set()


def test_a_nul_character_is_refused_in_clear_words(database: PostgresDatabase) -> None:
    def work(tx: Transaction) -> None:
        tx.execute(WRITE, ("before",))
        tx.execute(WRITE, ("a\0b",))

    with pytest.raises(DatabaseWriteError, match=r"parameter 1 of .INSERT INTO hitl_thread_claims.*NUL.*position 1"):
        database.write(work)
    with pytest.raises(DatabaseWriteError, match="NUL"):
        asyncio.run(database.aexecute(WRITE, ("a\0b",)))
    database.write(write("after"))
    assert names(database) == {"after"}


def test_after_close_it_says_so(database: PostgresDatabase) -> None:
    watch = database.watch("inbox")
    database.close()
    database.close()
    for use in (
        lambda: database.read(lambda tx: None),
        lambda: database.write(lambda tx: None),
        lambda: database.statement("SELECT 1"),
        lambda: asyncio.run(database.awrite(lambda tx: None)),
        lambda: asyncio.run(database.aexecute("SELECT 1")),
        lambda: database.watch("inbox"),
        lambda: watch.wait(0),
    ):
        with pytest.raises(DatabaseClosedError):
            use()


def test_nothing_is_left_behind(postgres_dsn: str, postgres_cluster: Cluster) -> None:
    threads = set(threading.enumerate())
    database = PostgresDatabase.open(postgres_dsn, max_connections=4)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: database.write(write(str(number))), range(50)))

    async def story() -> None:
        await asyncio.gather(*(database.aread(lambda tx: tx.execute("SELECT 1").fetchall()) for _ in range(20)))
        await asyncio.gather(*(database.astatement("SELECT 1") for _ in range(20)))

    asyncio.run(story())
    database.watch("inbox")
    assert 1 < len(backends(postgres_cluster, postgres_dsn)) <= 6  # with the listener and the batches
    database.close()
    until(lambda: not backends(postgres_cluster, postgres_dsn))
    assert set(threading.enumerate()) == threads

    forgotten = PostgresDatabase.open(postgres_dsn)
    forgotten.watch("inbox")
    del forgotten
    gc.collect()
    until(lambda: not backends(postgres_cluster, postgres_dsn) and set(threading.enumerate()) == threads)


# asyncio


def test_async_writes_are_stored_even_if_their_caller_is_cancelled(database: PostgresDatabase) -> None:
    async def story() -> None:
        started, finish = threading.Event(), threading.Event()

        def slow(tx: Transaction) -> None:
            started.set()
            assert finish.wait(10)
            tx.execute(WRITE, ("slow",))

        task = asyncio.create_task(database.awrite(slow))
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.aread(lambda tx: tx.execute(NAMES).fetchall()) == [("slow",)]
        await asyncio.gather(*(database.awrite(write(str(number))) for number in range(20)))

    asyncio.run(story())
    assert names(database) == {"slow", *map(str, range(20))}


def test_statements_of_many_tasks_travel_together_and_a_failing_one_fails_alone(
    database: PostgresDatabase, round_trips: Counter[str]
) -> None:
    async def story() -> list[Any]:
        return await asyncio.gather(
            *(database.aexecute(WRITE, ("3" if number == 7 else str(number),)) for number in range(20)),
            database.astatement("SELECT ?", (5,)),
            database.astatement("SELECT 1 / 0"),
            return_exceptions=True,
        )

    round_trips.clear()
    results = asyncio.run(story())
    failed = {number: type(result) for number, result in enumerate(results) if isinstance(result, Exception)}
    assert failed in (
        {7: psycopg.errors.UniqueViolation, 21: psycopg.errors.DivisionByZero},
        {3: psycopg.errors.UniqueViolation, 21: psycopg.errors.DivisionByZero},
    )
    assert results[20] == [(5,)]
    assert names(database) == {str(number) for number in range(20) if number != 7}
    assert round_trips["waits"] <= 10


def test_a_cancelled_statement_is_finished_and_loops_may_come_and_go(database: PostgresDatabase) -> None:
    async def story(name: str) -> None:
        task = asyncio.create_task(database.aexecute(WRITE, (name,)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (name,) in await database.astatement(NAMES)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(story(str(number))), range(8)))
    assert len(names(database)) == 8


def test_statements_that_meet_a_deadlock_are_run_again(database: PostgresDatabase, postgres_dsn: str) -> None:
    database.write(lambda tx: tx.executemany(WRITE, [("a",), ("b",)]))

    async def story(other: PostgresDatabase) -> None:
        for _ in range(30):
            await asyncio.gather(
                *(database.aexecute(COUNT, (name,)) for name in "ab"),
                *(other.aexecute(COUNT, (name,)) for name in "ba"),
            )

    with closing(PostgresDatabase.open(f"{postgres_dsn} options='-c deadlock_timeout=10ms'")) as other:
        asyncio.run(story(other))
    assert database.statement("SELECT until_ms FROM hitl_thread_claims") == [(60,), (60,)]


# Lost connections


def test_a_connection_that_was_cut_while_idle_is_replaced(
    database: PostgresDatabase, postgres_dsn: str, postgres_cluster: Cluster
) -> None:
    database.write(write("before"))
    cut(postgres_cluster, postgres_dsn)
    database.write(write("after"))
    cut(postgres_cluster, postgres_dsn)
    assert database.execute(WRITE, ("statement",)) == 1
    cut(postgres_cluster, postgres_dsn)
    assert asyncio.run(database.aexecute(WRITE, ("batch",))) == 1
    cut(postgres_cluster, postgres_dsn)
    assert len(database.read(lambda tx: tx.execute(NAMES).fetchall())) == 4


def test_a_connection_that_is_cut_inside_of_the_work_has_it_run_again_once(
    database: PostgresDatabase, postgres_dsn: str, postgres_cluster: Cluster
) -> None:
    runs = list[int]()

    def work(tx: Transaction) -> None:
        runs.append(1)
        tx.execute(WRITE, ("a",)).fetchall()
        if len(runs) <= cuts:
            cut(postgres_cluster, postgres_dsn)
        tx.execute(WRITE, ("b",)).fetchall()

    cuts = 2
    with pytest.raises(DatabaseWriteError, match="cut the connection"):
        database.write(work)
    assert len(runs) == 2
    assert names(database) == set()
    runs.clear()
    cuts = 1
    database.write(work)
    assert len(runs) == 2
    assert names(database) == {"a", "b"}


def test_a_connection_that_is_lost_during_the_commit_leaves_it_unknown(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = Session.sync

    def cut_after_sending(session: Session) -> None:
        sync(session)
        time.sleep(0.1)  # it is stored, and the answer is on its way
        monkeypatch.setattr(Session, "sync", sync)
        with socket.socket() as nowhere:
            os.dup2(nowhere.fileno(), session._pgconn.socket)

    for use in (
        lambda: database.write(write("write")),
        lambda: database.execute(WRITE, ("execute",)),
        lambda: asyncio.run(database.aexecute(WRITE, ("aexecute",))),
    ):
        names(database)  # so that there is a connection
        monkeypatch.setattr(Session, "sync", cut_after_sending)
        with pytest.raises(DatabaseWriteError, match=r"unknown whether.*stored"):
            use()
    assert names(database) == {"write", "execute", "aexecute"}


def test_a_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    with Cluster(fsync=False) as cluster, closing(PostgresDatabase.open(cluster.dsn("postgres"))) as database:
        watch = database.watch("decided")
        database.write(write("before"))
        cluster.restart()
        assert names(database) == {"before"}
        assert watch.wait(10), "it may have missed news"
        until(lambda: cluster.admin.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchone())
        database.write(lambda tx: tx.notify("decided"))
        assert watch.wait(10)


def test_a_write_that_returned_is_there_after_kill_9(postgres_dsn: str, database: PostgresDatabase) -> None:
    program = f"""
from hitl_graph.storage.postgres import PostgresDatabase
database = PostgresDatabase.open({postgres_dsn!r})
for number in range(10 ** 6):
    database.write(lambda tx: tx.execute({WRITE!r}, (str(number),)))
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(50)]
        process.kill()
        acknowledged += process.stdout.readlines()
    assert {line.strip() for line in acknowledged if line.endswith("\n")} <= names(database)


def test_ctrl_c_leaves_no_connection_in_the_middle_of_something(database: PostgresDatabase) -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for use in (
            lambda: database.write(lambda tx: tx.execute("SELECT pg_sleep(9)").fetchall()),
            lambda: database.execute("SELECT pg_sleep(9)", ()),
        ):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                use()
            assert database.statement("SELECT 5") == [(5,)]
            assert database.execute(WRITE, (str(use),)) == 1
    finally:
        signal.signal(signal.SIGALRM, before)


# Processes


def test_a_fork_gets_connections_of_its_own(database: PostgresDatabase) -> None:
    backend = database.statement("SELECT pg_backend_pid()")
    database.write(write("parent"))
    watch = database.watch("inbox")

    def child() -> None:
        database.write(write("child"))
        asyncio.run(database.aexecute(WRITE, ("child's batch",)))
        database.write(lambda tx: tx.notify("inbox"))
        while watch.wait(0.5):
            pass
        database.write(lambda tx: tx.notify("inbox"))
        assert watch.wait(10)
        database.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert watch.wait(10)
    assert database.statement("SELECT pg_backend_pid()") == backend, "the child has ended the parent's connection"
    database.write(write("parent again"))
    assert names(database) == {"parent", "child", "child's batch", "parent again"}


def test_a_fork_inside_of_a_write_cannot_speak_for_the_parent(database: PostgresDatabase) -> None:
    def work(tx: Transaction) -> None:
        assert tx.execute(WRITE, ("parent",)).rowcount == 1
        pid = os.fork()
        if pid == 0:
            try:
                tx.execute(WRITE, ("child",)).fetchall()
            except StorageError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

    database.write(work)
    assert names(database) == {"parent"}


def test_eight_processes_open_an_empty_database_at_once(postgres_dsn: str) -> None:
    program = f"""
import os
from hitl_graph.storage.postgres import PostgresDatabase
database = PostgresDatabase.open({postgres_dsn!r}, schema="Some \\"schema\\"")
for number in range(20):
    database.write(lambda tx: tx.execute({WRITE!r}, (f"{{os.getpid()}} {{number}}",)))
database.close()
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(8)]
    assert [process.wait(120) for process in processes] == [0] * 8
    with closing(PostgresDatabase.open(postgres_dsn, schema='Some "schema"')) as database:
        assert len(names(database)) == 160
        known = range(1, len(postgres_schema.migrations()) + 1)
        assert database.statement("SELECT version FROM hitl_migrations") == [(number,) for number in known]


def test_news_reach_the_watches_of_other_processes(database: PostgresDatabase, postgres_dsn: str) -> None:
    program = f"""
from hitl_graph.storage.postgres import PostgresDatabase
database = PostgresDatabase.open({postgres_dsn!r})
with database.watch("inbox") as inbox, database.watch("decided") as decided:
    print("watching", flush=True)
    assert inbox.wait(20)
    assert not inbox.wait(0.2)
    assert not decided.wait(0)
database.close()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"

        def work(tx: Transaction) -> None:
            for _ in range(3):
                tx.notify("inbox")
            tx.execute(NAMES).fetchall()
            time.sleep(0.1)

        database.write(work)
        assert process.wait(30) == 0


def test_a_watch_wakes_threads_and_tasks_and_knows_its_schema(postgres_dsn: str, database: PostgresDatabase) -> None:
    with closing(PostgresDatabase.open(postgres_dsn, schema="other")) as other, database.watch("inbox") as watch:
        other.write(lambda tx: tx.notify("inbox"))
        assert not watch.wait(0.3)

        async def story() -> None:
            waiting = asyncio.create_task(watch.await_news(10))
            await asyncio.sleep(0.05)
            await database.awrite(lambda tx: tx.notify("inbox"))
            assert await waiting
            assert not await watch.await_news(0.05)
            waiting = asyncio.create_task(watch.await_news(10))
            await asyncio.sleep(0)
            watch.close()
            with pytest.raises(DatabaseClosedError):
                await waiting

        asyncio.run(story())

        def failing(tx: Transaction) -> None:
            tx.notify("decided")
            raise LookupError

        with database.watch("decided") as decided:
            with pytest.raises(LookupError):
                database.write(failing)
            assert not decided.wait(0.2)


# The database itself


def test_the_tables_are_those_of_sqlite(database: PostgresDatabase, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    SqliteDatabase.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        expected = {  # but for what FTS5 keeps of the words
            table: [row[1:4:2] for row in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE name LIKE 'hitl%' AND type = 'table'"
                " AND name NOT IN ('hitl_words_config', 'hitl_words_content', 'hitl_words_data',"
                " 'hitl_words_docsize', 'hitl_words_idx')"
            )
        }
    found = dict[str, list[tuple[str, int]]]()
    for table, column, nullable in database.statement(
        "SELECT table_name, column_name, is_nullable FROM information_schema.columns WHERE table_schema = 'public'"
        " AND table_name <> 'hitl_migrations' ORDER BY table_name, ordinal_position"
    ):
        found.setdefault(table, []).append((column, int(nullable == "NO")))
    assert {table: [name for name, _ in columns] for table, columns in found.items()} == {
        table: [name for name, _ in columns] for table, columns in expected.items()
    }
    unsorted = database.statement(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    assert unsorted == []


def test_opening_again_needs_no_right_but_to_use_the_tables(
    postgres_dsn: str, postgres_cluster: Cluster, round_trips: Counter[str]
) -> None:
    PostgresDatabase.open(postgres_dsn).close()
    with psycopg.connect(postgres_dsn) as admin:
        admin.execute("DROP ROLE IF EXISTS clerk")
        admin.execute("CREATE ROLE clerk LOGIN")
        admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk")
        admin.execute("GRANT SELECT ON hitl_migrations TO clerk")
        admin.execute("REVOKE DELETE ON hitl_thread_claims FROM clerk")
        admin.commit()
        admin.execute("LOCK TABLE hitl_migrations IN ROW EXCLUSIVE MODE")  # as a migration that goes on elsewhere
        round_trips.clear()
        with closing(PostgresDatabase.open(postgres_dsn.replace("user=postgres", "user=clerk"))) as database:
            assert round_trips["waits"] == 2
            database.write(write("clerk"))
            with pytest.raises(DatabaseWriteError, match=r"lacks a right.*GRANT"):
                database.execute("DELETE FROM hitl_thread_claims", ())
        with pytest.raises(DatabaseWriteError, match="lacks a right"):
            PostgresDatabase.open(postgres_dsn.replace("user=postgres", "user=clerk"), schema="clerks")
    with psycopg.connect(postgres_dsn) as admin:
        admin.execute("DROP OWNED BY clerk")
        admin.execute("DROP ROLE clerk")


def test_a_newer_database_is_left_alone(postgres_dsn: str, database: PostgresDatabase) -> None:
    database.execute("INSERT INTO hitl_migrations VALUES (999, now())", ())
    with pytest.raises(DatabaseTooNewError, match="newer"):
        PostgresDatabase.open(postgres_dsn)


@pytest.mark.parametrize("name", ["hitl_requests", "hitl_migrations"])
def test_a_table_of_somebody_else_is_left_alone(postgres_dsn: str, name: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as other:
        other.execute(f"CREATE TABLE {name} (recipe text)")
        with pytest.raises(DatabaseCorruptError, match=name):
            PostgresDatabase.open(postgres_dsn)
        assert other.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'hitl%'").fetchone() == (1,)
    with closing(PostgresDatabase.open(postgres_dsn, schema="ours")) as database:
        database.write(write("beside"))


def test_an_old_server_is_refused(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "OLDEST_SERVER", 99)
    with pytest.raises(StorageError, match=r"runs PostgreSQL \d+; hitl-graph needs 99"):
        PostgresDatabase.open(postgres_dsn)


# In words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": "1"}, r"'.*' at 127\.0\.0\.1:1 cannot be reached"),
        ({"dbname": "nowhere"}, "'nowhere' at .* does not exist; create it"),
        ({"user": "nobody"}, "did not let us in"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named_without_the_password(
    postgres_cluster: Cluster, change: dict[str, str], words: str
) -> None:
    parts = {"host": "127.0.0.1", "port": str(postgres_cluster.port), "user": "postgres", "dbname": "postgres"}
    conninfo = psycopg.conninfo.make_conninfo(**{**parts, "password": "s3cret", **change})
    with pytest.raises(StorageError, match=words) as raised:
        PostgresDatabase.open(conninfo)
    assert "s3cret" not in str(raised.value)


def test_the_url_has_no_password(postgres_cluster: Cluster) -> None:
    with postgres_cluster.database() as dsn:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        url = f"postgresql://postgres:s3cret@127.0.0.1:{postgres_cluster.port}/{name}"
        with closing(PostgresDatabase.open(url)) as database:
            assert "s3cret" not in database.url
            assert database.url == f"postgresql://postgres@127.0.0.1:{postgres_cluster.port}/{name}"
        for schema in (None, 'some "odd" \\ schema'):
            with closing(PostgresDatabase.open(f"{dsn} options='-c geqo=off'", schema=schema)) as database:
                database.write(write(str(schema)))
                assert database.url.startswith(f"postgresql://postgres@/{name}?")
                with closing(PostgresDatabase.open(database.url)) as again:
                    assert names(again) == {str(schema)}
    with pytest.raises(StorageError, match="no PostgreSQL connection string") as raised:
        PostgresDatabase.open("password=s3cret nonsense")
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("setting", "sql", "words"),
    [
        ("default_transaction_read_only = on", WRITE, "is read-only"),
        ("statement_timeout = '50ms'", f"{WRITE} RETURNING pg_sleep(5)", "statement_timeout"),
        ("lock_timeout = '50ms'", WRITE, "held a lock"),
    ],
)
def test_settings_in_the_way_are_named(postgres_dsn: str, setting: str, sql: str, words: str) -> None:
    PostgresDatabase.open(postgres_dsn).close()
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET {setting}")
        with admin.transaction(), closing(PostgresDatabase.open(postgres_dsn)) as database:
            admin.execute("SET TRANSACTION READ WRITE")
            admin.execute("LOCK TABLE hitl_thread_claims IN SHARE MODE")
            if "lock" not in setting:
                admin.execute("ROLLBACK AND CHAIN")
            for use in (
                lambda: database.execute(sql, ("x",)),
                lambda: database.write(lambda tx: tx.execute(sql, ("x",))),
                lambda: asyncio.run(database.aexecute(sql, ("x",))),
            ):
                with pytest.raises(DatabaseWriteError, match=words):
                    use()


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("53100", DatabaseWriteError, "disk is full"),
        ("57P01", DatabaseWriteError, "cut the connection"),
        ("26000", StorageError, "prepare=False"),
        ("42P01", DatabaseCorruptError, "dropped, or restored in part"),
        ("XX001", DatabaseCorruptError, "damaged"),
    ],
)
def test_what_cannot_be_provoked_here_is_explained_too(state: str, kind: type[StorageError], words: str) -> None:
    explained = explain(psycopg.errors.lookup(state)("the server's words"), "PostgreSQL database 'x' at y")
    assert type(explained) is kind
    assert str(explained).startswith("PostgreSQL database 'x' at y")
    assert words in str(explained)
    assert "the server's words" in str(explained)


def test_without_psycopg_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['psycopg'] = None; import hitl_graph.storage.postgres"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'hitl-graph[postgres]'" in ended.stderr


def test_too_many_connections_are_named(database: PostgresDatabase, postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as admin:
        admin.execute("DROP ROLE IF EXISTS crowd")
        admin.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 1")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO crowd")
    crowd = postgres_dsn.replace("user=postgres", "user=crowd")
    with closing(PostgresDatabase.open(crowd)), pytest.raises(StorageError, match="no connection left"):
        PostgresDatabase.open(crowd)


def test_at_most_so_many_connections_are_in_use(postgres_dsn: str, postgres_cluster: Cluster) -> None:
    most = 0

    def work(tx: Transaction) -> None:
        nonlocal most
        tx.execute("SELECT pg_sleep(0.01)").fetchall()
        most = max(most, len(backends(postgres_cluster, postgres_dsn)))

    with closing(PostgresDatabase.open(postgres_dsn, max_connections=3)) as database:
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: database.read(work), range(30)))
        assert 0 < most <= 3
