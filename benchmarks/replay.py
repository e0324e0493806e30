"""How long a policy takes over a great many recorded calls: `hitl_graph.replay` on a ledger with so many.

Half of the calls were asked about and answered, half ran unasked. The rules are those of an application: globs,
predicates over the arguments, reviewers.

    python benchmarks/replay.py [--calls 1000000] [--rules 10] [--url postgresql://...]
"""

import argparse
import hashlib
import os
import resource
import tempfile
import time
from typing import Any

from hitl_graph.ledger import Ledger
from hitl_graph.model import Action, Request, approve, plain_text, reject
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.replay import replay
from hitl_graph.storage import Transaction

SCHEMA: Any = {"type": "object", "properties": {"eur": {"type": "number"}, "to": {"type": "string"}}}


def fill(ledger: Ledger, calls: int) -> None:
    start = ledger.now_ms() - calls
    for first in range(0, calls, 2_000):
        numbers = range(first, min(first + 2_000, calls))
        requests = [_request(n, start + n) for n in numbers if n % 2]
        permits = [_permit(n, start + n) for n in numbers if not n % 2]

        def work(tx: Transaction, requests: list[Any] = requests, permits: list[Any] = permits) -> None:
            tx.executemany(
                "INSERT INTO hitl_requests (id, thread_id, interrupt_id, action_key, kind, state, parked, digest,"
                " shown, tool, created_ms, decided_ms, decision, reviewer, channel, route, propensity)"
                " VALUES (?,?,?,?,'approval','delivered',1,?,?,?,?,?,?,'alice','python','policy',1)",
                requests,
            )
            tx.executemany(
                "INSERT INTO hitl_permits (id, action_key, attempt, thread_id, tool, digest, reason, issued_ms, args)"
                " VALUES (?,?,1,?,?,?,'small',?,?)",
                permits,
            )

        ledger.write(work)


def _request(number: int, at: int) -> tuple[Any, ...]:
    key = hashlib.sha256(str(number).encode()).hexdigest()
    action = Action(name=f"tool_{number % 7}", args={"eur": number % 1000, "to": f"customer {number % 97}"})
    request = Request(
        id=key[:20], kind="approval", thread_id=f"t{number // 10}", interrupt_id=key[:32], action=action,
        action_key=key[:32], answer_schema=SCHEMA, description="Pay somebody, and tell them.", reason="money",
    )  # fmt: skip
    decision = reject("too much") if number % 31 == 0 else approve()
    said = plain_text(decision.model_dump(mode="json", exclude_defaults=True) | {"type": decision.type})
    return (
        request.id, request.thread_id, request.interrupt_id, request.action_key, request.digest,
        plain_text(request.shown()), action.name, at, at, said,
    )  # fmt: skip


def _permit(number: int, at: int) -> tuple[Any, ...]:
    key = hashlib.sha256(str(number).encode()).hexdigest()[:32]
    args = plain_text({"eur": number % 100, "to": f"customer {number % 97}"})
    return f"{key}#1", key, f"t{number // 10}", f"tool_{number % 7}", key, at, args


def rules(number: int) -> Policy:
    made = [Rule("tool_0", "allow"), Rule("tool_[1-5]", "allow", when=lambda call: call.args["eur"] < 500)]

    def above(limit: int) -> Any:
        def predicate(call: Call) -> bool:
            return bool(call.args["eur"] > limit)

        return predicate

    for n in range(number - 2):
        made.append(Rule(f"tool_{n % 7}", "ask", when=above(900 + n), reviewers=["role:finance"], quorum=2))
    return Policy(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rules", type=int, default=10)
    parser.add_argument("--url", help="an empty database; a file of its own, unless given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Ledger.open(options.url or os.path.join(folder, "a.db")) as ledger:
        fill(ledger, options.calls)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        result = replay(ledger, rules(options.rules))
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{result.calls:,} calls, {options.rules} rules: {took:.1f} s ({cpu:.1f} s of a processor),")
    print(f"{result.calls / took:,.0f} calls a second; peak memory grew by {grown / 1024:,.0f} MB")
    print(result)


if __name__ == "__main__":
    main()
