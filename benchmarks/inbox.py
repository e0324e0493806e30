"""What a page of the inbox costs in a long list: pages, filters, searches, counts, menus.

Requests of several kinds, tools, risks and people; one in a thousand has a rare word, one tool is rare, and the oldest
and the newest tenth have a word of their own, so that a search has to find what is far from where it begins.

    python benchmarks/inbox.py [--database sqlite postgres] [--pending 100000] [--rounds 50]
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, request_id
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.storage import Transaction
from hitl_graph.storage.postgres import PostgresDatabase
from hitl_graph.terms import Stage, Terms
from hitl_graph.testing import FakeClock

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Cluster

BLOCK = 2_000
KINDS: list[Any] = ["approval", "approval", "approval", "review", "escalation"]
RISKS: list[Any] = ["low", "medium", "high", None]
ROLES = [None, None, "finance", "legal", "ops"]


def made(number: int, pending: int) -> Request:
    thread, role = f"thread-{number // 3}", ROLES[number % 5]
    tool = "wire_transfer" if number % 1000 == 7 else f"tool_{number % 20}"
    part = "dawn" if number < pending // 10 else "dusk" if number >= pending * 9 // 10 else "noon"
    args = {
        "to": f"customer{number % 5000}@example.com", "eur": number * 1.5, "note": f"invoice {number} of the {part}",
        "text": "please have a look at what was agreed with the customer before this is sent" * (1 + number % 3),
    }  # fmt: skip
    if number % 1000 == 500:
        args["note"] = f"chargeback {number}"
    stage = Stage(reviewers=(f"role:{role}" if number % 997 else "dora",)) if role else None
    return Request(
        id=request_id(thread, str(number)), kind=KINDS[number % 5], thread_id=thread, interrupt_id=str(number),
        action=Action(name=tool, args=args), reason="over the limit", risk=RISKS[number % 4],
        terms=Terms(stages=(stage,)) if stage else None,
    )  # fmt: skip


def fill(ledger: Ledger, pending: int) -> float:
    began = time.perf_counter()
    for first in range(0, pending, BLOCK):
        block = [made(number, pending) for number in range(first, min(first + BLOCK, pending))]
        ledger.write(opened, ledger.now_ms() + first * 10, block)
        tell(f"{first + BLOCK:,} of {pending:,} requests")
    tell("")
    return time.perf_counter() - began


def opened(tx: Transaction, now_ms: int, block: list[Request]) -> None:
    for order, request in enumerate(block):
        requests.open_request(tx, now_ms + order * 10, request, checkpoint_id="c", task_id="k", parked=1)


def looks(inbox: Inbox, pending: int) -> dict[str, Callable[[], Any]]:
    """What is measured; each gives what it found."""
    ids = [request.id for request in inbox.ledger.pending_rows()]
    middle = ids[len(ids) // 2]
    since = inbox.ledger.clock() + timedelta(milliseconds=pending * 10 // 2)

    def page(**wanted: Any) -> Callable[[], Any]:
        return lambda: inbox.pending(**wanted)

    return {
        "first page": page(),
        "first page, newest first": page(newest_first=True),
        "page in the middle": page(after=middle),
        "kind": page(kind="review"),
        "tool, of 5 in a hundred": page(tool="tool_3"),
        "tool, of 1 in a thousand": page(tool="wire_transfer"),
        "tool that there is not": page(tool="nothing"),
        "tool, kind and risk": page(tool="tool_3", kind="review", risk=None),
        "thread": page(thread_id="thread-77"),
        "the younger half": page(since=since),
        "search: one word of all": page(search="agreed"),
        "search: a beginning that all have": page(search="cust"),
        "search: 1 in a thousand": page(search="chargeback"),
        "search: the last tenth": page(search="dusk"),
        "search: the first tenth, newest first": page(search="dawn", newest_first=True),
        "search: common words, a rare tool": page(search="invoice the", tool="wire_transfer"),
        "search: one request": page(search=f"invoice {pending // 2 + 1}"),
        "search: one request id": page(search=ids[pending // 3][:12]),
        "search: nothing": page(search="zebra"),
        "search: two words never together": page(search="dusk dawn"),
        "mine (a third)": page(reviewer="fay"),
        "mine (1 in a thousand, and anybody's)": page(reviewer="dora"),
        "mine, rare tool": page(reviewer="fay", tool="wire_transfer"),
        "mine, search for a rare word": page(reviewer="fay", search="chargeback"),
        "assigned by name (1 in a thousand)": page(assignee="dora"),
        "assigned to nobody": page(assignee="zoe"),
        "count, all": inbox.count,
        "count, rare tool": lambda: inbox.count(tool="wire_transfer"),
        "count, search for a common word": lambda: inbox.count(search="agreed"),
        "count, mine": lambda: inbox.count(reviewer="fay"),
        "facets": inbox.facets,
        "facets, mine": lambda: inbox.facets(reviewer="fay"),
        "events since the last": lambda: inbox.events(inbox.last_event() - 1),
    }


def measure(name: str, ledger: Ledger, pending: int, rounds: int) -> None:
    ledger.clock = FakeClock()
    ledger.directory = StaticDirectory([Reviewer("fay", ["finance"]), Reviewer("dora"), Reviewer("zoe")])
    took = fill(ledger, pending)
    if name == "PostgreSQL":
        ledger.database.vacuum()  # as its autovacuum does by and by
    print(f"{name}: {pending:,} pending, {took / pending * 1e6:.0f} us each to open\n")
    print("| a page of 50 | found | p50 ms | p99 ms |\n|---|---|---|---|")
    for what, look in looks(Inbox(ledger), pending).items():
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            found = look()
            times.append((time.perf_counter() - began) * 1000)
        size = len(found) if isinstance(found, list) else found if isinstance(found, int) else ""
        times.sort()
        print(f"| {what} | {size} | {statistics.median(times):.1f} | {times[int(rounds * 0.99)]:.1f} |", flush=True)
    print()


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if "sqlite" in options.database:
            with Ledger.open(os.path.join(folder, "ledger.db")) as ledger:
                measure("SQLite", ledger, options.pending, options.rounds)
        if "postgres" in options.database:
            dsn = stack.enter_context(stack.enter_context(Cluster()).database())
            with Ledger(PostgresDatabase.open(dsn, max_connections=16)) as ledger:
                measure("PostgreSQL", ledger, options.pending, options.rounds)


if __name__ == "__main__":
    main()
