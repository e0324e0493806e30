"""A team of AutoGen in a graph: it pauses instead of waiting, and nothing that ran before the pause runs again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")

from langgraph.checkpoint.memory import InMemorySaver

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import HitlError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import config_of, ran
from tests.peers.autogen_teams import build

pytestmark = pytest.mark.both_databases


@pytest.fixture
def checkpointer(db_path: str) -> Iterator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


@pytest.fixture
def effects(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


def start(graph: Any, text: str = "Go") -> Any:
    return graph.invoke({"messages": [("user", text)]}, config_of("42"), durability="sync")


def said(graph: Any) -> list[str]:
    return [message.text for message in graph.get_state(config_of("42")).values["messages"]]


def decide(checkpointer: Checkpointer, *decisions: Any) -> None:
    pending = Inbox(checkpointer.ledger).pending()
    assert len(pending) == len(decisions)
    for request, decision in zip(pending, decisions, strict=True):
        Inbox(checkpointer.ledger).decide(request.id, decision, reviewer="alice")


def resume(graph: Any, checkpointer: Checkpointer) -> str:
    [resumed] = Worker(graph, checkpointer.ledger).run_once()
    assert resumed.error is None, resumed.error
    return resumed.status


@pytest.mark.parametrize(
    ("decision", "paid", "told"),
    [
        (approve(), ["pay 5"], "paid 5"),
        (edit({"eur": 3}), ["pay 3"], "paid 3"),
        (reject("too much"), [], "too much"),
        (respond("paid by hand"), [], "paid by hand"),
    ],
)
def test_a_call_is_approved_in_the_pause_and_the_team_goes_on_as_if_it_had_run_at_once(
    checkpointer: Checkpointer, effects: str, decision: Any, paid: list[str], told: str
) -> None:
    start(build(checkpointer, effects, "paying"))
    assert ran(effects) == ["model pay"]
    decide(checkpointer, decision)
    graph = build(checkpointer, effects, "paying")  # as another process would make it
    assert resume(graph, checkpointer) == "finished"
    assert ran(effects) == ["model pay", *paid, "model Paid. DONE"]
    assert said(graph) == ["Go", "Paid. DONE"]
    team = str(graph.get_state(config_of("42")).values["team"])
    assert told in team
    assert "has not run yet" not in team
    assert checkpointer.ledger.verify_audit().ok


def test_calls_of_one_turn_are_asked_about_and_carried_out_independently(
    checkpointer: Checkpointer, effects: str
) -> None:
    graph = build(checkpointer, effects, "two payments")
    start(graph)
    for request in Inbox(checkpointer.ledger).pending():
        assert request.action is not None
        answer = approve() if request.action.args == {"eur": 6} else reject("no")
        Inbox(checkpointer.ledger).decide(request.id, answer, reviewer="alice")
    assert resume(graph, checkpointer) == "finished"
    assert ran(effects) == ["model pay,pay", "pay 6", "model Paid. DONE"]


def test_an_agent_that_went_on_speaking_is_told_the_result_in_a_message(
    checkpointer: Checkpointer, effects: str
) -> None:
    graph = build(checkpointer, effects, "reflecting")
    start(graph)
    decide(checkpointer, approve())
    assert resume(graph, checkpointer) == "finished"
    assert ran(effects) == ["model pay", "model I asked for it.", "pay 5", "model Now it is paid. DONE"]
    assert "\\npaid 5" in str(graph.get_state(config_of("42")).values["team"])


def test_a_handoff_to_a_person_pauses_and_the_answer_is_handed_back(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "handing off")
    start(graph, "Which gate?")
    [request] = Inbox(checkpointer.ledger).pending()
    assert request.kind == "question"
    decide(checkpointer, respond("Gate 7"))
    assert resume(graph, checkpointer) == "finished"
    assert said(graph)[-2:] == ["Gate 7", "Gate 7 then. DONE"]
    assert ran(effects) == ["model transfer_to_user", "model Gate 7 then. DONE"]


def test_a_team_remembers_from_run_to_run_where_the_state_has_its_key(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "handing off")
    start(graph, "Which gate?")
    decide(checkpointer, respond("Gate 7"))
    resume(graph, checkpointer)
    start(build(checkpointer, effects, "handing off"), "What did I say?")
    assert said(graph)[-2:] == ["What did I say?", "You said gate 7. DONE"]


def test_a_user_proxy_in_the_team_pauses_the_graph(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "with proxy")
    start(graph)
    decide(checkpointer, respond("red"))
    assert resume(graph, checkpointer) == "finished"
    assert said(graph) == ["Go", "Red or blue?", "red", "It is. DONE"]
    assert "'content': 'red'" in str(graph.get_state(config_of("42")).values["team"])


def test_a_call_and_a_handoff_in_one_turn_are_both_answered(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "paying and handing off")
    start(graph)
    by_kind = {request.kind: request for request in Inbox(checkpointer.ledger).pending()}
    Inbox(checkpointer.ledger).decide(by_kind["question"].id, respond("yes"), reviewer="alice")
    Inbox(checkpointer.ledger).decide(by_kind["approval"].id, approve(), reviewer="alice")
    assert resume(graph, checkpointer) == "finished"
    assert ran(effects) == ["model pay,transfer_to_user", "pay 5", "model Fine. DONE"]


def test_what_the_policy_allows_runs_in_the_team_without_a_pause(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "paying", policy=Policy([Rule("pay", "allow")]))
    start(graph)
    assert ran(effects) == ["model pay", "pay 5", "model Paid. DONE"]
    assert [row["state"] for row in checkpointer.ledger.executed("42")] == ["done"]


def test_a_team_without_the_condition_is_an_error_and_nothing_runs(checkpointer: Checkpointer, effects: str) -> None:
    with pytest.raises(HitlError, match=r"people\.pause"):
        start(build(checkpointer, effects, "forgetful"))
    assert not [line for line in ran(effects) if line.startswith("pay")]


async def test_it_is_the_same_in_an_async_run(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "paying")
    await graph.ainvoke({"messages": [("user", "Go")]}, config_of("42"), durability="sync")
    decide(checkpointer, approve())
    [resumed] = await Worker(graph, checkpointer.ledger).arun_once()
    assert resumed.status == "finished"
    assert ran(effects) == ["model pay", "pay 5", "model Paid. DONE"]


def test_silence_is_no_answer_and_the_team_is_told_so(checkpointer: Checkpointer, effects: str) -> None:
    graph = build(checkpointer, effects, "handing off")
    start(graph, "Which gate?")
    decide(checkpointer, reject("I do not know"))
    resume(graph, checkpointer)
    assert "I do not know" in said(graph)[-2]


@pytest.mark.sqlite_file
def test_beside_another_checkpointer_a_ledger_is_enough(db_path: str, effects: str) -> None:
    with Ledger.open(db_path) as ledger:
        saver = InMemorySaver()
        start(build(saver, effects, "paying", ledger=ledger))
        [request] = Inbox(ledger).pending()
        Inbox(ledger).decide(request.id, approve(), reviewer="alice")
        graph = build(saver, effects, "paying", ledger=ledger)
        [resumed] = Worker(graph, ledger).run_once()
        assert resumed.status == "finished"
        assert ran(effects) == ["model pay", "pay 5", "model Paid. DONE"]
        assert [r.state for r in ledger.history("42")] == ["delivered"]
