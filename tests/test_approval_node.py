"""What `ApprovalNode` adds: idempotency keys, edits that are checked and told. And it works where agents are built."""

import asyncio
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, tool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState
from langgraph.prebuilt import ToolNode, ToolRuntime, create_react_agent  # pyright: ignore[reportDeprecated]
from langgraph.types import Command
from langgraph.warnings import LangGraphDeprecatedSinceV10

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.effects import idempotency_key
from hitl_graph.errors import InvalidDecisionError, PermitError, PolicyError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, approve, edit, reject
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import Reply, ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.same_as_tool_node import Colour, Gate, Scene, add, call, rename, same

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio.run of MCP's subprocesses


# --- idempotency key -------------------------------------------------------------------------------------------------


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


# --- decisions -------------------------------------------------------------------------------------------------------


def _decided(decision: Decision, db_path: str, colour: Colour, rule: Rule, make: Callable[[], Any]) -> Any:
    """One call `pay(eur=10, to=bob)`, decided through inbox and worker; the final messages."""
    scene = Scene(lambda: [make()], [call("pay", eur=10, to="bob")])
    with SqliteCheckpointer(db_path) as checkpointer:
        node = ApprovalNode([make()], policy=Policy([rule]))
        graph = scene.outer(node).compile(checkpointer=checkpointer)
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
        graph = scene.outer(ApprovalNode([_pay(ran)()], policy=policy)).compile(checkpointer=checkpointer)
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
        graph = scene.outer(node).compile(checkpointer=checkpointer)
        run = asyncio.run(scene.drive(graph, colour, {}))
    assert ran == []
    assert "never on Sundays" in run.answers[0]


def test_policy_that_names_no_tool_is_refused() -> None:
    with pytest.raises(PolicyError, match="did you mean 'add'"):
        ApprovalNode([add], policy=Policy([Rule("ad", "deny")]))


@dataclass
class Tenant:
    name: str


def test_worker_gives_the_context_that_langgraph_does_not_store(colour: Colour, db_path: str) -> None:
    def whose(runtime: ToolRuntime[Tenant, Any]) -> str:
        """Whose is it?"""
        return runtime.context.name

    scene = Scene(lambda: [whose], [call("whose")], context=Tenant("acme"))
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    with SqliteCheckpointer(db_path) as checkpointer:
        graph = scene.build("asked", checkpointer)
        graph.invoke({"messages": [HumanMessage("go")]}, config, context=scene.context)
        [request] = Inbox(checkpointer.ledger).pending()
        Inbox(checkpointer.ledger).decide(request.id, approve(), reviewer="ann")
        worker = Worker(graph, checkpointer.ledger, context=scene.context)
        [resumed] = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
        assert resumed.status == "finished", resumed.error
        assert graph.get_state(config).values["messages"][2].content == "acme"


# --- MCP -------------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("gate", ["asked"], indirect=True)  # each call starts the server anew
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


# --- in the field ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_in_create_react_agent(version: Any, gate: Gate, colour: Colour, db_path: str) -> None:
    results: list[list[str]] = []
    for choice in (None, gate):
        policy = Policy([Rule("*", "allow" if choice == "allowed" else "ask")])
        node = ToolNode([add]) if choice is None else ApprovalNode([add], policy=policy)
        script: list[Reply] = [[tool_call("add", a=1, id="c1"), tool_call("add", a=2, id="c2")], "done"]
        with SqliteCheckpointer(f"{db_path}-{choice}") as checkpointer:
            with pytest.warns(LangGraphDeprecatedSinceV10):
                agent = create_react_agent(  # pyright: ignore[reportDeprecated]
                    ScriptedChatModel(script), node, checkpointer=checkpointer, version=version
                )
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
        graph = scene.outer(node).compile(checkpointer=InMemorySaver())
        run = asyncio.run(scene.drive(graph, colour, {}))
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
