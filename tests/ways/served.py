"""Every way in one `langgraph dev`, with the server's own checkpointer and a ledger of ours beside it.

`way0`, `way1`, ... are the graphs of `WAYS`. People are asked about every payment; about 50 only until there is a file
that is named like the database, with `.lax` at its end.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool

from hitl_graph.ledger import Ledger
from hitl_graph.policy import Call, Policy, Rule
from tests.invariants.agents import write_effect
from tests.ways.builders import WAYS

__all__ = ["LAX", "graph_name"]

LAX = ".lax"


def graph_name(number: int) -> str:
    return f"way{number}"


def _tools(effects: str) -> list[BaseTool]:
    def pay(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Send money; the line goes dead after 13."""
        write_effect(effects, f"{config['configurable']['thread_id']} {tool_call_id} pay {eur} {to}")
        if eur == 13:
            raise ConnectionError("the line went dead")
        return f"paid {eur} to {to}"

    def search(q: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Search the web."""
        write_effect(effects, f"{config['configurable']['thread_id']} {tool_call_id} search {q}")
        return f"found {q}"

    return [StructuredTool.from_function(pay), StructuredTool.from_function(search)]


def _policy(database: str) -> Policy:
    def wanted(call: Call) -> bool:
        return call.args["eur"] != 50 or not Path(database + LAX).exists()

    return Policy(
        [
            Rule("search", "allow"),
            Rule("pay", "allow"),
            Rule("pay", "ask", when=wanted),
        ]
    )


def _build(database: str, effects: str) -> dict[str, Any]:
    ledger: Any = Ledger.open(database)
    more: dict[str, Any] = {"policy": _policy(database), "ledger": ledger, "tools": _tools(effects)}
    none: Any = None  # the server puts its own in
    return {graph_name(number): way.build(none, effects, **more) for number, way in enumerate(WAYS)}


if "HITL_DB" in os.environ:  # the server imports this
    globals().update(_build(os.environ["HITL_DB"], os.environ["HITL_OUTBOX"]))
