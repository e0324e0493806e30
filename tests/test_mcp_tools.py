"""Tools of real MCP servers: names that tell the server, and hints that allow nothing by being left out."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

pytest.importorskip("langchain_mcp_adapters")
from langchain_mcp_adapters.client import MultiServerMCPClient

from hitl_graph.adapters.mcp import SERVER, aload_tools, named
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.effects import is_idempotent
from hitl_graph.errors import PolicyError
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Call, Outcome, Policy, Rule
from hitl_graph.worker import Worker
from tests.invariants.agents import config_of

PROGRAM = str(Path(__file__).with_name("mcp_files_server.py"))


def connected(log: Path, *servers: str, **options: Any) -> MultiServerMCPClient:
    connection: Any = {
        "transport": "stdio", "command": sys.executable, "args": [PROGRAM], "env": {"MCP_FILES_LOG": str(log)}
    }  # fmt: skip
    return MultiServerMCPClient({server: connection for server in servers}, **options)


@pytest.fixture
async def tools(tmp_path: Path) -> dict[str, BaseTool]:
    found = await aload_tools(connected(tmp_path / "log", "files", "other-files"))
    return {one.name: one for one in found}


async def test_a_tool_is_called_by_server_and_name_and_says_of_itself_what_the_server_says(
    tools: dict[str, BaseTool], tmp_path: Path
) -> None:
    here = ["read_file", "append", "remove", "purge"]
    assert list(tools) == [f"mcp__{server}__{name}" for server in ("files", "other-files") for name in here]
    assert tools["mcp__files__read_file"].metadata == {"title": "Read", "readOnlyHint": True, SERVER: "files"}
    assert tools["mcp__files__remove"].metadata == {SERVER: "files"}
    found = await tools["mcp__other-files__read_file"].ainvoke({"name": "a"})
    assert (found[0]["text"], (tmp_path / "log").read_text()) == ("read a", "read a\n")
    prefixed = await aload_tools(connected(tmp_path / "log", "files", tool_name_prefix=True))
    assert [one.name for one in prefixed] == list(tools)[:4]


async def test_no_server_declares_its_own_tools_idempotent(tools: dict[str, BaseTool], tmp_path: Path) -> None:
    """An unknown outcome of such a tool would be run again, without asking anybody."""
    assert not is_idempotent(tools["mcp__files__purge"])
    raw = {one.name: one for one in await connected(tmp_path / "log", "files").get_tools()}
    assert (raw["purge"].metadata or {})["idempotent"] is True
    assert not is_idempotent(raw["purge"])


@pytest.mark.parametrize("server", ["", "a__b", "_a", "a_", "a b", "a*", "ä", "a\n"])
def test_a_server_cannot_be_called_so_that_rules_mean_another(server: str) -> None:
    with pytest.raises(PolicyError, match="cannot be called"):
        named([], server)


def test_a_name_that_is_offered_twice_is_refused() -> None:
    @tool
    def look(q: str) -> str:
        """Look."""
        return q

    with pytest.raises(PolicyError, match="twice"):
        named([look, look], "files")


def judged(rule: Rule, metadata: Mapping[str, Any]) -> Outcome:
    return Policy([rule]).judge(Call("mcp__files__x", {"n": 5}, metadata=metadata)).outcome


NOTHING: dict[str, Any] = {}
READS, WRITES = {"readOnlyHint": True}, {"readOnlyHint": False}


@pytest.mark.parametrize(
    ("hints", "metadata", "allows", "denies"),
    [
        # what a rule wants, what the tool says, whether `allow` counts, whether `deny` counts
        ({"readOnlyHint": True}, READS, True, True),
        ({"readOnlyHint": True}, WRITES, False, False),
        ({"readOnlyHint": True}, NOTHING, False, False),
        ({"readOnlyHint": True}, {"readOnlyHint": "true"}, False, True),
        ({"readOnlyHint": True}, {"readOnlyHint": None}, False, False),
        ({"readOnlyHint": True}, {**READS, "destructiveHint": True}, False, True),
        ({"readOnlyHint": True}, {"read_only": True}, True, True),
        ({"readOnlyHint": False}, NOTHING, False, True),
        ({"readOnlyHint": False}, {**READS, "destructiveHint": True}, False, True),
        ({"destructiveHint": True}, NOTHING, False, True),
        ({"destructiveHint": True}, READS, False, False),
        ({"destructiveHint": True}, {"destructiveHint": 0}, False, True),
        ({"destructiveHint": False}, NOTHING, False, False),
        ({"destructiveHint": False}, READS, True, True),
        ({"destructiveHint": False}, {**WRITES, "destructiveHint": False}, True, True),
        ({"idempotentHint": True}, NOTHING, False, False),
        ({"openWorldHint": True}, NOTHING, False, True),
        ({"openWorldHint": False}, {"openWorldHint": False}, True, True),
        ({"readOnlyHint": True, "openWorldHint": False}, READS, False, False),
    ],
)
def test_an_allow_needs_the_hint_and_a_deny_the_chance_of_it(
    hints: Any, metadata: dict[str, Any], allows: bool, denies: bool
) -> None:
    assert judged(Rule("mcp__*", "allow", hints=hints), metadata) == ("allow" if allows else "ask")
    assert judged(Rule("mcp__*", "deny", hints=hints), metadata) == ("deny" if denies else "ask")


def test_hints_and_a_condition_both_have_to_hold_also_in_layers() -> None:
    for when in ("args.n > 4", lambda call: call.args["n"] > 4):
        rule = Rule("mcp__*", "allow", when, hints={"readOnlyHint": True})
        policy = Policy.layered(project=Policy([rule]))
        for metadata, n, outcome in ((READS, 5, "allow"), (READS, 4, "ask"), (WRITES, 5, "ask")):
            assert policy.judge(Call("mcp__files__x", {"n": n}, metadata=metadata)).outcome == outcome


async def test_hints_beside_an_async_predicate() -> None:
    async def small(call: Call) -> bool:
        await asyncio.sleep(0)
        return bool(call.args["n"] < 10)

    policy = Policy([Rule("mcp__*", "allow", small, hints={"readOnlyHint": True})])
    assert (await policy.ajudge(Call("mcp__files__x", {"n": 5}, metadata=READS))).outcome == "allow"
    assert (await policy.ajudge(Call("mcp__files__x", {"n": 50}, metadata=READS))).outcome == "ask"


@pytest.mark.parametrize("wrong", [{}, {"readonlyHint": True}, {"readOnlyHint": 1}, ["readOnlyHint"], "readOnlyHint"])
def test_a_misspelt_hint_is_an_error(wrong: Any) -> None:
    with pytest.raises(PolicyError, match=r"hints="):
        Rule("mcp__*", "allow", hints=wrong)


def test_hints_in_a_policy_file() -> None:
    policy = Policy.load('[[rules]]\ntool = "mcp__*"\noutcome = "allow"\nhints = { readOnlyHint = true }\n')
    assert policy.judge(Call("mcp__files__x", {}, metadata=READS)).outcome == "allow"
    [found] = policy.considered(Call("mcp__files__x", {}, metadata=WRITES))
    assert found.why == "readOnlyHint=true is false"
    for wrong, said in (
        ("{ readonlyHint = true }", r"did you mean readOnlyHint\?"),
        ("{ readOnlyHint = 1 }", "should be a valid boolean"),
        ("{}", "hints"),
    ):
        with pytest.raises(PolicyError, match=rf"policy.toml:\d: .*{said}"):
            Policy.load(f'[[rules]]\ntool = "mcp__*"\noutcome = "allow"\nhints = {wrong}\n')


def test_a_gated_agent_runs_what_is_read_only_and_asks_about_the_rest(tmp_path: Path) -> None:
    """A real server over stdio, a real database; what the server did stands in its log."""
    log = tmp_path / "log"
    policy = Policy(
        [
            Rule("mcp__files__*", "allow", hints={"readOnlyHint": True}),
            Rule("mcp__files__purge", "deny"),
        ]
    )
    wanted = [
        {"name": "mcp__files__read_file", "args": {"name": "a"}, "id": "1"},
        {"name": "mcp__files__remove", "args": {"name": "a"}, "id": "2"},
        {"name": "mcp__files__purge", "args": {"name": "a"}, "id": "3"},
    ]

    def agent(state: MessagesState) -> dict[str, Any]:
        done = any(isinstance(message, ToolMessage) for message in state["messages"])
        return {"messages": [AIMessage("done") if done else AIMessage("", tool_calls=wanted)]}

    async def play() -> None:
        with SqliteCheckpointer(tmp_path / "agent.db") as saver:
            builder = StateGraph(MessagesState)
            builder.add_node("agent", agent)
            builder.add_node("tools", ApprovalNode(await aload_tools(connected(log, "files")), policy=policy))
            builder.add_edge(START, "agent")
            builder.add_conditional_edges("agent", tools_condition)
            builder.add_edge("tools", "agent")
            graph = builder.compile(checkpointer=saver)
            go: Any = {"messages": [("user", "tidy up")]}
            await graph.ainvoke(go, config_of("t"))
            inbox = Inbox(saver.ledger)
            [request] = await inbox.apending()
            assert request.action is not None
            assert (request.action.name, log.read_text()) == ("mcp__files__remove", "read a\n")
            await inbox.adecide(request.id, approve(), reviewer="alice")
            await Worker(graph, saver.ledger).arun_once()
            assert log.read_text() == "read a\nremove a\n"

    asyncio.run(play())
