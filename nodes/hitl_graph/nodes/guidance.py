"""What an answer to an escalation adds to the messages. Pure functions.

Their ids come from the request, so that a node that runs again after a crash says the same, not the same twice.
"""

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage

from hitl_graph.facts import Failure
from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Decision, Request
from hitl_graph.nodes import replies

__all__ = ["again", "guidance", "settled", "stopped", "unanswered"]


def unanswered(messages: Sequence[AnyMessage]) -> list[ToolCall]:
    """The tool calls of the last message of the model that nothing came back for.

    Providers refuse a history that goes on without an answer to each.
    """
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            broken: list[Any] = [{**call, "args": {}} for call in message.invalid_tool_calls]
            return [call for call in [*message.tool_calls, *broken] if call["id"] and call["id"] not in answered]
    return []


def settled(
    request: Request, calls: Sequence[ToolCall], failure: Failure | None, more: str | None = None
) -> list[AnyMessage]:
    """An answer to each call that is not going to run any more.

    Args:
        more: Said with the first of them, where no message of its own can stand.
    """
    what = f"failed: {failure.type}: {failure.message}" if failure else "did not run: a person stepped in"
    return [
        ToolMessage(
            f"{call['name']} {what}." + (f"\n{more}" if more and number == 0 else ""),
            name=call["name"],
            tool_call_id=call["id"] or "",
            status="error",
            id=f"hitl-{request.id}-{number}",
        )
        for number, call in enumerate(calls)
    ]


def guidance(request: Request, decision: Decision) -> HumanMessage:
    """What a person says to the model, marked as such."""
    return HumanMessage(
        f"[A person who watches this run stepped in, and says:]\n{replies.text(decision)}\n"
        "[Follow this from here on, and do not repeat what did not work.]",
        id=f"hitl-{request.id}",
        additional_kwargs={"hitl": {"request_id": request.id, "reviewer": request.reviewer or "anonymous"}},
    )


def again() -> HumanMessage:
    """Said with the result of a call that failed beside others."""
    return HumanMessage("[A person looked into it, and says: make this call again.]")


def stopped(request: Request, decision: Decision) -> AIMessage:
    """The last message of a run that a person stopped."""
    if request.channel == CHANNEL:
        return AIMessage(f"This run was stopped. {decision.message}", id=f"hitl-{request.id}")
    why = f": {decision.message}" if decision.message else "."
    return AIMessage(f"This run was stopped by a person{why}", id=f"hitl-{request.id}")
