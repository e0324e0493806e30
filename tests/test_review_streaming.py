"""Nothing of a draft that was not delivered reaches the end user's stream."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.nodes import OutputReviewNode
from hitl_graph.nodes.checking import Judge
from hitl_graph.nodes.revisions import released
from hitl_graph.nodes.withholding import withheld
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel
from tests.reviews import Colour, Desk

FIRST, SECOND = "The first draft is full of secrets.", "The second draft is fine."
Writer = Any


def by_function(model: ScriptedChatModel) -> Writer:
    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    return write


def by_function_that_passes_its_config(model: ScriptedChatModel) -> Writer:
    def write(state: MessagesState, config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, Any]:
        assert runtime.stream_writer is not None
        return {"messages": model.invoke(state["messages"], config)}

    return write


def by_async_function(model: ScriptedChatModel) -> Writer:
    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return write


def by_command(model: ScriptedChatModel) -> Writer:
    def write(state: MessagesState) -> Command[Any]:
        return Command(update={"messages": [model.invoke(state["messages"])]})

    return write


def by_streaming(model: ScriptedChatModel) -> Writer:
    def write(state: MessagesState) -> dict[str, Any]:
        whole: Any = None
        for chunk in model.stream(state["messages"]):
            whole = chunk if whole is None else whole + chunk
        return {"messages": [AIMessage(whole.content)]}  # its id is another one, so that LangGraph takes it for new

    return write


def by_graph(model: ScriptedChatModel) -> Writer:
    inner = StateGraph(MessagesState)
    inner.add_node("inner", by_function(model))
    inner.add_edge(START, "inner")
    return inner.compile()


def by_chain(model: ScriptedChatModel) -> Writer:
    def take(state: Any) -> Any:
        return state["messages"]

    def give(message: BaseMessage) -> dict[str, Any]:
        return {"messages": [message]}

    return RunnableLambda(take) | model | RunnableLambda(give)


def by_object(model: ScriptedChatModel) -> Writer:
    class Write:
        def __call__(self, state: MessagesState) -> dict[str, Any]:
            return {"messages": [model.invoke(state["messages"])]}

    return Write()


def by_async_object(model: ScriptedChatModel) -> Writer:
    class Write:
        async def __call__(self, state: MessagesState) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"])]}

    return Write()


WRITERS = [by_object, by_function, by_function_that_passes_its_config, by_command, by_streaming, by_graph, by_chain]


@pytest.fixture
def checkpointer(db_path: str) -> Iterator[SqliteCheckpointer]:
    with SqliteCheckpointer(db_path) as opened:
        yield opened


class Chat(Desk):
    """A chat whose end user reads `messages`, and whose reviewers read `custom`, too."""

    def __init__(
        self, make: Any, checkpointer: SqliteCheckpointer, colour: Colour, *, to_reviewers: bool = False, **options: Any
    ) -> None:
        self.writer = withheld(make(ScriptedChatModel([FIRST, SECOND])), to_reviewers=to_reviewers)
        builder = StateGraph(MessagesState)
        builder.add_node("writer", self.writer)
        builder.add_node("review", OutputReviewNode(revise="writer", **options))
        builder.add_edge(START, "writer")
        builder.add_edge("writer", "review")
        super().__init__(builder, checkpointer, colour)

    def stream(self, input: Any, *, subgraphs: bool = False) -> dict[str, list[Any]]:
        async def aread() -> list[Any]:
            how: Any = {"stream_mode": ["messages", "custom"], "subgraphs": subgraphs}
            return [part async for part in self.graph.astream(input, self.config, **how)]

        how: Any = {"stream_mode": ["messages", "custom"], "subgraphs": subgraphs}
        parts = asyncio.run(aread()) if self.colour == "async" else list(self.graph.stream(input, self.config, **how))
        read: dict[str, list[Any]] = {"messages": [], "custom": []}
        for part in parts:
            mode, value = part[-2:]
            read[mode].append(value[0] if mode == "messages" else value)
        return read

    def resume(self, decision: Any, **how: Any) -> dict[str, list[Any]]:
        request = self.decide(decision)
        pointer = {"request_id": request.id, "digest": request.digest}
        return self.stream(Command(resume={request.interrupt_id: pointer}), **how)


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("make", [*WRITERS, by_async_function, by_async_object])
def test_the_end_user_sees_what_is_delivered_and_nothing_else(
    make: Any, subgraphs: bool, checkpointer: SqliteCheckpointer, colour: Colour
) -> None:
    if make in (by_async_function, by_async_object) and colour == "sync":
        return  # LangGraph has no way to run it
    chat = Chat(make, checkpointer, colour)
    first = chat.stream({"messages": [("user", "write")]}, subgraphs=subgraphs)
    assert first == {"messages": [], "custom": []}
    assert chat.asked.draft == FIRST
    second = chat.resume(respond("no secrets"), subgraphs=subgraphs)
    assert second == {"messages": [], "custom": []}  # not the reviewer's words either
    third = chat.resume(approve(), subgraphs=subgraphs)
    assert [(message.content, message.additional_kwargs) for message in third["messages"]] == [(SECOND, {})]
    assert [message.content for message in released(chat.state["messages"])] == ["write", SECOND]


@pytest.mark.parametrize("make", WRITERS)
def test_reviewers_can_read_along(make: Any, checkpointer: SqliteCheckpointer, colour: Colour) -> None:
    chat = Chat(make, checkpointer, colour, to_reviewers=True)
    read = chat.stream({"messages": [("user", "write")]})
    assert read["messages"] == []
    assert "".join(part["hitl_draft"]["text"] for part in read["custom"]) == FIRST
    assert len(read["custom"]) > 2  # as it was written, not in one piece
    assert len({part["hitl_draft"]["id"] for part in read["custom"]}) == 1


@pytest.mark.parametrize(
    ("decision", "text"), [(edit("mine"), "mine"), (reject("secret reason"), "(This answer was not released.)")]
)
def test_what_the_end_user_sees_of_other_answers(
    decision: Any, text: str, checkpointer: SqliteCheckpointer, colour: Colour
) -> None:
    chat = Chat(by_function, checkpointer, colour)
    chat.stream({"messages": [("user", "write")]})
    [message] = chat.resume(decision)["messages"]
    assert (message.content, message.additional_kwargs) == (text, {})


def test_a_draft_that_nobody_is_asked_about_is_streamed_once(checkpointer: SqliteCheckpointer, colour: Colour) -> None:
    chat = Chat(by_function, checkpointer, colour, policy=Policy([Rule("review", "allow")]))
    read = chat.stream({"messages": [("user", "write")]})
    assert [message.content for message in read["messages"]] == [FIRST]


def test_without_withheld_a_delivered_draft_is_not_streamed_again(
    checkpointer: SqliteCheckpointer, colour: Colour
) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("writer", by_function(ScriptedChatModel([FIRST])))
    builder.add_node("review", OutputReviewNode(revise="writer", policy=Policy([Rule("review", "allow")])))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "review")
    graph = builder.compile(checkpointer=checkpointer)
    config: Any = {"configurable": {"thread_id": "1"}}
    question: Any = {"messages": [("user", "write")]}
    parts: Any = graph.stream(question, config, stream_mode="messages")
    assert "".join(str(message.content) for message, _ in parts) == FIRST


def test_a_judge_thinks_in_silence(checkpointer: SqliteCheckpointer, colour: Colour) -> None:
    model = ScriptedChatModel(lambda messages: "OK" if "second" in messages[-1].text else "- secrets\n- long")
    judge = Judge(model, "Look for secrets.")
    chat = Chat(by_function, checkpointer, colour, checks=[judge], policy=Policy([Rule("review", "allow")]))
    assert chat.stream({"messages": [("user", "write")]}) == {"messages": [], "custom": []}
    review = chat.asked.review
    assert review is not None
    assert [(finding.check, finding.text) for finding in review.findings] == [("judge", "secrets"), ("judge", "long")]
    read = chat.resume(respond("no secrets"))
    assert [message.content for message in read["messages"]] == [SECOND]


def test_the_history_of_a_chat_is_not_taken_for_drafts(checkpointer: SqliteCheckpointer, colour: Colour) -> None:
    chat = Chat(by_graph, checkpointer, colour)  # a graph gives back all the messages that it got
    chat.stream({"messages": [("user", "hello"), AIMessage("hi", id="1"), ("user", "write")]})
    chat.resume(reject())
    kept = [message.content for message in released(chat.state["messages"])]
    assert kept == ["hello", "hi", "write", "(This answer was not released.)"]
