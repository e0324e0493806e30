"""Tool features keep working as in `ToolNode`: allowed at once, and after a person approved.

`same` runs the graph with both nodes and compares; what is asserted beyond that shows that the scene is not empty.
"""

import asyncio
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime, create_react_agent
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.store.base import BaseStore
from langgraph.types import Command, Send, interrupt
from langgraph.warnings import LangGraphDeprecatedSinceV10
from pydantic import BaseModel, Field

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.effects import idempotency_key, idempotent
from hitl_graph.errors import InvalidDecisionError, PermitError, PolicyError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, approve, edit, reject
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import Reply, ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.same_as_tool_node import Colour, Gate, Scene, State, call, coloured, same

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio.run of MCP's subprocesses


@pytest.fixture(params=["allowed", "asked"])
def gate(request: pytest.FixtureRequest) -> Gate:
    return cast(Gate, request.param)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return cast(Colour, request.param)


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


# --- what a tool may be, take and give ---------------------------------------------------------------------------


def test_plain_function(gate: Gate, colour: Colour, db_path: str) -> None:
    run = same(Scene(lambda: [add], [call("add", a=1, b=2)]), gate, colour, db_path)
    assert run.answers == ["3"]


def test_async_only_tool_under_ainvoke(gate: Gate, db_path: str) -> None:
    run = same(Scene(lambda: [tool(coloured("async", add))], [call("add", a=1)]), gate, "async", db_path)
    assert run.answers == ["2"]


def test_async_only_tool_under_invoke_fails_alike(gate: Gate, db_path: str) -> None:
    run = same(Scene(lambda: [tool(coloured("async", add))], [call("add", a=1)]), gate, "sync", db_path)
    assert run.error is not None
    assert run.error[0] == "NotImplementedError"


def test_parallel_calls_keep_their_order(gate: Gate, colour: Colour, db_path: str) -> None:
    async def slow_first(n: int) -> str:
        """Wait, the first one longest."""
        await asyncio.sleep(0.05 * (3 - n))
        return f"n{n}"

    def count(n: int) -> str:
        """Count."""
        return f"n{n}"

    tools = [StructuredTool.from_function(count, coroutine=slow_first)]
    run = same(Scene(lambda: tools, [call("count", f"c{n}", n=n) for n in range(4)]), gate, colour, db_path)
    assert run.answers == ["n0", "n1", "n2", "n3"]


def test_injected_state_whole(gate: Gate, colour: Colour, db_path: str) -> None:
    def who(q: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """Who asks?"""
        return f"{q} {state['user']} {len(state['messages'])} {state['messages'][0].content}"

    scene = Scene(lambda: [tool(coloured(colour, who))], [call("who", q="a")], given={"user": "ann"})
    assert same(scene, gate, colour, db_path).answers == ["a ann 2 go"]


def test_injected_state_by_key(gate: Gate, colour: Colour, db_path: str) -> None:
    def who(q: str, user: Annotated[str, InjectedState("user")]) -> str:
        """Who asks?"""
        return f"{q} {user}"

    calls = [call("who", q="a"), call("who", "c2", q="b", user="forged by the model")]
    run = same(Scene(lambda: [tool(coloured(colour, who))], calls, given={"user": "ann"}), gate, colour, db_path)
    assert run.answers == ["a ann", "b ann"]


def test_missing_injected_state_fails_alike(gate: Gate, colour: Colour, db_path: str) -> None:
    def who(user: Annotated[str, InjectedState("nobody")]) -> str:
        """Who asks?"""
        return user

    run = same(Scene(lambda: [tool(coloured(colour, who))], [call("who")]), gate, colour, db_path)
    assert run.error == ("KeyError", "'nobody'")


def test_injected_store(gate: Gate, colour: Colour, db_path: str) -> None:
    def remember(what: str, store: Annotated[BaseStore, InjectedStore()]) -> str:
        """Remember."""
        store.put(("notes",), what, {"text": what})
        return ",".join(sorted(item.key for item in store.search(("notes",))))

    run = same(Scene(lambda: [tool(coloured(colour, remember))], [call("remember", what="x")]), gate, colour, db_path)
    assert run.answers == ["x"]


@dataclass
class Context:
    tenant: str


def test_tool_runtime(gate: Gate, colour: Colour, db_path: str) -> None:
    def inspect_runtime(runtime: ToolRuntime[Context, Any]) -> str:
        """Look around."""
        assert runtime.store is not None
        runtime.store.put(("a",), "b", {"c": 1})
        runtime.stream_writer({"progress": runtime.tool_call_id})
        seen = [
            runtime.tool_call_id,
            runtime.context.tenant,
            runtime.state["user"],
            runtime.config["configurable"]["thread_id"],
            runtime.config["metadata"]["colour"],
            [each.name for each in runtime.tools],
            runtime.execution_info is not None,
            runtime.store.get(("a",), "b") is not None,
        ]
        return str(seen)

    scene = Scene(
        lambda: [tool(coloured(colour, inspect_runtime)), add],
        [call("inspect_runtime")],
        given={"user": "ann"},
        context=Context("acme"),
    )
    run = same(scene, gate, colour, db_path, metadata={"colour": "red"})
    assert run.answers == ["['c1', 'acme', 'ann', '1', 'red', ['inspect_runtime', 'add'], True, True]"]
    assert run.custom == [{"progress": "c1"}]


def test_config_and_tool_call_id_are_injected(gate: Gate, colour: Colour, db_path: str) -> None:
    def who(config: RunnableConfig, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Which call?"""
        return f"{tool_call_id} in {config['configurable']['thread_id']}"

    calls = [call("who", "c1"), call("who", "c2")]
    run = same(Scene(lambda: [tool(coloured(colour, who))], calls), gate, colour, db_path)
    assert run.answers == ["c1 in 1", "c2 in 1"]


def test_custom_events_are_streamed(gate: Gate, colour: Colour, db_path: str) -> None:
    def count(n: int) -> str:
        """Count."""
        write = get_stream_writer()
        for i in range(n):
            write({"n": i})
        return "counted"

    run = same(Scene(lambda: [count], [call("count", n=3)]), gate, colour, db_path)
    assert run.custom == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_artifacts_and_content_blocks(gate: Gate, colour: Colour, db_path: str) -> None:
    def draw(what: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Draw."""
        return [{"type": "text", "text": what}, {"type": "image_url", "image_url": "data:x"}], {"raw": [1, 2]}

    make = tool(response_format="content_and_artifact")
    run = same(Scene(lambda: [make(coloured(colour, draw))], [call("draw", what="cat")]), gate, colour, db_path)
    [message] = [message for message in run.messages() if message["type"] == "tool"]
    assert message["artifact"] == {"raw": [1, 2]}
    assert message["content"][0] == {"type": "text", "text": "cat"}


class Address(BaseModel):
    street: str
    number: int = Field(gt=0)


class Letter(BaseModel):
    """Send a letter."""

    to: Address
    copies: list[Address] = []
    colour: str | None = None


def test_args_schema_with_models_inside(gate: Gate, colour: Colour, db_path: str) -> None:
    def send(to: Address, copies: list[Address], colour: str | None) -> str:
        return f"{to!r} {copies!r} {colour!r}"

    tools = [StructuredTool.from_function(coloured(colour, send), name="send", args_schema=Letter)]
    if colour == "async":
        tools = [StructuredTool.from_function(None, coloured("async", send), name="send", args_schema=Letter)]
    to = {"street": "Elm", "number": "4"}
    run = same(Scene(lambda: tools, [call("send", to=to, copies=[to])]), gate, colour, db_path)
    assert run.answers == ["Address(street='Elm', number=4) [Address(street='Elm', number=4)] None"]


def test_tool_message_result_of_its_own(gate: Gate, colour: Colour, db_path: str) -> None:
    def say(tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Say."""
        return ToolMessage("hi", tool_call_id=tool_call_id, name="other", additional_kwargs={"k": 1}, status="error")

    assert same(Scene(lambda: [tool(coloured(colour, say))], [call("say")]), gate, colour, db_path).answers == ["hi"]


def test_return_direct_and_odd_results(gate: Gate, colour: Colour, db_path: str) -> None:
    def give(kind: str) -> Any:
        """Give something."""
        return {"none": None, "dict": {"ä": [1, None]}, "empty": "", "tuple": (1, 2), "object": Path("x")}[kind]

    calls = [call("give", kind, kind=kind) for kind in ("none", "dict", "empty", "tuple", "object")]
    same(Scene(lambda: [tool(return_direct=True)(coloured(colour, give))], calls), gate, colour, db_path)


# --- Command results ---------------------------------------------------------------------------------------------


def rename(user: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Rename the user."""
    return Command(update={"user": user, "messages": [ToolMessage(f"now {user}", tool_call_id=tool_call_id)]})


def leave(where: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Go somewhere else."""
    return Command(goto=where, update={"notes": [where], "messages": [ToolMessage("off", tool_call_id=tool_call_id)]})


def arrive(state: State) -> dict[str, Any]:
    return {"notes": ["arrived"]}


def test_command_updates_state(gate: Gate, colour: Colour, db_path: str) -> None:
    scene = Scene(lambda: [tool(coloured(colour, rename))], [call("rename", user="bob")], given={"user": "ann"})
    run = same(scene, gate, colour, db_path)
    assert run.values["user"] == "bob"
    assert run.answers == ["now bob"]


def test_command_and_message_side_by_side(gate: Gate, colour: Colour, db_path: str) -> None:
    calls = [call("add", "c1", a=1), call("rename", "c2", user="bob"), call("add", "c3", a=5)]
    run = same(Scene(lambda: [add, rename], calls), gate, colour, db_path)
    assert run.values["user"] == "bob"
    assert run.answers == ["2", "now bob", "6"]


def test_command_goto(gate: Gate, colour: Colour, db_path: str) -> None:
    scene = Scene(lambda: [leave], [call("leave", where="island")], extra=[("island", arrive)])
    assert same(scene, gate, colour, db_path).values["notes"] == ["island", "arrived"]


def test_command_to_the_parent_graph(gate: Gate, colour: Colour, db_path: str) -> None:
    def hand_over(what: str) -> Command[Any]:
        """Hand over to another agent."""
        return Command(graph=Command.PARENT, goto=[Send("island", {"notes": [what]})])

    def give_up(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand over and update."""
        said = [ToolMessage("given up", tool_call_id=tool_call_id)]
        return Command(graph=Command.PARENT, goto="island", update={"user": "bob", "messages": said})

    def island(state: State) -> dict[str, Any]:
        return {"notes": [f"arrived with {state.get('notes')}"]}

    calls = [call("hand_over", "c1", what="a"), call("hand_over", "c2", what="b")]
    for number, wanted in enumerate([calls, [call("give_up")]]):
        scene = Scene(lambda: [hand_over, give_up], wanted, wiring="subgraph", extra=[("island", island)])
        run = same(scene, gate, colour, f"{db_path}-{number}")
        assert run.values["notes"]


def test_list_results(gate: Gate, colour: Colour, db_path: str) -> None:
    def several(tool_call_id: Annotated[str, InjectedToolCallId]) -> list[Any]:
        """Give several things."""
        commands: list[Command[Any]] = [Command(update={"notes": ["n"]}), Command(update={"user": "bob"})]
        return [*commands, ToolMessage("three", tool_call_id=tool_call_id)]

    run = same(Scene(lambda: [tool(coloured(colour, several))], [call("several")]), gate, colour, db_path)
    assert (run.answers, run.values["notes"], run.values["user"]) == (["three"], ["n"], "bob")


def test_wrong_list_results_fail_alike(gate: Gate, colour: Colour, db_path: str) -> None:
    def several() -> list[Any]:
        """Give no terminating message."""
        return [Command(update={"notes": ["n"]})]

    run = same(Scene(lambda: [tool(coloured(colour, several))], [call("several")]), gate, colour, db_path)
    assert run.error is not None
    assert run.error[0] == "ValueError"


# --- errors ------------------------------------------------------------------------------------------------------


def fail(how: str) -> str:
    """Fail."""
    raise {"value": ValueError, "key": KeyError, "zero": ZeroDivisionError}[how](how)


def only_value_errors(error: ValueError) -> str:
    return f"sorry, {error}"


@pytest.mark.parametrize(
    "handling",
    [True, "my own words", only_value_errors, ValueError, (KeyError, ZeroDivisionError), False, None],
    ids=["True", "str", "callable", "type", "tuple", "False", "default"],
)
@pytest.mark.parametrize("how", ["value", "key"])
def test_handle_tool_errors(handling: Any, how: str, gate: Gate, colour: Colour, db_path: str) -> None:
    options = {} if handling is None else {"handle_tool_errors": handling}
    calls = [call("fail", how=how)]
    same(Scene(lambda: [tool(coloured(colour, fail))], calls, node=options), gate, colour, db_path)


def test_tool_that_handles_its_own_error(gate: Gate, colour: Colour, db_path: str) -> None:
    from langchain_core.tools import ToolException

    def refuse() -> str:
        """Refuse."""
        raise ToolException("no")

    def make() -> list[BaseTool]:
        made = tool(coloured(colour, refuse))
        made.handle_tool_error = "it said no"
        return [made]

    assert same(Scene(make, [call("refuse")]), gate, colour, db_path).answers == ["it said no"]


@pytest.mark.parametrize("handling", [None, True, "my own words", False], ids=str)
@pytest.mark.parametrize("args", [{"a": "no number"}, {}, {"a": 1, "b": [2]}], ids=["wrong", "missing", "list"])
def test_arguments_that_do_not_fit(handling: Any, args: dict[str, Any], colour: Colour, db_path: str) -> None:
    options = {} if handling is None else {"handle_tool_errors": handling}
    scene = Scene(lambda: [tool(coloured(colour, add))], [call("add", **args)], node=options)
    same(scene, "allowed", colour, db_path)


@pytest.mark.parametrize("handling", [None, True, "my own words", False], ids=str)
@pytest.mark.parametrize("args", [{"a": "no number"}, {}, {"a": 1, "b": [2]}], ids=["wrong", "missing", "list"])
def test_people_are_not_asked_about_arguments_that_do_not_fit(
    handling: Any, args: dict[str, Any], colour: Colour, db_path: str
) -> None:
    options = {} if handling is None else {"handle_tool_errors": handling}
    scene = Scene(lambda: [tool(coloured(colour, add))], [call("add", **args)], node=options)
    with SqliteCheckpointer(db_path) as checkpointer:
        asked = scene.run("asked", colour, checkpointer)
        assert checkpointer.ledger.history("1") == []
    with SqliteCheckpointer(f"{db_path}-plain") as checkpointer:
        plain = scene.run(None, colour, checkpointer)
    assert (asked.error, asked.error or asked.messages()) == (plain.error, plain.error or plain.messages())


def test_unknown_tool_name(colour: Colour, db_path: str) -> None:
    calls = [call("add", "c1", a=1), call("ad", "c2", a=1)]
    run = same(Scene(lambda: [add], calls), "allowed", colour, db_path)
    assert "ad is not a valid tool" in run.answers[1]
    asked = same(Scene(lambda: [add], calls), "asked", colour, f"{db_path}-asked")
    assert asked.pauses == 1


# --- the shapes of state and input -------------------------------------------------------------------------------


class PydanticState(BaseModel):
    messages: Annotated[list[Any], add_messages]
    user: str = "ann"
    notes: list[str] = []


@dataclass
class DataclassState:
    messages: Annotated[list[Any], add_messages]
    user: str = "ann"
    notes: list[str] = field(default_factory=list)


class ChatState(State, total=False):
    chat: Annotated[list[BaseMessage], add_messages]


def user_of(state: Annotated[Any, InjectedState], user: Annotated[str, InjectedState("user")]) -> str:
    """Whose is it?"""
    return f"{user} {type(state).__name__}"


@pytest.mark.parametrize("state", [State, PydanticState, DataclassState])
def test_state_of_any_type(state: Any, gate: Gate, colour: Colour, db_path: str) -> None:
    calls = [call("user_of"), call("rename", "c2", user="bob")]
    given = {"user": "ann", "notes": []}
    run = same(Scene(lambda: [user_of, rename], calls, state=state, given=given), gate, colour, db_path)
    assert run.answers[0].startswith("ann ")
    assert "now bob" in run.answers


def test_state_that_is_a_list_of_messages(gate: Gate, colour: Colour, db_path: str) -> None:
    def count(messages: Annotated[list[Any], InjectedState("messages")]) -> str:
        """How many?"""
        return str(len(messages))

    run = same(Scene(lambda: [add, count], [call("add", a=1), call("count", "c2")], state=list), gate, colour, db_path)
    assert run.answers == ["2", "2"]


def test_custom_messages_key(gate: Gate, colour: Colour, db_path: str) -> None:
    scene = Scene(lambda: [add], [call("add", a=1)], state=ChatState, messages_key="chat")
    run = same(scene, gate, colour, db_path, key="chat")
    assert [message["content"] for message in run.messages("chat")] == ["go", "", "2", "done"]


@pytest.mark.parametrize("wiring", ["send calls", "send with context", "subgraph"])
def test_calls_that_are_sent(wiring: Any, gate: Gate, colour: Colour, db_path: str) -> None:
    calls = [call("who", q="a"), call("add", "c2", a=1), call("rename", "c3", user="bob")]

    def who(q: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """Who asks?"""
        return f"{q} {state['user']} {len(state['messages'])}"

    scene = Scene(lambda: [who, add, rename], calls, wiring=wiring, given={"user": "ann"})
    run = same(scene, gate, colour, db_path)
    assert run.answers == ["a ann 2", "2", "now bob"]
    assert run.values["user"] == "bob"


def test_same_call_sent_twice_runs_twice(gate: Gate, colour: Colour, db_path: str) -> None:
    ran: list[int] = []

    def once(n: int) -> str:
        """Count runs."""
        ran.append(n)
        return str(n)

    scene = Scene(lambda: [once], [call("once", "same", n=1), call("once", "same", n=1)])
    with SqliteCheckpointer(db_path) as checkpointer:
        run = scene.run(gate, colour, checkpointer)
    assert ran == [1, 1]
    assert run.answers == ["1", "1"]


# --- wrappers, tags, callbacks -----------------------------------------------------------------------------------


def _wrapper(colour: Colour, wrap: Callable[..., Any]) -> dict[str, Any]:
    if colour == "sync":
        return {"wrap_tool_call": wrap}

    async def awrap(request: ToolCallRequest, execute: Callable[..., Any]) -> Any:
        pending: list[ToolCallRequest] = []
        answer = wrap(request, pending.append)
        if pending:
            given = await execute(pending[0])
            given.content += " (wrapped)"
            return given
        return answer

    return {"awrap_tool_call": awrap}


def test_wrap_tool_call(gate: Gate, colour: Colour, db_path: str) -> None:
    def wrap(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        result = execute(request)
        if result is not None:
            result.content += " (wrapped)"
        return result

    run = same(Scene(lambda: [add], [call("add", a=1)], node=_wrapper(colour, wrap)), gate, colour, db_path)
    assert run.answers == ["2 (wrapped)"]


def test_wrapper_that_answers_itself(gate: Gate, colour: Colour, db_path: str) -> None:
    def wrap(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        return ToolMessage("from the cache", tool_call_id=request.tool_call["id"], name=request.tool_call["name"])

    calls = [call("add", a=1), call("unknown", "c2", a=1)]
    run = same(Scene(lambda: [add], calls, node=_wrapper(colour, wrap)), gate, colour, db_path)
    assert run.answers == ["from the cache", "from the cache"]


def test_wrapper_that_brings_a_tool(gate: Gate, colour: Colour, db_path: str) -> None:
    def wrap(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        return execute(request.override(tool=tool(add)) if request.tool is None else request)

    def other() -> str:
        """Not called."""
        return ""

    run = same(Scene(lambda: [other], [call("add", a=1)], node={"wrap_tool_call": wrap}), gate, colour, db_path)
    assert run.answers == ["2"]


def test_wrapper_that_fails(gate: Gate, colour: Colour, db_path: str) -> None:
    def wrap(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        raise ValueError("from the wrapper")

    for number, handling in enumerate([True, False]):
        options = {"handle_tool_errors": handling, **_wrapper(colour, wrap)}
        same(Scene(lambda: [add], [call("add", a=1)], node=options), gate, colour, f"{db_path}-{number}")


def test_wrapper_cannot_change_what_was_permitted(gate: Gate, colour: Colour, db_path: str) -> None:
    ran: list[int] = []

    def pay(eur: int) -> str:
        """Pay."""
        ran.append(eur)
        return "paid"

    def override(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        return execute(request.override(tool_call={**request.tool_call, "args": {"eur": 1000}}))

    def mutate(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        request.tool_call["args"]["eur"] = 1000
        return execute(request)

    def exchange(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        return execute(request.override(tool=tool(add)))

    for number, wrap in enumerate([override, mutate, exchange]):
        with SqliteCheckpointer(f"{db_path}-{number}") as checkpointer:
            scene = Scene(lambda: [pay], [call("pay", eur=1)], node=_wrapper(colour, wrap))
            run = scene.run(gate, colour, checkpointer)
            assert run.error is not None
            assert run.error[0] == "PermitError"
            assert checkpointer.ledger.verify_audit().ok
    assert ran == []


def test_wrapper_runs_a_tool_again_only_if_it_is_idempotent(gate: Gate, colour: Colour, db_path: str) -> None:
    ran: list[str] = []

    def shaky() -> str:
        """Work the second time."""
        ran.append(idempotency_key())
        if len(ran) % 2:
            raise ConnectionError("the line broke after it was sent")
        return "done"

    def retry(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        try:
            return execute(request)
        except ConnectionError:
            return execute(request)

    async def aretry(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
        try:
            return await execute(request)
        except ConnectionError:
            return await execute(request)

    def run(name: str, make: Callable[[], Any]) -> Any:
        with SqliteCheckpointer(f"{db_path}-{name}") as checkpointer:
            options: dict[str, Any] = {"wrap_tool_call": retry, "awrap_tool_call": aretry}
            return Scene(lambda: [make()], [call("shaky")], node=options).run(gate, colour, checkpointer)

    once = run("once", lambda: tool(shaky))
    assert (len(ran), once.error[0]) == (1, "PermitError")
    assert "idempotent" in once.error[1]
    ran.clear()
    again = run("again", lambda: idempotent(tool(shaky)))
    assert again.answers == ["done"]
    assert len(ran) == 2
    assert len(set(ran)) == 1


class Tracer(BaseCallbackHandler):
    """What tracing sees of tools."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        meta = {key: (metadata or {}).get(key) for key in ("langgraph_step", "owner")}
        self.seen.append(("start", serialized["name"], inputs, parent_run_id is not None, sorted(tags or []), meta))

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.seen.append(("end", getattr(output, "content", output)))

    def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self.seen.append(("error", repr(error)))


def test_tracing_sees_the_tool_run(gate: Gate, colour: Colour, db_path: str) -> None:
    def make() -> list[BaseTool]:
        made = tool(coloured(colour, add))
        made.tags, made.metadata = ["sums"], {"owner": "ann"}
        return [made, tool(coloured(colour, fail))]

    traces: list[list[tuple[Any, ...]]] = []
    for choice in (None, gate):
        with SqliteCheckpointer(f"{db_path}-{choice}") as checkpointer:
            tracer = Tracer()
            options: dict[str, Any] = {"tags": ["node-tag"], "handle_tool_errors": True}
            scene = Scene(make, [call("add", a=1)], node=options)
            scene.run(choice, colour, checkpointer, callbacks=[tracer], tags=["run-tag"])
            failing = Scene(make, [call("fail", how="key")], node=options)
            configurable = {"thread_id": "2"}
            failing.run(choice, colour, checkpointer, callbacks=[tracer], configurable=configurable)
            traces.append(tracer.seen)
    assert traces[1] == traces[0]
    assert [event[0] for event in traces[1]] == ["start", "end", "start", "error"]
    assert "run-tag" in traces[1][0][4]


# --- tools that ask themselves -----------------------------------------------------------------------------------


def test_tool_with_a_question_of_its_own(gate: Gate, colour: Colour, db_path: str) -> None:
    def book(seat: str) -> str:
        """Book, after a question."""
        return f"{seat}: {interrupt({'window?': seat})}"

    run = same(Scene(lambda: [tool(coloured(colour, book))], [call("book", seat="1A")]), gate, colour, db_path)
    assert run.answers == ["1A: yes"]
    assert run.pauses == (1 if gate == "allowed" else 2)


def test_parallel_tools_with_questions_of_their_own_get_their_own_answers(
    gate: Gate, colour: Colour, db_path: str
) -> None:
    ran: list[str] = []

    def book(seat: str) -> str:
        """Book, after two questions."""
        first = interrupt(f"window {seat}?")
        return f"{seat}: {first}, {interrupt(f'meal {seat}?')}"

    def note(text: str) -> str:
        """Write down."""
        ran.append(text)
        return text

    class Answering(Scene):
        def _answer(self, asked: Any) -> Any:
            return f"re {asked}" if isinstance(asked, str) else super()._answer(asked)

    calls = [call("book", "c1", seat="1A"), call("note", "c2", text="x"), call("book", "c3", seat="2B")]
    with SqliteCheckpointer(db_path) as checkpointer:
        run = Answering(lambda: [book, note], calls).run(gate, colour, checkpointer)
    assert run.answers == ["1A: re window 1A?, re meal 1A?", "x", "2B: re window 2B?, re meal 2B?"]
    assert ran == ["x"]


def test_tool_that_runs_a_graph(gate: Gate, colour: Colour, db_path: str) -> None:
    def inner(state: State) -> dict[str, Any]:
        return {"notes": [interrupt("inner?")]}

    builder = StateGraph(State)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    graph = builder.compile()

    def delegate() -> str:
        """Delegate."""
        return str(graph.invoke({"notes": ["a"]})["notes"])

    async def adelegate() -> str:
        return str((await graph.ainvoke({"notes": ["a"]}))["notes"])

    tools = [StructuredTool.from_function(delegate, coroutine=adelegate)]
    assert same(Scene(lambda: tools, [call("delegate")]), gate, colour, db_path).answers == ["['a', 'yes']"]


# --- idempotency key ---------------------------------------------------------------------------------------------


def test_idempotency_key_in_tools(gate: Gate, colour: Colour, db_path: str) -> None:
    keys: list[str] = []

    def send(n: int) -> str:
        """Send."""
        keys.append(idempotency_key())
        return "sent"

    async def asend(n: int) -> str:
        await asyncio.sleep(0)
        return send(n)

    tools = [StructuredTool.from_function(send, coroutine=asend if colour == "async" else None)]
    with SqliteCheckpointer(db_path) as checkpointer:
        Scene(lambda: tools, [call("send", f"c{n}", n=n) for n in range(3)]).run(gate, colour, checkpointer)
        permits = {str(row["permit_id"]).partition("#")[0] for row in checkpointer.ledger.executed("1")}
    assert set(keys) == permits
    assert len(set(keys)) == 3


def test_sync_tool_sees_its_key_under_ainvoke(gate: Gate, db_path: str) -> None:
    def send() -> str:
        """Send."""
        return str(len(idempotency_key()))

    with SqliteCheckpointer(db_path) as checkpointer:
        assert Scene(lambda: [send], [call("send")]).run(gate, "async", checkpointer).answers == ["32"]


def test_no_key_outside_of_a_tool() -> None:
    with pytest.raises(RuntimeError, match="for tools"):
        idempotency_key()


# --- decisions ---------------------------------------------------------------------------------------------------


def _decided(decision: Decision, db_path: str, colour: Colour, rule: Rule, make: Callable[[], Any]) -> Any:
    """One call `pay(eur=10, to=bob)`, decided through inbox and worker; the final messages."""
    scene = Scene(lambda: [make()], [call("pay", eur=10, to="bob")])
    with SqliteCheckpointer(db_path) as checkpointer:
        node = ApprovalNode([make()], policy=Policy([rule]))
        graph = scene._outer(node).compile(checkpointer=checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": "1"}}
        graph.invoke({"messages": [HumanMessage("go")]}, config)
        [request] = Inbox(checkpointer.ledger).pending()
        Inbox(checkpointer.ledger).decide(request.id, decision, reviewer="ann")
        worker = Worker(graph, checkpointer.ledger)
        [resumed] = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
        assert resumed.status == "finished", resumed.error
        assert checkpointer.ledger.verify_audit().ok
        return graph.get_state(config).values["messages"]


def _pay(ran: list[tuple[Any, ...]]) -> Callable[[], BaseTool]:
    def pay(eur: int, to: str, memo: str | None = None) -> str:
        """Pay."""
        ran.append((eur, to, memo))
        return f"paid {eur} to {to}"

    return lambda: tool(pay)


def test_edited_call_runs_typed_and_the_model_is_told(colour: Colour, db_path: str) -> None:
    ran: list[tuple[Any, ...]] = []
    messages = _decided(edit({"eur": "12", "to": "eve"}), db_path, colour, Rule("pay", "ask"), _pay(ran))
    assert ran == [(12, "eve", None)]
    told = messages[2].content
    assert told.startswith("paid 12 to eve")
    assert "A person changed this call" in told
    assert '{"eur":12,"to":"eve"}' in told
    assert messages[1].tool_calls[0]["args"] == {"eur": 10, "to": "bob"}  # history is not rewritten


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"eur": "a lot", "to": "bob"}, "eur"),
        ({"eur": 1}, "to"),
        ({"eur": 1, "to": "bob", "from": "x"}, "from"),
        ({"eur": 1.5, "to": "bob"}, "eur"),
        ({"eur": 10, "to": "eve"}, "to may not be edited"),
        ({"eur": 10, "to": "bob", "memo": "x"}, "memo may not be edited"),
    ],
)
def test_bad_edit_is_refused_and_can_be_put_right(args: dict[str, Any], problem: str, db_path: str) -> None:
    ran: list[tuple[Any, ...]] = []
    policy = Policy([Rule("pay", "ask", editable=("eur",))])
    with SqliteCheckpointer(db_path) as checkpointer:
        scene = Scene(lambda: [], [call("pay", eur=10, to="bob")])
        graph = scene._outer(ApprovalNode([_pay(ran)()], policy=policy)).compile(checkpointer=checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": "1"}}
        graph.invoke({"messages": [HumanMessage("go")]}, config)
        inbox = Inbox(checkpointer.ledger)
        [request] = inbox.pending()
        with pytest.raises(InvalidDecisionError, match=problem):
            inbox.decide(request.id, edit(args), reviewer="ann")
        with pytest.raises(InvalidDecisionError, match=problem):  # also straight through LangGraph
            graph.invoke(Command(resume={request.interrupt_id: {"type": "edit", "args": args}}), config)
        assert ran == []
        inbox.decide(request.id, edit({"eur": 11, "to": "bob"}), reviewer="ann")
        [resumed] = Worker(graph, checkpointer.ledger).run_once()
    assert resumed.status == "finished"
    assert ran == [(11, "bob", None)]


def test_notice_goes_into_commands_and_blocks_too(colour: Colour, db_path: str) -> None:
    def blocks(eur: int, to: str) -> tuple[list[dict[str, Any]], None]:
        """Pay."""
        return [{"type": "text", "text": "paid"}], None

    def command(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Pay."""
        return Command(update={"messages": [ToolMessage("paid", tool_call_id=tool_call_id)]})

    for number, make in enumerate(
        [lambda: tool("pay", response_format="content_and_artifact")(blocks), lambda: tool("pay")(command)]
    ):
        path = f"{db_path}-{number}"
        messages = _decided(edit({"eur": 1, "to": "eve"}), path, colour, Rule("pay", "ask"), make)
        assert "A person changed this call" in str(messages[2].content)


def test_rejected_call_does_not_run(colour: Colour, db_path: str) -> None:
    ran: list[tuple[Any, ...]] = []
    messages = _decided(reject("too much"), db_path, colour, Rule("pay", "ask"), _pay(ran))
    assert ran == []
    assert messages[2].status == "error"
    assert "too much" in messages[2].content


def test_denied_call_does_not_run(colour: Colour, db_path: str) -> None:
    ran: list[tuple[Any, ...]] = []
    with SqliteCheckpointer(db_path) as checkpointer:
        node = ApprovalNode([_pay(ran)()], policy=Policy([Rule("pay", "deny", reason="never on Sundays")]))
        scene = Scene(lambda: [], [call("pay", eur=10, to="bob")])
        graph = scene._outer(node).compile(checkpointer=checkpointer)
        run = asyncio.run(scene._drive(graph, colour, {}))
    assert ran == []
    assert "never on Sundays" in run.answers[0]


def test_policy_that_names_no_tool_is_refused() -> None:
    with pytest.raises(PolicyError, match="did you mean 'add'"):
        ApprovalNode([add], policy=Policy([Rule("ad", "deny")]))


# --- MCP ---------------------------------------------------------------------------------------------------------

SERVER = """
    from mcp.server.fastmcp import FastMCP

    server = FastMCP("office", log_level="ERROR")

    @server.tool()
    def send_letter(to: str, pages: int = 1) -> str:
        '''Send a letter.'''
        if pages > 9:
            raise ValueError("too thick")
        with open(LOG, "a") as log:
            log.write(f"{to} {pages}\\n")
        return f"sent {pages} to {to}"

    @server.tool()
    def facts() -> dict[str, int]:
        '''Structured facts.'''
        return {"sent": 1}

    server.run("stdio")
"""


@pytest.fixture
def mcp_tools(tmp_path: Path) -> Callable[[], list[BaseTool]]:
    """Tools of a real MCP server, which runs as a process of its own."""
    script = tmp_path / "server.py"
    script.write_text(f"LOG = {str(tmp_path / 'letters')!r}\n{textwrap.dedent(SERVER)}")
    client = MultiServerMCPClient({"office": {"command": sys.executable, "args": [str(script)], "transport": "stdio"}})
    tools = asyncio.run(client.get_tools())
    return lambda: tools


def test_mcp_tools(mcp_tools: Callable[[], list[BaseTool]], gate: Gate, db_path: str) -> None:
    calls = [call("send_letter", to="ann"), call("facts", "c2"), call("send_letter", "c3", to="bob", pages=99)]
    run = same(Scene(mcp_tools, calls, node={"handle_tool_errors": True}), gate, "async", db_path)
    assert "sent 1 to ann" in run.answers[0]
    assert "too thick" in run.answers[2]


def test_mcp_tool_is_edited(mcp_tools: Callable[[], list[BaseTool]], tmp_path: Path, db_path: str) -> None:
    scene = Scene(mcp_tools, [call("send_letter", to="ann")])
    with SqliteCheckpointer(db_path) as checkpointer:
        graph = scene.build("asked", checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": "1"}}

        async def play() -> None:
            await graph.ainvoke({"messages": [HumanMessage("go")]}, config)
            [request] = await Inbox(checkpointer.ledger).apending()
            bad = edit({"to": "bob", "pages": "many"})
            with pytest.raises(InvalidDecisionError, match="pages"):
                await Inbox(checkpointer.ledger).adecide(request.id, bad, reviewer="ann")
            good = edit({"to": "bob", "pages": "2"})
            await Inbox(checkpointer.ledger).adecide(request.id, good, reviewer="ann")
            [resumed] = await Worker(graph, checkpointer.ledger).arun_once()
            assert resumed.status == "finished", resumed.error

        asyncio.run(play())
    assert (tmp_path / "letters").read_text() == "bob 2\n"


# --- in the field ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_create_react_agent(version: Any, gate: Gate, colour: Colour, db_path: str) -> None:
    results: list[list[str]] = []
    for choice in (None, gate):
        policy = Policy([Rule("*", "allow" if choice == "allowed" else "ask")])
        node = ToolNode([add]) if choice is None else ApprovalNode([add], policy=policy)
        script: list[Reply] = [[tool_call("add", a=1, id="c1"), tool_call("add", a=2, id="c2")], "done"]
        with SqliteCheckpointer(f"{db_path}-{choice}") as checkpointer:
            with pytest.warns(LangGraphDeprecatedSinceV10):
                agent = create_react_agent(ScriptedChatModel(script), node, checkpointer=checkpointer, version=version)
            config: RunnableConfig = {"configurable": {"thread_id": "1"}}
            given = {"messages": [HumanMessage("go")]}
            worker = Worker(agent, checkpointer.ledger)
            if colour == "async":
                asyncio.run(agent.ainvoke(given, config))
            else:
                agent.invoke(given, config)
            inbox = Inbox(checkpointer.ledger)
            pending = inbox.pending()
            assert len(pending) == (2 if choice == "asked" else 0)
            for request in pending:
                inbox.decide(request.id, approve(), reviewer="ann")
            _ = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
            results.append([str(message.content) for message in agent.get_state(config).values["messages"]])
    assert results[1] == results[0] == ["go", "", "2", "3", "done"]


def test_with_a_foreign_checkpointer(gate: Gate, colour: Colour, db_path: str) -> None:
    scene = Scene(lambda: [add, rename], [call("add", a=1), call("rename", "c2", user="bob")])
    with Ledger.open(db_path) as ledger:
        policy = Policy([Rule("*", "allow" if gate == "allowed" else "ask")])
        node = ApprovalNode([add, rename], policy=policy, ledger=ledger)
        graph = scene._outer(node).compile(checkpointer=InMemorySaver())
        run = asyncio.run(scene._drive(graph, colour, {}))
        assert ledger.verify_audit().ok
        states = {request.state for request in ledger.history("1")}
    assert run.answers == ["2", "now bob"]
    assert states == (set() if gate == "allowed" else {"delivered"})


def test_it_is_a_tool_node() -> None:
    node = ApprovalNode([add], name="hands", tags=["t"])
    assert isinstance(node, ToolNode)
    assert (node.name, node.tags) == ("hands", ToolNode([add], tags=["t"]).tags)
    assert isinstance(PermitError("x"), Exception)


def test_arguments_that_are_not_json_are_answered(colour: Colour, db_path: str) -> None:
    broken = [{"name": "add", "args": '{"a": ', "id": "c9", "error": None, "type": "invalid_tool_call"}]
    scene = Scene(
        lambda: [add],
        [call("add", a=1)],
        message=lambda calls: AIMessage("", tool_calls=list(calls), invalid_tool_calls=cast(Any, broken), id="m1"),
    )
    with SqliteCheckpointer(db_path) as checkpointer:
        run = scene.run("asked", colour, checkpointer)
    told = {message["tool_call_id"]: message["content"] for message in run.messages() if message["type"] == "tool"}
    assert told["c1"] == "2"
    assert "not valid JSON" in told["c9"]


def test_state_is_documented_by_messages_state_too(gate: Gate, colour: Colour, db_path: str) -> None:
    same(Scene(lambda: [add], [call("add", a=1)], state=MessagesState), gate, colour, db_path)
