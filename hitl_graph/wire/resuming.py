"""How a decision goes back into the graph."""

from collections.abc import Container, Iterable
from typing import Any, cast

from hitl_graph.model import Decision, Request

__all__ = ["resume_value", "resume_values"]


def resume_values(decided: Iterable[Request], afar: Container[str] = ()) -> dict[str, Any]:
    """What to resume a thread with, by interrupt id: `Command(resume=resume_values(...))`.

    An interrupt that asks several things gets what is decided of them, and asks for the rest again.

    Args:
        decided: Requests of one thread, each with its decision.
        afar: Interrupts of graphs with a ledger of their own, in which these decisions are not: they get all of it.
    """
    by_interrupt: dict[str, list[Any]] = {}
    for request in decided:
        decision = cast(Decision, request.decision)
        value = resume_value(request, decision)
        if request.interrupt_id in afar and request.answer_shape == "hitl":
            value |= decision.model_dump(mode="json", exclude_defaults=True)
        by_interrupt.setdefault(request.interrupt_id, []).append(value)
    return {
        interrupt: values[0] if len(values) == 1 else {"decisions": values}
        for interrupt, values in by_interrupt.items()
    }


def resume_value(request: Request, decision: Decision) -> Any:
    """What to resume the graph with. For our own nodes it only points at the ledger, which is what counts."""
    if request.answer_shape == "hitl":
        return {"request_id": request.id, "digest": request.digest}
    if request.answer_shape == "raw":
        return decision.message if decision.value is None else decision.value
    answer: dict[str, Any] = {"type": decision.type}
    if decision.type == "edit":
        name = request.action.name if request.action else ""
        answer["edited_action"] = {"name": name, "args": decision.args}
    elif decision.type != "approve" and decision.message is not None:
        answer["message"] = decision.message
    if request.answer_shape == "tool_approval":
        return answer
    asked = request.question
    count = len(cast("list[Any]", asked["action_requests"])) if isinstance(asked, dict) else 1
    return {"decisions": [answer] * count}
