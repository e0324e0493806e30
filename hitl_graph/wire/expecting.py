"""What an answer has to look like, for clients that draw a form from it."""

from collections.abc import Sequence
from typing import Any

from hitl_graph.model import Comment, Request

__all__ = ["answer_schema"]


def answer_schema(asked: Sequence[Request]) -> dict[str, Any]:
    """JSON Schema of an answer, for clients that draw a form from it."""
    if len(asked) == 1 and asked[0].position is None:
        return _decision_schema(asked[0])
    decisions = [_decision_schema(request) for request in asked]
    shared = {name: part for decision in decisions for name, part in decision.pop("$defs", {}).items()}
    count = len(decisions)
    array = {"type": "array", "prefixItems": decisions, "items": False, "minItems": count, "maxItems": count}
    schema = {"title": "Decisions", "type": "object", "properties": {"decisions": array}, "required": ["decisions"]}
    return {**schema, "$defs": shared} if shared else schema


def _decision_schema(request: Request) -> dict[str, Any]:
    name = {"question": "value", "review": "draft"}.get(request.kind, "args")
    schema = dict(request.answer_schema or ({"type": "object"} if name == "args" else {}))
    shared = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}  # what it refers to is looked up at the root
    properties: dict[str, Any] = {
        "type": {"type": "string", "enum": list(request.allowed), "description": str(request.labels or "")},
        name: schema,
        "message": {"type": "string"},
        "request_id": {"const": request.id},
        "digest": {"const": request.digest},
    }
    if request.kind == "review":
        properties["comments"] = {"type": "array", "items": Comment.model_json_schema()}
    return {"title": "Decision", "type": "object", "properties": properties, "required": ["type"], **shared}
