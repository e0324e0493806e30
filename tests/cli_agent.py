"""The agent of test_cli.py, copied into an empty folder as `my_agent.py`: its database is `agent.db` there.

`python my_agent.py THREADS` runs threads to their first pause; THREADS is JSON, {thread: list of tool calls}.
"""

import json
import os
import sys
import time
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt
from typing_extensions import TypedDict

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule


def _note(line: str) -> None:
    with open("effects.txt", "a") as file:
        file.write(line + "\n")


@tool
def send_email(to: str, subject: str, body: str, cc: str | None = None) -> str:
    """Send an e-mail."""
    _note(f"email {to}: {body}")
    return f"sent to {to}"


@tool
def pay(iban: str, eur: float, seconds: float = 0) -> str:
    """Send money."""
    _note(f"begin {eur}")
    if eur == 13:
        os._exit(9)
    if eur == 14:
        raise RuntimeError("the bank is closed")
    time.sleep(seconds)
    _note(f"paid {eur}")
    return f"paid {eur}"


def model(state: MessagesState) -> dict[str, Any]:
    if any(isinstance(message, AIMessage) for message in state["messages"]):
        return {"messages": [AIMessage("finished")]}
    return {"messages": [AIMessage("", tool_calls=json.loads(str(state["messages"][0].content)))]}


def _agent(tools: ToolNode) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", model)
    builder.add_node("tools", tools)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder


class City(TypedDict, total=False):
    city: str


def ask(state: City) -> City:
    return {"city": interrupt("Which city?")}


rules = [Rule("send_email", "ask", reason="mail leaves the company"), Rule("pay", "ask", editable=("eur",))]
builder = _agent(ApprovalNode([send_email, pay], policy=Policy(rules)))
without_checkpointer = builder.compile()


def make() -> Any:
    return builder.compile(checkpointer=SqliteCheckpointer("agent.db"))


def langchain() -> Any:
    from langchain.agents import create_agent

    from hitl_graph.adapters.langchain import ApprovalMiddleware
    from hitl_graph.testing import ScriptedChatModel

    return create_agent(ScriptedChatModel([]), [send_email, pay], middleware=[ApprovalMiddleware()])


def plain() -> Any:
    return _agent(ToolNode([pay])).compile(checkpointer=SqliteCheckpointer("agent.db"))


def question() -> Any:
    asking = StateGraph(City)
    asking.add_node("ask", ask)
    asking.add_edge(START, "ask")
    return asking.compile(checkpointer=SqliteCheckpointer("agent.db"))


def broken() -> Any:
    raise ValueError("no model is configured")


async def coroutine() -> Any:
    return without_checkpointer


if __name__ == "__main__":
    for thread, calls in json.loads(sys.argv[1]).items():
        config: Any = {"configurable": {"thread_id": thread}}
        if calls == "question":
            question().invoke({}, config)
        else:
            make().invoke({"messages": [HumanMessage(json.dumps(calls))]}, config)
