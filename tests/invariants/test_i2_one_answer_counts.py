"""I2: of concurrent answers exactly one counts, and what the ledger says is what then happens."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool
from langgraph.types import Command

from hitl_graph.errors import AlreadyDecidedError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import build, config_of, pay_call, ran, start, tool_messages, write_effect
from tests.invariants.processes import Barrier, Report, child, race

THREADS, CALLS, PROCESSES = 20, 10, 8


def answer_of(index: int, request: Request) -> Decision:
    """What process `index` answers: neighbours never say the same, and each edit can be told from all others."""
    args = request.action.args if request.action else {}
    choices = [approve(), reject(f"no, says {index}"), edit({**args, "to": f"p{index}"}), respond(f"answer {index}")]
    return choices[index % len(choices)]


def decide_all(index: int, barrier: Barrier, path: str, ids: list[str]) -> list[tuple[str, str, str]]:
    """Try to decide every request: (request, outcome, word of the winner as the loser is told)."""
    outcomes = []
    with open_ledger(path) as ledger:
        inbox = Inbox(ledger)
        for number, request_id in enumerate(ids):
            if number % 5 == 0:
                barrier.wait(60)
            decision = answer_of(index, inbox.get(request_id))
            try:
                if index % 2:
                    asyncio.run(inbox.adecide(request_id, decision, reviewer=f"p{index}"))
                else:
                    inbox.decide(request_id, decision, reviewer=f"p{index}")
                outcomes.append((request_id, "counted", ""))
            except AlreadyDecidedError as exc:
                outcomes.append((request_id, exc.decided_by, exc.word))
    return outcomes


def test_eight_processes_race_to_answer_two_hundred_requests(tmp_path: Path) -> None:
    path, effects = str(tmp_path / "agent.db"), tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects)
        for thread in range(THREADS):
            start(graph, f"t{thread}", [pay_call(eur) for eur in range(CALLS)])
        inbox, ledger = Inbox(checkpointer.ledger), checkpointer.ledger
        asked = {request.id: request for request in inbox.pending(limit=1000)}
        assert len(asked) == THREADS * CALLS

        results = race(PROCESSES, decide_all, path, list(asked))

        winners: dict[str, int] = {}
        for index, outcomes in enumerate(results):
            assert len(outcomes) == len(asked)
            for request_id, outcome, _ in outcomes:
                if outcome == "counted":
                    assert request_id not in winners, "two answers counted"
                    winners[request_id] = index
        assert winners.keys() == asked.keys(), "a request that nobody could answer"
        for outcomes in results:
            for request_id, outcome, word in outcomes:
                if outcome != "counted":
                    winner = winners[request_id]
                    assert (outcome, word) == (f"p{winner}", answer_of(winner, asked[request_id]).type)

        for request_id, request in asked.items():
            stored, winner = inbox.get(request_id), winners[request_id]
            assert (stored.state, stored.reviewer) == ("decided", f"p{winner}")
            assert stored.decision == answer_of(winner, request)
        assert ledger.read(lambda tx: tx.execute("SELECT count(*) FROM hitl_votes").fetchone()[0]) == len(asked)
        log = ledger.read(lambda tx: tx.execute("SELECT event, count(*) FROM hitl_audit GROUP BY event").fetchall())
        events = dict(log)
        assert events.pop("request.parked", 0) <= len(asked)  # a pause may be stored with its checkpoint, or before it
        assert events == dict.fromkeys(("request.opened", "request.decided"), len(asked))

        assert {result.status for result in Worker(graph, ledger).run_once(limit=1000)} == {"finished"}
        expected = Counter[str]()
        for request_id, request in asked.items():
            assert request.action is not None
            decision = answer_of(winners[request_id], request)
            if decision.type in ("approve", "edit"):
                args = decision.args or request.action.args
                expected[f"{request.thread_id} {request.tool_call_id} pay {args['eur']} {args['to']}"] += 1
        assert Counter(ran(effects)) == expected
        for thread in range(THREADS):
            told = dict(zip((f"pay-{eur}" for eur in range(CALLS)), tool_messages(graph, f"t{thread}"), strict=True))
            for request in ledger.history(f"t{thread}"):
                assert _fits(request, told[str(request.tool_call_id)]), request
                assert request.state == "delivered"
        assert ledger.verify_audit().ok


def _fits(request: Request, told: str) -> bool:
    """Whether the model was told what the ledger says was decided."""
    assert request.decision is not None
    match request.decision.type:
        case "approve":
            return told.startswith("paid ") and told.endswith("to bob")
        case "edit":
            return f"to {request.reviewer}\n" in told and "changed this call" in told
        case "reject":
            return "did not run" in told and str(request.decision.message) in told
        case "respond":
            return told == request.decision.message


def resume_straight(index: int, barrier: Barrier, path: str, effects: str, threads: dict[str, str]) -> list[str]:
    """Answer through LangGraph itself: even processes approve, odd ones reject."""
    answer = {"type": "approve"} if index % 2 == 0 else {"type": "reject", "message": f"p{index}"}
    outcomes = []
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, delay=0.02)
        for thread_id, interrupt_id in threads.items():
            barrier.wait(60)
            try:
                graph.invoke(Command(resume={interrupt_id: answer}), config_of(thread_id), durability="sync")
                outcomes.append("returned")
            except AlreadyDecidedError as exc:
                outcomes.append(exc.word)
    return outcomes


def test_two_processes_resume_one_pause_with_approve_against_reject(tmp_path: Path) -> None:
    path, effects = str(tmp_path / "agent.db"), tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects)
        threads = {}
        for number in range(20):
            paused = start(graph, f"t{number}", [pay_call(number)])
            threads[f"t{number}"] = paused["__interrupt__"][0].id

        results = race(2, resume_straight, path, str(effects), threads)

        for number, (thread_id, approver, rejecter) in enumerate(zip(threads, *results, strict=True)):
            [request] = checkpointer.ledger.history(thread_id)
            assert request.decision is not None
            word = request.decision.type
            assert request.state == "delivered"
            paid = [line for line in ran(effects) if line.startswith(f"{thread_id} ")]
            assert paid == ([f"{thread_id} pay-{number} pay {number} bob"] if word == "approve" else [])
            [told] = tool_messages(graph, thread_id)
            assert ("did not run" in told) == (word == "reject")
            winner, loser = (approver, rejecter) if word == "approve" else (rejecter, approver)
            assert winner == "returned"
            # Too late to find the question open, LangGraph does nothing and gives the state; else the loser is told.
            assert loser in ("returned", word)
        assert checkpointer.ledger.verify_audit().ok


def _pay_when_let(effects: str) -> BaseTool:
    """`pay`, which ends only when there is a file `effects`.go."""

    @tool
    def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(effects, f"pay {eur} {to}")
        until = time.monotonic() + 60
        while not Path(f"{effects}.go").exists() and time.monotonic() < until:
            time.sleep(0.01)
        return f"paid {eur} to {to}"

    return pay


def approve_slowly(report: Report, path: str, effects: str, thread_id: str, interrupt_id: str) -> None:
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[_pay_when_let(effects)])
        graph.invoke(Command(resume={interrupt_id: {"type": "approve"}}), config_of(thread_id), durability="sync")
        report("finished")


def test_a_rejecter_is_told_while_the_approved_action_runs(tmp_path: Path) -> None:
    path, effects = str(tmp_path / "agent.db"), tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[_pay_when_let(str(effects))])
        interrupt = start(graph, "t", [pay_call(1)])["__interrupt__"][0]
        inbox, [request] = Inbox(checkpointer.ledger), checkpointer.ledger.history("t")
        with child(approve_slowly, path, str(effects), "t", interrupt.id) as approver:
            while not ran(effects):
                assert approver.process.is_alive()
                time.sleep(0.01)
            with pytest.raises(AlreadyDecidedError, match="approve by anonymous"):
                graph.invoke(Command(resume={interrupt.id: {"type": "reject"}}), config_of("t"), durability="sync")
            with pytest.raises(AlreadyDecidedError):
                inbox.decide(request.id, reject(), reviewer="bob")
            Path(f"{effects}.go").touch()
            approver.hear("finished")
            approver.end()
        assert ran(effects) == ["pay 1 bob"]
        assert tool_messages(graph, "t") == ["paid 1 to bob"]
        assert graph.get_state(config_of("t")).next == ()


def test_an_answer_of_the_inbox_beats_one_through_the_graph_and_the_other_way_round(tmp_path: Path) -> None:
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, effects = build(checkpointer, tmp_path / "effects"), tmp_path / "effects"
        first = start(graph, "first", [pay_call(1)])["__interrupt__"][0]
        second = start(graph, "second", [pay_call(2), pay_call(3)])["__interrupt__"]
        inbox, by_call = Inbox(checkpointer.ledger), _by_call(checkpointer.ledger)

        inbox.decide(by_call["pay-1"].id, reject("no"), reviewer="alice")
        with pytest.raises(AlreadyDecidedError, match="reject by alice"):
            graph.invoke(Command(resume={first.id: {"type": "approve"}}), config_of("first"))
        assert ran(effects) == []
        [result] = Worker(graph, checkpointer.ledger).run_once()  # the refused answer did no harm to the recorded one
        assert (result.status, ran(effects)) == ("finished", [])

        pay_2 = next(i for i in second if i.id == by_call["pay-2"].interrupt_id)
        graph.invoke(Command(resume={pay_2.id: {"type": "approve"}}), config_of("second"))
        with pytest.raises(AlreadyDecidedError, match="approve by anonymous"):
            inbox.decide(by_call["pay-2"].id, reject("no"), reviewer="alice")
        assert ran(effects) == ["second pay-2 pay 2 bob"]
        assert [request.tool_call_id for request in inbox.pending()] == ["pay-3"]


def _by_call(ledger: Ledger) -> dict[Any, Request]:
    return {request.tool_call_id: request for request in ledger.pending_rows()}
