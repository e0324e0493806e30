"""An agent that pays bills, for the tests of the notebook; its database is the file that is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import Reply, ScriptedChatModel

ASK = Rule("pay", "ask", reason="money leaves the house")


class Bank:
    """What was paid, and whether the bank is open."""

    def __init__(self) -> None:
        self.paid = list[tuple[str, int]]()
        self.is_open = True


def thread(name: str = "1") -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


def bills(text: str = "pay the bills") -> dict[str, Any]:
    return {"messages": [("user", text)]}


def agent(
    path: str | Path, script: Sequence[Reply], bank: Bank, rule: Rule = ASK, *, is_async: bool = False, **options: Any
) -> Any:
    """The compiled graph."""

    @tool
    def pay(to: str, eur: int, note: str | None = None) -> str:
        """Send money."""
        if not bank.is_open:
            raise RuntimeError("the bank is closed")
        bank.paid.append((to, eur))
        return f"paid {eur} to {to}"

    model = ScriptedChatModel(script).bind_tools([pay])

    def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", acall_model if is_async else call_model)
    builder.add_node("tools", ApprovalNode([pay], policy=Policy([rule])))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=SqliteCheckpointer(path), **options)
