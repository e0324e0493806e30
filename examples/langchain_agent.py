"""A newsletter assistant made with LangChain's `create_agent`: `langgraph dev` in the folder with langgraph.json.

Say "write to the club about the hike". It looks up the subscribers freely; `send_newsletter` waits for a person, and so
does the report at the end, before it is delivered. If it gets stuck, somebody is asked what now. The model is scripted,
so nothing else is needed. What was sent is a line of the file `HITL_OUTBOX` (default: outbox.jsonl).
"""

import json
import os

from langchain.agents import create_agent
from langchain_core.messages import AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool

from hitl_graph.adapters.langchain import ApprovalMiddleware, EscalationMiddleware, OutputReviewMiddleware
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call

LISTS = {"club": ["ann@example.com", "bob@example.com"], "press": ["desk@paper.example"]}


@tool
def subscribers(name: str) -> str:
    """Who is on a mailing list."""
    return ", ".join(LISTS.get(name, [])) or "nobody"


@tool
def send_newsletter(name: str, text: str) -> str:
    """Send a text to everybody on a mailing list."""
    with open(os.environ.get("HITL_OUTBOX", "outbox.jsonl"), "a") as outbox:
        mail = {"to": ", ".join(LISTS.get(name, [])), "subject": f"News for the {name}", "body": text}
        outbox.write(json.dumps(mail) + "\n")
    return f"sent to {len(LISTS.get(name, []))} people"


def script(messages: list[AnyMessage]) -> str | list[ToolCall]:
    """What the model says next: a function of the conversation, so that any process can go on with it."""
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    wanted = messages[last].text
    name = next((name for name in LISTS if name in wanted), "club")
    answers = {message.name: message.text for message in messages[last:] if isinstance(message, ToolMessage)}
    if "subscribers" not in answers:
        return [tool_call("subscribers", name=name)]
    if "send_newsletter" not in answers:
        return [tool_call("send_newsletter", name=name, text=f"News for the {name}: {wanted.rpartition('about ')[2]}")]
    return f"The newsletter for the {name}: {answers['send_newsletter']}"


policy = Policy([Rule("subscribers", "allow"), Rule("send_newsletter", "ask", reason="many people read it")])
agent = create_agent(
    ScriptedChatModel(script),
    [subscribers, send_newsletter],
    middleware=[OutputReviewMiddleware(), ApprovalMiddleware(policy=policy), EscalationMiddleware()],
)
