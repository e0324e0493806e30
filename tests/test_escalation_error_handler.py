"""`EscalationNode` as `error_handler`: a node that failed is put to a person, who decides how it goes on."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy, Send, interrupt
from pydantic import BaseModel

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import AlreadyDecidedError, EscalationError, InvalidDecisionError
from hitl_graph.facts import Failure, Situation, facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode, EscalationNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import Colour, Graph, answer, config_of, is_valid_history, the_one, told, values, work

pytestmark = pytest.mark.both_databases


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


class Service:
    """A search service that is down for some calls."""

    def __init__(self, down: int = 1) -> None:
        self.down, self.ran = down, list[str]()

    def look(self, q: str) -> str:
        """Look something up."""
        self.ran.append(q)
        if self.down:
            self.down -= 1
            raise ConnectionError(f"no route to search, asked for {q}")
        return f"found {q}"

    async def alook(self, q: str) -> str:
        """Look something up."""
        await asyncio.sleep(0)
        return self.look(q)

    def tool(self, colour: Colour = "sync") -> BaseTool:
        coroutine = self.alook if colour == "async" else None
        return StructuredTool.from_function(self.look, coroutine, name="look")


class State(MessagesState):
    limit: int


def agent(state: State) -> dict[str, Any]:
    said = [m for m in state["messages"] if isinstance(m, AIMessage)]
    if said:
        return {"messages": [AIMessage("finished")]}
    queries = str(state["messages"][0].content).split()
    calls = [{"name": "look", "args": {"q": q}, "id": f"call-{q}"} for q in queries]
    return {"messages": [AIMessage("", tool_calls=calls)]}


def build(saver: Any, tools: Any, *, sends: bool = False, **options: Any) -> Graph:
    def route(state: State) -> Any:
        calls = getattr(state["messages"][-1], "tool_calls", None)
        if not calls:
            return END
        return [Send("tools", [call]) for call in calls] if sends else "tools"

    handler = EscalationNode(**{"resume": "agent", **options})
    builder = StateGraph(State)
    builder.add_node("agent", agent)
    builder.add_node("tools", tools, error_handler=handler)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", route, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


def start(graph: Graph, queries: str = "x", colour: Colour = "sync") -> Any:
    given = {"messages": [HumanMessage(queries)], "limit": 1}
    if colour == "async":
        return asyncio.run(graph.ainvoke(given, config_of(), durability="sync"))
    return graph.invoke(given, config_of(), durability="sync")


def test_the_question_shows_the_error(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver, ToolNode([Service().tool(colour)]))
    start(graph, colour=colour)
    request = the_one(saver.ledger)
    facts = facts_of(request)
    assert isinstance(facts, Situation)
    assert facts.failure == Failure(node="tools", type="ConnectionError", message="no route to search, asked for x")
    assert facts.findings[0].tried == ('look({"q": "x"})',)
    assert (request.kind, request.reason) == ("escalation", "ConnectionError in tools")
    assert "The node tools failed with ConnectionError: no route to search" in request.description
    assert request.labels["approve"] == "run tools again"


@pytest.mark.parametrize(
    ("decision", "ran", "ends"),
    [
        (approve(), 2, [("tool", "found x"), ("ai", "finished")]),
        (
            respond("search is down, answer from memory"),
            1,
            [
                ("tool", "look failed: ConnectionError: no route to search, asked for x."),
                (
                    "human",
                    "[A person who watches this run stepped in, and says:]\nsearch is down, answer from memory\n"
                    "[Follow this from here on, and do not repeat what did not work.]",
                ),
                ("ai", "finished"),
            ],
        ),
        (
            edit({"limit": 5}),
            1,
            [("tool", "look failed: ConnectionError: no route to search, asked for x."), ("ai", "finished")],
        ),
        (
            reject("not today"),
            1,
            [
                ("tool", "look failed: ConnectionError: no route to search, asked for x."),
                ("ai", "This run was stopped by a person: not today"),
            ],
        ),
    ],
    ids=["approve", "respond", "edit", "reject"],
)
def test_the_four_answers(
    saver: Checkpointer, colour: Colour, decision: Decision, ran: int, ends: list[tuple[str, str]]
) -> None:
    service = Service()
    graph = build(saver, ToolNode([service.tool(colour)]))
    start(graph, colour=colour)
    assert answer(graph, saver.ledger, decision, colour).status == "finished"
    assert told(graph)[2:] == ends
    assert is_valid_history(values(graph)["messages"])
    assert values(graph)["limit"] == (5 if decision.type == "edit" else 1)
    assert service.ran == ["x"] * ran
    assert saver.ledger.history("t")[0].state == "delivered"
    assert saver.ledger.verify_audit().ok


@pytest.mark.parametrize("decision", [approve(), respond("leave it"), reject("no"), edit({"limit": 5})])
def test_one_call_of_several_fails_and_the_others_are_left_alone(
    saver: Checkpointer, colour: Colour, decision: Decision
) -> None:
    service = Service()
    graph = build(saver, ToolNode([service.tool(colour)]), sends=True)
    start(graph, "x y z", colour)
    assert answer(graph, saver.ledger, decision, colour).status == "finished"
    assert is_valid_history(values(graph)["messages"])
    results = [m for m in values(graph)["messages"] if isinstance(m, ToolMessage)]
    assert len(service.ran) == 3  # the model goes on in the same moment: it is told to call again
    assert len({result.tool_call_id for result in results}) == 3
    assert sum(result.status == "error" for result in results) == 1
    said = "".join(result.text for result in results)
    assert ("leave it" in said) == (decision.type == "respond")
    assert ("make this call again" in said) == (decision.type == "approve")
    assert told(graph)[-1] == ("ai", "finished")


def test_each_failed_sibling_is_a_question_of_its_own(saver: Checkpointer, colour: Colour) -> None:
    service = Service(down=2)
    graph = build(saver, ToolNode([service.tool(colour)]), sends=True)
    start(graph, "x y", colour)
    inbox = Inbox(saver.ledger)
    one, other = inbox.pending()
    assert one.id != other.id
    inbox.decide(one.id, reject("not this one"), reviewer="alice")
    assert work(graph, saver.ledger, colour).status == "paused"
    inbox.decide(other.id, respond("leave it"), reviewer="bob")
    assert work(graph, saver.ledger, colour).status == "finished"
    texts = [m.text for m in values(graph)["messages"] if isinstance(m, ToolMessage)]
    assert sorted("leave it" in text for text in texts) == [False, True]
    assert sorted("not this one" in text for text in texts) == [False, True]
    assert is_valid_history(values(graph)["messages"])
    assert len(service.ran) == 2


def test_the_agent_itself_failed(saver: Checkpointer, colour: Colour) -> None:
    broken = [True]

    def model(state: MessagesState) -> dict[str, Any]:
        if broken:
            broken.pop()
            raise TimeoutError("the model does not answer")
        return {"messages": [AIMessage(f"{len(state['messages'])} messages before")]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", model, error_handler=EscalationNode("agent"))
    builder.add_edge(START, "agent")
    graph = builder.compile(checkpointer=saver)
    start(graph, colour=colour)
    answer(graph, saver.ledger, respond("be brief"), colour)
    assert told(graph)[-1] == ("ai", "2 messages before")


def test_it_fails_again_and_is_asked_again(saver: Checkpointer) -> None:
    service = Service(down=3)
    graph = build(saver, ToolNode([service.tool()]))
    start(graph)
    statuses = [answer(graph, saver.ledger, approve()).status for _ in range(3)]
    assert statuses == ["paused", "paused", "finished"]
    assert len({request.id for request in saver.ledger.history("t")}) == 3


def test_retries_come_first(saver: Checkpointer) -> None:
    service = Service(down=2)
    builder = StateGraph(State)
    builder.add_node("agent", agent)
    retry = RetryPolicy(max_attempts=2, initial_interval=0.01)
    builder.add_node("tools", ToolNode([service.tool()]), error_handler=EscalationNode("agent"), retry_policy=retry)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "tools")
    builder.add_edge("tools", END)
    graph = builder.compile(checkpointer=saver)
    start(graph)
    assert len(service.ran) == 2
    answer(graph, saver.ledger, approve())
    assert told(graph)[-1] == ("tool", "found x")


def test_the_default_handler_of_a_whole_graph(saver: Checkpointer) -> None:
    service = Service()
    builder = StateGraph(State)
    builder.set_node_defaults(error_handler=EscalationNode("agent"))
    builder.add_node("agent", agent)
    builder.add_node("tools", ToolNode([service.tool()]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "agent")
    graph = builder.compile(checkpointer=saver)
    start(graph)
    answer(graph, saver.ledger, approve())
    assert told(graph)[-1] == ("ai", "finished")


def test_an_error_that_was_stored_before_anybody_was_asked(saver: Checkpointer) -> None:
    """The process died between the failure and the question: LangGraph then has the error's text only."""

    def dying(state: State, error: NodeError) -> Any:
        raise KeyboardInterrupt

    def build_with(on_error: Any) -> Graph:
        builder = StateGraph(State)
        builder.add_node("agent", agent)
        builder.add_node("tools", ToolNode([Service().tool()]), error_handler=on_error)
        builder.add_edge(START, "agent")
        builder.add_edge("agent", "tools")
        return builder.compile(checkpointer=saver)

    with pytest.raises(KeyboardInterrupt):
        start(build_with(dying))
    graph = build_with(EscalationNode("agent"))
    graph.invoke(None, config_of(), durability="sync")
    facts = facts_of(the_one(saver.ledger))
    assert isinstance(facts, Situation)
    assert facts.failure == Failure(node="tools", type="ConnectionError", message="no route to search, asked for x")
    answer(graph, saver.ledger, reject("no"))
    assert told(graph)[-1] == ("ai", "This run was stopped by a person: no")


def test_beside_a_foreign_checkpointer(db_path: str, colour: Colour) -> None:
    with open_ledger(db_path) as ledger:
        graph = build(InMemorySaver(), ToolNode([Service().tool(colour)]), ledger=ledger)
        start(graph, colour=colour)
        assert answer(graph, ledger, approve(), colour).status == "finished"
        assert told(graph)[2:] == [("tool", "found x"), ("ai", "finished")]


def test_a_node_that_is_not_there_is_an_error_when_it_runs(saver: Checkpointer) -> None:
    graph = build(saver, ToolNode([Service().tool()]), resume="agnet")  # LangGraph does not look at handlers before
    with pytest.raises(EscalationError, match="agnet"):
        start(graph)


# --- around nodes that ask people themselves -------------------------------------------------------------------------


def _approving(saver: Checkpointer, service: Service) -> Graph:
    return build(saver, ApprovalNode([service.tool()], policy=Policy([Rule("look", "ask")])))


@pytest.mark.parametrize("bad", [{"type": "maybe"}, "yes", {"type": "edit", "args": {"q": 1, "z": 2}}, []])
def test_a_malformed_answer_to_an_approval_is_no_failure_of_the_node(saver: Checkpointer, bad: Any) -> None:
    service = Service(down=0)
    graph = _approving(saver, service)
    start(graph)
    request = the_one(saver.ledger)
    with pytest.raises(InvalidDecisionError):
        graph.invoke(Command(resume={request.interrupt_id: bad}), config_of())
    assert the_one(saver.ledger) == request  # nobody is asked about a failure, and the question can be answered
    answer(graph, saver.ledger, approve())
    assert service.ran == ["x"]
    assert told(graph)[-1] == ("ai", "finished")


def test_an_answer_that_came_second_is_no_failure_of_the_node(saver: Checkpointer) -> None:
    service = Service(down=0)
    graph = _approving(saver, service)
    start(graph)
    request = the_one(saver.ledger)
    Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice")
    with pytest.raises(AlreadyDecidedError):
        graph.invoke(Command(resume={request.interrupt_id: {"type": "reject"}}), config_of())
    work(graph, saver.ledger)
    assert [one.state for one in saver.ledger.history("t")] == ["delivered"]
    assert service.ran == ["x"]


def test_an_approved_call_that_failed_is_not_run_again_without_a_person(saver: Checkpointer) -> None:
    service = Service()
    graph = _approving(saver, service)
    start(graph)
    asked: list[tuple[str, int]] = []
    while (waits := Inbox(saver.ledger).pending()) and len(asked) < 9:
        asked.append((waits[0].kind, len(service.ran)))
        answer(graph, saver.ledger, approve())
    # the approval is asked anew, with what became of the first attempt as its last question
    assert asked == [("approval", 0), ("escalation", 1), ("approval", 1), ("question", 1)]
    assert service.ran == ["x", "x"]
    assert told(graph)[-1] == ("ai", "finished")


class Number(BaseModel):
    number: int


def test_a_question_of_the_graph_itself_is_asked_again(saver: Checkpointer, caplog: pytest.LogCaptureFixture) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"limit": interrupt("How many?", response_schema=Number).number}

    builder = StateGraph(State)
    builder.add_node("ask", ask, error_handler=EscalationNode("ask"))
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=saver)
    start(graph)
    request = the_one(saver.ledger)
    graph.invoke(Command(resume={request.interrupt_id: {"number": "many"}}), config_of())
    again = the_one(saver.ledger)
    assert (again.kind, again.question) == ("question", "How many?")
    assert "refused" in caplog.text
    answer(graph, saver.ledger, respond({"number": 3}))
    assert values(graph)["limit"] == 3


def test_the_worker_waits_for_a_handler_that_nobody_answered(saver: Checkpointer, colour: Colour) -> None:
    graph = build(saver, ToolNode([Service().tool(colour)]))
    start(graph, colour=colour)
    worker = Worker(graph, saver.ledger)
    assert (asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()) == []
    assert the_one(saver.ledger).state == "pending"
