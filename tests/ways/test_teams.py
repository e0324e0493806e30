"""Agents in teams: a subagent without a gate, and a handoff while a question is open."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool
from langgraph_swarm import create_handoff_tool, create_swarm

from hitl_graph.adapters.langchain import ApprovalMiddleware
from hitl_graph.errors import StaleRequestError
from hitl_graph.model import approve
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call
from tests.invariants.agents import default_tools, pay_call
from tests.ways.builders import way_named
from tests.ways.places import WayScene


def gate(allowed: str, mode: Any = "per_call") -> Any:
    return ApprovalMiddleware(policy=Policy([Rule(allowed, "allow")]), interrupt_mode=mode)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[WayScene]:
    made = WayScene(tmp_path, way_named("deepagents"), "SqliteCheckpointer")
    yield made
    assert made.ledger.verify_audit().ok
    made.close()


def pays(messages: list[Any]) -> Any:
    """Delegate a payment; as the subagent, which sees nothing but its task, pay."""
    if any(isinstance(message, AIMessage) for message in messages):
        return "finished"
    if messages[-1].content == "Pay":
        return [tool_call("task", id="delegated", description="one euro to bob", subagent_type="general-purpose")]
    return [{**pay_call(1), "type": "tool_call"}]


def deep_agent(scene: WayScene, tools: list[BaseTool], **options: Any) -> Any:
    model, saver = ScriptedChatModel(pays), scene.checkpointer
    return create_deep_agent(model, tools, middleware=[gate("task")], checkpointer=saver, **options)


def test_deepagents_gives_its_general_purpose_subagent_the_tools_without_the_middleware(scene: WayScene) -> None:
    """What docs/agents.md warns of; when this fails, deepagents has learnt better and the page can say so."""
    scene.go(deep_agent(scene, default_tools(scene.effects)), {"messages": [("user", "Pay")]})
    assert scene.asked() == []
    assert scene.ran() == ["pay 1 bob"]


def test_with_a_gate_of_its_own_that_subagent_asks(scene: WayScene) -> None:
    tools = default_tools(scene.effects)
    own: Any = {
        "name": "general-purpose",
        "description": "Does what is asked.",
        "system_prompt": "Do what is asked.",
        "tools": tools,
        "middleware": [gate("search")],
    }
    graph = deep_agent(scene, tools, subagents=[own])
    scene.go(graph, {"messages": [("user", "Pay")]})
    assert scene.ran() == []
    scene.decide(scene.the_one(), approve())
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


def swarm(scene: WayScene, mode: Any) -> Any:
    """The payer calls `pay` and hands over to somebody else in one message."""

    def pays_and_leaves(messages: list[Any]) -> Any:
        leave = {**tool_call("transfer_to_clerk", id="leave")}
        calls = [message for message in messages if isinstance(message, AIMessage) and message.tool_calls]
        return [{**pay_call(1), "type": "tool_call"}, leave] if not calls else "finished"

    tools = [*default_tools(scene.effects), create_handoff_tool(agent_name="clerk")]
    middleware = [gate("transfer_to_*", mode)]
    payer = create_agent(ScriptedChatModel(pays_and_leaves), tools, middleware=middleware, name="payer")
    clerk = create_agent(ScriptedChatModel(lambda messages: "at your service"), [], name="clerk")
    return create_swarm([payer, clerk], default_active_agent="payer").compile(checkpointer=scene.checkpointer)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_a_handoff_beside_an_open_question_runs_nothing_that_was_not_approved(scene: WayScene, mode: Any) -> None:
    graph = swarm(scene, mode)
    scene.go(graph, {"messages": [("user", "Pay, and get me somebody else")]})
    assert scene.ran() == []
    for request in scene.asked():
        try:
            scene.decide(request, approve())
        except StaleRequestError:
            continue
    scene.work(graph)
    scene.go(graph, {"messages": [("user", "Are you there?")]})
    assert scene.ran() in ([], ["pay 1 bob"])
    approved = [row for row in scene.ledger.executed("t") if row["tool"] == "pay"]
    assert len(approved) == len(scene.ran())
    assert all(row["reason"] == "approve by alice" for row in approved)
    assert scene.asked() == []
