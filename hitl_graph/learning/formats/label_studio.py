"""Tasks of Label Studio, and the labels that come back. No I/O.

https://labelstud.io/guide/task_format. What the model proposed is a prediction of the text to edit, never of the
decision: nobody shall say yes by not looking.
"""

from collections.abc import Mapping
from typing import Any, Final

from hitl_graph.learning.formats.labels import Label, Unclear, mapping, name_of, word_of
from hitl_graph.learning.formats.tasks import Task

__all__ = ["CONFIG", "label", "parts", "row"]

CONFIG: Final = """<View>
  <Text name="about" value="$about"/>
  <Text name="input" value="$input"/>
  <Text name="output" value="$output"/>
  <Choices name="decision" toName="output" choice="single-radio" required="true">
    <Choice value="approve"/>
    <Choice value="edit"/>
    <Choice value="reject"/>
    <Choice value="respond"/>
  </Choices>
  <TextArea name="edited" toName="output" maxSubmissions="1" editable="true" rows="6"
            visibleWhen="choice-selected" whenTagName="decision" whenChoiceValue="edit"/>
  <TextArea name="message" toName="output" maxSubmissions="1" editable="true" rows="2"/>
</View>"""
"""The labelling interface of a project for these tasks."""


def row(task: Task) -> dict[str, Any]:
    """A task with what the model proposed, and with its label where there is one."""
    shown = {"about": task.about, "input": task.input, "output": task.output}
    known = {"reviewer": task.reviewer, "score": task.score}
    known = {name: str(value) for name, value in known.items() if value is not None}
    prediction: dict[str, Any] = {"result": [_area("edited", task.output)]}
    if task.model is not None:
        prediction["model_version"] = task.model
    if task.score is not None and 0 <= task.score <= 1:  # it takes no other
        prediction["score"] = task.score
    found: dict[str, Any] = {
        "data": {"request_id": task.id, **shown, **task.facts, **known},
        "predictions": [prediction],
    }
    if task.decision is not None:
        choice = {"from_name": "decision", "to_name": "output", "type": "choices"}
        result = [{"id": "decision", **choice, "value": {"choices": [task.decision.type]}}]
        areas = {"edited": task.edited, "message": task.message}
        result += [_area(name, value) for name, value in areas.items() if value]
        found["annotations"] = [{"result": result}]
    return found


def _area(name: str, value: str) -> dict[str, Any]:
    return {"id": name, "from_name": name, "to_name": "output", "type": "textarea", "value": {"text": [value]}}


def parts(task: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The annotations of a task of the JSON export, each with the task's data.

    Raises:
        Unclear: It is no such task.
    """
    data = mapping(task.get("data"), "it has no data; export the project as JSON, not as JSON-MIN")
    annotations = task.get("annotations")
    if not isinstance(annotations, list):
        raise Unclear("it has no list of annotations; export the project as JSON, not as JSON-MIN")
    return [(f", annotation {number}", (data, one)) for number, one in enumerate(annotations, 1)]


def label(part: Any) -> Label | None:
    """What an annotation says; None where it was skipped, or is empty.

    Raises:
        Unclear: It cannot be understood.
    """
    data, annotation = part[0], mapping(part[1], "it is no annotation")
    if annotation.get("was_cancelled"):
        return None
    values: dict[str, list[Any]] = {"decision": [], "edited": [], "message": []}
    for region in annotation.get("result") or ():
        told = mapping(region, "its result is none")
        if told.get("from_name") in values:
            values[told["from_name"]].append(mapping(told.get("value"), "its result has no value"))
    edited, message = (_typed(name, values[name]) for name in ("edited", "message"))
    chosen = [one for value in values["decision"] for one in value.get("choices") or ()]
    if not chosen and edited is None and message is None:
        return None
    if len(chosen) != 1:
        raise Unclear(f"it has {len(chosen) or 'no'} decisions where one is asked for")
    who = annotation.get("completed_by")
    return Label(
        name_of(data.get("request_id"), "data.request_id") or "",
        word_of(chosen[0]),
        edited,
        is_typed=True,
        message=message,
        who=name_of((who.get("email") or who.get("id")) if isinstance(who, dict) else who, "completed_by"),
        digest=name_of(data.get("digest"), "data.digest"),
    )


def _typed(name: str, values: list[Any]) -> str | None:
    texts = [text for value in values for text in _listed(value.get("text"))]
    if len(texts) > 1 or not all(isinstance(text, str) for text in texts):
        raise Unclear(f"it has {len(texts)} texts in {name!r} where one is asked for")
    return texts[0] if texts else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
