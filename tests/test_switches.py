"""Switches: what an operator sets holds at once, above policies, grants and people."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from hitl_graph.errors import SwitchError
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import effects
from hitl_graph.ledger.effects import Authority, Begun, Stopped
from hitl_graph.model import Action, approve
from hitl_graph.nodes import ApprovalNode, OutputReviewNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.reviewers import ANONYMOUS
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import build, config_of, pay_call, ran, said, search_call, start, tool_messages
from tests.invariants.processes import Barrier, race

pytestmark = pytest.mark.both_databases

STOPPED = "pay did not run: ops stopped it: fire (switch all). Do not try it again."


def test_what_people_approved_does_not_start_after_the_switch(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        graph, inbox = build(saver, tmp_path / "effects"), Inbox(saver.ledger)
        start(graph, "t", [pay_call(1), search_call("x")])
        [request] = inbox.pending()
        inbox.decide(request.id, approve(), reviewer="alice")
        inbox.switch("all", "deny", reviewer="ops", reason="fire")
        assert [done.status for done in Worker(graph, saver.ledger).run_once()] == ["finished"]
        start(graph, "u", [search_call("y")])
        assert [line.split()[2:] for line in ran(tmp_path / "effects")] == [["search", "x"]]  # it ran before
        assert tool_messages(graph, "t") == [STOPPED, "found x"]
        assert tool_messages(graph, "u") == [STOPPED.replace("pay", "search")]
        assert inbox.get(request.id).state == "delivered"
        inbox.lift("all", reviewer="ops", reason="out")
        start(graph, "v", [search_call("z")])
        assert len(ran(tmp_path / "effects")) == 2
        assert saver.ledger.verify_audit().problem is None


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_what_a_policy_or_a_grant_allows_is_asked(db_path: str, tmp_path: Path, colour: str) -> None:
    with open_checkpointer(db_path) as saver:
        graph, inbox = build(saver, tmp_path / "effects"), Inbox(saver.ledger)
        inbox.grant(Grant(tool="pay"), reviewer="alice")
        inbox.switch("tool:*", "ask", reviewer="ops", reason="audit")
        calls = said([search_call("x"), pay_call(1)])
        if colour == "async":
            await graph.ainvoke(calls, config_of("t"), durability="sync")
        else:
            graph.invoke(calls, config_of("t"), durability="sync")
        asked = inbox.pending()
        assert {request.reason for request in asked} == {"ops wants people asked: audit (switch tool:*)"}
        assert ran(tmp_path / "effects") == []
        for request in asked:
            inbox.decide(request.id, approve(), reviewer="bob")
        worker = Worker(graph, saver.ledger)
        done = await worker.arun_once() if colour == "async" else worker.run_once()
        assert [resumed.status for resumed in done] == ["finished"]
        assert len(ran(tmp_path / "effects")) == 2
        assert inbox.grants()[0].used == 0


def test_a_switch_is_for_a_graph_a_tool_or_all(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        inbox, allowed = Inbox(saver.ledger), Policy([Rule("*", "allow")])

        def runs(thread_id: str, name: str | None) -> bool:
            def pay(eur: int) -> str:
                """Pay."""
                return "paid"

            builder = StateGraph(MessagesState)
            builder.add_node("tools", ApprovalNode([pay], policy=allowed, graph=name))
            builder.add_edge(START, "tools")
            graph = builder.compile(checkpointer=saver)
            calls = AIMessage("", tool_calls=[{"name": "pay", "args": {"eur": 1}, "id": "1"}])
            end = graph.invoke({"messages": [calls]}, config_of(thread_id), durability="sync")
            return bool(end["messages"][-1].content == "paid")

        inbox.switch("graph:mailer", "deny", reviewer="ops", reason="broken")
        assert (runs("1", "mailer"), runs("2", "other"), runs("3", None)) == (False, True, True)
        inbox.lift("graph:mailer", reviewer="ops")
        inbox.switch("tool:p*", "ask", reviewer="ops", reason="look")
        inbox.switch("tool:pa*", "deny", reviewer="ops", reason="stop")
        assert not runs("4", None)
        assert [(switch.scope, switch.outcome) for switch in inbox.switches()] == [
            ("tool:p*", "ask"),
            ("tool:pa*", "deny"),
        ]
        with pytest.raises(SwitchError, match="no switch 'all' is on"):
            inbox.lift("all", reviewer="ops")
        for scope, outcome, reason in (
            ("tool", "deny", "x"),
            ("pay", "deny", "x"),
            ("all", "off", "x"),
            ("all", "ask", " "),
        ):
            with pytest.raises(SwitchError):
                inbox.switch(scope, outcome, reviewer="ops", reason=reason)  # type: ignore[arg-type]
        with pytest.raises(SwitchError, match="authenticated"):
            inbox.switch("all", "deny", reviewer=ANONYMOUS, reason="x")
        assert saver.ledger.verify_audit().problem is None


def test_a_tool_that_waits_for_an_answer_does_not_go_on(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        went_on = list[str]()

        def book(day: str) -> str:
            """Book."""
            interrupt("which hotel?")
            went_on.append(day)
            return "booked"

        builder = StateGraph(MessagesState)
        builder.add_node("tools", ApprovalNode([book], policy=Policy([Rule("*", "allow")])))
        builder.add_edge(START, "tools")
        graph = builder.compile(checkpointer=saver)
        call = AIMessage("", tool_calls=[{"name": "book", "args": {"day": "friday"}, "id": "1"}])
        graph.invoke({"messages": [call]}, config_of("t"), durability="sync")
        Inbox(saver.ledger).switch("tool:book", "deny", reviewer="ops", reason="fire")
        end: Any = graph.invoke(Command(resume="the Ritz"), config_of("t"), durability="sync")
        assert went_on == []
        assert "ops stopped it" in end["messages"][-1].content


def test_deliveries_of_reviews_are_stopped_and_asked_about(db_path: str) -> None:
    with open_checkpointer(db_path) as saver:
        inbox, sent = Inbox(saver.ledger), list[str]()

        def reviewed(thread_id: str) -> Any:
            node = OutputReviewNode(policy=Policy([Rule("*", "allow")]), delivery=sent.append, revise="write")
            builder = StateGraph(MessagesState)
            builder.add_node("write", lambda state: {"messages": [AIMessage("a draft")]})
            builder.add_node("review", node, destinations=node.destinations)
            builder.add_edge(START, "write")
            builder.add_edge("write", "review")
            graph = builder.compile(checkpointer=saver)
            graph.invoke({"messages": []}, config_of(thread_id), durability="sync")
            return graph

        inbox.switch("tool:deliver", "deny", reviewer="ops", reason="fire")
        reviewed("a")
        assert (sent, inbox.pending()) == ([], [])
        inbox.switch("tool:deliver", "ask", reviewer="ops", reason="look")
        graph = reviewed("b")
        [request] = inbox.pending()
        assert (request.kind, request.reason) == ("review", "ops wants people asked: look (switch tool:deliver)")
        inbox.decide(request.id, approve(), reviewer="alice")
        assert [done.status for done in Worker(graph, saver.ledger).run_once()] == ["finished"]
        assert len(sent) == 1


def start_all(index: int, barrier: Barrier, path: str) -> int:
    with open_ledger(path) as ledger:
        barrier.wait(60)
        begun = 0
        for number in range(6):
            if index == 0 and number == 3:
                Inbox(ledger).switch("all", "deny", reviewer="ops", reason="race")
            key, action = f"{index} {number}", Action(name="pay", args={})
            ended = ledger.write(effects.start, ledger.now_ms(), key, 1, key, action, Authority("allowed"))
            assert isinstance(ended, Begun | Stopped)
            begun += isinstance(ended, Begun)
        return begun


def test_nothing_starts_after_the_switch_in_any_process(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        begun = sum(race(6, start_all, db_path))
        log = ledger.read(lambda tx: tx.execute("SELECT event FROM hitl_audit ORDER BY seq").fetchall())
        events = [row[0] for row in log]
        assert events[-1] == "switch.set"
        assert events.count("effect.reserved") == begun >= 3


def test_a_switch_for_one_thread_stops_that_one_alone(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        graph, inbox = build(saver, tmp_path / "effects"), Inbox(saver.ledger)
        start(graph, "t", [pay_call(1)])
        start(graph, "u", [pay_call(2)])
        for request in inbox.pending():
            inbox.decide(request.id, approve(), reviewer="alice")
        inbox.switch("thread:t", "deny", reviewer="ops", reason="fire")
        Worker(graph, saver.ledger).run_once()
        assert [line.split()[2:] for line in ran(tmp_path / "effects")] == [["pay", "2", "bob"]]
        assert tool_messages(graph, "t") == [STOPPED.replace("switch all", "switch thread:t")]
        assert inbox.switches()[0].scope == "thread:t"
        inbox.lift("thread:t", reviewer="ops", reason="out")
        assert inbox.switches() == []
