"""Escalations survive `kill -9`: at every moment of a run that is stuck, and of its rescue.

A process plays the rescue (start, decide, resume) over and over and acknowledges each step; it is killed at a random
moment. Then somebody else opens the database and brings everything to its end.
"""

import random
import time
from collections import Counter
from itertools import count
from typing import Any

import pytest
from langgraph.types import Command

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests import escalation_agents as agents
from tests.databases import open_checkpointer
from tests.escalation_agents import Graph, config_of, told, values
from tests.invariants.processes import Report, child

ROUNDS = 12
ANSWERS: list[Decision] = [respond("look for y"), reject("enough"), edit({"notes": ["by alice"]}), approve()]


def live(report: Report, path: str, seed: int) -> None:
    """Get stuck, be answered and go on, without end."""
    chance = random.Random(seed)
    with open_checkpointer(path) as saver:
        graph, inbox = agents.build(saver), Inbox(saver.ledger)
        report("ready")
        for number in count():
            thread = f"{seed}-{number}"
            agents.start(graph, thread)
            [request] = inbox.pending(thread_id=thread)
            report("asked", thread, request.id)
            decision = chance.choice(ANSWERS)
            inbox.decide(request.id, decision, reviewer="alice", digest=request.digest)
            report("decided", thread, request.id, decision)
            Worker(graph, saver.ledger, config={"recursion_limit": 100}).run_once()
            report("resumed", thread)


def carry_on(graph: Graph, ledger: Ledger) -> None:
    """What people and workers do who come later: everything that waits is answered with guidance."""
    inbox, worker = Inbox(ledger), Worker(graph, ledger, config={"recursion_limit": 100})
    for _ in range(20):
        worker.run_once()
        waiting = inbox.pending(limit=200)
        for request in waiting:
            inbox.decide(request.id, respond("look for y"), reviewer="bob")
        if not waiting and not worker.run_once():
            return
    raise AssertionError("it never comes to an end")


@pytest.mark.both_databases
@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_applied_twice(db_path: str) -> None:
    told_: list[tuple[Any, ...]] = []
    moments = random.Random(7)
    for seed in range(ROUNDS):
        with child(live, db_path, seed) as process:
            process.hear("ready")
            for _ in range(moments.randrange(8)):  # so far, and into the next step, however slow the machine is
                process.hear()
            time.sleep(moments.uniform(0, 0.05))
            told_ += process.kill()
    with open_checkpointer(db_path) as saver:
        graph, ledger = agents.build(saver), saver.ledger
        decided = {rest[1]: rest[2] for kind, *rest in told_ if kind == "decided"}
        for kind, *rest in told_:
            if kind == "asked":
                assert Inbox(ledger).get(rest[1]).state in ("pending", "decided", "delivered")
        carry_on(graph, ledger)
        threads = sorted({rest[0] for kind, *rest in told_ if kind == "asked"})
        for thread in threads:
            requests = ledger.history(thread)
            assert {request.state for request in requests} == {"delivered"}, thread
            for request in requests:
                assert request.decision == decided.get(request.id, request.decision), thread
            held = values(graph, thread)
            edits = [one for one in requests if one.decision and one.decision.type == "edit"]
            guided = [one for one in requests if one.decision and one.decision.type == "respond"]
            assert held.get("notes", []) == ["by alice"] * len(edits), thread  # a reducer would show a second time
            ids = [message.id for message in held["messages"]]
            assert len(ids) == len(set(ids))
            assert sum(str(one).startswith("hitl-") for one in ids) == len(guided) + sum(
                one.decision is not None and one.decision.type == "reject" for one in requests
            )
            assert agents.is_valid_history(held["messages"]), thread
            assert graph.get_state(config_of(thread)).next == ()
        report = ledger.verify_audit()
        assert report.ok, report.problem
    seen = Counter(kind for kind, *_ in told_)
    assert min(seen["asked"], seen["decided"], seen["resumed"]) >= ROUNDS / 2, seen


# --- exactly between two steps ---------------------------------------------------------------------------------------


def start_only(report: Report, path: str) -> None:
    with open_checkpointer(path) as saver:
        agents.start(agents.build(saver))
        report("asked")
        time.sleep(600)


def decide_only(report: Report, path: str) -> None:
    with open_checkpointer(path) as saver:
        [request] = Inbox(saver.ledger).pending()
        Inbox(saver.ledger).decide(request.id, respond("look for y"), reviewer="alice")
        report("decided")
        time.sleep(600)


def die_after(report: Report, path: str, node: str) -> None:
    """Resume, and be killed as soon as this node has come to its end."""
    with open_checkpointer(path) as saver:
        graph = agents.build(saver)
        [request] = saver.ledger.history("t")
        answer: Command[Any] = Command(
            resume={request.interrupt_id: {"request_id": request.id, "digest": request.digest}}
        )
        for chunk in graph.stream(answer, config_of(), durability="sync"):
            if node in chunk:
                report("after", node)
                time.sleep(600)


@pytest.mark.both_databases
@pytest.mark.parametrize("node", ["watch", "agent"])
def test_killed_after_each_step(db_path: str, node: str) -> None:
    for target, word, more in ((start_only, "asked", ()), (decide_only, "decided", ()), (die_after, "after", (node,))):
        with child(target, db_path, *more) as process:
            process.hear(word)
            process.kill()
    with open_checkpointer(db_path) as saver:
        graph = agents.build(saver)
        carry_on(graph, saver.ledger)
        if graph.get_state(config_of()).next:  # it was no worker's run: whoever started it goes on from its checkpoint
            graph.invoke(None, config_of(), durability="sync")
        said = [text for _, text in told(graph) if "look for y" in text]
        assert len(said) == 2, said
        assert [request.state for request in saver.ledger.history("t")] == ["delivered"]
        assert saver.ledger.verify_audit().ok
