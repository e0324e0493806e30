"""`hitl approve`, `edit`, `reject`, `respond`."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer
from pydantic import ValidationError
from rich.text import Text

from hitl_graph.card import words
from hitl_graph.cli import grants, queries, reviews, situations, views
from hitl_graph.cli.app import (
    REFUSED,
    USAGE,
    As,
    Command,
    Db,
    Failure,
    app,
    note,
    on_terminal,
    open_ledger,
    reviewer_name,
)
from hitl_graph.cli.editing import Draft, assigned, difference, parsed
from hitl_graph.drafts import locate
from hitl_graph.errors import AlreadyDecidedError, HitlError, InvalidDecisionError, StaleRequestError
from hitl_graph.facts import Situation, facts_of
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Comment, Decision, Request, approve, edit, reject, respond
from hitl_graph.wire import validate

__all__: list[str] = []

P = ParamSpec("P")

_Id = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or the beginning of it.")]
_Digest = Annotated[
    str | None, typer.Option(metavar="HEX", help="Only if the request still has this digest (or beginning of it).")
]


@app.command("approve", cls=Command)
def approve_request(
    request_id: _Id,
    message: Annotated[str | None, typer.Option("-m", "--message", help="A comment for the record.")] = None,
    always: Annotated[
        bool, typer.Option("--always", help="And calls of this tool from now on, without asking (see hitl grants).")
    ] = False,
    lasting: grants.For = None,
    uses: grants.Uses = None,
    same_args: Annotated[bool, typer.Option("--same-args", help="Only with exactly these arguments.")] = False,
    same_thread: Annotated[bool, typer.Option("--thread", help="Only in this thread.")] = False,
    budget: grants.Limit = None,
    reviewer: As = None,
    digest: _Digest = None,
    db: Db = "agent.db",
) -> None:
    """Go ahead exactly as shown."""
    who = reviewer_name(reviewer)
    if not always and (lasting or uses or same_args or same_thread or budget):
        raise Failure(USAGE, "--for, --uses, --same-args, --thread and --budget go with --always; nothing was recorded")
    with open_ledger(db) as ledger:
        request = _asked(ledger, request_id, digest)
        grant = None
        if always:
            grant = grants.made(
                lambda: Grant.of(request, same_args=same_args, same_thread=same_thread), lasting, uses, budget
            )
        _record(ledger, request, _made(approve, message, grant=grant), who)


@app.command("reject", cls=Command)
def reject_request(
    request_id: _Id,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Why. The agent is told.")] = None,
    reviewer: As = None,
    digest: _Digest = None,
    db: Db = "agent.db",
) -> None:
    """Do not do it."""
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        request = _asked(ledger, request_id, digest)
        why = _text(message, request, 'say why: -m "..." (-m "" for no reason)', "Why (the agent is told): ")
        _record(ledger, request, _made(reject, why), who)


@app.command("respond", cls=Command)
def respond_to_request(
    request_id: _Id,
    message: Annotated[str | None, typer.Option("-m", "--message", help="The text that the agent gets.")] = None,
    value: Annotated[str | None, typer.Option("--json", metavar="VALUE", help="A structured answer.")] = None,
    option: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="One of the answers that the agent offers.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One field of a structured answer; may be given again."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="WHERE=TEXT",
            help="Of a draft: a remark about one place (a file, file:line, a field, a line, characters 10-25, or words"
            " of the text); may be given again.",
        ),
    ] = None,
    reviewer: As = None,
    digest: _Digest = None,
    db: Db = "agent.db",
) -> None:
    """Do not do it; give this as its result. Or: answer a question, guide a stuck agent, send a draft back."""
    who = reviewer_name(reviewer)
    if sum(given is not None for given in (message, value, option, fields)) > 1:
        raise Failure(USAGE, "give one of -m, --json, --option and --set, not both; nothing was recorded")
    answer: Any = parsed(value, "--json") if value is not None else None
    if value is not None and answer is None:
        raise Failure(USAGE, "null is no answer; nothing was recorded")
    with open_ledger(db) as ledger:
        request = _asked(ledger, request_id, digest)
        comments = [_comment(request, one) for one in at or ()]
        if option is not None:
            answer = _option(request, option)
        elif fields:
            answer = assigned(request, fields)
        elif value is None and not (comments and message is None):
            answer = _text(message, request, "give the answer: -m TEXT or --json VALUE", "Answer: ")
            if not answer:
                raise Failure(USAGE, "the answer is empty (--json '\"\"' if that is meant); nothing was recorded")
        _record(ledger, request, _made(respond, answer, comments=comments), who)


@app.command("edit", cls=Command)
def edit_request(
    request_id: _Id,
    args: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="All arguments, as a JSON object; - reads it from standard input."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One argument; may be given again.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="TEXT", help="A draft that is a text, anew; - reads it from standard input."),
    ] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="A comment for the record.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again after the editor.")] = False,
    reviewer: As = None,
    digest: _Digest = None,
    db: Db = "agent.db",
) -> None:
    """Go ahead with other arguments; deliver another draft; change the state of an agent that is stuck.

    Without --args, --set and --text it opens $VISUAL or $EDITOR.
    """
    who = reviewer_name(reviewer)
    if (args is not None) + bool(changes) + (text is not None) > 1:
        raise Failure(USAGE, "give --args, --set or --text, not both; nothing was recorded")
    with open_ledger(db) as ledger:
        request = _asked(ledger, request_id, digest)
        validated = _open(request)
        if text is not None:
            if not isinstance(request.draft, str):
                raise Failure(USAGE, "--text is for a draft that is a text; use --args JSON; nothing was recorded")
            _record(ledger, request, _fitting(request, sys.stdin.read() if text == "-" else text, message), who)
            return
        if args is None and not changes:
            _edit_in_editor(ledger, validated, message, who, ask=on_terminal() and not yes)
            return
        new = (
            assigned(request, changes) if changes else parsed(sys.stdin.read() if args == "-" else str(args), "--args")
        )
        if not isinstance(new, dict) and not (request.action is None and isinstance(request.draft, list)):
            raise Failure(USAGE, "--args takes a JSON object {...} with all arguments; nothing was recorded")
        _record(ledger, request, _fitting(request, new, message), who)


def _asked(ledger: Ledger, request_id: str, digest: str | None) -> Request:
    request = queries.find(ledger, request_id)
    if digest is not None and not (len(digest) >= 8 and request.digest.startswith(digest.lower())):
        raise StaleRequestError(
            request.id,
            f"its digest is {request.digest}, not {digest}; look again (`hitl show`) and answer what is asked now",
        )
    return request


def _text(given: str | None, request: Request, missing: str, prompt: str) -> str:
    if given is not None:
        return given
    _open(request)
    if not on_terminal():
        raise Failure(USAGE, f"{missing}; nothing was recorded")
    print(views.what(request))
    try:
        return input(prompt)
    except EOFError:
        raise Failure(REFUSED, "\nnothing was recorded") from None


def _option(request: Request, number: int) -> str:
    """The answer of this number."""
    offered = situations.options(request)
    if number > len(offered):
        there = f"it offers {len(offered)}" if offered else "it offers none; answer with -m TEXT or --json VALUE"
        raise Failure(USAGE, f"there is no option {number}: {there}; nothing was recorded")
    return offered[number - 1]


def _open(request: Request) -> Request:
    """The request, if it still waits: before a person types an answer in vain."""
    if request.decision is not None:
        raise AlreadyDecidedError(request.id, str(request.reviewer), request.decision.type)
    if request.state != "pending":
        raise StaleRequestError(request.id, f"it is {request.state} ({request.note or 'no longer asked'})")
    return request


def _comment(request: Request, at: str) -> Comment:
    """A remark about one place of a draft."""
    where, equals, text = at.partition("=")
    if not equals or not where or not text:
        raise Failure(USAGE, f"--at takes WHERE=TEXT, not {at!r}; nothing was recorded")
    if request.draft is None:
        raise InvalidDecisionError(request.id, "there is no draft to comment on; say it with -m TEXT")
    try:
        return Comment(text=text, **locate(request.draft, where))
    except ValueError as exc:
        raise InvalidDecisionError(request.id, f"--at {at!r}: {exc}") from exc


def _fitting(request: Request, args: Any, comment: str | None) -> Decision:
    """An edit that the request accepts and that changes something."""
    decision = validate(_made(edit, args, comment), request)
    if request.action is not None and decision.args == request.action.args:
        raise InvalidDecisionError(request.id, "these are the arguments that it has; approve it, or change something")
    if request.draft is not None and decision.draft == request.draft:
        raise InvalidDecisionError(request.id, "this is the draft as it was shown; approve it, or change something")
    if request.action is None and decision.draft is None and decision.args == _before(request, decision):
        raise InvalidDecisionError(request.id, "that is what the state is; approve it, or change something")
    return decision


def _before(request: Request, decision: Decision) -> dict[str, Any]:
    """What there was of what an edit changes."""
    facts = facts_of(request)
    if isinstance(facts, Situation):
        return {name: value for name, value in facts.state.items() if name in (decision.args or {})}
    return views.arguments(request)


def _made(make: Callable[P, Decision], *args: P.args, **kwargs: P.kwargs) -> Decision:
    try:
        return make(*args, **kwargs)
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]["msg"]
        raise Failure(USAGE, f"this is no answer: {problem}; nothing was recorded") from exc


def _edit_in_editor(ledger: Ledger, request: Request, comment: str | None, who: str, *, ask: bool) -> None:
    if "edit" not in request.allowed:
        raise InvalidDecisionError(request.id, f"edit is not offered; it takes {', '.join(request.allowed)}")
    draft, keep = Draft(request), False
    try:
        while True:
            draft.open()
            try:
                keep = True
                decision = _fitting(request, draft.read(), comment)
                break
            except (Failure, InvalidDecisionError) as exc:
                if isinstance(exc, Failure) and exc.code == REFUSED:
                    keep = False
                    raise
                if not ask:
                    raise
                print(exc)
                if not _agreed("Edit again? [Y/n] ", default=True):
                    keep = False
                    raise Failure(REFUSED, "nothing was recorded") from None
        if ask:
            out = views.console()
            views.show(out, _changes(request, decision))
            if not _agreed(f"{draft.doing}, as {who}? [y/N] ", default=False):
                keep = False
                raise Failure(REFUSED, "nothing was recorded")
        _record(ledger, request, decision, who, quiet=ask)
        keep = False
    except (Failure, HitlError):
        if keep:
            note(f"Your text is kept in {draft.path}")
        raise
    finally:
        if not keep:
            draft.discard()


def _agreed(question: str, *, default: bool) -> bool:
    try:
        typed = input(question).strip().lower()
    except EOFError:
        return False
    return default if not typed else typed in ("y", "yes")


def _changes(request: Request, decision: Decision) -> list[Text | str]:
    if request.draft is not None and decision.draft is not None:
        return [*reviews.changes(views.console(), request.draft, decision.draft)]
    before, after = _before(request, decision), views.arguments(request, decision.args)
    styles = {"+": "green", "-": "red"}
    return [Text(f"  {x}", style=styles.get(x[0], "")) for x in difference(before, after)]


def _record(ledger: Ledger, request: Request, decision: Decision, who: str, *, quiet: bool = False) -> None:
    inbox = Inbox(ledger)
    decided = inbox.decide(request.id, decision, reviewer=who, digest=request.digest, channel="cli")
    made = decided.decision or decision
    meaning = decided.labels.get(made.type) if decided.kind != "review" else None
    short = queries.short_ids(ledger, [decided.id])[decided.id]
    done = words.done(decided, made)
    by = (
        ""
        if decided.decision is None or decided.reviewer == who
        else f" (decided by {views.visible(str(decided.reviewer))})"
    )
    head = f"{done.capitalize()} as {who}{by}: {views.what(decided, made.args)}"
    lines: list[Text | str] = [head + (f" -> {views.visible(meaning)}" if meaning else "")]
    if made.type == "edit" and not quiet:
        lines += _changes(request, made)
    if made.type == "respond" and decided.kind not in ("approval", "review"):
        answer = views.block(made.message) if made.message is not None else views.value_lines(made.value)
        lines += views.quoted(views.console(), answer, "  ")
    lines += reviews.remarks(views.console(), made.comments, decided.draft)
    if decided.decision is None:
        needed = views.visible(inbox.standing(decided.id).missing)
        lines += [
            f"Your vote is recorded. It is not decided yet; still needed: {needed}.",
            f"Request {short} of thread {views.visible(decided.thread_id)} waits on.",
        ]
        views.show(views.console(), lines)
        return
    refused = decided.kind == "approval" and made.type in ("reject", "respond")
    then = "it does not run, and a worker tells the agent" if refused else "a worker carries it out"
    if decided.kind == "review":
        then = f"a worker {reviews.THEN[made.type]}"
    if decided.is_audit:
        then = "it is kept for learning; nothing waited for it"
    lines += grants.given_with(ledger, decided)
    lines.append(f"Request {short} of thread {views.visible(decided.thread_id)}; {then}.")
    views.show(views.console(), lines)
