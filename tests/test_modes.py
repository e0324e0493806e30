"""Modes of a policy, and what comes of denials in a row."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.errors import PolicyError
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import denials
from hitl_graph.model import approve, respond
from hitl_graph.nodes import ApprovalNode, ask_human
from hitl_graph.policy import Call, Mode, Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import build, config_of, pay_call, ran, said, search_call, start, tool_messages

both = pytest.mark.both_databases

RULES = [Rule("read_*", "allow"), Rule("pay", "ask"), Rule("drop", "deny"), Rule("write", "allow")]
READ = {"read_only": True}


@pytest.mark.parametrize(
    ("mode", "name", "metadata", "outcome"),
    [
        ("plan", "read_mail", READ, "allow"),
        ("plan", "read_mail", {"readOnlyHint": True}, "allow"),
        ("plan", "read_mail", {"readOnlyHint": True, "read_only": False}, "deny"),
        ("plan", "read_mail", {"read_only": "yes"}, "deny"),
        ("plan", "read_mail", {}, "deny"),
        ("plan", "write", {}, "deny"),
        ("plan", "look_up", READ, "deny"),  # no rule allows it
        ("plan", "pay", READ, "deny"),
        ("dont-ask", "write", {}, "allow"),
        ("dont-ask", "pay", {}, "deny"),
        ("dont-ask", "look_up", {}, "deny"),
        ("shadow", "pay", {}, "allow"),
        ("shadow", "drop", {}, "allow"),
        ("default", "pay", {}, "ask"),
    ],
)
def test_what_a_mode_makes_of_a_verdict(mode: Mode, name: str, metadata: dict[str, Any], outcome: str) -> None:
    assert Policy(RULES, mode=mode).judge(Call(name, {}, metadata=metadata)).outcome == outcome


def test_a_run_can_only_make_it_stricter() -> None:
    def outcomes(mode: Mode, run: Any) -> tuple[str, ...]:
        policy = Policy(RULES, mode=mode)
        return tuple(policy.judge(Call(name, {}), mode=run).outcome for name in ("write", "pay", "drop"))

    assert outcomes("default", "plan") == outcomes("shadow", "plan") == ("deny", "deny", "deny")
    assert outcomes("plan", "default") == outcomes("plan", "dont-ask") == ("deny", "deny", "deny")
    assert outcomes("default", "dont-ask") == ("allow", "deny", "deny")
    assert outcomes("dont-ask", None) == outcomes("dont-ask", "default") == ("allow", "deny", "deny")
    for wrong in ("shadow", "off", 1, ["plan"]):
        with pytest.raises(PolicyError, match="nothing ran"):
            outcomes("default", wrong)
    for option in ({"mode": "fast"}, {"max_denials": 0}, {"max_denials": True}):
        with pytest.raises(PolicyError):
            Policy(RULES, **option)


@both
def test_shadow_changes_nothing_and_tells_all(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        policy = Policy([Rule("search", "deny", reason="not ours")], mode="shadow")
        graph = build(saver, tmp_path / "effects", policy=policy)
        start(graph, "t", [pay_call(5), search_call("x")])
        assert len(ran(tmp_path / "effects")) == 2
        rows = saver.ledger.read(
            lambda tx: tx.execute("SELECT reason, args FROM hitl_permits ORDER BY tool").fetchall()
        )
        assert [tuple(row) for row in rows] == [
            ("shadow: would have asked: no rule matches", '{"eur":5,"to":"bob"}'),
            ("shadow: would have denied: not ours", '{"q":"x"}'),
        ]
        Inbox(saver.ledger).switch("tool:search", "deny", reviewer="ops", reason="fire")
        start(graph, "u", [search_call("x")])
        assert len(ran(tmp_path / "effects")) == 2
        start(build(saver, tmp_path / "effects"), "v", [pay_call(6)])
        [request] = Inbox(saver.ledger).pending()  # asked before the mode was changed: it stays asked
        Inbox(saver.ledger).decide(request.id, respond("no"), reviewer="alice")
        Worker(graph, saver.ledger).run_once()
        assert tool_messages(graph, "v") == ["no"]


@both
def test_dont_ask_runs_what_is_granted_and_denies_the_rest(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        graph = build(saver, tmp_path / "effects", policy=Policy([], mode="dont-ask", max_denials=1))
        inbox = Inbox(saver.ledger)
        inbox.grant(Grant(tool="pay", args={"eur": 1}), reviewer="alice")
        start(graph, "t", [pay_call(1), pay_call(2)])
        assert len(ran(tmp_path / "effects")) == 1
        assert inbox.pending() == []
        assert "nobody is" in tool_messages(graph, "t")[1]
        inbox.switch("all", "ask", reviewer="ops", reason="audit")
        start(graph, "u", [pay_call(1), search_call("x")])
        assert (len(ran(tmp_path / "effects")), inbox.pending()) == (1, [])
        assert all("audit" in told or "nobody is" in told for told in tool_messages(graph, "u"))


@both
@pytest.mark.parametrize("mode", ["plan", "dont-ask"])
def test_a_planning_agent_may_ask_and_its_run_stays_a_plan(db_path: str, mode: str) -> None:
    written = list[str]()

    @tool
    def write(text: str) -> str:
        """Write."""
        written.append(text)
        return "written"

    def agent(state: MessagesState) -> dict[str, Any]:
        turn = sum(isinstance(message, AIMessage) for message in state["messages"])
        question = {"name": "ask_human", "args": {"question": "which one?"}, "id": "q"}
        calls = [[question], [{"name": "write", "args": {"text": "x"}, "id": "w"}], []][turn]
        return {"messages": [AIMessage("", tool_calls=calls)]}

    with open_checkpointer(db_path) as saver:
        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_node("tools", ApprovalNode([write, ask_human()], policy=Policy([Rule("write", "allow")])))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", lambda s: "tools" if s["messages"][-1].tool_calls else "__end__")
        builder.add_edge("tools", "agent")
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t", "hitl_mode": mode}}
        graph.invoke({"messages": []}, config, durability="sync")
        inbox = Inbox(saver.ledger)
        if mode == "plan":
            [request] = inbox.pending()
            inbox.decide(request.id, respond("the second"), reviewer="alice")
            assert [done.status for done in Worker(graph, saver.ledger).run_once()] == ["finished"]
            assert written == []
        else:  # nobody is there whom it could ask
            assert inbox.pending() == []
            assert written == ["x"]
        told = [m.content for m in graph.get_state(config).values["messages"] if isinstance(m, ToolMessage)]
        assert ("the second" in told[0], "plan mode" in told[1]) == ((True, True) if mode == "plan" else (False, False))


# --- denials in a row ------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_after_three_denials_in_a_row_people_are_asked(db_path: str, tmp_path: Path, colour: str) -> None:
    with open_checkpointer(db_path) as saver:
        beside = Rule("search", "ask", when=lambda call: call.args["q"] == "beside")
        frozen = Rule("pay", "deny", reason="frozen")
        graph = build(
            saver, tmp_path / "effects", policy=Policy([frozen, beside, Rule("search", "allow")], max_denials=3)
        )
        inbox, worker = Inbox(saver.ledger), Worker(graph, saver.ledger)
        turns = [
            [pay_call(1)], [pay_call(2)], [search_call("breaks")],
            [pay_call(3), pay_call(4)], [pay_call(5), search_call("beside")], [pay_call(6)], [pay_call(7)],
        ]  # fmt: skip

        async def resume() -> None:
            _ = await worker.arun_once() if colour == "async" else worker.run_once()

        if colour == "async":
            await graph.ainvoke(said(turns), config_of("t"), durability="sync")
        else:
            graph.invoke(said(turns), config_of("t"), durability="sync")
        [approval, request] = sorted(inbox.pending(), key=lambda request: request.kind)
        assert (request.kind, request.allowed, request.reason) == (
            "escalation", ("approve", "respond"), "3 denied in a row"
        )  # fmt: skip
        assert [f'pay({{"eur": {eur}, "to": "bob"}})' in request.description for eur in (2, 3, 4, 5)] == [
            False, True, True, True
        ]  # fmt: skip
        assert "frozen" in request.description
        inbox.decide(approval.id, approve(), reviewer="alice")
        await resume()
        assert [one.id for one in inbox.pending()] == [request.id]
        inbox.decide(request.id, respond("use search only"), reviewer="alice")
        await resume()
        assert [line.split()[2:] for line in ran(tmp_path / "effects")] == [["search", "breaks"], ["search", "beside"]]
        assert inbox.pending() == []
        told = [message for message in tool_messages(graph, "t") if "use search only" in message]
        assert len(told) == 1
        assert told[0].startswith("pay is not permitted with these arguments (frozen)")
        streaks = [denial.streak for denial in saver.ledger.read(denials.of_thread, "t")]
        assert streaks == [1, 2, 1, 2, 3, 1, 2]
        assert saver.ledger.verify_audit().problem is None


@both
def test_the_row_is_asked_about_to_its_end_whatever_becomes_of_the_policy(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        inbox = Inbox(saver.ledger)
        strict = build(saver, tmp_path / "effects", policy=Policy([Rule("pay", "deny")], max_denials=2))
        start(strict, "t", [[pay_call(1)], [pay_call(2)], [pay_call(3)], [pay_call(4)]])
        [request] = inbox.pending()
        loose = build(saver, tmp_path / "effects", policy=Policy([Rule("*", "allow")]))
        inbox.decide(request.id, approve(), reviewer="alice")
        assert [done.status for done in Worker(loose, saver.ledger).run_once()] == ["finished"]
        assert tool_messages(loose, "t")[1].startswith("pay is not permitted")
        assert len(ran(tmp_path / "effects")) == 2  # what came after is another matter
        assert [denial.asks for denial in saver.ledger.read(denials.of_thread, "t")] == [False, True]
        saver.ledger.redact("t", actor="dpo", reason="asked for")
        assert {(d.args, d.reason) for d in saver.ledger.read(denials.of_thread, "t")} == {(None, "")}
        assert saver.ledger.verify_audit().problem is None


@both
def test_stopped_calls_count_and_people_who_were_asked_are_not_asked_twice(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        inbox = Inbox(saver.ledger)
        graph = build(saver, tmp_path / "effects", policy=Policy([Rule("search", "allow")], max_denials=2))
        inbox.switch("all", "deny", reviewer="ops", reason="fire")
        start(graph, "t", [[search_call("1")], [search_call("2")], [search_call("3")], [search_call("4")]])
        [request] = inbox.pending()
        inbox.lift("all", reviewer="ops", reason="out")
        inbox.decide(request.id, approve(), reviewer="alice")
        Worker(graph, saver.ledger).run_once()
        assert len(ran(tmp_path / "effects")) == 2  # the second was denied, whatever is switched now
        [asked] = _asked(inbox, graph, [pay_call(1)])
        inbox.decide(asked.id, approve(), reviewer="alice")
        inbox.switch("all", "deny", reviewer="ops", reason="fire")
        assert [done.status for done in Worker(graph, saver.ledger).run_once()] == ["finished"]
        assert saver.ledger.verify_audit().problem is None


def _asked(inbox: Inbox, graph: Any, calls: Any) -> Any:
    start(graph, "new", calls)
    return inbox.pending(thread_id="new")
