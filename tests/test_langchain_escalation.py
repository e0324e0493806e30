"""`EscalationMiddleware`: an agent that is stuck or unsure, or a call that failed, is put to a person."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware, hook_config
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from hitl_graph.adapters.langchain import ApprovalMiddleware, EscalationMiddleware, OutputReviewMiddleware
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import EscalationError, InvalidDecisionError, LedgerMissingError
from hitl_graph.facts import Situation, facts_of
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.stuck import Budget, LowConfidence
from hitl_graph.testing import ScriptedChatModel, tool_call
from tests.databases import open_checkpointer
from tests.escalation_agents import is_valid_history
from tests.reviews import Colour, Desk

Script = Sequence[Any] | Callable[[list[Any]], Any]
GUIDANCE = "stepped in, and says"


@pytest.fixture
def checkpointer(db_path: str) -> Iterator[Checkpointer]:
    with open_checkpointer(db_path) as checkpointer:
        yield checkpointer
        assert checkpointer.ledger.verify_audit().ok


class Service:
    """A tool that may be down, and what it was called with."""

    def __init__(self, *down: str) -> None:
        self.down, self.calls = set(down), list[str]()

    def tool(self) -> BaseTool:
        def look(q: str) -> str:
            """Look something up."""
            self.calls.append(q)
            if q in self.down:
                raise ConnectionError(f"{q} does not answer")
            return f"nothing found for {q}"

        return StructuredTool.from_function(look)


def agent(
    checkpointer: Any,
    script: Script,
    *middleware: AgentMiddleware[Any, Any, Any],
    service: Service | None = None,
    colour: Colour = "sync",
    **more: Any,
) -> Desk:
    """An agent with this model and the service, and its people."""
    tools = [(service or Service()).tool()]
    model = ScriptedChatModel(script, strict=True)
    graph = create_agent(
        model, tools, middleware=middleware or [EscalationMiddleware()], checkpointer=checkpointer, **more
    )
    desk = (
        Desk(graph.builder, checkpointer, colour) if checkpointer.__class__ is not InMemorySaver else Desk.__new__(Desk)
    )
    desk.graph, desk.colour, desk.config = graph, colour, {"configurable": {"thread_id": "t"}}
    return desk


def repeating(messages: list[Any]) -> Any:
    """Does the same again until somebody steps in."""
    told = [message.text for message in messages if GUIDANCE in message.text]
    return "I did as I was told" if told else [tool_call("look", q="x")]


def texts(desk: Desk) -> list[str]:
    return [message.text for message in desk.state["messages"]]


def situation(desk: Desk) -> Situation:
    facts = facts_of(desk.asked)
    assert isinstance(facts, Situation)
    return facts


# --- stuck -----------------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_an_agent_that_repeats_itself_asks_and_is_guided(checkpointer: Checkpointer, colour: Colour) -> None:
    service = Service()
    desk = agent(checkpointer, repeating, service=service, colour=colour)
    desk.start()
    assert (desk.asked.kind, len(service.calls)) == ("escalation", 3)
    assert situation(desk).findings[0].sentence.startswith("The agent did the same 3 times, look(")
    assert situation(desk).since is not None
    assert desk.answer(respond("look elsewhere")) == "finished"
    assert (texts(desk)[-1], len(service.calls)) == ("I did as I was told", 3)  # nothing ran again
    assert is_valid_history(desk.state["messages"])


def test_a_run_that_gets_on_is_left_alone(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, [[tool_call("look", q="x")], [tool_call("look", q="y")], "done"], colour=colour)
    desk.start()
    assert (desk.ledger.history("t"), texts(desk)[-1]) == ([], "done")


def test_approve_carries_on_with_patience_restored(checkpointer: Checkpointer, colour: Colour) -> None:
    service = Service()
    desk = agent(checkpointer, repeating, service=service, colour=colour)
    desk.start()
    assert desk.answer(approve()) == "paused"
    assert len(service.calls) > 2 * 3
    assert desk.answer(reject("enough")) == "finished"
    assert texts(desk)[-1] == "This run was stopped by a person: enough"
    assert is_valid_history(desk.state["messages"])


def test_edit_changes_the_state_but_never_where_the_agent_goes(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, repeating, EscalationMiddleware(editable=["messages", "jump_to"]), colour=colour)
    desk.start()
    assert set(cast(Any, desk.asked.answer_schema)["properties"]) == {"messages"}
    with pytest.raises(InvalidDecisionError):
        desk.decide(edit({"jump_to": "tools"}))
    said = {"role": "user", "content": f"Somebody {GUIDANCE}: stop"}
    assert desk.answer(edit({"messages": [said]})) == "finished"
    assert texts(desk)[-2:] == [said["content"], "I did as I was told"]


def test_a_budget_asks_before_the_next_call_and_not_when_the_agent_is_done(checkpointer: Checkpointer) -> None:
    script = [[tool_call("look", q="a")], [tool_call("look", q="b")], [tool_call("look", q="c")], "done"]
    desk = agent(checkpointer, script, EscalationMiddleware(detectors=[Budget(steps=2)]))
    desk.start()
    assert desk.asked.reason == "budget"
    assert desk.answer(approve()) == "finished"  # with the fourth step, at which the budget is spent again
    assert texts(desk)[-1] == "done"


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EscalationError):
        EscalationMiddleware(allowed=["perhaps"])  # type: ignore[list-item]
    with pytest.raises(EscalationError):
        EscalationMiddleware(editable="messages")
    with pytest.raises(LedgerMissingError, match="EscalationMiddleware"):
        create_agent(ScriptedChatModel(["x"]), [], middleware=[EscalationMiddleware()]).invoke(
            {"messages": [HumanMessage("x")]}
        )


def test_two_in_one_agent_have_two_names(checkpointer: Checkpointer) -> None:
    budget = EscalationMiddleware(detectors=[Budget(steps=1)], name="budget")
    desk = agent(checkpointer, repeating, EscalationMiddleware(), budget)
    desk.start()
    assert desk.asked.reason == "budget"
    with pytest.raises(AssertionError, match="duplicate"):
        agent(checkpointer, repeating, EscalationMiddleware(), EscalationMiddleware())


# --- unsure ----------------------------------------------------------------------------------------------------------


def doubtful(messages: list[Any]) -> Any:
    return "certainly" if GUIDANCE in messages[-1].text else AIMessage("perhaps", additional_kwargs={"confidence": 0.2})


@pytest.mark.parametrize(
    ("decision", "last"),
    [(approve(), "perhaps"), (respond("be sure"), "certainly"), (reject(), "This run was stopped by a person.")],
    ids=["approve", "respond", "reject"],
)
def test_a_doubtful_answer_is_asked_about_before_the_agent_ends(
    checkpointer: Checkpointer, decision: Decision, last: str, colour: Colour
) -> None:
    desk = agent(checkpointer, doubtful, EscalationMiddleware(detectors=[LowConfidence()]), colour=colour)
    desk.start()
    assert desk.asked.reason == "low confidence"
    assert desk.answer(decision) == "finished"
    assert texts(desk)[-1] == last


# --- what failed -----------------------------------------------------------------------------------------------------


def failing(down: list[Any]) -> Callable[[list[Any]], Any]:
    def script(messages: list[Any]) -> Any:
        return TimeoutError("too slow") if down else f"answered {len(messages)}"

    return script


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (approve(), ["write", "answered 1"]),
        (respond("shorter"), ["write", GUIDANCE, "answered 2"]),
        (edit({"messages": [{"role": "user", "content": "shorter"}]}), ["write", "shorter", "answered 2"]),
        (reject("no"), ["write", "This run was stopped by a person: no"]),
    ],
    ids=["approve", "respond", "edit", "reject"],
)
def test_a_model_that_fails(checkpointer: Checkpointer, decision: Decision, said: list[str], colour: Colour) -> None:
    down: list[Any] = [True]
    desk = agent(checkpointer, failing(down), colour=colour)
    desk.start()
    assert desk.asked.reason == "TimeoutError in model"
    assert situation(desk).failure is not None
    assert desk.answer(approve()) == "paused"  # it fails again, and is asked again
    down.clear()
    assert desk.answer(decision) == "finished"
    assert all(expected in text for expected, text in zip(said, texts(desk), strict=True))


def look_for_two(messages: list[Any]) -> Any:
    if isinstance(messages[-1], HumanMessage) and GUIDANCE in messages[-1].text:
        return "guided"
    if isinstance(messages[-1], HumanMessage) and "make this call again" in messages[-1].text:
        return [tool_call("look", q="x")]
    if isinstance(messages[-1], ToolMessage):
        return "done"
    return [tool_call("look", q="x"), tool_call("look", q="y")]


@pytest.mark.parametrize(
    ("decision", "calls", "last"),
    [
        (approve(), ["x", "x", "y"], "done"),
        (respond("leave it"), ["x", "y"], "guided"),
        (edit({"messages": [{"role": "user", "content": f"A person {GUIDANCE}: leave it"}]}), ["x", "y"], "guided"),
        (reject("no"), ["x", "y"], "This run was stopped by a person: no"),
    ],
    ids=["approve", "respond", "edit", "reject"],
)
def test_a_tool_that_fails_beside_one_that_does_not(
    checkpointer: Checkpointer, decision: Decision, calls: list[str], last: str, colour: Colour
) -> None:
    service = Service("x")
    desk = agent(checkpointer, look_for_two, service=service, colour=colour)
    desk.start()
    assert desk.asked.reason == "ConnectionError in look"
    assert situation(desk).findings[0].tried == ('look({"q": "x"})',)
    service.down.clear()
    assert desk.answer(decision) == "finished"
    assert (sorted(service.calls), texts(desk)[-1]) == (calls, last)
    assert is_valid_history(desk.state["messages"])
    assert len(desk.ledger.history("t")) == 1


def test_several_failures_of_one_step_are_one_question(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, look_for_two, service=Service("x", "y"), colour=colour)
    desk.start()
    failure = situation(desk).failure
    assert failure is not None
    assert (failure.node, "x does not answer" in failure.message, "y does not answer" in failure.message) == (
        "look",
        True,
        True,
    )


class Loops(AgentMiddleware[Any, Any, Any]):
    """Goes to the beginning of the loop once, after whatever stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1

    @hook_config(can_jump_to=["model"])
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        if any(isinstance(message, ToolMessage) for message in state["messages"]) and self.left:
            self.left -= 1
            return {"jump_to": "model"}
        return None


def test_a_failure_is_asked_about_once_however_often_the_loop_comes_by(checkpointer: Checkpointer) -> None:
    said = {"role": "user", "content": GUIDANCE}
    loops = Loops()
    desk = agent(checkpointer, look_for_two, EscalationMiddleware(), loops, service=Service("x"))
    desk.start()
    assert desk.answer(edit({"messages": [said]})) == "finished"
    assert (loops.left, len(desk.ledger.history("t"))) == (0, 1)


def test_without_failures_an_error_ends_the_run_as_ever(checkpointer: Checkpointer) -> None:
    desk = agent(checkpointer, failing([True]), EscalationMiddleware(failures=False))
    with pytest.raises(TimeoutError):
        desk.start()


def test_people_are_asked_when_the_retries_have_failed(checkpointer: Checkpointer) -> None:
    called: list[int] = []

    def script(messages: list[Any]) -> Any:
        called.append(len(messages))
        return TimeoutError("too slow")

    retry = ModelRetryMiddleware(max_retries=2, on_failure="error", initial_delay=0.0, jitter=False)
    desk = agent(checkpointer, script, EscalationMiddleware(), retry)
    desk.start()
    assert (len(called), desk.asked.reason) == (3, "TimeoutError in model")


def test_questions_of_tools_and_our_own_errors_are_no_failures(checkpointer: Checkpointer, colour: Colour) -> None:
    @tool
    def ask() -> str:
        """Ask."""
        return f"it is {interrupt('what?')}"

    model = ScriptedChatModel([[tool_call("ask")], "done"], strict=True)
    graph = create_agent(model, [ask], middleware=[EscalationMiddleware()], checkpointer=checkpointer)
    desk = Desk(graph.builder, checkpointer, colour)
    desk.graph = graph
    desk.start()
    [waiting] = graph.get_state(desk.config).interrupts
    assert waiting.value == "what?"
    desk.go(Command(resume={waiting.id: "blue"}))
    assert (texts(desk)[-2:], desk.ledger.history("t")[0].kind) == (["it is blue", "done"], "question")


def test_what_ran_before_the_question_does_not_run_again(checkpointer: Checkpointer, colour: Colour) -> None:
    model = ScriptedChatModel(repeating, strict=True)
    service = Service()
    graph = create_agent(model, [service.tool()], middleware=[EscalationMiddleware()], checkpointer=checkpointer)
    desk = Desk(graph.builder, checkpointer, colour)
    desk.graph = graph
    desk.start()
    before = len(model.calls)
    desk.go()  # a run that goes on without an answer asks again, and nothing else
    desk.answer(respond("look elsewhere"))
    assert (before, len(model.calls), len(service.calls)) == (3, 4, 3)


# --- with others -----------------------------------------------------------------------------------------------------


def test_beside_a_foreign_checkpointer(tmp_path: Path, colour: Colour) -> None:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        desk = agent(InMemorySaver(), repeating, EscalationMiddleware(ledger=ledger), colour=colour)
        desk.ledger, desk.inbox = ledger, Inbox(ledger)
        desk.start()
        assert desk.answer(respond("look elsewhere")) == "finished"
        assert [request.state for request in ledger.history("t")] == ["delivered"]


def test_in_a_subgraph_of_another_graph(checkpointer: Checkpointer, colour: Colour) -> None:
    inner = create_agent(ScriptedChatModel(repeating), [Service().tool()], middleware=[EscalationMiddleware()])
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    desk = Desk(builder, checkpointer, colour)
    desk.start()
    assert desk.answer(respond("look elsewhere")) == "finished"
    assert texts(desk)[-1] == "I did as I was told"


def delegating(messages: list[Any]) -> Any:
    """A deep agent with two subagents at once, both of which repeat themselves."""
    told = next((message.text for message in messages if GUIDANCE in message.text), None)
    if str(messages[1 if len(messages) > 1 else 0].text).startswith("task"):
        return f"{messages[1].text}: {told.splitlines()[1]}" if told else [tool_call("look", q=messages[1].text)]
    if isinstance(messages[-1], ToolMessage):
        return " and ".join(sorted(message.text for message in messages if isinstance(message, ToolMessage)))
    return [tool_call("task", description=f"task {n}", subagent_type="helper") for n in (1, 2)]


@pytest.mark.parametrize("place", ["own", "foreign"])
def test_parallel_subagents_of_a_deep_agent_ask_each_for_itself(db_path: str, place: str, colour: Colour) -> None:
    with open_checkpointer(db_path) as own:
        ours = EscalationMiddleware(ledger=None if place == "own" else own.ledger)
        helper = {
            "name": "helper", "description": "helps", "system_prompt": "help", "tools": [Service().tool()],
            "middleware": [ours],
        }  # fmt: skip
        graph = create_deep_agent(
            model=ScriptedChatModel(delegating), subagents=[cast(Any, helper)],
            checkpointer=own if place == "own" else InMemorySaver(),
        )  # fmt: skip
        desk = Desk.__new__(Desk)
        desk.graph, desk.ledger, desk.inbox = cast(Any, graph), own.ledger, Inbox(own.ledger)
        desk.colour, desk.config = colour, {"configurable": {"thread_id": "t"}}
        desk.start()
        asked = desk.inbox.pending()
        assert [request.kind for request in asked] == ["escalation", "escalation"]
        for request in asked:
            task = next(n for n in "12" if f"task {n}" in str(request.question))
            desk.inbox.decide(request.id, respond(f"do {task}"), reviewer="alice")
        desk.work()
        assert texts(desk)[-1] == "task 1: do 1 and task 2: do 2"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_all_three_in_any_order(checkpointer: Checkpointer, order: tuple[int, ...], mode: Any, colour: Colour) -> None:
    out: list[str] = []
    service = Service("x")
    policy = Policy([Rule("look", "ask")])
    ours: list[AgentMiddleware[Any, Any, Any]] = [
        ApprovalMiddleware(policy=policy, interrupt_mode=mode),
        EscalationMiddleware(),
        OutputReviewMiddleware(delivery=out.append),
    ]
    script = [[tool_call("look", q="x")], "one", "two"]
    desk = agent(checkpointer, script, *(ours[n] for n in order), service=service, colour=colour)
    desk.start()
    assert (desk.asked.kind, service.calls) == ("approval", [])
    assert desk.answer(approve()) == "paused"
    assert (desk.asked.kind, desk.asked.reason, service.calls) == ("escalation", "ConnectionError in look", ["x"])
    assert desk.answer(respond("leave it")) == "paused"
    assert (desk.asked.kind, desk.asked.draft) == ("review", "one")
    assert desk.answer(respond("again")) == "paused"
    assert desk.answer(edit("mine")) == "finished"
    assert (out, texts(desk)[-1], service.calls) == (["mine"], "mine", ["x"])
    assert is_valid_history(desk.state["messages"])
    assert all(request.state == "delivered" for request in desk.ledger.history("t"))
