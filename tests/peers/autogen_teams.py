"""Graphs around an AutoGen team, made anew by any process from nothing but a database file and an effects file."""

import os
from typing import Any

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.base import Team
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.adapters.autogen import People, team_node
from hitl_graph.adapters.autogen.testing import ScriptedModelClient
from hitl_graph.policy import Policy, Rule
from tests.invariants.agents import Graph, write_effect
from tests.peers.autogen_agents import call, pay_tool

__all__ = ["TEAMS", "Remembering", "build"]


class Remembering(MessagesState):
    team: dict[str, Any]


class _Noting(ScriptedModelClient):
    """Writes each of its turns into the file, so that one that is repeated is seen."""

    def __init__(self, script: Any, effects_file: str) -> None:
        super().__init__(script)
        self._file = effects_file

    async def create(self, messages: Any, **options: Any) -> Any:
        result = await super().create(messages, **options)
        said = result.content if isinstance(result.content, str) else ",".join(one.name for one in result.content)
        write_effect(self._file, f"model {said}")
        return result


def build(
    checkpointer: BaseCheckpointSaver[Any], effects_file: str | os.PathLike[str], kind: str, *, delay: float = 0.0,
    **options: Any,
) -> Graph:  # fmt: skip
    """A graph of one node: the team of this kind."""
    file = str(effects_file)
    builder = StateGraph(Remembering)
    options.setdefault("policy", Policy([Rule("look", "allow", optional=True)]))
    builder.add_node("team", team_node(lambda people: TEAMS[kind](people, file, delay), **options))
    builder.add_edge(START, "team")
    return builder.compile(checkpointer=checkpointer)


def _paying(people: People, file: str, delay: float) -> Team:
    return _alone(people, file, delay, [[call("pay", eur=5)], "Paid. DONE"])


def _two_payments(people: People, file: str, delay: float) -> Team:
    return _alone(people, file, delay, [[call("pay", eur=5), call("pay", eur=6)], "Paid. DONE"])


def _reflecting(people: People, file: str, delay: float) -> Team:
    return _alone(people, file, delay, [[call("pay", eur=5)], "I asked for it.", "Now it is paid. DONE"], reflect=True)


def _forgetful(people: People, file: str, delay: float) -> Team:
    tools: Any = people.approved([pay_tool(file)])
    agent = AssistantAgent("assistant", model_client=_Noting([[call("pay", eur=5)], "Paid. DONE"], file), tools=tools)
    return RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(8), max_turns=3)


def _alone(people: People, file: str, delay: float, script: Any, *, reflect: bool = False) -> Team:
    tools: Any = people.approved([pay_tool(file, delay=delay)])
    agent = AssistantAgent("assistant", model_client=_Noting(script, file), tools=tools, reflect_on_tool_use=reflect)
    condition = TextMentionTermination("DONE") | MaxMessageTermination(12) | people.pause
    return RoundRobinGroupChat([agent], termination_condition=condition)


def _handing_off(people: People, file: str, delay: float) -> Team:
    script = [[call("transfer_to_user")], "Gate 7 then. DONE", "You said gate 7. DONE"]
    agent = AssistantAgent("assistant", model_client=_Noting(script, file), handoffs=["user"])
    condition = HandoffTermination("user") | TextMentionTermination("DONE") | people.pause
    return Swarm([agent], termination_condition=condition)


def _with_proxy(people: People, file: str, delay: float) -> Team:
    agent = AssistantAgent("assistant", model_client=_Noting(["Red or blue?", "It is. DONE"], file))
    condition = TextMentionTermination("DONE") | people.pause
    return RoundRobinGroupChat(
        [agent, UserProxyAgent("person", input_func=people.ainput)], termination_condition=condition
    )


def _paying_and_handing_off(people: People, file: str, delay: float) -> Team:
    script = [[call("pay", eur=5), call("transfer_to_user")], "Fine. DONE"]
    tools: Any = people.approved([pay_tool(file)])
    agent = AssistantAgent("assistant", model_client=_Noting(script, file), tools=tools, handoffs=["user"])
    condition = HandoffTermination("user") | TextMentionTermination("DONE") | people.pause
    return Swarm([agent], termination_condition=condition)


TEAMS: Any = {
    "paying": _paying,
    "two payments": _two_payments,
    "reflecting": _reflecting,
    "forgetful": _forgetful,
    "handing off": _handing_off,
    "with proxy": _with_proxy,
    "paying and handing off": _paying_and_handing_off,
}
