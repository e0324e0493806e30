"""What users test their agents with does what it says."""

import json
import pickle
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import interrupt

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.testing import FakeClock, FakeOpenAI, ScriptedChatModel, ScriptedReviewer, tool_call
from hitl_graph.worker import Worker

HELLO: list[BaseMessage] = [HumanMessage("hello")]
LONG = "a text that is longer than one piece of the stream"


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    result = chunks[0]
    for chunk in chunks[1:]:
        result += chunk
    return result


# The model


def test_tool_calls_get_unique_ids_unless_they_have_one() -> None:
    assert tool_call("pay", eur=1)["id"] != tool_call("pay", eur=1)["id"]
    assert tool_call("pay", id="mine", eur=1) == {"name": "pay", "args": {"eur": 1}, "id": "mine", "type": "tool_call"}
    assert tool_call("rename", name="x")["args"] == {"name": "x"}


async def ways(model: ScriptedChatModel, messages: list[BaseMessage]) -> list[AIMessage]:
    """The reply by each way to ask."""
    streamed = list(model.stream(messages))
    astreamed = [chunk async for chunk in model.astream(messages)]
    assert len(streamed) == len(astreamed) > 1
    return [
        model.invoke(messages),
        await model.ainvoke(messages),
        whole(streamed),
        whole(astreamed),
    ]


async def test_a_text_is_the_same_by_every_way() -> None:
    for reply in await ways(ScriptedChatModel([LONG]), HELLO):
        assert (reply.text, reply.tool_calls) == (LONG, [])


async def test_tool_calls_are_the_same_by_every_way() -> None:
    calls = [tool_call("pay", to="bob", eur=7, note=None), tool_call("look_up"), tool_call("pay", to='ü{["', eur=0)]
    for reply in await ways(ScriptedChatModel([calls]), HELLO):
        assert (reply.text, reply.tool_calls, reply.invalid_tool_calls) == ("", calls, [])


async def test_a_message_keeps_what_it_has_by_every_way() -> None:
    said = AIMessage(
        "I look",
        tool_calls=[tool_call("look_up", id="1")],
        invalid_tool_calls=[{"name": "pay", "args": "not JSON", "id": "2", "error": None, "type": "invalid_tool_call"}],
        usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        response_metadata={"finish_reason": "tool_calls"},
        additional_kwargs={"refusal": None},
    )
    for reply in await ways(ScriptedChatModel([said]), HELLO):
        assert reply.text == "I look"
        assert reply.tool_calls == said.tool_calls
        assert [(c["name"], c["args"], c["id"]) for c in reply.invalid_tool_calls] == [("pay", "not JSON", "2")]
        assert reply.usage_metadata == said.usage_metadata
        assert reply.response_metadata["finish_reason"] == "tool_calls"
        assert "refusal" in reply.additional_kwargs


def test_each_reply_is_a_message_of_its_own() -> None:
    said = AIMessage("same", id="mine")
    model = ScriptedChatModel(lambda messages: said)
    first, second = model.invoke(HELLO), model.invoke(HELLO)
    assert len({first.id, second.id, "mine"}) == 3
    first.additional_kwargs["changed"] = True
    assert "changed" not in second.additional_kwargs | said.additional_kwargs


def test_a_list_is_read_by_the_conversation_and_not_by_a_counter() -> None:
    model = ScriptedChatModel(["first", "second"])
    assert [model.invoke(HELLO).text for _ in range(3)] == ["first"] * 3
    later = [*HELLO, AIMessage("first"), HumanMessage("and then?")]
    assert model.invoke(later).text == ScriptedChatModel(["first", "second"]).invoke(later).text == "second"
    with pytest.raises(IndexError, match="the script has 2 replies; the conversation asks for number 3"):
        model.invoke([*later, AIMessage("second")])


def test_replies_may_be_functions_of_the_conversation() -> None:
    def echo(messages: list[BaseMessage]) -> str:
        return f"you said {messages[-1].text}"

    assert ScriptedChatModel(echo).invoke(HELLO).text == "you said hello"
    assert ScriptedChatModel([echo, "end"]).invoke(HELLO).text == "you said hello"
    assert ScriptedChatModel(lambda messages: [tool_call("pay", id="1")]).invoke(HELLO).tool_calls[0]["id"] == "1"


async def test_exceptions_are_raised_and_the_conversation_goes_on() -> None:
    broken: list[Exception] = [TimeoutError("too slow")]

    def script(messages: list[BaseMessage]) -> Any:
        return broken.pop() if broken else "fine"

    model = ScriptedChatModel(script)
    with pytest.raises(TimeoutError, match="too slow"):
        model.invoke(HELLO)
    assert model.invoke(HELLO).text == "fine"
    always = ScriptedChatModel([RuntimeError("down")])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="down"):
            await always.ainvoke(HELLO)
        with pytest.raises(RuntimeError, match="down"):
            list(always.stream(HELLO))


def test_it_knows_what_it_was_asked_and_which_tools_it_has() -> None:
    @tool
    def look_up(what: str) -> str:
        """Look something up."""
        return what

    class Answer(TypedDict):
        """An answer."""

        text: str

    def plain() -> None:
        """Nothing."""

    model = ScriptedChatModel(["one", "two"])
    described = {"type": "function", "function": {"name": "described", "parameters": {}}}
    bound = model.bind_tools([look_up, plain, Answer, described, {"name": "short", "parameters": {}}])
    messages = list(HELLO)
    bound.invoke(messages)
    messages.append(HumanMessage("changed afterwards"))
    assert [[m.text for m in asked] for asked in model.calls] == [["hello"]]
    assert isinstance(bound, ScriptedChatModel)
    assert bound.bound_tools == ["look_up", "plain", "Answer", "described", "short"]
    assert (model.bound_tools, bound.calls is model.calls) == ([], True)


def test_a_model_can_be_copied_and_pickled() -> None:
    model = ScriptedChatModel(["one"])
    model.invoke(HELLO)
    for other in (pickle.loads(pickle.dumps(model)), model.model_copy(deep=True)):
        assert other.invoke(HELLO).text == "one"


# A conversation across a restart, and its reviewer


def pay_graph(checkpointer: SqliteCheckpointer, paid: list[str], **model: Any) -> Any:
    @tool
    def pay(to: str, eur: int) -> str:
        """Send money."""
        paid.append(f"{to} {eur}")
        return f"paid {to}"

    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    calls = [tool_call("pay", to="ann", eur=1), tool_call("pay", to="bob", eur=2), tool_call("search", q="x")]
    scripted = ScriptedChatModel([calls, "all done"])

    def call_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [scripted.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", call_model)
    builder.add_node("tools", ApprovalNode([pay, search]))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


CONFIG: Any = {"configurable": {"thread_id": "1"}}


def start(checkpointer: SqliteCheckpointer, paid: list[str]) -> None:
    pay_graph(checkpointer, paid).invoke({"messages": [("user", "go")]}, CONFIG)


def finish(checkpointer: SqliteCheckpointer, paid: list[str]) -> list[str]:
    """Resume what is decided, and give what the tools said."""
    graph = pay_graph(checkpointer, paid)
    Worker(graph, checkpointer.ledger).run_once()
    return [m.text for m in graph.get_state(CONFIG).values["messages"] if isinstance(m, ToolMessage)]


def test_a_script_goes_on_in_the_next_process(db_path: str) -> None:
    paid: list[str] = []
    with SqliteCheckpointer(db_path) as first:
        start(first, paid)
        ScriptedReviewer(Inbox(first.ledger), {"*": approve()}).review_once()
    with SqliteCheckpointer(db_path) as second:
        assert finish(second, paid) == ["paid ann", "paid bob", "x"]
        assert pay_graph(second, paid).get_state(CONFIG).values["messages"][-1].text == "all done"
    assert sorted(paid) == ["ann 1", "bob 2"]


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_reviewer_answers_what_the_script_speaks_of(db_path: str, colour: str) -> None:
    def pay(request: Request) -> Any:
        assert request.action is not None
        args = request.action.args
        return None if args["to"] == "bob" else edit({**args, "eur": 100})

    paid: list[str] = []
    with SqliteCheckpointer(db_path) as checkpointer:
        start(checkpointer, paid)
        inbox = Inbox(checkpointer.ledger)
        answers: Any = {"p?y": pay, "pay": reject("the first match counts"), "sea*": respond("not needed")}
        reviewer = ScriptedReviewer(inbox, answers, name="alice")
        decided = reviewer.review_once() if colour == "sync" else await reviewer.areview_once()
        assert sorted(request.action.name for request in decided if request.action) == ["pay", "search"]
        assert {(request.state, request.reviewer, request.channel) for request in decided} == {
            ("decided", "alice", "script")
        }
        assert (reviewer.review_once(), await reviewer.areview_once()) == ([], [])
        [left] = inbox.pending()
        assert left.action is not None
        assert left.action.args["to"] == "bob"
        ScriptedReviewer(inbox, {"*": reject("no")}).review_once()
        ann, bob, search = finish(checkpointer, paid)
    assert ann.startswith("paid ann\n\n[A person changed")
    assert ('They said: "no"' in bob, search, paid) == (True, "not needed", ["ann 100"])


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_reviewer_reads_page_after_page(db_path: str, colour: str) -> None:
    def ask(state: MessagesState) -> dict[str, list[str]]:
        return {"messages": [str(interrupt("well?"))]}

    with SqliteCheckpointer(db_path) as checkpointer:
        graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=checkpointer)
        for number in range(120):
            graph.invoke({"messages": []}, {"configurable": {"thread_id": str(number)}})
        inbox = Inbox(checkpointer.ledger)

        def every_third(request: Request) -> Any:
            return respond("yes") if int(request.thread_id) % 3 == 0 else None

        reviewer = ScriptedReviewer(inbox, {"question": every_third})
        decided = reviewer.review_once() if colour == "sync" else await reviewer.areview_once()
        assert sorted(int(request.thread_id) for request in decided) == list(range(0, 120, 3))
        assert len(inbox.pending(limit=1000)) == 80


def test_a_reviewer_whose_answer_does_not_fit_is_told(db_path: str) -> None:
    paid: list[str] = []
    with SqliteCheckpointer(db_path) as checkpointer:
        start(checkpointer, paid)
        inbox = Inbox(checkpointer.ledger)
        with pytest.raises(InvalidDecisionError, match="does not fit the arguments of pay"):
            ScriptedReviewer(inbox, {"pay": edit({"to": "ann"})}).review_once()
        assert len(inbox.pending()) == 3


# The clock


def test_the_clock_stands_still_until_it_is_told_to_move(db_path: str) -> None:
    clock = FakeClock()
    assert clock() == clock() == datetime(2030, 1, 1, 9, tzinfo=UTC)
    clock.advance(timedelta(hours=1, milliseconds=5))
    assert clock() == datetime(2030, 1, 1, 10, 0, 0, 5000, tzinfo=UTC)
    for wrong in (lambda: clock.advance(timedelta(seconds=-1)), lambda: FakeClock(datetime(2030, 1, 1))):  # noqa: DTZ001
        with pytest.raises(ValueError, match=r"time does not go back|needs an aware datetime"):
            wrong()
    with Ledger.open(db_path, clock=clock) as ledger:
        before = ledger.now_ms()
        clock.advance(timedelta(seconds=2))
        assert ledger.now_ms() - before == 2000


def test_the_ledger_dates_decisions_by_its_clock(db_path: str) -> None:
    clock = FakeClock(datetime(2031, 5, 1, 12, tzinfo=UTC))
    with SqliteCheckpointer(db_path) as checkpointer:
        start(checkpointer, [])
    with Ledger.open(db_path, clock=clock) as ledger:
        [first, *_] = Inbox(ledger).pending()
        decided = Inbox(ledger).decide(first.id, reject(), reviewer="alice")
    assert decided.decided_at == clock()


# The server


def post(fake: FakeOpenAI, body: Any, path: str = "/chat/completions") -> Any:
    data = json.dumps(body).encode()
    with urlopen(HttpRequest(fake.base_url + path, data, {"Content-Type": "application/json"}), timeout=10) as answer:
        return json.loads(answer.read())


def asked(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}, *messages]}


def test_the_server_answers_by_the_script_and_keeps_the_requests() -> None:
    with FakeOpenAI([[tool_call("pay", id="1", eur=1)], "paid"]) as fake:
        first = post(fake, asked())["choices"][0]
        assert (first["finish_reason"], first["message"]["content"]) == ("tool_calls", None)
        [call] = first["message"]["tool_calls"]
        assert (call["id"], call["function"]) == ("1", {"name": "pay", "arguments": '{"eur": 1}'})
        then = asked(first["message"], {"role": "tool", "tool_call_id": "1", "content": "ok"})
        second = post(fake, then)["choices"][0]
        assert (second["finish_reason"], second["message"]) == ("stop", {"role": "assistant", "content": "paid"})
        assert fake.requests == [asked(), then]


def refused(ask: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HTTPError) as error:
        ask()
    with error.value as answer:
        return answer.code, json.loads(answer.read())["error"]["message"]


def test_the_server_says_what_is_wrong() -> None:
    with FakeOpenAI(["once"], faults={0: "500"}) as fake:
        assert refused(lambda: post(fake, asked())) == (500, "the server had an error")
        assert post(fake, asked())["choices"][0]["message"]["content"] == "once"
        code, message = refused(lambda: post(fake, asked({"role": "assistant", "content": "once"})))
        assert (code, "the script has 1 replies" in message) == (400, True)
        assert refused(lambda: post(fake, asked(), "/embeddings"))[0] == 404
        assert refused(lambda: post(fake, ["no object"]))[0] == 400
        assert len(fake.requests) == 3


def test_the_server_ends_with_its_block_and_opens_nothing_before() -> None:
    with pytest.raises(RuntimeError, match="with FakeOpenAI"):
        _ = FakeOpenAI(["x"]).base_url
    with FakeOpenAI(["x"]) as fake:
        host, port = fake.base_url.removeprefix("http://").removesuffix("/v1").split(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=5)
