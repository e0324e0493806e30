"""A refund desk with LangGraph's functional API: `langgraph dev` in the folder with langgraph.json.

Say "refund 20 to ann and 500 to bob". Small refunds are paid at once, the others wait for a person, each by itself; if
no amount is named, the desk asks for it. What was paid is a line of the file `HITL_REFUNDS` (default: refunds.jsonl).
The graph is compiled without a checkpointer: the server brings the one that langgraph.json names.
"""

import json
import os
import re
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, convert_to_messages
from langgraph.func import entrypoint, task
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from hitl_graph.effects import idempotency_key
from hitl_graph.errors import RejectedError
from hitl_graph.functional import ask, requires_approval
from hitl_graph.policy import Policy, Rule


class Conversation(TypedDict):
    messages: list[AnyMessage]


policy = Policy([Rule("pay", "allow", when=lambda call: call.args["eur"] < 50)])  # no rule: people are asked


@task
def read(text: str) -> list[tuple[int | None, str]]:
    """Who shall get how much, as far as it is said. A model would read it; this is a pattern."""
    found = re.findall(r"(?:(\d+) )?to (\w+)", text)
    return [(int(eur) if eur else None, to) for eur, to in found]


@requires_approval(policy)
@task
def pay(eur: int, to: str) -> str:
    """Pay money back to a customer."""
    with open(os.environ.get("HITL_REFUNDS", "refunds.jsonl"), "a") as book:
        book.write(json.dumps({"to": to, "eur": eur, "key": idempotency_key()}) + "\n")
    return f"paid {eur} to {to}"


@entrypoint()
def refund_desk(given: Conversation, *, previous: Conversation | None = None) -> Conversation:
    said = convert_to_messages(given["messages"])
    orders = read(said[-1].text).result()
    known = [(eur or ask(f"How much shall {to} get?", answer=int), to) for eur, to in orders]
    refunds = [pay(eur, to) for eur, to in known]  # all of them at once
    told = []
    for refund in refunds:
        try:
            told.append(refund.result())
        except RejectedError as refused:
            told.append(f"not paid: {refused.message}")
    said.append(AIMessage("\n".join(told) or "Who shall get money back?"))
    before: Any = previous["messages"] if previous else []
    return {"messages": cast(Any, add_messages(before, cast(Any, said)))}
