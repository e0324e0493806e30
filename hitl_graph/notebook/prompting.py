"""Ask on a plain terminal, one request after the other. Only when asked for, and never in a notebook."""

import sys
from typing import TYPE_CHECKING, Any

from hitl_graph.card import Answer, Card
from hitl_graph.errors import AlreadyDecidedError, NotebookError, RequestError, StaleRequestError
from hitl_graph.form import MISSING, Form
from hitl_graph.model import Decision, Word, approve, edit, reject, respond
from hitl_graph.notebook import telling
from hitl_graph.notebook.session import CHANNEL

if TYPE_CHECKING:
    from hitl_graph.notebook.run import Run

__all__ = ["check_terminal", "prompted"]

_KEYS: dict[str, Word] = {"a": "approve", "e": "edit", "r": "reject", "s": "respond"}


def check_terminal() -> None:
    """Refuse where `input()` would keep a kernel, or where nobody can type.

    Raises:
        NotebookError: This is no plain terminal.
    """
    in_kernel = "ipykernel" in sys.modules and _shell_has_kernel()
    if in_kernel or not sys.stdin or not sys.stdin.isatty():
        raise NotebookError(
            "ask=True asks on a terminal, and this is none; leave it out, and use the form, or run.approve(),"
            " run.edit(...), run.reject(...), run.respond(...)"
        )


def _shell_has_kernel() -> bool:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def prompted(run: "Run") -> "Run":
    """Ask until there is nothing that this person could answer, or they stop."""
    while (one := next(filter(_can_answer, run), None)) is not None:
        print(f"\n{telling.as_text(telling.run(one))}")
        one.session.inbox.seen(one.request, reviewer=one.session.reviewer, channel=CHANNEL)
        try:
            decision = _asked(_card(one))
            if decision is None:
                return run
            run = one.decide(decision)
        except (AlreadyDecidedError, StaleRequestError) as exc:
            print(exc)
            run = run.refresh()
        except (RequestError, NotebookError, ValueError) as exc:
            print(exc)
    print(f"\n{telling.as_text(telling.run(run))}")
    return run


def _card(one: "Run") -> Card:
    return telling.card_of(one.request, one.stand, one.session.ledger.clock())


def _can_answer(one: "Run") -> bool:
    mine = _card(one).mine
    return mine is None or (mine.may and not mine.held_by and mine.voted is None)


def _asked(card: Card) -> Decision | None:
    """What the person answers; None: nothing, for now."""
    offered = {key: answer for key, word in _KEYS.items() for answer in card.answers if answer.word == word}
    names = ", ".join(f"{key} = {answer.label.lower()}" for key, answer in offered.items())
    typed = input(f"\n[{names}, q = later] ").strip().lower()
    if typed in ("q", ""):
        return None
    answer = offered.get(typed[:1])
    if answer is None:
        raise NotebookError(f"{typed!r} is none of these; nothing was recorded")
    match answer.word:
        case "approve":
            return approve()
        case "reject":
            return reject(_text(answer))
        case "edit":
            return edit(_filled(answer))
        case "respond":
            return respond(_response(answer))


def _text(answer: Answer) -> str:
    return input(f"{answer.text_label}: ").strip()


def _filled(answer: Answer) -> Any:
    assert answer.form is not None
    typed = _typed(answer.form)
    filled = answer.form.read(typed)
    if filled.errors:
        raise NotebookError("; ".join(f"{key or 'answer'}: {error}" for key, error in filled.errors.items()))
    if filled.value is MISSING:
        raise NotebookError("it takes an answer; nothing was recorded")
    if not answer.changes and filled.value == answer.form.value:
        raise NotebookError("nothing was changed; nothing was recorded")
    return filled.changed if answer.changes else filled.value


def _typed(form: Form) -> dict[str, str]:
    print("Enter keeps what is shown.")
    typed = dict[str, str]()
    for field in form.fields:
        if not field.locked:
            shown = "" if field.value is MISSING else f" [{field.text}]"
            line = input(f"  {field.label or 'value'} ({field.kind}){shown}: ")
            if line:
                typed[field.key] = line
    return typed


def _response(answer: Answer) -> Any:
    if answer.options:
        for number, option in enumerate(answer.options, 1):
            print(f"  {number}  {option}")
        line = input("Number: " if answer.text == "no" else "Number, or another answer: ").strip()
        if line.isdecimal() and 0 < int(line) <= len(answer.options):
            return answer.options[int(line) - 1]
        if answer.text == "no" or not line:
            raise NotebookError("it takes one of the options; nothing was recorded")
        return line
    if answer.form is None or answer.text != "no":
        return _text(answer)
    return _filled(answer)
