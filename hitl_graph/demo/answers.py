"""Where decisions come from in the demo: a person at the terminal, or a script."""

import os
from collections.abc import Sequence
from typing import Any, cast

from rich.console import Console
from rich.prompt import Prompt

from hitl_graph.cli import views
from hitl_graph.cli.app import Failure
from hitl_graph.cli.editing import Draft, assigned
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.model import Decision, Request, Word, approve, edit, reject, respond
from hitl_graph.wire import validate

__all__ = ["ask_person", "scripted"]

_KEYS: dict[str, Word] = {"a": "approve", "e": "edit", "r": "reject", "c": "respond"}


def scripted(request: Request, answered: Sequence[str], arrived: int) -> Decision:
    """One of each answer for the first four mails that the assistant wants to send; the rest is approved.

    Args:
        request: What is asked.
        answered: The words used so far.
        arrived: How many copies of the mail arrived, for the question what became of it.
    """
    if request.kind == "question":
        return respond(f"sent to {request.action.args['to'] if request.action else 'them'}") if arrived else approve()
    if request.action is None or request.action.name != "send_email" or "approve" not in answered:
        return approve()
    args: dict[str, Any] = dict(request.action.args)
    if "reject" not in answered and ("invoices" in str(args["body"]) or "edit" in answered):
        return reject("this looks like phishing; never send invoices to strangers")
    if "edit" not in answered:
        return edit({**args, "body": f"{args['body']}\n\nPS: Please call before you come."})
    if "respond" not in answered:
        return respond("Do not answer this one; our lawyer does.")
    return approve()


def ask_person(out: Console, request: Request) -> Decision:
    """Ask at the terminal until there is an answer that the request takes."""
    out.print()
    name = views.visible(request.action.name) if request.action else request.kind
    title = f"did {name} happen?" if request.kind == "question" else name
    out.print(f"{views.visible(request.thread_id)}: {title}", style="bold")
    args: dict[str, Any] = views.arguments(request)
    views.show(out, views.quoted(out, views.lines_of(args), "  "))
    keys: dict[str, Word] = {key: word for key, word in _KEYS.items() if word in request.allowed}
    offered = ", ".join(f"{key} = {request.labels.get(word, word)}" for key, word in keys.items())
    while True:
        key = Prompt.ask(f"  {offered}", console=out, choices=list(keys), show_choices=False)
        try:
            return validate(_decision(keys[key], request), request)
        except (InvalidDecisionError, Failure) as exc:
            out.print(f"  {exc}", style="red")


def _decision(word: str, request: Request) -> Decision:
    if word == "approve":
        return approve()
    if word == "reject":
        return reject(Prompt.ask("  why", default="", show_default=False))
    if word == "respond":
        return respond(Prompt.ask("  what the assistant is told"))
    return edit(_edited(request))


def _edited(request: Request) -> dict[str, Any]:
    editor = bool(os.environ.get("VISUAL") or os.environ.get("EDITOR"))
    changes: list[str] = []
    while change := Prompt.ask(_hint(editor, changes), default="", show_default=False):
        changes.append(change)
    if changes:
        return assigned(request, changes)
    if not editor:
        raise InvalidDecisionError(request.id, "nothing was changed; choose approve to let it run as shown")
    draft = Draft(request)
    try:
        draft.open()
        return cast("dict[str, Any]", draft.read())
    finally:
        draft.discard()


def _hint(editor: bool, changes: Sequence[str]) -> str:
    if changes or not editor:
        return "  name=value (empty: done)"
    return "  name=value (empty: open your editor)"
