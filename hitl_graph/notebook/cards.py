"""One request as a card with its form and its buttons."""

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from hitl_graph.card import Answer
from hitl_graph.errors import NotebookError
from hitl_graph.form import MISSING
from hitl_graph.model import Decision, Request, Word, approve, edit, reject, respond
from hitl_graph.notebook import parts, telling
from hitl_graph.notebook.fields import Fields
from hitl_graph.notebook.session import Desk, Stand
from hitl_graph.visible import visible

__all__ = ["CardWidget"]

_STYLES: dict[Word, str] = {"approve": "success", "edit": "primary", "reject": "danger", "respond": ""}
_FRAME = {
    "border": "1px solid rgba(128,128,128,.45)",
    "padding": "10px 14px",
    "margin": "4px 0",
    "width": "min(100%, 860px)",
}


class CardWidget:
    """One request: what will happen, the arguments as fields, the answers as buttons.

    Each card has widgets of its own: a click that comes late means what it was made on.

    Args:
        decide: Told what was answered.
        ready: Whether its buttons can be pressed at once.
    """

    def __init__(
        self,
        desk: Desk,
        request: Request,
        stand: Stand,
        decide: Callable[["CardWidget", Decision], object],
        *,
        ready: bool,
    ) -> None:
        self.request, self.desk, self._decide = request, desk, decide
        now = desk.ledger.clock()
        self.card = telling.card_of(request, stand, now)
        self._answers: dict[Word, Answer] = {answer.word: answer for answer in self.card.answers}
        self._is_busy, self._is_ready = False, ready
        edits, structured = self._form_of("edit"), self._form_of("respond")
        self._edits, self._structured = edits, structured
        self._options = self._choice()
        self._text = self._text_area()
        self._buttons: dict[Word, Any] = {word: self._button(answer) for word, answer in self._answers.items()}
        self._undo = parts.button("Undo changes", self._undo_changes, layout={"display": "none"})
        self._changes = widgets.HTML()
        self._said = widgets.HTML(layout={"display": "none"})
        lines = telling.contents(self.card, now, fields=edits is None)
        shown: list[Any] = [parts.text(lines)]
        shown += [edits.box, self._changes] if edits is not None else []
        shown.append(parts.text(telling.about(self.card, now)))
        shown += [structured.box] if structured is not None else []
        shown += [one for one in (self._options, self._text) if one is not None]
        buttons = widgets.HBox(
            [*self._buttons.values(), self._undo], layout={"flex_flow": "row wrap", "margin": "6px 0 2px"}
        )
        shown += [buttons, parts.text(self._meanings()), self._said]
        if (found := self.card.precedents) is not None:
            told = parts.text(telling.before(found, now))
            closed = widgets.Accordion([told], titles=(f"Decided before: {visible(found.told)}",), selected_index=None)
            shown.append(closed)
        self.box = widgets.VBox(shown, layout=_FRAME)
        self._show()

    @property
    def version(self) -> str:
        """Another one: somebody did something with the request."""
        return self.card.version

    def say(self, text: str, *, alarm: bool = False) -> None:
        """Say something below the buttons; nothing, with an empty text."""
        color = "color:var(--jp-error-color1, #c62828);" if alarm else ""
        told = html.escape(visible(text, keep="\n"))
        self._said.value = (
            f'<div role="{"alert" if alarm else "status"}" style="{color}white-space:pre-wrap">{told}</div>'
        )
        self._said.layout.display = "" if text else "none"

    def busy(self, busy: bool) -> None:
        """Take no answer for now."""
        self._is_busy = busy
        self._show()

    def ready(self) -> None:
        """Take answers from now on."""
        self._is_ready = True
        self._show()

    def _form_of(self, word: Word) -> Fields | None:
        answer = self._answers.get(word)
        if answer is None or answer.form is None:
            return None
        return Fields(answer.form, self._show, "answer" if word == "respond" else "draft")

    def _choice(self) -> Any:
        answer = self._answers.get("respond")
        if answer is None or not answer.options:
            return None
        options = [(visible(option), option) for option in answer.options]
        return widgets.RadioButtons(options=options, value=None, description="Answer", layout={"width": "auto"})

    def _text_area(self) -> Any:
        labels = [answer.text_label for answer in self._answers.values() if answer.text != "no"]
        if not labels:
            return None
        return widgets.Textarea(
            description="Your words", placeholder=" / ".join(dict.fromkeys(labels)), rows=2,
            style={"description_width": "130px"}, layout={"width": "min(100%, 720px)"},
        )  # fmt: skip

    def _button(self, answer: Answer) -> Any:
        return parts.button(
            visible(answer.label),
            partial(self._pressed, answer.word),
            tooltip=visible(answer.means),
            button_style=_STYLES[answer.word],
            layout={"min_width": "88px"},
        )

    def _undo_changes(self) -> None:
        if self._edits is not None:
            self._edits.undo()

    def _meanings(self) -> list[telling.Line]:
        mine = self.card.mine
        rows = [telling.Line("pair", answer.means, answer.label) for answer in self._answers.values()]
        behalf = f", for {mine.behalf}" if mine is not None and mine.behalf else ""
        told = [telling.Line("pair", f"{self.desk.name}{behalf}", "you decide as")]
        if mine is not None and mine.voted:
            told.append(telling.Line("dim", f"You have answered ({mine.voted}). It waits for others."))
        if mine is not None and not mine.may:
            told.append(telling.Line("text", f"You cannot decide it: {mine.why_not}"))
        if mine is not None and mine.held_by:
            told.append(telling.Line("text", f"{mine.held_by} has claimed it."))
        return [*rows, *told]

    def _may(self, word: Word) -> bool:
        mine = self.card.mine
        if mine is None:
            return True
        return mine.may and not mine.held_by and (word == "reject" or not mine.only_reject)

    def _show(self) -> None:
        """Which buttons can be pressed now."""
        changed = self._edits is not None and self._edits.is_touched
        self._changes.value = telling.as_html(self._changed()) if changed else ""
        closed: Word = "approve" if changed else "edit"
        open_to = {word for word in self._buttons if self._may(word) and word != closed}
        for word, button in self._buttons.items():
            button.disabled = self._is_busy or not self._is_ready or word not in open_to
        self._undo.layout.display = "" if changed else "none"
        for one in (self._edits, self._structured):
            if one is not None:
                one.disable(self._is_busy)
        for one in (self._text, self._options):
            if one is not None:
                one.disabled = self._is_busy

    def _changed(self) -> list[telling.Line]:
        """What would be run or delivered in place of what is proposed; errors are said at their fields."""
        assert self._edits is not None
        filled, before = self._edits.read(), self._edits.form.value
        if filled.errors or not isinstance(filled.value, dict):
            return []
        return telling.differences(before if isinstance(before, dict) else {}, filled.value)

    def _pressed(self, word: Word) -> None:
        if self._is_busy or not self._is_ready:
            return  # a second click, or one that was meant for what stood here before
        try:
            decision = self._decision(word)
        except Exception as exc:
            self.say(str(exc) or type(exc).__name__, alarm=True)
        else:
            self._decide(self, decision)

    def _decision(self, word: Word) -> Decision:
        answer, text = self._answers[word], self._text.value if self._text is not None else ""
        text = text if text.strip() else ""
        if answer.text == "must" and not text:
            raise NotebookError(f"It takes some words: {answer.text_label.lower()}.")
        match word:
            case "approve":
                if self._edits is not None and self._edits.is_touched:
                    raise NotebookError("The fields were changed. Press Edit to run it so, or undo the changes.")
                return approve(text or None)
            case "reject":
                return reject(text)
            case "edit":
                return edit(self._edited(answer), text or None)
            case "respond":
                return self._response(answer, text)

    def _edited(self, answer: Answer) -> Any:
        assert self._edits is not None
        if not self._edits.is_touched:
            raise NotebookError("Nothing was changed.")
        filled = self._edits.read()
        if filled.errors:
            raise NotebookError("Something does not fit; nothing was recorded.")
        return filled.changed if answer.changes else filled.value

    def _response(self, answer: Answer, text: str) -> Decision:
        chosen = self._options.value if self._options is not None else None
        filled_in = self._structured is not None and self._structured.is_touched
        if text and (chosen is not None or filled_in):
            raise NotebookError("Words were typed, and another answer was given; do one of them.")
        if chosen is not None:
            return respond(chosen)
        if self._structured is None or text:
            if answer.options and not text:
                raise NotebookError("Choose an option.")
            return respond(text)
        filled = self._structured.read()
        if filled.errors:
            raise NotebookError("Something does not fit; nothing was recorded.")
        if filled.value is MISSING:
            raise NotebookError("It takes an answer.")
        return respond(filled.value)
