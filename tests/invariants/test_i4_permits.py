"""I4: an action runs only under a permit in the ledger for its digest. Position in the graph is no permit."""

from itertools import product
from typing import Any, Literal

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent, tools_condition
from langgraph.types import Command, Send

from hitl_graph.effects import Effect, Outcome
from hitl_graph.errors import LedgerMissingError, PermitError, StaleRequestError
from hitl_graph.ledger import effects
from hitl_graph.ledger.effects import Asked, Authority
from hitl_graph.model import Action, Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import Step, run
from tests.invariants.agents import Graph, _model, config_of, default_tools, pay_call, said, tool_messages, write_effect
from tests.invariants.scenes import ALICE, APPROVE, AnyGraph, Scene


def pay_tool(scene: Scene) -> BaseTool:
    def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return f"paid {eur} to {to}"

    return StructuredTool.from_function(pay)


def message(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [AIMessage("", tool_calls=list(calls))]}


# --- walking around the gate ----------------------------------------------------------------------------------------


def test_goto_the_tools_while_the_question_is_open_runs_nothing(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)])
    scene.go(graph, Command(goto="tools"))
    assert scene.ran() == []
    assert "pending" in scene.states()


def test_goto_the_tools_after_a_rejection_runs_nothing(scene: Scene) -> None:
    graph = scene.agent()
    scene.decide(scene.start(graph, [pay_call(1)])[0], reject("no"))
    scene.work(graph)
    scene.go(graph, Command(goto="tools"))
    scene.go(graph, Command(goto=Send("tools", [{**pay_call(1), "type": "tool_call"}])))
    assert scene.ran() == []


def test_goto_the_tools_with_a_forged_message_asks(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [])
    scene.go(graph, Command(goto="tools", update=message(pay_call(1))))
    assert scene.ran() == []
    assert scene.the_one().action == Action(name="pay", args={"eur": 1, "to": "bob"})


def test_sending_a_call_straight_to_the_tools_asks(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [])
    scene.go(graph, Command(goto=Send("tools", [{**pay_call(1), "type": "tool_call"}])))
    scene.go(
        graph, Command(goto=Send("tools", {"__type": "tool_call_with_context", "tool_call": pay_call(2), "state": {}}))
    )
    assert scene.ran() == []


def test_another_node_that_jumps_to_the_tools_jumps_to_the_question(scene: Scene) -> None:
    """As `jump_to="tools"` of a langchain middleware does."""

    def jump(state: MessagesState) -> Command[Literal["tools"]]:
        return Command(goto="tools", update=message(pay_call(7)))

    builder = StateGraph(MessagesState)
    builder.add_node("jump", jump)
    builder.add_node("tools", scene.node([pay_tool(scene)]))
    builder.add_edge(START, "jump")
    graph = builder.compile(checkpointer=scene.checkpointer)
    scene.start(graph, [])
    assert scene.ran() == []
    assert len(scene.asked()) == 1


def test_forging_the_state_as_the_agent_asks(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)])
    graph.update_state(config_of("t"), message(pay_call(2)), as_node="agent")
    scene.go(graph, None)
    assert scene.ran() == []
    assert any(request.action == Action(name="pay", args={"eur": 2, "to": "bob"}) for request in scene.asked())


def test_forging_the_state_as_the_tools_skips_the_call_and_runs_nothing(scene: Scene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    forged = {"messages": [ToolMessage("paid 1 to bob", tool_call_id="pay-1")]}
    graph.update_state(config_of("t"), forged, as_node="tools")
    scene.go(graph, None)
    if scene.own:
        with pytest.raises(StaleRequestError, match="is superseded"):
            scene.decide(shown, approve())
    else:
        scene.decide(shown, approve())
        assert [result.status for result in scene.work(graph)] == ["failed"]
    assert scene.ran() == []


def test_a_static_breakpoint_is_no_gate_and_the_node_still_asks(scene: Scene) -> None:
    graph = scene.agent()
    graph.interrupt_before_nodes = ["tools"]
    scene.start(graph, [pay_call(1)])
    scene.go(graph, None)
    assert scene.ran() == []
    assert len(scene.asked()) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_catching_every_exception_around_the_node_runs_nothing(scene: Scene, colour: str) -> None:
    node, caught = scene.node([pay_tool(scene)]), list[Exception]()

    def tools(state: MessagesState) -> dict[str, Any]:
        try:
            return dict(node.invoke(state))
        except Exception as exc:
            caught.append(exc)
            return {"messages": []}

    async def atools(state: MessagesState) -> dict[str, Any]:
        try:
            return dict(await node.ainvoke(state))
        except Exception as exc:
            caught.append(exc)
            return {"messages": []}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", _model)
    builder.add_node("tools", atools if colour == "async" else tools)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=scene.checkpointer)
    scene.mode = "async" if colour == "async" else "sync"
    scene.start(graph, [pay_call(1)])
    assert caught
    assert scene.ran() == []


def test_the_node_called_on_its_own_runs_nothing(scene: Scene) -> None:
    node = scene.node([pay_tool(scene)], Policy([Rule("pay", "allow")]))
    with pytest.raises((LedgerMissingError, ValueError)):
        node.invoke(message(pay_call(1)))
    assert scene.ran() == []


# --- other places for the node --------------------------------------------------------------------------------------


def test_calls_fanned_out_by_send_are_asked_one_by_one(scene: Scene) -> None:
    """As langchain's `create_agent` does: one task a call."""

    def fan_out(state: MessagesState) -> list[Send] | str:
        calls = getattr(state["messages"][-1], "tool_calls", [])
        return [Send("tools", [call]) for call in calls] or "__end__"

    builder = StateGraph(MessagesState)
    builder.add_node("agent", _model)
    builder.add_node("tools", scene.node([pay_tool(scene)]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", fan_out, ["tools", "__end__"])
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=scene.checkpointer)
    one, two = scene.start(graph, [pay_call(1), pay_call(2)])
    scene.decide(one, approve())
    scene.work(graph)
    assert len(scene.ran()) == 1
    scene.decide(two, reject("no"))
    scene.work(graph)
    assert len(scene.ran()) == 1
    assert graph.get_state(config_of("t")).next == ()


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_create_react_agent_the_node_asks(scene: Scene, version: Literal["v1", "v2"]) -> None:
    class Model(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **options: Any) -> Any:
            return self

    model = Model(messages=iter([AIMessage("", tool_calls=[pay_call(1), pay_call(2)]), AIMessage("done")]))
    graph = create_react_agent(model, scene.node([pay_tool(scene)]), checkpointer=scene.checkpointer, version=version)  # type: ignore[deprecated,unused-ignore]
    one, two = scene.start(graph, [])
    assert scene.ran() == []
    scene.decide(one, approve())
    scene.decide(two, respond("no need"))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert len(scene.ran()) == 1


def nested(scene: Scene, levels: int) -> AnyGraph:
    graph: Any = scene.agent().builder.compile()
    for level in range(levels):
        outer = StateGraph(MessagesState)
        outer.add_node(f"level{level}", graph)
        outer.add_edge(START, f"level{level}")
        graph = outer.compile(checkpointer=scene.checkpointer if level == levels - 1 else None)
    return graph  # type: ignore[no-any-return]


@pytest.mark.parametrize("levels", [1, 2])
def test_in_a_subgraph_it_asks_and_runs_once(scene: Scene, levels: int) -> None:
    graph = nested(scene, levels)
    scene.start(graph, [[pay_call(1), pay_call(2)], [pay_call(3)]])
    assert scene.ran() == []
    for _ in range(3):
        request = scene.asked()[0]
        scene.decide(request, approve())
        [result] = scene.work(graph)
        assert result.error is None
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 2 bob", "pay 3 bob"]
    assert graph.get_state(config_of("t")).next == ()


def test_in_a_graph_that_a_node_function_runs_it_asks_and_runs_once(scene: Scene) -> None:
    inner = scene.agent().builder.compile()

    def host(state: MessagesState) -> Any:
        return inner.invoke(state)

    async def ahost(state: MessagesState) -> Any:
        return await inner.ainvoke(state)

    outer = StateGraph(MessagesState)
    outer.add_node("host", ahost if scene.mode == "async" else host)
    outer.add_edge(START, "host")
    graph = outer.compile(checkpointer=scene.checkpointer)
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    for expected in (["pay 1 bob"], ["pay 1 bob", "pay 2 bob"]):
        scene.decide(scene.the_one(), approve())
        scene.work(graph)
        assert scene.ran() == expected


def test_parallel_subgraphs_are_asked_apart(scene: Scene) -> None:
    """Two agents in one step, whose models give their calls the same ids and the same arguments."""
    outer = StateGraph(MessagesState)
    for name in ("left", "right"):
        outer.add_node(name, scene.agent().builder.compile())
        outer.add_edge(START, name)
    graph = outer.compile(checkpointer=scene.checkpointer)
    one, two = scene.start(graph, [pay_call(1)])
    scene.decide(one, approve())
    scene.decide(two, reject("once is enough"))
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]
    assert graph.get_state(config_of("t")).next == ()


def test_an_entrypoint_that_runs_the_graph_asks_and_runs_once(scene: Scene) -> None:
    inner = scene.agent().builder.compile()

    @entrypoint(checkpointer=scene.checkpointer)
    def flow(text: str) -> int:
        return len(inner.invoke({"messages": [HumanMessage(text)]})["messages"])

    scene.mode = "sync"
    scene.go(flow, said([[pay_call(1)], [pay_call(2)]])["messages"][0].content)
    for expected in (["pay 1 bob"], ["pay 1 bob", "pay 2 bob"]):
        scene.decide(scene.the_one(), approve())
        scene.work(flow)
        assert scene.ran() == expected


@pytest.mark.parametrize("stream_mode", ["values", "updates", "messages"])
def test_streaming_shows_the_question_and_runs_nothing_before_the_answer(scene: Scene, stream_mode: Any) -> None:
    graph = scene.agent()
    list(graph.stream(said([pay_call(1)]), config_of("t"), stream_mode=stream_mode))
    assert scene.ran() == []
    [interrupt_id] = scene.waits(graph)
    list(graph.stream(Command(resume={interrupt_id: APPROVE}), config_of("t"), stream_mode=stream_mode))
    assert scene.ran() == ["pay 1 bob"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_in_every_durability_mode_it_asks_first(scene: Scene, durability: Any) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]], durability=durability)
    assert scene.ran() == []
    scene.go(graph, Command(resume=APPROVE), durability=durability)
    assert scene.ran() == ["pay 1 bob"]
    scene.decide(scene.the_one(), approve())
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob", "pay 2 bob"]


# --- the graph changed while it waited ------------------------------------------------------------------------------


def renamed(scene: Scene) -> AnyGraph:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", _model)
    builder.add_node("actions", scene.node([pay_tool(scene)]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition, {"tools": "actions", "__end__": "__end__"})
    builder.add_edge("actions", "agent")
    return builder.compile(checkpointer=scene.checkpointer)


def test_with_the_node_renamed_the_worker_says_so_and_keeps_the_decision(scene: Scene) -> None:
    graph, other = scene.agent(), renamed(scene)
    scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
    [result] = scene.work(other)
    assert result.status == "failed"
    assert "was a node renamed" in str(result.error)
    assert scene.ran() == []
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


def test_with_the_node_renamed_a_direct_answer_runs_nothing(scene: Scene) -> None:
    graph, other = scene.agent(), renamed(scene)
    shown = scene.start(graph, [pay_call(1)])[0]
    for resume in (APPROVE, {shown.interrupt_id: APPROVE}):
        scene.go(other, Command(resume=resume))
    assert scene.ran() == []
    scene.decide(shown, approve())
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]


def other_tools(scene: Scene) -> dict[str, list[BaseTool]]:
    @tool("pay")
    def needs_more(eur: int, to: str, purpose: str) -> str:
        """Send money for a purpose."""
        write_effect(scene.effects, f"t x pay {eur} {to} {purpose}")
        return "paid"

    @tool("pay")
    def ignores_the_payee(eur: int, account: str = "house account") -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {account}")
        return "paid"

    @tool("pay")
    def counts_cents(eur: float, to: str) -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return "paid"

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    return {
        "removed": [search],
        "another argument": [needs_more],
        "without the payee": [ignores_the_payee],
        "another type": [counts_cents],
    }


@pytest.mark.parametrize(
    ("change", "decided"),
    [
        ("removed", "after"),
        *product(("another argument", "without the payee", "another type"), ("before", "after")),
    ],
)
def test_an_approved_call_does_not_run_with_a_tool_that_changed(scene: Scene, change: str, decided: str) -> None:
    shown = scene.start(scene.agent(), [pay_call(1)])[0]
    changed = scene.agent(tools=other_tools(scene)[change], policy=Policy())
    if decided == "before":
        scene.decide(shown, approve())
        scene.work(changed)
    else:
        scene.go(changed, Command(resume={shown.interrupt_id: APPROVE}))
    assert scene.ran() == []
    assert tool_messages(changed, "t")[0]
    assert scene.asked() == []


def test_an_approval_is_not_lost_on_a_graph_that_lacks_the_tool(scene: Scene) -> None:
    graph = scene.agent()
    scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
    _, search = default_tools(scene.effects)
    assert [resumed.status for resumed in scene.work(scene.agent(tools=[search]))] == ["failed"]
    assert (scene.ran(), scene.states()) == ([], ["decided"])
    assert [resumed.status for resumed in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


def test_a_tool_with_another_description_is_still_the_same_tool(scene: Scene) -> None:
    @tool
    def pay(eur: int, to: str) -> str:
        """Transfer money, at once."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return "paid"

    scene.decide(scene.start(scene.agent(), [pay_call(1)])[0], approve())
    scene.work(scene.agent(tools=[pay]))
    assert scene.ran() == ["pay 1 bob"]


# --- the ledger's own door ------------------------------------------------------------------------------------------

ACTION = Action(name="pay", args={"eur": 1, "to": "bob"})


def attempt(scene: Scene, authority: Authority, action: Action = ACTION, key: str = "k", number: int = 1) -> Any:
    ran: list[Action] = []
    effect = Effect(scene.ledger, key, "t", action, authority, number, patience=0.1)
    try:
        return run(effect.steps(Step(lambda: ran.append(action)))), ran
    except PermitError as exc:
        assert not ran
        assert scene.ledger.executed("t") == []
        raise exc


@pytest.fixture
def asked(own_scene: Scene) -> tuple[Scene, Request, Graph]:
    graph = own_scene.agent()
    return own_scene, own_scene.start(graph, [pay_call(1)])[0], graph


def test_no_permit_without_a_decision(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, _ = asked
    with pytest.raises(PermitError, match="no decision is recorded"):
        attempt(scene, Authority("forged", request.id), key=str(request.action_key))
    with pytest.raises(PermitError, match="no decision is recorded"):
        attempt(scene, Authority("forged", "0" * 20))


@pytest.mark.parametrize("decision", [reject("no"), respond("done"), edit({"eur": 2, "to": "bob"})])
def test_no_permit_for_what_was_not_approved(asked: tuple[Scene, Request, Graph], decision: Any) -> None:
    scene, request, _ = asked
    scene.decide(request, decision)
    with pytest.raises(PermitError, match="decided about other arguments"):
        attempt(scene, Authority("forged", request.id), key=str(request.action_key))


@pytest.mark.parametrize(
    "args", [{"eur": 2, "to": "bob"}, {"eur": 1, "to": "bob", "cc": "eve"}, {"eur": True, "to": "bob"}]
)
def test_no_permit_for_other_arguments_than_the_approved(asked: tuple[Scene, Request, Graph], args: Any) -> None:
    scene, request, _ = asked
    scene.decide(request, approve())
    with pytest.raises(PermitError, match="decided about other arguments"):
        attempt(scene, Authority("forged", request.id), Action(name="pay", args=args), key=str(request.action_key))


def test_no_permit_for_another_call_with_the_same_arguments(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, _ = asked
    scene.decide(request, approve())
    with pytest.raises(PermitError, match="no decision is recorded"):
        attempt(scene, Authority("forged", request.id), key="another call")


def test_no_permit_by_policy_for_what_people_were_asked(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, _ = asked
    ended, ran = attempt(scene, Authority("the policy allows it"), key=str(request.action_key))
    assert isinstance(ended, Asked)
    assert ran == []
    assert scene.ledger.executed("t") == []


def test_no_second_permit_under_one_approval(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, graph = asked
    scene.decide(request, approve())
    scene.work(graph)
    authority = Authority("forged", request.id)
    key = str(request.action_key)
    again, ran = attempt(scene, authority, key=key)
    assert isinstance(again, Outcome)
    assert ran == []
    with pytest.raises(PermitError, match="only an answer to what became of pay"):
        scene.ledger.write(effects.start, 0, key, 2, "t", ACTION, authority)
    with pytest.raises(PermitError, match="only a person"):
        scene.ledger.write(effects.start, 0, "fresh", 2, "t", ACTION, Authority("the policy allows it"))
    assert scene.ran() == ["pay 1 bob"]


def test_no_permit_for_a_question_that_was_superseded(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, graph = asked
    scene.decide(request, approve())
    graph.update_state(config_of("t"), {"messages": [HumanMessage("stop")]})
    with pytest.raises(PermitError, match="is superseded"):
        attempt(scene, Authority("forged", request.id), key=str(request.action_key))


def test_every_effect_names_the_decision_that_let_it_run(scene: Scene) -> None:
    graph = scene.agent()
    request = scene.start(graph, [pay_call(1)])[0]
    scene.decide(request, approve())
    scene.work(graph)
    [row] = scene.ledger.executed("t")
    assert (row["tool"], row["request_id"], row["state"], row["reason"]) == (
        "pay",
        request.id,
        "done",
        f"approve by {ALICE}",
    )


def test_the_node_needs_a_ledger(own_scene: Scene) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ApprovalNode([pay_tool(own_scene)]))
    builder.add_edge(START, "tools")
    for checkpointer in (InMemorySaver(), None):
        with pytest.raises(LedgerMissingError, match=r"SqliteCheckpointer\('agent.db'\)"):
            own_scene.go(builder.compile(checkpointer=checkpointer), message(pay_call(1)))
    assert own_scene.ran() == []
