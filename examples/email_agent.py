"""An e-mail assistant for LangGraph Studio: `langgraph dev` in the folder with langgraph.json.

It lists and reads mails freely; `send_email` waits for a person. The model is scripted, so nothing else is needed: say
"answer 1 and 3: yes, gladly" and it answers those mails. What was sent is a line of the file `HITL_OUTBOX` (default:
outbox.jsonl). The graph is compiled without a checkpointer: the server brings the one that
langgraph.json names.
"""

import json
import os
import re

from langchain_core.messages import AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call

MAILS = {
    1: {"sender": "ann@example.com", "subject": "Lunch", "text": "Are you free on Friday?"},
    2: {"sender": "bob@example.com", "subject": "Invoice 17", "text": "It is still open. When will you pay?"},
    3: {"sender": "eve@example.com", "subject": "Slides", "text": "Could you send me the slides?"},
}


@tool
def list_mails() -> str:
    """List the mails in the inbox."""
    return "\n".join(f"{number}. {mail['sender']}: {mail['subject']}" for number, mail in MAILS.items())


@tool
def read_mail(number: int) -> str:
    """Read one mail."""
    return MAILS[number]["text"]


@tool
def send_email(to: str, subject: str, body: str) -> str:
    """Send an e-mail."""
    with open(os.environ.get("HITL_OUTBOX", "outbox.jsonl"), "a") as outbox:
        outbox.write(json.dumps({"to": to, "subject": subject, "body": body}) + "\n")
    return f"sent to {to}"


def script(messages: list[AnyMessage]) -> str | list[ToolCall]:
    """What the model says next: a function of the conversation, so that any process can go on with it."""
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    order, _, body = messages[last].text.partition(":")
    wanted = [int(number) for number in re.findall(r"\d+", order)]
    wanted = [number for number in wanted if number in MAILS] or [1]
    answers = [message for message in messages[last:] if isinstance(message, ToolMessage)]
    used = {message.name for message in answers}
    if not used:
        return [tool_call("list_mails")]
    if "read_mail" not in used:
        return [tool_call("read_mail", number=number) for number in wanted]
    if "send_email" not in used:
        return [
            tool_call(
                "send_email",
                to=MAILS[number]["sender"],
                subject=f"Re: {MAILS[number]['subject']}",
                body=body.strip() or "Thank you, I will come back to you.",
            )
            for number in wanted
        ]
    return "\n".join(str(message.content) for message in answers if message.name == "send_email")


model = ScriptedChatModel(script).bind_tools([list_mails, read_mail, send_email])


def call_model(state: MessagesState) -> dict[str, list[AnyMessage]]:
    return {"messages": [model.invoke(state["messages"])]}


policy = Policy([Rule("list_mails", "allow"), Rule("read_mail", "allow"), Rule("send_email", "ask")])

builder = StateGraph(MessagesState)
builder.add_node("agent", call_model)
builder.add_node("tools", ApprovalNode([list_mails, read_mail, send_email], policy=policy))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()
