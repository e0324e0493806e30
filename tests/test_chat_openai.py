"""`ChatOpenAI` over HTTP: the model of a real agent, with everything between it and the node as it is in production."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import openai
import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command
from pydantic import SecretStr

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import FakeOpenAI, tool_call
from hitl_graph.worker import Worker

Graph = CompiledStateGraph[Any, Any, Any, Any]
CONFIG: RunnableConfig = {"configurable": {"thread_id": "1"}}
SAID: Any = {"messages": [("user", "Pay what is due")]}


class Agent:
    """An agent on one SQLite file; `again` is the same one in another process, as far as it can tell."""

    def __init__(self, db: str, fake: FakeOpenAI, *, max_retries: int = 0, **options: Any) -> None:
        self.fake, self.paid = fake, Path(db).with_name("paid.txt")
        self.options = {"max_retries": max_retries, **options}
        self.db = db
        self.open()

    def open(self) -> None:
        @tool
        def pay(to: str, eur: int) -> str:
            """Send money."""
            with self.paid.open("a") as file:
                file.write(f"{to} {eur}\n")
            return f"paid {eur} to {to}"

        @tool
        def look_up(what: str) -> str:
            """Look something up."""
            return f"{what}: 7"

        self.checkpointer = SqliteCheckpointer(self.db)
        self.inbox = Inbox(self.checkpointer.ledger)
        chat = ChatOpenAI(model="gpt-test", base_url=self.fake.base_url, api_key=SecretStr("test"), **self.options)
        model = chat.bind_tools([pay, look_up])

        def call_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
            return {"messages": [model.invoke(state["messages"])]}

        async def acall_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
            return {"messages": [await model.ainvoke(state["messages"])]}

        policy = Policy([Rule("look_up", "allow"), Rule("pay", "ask")])
        builder = StateGraph(MessagesState)
        builder.add_node("agent", RunnableLambda(call_model, acall_model))
        builder.add_node("tools", ApprovalNode([pay, look_up], policy=policy))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        self.graph: Graph = builder.compile(checkpointer=self.checkpointer)
        self.worker = Worker(self.graph, self.checkpointer.ledger)

    def again(self) -> None:
        self.checkpointer.close()
        self.open()

    def payments(self) -> list[str]:
        return self.paid.read_text().splitlines() if self.paid.exists() else []

    def messages(self) -> list[BaseMessage]:
        return cast(list[BaseMessage], self.graph.get_state(CONFIG).values["messages"])

    def decide(self, **decisions: Decision) -> None:
        """Answer all that is pending, by who is to be paid."""
        pending = {str(request.action.args["to"]): request for request in self.inbox.pending() if request.action}
        assert pending.keys() == decisions.keys()
        for to, decision in decisions.items():
            self.inbox.decide(pending[to].id, decision, reviewer="alice", digest=pending[to].digest)


@pytest.fixture
def agent(db_path: str) -> Iterator[Callable[..., Agent]]:
    """Makes an agent with a script and faults for its model; closes everything afterwards."""
    opened: list[Agent] = []

    def make(script: Any, *, faults: Any = None, **options: Any) -> Agent:
        fake = FakeOpenAI(script, faults=faults)
        fake.__enter__()
        opened.append(Agent(db_path, fake, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.checkpointer.close()
        each.fake.__exit__()


def accepted_by_openai(body: dict[str, Any]) -> None:
    """The rules of chat completions: right after an assistant message, each of its calls is answered exactly once."""
    messages = body["messages"]
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        assert message["role"] != "tool", f"an answer to no call: {message}"
        wanted = [call["id"] for call in message.get("tool_calls") or []]
        for call in message.get("tool_calls") or []:
            assert call["type"] == "function"
            json.loads(call["function"]["arguments"])
        answers = messages[at : at + len(wanted)]
        assert [answer.get("tool_call_id") for answer in answers] == wanted
        assert all(answer["role"] == "tool" and isinstance(answer["content"], str) for answer in answers)
        at += len(wanted)
    ids = [call["id"] for message in messages for call in message.get("tool_calls") or []]
    assert len(ids) == len(set(ids))


def conversation(body: dict[str, Any]) -> list[str]:
    """Who said what: `user`, `assistant`, `assistant:2` (calls), `tool:call_id`."""
    said = []
    for message in body["messages"]:
        calls = message.get("tool_calls")
        extra = f":{len(calls)}" if calls else f":{message['tool_call_id']}" if message["role"] == "tool" else ""
        said.append(message["role"] + extra)
    return said


TURNS = [
    [tool_call("look_up", what="rent", id="call_1")],
    [tool_call("pay", to="bob", eur=7, id="call_2")],
    "Bob has his rent.",
]


def test_tool_calls(agent: Callable[..., Agent]) -> None:
    here = agent(TURNS)
    assert len(here.graph.invoke(SAID, CONFIG)["__interrupt__"]) == 1
    here.again()
    assert here.payments() == []
    here.decide(bob=approve())
    assert [result.status for result in here.worker.run_once()] == ["finished"]
    assert here.payments() == ["bob 7"]
    assert here.messages()[-1].text == "Bob has his rent."
    assert [conversation(body) for body in here.fake.requests][-1] == [
        *("user", "assistant:1", "tool:call_1", "assistant:1", "tool:call_2"),
    ]
    for body in here.fake.requests:
        accepted_by_openai(body)
        assert {tool["function"]["name"] for tool in body["tools"]} == {"pay", "look_up"}


FOUR = [
    [
        tool_call("pay", to="ann", eur=1, id="call_a"),
        tool_call("look_up", what="rent", id="call_b"),
        tool_call("pay", to="bob", eur=2, id="call_c"),
        tool_call("pay", to="cid", eur=3, id="call_d"),
        tool_call("pay", to="dora", eur=4, id="call_e"),
    ],
    "Done.",
]


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streamed"])
def test_parallel_tool_calls_each_get_their_own_answer(agent: Callable[..., Agent], streaming: bool) -> None:
    here = agent(FOUR, streaming=streaming)
    assert len(here.graph.invoke(SAID, CONFIG)["__interrupt__"]) == 4
    here.decide(ann=approve(), bob=edit({"to": "bob", "eur": 20}), cid=reject("too much"), dora=respond("Dora left"))
    here.again()
    assert [result.status for result in here.worker.run_once()] == ["finished"]
    assert sorted(here.payments()) == ["ann 1", "bob 20"]
    [first, last] = here.fake.requests
    assert bool(first.get("stream")) is streaming
    accepted_by_openai(last)
    answers = {m["tool_call_id"]: m["content"] for m in last["messages"] if m["role"] == "tool"}
    assert list(answers) == ["call_a", "call_b", "call_c", "call_d", "call_e"]
    assert (answers["call_a"], answers["call_b"], answers["call_e"]) == ("paid 1 to ann", "rent: 7", "Dora left")
    assert answers["call_c"].startswith("paid 20 to bob\n\n[A person changed this call")
    assert 'They said: "too much"' in answers["call_d"]


def test_one_of_several_is_decided_later(agent: Callable[..., Agent]) -> None:
    """The model is not asked again before every one of its calls has an answer."""
    here = agent(FOUR)
    here.graph.invoke(SAID, CONFIG)
    for left, request in zip((3, 2, 1, 0), here.inbox.pending(), strict=True):
        here.inbox.decide(request.id, approve(), reviewer="alice")
        assert len(here.fake.requests) == 1
        here.again()
        [result] = here.worker.run_once()
        assert (len(here.inbox.pending()), result.status) == (left, "paused" if left else "finished")
    assert sorted(here.payments()) == ["ann 1", "bob 2", "cid 3", "dora 4"]
    accepted_by_openai(here.fake.requests[-1])


def test_messages_stream_token_by_token(agent: Callable[..., Agent]) -> None:
    here = agent(TURNS)

    def streamed(given: Any) -> list[BaseMessage]:
        pairs: Any = here.graph.stream(given, CONFIG, stream_mode="messages")
        return [message for message, _ in pairs]

    before = streamed(SAID)
    whole = AIMessageChunk(content="")
    for message in before:
        if isinstance(message, AIMessageChunk) and message.id == before[-1].id:
            whole += message
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("pay", {"to": "bob", "eur": 7})]
    assert [message.content for message in before if isinstance(message, ToolMessage)] == ["rent: 7"]
    here.decide(bob=approve())
    [interrupt] = here.graph.get_state(CONFIG).interrupts
    [request] = here.inbox.ledger.history("1")
    after = streamed(Command(resume={interrupt.id: {"request_id": request.id, "digest": request.digest}}))
    assert [message.content for message in after if isinstance(message, ToolMessage)] == ["paid 7 to bob"]
    pieces = [message.text for message in after if isinstance(message, AIMessageChunk) and message.text]
    assert ("".join(pieces), len(pieces) > 1) == ("Bob has his rent.", True)
    assert here.payments() == ["bob 7"]
    assert [m.type for m in here.messages()] == ["human", "ai", "tool", "ai", "tool", "ai"]
    for body in here.fake.requests:
        assert body["stream"] is True
        accepted_by_openai(body)


async def test_messages_stream_under_asyncio(agent: Callable[..., Agent]) -> None:
    here = agent(TURNS)
    [*before] = [m async for m, _ in here.graph.astream(SAID, CONFIG, stream_mode="messages")]
    assert any(isinstance(message, AIMessageChunk) and message.tool_call_chunks for message in before)
    here.decide(bob=approve())
    [result] = await here.worker.arun_once()
    assert (result.status, here.payments()) == ("finished", ["bob 7"])
    for body in here.fake.requests:
        accepted_by_openai(body)


@pytest.mark.parametrize("fault", ["500", "cut"])
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("at", [0, 1, 2], ids=["first turn", "before the pause", "after the payment"])
def test_a_fault_fails_the_run_and_loses_nothing(
    agent: Callable[..., Agent], at: int, streaming: bool, fault: str
) -> None:
    here = agent(TURNS, faults={at: fault}, streaming=streaming)
    expected: Any = openai.InternalServerError if fault == "500" else Exception
    if at < 2:
        with pytest.raises(expected) as failure:
            here.graph.invoke(SAID, CONFIG)
        assert not isinstance(failure.value, AssertionError)
        here.again()
        here.graph.invoke(None, CONFIG)  # from where it was
        here.decide(bob=approve())
        [result] = here.worker.run_once()
    else:
        here.graph.invoke(SAID, CONFIG)
        here.decide(bob=approve())
        [result] = here.worker.run_once()
        assert (result.status, here.payments()) == ("failed", ["bob 7"])
        assert isinstance(result.error, expected)
        here.again()
        here.graph.invoke(None, CONFIG)
        assert here.worker.run_once() == []  # the decision was carried out; only the model's next turn was missing
    assert here.payments() == ["bob 7"]
    assert [m.type for m in here.messages()] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert len(here.fake.requests) == 4
    for body in here.fake.requests:
        accepted_by_openai(body)
    assert [request.state for request in here.inbox.ledger.history("1")] == ["delivered"]


@pytest.mark.parametrize("at", [0, 1, 2], ids=["first turn", "before the pause", "after the payment"])
def test_with_retries_nobody_notices_a_500(agent: Callable[..., Agent], at: int) -> None:
    here = agent(TURNS, faults={at: "500", at + 1: "500"}, max_retries=2)
    here.graph.invoke(SAID, CONFIG)
    here.decide(bob=approve())
    assert [result.status for result in here.worker.run_once()] == ["finished"]
    assert (here.payments(), len(here.fake.requests)) == (["bob 7"], 5)
    assert here.fake.requests[at] == here.fake.requests[at + 1] == here.fake.requests[at + 2]
    for body in here.fake.requests:
        accepted_by_openai(body)
