"""A run that is stuck is rescued: it escalates, a person answers, and the agent goes on in another process."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.facts import Situation, facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, reject, respond
from hitl_graph.worker import Worker
from tests import escalation_rescue
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import is_valid_history
from tests.escalation_rescue import RECORDED, RESCUED, build, config_of
from tests.invariants.agents import ran
from tests.traces_replay import TRACES, Trace, load
from tests.traces_watched import Watched

GUIDANCE = "NYC is a city. Use the airport JFK."


def play(what: str, database: str, effects: Path) -> str:
    """A step of the story, in a process of its own."""
    done = subprocess.run(
        [sys.executable, escalation_rescue.__file__, what, database, str(effects)],
        capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.both_databases
def test_a_recorded_loop_is_rescued_in_another_process(db_path: str, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    play("start", db_path, effects)  # process 1: the run, until it is stuck
    with open_ledger(db_path) as ledger:  # process 2: a person
        inbox = Inbox(ledger)
        [request] = inbox.pending()
        assert request.kind == "escalation"
        facts = facts_of(request)
        assert isinstance(facts, Situation)
        assert any("NYC" in tried for tried in facts.findings[0].tried)
        assert any("unknown airport" in came_back for came_back in facts.findings[0].came_back)
        inbox.decide(request.id, respond(GUIDANCE), reviewer="alice", digest=request.digest)
    assert play("work", db_path, effects).split()[:2] == ["t", "finished"]  # process 3: a worker
    with open_checkpointer(db_path) as saver:
        messages = build(saver, str(effects)).get_state(config_of("t")).values["messages"]
        assert is_valid_history(messages)
        loops = facts.messages  # what was said until it escalated
        assert [m.text for m in messages[:loops]] == [m.text for m in RECORDED[:loops]]
        assert isinstance(messages[loops], HumanMessage)
        assert GUIDANCE in messages[loops].text
        assert [m.text for m in messages[loops + 1 :]] == [m.text for m in RESCUED]
        assert [one.state for one in saver.ledger.history("t")] == ["delivered"]
        report = saver.ledger.verify_audit()
        assert report.ok, report.problem
    calls = ran(effects)
    assert calls.count('book {"day": "2024-05-03", "flight": "LH400"}') == 1  # once, and only after the rescue
    assert len(calls) == (loops - 2) // 2 + 2


@pytest.mark.both_databases
def test_a_run_that_nobody_rescues_is_stopped(db_path: str, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    play("start", db_path, effects)
    with open_ledger(db_path) as ledger:
        [request] = Inbox(ledger).pending()
        Inbox(ledger).decide(request.id, reject("we call the customer"), reviewer="alice")
    before = ran(effects)
    play("work", db_path, effects)
    with open_checkpointer(db_path) as saver:
        messages = build(saver, str(effects)).get_state(config_of("t")).values["messages"]
        assert isinstance(messages[-1], AIMessage)
        assert messages[-1].text == "This run was stopped by a person: we call the customer"
    assert ran(effects) == before


@pytest.mark.skipif(
    not TRACES.is_dir(), reason=f"the recorded runs are not here ({TRACES}); they are no part of the repository"
)
def test_real_runs_escalate_are_answered_and_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every sixth labelled run: whoever escalates is guided, and the run then ends as it was recorded."""
    traces = load(TRACES / "traces.jsonl.gz")[::6]
    told = _watched(traces, str(tmp_path / "agent.db"))
    with capsys.disabled():
        print(f"\n{told}")


def _watched(traces: list[Trace], path: str) -> str:
    watched = Watched(traces)
    with SqliteCheckpointer(path) as saver:
        graph, inbox = watched.graph(saver), Inbox(saver.ledger)
        for trace in traces:
            graph.invoke({"messages": []}, watched.config(trace.id), durability="sync")
        worker = Worker(graph, saver.ledger, config={"recursion_limit": 10_000})
        answered = 0
        while pending := inbox.pending(limit=200):
            for request in pending:
                guided = "respond" in request.allowed
                inbox.decide(request.id, respond("think again") if guided else approve(), reviewer="alice")
                answered += 1
            for resumed in worker.run_once():
                assert resumed.status != "failed", (resumed.thread_id, resumed.error)
        escalated = 0
        for trace in traces:
            messages = graph.get_state(watched.config(trace.id)).values["messages"]
            own = [m for m in messages if not str(m.id).startswith("hitl-")]
            assert [m.text for m in own] == [m.text for m in watched.messages(trace)], trace.id
            requests = saver.ledger.history(trace.id)
            escalated += bool(requests)
            assert {request.state for request in requests} <= {"delivered"}, trace.id
            keys = [_keys(facts_of(request)) for request in requests]
            assert all(one != other for one, other in pairwise(keys)), trace.id
        report = saver.ledger.verify_audit()
    assert report.ok, report.problem
    return f"{len(traces)} real runs watched: {escalated} escalated, {answered} answers, all went on to their end"


def _keys(facts: object) -> object:
    assert isinstance(facts, Situation)
    assert facts.memory is not None
    return facts.memory.answer["index"]
