"""An agent that proposes trades. Small ones it makes by itself; for the others it has to ask.

    python trading_agent.py "buy 40 ACME"            # 3,200 EUR: waits for a person
    hitl show ID                                     # the order, and the price and the cash as they are now
    hitl approve ID                                  # or edit the quantity, or reject
    hitl worker trading_agent:make --once            # any process goes on

The price and the cash are facts: they are read again before the order goes out. If they have changed by then, it does
not, and people are asked again, with what changed. From 10,000 EUR two people of the role `trader` have to agree
(`hitl approve ID --as alice --directory people.toml`), and a proposal that nobody approves within half an hour is
rejected. The model is scripted, so nothing else is needed. The market is the file `HITL_MARKET` (default: market.json),
what was ordered is a line of `HITL_ORDERS` (default: orders.jsonl), under its idempotency key.
"""

import json
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.effects import idempotency_key
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call

MARKET: dict[str, Any] = {"cash": 25_000, "prices": {"ACME": 80, "GLOBEX": 250}}


def market() -> dict[str, Any]:
    """Cash and prices, as they are now."""
    file = Path(os.environ.get("HITL_MARKET", "market.json"))
    return dict(json.loads(file.read_text())) if file.exists() else MARKET


@tool
def quote(symbol: str) -> str:
    """The price of a share now, in EUR."""
    return str(market()["prices"][symbol])


@tool
def place_order(side: Literal["buy", "sell"], symbol: str, quantity: int) -> str:
    """Buy or sell shares at the market's price."""
    order = {"key": idempotency_key(), "side": side, "symbol": symbol, "quantity": quantity}
    with open(os.environ.get("HITL_ORDERS", "orders.jsonl"), "a") as orders:
        orders.write(json.dumps(order) + "\n")
    return f"ordered: {side} {quantity} {symbol}"


def value(call: Call) -> float:
    """What the order is worth now."""
    return float(market()["prices"][call.args["symbol"]] * call.args["quantity"])


FACTS: Any = {
    "price": lambda call: market()["prices"][call.args["symbol"]],
    "cash": lambda call: market()["cash"],
}
policy = Policy(
    [
        Rule("quote", "allow"),
        Rule("place_order", "allow", when=lambda call: value(call) <= 1_000),
        Rule(
            "place_order",
            "ask",
            when=lambda call: 1_000 < value(call) < 10_000,
            reason="more than 1,000 EUR",
            facts=FACTS,
            editable=("quantity",),
            risk="medium",
        ),
        Rule(
            "place_order",
            "ask",
            when=lambda call: value(call) >= 10_000,
            reason="10,000 EUR or more",
            facts=FACTS,
            editable=("quantity",),
            risk="high",
            reviewers=["role:trader"],
            quorum=2,
            deadline=timedelta(minutes=30),
            on_deadline="reject",
        ),
        Rule(
            "place_order", "deny", when=lambda call: value(call) > market()["cash"], reason="there is not so much cash"
        ),
    ]
)


def script(messages: list[BaseMessage]) -> str | list[ToolCall]:
    """What the model says next: a function of the conversation, so that any process can go on with it."""
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    wanted = re.search(r"(buy|sell) (\d+) (\w+)", messages[last].text) or re.search(r"(buy) (\d+) (\w+)", "buy 40 ACME")
    assert wanted is not None
    answers = [message for message in messages[last:] if isinstance(message, ToolMessage)]
    if not answers:
        return [tool_call("quote", symbol=wanted[3])]
    if len(answers) == 1:
        return [tool_call("place_order", side=wanted[1], symbol=wanted[3], quantity=int(wanted[2]))]
    return answers[-1].text


tools = [quote, place_order]
model = ScriptedChatModel(script).bind_tools(tools)


def call_model(state: MessagesState) -> dict[str, list[AIMessage]]:
    return {"messages": [model.invoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("agent", call_model)
builder.add_node("tools", ApprovalNode(tools, policy=policy, graph="trading"))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")


def make() -> Any:
    """The graph, with its database."""
    return builder.compile(checkpointer=SqliteCheckpointer(os.environ.get("HITL_DB", "agent.db")))


if __name__ == "__main__":
    graph, order = make(), " ".join(sys.argv[1:]) or "buy 40 ACME"
    thread: Any = {"configurable": {"thread_id": order}}
    state = graph.invoke({"messages": [HumanMessage(order)]}, thread, durability="sync")
    print("It needs you: hitl inbox" if "__interrupt__" in state else state["messages"][-1].text)
    graph.checkpointer.close()
