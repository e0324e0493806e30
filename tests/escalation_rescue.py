"""A recorded run, replayed live: the recorded messages are the model, the recorded outputs the tools.

Until a person steps in, the model says what was recorded; from then on, what a rescued run would have said. Where it
stands follows from the messages, so that any process can go on. Each tool writes a line to a file when it runs.

    python tests/escalation_rescue.py start | work DATABASE EFFECTS
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.nodes import ApprovalNode, EscalationNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.stuck import to_messages
from hitl_graph.testing import ScriptedChatModel
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import write_effect

RUN = json.loads((Path(__file__).parent / "data" / "stuck_run.json").read_text())
RECORDED, RESCUED = to_messages(RUN["messages"]), to_messages(RUN["rescued"])
INPUT = [message for message in RECORDED[:2]]
Graph = CompiledStateGraph[Any, Any, Any, Any]


def reply(messages: list[Any]) -> AIMessage:
    """What the model says next."""
    stepped_in = next((i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and _is_guidance(m)), None)
    script = RECORDED if stepped_in is None else RESCUED
    said = sum(isinstance(message, AIMessage) for message in messages[stepped_in or 0 :])
    return [message for message in script if isinstance(message, AIMessage)][said]


def _is_guidance(message: AnyMessage) -> bool:
    return "hitl" in message.additional_kwargs


def tools(effects: str) -> list[BaseTool]:
    outputs = {m.tool_call_id: m.text for m in [*RECORDED, *RESCUED] if isinstance(m, ToolMessage)}
    calls = {
        json.dumps([call["name"], call["args"]], sort_keys=True): call["id"]
        for message in [*RECORDED, *RESCUED]
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }

    def play(name: str, **args: Any) -> str:
        write_effect(effects, f"{name} {json.dumps(args, sort_keys=True)}")
        return outputs[str(calls[json.dumps([name, args], sort_keys=True)])]

    def find_flights(origin: str, destination: str, day: str) -> str:
        """Flights of a day."""
        return play("find_flights", origin=origin, destination=destination, day=day)

    def book(flight: str, day: str) -> str:
        """Book a seat."""
        return play("book", flight=flight, day=day)

    return [StructuredTool.from_function(find_flights), StructuredTool.from_function(book)]


def build(saver: Any, effects: str) -> Graph:
    model = ScriptedChatModel(reply)

    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", ApprovalNode(tools(effects), policy=Policy([Rule("*", "allow")])))
    builder.add_node("watch", EscalationNode(resume="agent"))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "watch")
    return builder.compile(checkpointer=saver)


def config_of(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}, "recursion_limit": 100}


def main(what: str, database: str, effects: str, *threads: str) -> None:
    with open_checkpointer(database) as saver:
        graph = build(saver, effects)
        if what == "start":
            for thread in threads or ("t",):
                graph.invoke({"messages": INPUT}, config_of(thread), durability="sync")
                print(thread, flush=True)
        else:
            for resumed in Worker(graph, saver.ledger, config={"recursion_limit": 100}).run_once():
                print(resumed.thread_id, resumed.status, os.getpid(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
