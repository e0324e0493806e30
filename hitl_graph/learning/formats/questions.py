"""What waits for people as plain JSON lines, to be completed by hand or by a script, and the labels in them. No I/O."""

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from hitl_graph.learning.formats.labels import Label, name_of, word_of
from hitl_graph.learning.formats.tasks import proposal
from hitl_graph.model import Request

__all__ = ["label", "parts", "row"]


def row(request: Request, input: JsonValue = None) -> dict[str, Any]:
    """What waits for people, to be completed: `decision`, `reviewer`, and `message` or another `output`.

    Raises:
        Unusable: It is about no proposal of a model.
    """
    shown = proposal(request)
    return {
        "id": request.id,
        "digest": request.digest,
        "kind": request.kind,
        "tool": request.action.name if request.action else None,
        "thread_id": request.thread_id,
        "description": request.description,
        "reason": request.reason,
        "allowed": list(request.allowed),
        "input": input,
        "output": shown,
        "decision": None,
        "message": None,
        "reviewer": None,
    }


def parts(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The line itself, once it is completed."""
    return [] if found.get("decision") is None else [("", found)]


def label(found: Any) -> Label | None:
    """What a line says.

    Raises:
        Unclear: It cannot be understood.
    """
    return Label(
        name_of(found.get("id"), "id") or "",
        word_of(found["decision"]),
        found.get("output"),
        message=found.get("message"),
        who=name_of(found.get("reviewer"), "reviewer"),
        digest=name_of(found.get("digest"), "digest"),
    )
