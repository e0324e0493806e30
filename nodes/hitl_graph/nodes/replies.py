"""What the model is told about a call that did not run as it asked. Pure functions."""

from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall, ToolMessage
from langgraph.types import Command

from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Action, Decision, canonical

__all__ = [
    "asks_alone",
    "changed",
    "denied",
    "edited",
    "found_out",
    "guidance",
    "instead",
    "not_alone",
    "not_json",
    "not_plain",
    "stopped",
    "text",
    "unfit",
    "with_notice",
]


def _message(call: Any, content: str, *, failed: bool = True) -> ToolMessage:
    return ToolMessage(
        content, name=call["name"], tool_call_id=call["id"] or "", status="error" if failed else "success"
    )


def instead(call: ToolCall, decision: Decision, *, by: str | None = None) -> ToolMessage:
    """A person rejected the call, or answered in its place; or nobody did in time (`by` is `deadline`)."""
    if by == CHANNEL:
        return _message(
            call, f"{call['name']} needed a person's approval and did not run. {decision.message} Do not try it again."
        )
    if decision.type == "respond":
        return _message(call, text(decision), failed=False)
    why = f' They said: "{decision.message}".' if decision.message else ""
    return _message(
        call, f"A person rejected this call of {call['name']}; it did not run.{why} Do not make the same call again."
    )


def text(decision: Decision) -> str:
    """The text of a respond."""
    return decision.message if decision.message is not None else canonical(decision.value)


def denied(call: ToolCall, reason: str) -> ToolMessage:
    """The policy never lets it run."""
    return _message(
        call, f"{call['name']} is not permitted with these arguments ({reason}); it did not run. Do not try it again."
    )


def stopped(call: ToolCall, by: str, *, again: bool = False) -> ToolMessage:
    """A switch does not let it run.

    Args:
        again: An earlier attempt was cut off, and this would have been the next.
    """
    what = "was cut off, and was not run again" if again else "did not run"
    return _message(call, f"{call['name']} {what}: {by}. Do not try it again.")


def guidance(decision: Decision) -> str:
    """Added for a call that was denied, when people were asked what now."""
    return f"[A person who watches this run says: {text(decision)}\nFollow this from here on.]"


def changed(call: ToolCall) -> ToolMessage:
    """The tool takes other arguments than it did when people were asked."""
    return _message(
        call,
        f"{call['name']} changed after people were asked about this call; it did not run. Call it again to ask anew.",
    )


def edited(action: Action) -> str:
    """Added to the result of a call that ran with other arguments than the model gave."""
    return (
        f"[A person changed this call before it ran. It ran with {canonical(action.args)}."
        " Do not call it again with the old arguments.]"
    )


def found_out(call: ToolCall, decision: Decision) -> ToolMessage:
    """A person found out what became of a call whose end was not known."""
    if decision.type == "respond":
        return _message(call, text(decision), failed=False)
    why = f' They said: "{decision.message}".' if decision.message else ""
    return _message(call, f"{call['name']} was interrupted; a person checked that it was not done.{why}")


def not_plain(call: ToolCall) -> ToolMessage:
    """The arguments cannot be shown to a person, because they are not JSON."""
    return _message(
        call, f"The arguments of {call['name']} are not plain JSON; it did not run. Call it again with JSON."
    )


def not_alone(call: ToolCall) -> ToolMessage:
    """People have to be asked about it, and LangGraph runs it in one task with other calls, where they cannot be."""
    return _message(
        call,
        f"{call['name']} did not run: a person has to be asked about it, and that cannot be done beside the other calls"
        " of this message. Make this call again, alone.",
    )


def asks_alone(call: ToolCall) -> ToolMessage:
    """It asks a question of its own, and LangGraph runs it in one task with other calls: answers could go astray."""
    return _message(
        call,
        f"{call['name']} stopped to ask a person something, and that cannot be done beside the other calls of this"
        " message. Make this call again, alone.",
    )


def unfit(call: ToolCall, problem: str) -> ToolMessage:
    """It does not fit the tool, or there is no such tool."""
    return _message(call, problem)


def not_json(call: InvalidToolCall) -> ToolMessage:
    """The model wrote arguments that cannot be parsed."""
    return _message(
        {"name": call.get("name") or "unknown", "id": call.get("id")},
        f"The arguments are not valid JSON ({call.get('error') or 'cannot be parsed'}); it did not run. Call it again.",
    )


def with_notice(output: Any, notice: str | None) -> Any:
    """The output of a tool, with a notice for the model in its message."""
    if notice is None:
        return output
    if isinstance(output, list):
        return [with_notice(part, notice) for part in output]
    if isinstance(output, Command):
        if isinstance(output.update, dict):
            for value in output.update.values():
                if isinstance(value, list):
                    [with_notice(part, notice) for part in value if isinstance(part, ToolMessage)]
        return output
    if isinstance(output, ToolMessage):
        if isinstance(output.content, str):
            output.content = f"{output.content}\n\n{notice}"
        else:
            output.content = [*output.content, {"type": "text", "text": notice}]
    return output
