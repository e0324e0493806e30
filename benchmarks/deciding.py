"""A decision under load: a great many pending requests, hundreds of rules that name people, many who decide at once.

Printed beside each other in one run: one answer after the other, and 32 people (threads, then tasks of one event loop)
who answer at the same time; first where anybody may decide, then where a rule names people and wants two of them. What
nobody could beat is the third column: the same database committing one row at a time.

    python benchmarks/deciding.py [--database sqlite postgres] [--pending 100000] [--rules 500] [--decide 640]
"""

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, approve, request_id
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.storage import Transaction
from hitl_graph.storage.postgres import PostgresDatabase
from hitl_graph.testing import FakeClock

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Cluster

BLOCK = 2_000
PEOPLE = 32


def rules(count: int) -> list[Rule]:
    """Rules that name people, over as many tools; and two catch-alls, as real policies have them."""
    made = [
        Rule(f"tool_{n}", "ask", reviewers=[f"role:desk_{n % 50}"], quorum=2 if n % 2 else None)
        for n in range(count - 2)
    ]
    return [*made, Rule("search_*", "allow"), Rule("*", "ask", when=lambda call: call.args["eur"] > 10_000)]


def evaluate(policy: Policy) -> None:
    calls = [Call(f"tool_{n}", {"eur": n, "to": "bob", "note": "x" * 100}) for n in range(100)]
    took = []
    for _ in range(50):
        for call in calls:
            began = time.perf_counter()
            policy.judge(call)
            took.append((time.perf_counter() - began) * 1e6)
    print(f"one call under {len(policy.rules)} rules: p50 {median(took):.1f} us, p99 {high(took):.1f} us\n")


def fill(ledger: Ledger, policy: Policy, pending: int) -> list[Request]:
    """The pending requests; of every other one anybody may decide."""
    made = []
    for number in range(pending):
        thread = f"t{number}"
        verdict = policy.judge(Call(f"tool_{number % 400}", {"eur": 1}))
        on = verdict.terms if number % 2 else None
        action = Action(name=f"tool_{number % 400}", args={"eur": number, "to": "bob"})
        own = request_id(thread, "i")
        made.append(
            Request(id=own, kind="approval", thread_id=thread, interrupt_id="i", action=action, terms=on, reason="rule")
        )
    for first in range(0, pending, BLOCK):
        ledger.write(opened, ledger.now_ms() + first, made[first : first + BLOCK])
        tell(f"{first + BLOCK:,} of {pending:,} requests")
    tell("")
    return made


def opened(tx: Transaction, now_ms: int, block: Sequence[Request]) -> None:
    for order, request in enumerate(block):
        requests.open_request(tx, now_ms + order, request, checkpoint_id="c", task_id="k", parked=1)


def answers(inbox: Inbox, asked: Iterable[Request]) -> list[Callable[[], Any]]:
    """Everything that has to be said so that these are decided."""
    return [
        (lambda request=request, n=n: inbox.decide(request.id, approve(), reviewer=f"reviewer_{n}"))
        for request in asked
        for n in range(2 if request.terms and request.terms.stages[0].quorum == 2 else 1)
    ]


def at_once(work: Sequence[Callable[[], Any]]) -> list[float]:
    with ThreadPoolExecutor(PEOPLE) as pool:
        return list(pool.map(timed, work))


async def in_one_loop(work: Sequence[Callable[[], Awaitable[Any]]]) -> list[float]:
    limit = asyncio.Semaphore(PEOPLE)

    async def run(step: Callable[[], Awaitable[Any]]) -> float:
        async with limit:
            began = time.perf_counter()
            await step()
            return (time.perf_counter() - began) * 1000

    return await asyncio.gather(*map(run, work))


def timed(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return (time.perf_counter() - began) * 1000


def measure(name: str, ledger: Ledger, policy: Policy, pending: int, decide: int) -> None:
    ledger.directory = StaticDirectory(
        [Reviewer(f"reviewer_{n}", [f"desk_{desk}" for desk in range(50)]) for n in range(PEOPLE)]
    )
    ledger.clock = FakeClock()
    made = fill(ledger, policy, pending)
    if name == "PostgreSQL":
        ledger.database.vacuum()  # as its autovacuum does by and by
    chosen = random.Random(1).sample(made, min(len(made), decide * 6))
    plain = [request for request in chosen if request.terms is None]
    people = [request for request in chosen if request.terms is not None]
    inbox = Inbox(ledger)
    print(f"{name}: {pending:,} pending, {len(policy.rules)} rules")
    print("| who | answers a second | p50 ms | p99 ms |\n|---|---|---|---|")

    def row(what: str, took: list[float], began: float) -> None:
        rate = len(took) / (time.perf_counter() - began)
        print(f"| {what} | {rate:,.0f} | {median(took):.2f} | {high(took):.2f} |", flush=True)

    began = time.perf_counter()
    took = [timed(lambda: ledger.write(touch)) for _ in range(decide)]
    row("one committed row, for comparison", took, began)
    for what, source in (("anybody", plain), ("named people, every other time two", people)):
        parts = [source[n * decide : (n + 1) * decide] for n in range(3)]
        began = time.perf_counter()
        row(f"{what}; one after the other", [timed(step) for step in answers(inbox, parts[0])], began)
        began = time.perf_counter()
        row(f"{what}; {PEOPLE} threads", at_once(answers(inbox, parts[1])), began)
        began = time.perf_counter()
        work = [
            (lambda request=request, n=n: inbox.adecide(request.id, approve(), reviewer=f"reviewer_{n}"))
            for request in parts[2]
            for n in range(2 if request.terms and request.terms.stages[0].quorum == 2 else 1)
        ]
        row(f"{what}; {PEOPLE} tasks", asyncio.run(in_one_loop(work)), began)
    began = time.perf_counter()
    row("a page of 50, all", [timed(inbox.pending) for _ in range(50)], began)
    began = time.perf_counter()
    row("a page of 50 of one person", [timed(lambda: inbox.pending(reviewer="reviewer_1")) for _ in range(50)], began)
    began = time.perf_counter()
    row("a page of one without roles", [timed(lambda: inbox.pending(reviewer="nobody")) for _ in range(20)], began)
    print()


def touch(tx: Transaction) -> None:
    tx.execute("UPDATE hitl_ids SET next = next + 1")


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def high(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--pending", type=int, default=100_000)
    parser.add_argument("--rules", type=int, default=500)
    parser.add_argument("--decide", type=int, default=640)
    options = parser.parse_args()
    policy = Policy(rules(options.rules))
    evaluate(policy)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if "sqlite" in options.database:
            with Ledger.open(os.path.join(folder, "ledger.db")) as ledger:
                measure("SQLite", ledger, policy, options.pending, options.decide)
        if "postgres" in options.database:
            dsn = stack.enter_context(stack.enter_context(Cluster()).database())
            with Ledger(PostgresDatabase.open(dsn, max_connections=16)) as ledger:
                measure("PostgreSQL", ledger, policy, options.pending, options.decide)


if __name__ == "__main__":
    main()
