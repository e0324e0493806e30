"""Processes with AutoGen agents are killed while they wait, while they act and while the team runs; others go on."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")

from autogen_core import CancellationToken

from hitl_graph.adapters.autogen import People
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import config_of, ran
from tests.invariants.processes import Report, child
from tests.peers.autogen_agents import pay_tool
from tests.peers.autogen_teams import build
from tests.peers.waiting import always, waiting

pytestmark = [pytest.mark.both_databases, pytest.mark.slow]


def ask(report: Report, path: str, key: str | None) -> None:
    with open_ledger(path) as ledger:
        report("ready")  # importing AutoGen takes its time
        report("answer", asyncio.run(People(ledger, "42").aask("Which gate?", key=key)))


def pay(report: Report, path: str, effects: str, call_id: str, delay: float) -> None:
    with open_ledger(path) as ledger:
        report("ready")
        [tool] = People(ledger, "42").approved([pay_tool(effects, delay=delay)])
        report("told", asyncio.run(tool.run_json({"eur": 5}, CancellationToken(), call_id=call_id)))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("decided", ["before", "after"])
def test_a_question_of_a_process_that_died_is_found_again_with_its_answer(db_path: str, decided: str) -> None:
    with open_ledger(db_path) as ledger:
        with child(ask, db_path, None) as first:
            first.hear("ready")
            [request] = waiting(ledger)
            first.kill()
        if decided == "before":
            Inbox(ledger).decide(request.id, respond("7"), reviewer="alice")
        with child(ask, db_path, None) as second:
            second.hear("ready")
            if decided == "after":
                Inbox(ledger).decide(request.id, respond("7"), reviewer="alice")
            assert second.hear("answer") == ("answer", "7")
        assert [(r.id, r.state) for r in ledger.history("42")] == [(request.id, "delivered")]
        with child(ask, db_path, None) as third:  # its answer was given: this is another question
            [again] = waiting(ledger)
            assert again.id != request.id
            third.kill()


def test_a_question_with_a_key_has_one_answer_for_ever(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        with child(ask, db_path, "gate") as first:
            first.hear("ready")
            [request] = waiting(ledger)
            Inbox(ledger).decide(request.id, respond("7"), reviewer="alice")
            assert first.hear("answer") == ("answer", "7")
        with child(ask, db_path, "gate") as second:
            second.hear("ready")
            assert second.hear("answer") == ("answer", "7")
        assert len(ledger.history("42")) == 1


def test_two_living_processes_that_ask_the_same_ask_twice(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        with child(ask, db_path, None) as first, child(ask, db_path, None) as second:
            second.hear("ready")
            one, other = waiting(ledger, 2)
            Inbox(ledger).decide(one.id, respond("7"), reviewer="alice")
            Inbox(ledger).decide(other.id, respond("8"), reviewer="alice")
            assert sorted([first.hear("answer")[1], second.hear("answer")[1]]) == ["7", "8"]


def test_a_call_that_was_approved_while_nobody_lived_runs_once_whatever_the_model_calls_it(
    db_path: str, tmp_path: Path
) -> None:
    effects = str(tmp_path / "effects")
    with open_ledger(db_path) as ledger:
        with child(pay, db_path, effects, "call-1", 0.0) as first:
            first.hear("ready")
            [request] = waiting(ledger)
            first.kill()
        Inbox(ledger).decide(request.id, approve(), reviewer="alice")
        with child(pay, db_path, effects, "call-2", 0.0) as second:
            second.hear("ready")
            assert second.hear("told") == ("told", "paid 5")
        assert ran(effects) == ["pay 5"]
        assert ledger.verify_audit().ok


def test_a_process_that_died_in_the_middle_of_a_call_has_a_person_asked_what_became_of_it(
    db_path: str, tmp_path: Path
) -> None:
    effects = str(tmp_path / "effects")
    with open_ledger(db_path) as ledger:
        with child(pay, db_path, effects, "call-1", 60.0) as first:
            first.hear("ready")
            [request] = waiting(ledger)
            Inbox(ledger).decide(request.id, approve(), reviewer="alice")
            until(lambda: ran(effects) == ["pay 5"])
            first.kill()
        with child(pay, db_path, effects, "call-2", 0.0) as second:
            second.hear("ready")
            [what] = waiting(ledger)
            assert "Did this happen?" in what.description
            Inbox(ledger).decide(what.id, respond("paid, receipt 77"), reviewer="alice")
            assert second.hear("told") == ("told", "paid, receipt 77")
        assert ran(effects) == ["pay 5"]


def test_no_worker_takes_up_what_somebody_waits_for(db_path: str) -> None:
    with open_checkpointer(db_path) as checkpointer:
        with child(ask, db_path, None) as dead:
            dead.hear("ready")
            [request] = waiting(checkpointer.ledger)
            dead.kill()
        Inbox(checkpointer.ledger).decide(request.id, respond("7"), reviewer="alice")
        worker = Worker(build(checkpointer, "unused", "with proxy"), checkpointer.ledger)
        assert worker.run_once() == []
        with child(ask, db_path, None) as second:
            second.hear("ready")
            assert second.hear("answer") == ("answer", "7")


# --- a team in a graph ----------------------------------------------------------------------------------------------


def begin(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, "paying")
        graph.invoke({"messages": [("user", "Go")]}, config_of("42"), durability="sync")
        report("paused")
        time.sleep(60)


def serve(report: Report, path: str, effects: str, delay: float) -> None:
    with open_checkpointer(path) as checkpointer:
        for resumed in Worker(build(checkpointer, effects, "paying", delay=delay), checkpointer.ledger).run_once():
            report(resumed.status, str(resumed.error))


def test_a_team_that_paused_goes_on_in_another_process_after_kill_9(db_path: str, tmp_path: Path) -> None:
    effects = str(tmp_path / "effects")
    with child(begin, db_path, effects) as first:
        first.hear("paused")
        first.kill()
    with open_ledger(db_path) as ledger:
        [request] = Inbox(ledger).pending()
        Inbox(ledger).decide(request.id, approve(), reviewer="alice")
    with child(serve, db_path, effects, 0.0) as second:
        assert second.hear() == ("finished", "None")
    assert ran(effects) == ["model pay", "pay 5", "model Paid. DONE"]


def test_a_process_that_died_while_it_paid_for_the_team_has_a_person_asked(db_path: str, tmp_path: Path) -> None:
    effects = str(tmp_path / "effects")
    with child(begin, db_path, effects) as first:
        first.hear("paused")
        first.kill()
    with open_ledger(db_path) as ledger:
        [request] = Inbox(ledger).pending()
        Inbox(ledger).decide(request.id, approve(), reviewer="alice")
        with child(serve, db_path, effects, 60.0) as second:
            until(lambda: "pay 5" in ran(effects))
            second.kill()
        with child(serve, db_path, effects, 0.0) as third:
            assert third.hear() == ("paused", "None")
        [what] = Inbox(ledger).pending()
        assert "Did this happen?" in what.description
        Inbox(ledger).decide(what.id, reject("the bank says no"), reviewer="alice")
        with child(serve, db_path, effects, 0.0) as fourth:
            assert fourth.hear() == ("finished", "None")
    assert ran(effects) == ["model pay", "pay 5", "model Paid. DONE"]


def allowed(report: Report, path: str, effects: str, delay: float) -> None:
    with open_checkpointer(path) as checkpointer:
        policy = Policy([Rule("pay", "allow")])
        graph = build(checkpointer, effects, "paying", policy=policy, delay=delay)
        given: Any = {"messages": [("user", "Go")]} if delay else None
        graph.invoke(given, config_of("42"), durability="sync")
        report("done")


def test_an_allowed_call_of_a_turn_that_is_repeated_after_a_crash_does_not_run_again(
    db_path: str, tmp_path: Path
) -> None:
    effects = str(tmp_path / "effects")
    with child(allowed, db_path, effects, 60.0) as first:
        until(lambda: "pay 5" in ran(effects))
        first.kill()
    with child(allowed, db_path, effects, 0.0) as second, open_ledger(db_path) as ledger:
        second.hear("done")
        [what] = Inbox(ledger).pending()
        assert "Did this happen?" in what.description
        with always(ledger, respond("paid once")), child(serve, db_path, effects, 0.0) as third:
            until(lambda: not Inbox(ledger).pending())
            third.end()
    assert ran(effects).count("pay 5") == 1
