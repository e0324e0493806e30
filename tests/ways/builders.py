"""The same agent, built in every way in which people build agents.

Each builder has the signature of `tests.invariants.agents.build` and takes the same input, so that what is promised can
be tried on each. Libraries are imported by the builder that needs them: processes that are killed start often.
"""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Send

from hitl_graph.ledger import Ledger
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy
from tests.invariants.agents import AnyGraph, default_policy, default_tools
from tests.ways.scripted import chat_model, model_node, turns_of

__all__ = ["WAYS", "Parts", "Way", "way_named"]


@dataclass(frozen=True)
class Parts:
    """What a way is built of."""

    effects_file: str | os.PathLike[str]
    tools: Sequence[BaseTool]
    policy: Policy
    ledger: Ledger | None

    def node(self) -> ApprovalNode:
        return ApprovalNode(self.tools, policy=self.policy, ledger=self.ledger)


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        name: As tests and the table of guarantees name it.
        assemble: Makes the graph from its parts.
        turns_wait: A turn in which anything is asked waits until all of it is decided; else each call goes its way.
        asks_late: LangGraph may end the run at the first question, before others of the turn are asked; the next run
            asks these.
    """

    name: str
    assemble: Callable[[Parts, BaseCheckpointSaver[Any]], AnyGraph]
    turns_wait: bool = False
    asks_late: bool = False

    def build(
        self,
        checkpointer: BaseCheckpointSaver[Any],
        effects_file: str | os.PathLike[str],
        *,
        policy: Policy | None = None,
        delay: float = 0.0,
        idempotent: bool = False,
        ledger: Ledger | None = None,
        tools: Sequence[BaseTool] | None = None,
    ) -> AnyGraph:
        """As `tests.invariants.agents.build`."""
        tools = default_tools(effects_file, delay, idempotent) if tools is None else tools
        return self.assemble(Parts(effects_file, tools, policy or default_policy(tools), ledger), checkpointer)


def _loop(parts: Parts) -> StateGraph[Any, Any, Any, Any]:
    """Model and tools, round and round."""
    builder = StateGraph(MessagesState)
    builder.add_node("agent", model_node(parts.effects_file))
    builder.add_node("tools", parts.node())
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder


def _node(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    return _loop(parts).compile(checkpointer=checkpointer)


def _two_deep(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """A subgraph in a subgraph."""
    inner: Any = _loop(parts).compile()
    for level in ("middle", "outer"):
        builder = StateGraph(MessagesState)
        builder.add_node(level, inner)
        builder.add_edge(START, level)
        inner = builder.compile(checkpointer=checkpointer if level == "outer" else None)
    return cast(AnyGraph, inner)


def _called_by_a_node(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """A node's function runs the agent."""
    inner = _loop(parts).compile()

    def host(state: MessagesState, config: RunnableConfig) -> Any:
        return inner.invoke(state, config)

    async def ahost(state: MessagesState, config: RunnableConfig) -> Any:
        return await inner.ainvoke(state, config)

    builder = StateGraph(MessagesState)
    builder.add_node("host", RunnableLambda(host, ahost))
    builder.add_edge(START, "host")
    return builder.compile(checkpointer=checkpointer)


def _send(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """One task a call, by `Send`."""

    def fan_out(state: MessagesState) -> list[Send] | str:
        return [Send("tools", [call]) for call in cast(AIMessage, state["messages"][-1]).tool_calls] or END

    builder = StateGraph(MessagesState)
    builder.add_node("agent", model_node(parts.effects_file))
    builder.add_node("tools", parts.node())
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", fan_out, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=checkpointer)


def _parallel_subagents(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """Each call of a turn goes to a subagent of its own; all of them work at the same time."""

    def fan_out(state: MessagesState) -> list[Send] | str:
        turns = turns_of(state["messages"])
        done = sum(message.content == "turn over" for message in state["messages"])
        calls = turns[done] if done < len(turns) else []
        return [Send("payer", {"messages": [HumanMessage(json.dumps([[call]]))]}) for call in calls] or END

    def join(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("turn over")]}

    builder = StateGraph(MessagesState)
    builder.add_node("payer", _loop(parts).compile())
    builder.add_node("join", join)
    builder.add_conditional_edges(START, fan_out, ["payer", END])
    builder.add_edge("payer", "join")
    builder.add_conditional_edges("join", fan_out, ["payer", END])
    return builder.compile(checkpointer=checkpointer)


def _react_agent(parts: Parts, tools: Any, checkpointer: Any = None, **options: Any) -> Any:
    from langgraph.prebuilt import create_react_agent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it moved; people have it
        model = options.pop("model", None) or chat_model(parts.effects_file)
        return create_react_agent(model, tools, checkpointer=checkpointer, **options)  # type: ignore[deprecated,unused-ignore]


def _create_react_agent(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    return cast(AnyGraph, _react_agent(parts, parts.node(), checkpointer))


def _hands_off(tool: str) -> Any:
    """A model that hands over to another agent, and is done when the work came back."""
    from hitl_graph.testing import ScriptedChatModel, tool_call

    def reply(messages: list[Any]) -> Any:
        handed = any(call["name"] == tool for m in messages if isinstance(m, AIMessage) for call in m.tool_calls)
        return "finished" if handed else [tool_call(tool, id="handoff")]

    return ScriptedChatModel(reply)


def _supervisor(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """langgraph-supervisor; the tools belong to a worker."""
    from langgraph_supervisor import create_supervisor

    payer = _react_agent(parts, parts.node(), name="payer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        team = create_supervisor([payer], model=_hands_off("transfer_to_payer"))
    return cast(AnyGraph, team.compile(checkpointer=checkpointer))


def _middleware(parts: Parts, mode: Literal["batched", "per_call"]) -> Any:
    from hitl_graph.adapters.langchain import ApprovalMiddleware

    return ApprovalMiddleware(policy=parts.policy, ledger=parts.ledger, interrupt_mode=mode)


def _langchain_agent(parts: Parts, mode: Literal["batched", "per_call"], **options: Any) -> Any:
    from langchain.agents import create_agent

    middleware = [_middleware(parts, mode)]
    return create_agent(chat_model(parts.effects_file), list(parts.tools), middleware=middleware, **options)


def _batched(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """LangChain's `create_agent`; one interrupt for all calls of a turn."""
    return cast(AnyGraph, _langchain_agent(parts, "batched", checkpointer=checkpointer))


def _per_call(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """LangChain's `create_agent`; one interrupt a call."""
    return cast(AnyGraph, _langchain_agent(parts, "per_call", checkpointer=checkpointer))


def _deep_agent(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """deepagents; the tools belong to the main agent."""
    from deepagents import create_deep_agent

    return cast(
        AnyGraph,
        create_deep_agent(
            chat_model(parts.effects_file),
            list(parts.tools),
            middleware=[_middleware(parts, "batched")],
            checkpointer=checkpointer,
        ),
    )


def _deep_subagent(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """deepagents; the tools belong to a subagent, which has a middleware of its own."""
    from deepagents import create_deep_agent

    from hitl_graph.testing import ScriptedChatModel, tool_call

    def delegate(messages: list[Any]) -> Any:
        if any(isinstance(message, AIMessage) for message in messages):
            return "finished"
        script = json.dumps(turns_of(messages))
        return [tool_call("task", id="delegated", description=script, subagent_type="payer")]

    payer: Any = {
        "name": "payer",
        "description": "Pays.",
        "system_prompt": "Pay.",
        "model": chat_model(parts.effects_file),
        "tools": list(parts.tools),
        "middleware": [_middleware(parts, "per_call")],
    }
    return cast(AnyGraph, create_deep_agent(ScriptedChatModel(delegate), subagents=[payer], checkpointer=checkpointer))


def _swarm(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """langgraph-swarm; the tools belong to the agent that was handed over to."""
    from langgraph_swarm import create_handoff_tool, create_swarm

    handoff = create_handoff_tool(agent_name="payer")
    greeter = _react_agent(parts, [handoff], name="greeter", model=_hands_off(handoff.name))
    payer = _langchain_agent(parts, "per_call", name="payer")
    return cast(AnyGraph, create_swarm([greeter, payer], default_active_agent="greeter").compile(checkpointer))


def _functional(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """LangGraph's functional API: tasks behind `requires_approval`."""
    from tests.ways import functional_agent

    return functional_agent.build(
        checkpointer, parts.effects_file, policy=parts.policy, ledger=parts.ledger, tools=parts.tools
    )


WAYS = [
    Way("ApprovalNode", _node),
    Way("subgraph, two deep", _two_deep),
    Way("graph run by a node", _called_by_a_node),
    Way("Send", _send),
    Way("parallel subagents", _parallel_subagents),
    Way("create_react_agent", _create_react_agent),
    Way("create_agent, batched", _batched, turns_wait=True),
    Way("create_agent, per call", _per_call),
    Way("deepagents", _deep_agent, turns_wait=True),
    Way("deepagents, subagent", _deep_subagent),
    Way("supervisor", _supervisor),
    Way("swarm", _swarm),
    Way("functional API", _functional, asks_late=True),
]


def way_named(name: str) -> Way:
    return next(way for way in WAYS if way.name == name)
