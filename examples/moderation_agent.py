"""A moderator of posts that is not always sure, and sometimes gets stuck.

It classifies each post and keeps or removes it. Where the classifier is unsure, the agent asks a person (`ask_human`),
and gets a typed answer. Where the classifier does not work at all, the agent tries again and again, until the watch
(`EscalationNode`) calls a person. The model is scripted, so nothing else is needed:

    python examples/moderation_agent.py            # runs until it needs somebody
    hitl inbox
    hitl respond ID --set verdict=keep --set "note=sports talk"
    hitl respond ID -m "It is Dutch. Call translate first."
    hitl worker moderation_agent:make --once       # in the folder of this file, with HITL_DB=.../agent.db

What was decided is a line of the file `HITL_DECISIONS` (default: decisions.jsonl).
"""

import json
import os
import re
import sys
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from pydantic import BaseModel, Field

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode, EscalationNode, ask_human
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call

POSTS = {
    1: "Great talk yesterday, thanks to everybody!",
    2: "CHEAP WATCHES, only today, click here",
    3: "Somebody should shoot this referee to the moon.",
    4: "Wat een feest, iedereen bedankt!",
}
ENGLISH = {4: "What a party, thanks to everybody!"}


class Verdict(BaseModel):
    """What shall become of a post."""

    verdict: Literal["keep", "remove"]
    note: str = Field("", description="for the author of the post")


@tool
def classify(text: str) -> str:
    """Says whether a text may stay, and how sure that is."""
    if "feest" in text:
        return "Error: the language of this text is not supported"
    if "shoot" in text:
        return "remove, 52% sure"
    return "remove, 97% sure" if "CHEAP" in text else "keep, 98% sure"


@tool
def translate(post: int) -> str:
    """A post in English."""
    return ENGLISH.get(post, POSTS[post])


@tool
def settle(post: int, verdict: Literal["keep", "remove"], note: str = "") -> str:
    """Keep or remove a post."""
    with open(os.environ.get("HITL_DECISIONS", "decisions.jsonl"), "a") as decisions:
        decisions.write(json.dumps({"post": post, "verdict": verdict, "note": note}) + "\n")
    return f"post {post}: {verdict}"


def script(messages: list[AnyMessage]) -> str | list[ToolCall]:
    """What the model says next: a function of the conversation, so that any process can go on with it."""
    settled = sum(isinstance(m, ToolMessage) and m.name == "settle" for m in messages)
    if settled == len(POSTS):
        return "All posts are settled."
    post, last = settled + 1, messages[-1]
    if isinstance(last, HumanMessage) and "translate" in last.text:
        return [tool_call("translate", post=post)]
    if isinstance(last, ToolMessage) and last.name == "translate":
        return [tool_call("classify", text=last.text)]
    if isinstance(last, ToolMessage) and last.name == "ask_human":
        return [tool_call("settle", post=post, **json.loads(last.text))]
    if isinstance(last, ToolMessage) and (said := re.match(r"(keep|remove), (\d+)%", last.text)):
        if int(said[2]) >= 80:
            return [tool_call("settle", post=post, verdict=said[1])]
        question = f'May this post stay?\n"{POSTS[post]}"'
        return [tool_call("ask_human", question=question, why=f"the classifier says {last.text}")]
    return [tool_call("classify", text=POSTS[post])]


tools = [classify, translate, settle, ask_human(answer=Verdict)]
model = ScriptedChatModel(script).bind_tools(tools)


def call_model(state: MessagesState) -> dict[str, list[AIMessage]]:
    return {"messages": [model.invoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("agent", call_model)
builder.add_node("tools", ApprovalNode(tools, policy=Policy([Rule("*", "allow")])))
builder.add_node("watch", EscalationNode(resume="agent"))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "watch")


def make() -> Any:
    """The graph, with its database."""
    return builder.compile(checkpointer=SqliteCheckpointer(os.environ.get("HITL_DB", "agent.db")))


if __name__ == "__main__":
    graph = make()
    thread: Any = {"configurable": {"thread_id": sys.argv[1] if len(sys.argv) > 1 else "moderation"}}
    state = graph.invoke({"messages": [HumanMessage("Please go through the new posts.")]}, thread, durability="sync")
    if "__interrupt__" in state:
        print("It needs you: hitl inbox")
    graph.checkpointer.close()
