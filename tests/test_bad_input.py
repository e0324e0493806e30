"""Bad input of every kind: a message that says what to do, nothing runs, nothing is lost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, InvalidToolCall, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send

from hitl_graph.errors import (
    AlreadyDecidedError,
    DeliveryError,
    InvalidDecisionError,
    LedgerMissingError,
    PolicyError,
    RequestError,
    StaleRequestError,
    UnknownRequestError,
)
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.invariants.agents import Graph, config_of, pay_call, tool_messages, write_effect
from tests.invariants.scenes import ALICE, Scene


@pytest.fixture(params=["sync", "async"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, own=True, mode=request.param)
    yield made
    assert made.ledger.verify_audit().ok
    made.close()


@pytest.fixture
def asked(scene: Scene) -> tuple[Scene, Request, Graph]:
    graph = scene.agent()
    return scene, scene.start(graph, [pay_call(1)])[0], graph


def still_works(scene: Scene, request: Request, graph: Graph) -> None:
    """Nothing was lost: the request waits as before, and the right answer does what it says."""
    assert scene.ran() == []
    assert scene.the_one() == request
    scene.decide(request, approve())
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


# --- what people send -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nobody", ["0" * 20, "f" * 64, "", "   ", "%", "../x", "nonsense", "'; DROP TABLE hitl_requests"]
)
def test_an_unknown_request_id_says_where_to_look(asked: tuple[Scene, Request, Graph], nobody: str) -> None:
    scene, request, graph = asked
    for ask in (scene.inbox.get, lambda own: scene.inbox.decide(own, approve(), reviewer=ALICE)):
        with pytest.raises(UnknownRequestError, match="`hitl inbox` lists"):
            ask(nobody)
    still_works(scene, request, graph)


def test_a_cursor_that_names_no_request_says_to_start_again(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, graph = asked
    with pytest.raises(UnknownRequestError, match="start again without after="):
        scene.inbox.pending(after="0" * 20)
    still_works(scene, request, graph)


@pytest.mark.parametrize("word", ["yes", "approve", None, True, {"type": "approve"}])
def test_what_is_no_decision_is_refused_with_the_four_words(asked: tuple[Scene, Request, Graph], word: Any) -> None:
    scene, request, graph = asked
    with pytest.raises(TypeError, match=r"approve\(\), edit\(\.\.\.\), reject\(\.\.\.\) or respond"):
        scene.inbox.decide(request.id, word, reviewer=ALICE)
    still_works(scene, request, graph)


@pytest.mark.parametrize("nobody", ["", None])
def test_a_decision_needs_somebody_who_made_it(asked: tuple[Scene, Request, Graph], nobody: Any) -> None:
    scene, request, graph = asked
    with pytest.raises(ValueError, match="needs the name of the reviewer"):
        scene.inbox.decide(request.id, approve(), reviewer=nobody)
    still_works(scene, request, graph)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (edit({}), "the edit does not fit the arguments of pay: eur: Field required; to: Field required"),
        (edit({"eur": "a lot", "to": "bob"}), "eur: Input should be a valid integer"),
        (edit({"eur": 1, "to": "bob", "bcc": "eve"}), "bcc: Extra inputs are not permitted"),
        (edit({"eur": 1, "to": ["bob"]}), "to: Input should be a valid string"),
    ],
)
def test_an_edit_that_breaks_the_schema_names_the_argument(
    asked: tuple[Scene, Request, Graph], wrong: Decision, says: str
) -> None:
    scene, request, graph = asked
    with pytest.raises(InvalidDecisionError, match=says):
        scene.decide(request, wrong)
    still_works(scene, request, graph)


def test_an_edit_of_a_forbidden_argument_says_what_may_be_edited(scene: Scene) -> None:
    graph = scene.agent(policy=Policy([Rule("pay", "ask", editable=("eur",))]))
    request = scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError, match="to may not be edited; only eur"):
        scene.decide(request, edit({"eur": 1, "to": "eve"}))
    still_works(scene, request, graph)


@pytest.mark.parametrize("late", [approve(), reject("no"), edit({"eur": 2, "to": "eve"}), respond("done")])
def test_a_decision_after_another_is_told_who_won(asked: tuple[Scene, Request, Graph], late: Decision) -> None:
    scene, request, graph = asked
    scene.decide(request, approve())
    for _ in range(2):  # before and after it was carried out
        with pytest.raises(AlreadyDecidedError, match=r"approve by alice\. Your answer was not recorded"):
            scene.inbox.decide(request.id, late, reviewer="bob")
        scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]


@pytest.mark.parametrize("digest", ["0" * 64, "", "x"])
def test_a_wrong_digest_says_to_look_again(asked: tuple[Scene, Request, Graph], digest: str) -> None:
    scene, request, graph = asked
    with pytest.raises(StaleRequestError, match="look again and answer what is asked now"):
        scene.inbox.decide(request.id, approve(), reviewer=ALICE, digest=digest)
    still_works(scene, request, graph)


def test_every_refusal_is_a_request_error_that_names_the_request(asked: tuple[Scene, Request, Graph]) -> None:
    scene, request, _ = asked
    for wrong in (edit({}), edit({"eur": None, "to": None})):
        with pytest.raises(RequestError, match=request.id) as caught:
            scene.decide(request, wrong)
        assert caught.value.request_id == request.id


# --- what the application gets wrong --------------------------------------------------------------------------------


def lone(node: ApprovalNode, checkpointer: Any = None) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", node)
    builder.add_edge(START, "tools")
    return builder.compile(checkpointer=checkpointer)


def counting(scene: Scene) -> BaseTool:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return f"paid {eur}"

    return pay


@pytest.mark.parametrize("outcome", ["allow", "ask", "deny"])
def test_without_a_checkpointer_nothing_runs_and_the_message_says_how_to_compile(scene: Scene, outcome: Any) -> None:
    said = {"messages": [AIMessage("", tool_calls=[pay_call(1)])]}
    policy = Policy([Rule("pay", outcome)])
    with pytest.raises(LedgerMissingError, match=r"compile the graph with checkpointer=SqliteCheckpointer"):
        scene.go(lone(ApprovalNode([counting(scene)], policy=policy)), said)
    with pytest.raises(LedgerMissingError, match="compile with a checkpointer and invoke with"):
        scene.go(lone(ApprovalNode([counting(scene)], policy=policy, ledger=scene.ledger)), said)
    assert scene.ran() == []


def test_with_a_foreign_checkpointer_and_no_ledger_the_message_says_how_to_give_one(scene: Scene) -> None:
    said = {"messages": [AIMessage("", tool_calls=[pay_call(1)])]}
    with pytest.raises(LedgerMissingError, match=r"give the node ledger=Ledger.open\('agent.db'\)"):
        scene.go(lone(ApprovalNode([counting(scene)]), InMemorySaver()), said)
    assert scene.ran() == []


def test_a_worker_needs_a_graph_with_a_checkpointer(scene: Scene) -> None:
    with pytest.raises(DeliveryError, match="compile it with one"):
        Worker(lone(ApprovalNode([counting(scene)])), scene.ledger)


def test_a_rule_for_no_tool_is_found_when_the_node_is_built(scene: Scene) -> None:
    with pytest.raises(PolicyError, match="did you mean 'pay'"):
        ApprovalNode([counting(scene)], policy=Policy([Rule("pya", "deny")]))


# --- what tools do --------------------------------------------------------------------------------------------------


def failing(scene: Scene) -> BaseTool:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money, and fail."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        raise ConnectionError("the line went dead")

    return pay


@pytest.mark.parametrize("outcome", ["allow", "ask"])
def test_a_tool_that_raises_is_not_run_again_without_a_person(scene: Scene, outcome: Any) -> None:
    graph = scene.agent(tools=[failing(scene)], policy=Policy([Rule("pay", outcome)]))
    if outcome == "allow":
        with pytest.raises(ConnectionError):
            scene.start(graph, [pay_call(1)])
    else:
        scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
        assert isinstance(scene.work(graph)[0].error, ConnectionError)
    assert scene.ran() == ["pay 1 bob"]
    scene.go(graph, None)
    question = scene.the_one()
    assert "ConnectionError: the line went dead" in question.description
    assert question.labels["approve"] == "run it again"
    with pytest.raises(InvalidDecisionError, match="edit is not offered; it takes approve, reject, respond"):
        scene.decide(question, edit({"eur": 1, "to": "bob"}))
    scene.decide(question, reject("their log shows nothing"))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]
    assert "a person checked that it was not done" in tool_messages(graph, "t")[0]


def test_a_tool_that_raises_runs_again_when_a_person_says_so_and_asks_again_when_it_fails_again(scene: Scene) -> None:
    graph = scene.agent(tools=[failing(scene)], policy=Policy())
    scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
    scene.work(graph)
    for runs in (2, 3):
        scene.go(graph, None)
        scene.decide(scene.the_one(), approve())
        assert isinstance(scene.work(graph)[0].error, ConnectionError)
        assert scene.ran() == ["pay 1 bob"] * runs
    scene.go(graph, None)
    assert scene.the_one().kind == "question"
    assert [row["state"] for row in scene.ledger.executed("t")] == ["failed"] * 3


def test_an_error_that_the_node_handles_is_the_tool_s_answer(scene: Scene) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ApprovalNode([failing(scene)], handle_tool_errors=True))
    builder.add_edge(START, "tools")
    graph = builder.compile(checkpointer=scene.checkpointer)
    scene.go(graph, {"messages": [AIMessage("", tool_calls=[pay_call(1)])]})
    scene.decide(scene.the_one(), approve())
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert "the line went dead" in tool_messages(graph, "t")[0]
    assert scene.ran() == ["pay 1 bob"]


# --- what models say ------------------------------------------------------------------------------------------------


def test_a_call_id_repeated_in_one_message_is_two_calls(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1, id="x"), pay_call(1, id="x"), pay_call(2, id="x")])
    one, two, three = scene.asked()
    assert len({one.action_key, two.action_key, three.action_key}) == 3
    for request in (one, two, three):
        scene.decide(request, approve() if request.action == one.action else reject("no"))
    scene.work(graph)
    assert len(scene.ran()) == sum(request.action == one.action for request in (one, two, three))
    assert len(tool_messages(graph, "t")) == 3


def test_a_call_id_repeated_in_a_later_message_is_asked_again(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1, id="x")], [pay_call(1, id="x")], [pay_call(1, id="x")]])
    for answer, runs in ((approve(), 1), (reject("once is enough"), 1), (approve(), 2)):
        assert scene.the_one().action is not None
        scene.decide(scene.the_one(), answer)
        scene.work(graph)
        assert scene.ran() == ["pay 1 bob"] * runs


@pytest.mark.parametrize("same", [True, False])
def test_a_call_id_repeated_among_calls_that_are_sent_one_by_one_is_two_calls(scene: Scene, same: bool) -> None:
    calls = [pay_call(1, id="x"), pay_call(1 if same else 2, id="x")]
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: {"messages": [AIMessage("", tool_calls=calls)]})
    builder.add_node("tools", scene.node([counting(scene)]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: [Send("tools", [c]) for c in state["messages"][-1].tool_calls])
    graph = builder.compile(checkpointer=scene.checkpointer)
    one, two = scene.start(graph, [])
    scene.decide(one, approve())
    scene.work(graph)
    assert len(scene.ran()) == 1
    assert scene.the_one() == two
    scene.decide(two, approve())
    scene.work(graph)
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 1 bob" if same else "pay 2 bob"]


NOT_JSON: list[Any] = [{1, 2}, datetime.now(UTC), object(), float("nan"), b"1", "\ud800", {1: 2}]


@pytest.mark.parametrize("value", NOT_JSON, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("outcome", ["allow", "ask"])
def test_arguments_that_are_not_json_are_refused_and_the_model_is_told(scene: Scene, outcome: Any, value: Any) -> None:
    """They could not be shown to a person, nor bound to a permit. The thread itself lives in memory here."""
    call: Any = {"name": "pay", "args": {"eur": value, "to": "bob"}, "id": "c1"}
    node = ApprovalNode([counting(scene)], policy=Policy([Rule("pay", outcome)]), ledger=scene.ledger)
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: {"messages": [AIMessage("", tool_calls=[call, pay_call(2)])]})
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "tools")
    saver = InMemorySaver(serde=_Any())
    graph = builder.compile(checkpointer=saver)
    scene.go(graph, {"messages": []})
    for request in scene.asked():
        assert request.action is not None
        assert request.action.args == {"eur": 2, "to": "bob"}
        scene.decide(request, approve())
        scene.work(graph)
    assert scene.ran() == ["pay 2 bob"]
    assert "The arguments of pay are not plain JSON; it did not run" in tool_messages(graph, "t")[0]


class _Any:
    """Keeps objects as they are: LangGraph's serializer would refuse some of these first."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        self.kept.append(value)
        return "kept", str(len(self.kept) - 1).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.kept[int(data[1])]


def test_a_call_that_could_not_be_parsed_is_answered_so_that_the_model_can_go_on(scene: Scene) -> None:
    broken = InvalidToolCall(name="pay", args='{"eur": 1', id="bad", error="Expecting ','", type="invalid_tool_call")
    message = AIMessage("", tool_calls=[pay_call(1)], invalid_tool_calls=[broken])
    graph = lone(scene.node([counting(scene)]), scene.checkpointer)
    scene.go(graph, {"messages": [message]})
    scene.decide(scene.the_one(), approve())
    scene.work(graph)
    assert scene.ran() == ["pay 1 bob"]
    answers = [m for m in graph.get_state(config_of("t")).values["messages"] if isinstance(m, ToolMessage)]
    assert {answer.tool_call_id for answer in answers} == {"bad", "pay-1"}
    [told] = [str(answer.content) for answer in answers if answer.tool_call_id == "bad"]
    assert "not valid JSON (Expecting ',')" in told
    assert "Call it again" in told


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"name": "fly", "args": {}, "id": "c"}, "fly is not a valid tool"),
        ({"name": "pay", "args": {"eur": "a lot", "to": "bob"}, "id": "c"}, "Input should be a valid integer"),
        ({"name": "pay", "args": {}, "id": "c"}, "Field required"),
    ],
    ids=["unknown tool", "wrong type", "missing"],
)
def test_a_call_that_the_tool_would_refuse_bothers_nobody(scene: Scene, call: Any, told: str) -> None:
    graph = scene.agent(policy=Policy([Rule("pay", "ask")]))
    assert scene.start(graph, [call]) == []
    assert told in tool_messages(graph, "t")[0]
    assert scene.ran() == []
