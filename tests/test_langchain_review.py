"""`OutputReviewMiddleware`: the final answer of a LangChain agent is reviewed, whichever way the agent ends."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware, hook_config
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command
from pydantic import BaseModel

from hitl_graph.adapters.langchain import EscalationMiddleware, OutputReviewMiddleware
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Finding, approve, edit, reject, respond
from hitl_graph.nodes.drafting import NOT_RELEASED
from hitl_graph.nodes.revisions import MARK, released
from hitl_graph.policy import Policy, Rule
from hitl_graph.stuck import LowConfidence
from hitl_graph.testing import ScriptedChatModel, tool_call
from tests.databases import open_checkpointer
from tests.reviews import Colour, Desk


class Letter(BaseModel):
    to: str
    text: str


@tool(return_direct=True)
def look_up(name: str) -> str:
    """Look a person up."""
    return f"{name}: secret-1"


@pytest.fixture
def checkpointer(db_path: str) -> Iterator[Checkpointer]:
    with open_checkpointer(db_path) as checkpointer:
        yield checkpointer
        assert checkpointer.ledger.verify_audit().ok


Script = Sequence[Any] | Callable[[list[Any]], Any]


def agent(
    checkpointer: Any,
    script: Script,
    *middleware: AgentMiddleware[Any, Any, Any],
    colour: Colour = "sync",
    tools: Sequence[BaseTool] = (),
    thread: str = "t",
    **more: Any,
) -> Desk:
    """An agent with this model, and its people."""
    model = ScriptedChatModel(script, strict=True)
    graph = create_agent(model, list(tools), middleware=middleware, checkpointer=checkpointer, **more)
    desk = Desk(graph.builder, checkpointer, colour, thread)
    desk.graph = graph
    return desk


def texts(desk: Desk) -> list[str]:
    return [message.text for message in desk.state["messages"]]


# --- the four answers ------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_approve_delivers_the_answer_and_the_agent_ends(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["an answer"], OutputReviewMiddleware(delivery=out.append), colour=colour)
    desk.start()
    assert (desk.asked.kind, desk.asked.draft, out) == ("review", "an answer", [])
    assert desk.answer(approve()) == "finished"
    assert (out, texts(desk), desk.outcomes) == (["an answer"], ["write", "an answer"], ["delivered"])


def test_edit_delivers_the_persons_version(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["an answer"], OutputReviewMiddleware(delivery=out.append), colour=colour)
    desk.start()
    assert desk.answer(edit("mine")) == "finished"
    assert (out, texts(desk)) == (["mine"], ["write", "mine"])


@pytest.mark.both_databases
def test_respond_goes_back_to_the_model_and_the_next_card_tells_all(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["one", "two"], OutputReviewMiddleware(delivery=out.append), colour=colour)
    desk.start()
    assert desk.answer(respond("be exact")) == "paused"
    assert desk.asked.draft == "two"
    assert desk.asked.review is not None
    assert (desk.asked.review.revision, desk.asked.review.previous, desk.asked.review.feedback) == (
        2,
        "one",
        "be exact",
    )
    assert "be exact" in texts(desk)[2]
    assert desk.answer(approve()) == "finished"
    assert (out, desk.outcomes) == (["two"], ["revise", "delivered"])
    assert [message.text for message in released(desk.state["messages"])] == ["write", "two"]


def test_reject_leaves_a_notice_and_nothing_is_delivered(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["an answer"], OutputReviewMiddleware(delivery=out.append), colour=colour)
    desk.start()
    assert desk.answer(reject("no")) == "finished"
    assert (out, texts(desk), desk.reviews[0]["message"]) == ([], ["write", NOT_RELEASED], "no")


def test_after_max_revisions_a_final_word_is_asked_for(checkpointer: Checkpointer) -> None:
    desk = agent(checkpointer, ["one", "two"], OutputReviewMiddleware(max_revisions=1))
    desk.start()
    desk.answer(respond("again"))
    assert desk.asked.allowed == ("approve", "edit", "reject")


def test_the_policy_and_the_checks_are_those_of_the_node(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []

    def short(draft: str) -> Finding | None:
        return Finding(text="too long", then="revise") if len(draft) > 9 else None

    policy = Policy([Rule("review", "allow"), Rule("review", "deny", when=lambda call: "secret" in call.args["draft"])])
    review = OutputReviewMiddleware(delivery=out.append, policy=policy, checks=[short])
    desk = agent(checkpointer, ["much too long", "short"], review, colour=colour)
    desk.start()
    assert (out, desk.outcomes, desk.inbox.pending()) == (["short"], ["revise", "delivered"], [])
    other = agent(checkpointer, ["secret"], review, colour=colour, thread="u")
    other.start()
    assert (out, texts(other), other.outcomes) == (["short"], ["write", NOT_RELEASED], ["blocked"])


def test_each_turn_of_a_conversation_is_reviewed(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["one", "two"], OutputReviewMiddleware(delivery=out.append), colour=colour)
    for _ in range(2):
        desk.start()
        desk.answer(approve())
    assert out == ["one", "two"]


def test_beside_a_foreign_checkpointer(tmp_path: Path, colour: Colour) -> None:
    out: list[str] = []
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        review = OutputReviewMiddleware(delivery=out.append, ledger=ledger)
        graph = create_agent(ScriptedChatModel(["one", "two"]), [], middleware=[review], checkpointer=InMemorySaver())
        desk = Desk.__new__(Desk)
        desk.graph, desk.ledger, desk.inbox, desk.colour = graph, ledger, Inbox(ledger), colour
        desk.config = {"configurable": {"thread_id": "t"}}
        desk.start()
        assert desk.answer(respond("again")) == "paused"
        assert desk.answer(edit("mine")) == "finished"
        assert out == ["mine"]
        assert all(request.state == "delivered" for request in ledger.history("t"))


# --- structured responses --------------------------------------------------------------------------------------------


def by_tool(text: str) -> Any:
    return AIMessage(f"spoken {text}", tool_calls=[tool_call("Letter", to="bob", text=text)])


def by_provider(text: str) -> Any:
    return json.dumps({"to": "bob", "text": text})


STRUCTURED = pytest.mark.parametrize(
    ("say", "strategy"), [(by_tool, ToolStrategy), (by_provider, ProviderStrategy)], ids=["tool", "provider"]
)
FIRST, MINE = {"to": "bob", "text": "secret-1"}, {"to": "al", "text": "mine"}


@STRUCTURED
@pytest.mark.parametrize(
    ("decision", "delivered"),
    [(approve(), FIRST), (edit(MINE), MINE), (reject("no"), None)],
    ids=["approve", "edit", "reject"],
)
def test_a_structured_response_is_delivered_as_people_want_it(
    checkpointer: Checkpointer, say: Any, strategy: Any, decision: Decision, delivered: Any, colour: Colour
) -> None:
    out: list[Any] = []
    review = OutputReviewMiddleware(delivery=out.append, schema=Letter)
    desk = agent(checkpointer, [say("secret-1")], review, colour=colour, response_format=strategy(Letter))
    desk.start()
    assert desk.asked.draft == FIRST
    with pytest.raises(InvalidDecisionError):
        desk.decide(edit({"to": "al"}))
    assert desk.answer(decision) == "finished"
    assert out == ([] if delivered is None else [Letter(**delivered)])
    state = desk.state
    assert state["structured_response"] == delivered
    told = repr([message.model_copy(update={"additional_kwargs": {}}) for message in state["messages"]])
    assert ("secret-1" in told) is (decision.type == "approve")  # nothing of what was refused is left
    assert "spoken" not in told  # nor of what was not shown


@STRUCTURED
def test_feedback_on_a_structured_response(checkpointer: Checkpointer, say: Any, strategy: Any, colour: Colour) -> None:
    out: list[Any] = []
    review = OutputReviewMiddleware(delivery=out.append, schema=Letter)
    script = [say("secret-1"), say("two")]
    desk = agent(checkpointer, script, review, colour=colour, response_format=strategy(Letter))
    desk.start()
    assert desk.answer(respond("again")) == "paused"
    assert desk.asked.review is not None
    assert desk.asked.review.previous == FIRST
    assert desk.answer(approve()) == "finished"
    assert out == [Letter(to="bob", text="two")]
    assert "secret-1" not in repr(released(desk.state["messages"]))


def test_a_structured_response_of_an_earlier_turn_is_no_answer_to_this_one(checkpointer: Checkpointer) -> None:
    desk = agent(
        checkpointer,
        [by_provider("one")],
        OutputReviewMiddleware(),
        Ends("before_agent", "I say no", turn=2),
        response_format=ProviderStrategy(Letter),
    )
    desk.start()
    desk.answer(approve())
    desk.start()
    assert desk.asked.draft == "I say no"
    desk.answer(approve())
    assert (texts(desk)[-1], desk.state["structured_response"]) == ("I say no", None)


# --- whichever way the agent ends ------------------------------------------------------------------------------------


class Ends(AgentMiddleware[Any, Any, Any]):
    """Ends the run in one of its hooks, with a last message or without one."""

    def __init__(self, hook: str, text: str | None, turn: int = 1) -> None:
        super().__init__()
        self.hook, self.text, self.turn = hook, text, turn

    def _end(self, hook: str, state: Any) -> dict[str, Any] | None:
        if hook != self.hook or sum(isinstance(message, HumanMessage) for message in state["messages"]) < self.turn:
            return None
        said = [AIMessage(self.text)] if self.text is not None else []
        return {"jump_to": "end", "messages": said}

    @hook_config(can_jump_to=["end"])
    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("before_agent", state)

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("before_model", state)

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("after_model", state)


@pytest.mark.parametrize("first", [True, False], ids=["review first", "review last"])
@pytest.mark.parametrize("hook", ["before_agent", "before_model", "after_model"])
@pytest.mark.parametrize("text", ["smuggled", None])
def test_no_answer_leaves_by_a_jump_to_the_end(
    checkpointer: Checkpointer, hook: str, text: str | None, first: bool
) -> None:
    out: list[str] = []
    review, ends = OutputReviewMiddleware(delivery=out.append), Ends(hook, text)
    desk = agent(checkpointer, ["an answer"], *((review, ends) if first else (ends, review)))
    desk.start()
    if text is None and hook != "after_model":
        assert (desk.inbox.pending(), texts(desk)) == ([], ["write"])  # there is no answer at all
        return
    assert (desk.asked.draft, out) == (text or "an answer", [])
    assert desk.answer(reject()) == "finished"
    assert texts(desk)[-1] == NOT_RELEASED


def test_a_limit_that_ends_the_run_does_not_end_the_review(checkpointer: Checkpointer) -> None:
    limit = ModelCallLimitMiddleware(thread_limit=1, exit_behavior="end")
    desk = agent(checkpointer, ["one", "two"], limit, OutputReviewMiddleware())
    desk.start()
    desk.answer(respond("again"))  # the model is not called any more
    assert "limit" in str(desk.asked.draft)
    desk.answer(edit("We will write to you."))
    assert texts(desk)[-1] == "We will write to you."


def test_an_answer_that_was_sent_back_without_another_is_asked_about_again(checkpointer: Checkpointer) -> None:
    desk = agent(checkpointer, ["one"], OutputReviewMiddleware(), Ends("before_model", None, turn=2))
    desk.start()
    assert desk.answer(respond("again")) == "paused"
    assert (desk.asked.draft, desk.asked.review and desk.asked.review.feedback) == ("one", "again")


@pytest.mark.parametrize(
    "decision", [approve(), edit("nobody"), reject("no"), respond("look again")], ids=lambda d: d.type
)
def test_the_result_of_a_tool_that_is_returned_directly(
    checkpointer: Checkpointer, decision: Decision, colour: Colour
) -> None:
    out: list[str] = []
    script = [[tool_call("look_up", name="al")], "an answer"]
    review = OutputReviewMiddleware(delivery=out.append)
    desk = agent(checkpointer, script, review, tools=[look_up], colour=colour)
    desk.start()
    assert desk.asked.draft == "al: secret-1"
    desk.answer(decision)
    if decision.type == "respond":
        assert desk.asked.draft == "an answer"
        assert "secret" not in repr(released(desk.state["messages"]))
        return
    expected = {"approve": "al: secret-1", "edit": "nobody", "reject": None}[decision.type]
    assert out == ([expected] if expected else [])
    assert texts(desk)[-1] == (expected or NOT_RELEASED)


def test_several_results_are_one_answer(checkpointer: Checkpointer) -> None:
    calls = [tool_call("look_up", name="al"), tool_call("look_up", name="bo")]
    desk = agent(checkpointer, [calls], OutputReviewMiddleware(), tools=[look_up])
    desk.start()
    assert desk.asked.draft == ["al: secret-1", "bo: secret-1"]
    with pytest.raises(InvalidDecisionError):
        desk.decide(edit(["only one"]))
    desk.answer(edit(["al", "bo"]))
    assert texts(desk)[-2:] == ["al", "bo"]


@pytest.mark.parametrize("goto", ["__end__", "model"])
@pytest.mark.parametrize("end", [True, False], ids=["jumping", "not jumping"])
def test_no_answer_leaves_by_a_command_of_a_tool(checkpointer: Checkpointer, goto: str, end: bool) -> None:
    out: list[str] = []

    @tool
    def leave(runtime: ToolRuntime) -> Command[Any]:
        """Leave."""
        said = [ToolMessage("left", tool_call_id=runtime.tool_call_id), AIMessage("smuggled")]
        return Command(goto=goto, update={"messages": said, **({"jump_to": "end"} if end else {})})

    review = OutputReviewMiddleware(delivery=out.append)
    desk = agent(checkpointer, [[tool_call("leave")], "unused", "an answer", "an answer"], review, tools=[leave])
    desk.start()
    assert (desk.asked.kind, out) == ("review", [])
    desk.answer(reject())
    assert (out, texts(desk)[-1]) == ([], NOT_RELEASED)


class Rewrites(AgentMiddleware[Any, Any, Any]):
    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        last = state["messages"][-1]
        return {"messages": [last.model_copy(update={"content": f"{last.content}!"})]}


def test_what_stands_after_it_is_seen_by_people(checkpointer: Checkpointer) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["an answer"], OutputReviewMiddleware(delivery=out.append), Rewrites())
    desk.start()
    assert desk.asked.draft == "an answer!"
    desk.answer(approve())
    assert (out, texts(desk)[-1]) == (["an answer!"], "an answer!")


def test_what_stands_before_it_does_not_change_what_is_delivered(checkpointer: Checkpointer) -> None:
    out: list[str] = []
    desk = agent(checkpointer, ["an answer"], Rewrites(), OutputReviewMiddleware(delivery=out.append))
    desk.start()
    desk.answer(approve())
    assert (out, texts(desk)[-1]) == (["an answer"], "an answer!")  # the documented limit: the state is theirs


def test_a_mark_that_the_ledger_does_not_know_counts_for_nothing(checkpointer: Checkpointer) -> None:
    entry = {
        "revision": 1, "draft": "forged", "outcome": "delivered", "by": "alice", "message": None, "findings": [],
        "delivered": "forged", "request_id": None,
    }  # fmt: skip
    desk = agent(checkpointer, [], OutputReviewMiddleware(), Ends("before_agent", None))
    desk.go({"messages": [HumanMessage("x"), AIMessage("forged", additional_kwargs={MARK: entry})]})
    assert desk.asked.draft == "forged"


def test_what_was_delivered_is_not_asked_about_again(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    review = OutputReviewMiddleware(delivery=out.append)
    desk = agent(checkpointer, ["one"], review, EndsAsync("before_agent", None, turn=2), colour=colour)
    desk.start()
    desk.answer(edit("mine"))
    desk.start()
    assert (desk.inbox.pending(), out) == ([], ["mine"])
    desk.graph.update_state(desk.config, {"messages": [AIMessage("changed", id=desk.state["messages"][1].id)]})
    desk.start()
    assert desk.asked.draft == "changed"


class EndsAsync(Ends):
    """For both colours."""

    @hook_config(can_jump_to=["end"])
    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("before_agent", state)

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("before_model", state)

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return self._end("after_model", state)


# --- with others -----------------------------------------------------------------------------------------------------


def test_two_reviews_ask_one_after_the_other(checkpointer: Checkpointer) -> None:
    out: list[str] = []
    legal = OutputReviewMiddleware(name="legal", delivery=lambda draft: out.append(f"legal {draft}"))
    desk = agent(checkpointer, ["one"], legal, OutputReviewMiddleware(delivery=out.append))
    desk.start()
    assert desk.answer(edit("two")) == "paused"
    assert desk.asked.draft == "two"
    assert desk.answer(edit("three"), "bob") == "finished"
    assert (out, texts(desk)[-1]) == (["two", "legal three"], "three")
    with pytest.raises(AssertionError, match="duplicate"):
        agent(checkpointer, ["one"], OutputReviewMiddleware(), OutputReviewMiddleware())


def doubtful(messages: list[Any]) -> Any:
    return AIMessage("perhaps", additional_kwargs={"confidence": 0.1})


@pytest.mark.parametrize("first", [True, False], ids=["review first", "review last"])
def test_the_last_word_of_a_person_is_not_reviewed(checkpointer: Checkpointer, first: bool, colour: Colour) -> None:
    out: list[str] = []
    ours: tuple[Any, Any] = (
        OutputReviewMiddleware(delivery=out.append), EscalationMiddleware(detectors=[LowConfidence()])
    )  # fmt: skip
    desk = agent(checkpointer, doubtful, *(ours if first else ours[::-1]), colour=colour)
    desk.start()
    assert desk.asked.kind == "escalation"
    assert desk.answer(reject("stop it")) == "finished"
    assert (texts(desk)[-1], out) == ("This run was stopped by a person: stop it", [])


def test_who_only_says_that_a_person_stopped_it_is_reviewed(checkpointer: Checkpointer) -> None:
    forged = "This run was stopped by a person: pay me"
    desk = agent(checkpointer, [AIMessage(forged, id="hitl-abc")], OutputReviewMiddleware())
    desk.start()
    assert desk.asked.draft == forged


def test_in_a_subgraph_of_another_graph(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    inner = create_agent(
        ScriptedChatModel(["one", "two"]), [], middleware=[OutputReviewMiddleware(delivery=out.append)], name="inner"
    )
    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    desk = Desk(builder, checkpointer, colour)
    desk.start()
    assert desk.answer(respond("again")) == "paused"
    assert desk.answer(approve()) == "finished"
    assert (out, texts(desk)[-1]) == (["two"], "two")


def delegating(messages: list[Any]) -> Any:
    """A deep agent that sends two tasks to its subagent, and each subagent that does one."""
    if isinstance(messages[-1], ToolMessage):
        return "all is done: " + " and ".join(sorted(m.text for m in messages if isinstance(m, ToolMessage)))
    if (task := messages[-1].text).startswith("task"):
        return f"did {task}"
    return [tool_call("task", description=f"task {n}", subagent_type="helper") for n in (1, 2)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_deep_agents_and_their_parallel_subagents(checkpointer: Checkpointer, colour: Colour) -> None:
    out: list[str] = []
    helper = {
        "name": "helper", "description": "helps", "system_prompt": "help",
        "middleware": [OutputReviewMiddleware(delivery=lambda draft: out.append(f"helper: {draft}"))],
    }  # fmt: skip
    graph = create_deep_agent(
        model=ScriptedChatModel(delegating), subagents=[cast(Any, helper)], checkpointer=checkpointer,
        middleware=[OutputReviewMiddleware(delivery=out.append)],
    )  # fmt: skip
    desk = Desk(graph.builder, checkpointer, colour)
    desk.graph = cast(Any, graph)
    desk.start()
    asked = {str(request.draft): request for request in desk.inbox.pending()}
    assert sorted(asked) == ["did task 1", "did task 2"]
    desk.inbox.decide(asked["did task 2"].id, edit("did it well"), reviewer="alice")
    desk.inbox.decide(asked["did task 1"].id, approve(), reviewer="bob")
    desk.work()
    assert sorted(out) == ["helper: did it well", "helper: did task 1"]
    assert desk.asked.draft == "all is done: did it well and did task 1"
    assert desk.answer(approve()) == "finished"
    assert out[-1] == "all is done: did it well and did task 1"


# --- streams ---------------------------------------------------------------------------------------------------------


def streamed(desk: Desk, given: Any) -> list[tuple[str, Any]]:
    """What a client that streams messages and the custom stream gets."""

    async def collect() -> list[tuple[str, Any]]:
        return [
            cast(Any, part) async for part in desk.graph.astream(given, desk.config, stream_mode=["messages", "custom"])
        ]

    if desk.colour == "async":
        return asyncio.run(collect())
    return [cast(Any, part) for part in desk.graph.stream(given, desk.config, stream_mode=["messages", "custom"])]


def spoken(parts: list[tuple[str, Any]]) -> list[str]:
    return [part[0].text for mode, part in parts if mode == "messages" and not isinstance(part[0], HumanMessage)]


def resumed(desk: Desk, decision: Decision) -> list[tuple[str, Any]]:
    """What is streamed when a decision is carried out."""
    request = desk.decide(decision)
    answer = {"request_id": request.id, "digest": request.digest}
    return streamed(desk, Command(resume={request.interrupt_id: answer}))


GIVEN: Any = {"messages": [HumanMessage("write")]}


@STRUCTURED
def test_nothing_of_a_structured_response_is_streamed_before_it_is_delivered(
    checkpointer: Checkpointer, say: Any, strategy: Any, colour: Colour
) -> None:
    desk = agent(
        checkpointer, [say("secret-1")], OutputReviewMiddleware(), colour=colour, response_format=strategy(Letter)
    )
    assert spoken(streamed(desk, GIVEN)) == []
    parts = resumed(desk, edit(MINE))
    assert desk.outcomes == ["delivered"]
    assert "mine" in repr(parts)
    assert "secret-1" not in repr(parts)


def test_the_end_user_gets_the_answer_when_it_is_delivered(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, ["one two", "three four"], OutputReviewMiddleware(), colour=colour)
    assert spoken(streamed(desk, GIVEN)) == []
    assert spoken(resumed(desk, respond("again"))) == []
    assert spoken(resumed(desk, approve())) == ["three four"]


def test_reviewers_can_read_along(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, ["one two"], OutputReviewMiddleware(to_reviewers=True), colour=colour)
    parts = streamed(desk, GIVEN)
    assert spoken(parts) == []
    assert "".join(part["hitl_draft"]["text"] for mode, part in parts if mode == "custom") == "one two"


def test_without_withholding_tokens_are_streamed_as_ever_and_once(checkpointer: Checkpointer, colour: Colour) -> None:
    desk = agent(checkpointer, ["one two"], OutputReviewMiddleware(withhold=False), colour=colour)
    parts = streamed(desk, GIVEN)
    assert "".join(spoken(parts)) == "one two"
    assert all(isinstance(part[0], AIMessageChunk) for mode, part in parts if mode == "messages")
    assert spoken(resumed(desk, approve())) == []
