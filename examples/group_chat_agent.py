"""A small team with a person in it, as AutoGen has it, for LangGraph Studio: `langgraph dev`, or in this folder:

    python group_chat_agent.py             # runs until it needs somebody
    hitl inbox
    hitl approve ID                        # the code of the analyst runs
    hitl respond ID -m "Name the months"   # a word to the writer; `exit` ends it; `hitl approve` accepts the text
    hitl worker group_chat_agent:make --once

The analyst writes code, which runs after approval, block by block. The writer makes a text of the figures, the critic
reads it, and a person has the last word when the critic is content, or after a dozen messages. The models are scripted,
so nothing else is needed.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NotRequired

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode, CodeBlocksNode, CodeResult, UserProxyNode, code_tool
from hitl_graph.policy import Policy, Rule
from hitl_graph.termination import MaxMessageTermination, TextMentionTermination, is_from_person
from hitl_graph.testing import ScriptedChatModel


class Team(MessagesState):
    """What the team has said, and why it stopped."""

    stop_reason: NotRequired[str | None]


def figures(messages: list[BaseMessage]) -> str:
    """The analyst: code first, then what it gave."""
    found = [message.text.strip() for message in messages if isinstance(message, ToolMessage)]
    if not found:
        return "Let me add up the sales:\n```python\nprint(sum([120, 90, 310]))\n```"
    return f"The code gave: {found[-1]}"


def text(messages: list[BaseMessage]) -> str:
    """The writer: a text of what the analyst found; and of what a person said about it."""
    [*_, found] = [message.text for message in messages if message.name == "analyst"]
    wishes = [message.text for message in messages if is_from_person(message)][1:]
    return f"Sales in the first quarter. {found}." + (f" ({'; '.join(wishes)})" if wishes else "")


def opinion(messages: list[BaseMessage]) -> str:
    """The critic: content from the second version on."""
    versions = [message for message in messages if message.name == "writer"]
    return "APPROVE" if len(versions) > 1 else "Too dry. Write it once more."


def speaker(name: str, script: Callable[[list[BaseMessage]], str]) -> Any:
    """A node that says what its model says, in its own name: replies find their way by it."""
    model = ScriptedChatModel(script)

    def speak(state: Team) -> dict[str, list[AIMessage]]:
        reply = model.invoke(state["messages"])
        return {"messages": [AIMessage(reply.text, name=name, id=reply.id)]}

    return speak


def execute(language: str, code: str) -> CodeResult:
    """Where a real one would use a container."""
    command = [sys.executable, "-I", "-c", code] if language == "python" else ["sh", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return CodeResult(124, "it took longer than a minute")
    return CodeResult(done.returncode, done.stdout + done.stderr)


def has_code(state: Team) -> str:
    return "code" if "```" in state["messages"][-1].text else "writer"


person = UserProxyNode(
    "writer",
    human_input_mode="TERMINATE",
    is_termination_msg=TextMentionTermination("APPROVE", sources=["critic"]) | MaxMessageTermination(12),
    default_auto_reply="Please improve it.",
)

builder = StateGraph(Team)
builder.add_node("analyst", speaker("analyst", figures))
builder.add_node("code", CodeBlocksNode("analyst", tools="run_code"))
builder.add_node("run_code", ApprovalNode([code_tool(execute)], policy=Policy([Rule("execute_code", "ask")])))
builder.add_node("writer", speaker("writer", text))
builder.add_node("critic", speaker("critic", opinion))
builder.add_node("user", person)
builder.add_edge(START, "analyst")
builder.add_conditional_edges("analyst", has_code, ["code", "writer"])
builder.add_edge("run_code", "code")
builder.add_edge("writer", "critic")
builder.add_edge("critic", "user")
graph = builder.compile()


def make() -> CompiledStateGraph[Team, None, Team, Team]:
    """The graph with its database, for a worker."""
    return builder.compile(checkpointer=SqliteCheckpointer(os.environ.get("HITL_DB", "agent.db")))


if __name__ == "__main__":
    task = " ".join(sys.argv[1:]) or "Report on the sales"
    make().invoke({"messages": [HumanMessage(task)]}, {"configurable": {"thread_id": "1"}}, durability="sync")
    print("Somebody is needed: hitl inbox")
