"""One agent a client, for a server and for the tests: it books rooms, and each booking is asked about.

The bookings are in the first message, as JSON; what was booked is a line of the file `HITL_OUTBOX`.
"""

import json
import os
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.ledger import Ledger
from hitl_graph.nodes import ApprovalNode
from hitl_graph.testing import ScriptedChatModel, tool_call
from hitl_graph.wire import ClientName


@tool
def book(room: str, minutes: int, guests: list[str], catering: bool, note: str | None = None) -> str:
    """Book a room."""
    with open(os.environ["HITL_OUTBOX"], "a") as outbox:
        booked = {"room": room, "minutes": minutes, "guests": guests, "catering": catering, "note": note}
        outbox.write(json.dumps(booked) + "\n")
    return f"booked for {minutes} minutes"


def script(messages: list[BaseMessage]) -> str | AIMessage | list[ToolCall] | Exception:
    """What the model says next."""
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    told = [str(message.content) for message in messages[last:] if isinstance(message, ToolMessage)]
    return "\n".join(told) if told else [tool_call("book", **args) for args in json.loads(messages[last].text)]


model = ScriptedChatModel(script).bind_tools([book])


def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    return {"messages": [model.invoke(state["messages"])]}


def agent(client: ClientName, ledger: Ledger | None = None) -> StateGraph[Any, Any, Any, Any]:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", call_model)
    builder.add_node("tools", ApprovalNode([book], client=client, ledger=ledger))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder


bridge = agent("bridge").compile()
agent_inbox = agent("agent-inbox").compile()
agent_chat_ui = agent("agent-chat-ui").compile()
studio = agent("studio").compile()
ag_ui = agent("ag-ui").compile()
copilotkit = agent("copilotkit").compile()
