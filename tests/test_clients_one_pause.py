"""A client that does not say what it answers is shown one pause at a time, and nothing of it is answered blindly."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command

from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.model import approve, reject
from hitl_graph.nodes import ApprovalNode, ask_human
from hitl_graph.policy import Policy, Rule
from tests.invariants import agents
from tests.invariants.agents import pay_call, ran, search_call, tool_messages
from tests.invariants.scenes import Scene

Client = Literal["agent-inbox", "agent-chat-ui", "copilotkit"]
Graph = CompiledStateGraph[Any, Any, Any, Any]
CALLS = [pay_call(1), search_call("x"), pay_call(2), search_call("y"), pay_call(3)]

pytestmark = pytest.mark.both_databases


@pytest.fixture(params=["sync", "async"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, own=True, mode=request.param)
    yield scene
    scene.close()


def agent(scene: Scene, client: Client) -> Graph:
    tools = [agents._pay(scene.effects, 0.0, False), agents._search(scene.effects), ask_human()]
    builder = StateGraph(MessagesState)
    builder.add_node("agent", agents._model)
    node = ApprovalNode(tools, policy=Policy([Rule("search", "allow")]), ledger=scene.given, client=client)
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=scene.checkpointer)


def shown(graph: Graph) -> Any:
    [waiting] = graph.get_state(agents.config_of("t")).interrupts
    return waiting.value


def sent(scene: Scene, graph: Graph, answer: Any) -> None:
    """As a client sends it: without saying for which interrupt."""
    scene.go(graph, Command(resume=answer))


def paid(scene: Scene) -> list[str]:
    return sorted(line for line in ran(scene.effects) if " pay " in line)


def accepted(graph: Graph) -> Any:
    return [{"type": "accept", "args": shown(graph)[0]["action_request"]}]


@pytest.mark.parametrize("client", ["agent-inbox", "agent-chat-ui", "copilotkit"])
def test_all_that_is_asked_is_one_pause_and_what_is_allowed_runs_meanwhile(scene: Scene, client: Client) -> None:
    graph = agent(scene, client)
    assert len(scene.start(graph, CALLS)) == 3
    assert len(graph.get_state(agents.config_of("t")).interrupts) == 1
    assert sorted(line.split()[1] for line in ran(scene.effects)) == ["search-x", "search-y"]


def test_agent_inbox_is_shown_one_after_the_other(scene: Scene) -> None:
    graph = agent(scene, "agent-inbox")
    scene.start(graph, CALLS)
    first = accepted(graph)
    assert first[0]["args"]["args"]["eur"] == 1
    sent(scene, graph, first)
    assert shown(graph)[0]["action_request"]["args"]["eur"] == 2
    sent(scene, graph, [{"type": "ignore", "args": None}])
    edited = accepted(graph)[0]["args"]
    sent(scene, graph, [{"type": "edit", "args": edited | {"args": edited["args"] | {"eur": "30"}}}])
    assert [line.split()[1:] for line in paid(scene)] == [["pay-1", "pay", "1", "bob"], ["pay-3", "pay", "30", "bob"]]
    assert "rejected" in tool_messages(graph, "t")[2]
    assert scene.inbox.pending() == []
    assert sum("search" in line for line in ran(scene.effects)) == 2


def test_a_stale_answer_of_agent_inbox_is_not_taken_for_the_next_question(scene: Scene) -> None:
    """Two equal calls, and a tab that sends the answer to the first once more."""
    graph = agent(scene, "agent-inbox")
    scene.start(graph, [pay_call(5, id="a"), pay_call(5, id="b")])
    again = accepted(graph)
    sent(scene, graph, again)
    for stale in (again, [again[0] | {"type": "edit"}]):
        with pytest.raises(StaleRequestError):
            sent(scene, graph, stale)
    for blind in ([{"type": "accept", "args": None}], {"type": "approve"}, {"decisions": [{"type": "approve"}]}):
        with pytest.raises(InvalidDecisionError, match="does not say that it is for this question"):
            sent(scene, graph, blind)
    assert paid(scene) == []
    [left] = scene.inbox.pending()
    sent(scene, graph, accepted(graph))
    assert len(paid(scene)) == 2
    assert scene.inbox.get(left.id).state == "delivered"


def test_a_stale_answer_of_agent_inbox_to_the_turn_before_does_nothing(scene: Scene) -> None:
    graph = agent(scene, "agent-inbox")
    scene.start(graph, [[pay_call(5, id="a")], [pay_call(5, id="b")]])
    again = accepted(graph)
    sent(scene, graph, again)
    with pytest.raises(StaleRequestError):
        sent(scene, graph, again)
    assert [line.split()[1] for line in paid(scene)] == ["a"]
    assert len(scene.inbox.pending()) == 1


def test_agent_chat_ui_answers_all_at_once_or_nothing(scene: Scene) -> None:
    graph = agent(scene, "agent-chat-ui")
    scene.start(graph, CALLS)
    yes, no = {"type": "approve"}, {"type": "reject", "message": "no"}
    for decisions in ([yes], [yes, yes], [yes] * 4, [yes, yes, {"type": "maybe"}]):
        with pytest.raises(InvalidDecisionError):
            sent(scene, graph, {"decisions": decisions})
        assert (paid(scene), len(scene.inbox.pending())) == ([], 3)
    sent(scene, graph, {"decisions": [yes, no, yes]})
    assert [line.split()[1] for line in paid(scene)] == ["pay-1", "pay-3"]


def test_what_was_decided_in_the_inbox_is_not_asked_again_and_a_stale_page_is_told(scene: Scene) -> None:
    graph = agent(scene, "agent-chat-ui")
    first, second, third = sorted(scene.start(graph, CALLS), key=lambda request: request.position or 0)
    scene.decide(second, reject("no"))
    scene.work(graph)
    assert [one["args"]["eur"] for one in shown(graph)["action_requests"]] == [1, 3]
    with pytest.raises(InvalidDecisionError, match="asks about 2"):
        sent(scene, graph, {"decisions": [{"type": "approve"}] * 3})
    scene.decide(first, approve())
    scene.decide(third, approve())
    scene.work(graph)
    assert [line.split()[1] for line in paid(scene)] == ["pay-1", "pay-3"]


def test_copilotkit_answers_with_the_request_that_it_was_shown(scene: Scene) -> None:
    graph = agent(scene, "copilotkit")
    scene.start(graph, [pay_call(1), pay_call(2)])
    value = shown(graph)
    assert (value["reason"], value["tool_call_id"]) == ("tool_call", "pay-1")
    with pytest.raises(InvalidDecisionError, match="request_id"):
        sent(scene, graph, {"approved": True})
    answer = {"approved": True, "request_id": value["request_id"]}
    sent(scene, graph, answer)
    with pytest.raises(StaleRequestError):
        sent(scene, graph, answer)
    value = shown(graph)
    sent(scene, graph, {"approved": True, "editedArgs": {"eur": 20, "to": "bob"}, "request_id": value["request_id"]})
    assert [line.split()[1:3] + line.split()[3:] for line in paid(scene)] == [
        ["pay-1", "pay", "1", "bob"],
        ["pay-2", "pay", "20", "bob"],
    ]


@pytest.mark.parametrize("client", ["agent-inbox", "agent-chat-ui"])
def test_questions_of_the_agent_come_one_by_one_after_the_approvals(scene: Scene, client: Client) -> None:
    asks = [{"name": "ask_human", "args": {"question": f"{n}?"}, "id": f"ask-{n}"} for n in (1, 2)]
    graph = agent(scene, client)
    scene.start(graph, [asks[0], pay_call(1), asks[1], search_call("x")])
    assert [request.kind for request in scene.inbox.pending()] == ["approval"]
    sent(scene, graph, accepted(graph) if client == "agent-inbox" else {"decisions": [{"type": "approve"}]})
    for n in (1, 2):
        [request] = scene.inbox.pending()
        assert request.tool_call_id == f"ask-{n}"
        text = f"answer {n}"
        sent(scene, graph, [{"type": "response", "args": text}] if client == "agent-inbox" else text)
    told = tool_messages(graph, "t")
    assert (told[0], told[2]) == ("answer 1", "answer 2")
    assert (len(paid(scene)), len(ran(scene.effects))) == (1, 2)


def test_it_is_the_same_beside_a_foreign_checkpointer(tmp_path: Path) -> None:
    scene = Scene(tmp_path, own=False, mode="sync")
    try:
        graph = agent(scene, "agent-inbox")
        scene.start(graph, CALLS)
        for _ in range(3):
            sent(scene, graph, accepted(graph))
        assert [line.split()[1] for line in paid(scene)] == ["pay-1", "pay-2", "pay-3"]
        assert len(ran(scene.effects)) == 5
        assert scene.inbox.pending() == []
    finally:
        scene.close()


def test_an_unknown_client_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="there is no client 'inbox'; there are bridge, agent-inbox"):
        ApprovalNode([ask_human()], client="inbox")  # type: ignore[arg-type]
