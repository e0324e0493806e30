"""What tools may be, take and give is as in `ToolNode`: allowed at once, and after a person approved.

`same` runs the graph with both nodes and compares; what is asserted beyond that shows that the scene is not empty.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolCallId, StructuredTool, tool
from langgraph.config import get_stream_writer
from langgraph.graph.message import add_messages
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.types import Command, Send
from pydantic import BaseModel, Field

from hitl_graph.checkpointers import SqliteCheckpointer
from tests.same_as_tool_node import Colour, Gate, Scene, State, add, call, coloured, rename, same

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio.run of MCP's subprocesses


# --- what a tool may be, take and give -------------------------------------------------------------------------------


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
            runtime.config.get("configurable", {})["thread_id"],
            runtime.config.get("metadata", {})["colour"],
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
        return f"{tool_call_id} in {config.get('configurable', {})['thread_id']}"

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


# --- Command results -------------------------------------------------------------------------------------------------


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


# --- the shapes of state and input -----------------------------------------------------------------------------------


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
