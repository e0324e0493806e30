"""Many agents, one inbox: three agents of an office that know nothing of each other, over one database.

    python office_agents.py          # nine errands of three agents; each runs until it needs somebody
    hitl inbox                       # all that waits, whoever asks
    hitl inbox --kind question
    hitl approve ID
    hitl worker office_agents:travel --once       # each agent has its worker; it leaves the others' threads alone

The models are scripted, so nothing else is needed. What was done is a line of the file `HITL_DONE` (default:
done.jsonl).
"""

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode, ask_human
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call


def done(what: str) -> str:
    with open(os.environ.get("HITL_DONE", "done.jsonl"), "a") as lines:
        lines.write(json.dumps(what) + "\n")
    return what


@tool
def book_train(to: str, day: str) -> str:
    """Book a train for somebody of the office."""
    return done(f"booked a train to {to} for {day}")


@tool
def order_goods(item: str, quantity: int, eur: int) -> str:
    """Order something for the office."""
    return done(f"ordered {quantity} {item} for {eur} EUR")


@tool
def answer_customer(customer: str, text: str) -> str:
    """Write to a customer."""
    return done(f"wrote to {customer}: {text}")


def script(errands: dict[str, ToolCall], messages: Sequence[BaseMessage]) -> str | list[ToolCall]:
    """The model does the errand that it was given, and says what came of it."""
    last = max(at for at, message in enumerate(messages) if isinstance(message, HumanMessage))
    answers = [message for message in messages[last:] if isinstance(message, ToolMessage)]
    if not answers:
        errand = messages[last].text
        call = errands.get(errand, next(iter(errands.values())))
        return [tool_call(call["name"], **call["args"])]
    return answers[-1].text


def agent(name: str, tools: list[BaseTool], rules: list[Rule], errands: dict[str, ToolCall]) -> StateGraph[Any]:
    """An agent of the office."""
    model = ScriptedChatModel(partial(script, errands)).bind_tools(tools)

    def call_model(state: MessagesState) -> dict[str, list[AIMessage]]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", call_model)
    builder.add_node("tools", ApprovalNode(tools, policy=Policy(rules), graph=name))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder


ERRANDS: dict[str, dict[str, ToolCall]] = {
    "travel": {
        "Ann has to be in Lyon on Monday.": tool_call("book_train", to="Lyon", day="Monday"),
        "Bob has to be in Ghent on Friday.": tool_call("book_train", to="Ghent", day="Friday"),
        "Eve has to be in Turin next week.": tool_call(
            "ask_human", question="On which day does Eve have to be in Turin?", why="the errand says next week"
        ),
    },
    "purchasing": {
        "We are out of paper.": tool_call("order_goods", item="boxes of paper", quantity=10, eur=45),
        "Eve needs a screen.": tool_call("order_goods", item="screens", quantity=1, eur=320),
        "The summer party needs a band.": tool_call("order_goods", item="bands", quantity=1, eur=1800),
    },
    "support": {
        "Mrs Weber asks for her invoice.": tool_call(
            "answer_customer", customer="weber@example.com", text="Here is your invoice."
        ),
        "Mr Novak wants his money back.": tool_call(
            "answer_customer", customer="novak@example.com", text="We refund the 80 EUR."
        ),
        "A newspaper asks about the data leak.": tool_call(
            "ask_human", question="What may we tell the newspaper?", options=["nothing yet", "send the statement"]
        ),
    },
}
travel_agent = agent("travel", [book_train, ask_human()], [Rule("book_train", "ask", risk="low")], ERRANDS["travel"])
purchasing_agent = agent(
    "purchasing",
    [order_goods],
    [
        Rule("order_goods", "allow", when=lambda call: call.args["eur"] <= 100),
        Rule("order_goods", "ask", when=lambda call: call.args["eur"] > 100, reason="more than 100 EUR", risk="medium"),
    ],
    ERRANDS["purchasing"],
)
support_agent = agent(
    "support",
    [answer_customer, ask_human()],
    [Rule("answer_customer", "ask", reason="mail to a customer", risk="low")],
    ERRANDS["support"],
)
AGENTS = {"travel": travel_agent, "purchasing": purchasing_agent, "support": support_agent}


def made(name: str) -> Any:
    """An agent, with the database of them all."""
    return AGENTS[name].compile(checkpointer=SqliteCheckpointer(os.environ.get("HITL_DB", "agent.db")))


travel, purchasing, support = (partial(made, name) for name in AGENTS)

if __name__ == "__main__":
    for name in sys.argv[1:] or AGENTS:
        graph = made(name)
        for number, errand in enumerate(ERRANDS[name], 1):
            thread: Any = {"configurable": {"thread_id": f"{name}-{number}"}}
            state = graph.invoke({"messages": [HumanMessage(errand)]}, thread, durability="sync")
            asks = "asks: hitl inbox" if "__interrupt__" in state else state["messages"][-1].text
            print(f"{name}-{number}: {errand} {asks}")
        graph.checkpointer.close()
