"""A great many threads that wait for a person: how long the inbox, a decision and a resume take, and what it weighs.

One thread really pauses; its rows are then copied under other names, straight into the tables, so that each copy can
be decided and resumed. (The copies of its log rows have its hashes: `hitl audit verify` would say so.)

    python benchmarks/parked.py [--database sqlite postgres] [--threads 1000000] [--decide 200]
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.checkpointers import PostgresCheckpointer, SqliteCheckpointer
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import Request, approve, request_id
from hitl_graph.nodes import ApprovalNode
from hitl_graph.testing import tool_call
from hitl_graph.worker import Worker

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Cluster

Row = dict[str, Any]
TABLES = ("hitl_namespaces", "hitl_states", "hitl_writes", "hitl_requests", "hitl_audit")
BLOCK = 20_000


@tool
def pay(eur: int, to: str) -> str:
    """Pay somebody."""
    return f"paid {eur} to {to}"


def build(saver: Checkpointer) -> Any:
    def agent(state: MessagesState) -> Row:
        if len(state["messages"]) > 1:
            return {"messages": [("ai", "It is paid.")]}
        return {"messages": [{"role": "ai", "content": "", "tool_calls": [tool_call("pay", eur=5, to="bob")]}]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ApprovalNode([pay]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


class Filler:
    """Copies the rows of the one thread that is there."""

    def __init__(self, connection: Any, asked: Request, message_id: str) -> None:
        self.connection, self.asked, self.message_id = connection, asked, message_id
        assert self.action_key(asked.thread_id) == asked.action_key
        self.template: dict[str, list[Row]] = {}
        for table in TABLES:
            found = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in found.description]
            self.template[table] = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        self.states = max(row["id"] for row in self.template["hitl_states"]) + 1
        self.writes = max(row["id"] for row in self.template["hitl_writes"]) + 1
        self.log = len(self.template["hitl_audit"])

    def action_key(self, thread: str) -> str:
        """As `ApprovalNode` derives it: without the right one nothing would be permitted."""
        assert self.asked.action is not None
        named = [thread, self.message_id, 0, self.asked.tool_call_id, self.asked.action.digest]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]

    def copy(self, table: str, row: Row, number: int) -> Row:
        thread = f"parked-{number}"
        match table:
            case "hitl_namespaces":
                return {**row, "ns": row["ns"] + number, "thread_id": thread}
            case "hitl_writes":
                return {**row, "id": row["id"] + number * self.writes, "ns": row["ns"] + number}
            case "hitl_audit":
                return {**row, "seq": row["seq"] + number * self.log, "thread_id": thread}
            case "hitl_states":
                shift = number * self.states
                refs = {channel: value + shift for channel, value in json.loads(row["refs"] or "{}").items()}
                return {
                    **row, "id": row["id"] + shift, "ns": row["ns"] + number, "refs": json.dumps(refs),
                    "parent": row["parent"] and row["parent"] + shift,
                }  # fmt: skip
        own = request_id(thread, self.asked.interrupt_id)
        request = self.asked.model_copy(update={"id": own, "thread_id": thread, "action_key": self.action_key(thread)})
        shown = json.dumps(request.shown(), sort_keys=True, separators=(",", ":"))
        return {
            **row, "id": own, "thread_id": thread, "action_key": request.action_key, "digest": request.digest,
            "shown": shown, "created_ms": row["created_ms"] + number,
        }  # fmt: skip

    def fill(self, threads: int) -> None:
        for first in range(1, threads, BLOCK):
            numbers = range(first, min(first + BLOCK, threads))
            for table, rows in self.template.items():
                copies = (tuple(self.copy(table, row, number).values()) for number in numbers for row in rows)
                self.insert(table, list(rows[0]), copies)
            self.connection.commit()
            tell(f"{numbers[-1] + 1:,} of {threads:,} threads")
        tell("")
        self.connection.execute(f"UPDATE hitl_ids SET next = {self.states * (threads + 1)}")
        self.connection.execute(f"UPDATE hitl_audit_tip SET seq = {self.log * threads}")
        if isinstance(self.connection, psycopg.Connection):
            for table, column in (("hitl_namespaces", "ns"), ("hitl_writes", "id")):
                newest = f"(SELECT max({column}) FROM {table})"
                self.connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {newest})")
        self.connection.commit()

    def insert(self, table: str, names: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
        columns = ", ".join(names)
        if isinstance(self.connection, psycopg.Connection):
            with self.connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(names))
            self.connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)


def measure(opened: Callable[[], Checkpointer], connect: Callable[[], Any], threads: int, decide: int) -> None:
    with opened() as saver:
        build(saver).invoke({"messages": [("user", "Pay Bob 5 euros")]}, {"configurable": {"thread_id": "parked-0"}})
        [asked] = Inbox(saver.ledger).pending()
        found = saver.get_tuple({"configurable": {"thread_id": "parked-0"}})
        assert found is not None
        message_id = found.checkpoint["channel_values"]["messages"][-1].id
    start = time.perf_counter()
    with contextlib.closing(connect()) as connection:
        Filler(connection, asked, message_id).fill(threads)
    row("filled", time.perf_counter() - start, "s")
    if not isinstance(connection, sqlite3.Connection):  # what autovacuum does sooner or later
        with opened() as saver:
            saver.ledger.database.vacuum()
    start = time.perf_counter()
    with opened() as saver:
        row("open", (time.perf_counter() - start) * 1e3, "ms")
        graph, inbox = build(saver), Inbox(saver.ledger)
        page = timed(lambda: inbox.pending())
        row("inbox, first page of 50", page, "ms")
        middle = request_id(f"parked-{threads // 2}", asked.interrupt_id)
        row("inbox, a page in the middle", timed(lambda: inbox.pending(after=middle)), "ms")
        rng = random.Random(1)
        chosen = [request_id(f"parked-{n}", asked.interrupt_id) for n in rng.sample(range(1, threads), decide)]
        took = sorted(timed(lambda one=one: inbox.decide(one, approve(), reviewer="alice"), 1) for one in chosen)
        row("decide, median", statistics.median(took), "ms")
        row("decide, 99 of 100", took[int(len(took) * 0.99)], "ms")
        start = time.perf_counter()
        resumed = Worker(graph, saver.ledger).run_once()
        each = (time.perf_counter() - start) * 1e3 / decide
        assert [one.status for one in resumed] == ["finished"] * decide, resumed[:3]
        row("decided threads resumed, each", each, "ms")
        sizes = saver.ledger.database.sizes()
        row("size", sizes.total / 1e9, "GB")
        row("size a thread", sizes.total / threads, "bytes")


@contextlib.contextmanager
def place(database: str) -> Iterator[tuple[Callable[[], Checkpointer], Callable[[], Any]]]:
    """How to open an empty database as a checkpointer, and as what it is."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "agent.db")
            yield lambda: SqliteCheckpointer(path), lambda: sqlite3.connect(path)
    else:
        with Cluster() as cluster, cluster.database() as dsn:
            yield lambda: PostgresCheckpointer(dsn), lambda: psycopg.connect(dsn)


def timed(work: Callable[[], object], times: int = 5) -> float:
    """Median of some runs, in milliseconds."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took)


def row(what: str, value: float, unit: str) -> None:
    tell("")
    print(f"{what:32}{value:12,.2f} {unit}", flush=True)


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--threads", type=int, default=1_000_000)
    parser.add_argument("--decide", type=int, default=200, help="how many are decided and resumed")
    options = parser.parse_args()
    for database in options.database:
        print(f"{database}: {options.threads:,} parked threads")
        with place(database) as (opened, connect):
            measure(opened, connect, options.threads, options.decide)
        print()


if __name__ == "__main__":
    main()
