"""The SQLite engine: durable writes, readers that do not wait, and clear words when the file cannot be used."""

import asyncio
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hitl_graph.errors import (
    DatabaseClosedError,
    DatabaseCorruptError,
    DatabaseTooNewError,
    DatabaseWriteError,
    StorageError,
)
from hitl_graph.storage import Transaction
from hitl_graph.storage.sqlite import SqliteDatabase

WRITE = "INSERT INTO hitl_thread_claims (thread_id, owner, until_ms) VALUES (?, 'x', 0)"


def write(name: str) -> Any:
    return lambda tx: tx.execute(WRITE, (name,))


def names(database: SqliteDatabase) -> set[str]:
    return database.read(lambda tx: {row[0] for row in tx.execute("SELECT thread_id FROM hitl_thread_claims")})


@pytest.fixture
def database(tmp_path: Path) -> Generator[SqliteDatabase]:
    with closing(SqliteDatabase.open(tmp_path / "x.db")) as opened:
        yield opened


def test_a_write_that_returned_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    program = f"""
from hitl_graph.storage.sqlite import SqliteDatabase
database = SqliteDatabase.open({str(path)!r})
for number in range(10 ** 6):
    database.write(lambda tx: tx.execute({WRITE!r}, (str(number),)))
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(50)]
        process.kill()
        acknowledged += process.stdout.readlines()
    with closing(SqliteDatabase.open(path)) as database:
        assert {line.strip() for line in acknowledged if line.endswith("\n")} <= names(database)


def test_writes_of_many_threads_are_committed_and_a_failing_one_fails_alone(database: SqliteDatabase) -> None:
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

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(work, range(200)))
    assert results == ["failed" if number % 5 == 0 else "stored" for number in range(200)]
    assert names(database) == {str(number) for number in range(200) if number % 5}


def test_async_writes_are_stored_even_if_their_caller_is_cancelled(database: SqliteDatabase) -> None:
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
        finish.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*(database.awrite(write(str(number))) for number in range(20)))

    asyncio.run(story())
    assert names(database) == {"slow", *map(str, range(20))}


def test_readers_do_not_wait_for_a_writer_and_see_what_is_committed(database: SqliteDatabase) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        tx.execute(WRITE, ("held",))
        inside.set()
        assert leave.wait(10)

    writer = threading.Thread(target=database.write, args=(hold,))
    writer.start()
    assert inside.wait(10)
    assert names(database) == set()
    leave.set()
    writer.join()
    assert names(database) == {"held"}


def test_a_write_inside_of_a_write_is_refused_instead_of_hanging(database: SqliteDatabase) -> None:
    with pytest.raises(StorageError):
        database.write(lambda tx: database.write(write("inner")))
    assert names(database) == set()


def test_a_fork_gets_connections_of_its_own(database: SqliteDatabase) -> None:
    database.write(write("parent"))
    pid = os.fork()
    if pid == 0:
        try:
            database.write(write("child"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    database.write(write("parent again"))
    assert names(database) == {"parent", "child", "parent again"}


def test_eight_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    program = f"""
import os
from hitl_graph.storage.sqlite import SqliteDatabase
database = SqliteDatabase.open({str(tmp_path / "x.db")!r})
for number in range(20):
    database.write(lambda tx: tx.execute({WRITE!r}, (f"{{os.getpid()}} {{number}}",)))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(8)]
    assert [process.wait(120) for process in processes] == [0] * 8
    with closing(SqliteDatabase.open(tmp_path / "x.db")) as database:
        assert len(names(database)) == 160


def test_after_close_it_says_so(database: SqliteDatabase) -> None:
    database.close()
    database.close()
    with pytest.raises(DatabaseClosedError, match="open it again"):
        database.read(lambda tx: None)
    with pytest.raises(DatabaseClosedError, match="open it again"):
        database.write(lambda tx: None)


def test_memory_is_no_place_for_decisions() -> None:
    with pytest.raises(StorageError, match="needs a file"):
        SqliteDatabase.open(":memory:")


@pytest.mark.parametrize("content", [b"this is a letter, not a database, and long enough to be read as one" * 20, None])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.db"
    if content is None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
            other.commit()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(DatabaseCorruptError, match=r"x\.db"):
        SqliteDatabase.open(path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(SqliteDatabase.open(path)) as database:
        for number in range(500):
            database.write(write(f"thread {number} {'x' * 200}"))
    data = bytearray(path.read_bytes())
    data[8192 : len(data) - 4096] = b"\xff" * (len(data) - 12288)
    path.write_bytes(data)
    for leftover in ("x.db-wal", "x.db-shm"):
        (tmp_path / leftover).unlink(missing_ok=True)
    with pytest.raises(DatabaseCorruptError, match=r"x\.db"), closing(SqliteDatabase.open(path)) as damaged:
        names(damaged)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    SqliteDatabase.open(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 999")
    with pytest.raises(DatabaseTooNewError, match="newer"):
        SqliteDatabase.open(path)


@pytest.fixture
def small_disk() -> Generator[Path]:
    """A file system of 2 MB. Needs root, as CI has."""
    folder = Path(tempfile.mkdtemp())  # not below tmp_path, which pytest could not remove while it is mounted
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    try:
        if mounted.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    stored = set[str]()
    with closing(SqliteDatabase.open(small_disk / "x.db")) as database:

        def fill() -> None:
            for number in range(10_000):
                database.write(write(f"{number} {'x' * 2000}"))
                stored.add(f"{number} {'x' * 2000}")

        with pytest.raises(DatabaseWriteError, match=r"x\.db.*(full|space)"):
            fill()
        assert stored
        assert names(database) == stored
    with closing(SqliteDatabase.open(small_disk / "x.db")) as again:
        assert names(again) == stored


def test_a_read_only_file_can_be_read_and_says_why_it_cannot_be_written(small_disk: Path) -> None:
    with closing(SqliteDatabase.open(small_disk / "x.db")) as database:
        database.write(write("before"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        with closing(SqliteDatabase.open(small_disk / "x.db")) as database:
            assert names(database) == {"before"}
            with pytest.raises(DatabaseWriteError, match="read-only"):
                database.write(write("after"))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def test_a_copy_of_the_file_is_a_database(database: SqliteDatabase, tmp_path: Path) -> None:
    database.write(write("one"))
    database.close()
    shutil.copy(tmp_path / "x.db", tmp_path / "copy.db")
    with closing(SqliteDatabase.open(tmp_path / "copy.db")) as copy:
        assert names(copy) == {"one"}


def test_into_a_recovered_file_one_writes_while_others_read(database: SqliteDatabase, tmp_path: Path) -> None:
    """What `.recover`, `.dump` or VACUUM INTO writes is whole, but has no write-ahead log."""
    database.write(write("before"))
    database.close()
    with closing(sqlite3.connect(tmp_path / "x.db")) as lost:
        lost.execute("VACUUM INTO ?", (str(tmp_path / "recovered.db"),))
    with closing(SqliteDatabase.open(tmp_path / "recovered.db")) as recovered:

        def look(tx: Transaction) -> list[Any]:
            seen = tx.execute("SELECT thread_id FROM hitl_thread_claims").fetchall()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(recovered.write, write("meanwhile")).result()
            return seen

        assert recovered.read(look) == [("before",)]
        assert names(recovered) == {"before", "meanwhile"}


def test_a_recovered_file_on_a_read_only_disk_can_be_read(small_disk: Path) -> None:
    with closing(SqliteDatabase.open(small_disk / "x.db")) as database:
        database.write(write("before"))
    with closing(sqlite3.connect(small_disk / "x.db")) as lost:
        lost.execute("VACUUM INTO ?", (str(small_disk / "recovered.db"),))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    try:
        with closing(SqliteDatabase.open(small_disk / "recovered.db")) as recovered:
            assert names(recovered) == {"before"}
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def test_a_short_lock_of_another_process_is_waited_for(database: SqliteDatabase, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    def let_go() -> None:
        time.sleep(0.3)
        other.execute("ROLLBACK")
        other.close()

    release = threading.Thread(target=let_go)
    release.start()
    database.write(write("waited"))
    release.join()
    assert names(database) == {"waited"}


@pytest.mark.parametrize("door", ["write", "read"])
def test_a_work_that_failed_leaves_no_snapshot_behind(tmp_path: Path, door: str) -> None:
    """A cursor that was not read to its end lives on in the error's traceback, and keeps what it saw."""
    path = tmp_path / "agent.db"

    def fail(tx: Transaction) -> None:
        rows = tx.execute("SELECT seq FROM hitl_audit_tip UNION ALL SELECT 1 UNION ALL SELECT 2")
        raise LookupError(rows.fetchone())

    gc.disable()
    try:
        with closing(SqliteDatabase.open(path)) as one, closing(SqliteDatabase.open(path)) as other:
            with pytest.raises(LookupError) as failed:
                getattr(one, door)(fail)
            other.write(write("theirs"))
            assert names(one) == {"theirs"}
            one.write(write("mine"))
            assert failed.value.args
    finally:
        gc.enable()
