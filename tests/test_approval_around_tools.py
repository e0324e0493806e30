"""What happens around a tool is as in `ToolNode`: errors, wrappers, tracing, questions of its own.

`same` runs the graph with both nodes and compares; what is asserted beyond that shows that the scene is not empty.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.graph import START, StateGraph
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import interrupt

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.effects import idempotency_key, idempotent
from tests.same_as_tool_node import Colour, Gate, Scene, State, add, call, coloured, same

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio.run of MCP's subprocesses


# --- errors ----------------------------------------------------------------------------------------------------------


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


# --- wrappers, tags, callbacks ---------------------------------------------------------------------------------------


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


# --- tools that ask themselves ---------------------------------------------------------------------------------------


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
