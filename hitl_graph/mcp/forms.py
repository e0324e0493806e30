"""The forms in which a client asks its human, and what comes back of them as a decision. No I/O.

A form has primitive fields only: that is all the protocol lets a client draw. Nothing in it approves by being left
alone: the answer has no default, and the first choice leaves the request waiting.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hitl_graph.card import Answer, answers_of
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.form import MISSING, Field, Form
from hitl_graph.mcp.shapes import Proposal
from hitl_graph.model import Decision, Request, Word, approve, edit, reject, respond
from hitl_graph.visible import visible

__all__ = ["LEAVE", "Chosen", "First", "Second", "made"]

LEAVE = "wait"
"""The choice that is no decision."""
_ORDER: tuple[Word, ...] = ("reject", "respond", "edit", "approve")
_WHOLE = "value"
_LIMITS = ("minimum", "maximum", "minLength", "maxLength")


@dataclass(frozen=True)
class Chosen:
    """What the first form says; `answer` None: leave it waiting."""

    answer: Answer | None
    text: str | None = None
    option: str | None = None


class First:
    """The first form: what to answer, and a text.

    Args:
        proposal: The text that a model proposes for a reject or a respond stands in the field; nothing else of it.
        code: What has to be typed so that anything happens; None where a choice is enough.
    """

    def __init__(self, request: Request, proposal: Proposal | None, code: str | None) -> None:
        self._request, self._code = request, code
        known = {answer.word: answer for answer in answers_of(request)}
        self._answers = {word: known[word] for word in _ORDER if word in known}
        self._options = self._answers["respond"].options if "respond" in self._answers else ()
        takes_text = proposal is not None and proposal.answer in ("reject", "respond") and proposal.answer in known
        self._proposed = (proposal.answer, proposal.text) if proposal and takes_text and proposal.text else None

    @property
    def schema(self) -> dict[str, Any]:
        """To be drawn."""
        told = [f"{word}: {answer.means}" for word, answer in self._answers.items()]
        properties: dict[str, Any] = {
            "answer": {
                "type": "string",
                "title": "Your answer",
                "description": ". ".join([f"{LEAVE}: no decision", *told]),
                "enum": [LEAVE, *self._answers],
            }
        }
        if self._options:
            properties["option"] = {"type": "string", "title": "respond: one of these", "enum": self._numbered()}
        labels = [f"{word}: {answer.text_label}" for word, answer in self._answers.items() if answer.text != "no"]
        properties["text"] = {"type": "string", "title": "Text", "description": ". ".join(labels)}
        if self._proposed is not None:
            properties["text"]["default"] = self._proposed[1]
        if self._code is not None:
            properties["code"] = {
                "type": "string",
                "title": f"To approve or edit, type {self._code}",
                "description": "Much depends on it: a click is not enough.",
            }
        return {"type": "object", "properties": properties, "required": ["answer"]}

    def read(self, content: Mapping[str, Any] | None) -> Chosen:
        """What the human chose.

        Raises:
            InvalidDecisionError: Nothing that the form offers.
        """
        given = {name: value for name, value in (content or {}).items() if value not in (None, "")}
        self._known(given)
        word = given.get("answer")
        if word == LEAVE:
            return Chosen(None)
        if not isinstance(word, str) or word not in self._answers:
            said = "no answer was chosen" if word is None else f"{visible(repr(word)[:40])} is no answer"
            raise self._wrong(f"{said}; it takes {', '.join([LEAVE, *self._answers])}")
        answer, text, option = self._answers[word], given.get("text"), given.get("option")
        if text is not None and not isinstance(text, str):
            raise self._wrong("the text is none")
        if self._proposed is not None and text == self._proposed[1] and word != self._proposed[0]:
            text = None  # left as it stood, and it was meant for another answer
        if self._code is not None and word in ("approve", "edit") and str(given.get("code", "")).strip() != self._code:
            raise self._wrong(f"to {word} it, the code that the form shows has to be typed")
        if option is not None:
            if word != "respond" or text is not None:
                raise self._wrong("an option goes with respond, and without a text")
            if option not in self._numbered():
                raise self._wrong(f"{visible(repr(option)[:40])} is none of the options")
            option = self._options[self._numbered().index(option)]
        if answer.text == "must" and text is None and option is None:
            raise self._wrong(f"{word} needs a text ({answer.text_label})")
        return Chosen(answer, text, option)

    def _numbered(self) -> list[str]:
        """The options with their numbers: two that look alike stay two."""
        return [f"{number}. {visible(option)}" for number, option in enumerate(self._options, 1)]

    def _known(self, given: Mapping[str, Any]) -> None:
        if unknown := sorted(given.keys() - self.schema["properties"].keys()):
            raise self._wrong(f"the form has no field {', '.join(map(visible, unknown))}")

    def _wrong(self, problem: str) -> InvalidDecisionError:
        return InvalidDecisionError(self._request.id, problem)


class Second:
    """The second form: what an edit may change, or the parts of a structured answer.

    Args:
        chosen: In the first form. Its answer has a form of its own.
        proposal: What a model would change stands in the fields.
    """

    def __init__(self, request: Request, chosen: Chosen, proposal: Proposal | None) -> None:
        assert chosen.answer is not None
        self._request, self._chosen, self._answer = request, chosen, chosen.answer
        self._form = chosen.answer.form or Form.of(None)
        self._fields = {_name(field): field for field in self._form.fields if not field.locked}
        self._texts = {name: field.text for name, field in self._fields.items()}
        if proposal is not None and proposal.answer == chosen.answer.word and proposal.arguments:
            self._texts |= self._proposed(proposal.arguments)

    @staticmethod
    def needed(chosen: Chosen) -> bool:
        """Whether the first form leaves something to be asked."""
        if chosen.answer is None or chosen.answer.form is None:
            return False
        return chosen.answer.word == "edit" or (chosen.text is None and chosen.option is None)

    @property
    def schema(self) -> dict[str, Any]:
        """To be drawn."""
        properties = {name: self._drawn(name, field) for name, field in self._fields.items()}
        required = [name for name, field in self._fields.items() if field.required and self._answer.word == "respond"]
        return {"type": "object", "properties": properties} | ({"required": required} if required else {})

    def read(self, content: Mapping[str, Any] | None) -> Decision:
        """The decision that both forms make.

        Raises:
            InvalidDecisionError: A field that does not fit, or an edit that changes nothing.
        """
        given = dict(content or {})
        if unknown := sorted(given.keys() - self._fields.keys()):
            raise self._wrong(f"the form has no field {', '.join(map(visible, unknown))}")
        filled = self._form.read(
            {self._fields[name].key: _typed(self._fields[name], v) for name, v in given.items() if v is not None}
        )
        if filled.errors:
            places = {field.key: name for name, field in self._fields.items()}
            told = [f"{visible(places.get(key, '')) or 'answer'}: {said}" for key, said in filled.errors.items()]
            raise self._wrong("; ".join(told))
        if self._answer.word == "respond":
            if filled.value is MISSING:
                raise self._wrong("respond needs an answer")
            return made(self._request, self._chosen, filled.value)
        if filled.value == self._form.value and not filled.changed:
            raise self._wrong("the edit changes nothing; approve it, or change something")
        return made(self._request, self._chosen, filled.changed if self._answer.changes else filled.value)

    def _proposed(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """How the proposed values stand in the fields; what has no field is only told above the form."""
        value = arguments if not isinstance(self._form.value, dict) else {**self._form.value, **arguments}
        if len(self._fields) == 1 and _WHOLE in self._fields:
            value = arguments.get("draft", arguments.get(_WHOLE))
        theirs = {_name(field): field for field in Form.of(self._form.schema, value).fields}
        return {
            name: theirs[name].text
            for name, field in self._fields.items()
            if name in theirs and theirs[name].widget == field.widget
        }

    def _drawn(self, name: str, field: Field) -> dict[str, Any]:
        text = self._texts[name]
        drawn: dict[str, Any] = {"type": "string", "title": visible(".".join(field.path) or field.label or name)}
        notes = [visible(field.help)] if field.help else []
        if text != field.text:
            notes.insert(0, "Proposed by the assistant.")
        match field.widget:
            case "number":
                drawn["type"] = "integer" if field.kind == "integer" else "number"
            case "choice":
                drawn["enum"] = [option.label for option in field.options]
            case "list":
                notes.append("One item a line.")
            case "json":
                notes.append("As JSON.")
            case _:
                pass
        if field.widget in ("number", "text", "lines"):
            drawn |= {limit: value for limit, value in field.limits if limit in _LIMITS}
        if notes:
            drawn["description"] = " ".join(notes)
        if text != "":
            drawn["default"] = _shown(field, text)
        return drawn

    def _wrong(self, problem: str) -> InvalidDecisionError:
        return InvalidDecisionError(self._request.id, problem)


def made(request: Request, chosen: Chosen, value: Any = None) -> Decision:
    """The decision that was chosen.

    Args:
        value: Of an edit: what shall be in its place. Of a respond: the structured answer, if that is what it is.

    Raises:
        InvalidDecisionError: It makes no sense.
    """
    assert chosen.answer is not None
    try:
        match chosen.answer.word:
            case "approve":
                return approve(chosen.text)
            case "reject":
                return reject(chosen.text or "")
            case "respond":
                said = chosen.option if chosen.option is not None else chosen.text
                return respond(said if said is not None else value)
            case "edit":
                return edit(value, chosen.text)
    except ValidationError as exc:
        raise InvalidDecisionError(request.id, exc.errors(include_url=False)[0]["msg"]) from exc


def _name(field: Field) -> str:
    return field.key.removeprefix("/") or _WHOLE


def _shown(field: Field, text: str) -> Any:
    """What stands in a field, as the protocol has it."""
    if field.widget == "number":
        return json.loads(text)
    if field.widget == "choice":
        return next((option.label for option in field.options if option.text == text), text)
    return text


def _typed(field: Field, value: Any) -> str:
    """What came back, as if it had been typed."""
    if field.widget == "choice":
        return next((option.text for option in field.options if value in (option.label, option.text)), str(value))
    return value if isinstance(value, str) else json.dumps(value)
