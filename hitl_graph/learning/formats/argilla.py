"""Records of Argilla 2, as `Dataset.records.from_json` reads them, and the labels that come back. No I/O.

https://docs.argilla.io/latest/reference/argilla/records/records. A response belongs to an account of the server, so a
decision that was made elsewhere is a suggestion of its reviewer; what the model proposed is one for the text to edit.
"""

from collections.abc import Mapping
from typing import Any

from hitl_graph.learning.formats.labels import Label, Unclear, name_of, word_of
from hitl_graph.learning.formats.tasks import Task

__all__ = ["label", "parts", "row"]


def row(task: Task) -> dict[str, Any]:
    """A record with its suggestions."""
    fields = {"about": task.about, "input": task.input, "output": task.output}
    suggested = {"edited": _suggestion(task.edited or task.output, task.reviewer if task.edited else task.model)}
    if task.decision is not None:
        suggested["decision"] = _suggestion(task.decision.type, task.reviewer)
    if task.message:
        suggested["message"] = _suggestion(task.message, task.reviewer)
    metadata: dict[str, str | float] = {**task.facts}
    if task.score is not None:
        metadata["score"] = task.score
    return {
        "id": task.id,
        "fields": {name: value for name, value in fields.items() if value},
        "metadata": metadata,
        "suggestions": suggested,
        "responses": {},
        "vectors": {},
    }


def _suggestion(value: str, agent: str | None) -> dict[str, Any]:
    return {"value": value, "score": None, "agent": agent}


def parts(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The responses to a record of `records.to_list(flatten=True)`, each with the record.

    Raises:
        Unclear: It is no such record.
    """
    if "responses" in record:  # nested, it does not tell a draft or a discarded answer from one that was submitted
        raise Unclear("it does not say which answers were submitted; write dataset.records.to_list(flatten=True)")
    users = record.get("decision.responses.users") or []
    return [(f", response {number}", (record, number - 1)) for number, _ in enumerate(users, 1)]


def label(part: Any) -> Label | None:
    """What a response says; None where it is a draft, or was discarded.

    Raises:
        Unclear: It cannot be understood.
    """
    record, at = part
    status, user = (_nth(record.get(f"decision.responses.{name}"), at) for name in ("status", "users"))
    if status in ("draft", "discarded"):
        return None
    if status != "submitted":
        raise Unclear(f"it does not say whether the answer was submitted: its status is {status!r}")
    return Label(
        name_of(record.get("id"), "id") or "",
        word_of(_nth(record.get("decision.responses"), at)),
        _theirs(record, "edited", user),
        is_typed=True,
        message=_theirs(record, "message", user),
        who=name_of(user, "user"),
        digest=name_of(record.get("digest"), "digest"),
    )


def _theirs(record: Mapping[str, Any], name: str, user: Any) -> str | None:
    """What this user answered to another question of the record."""
    places = [at for at, other in enumerate(record.get(f"{name}.responses.users") or ()) if other == user]
    texts = [_nth(record.get(f"{name}.responses"), at) for at in places]
    if len(texts) > 1 or not all(isinstance(text, str) for text in texts):
        raise Unclear(f"it has {len(texts)} answers of one user to {name!r}, or one that is no text")
    return texts[0] if texts else None


def _nth(values: Any, at: int) -> Any:
    if not isinstance(values, list) or at >= len(values):
        raise Unclear("its responses, their users and their status do not fit together")
    return values[at]
