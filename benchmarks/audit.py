"""A long audit log: rows a second of append, verify, export and the verification offline, and what they take of memory.

One call is really asked about, approved and run; its rows are then copied under other names, with fingerprints and
seals of their own, so that the log verifies. Verify and export are the commands, the last is `docs/verify_audit.py`.

    python benchmarks/audit.py [--database sqlite postgres] [--rows 1000000]
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from parked import build, place, tell

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import audit, chain, fingerprints
from hitl_graph.model import approve
from hitl_graph.storage import Transaction
from hitl_graph.worker import Worker

ROOT = Path(__file__).parents[1]
TABLES = ("hitl_requests", "hitl_votes", "hitl_permits", "hitl_effects")
BLOCK = 5_000
Row = tuple[Any, ...]


def play(saver: Checkpointer) -> None:
    """One call, from the question to its end."""
    graph, inbox = build(saver), Inbox(saver.ledger)
    graph.invoke({"messages": [("user", "Pay Bob 5 euros")]}, {"configurable": {"thread_id": "played"}})
    [asked] = inbox.pending()
    inbox.decide(asked.id, approve(), reviewer="alice")
    assert [one.status for one in Worker(graph, saver.ledger).run_once()] == ["finished"]


class Filler:
    """Copies what was played."""

    def __init__(self, tx: Transaction, write: Any) -> None:
        self.write = write
        self.rows = {table: [tuple(row) for row in tx.execute(f"SELECT * FROM {table}").fetchall()] for table in TABLES}
        columns = ", ".join(chain.FIELDS)
        self.log: list[Row] = tx.execute(f"SELECT {columns} FROM hitl_audit ORDER BY seq").fetchall()
        [(self.request,)] = tx.execute("SELECT id FROM hitl_requests").fetchall()
        [(self.permit, self.key)] = tx.execute("SELECT id, action_key FROM hitl_permits").fetchall()
        self.prints = {
            kind: [[tuple(row) for row in rows.fetchall()] for rows in fingerprints.look(tx, kind, subject)]
            for kind, subject in (("request", self.request), ("effect", self.permit))
        }
        self.seq, self.head = audit.head(tx)

    def fill(self, rows: int) -> None:
        """Until the log has about so many rows."""
        copies = rows // len(self.log) - 1
        for first in range(0, copies, BLOCK):
            made: dict[str, list[Row]] = {table: [] for table in (*TABLES, "hitl_audit")}
            for number in range(first, min(first + BLOCK, copies)):
                self.copy(number, made)
            for table, block in made.items():
                self.write(table, block)
            tell(f"{self.seq:,} of {rows:,} rows")
        tell("")

    def copy(self, number: int, made: dict[str, list[Row]]) -> None:
        name = hashlib.sha256(str(number).encode()).hexdigest()  # ids come in no order
        new = {
            "played": f"thread-{number}", self.request: name[:20], self.key: name[:32],
            self.permit: self.permit.replace(self.key, name[:32]),
        }  # fmt: skip

        def renamed(row: Row) -> Row:
            return tuple(new.get(value, value) if isinstance(value, str) else value for value in row)

        for table, rows in self.rows.items():
            made[table] += map(renamed, rows)
        prints = {
            kind: fingerprints.hashed([map(renamed, rows) for rows in parts]) for kind, parts in self.prints.items()
        }
        for row in self.log:
            body = json.dumps(
                json.loads(row[-1]) | {"row": prints[fingerprints.about(row[2])]}, sort_keys=True, separators=(",", ":")
            )
            salt = os.urandom(chain.SALT)
            self.seq += 1
            sealed = (self.seq, *renamed(row)[1:6], chain.commitment(salt, body))
            self.head = chain.seal(self.head, sealed)
            made["hitl_audit"].append((*sealed, self.head, salt, body))


@contextlib.contextmanager
def writing(connection: Any) -> Iterator[Any]:
    """What writes many rows into a table."""

    def write(table: str, rows: list[Row]) -> None:
        columns = f"({', '.join(chain.FIELDS)})" if table == "hitl_audit" else ""
        if isinstance(connection, psycopg.Connection):
            with connection.cursor().copy(f"COPY {table} {columns} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            connection.executemany(f"INSERT INTO {table} {columns} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.commit()

    with contextlib.closing(connection):
        yield write


def appended(saver: Checkpointer, rows: int, together: int) -> float:
    """Rows a second, with so many in a transaction."""
    with contextlib.closing(saver):
        [request] = saver.ledger.history("played")

        def work(tx: Transaction) -> None:
            for _ in range(together):
                audit.append(tx, 0, "request.parked", request.id, {"parked": 1}, thread_id="played", actor="graph")

        start = time.perf_counter()
        for _ in range(rows // together):
            saver.ledger.write(work)
        return rows / (time.perf_counter() - start)


def command(what: str, rows: int, *words: str) -> None:
    """Run one, and say how long it took and how much memory (where there is a /proc)."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration, ValueError):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak = max(peak, int(next(line for line in status if line.startswith("VmHWM")).split()[1]))
            time.sleep(0.02)
        took = time.perf_counter() - start
        assert process.stdout is not None
        said = process.stdout.read().decode()
    assert process.returncode == 0, said
    show(what, rows / took, f"{took:6.1f} s, {peak / 1024:5.0f} MB")


def show(what: str, rate: float, more: str = "") -> None:
    tell("")
    print(f"{what:34}{rate:10,.0f} rows/s  {more}".rstrip(), flush=True)


def measure(opened: Any, connect: Any, rows: int) -> None:
    with opened() as saver:
        play(saver)
        url = saver.ledger.database.url
        with writing(connect()) as write:
            filler = saver.ledger.read(Filler, write)
            start = time.perf_counter()
            filler.fill(rows)
        saver.ledger.write(
            lambda tx: tx.execute("UPDATE hitl_audit_tip SET seq = ?, hash = ?", (filler.seq, filler.head))
        )
        saver.ledger.database.vacuum()
    tell("")
    print(f"filled with {filler.seq:,} rows in {time.perf_counter() - start:.0f} s")
    hitl = ("-m", "hitl_graph.cli", "audit")
    command("verify", filler.seq, *hitl, "verify", "--db", url)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "log.jsonl")
        command("export", filler.seq, *hitl, "export", "--db", url, "-o", file)
        print(f"{'exported':34}{os.path.getsize(file) / filler.seq:10,.0f} bytes a row")
        command("verify offline", filler.seq, str(ROOT / "docs" / "verify_audit.py"), file, filler.head)
    show("append, one a transaction", appended(opened(), 1000, 1))
    show("append, 100 a transaction", appended(opened(), 5000, 100))
    command("verify, after that", filler.seq + 6000, *hitl, "verify", "--db", url, "--anchor", filler.head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    for database in options.database:
        print(f"{database}: a log of {options.rows:,} rows")
        with place(database) as (opened, connect):
            measure(opened, connect, options.rows)
        print()


if __name__ == "__main__":
    main()
