"""What the demo shows: the inbox, each answer, and the tables at the end."""

from collections import Counter
from collections.abc import Sequence
from email.message import EmailMessage

from rich.console import Console

from hitl_graph.cli import views
from hitl_graph.cli.editing import difference
from hitl_graph.demo.promises import Facts
from hitl_graph.model import Request

__all__ = ["answer", "show", "waiting"]


def waiting(out: Console, requests: Sequence[Request]) -> None:
    """The requests that wait for an answer."""
    rows = [
        (r.id[:6], r.thread_id, _brief(r), "unknown outcome" if r.kind == "question" else r.reason) for r in requests
    ]
    views.show(out, [views.table(out, ("ID", "THREAD", "WANTS", "WHY"), rows, whole=(0, 1, 3), main=2)])


def answer(out: Console, request: Request) -> None:
    """What a request was answered; of an edit, what it changed."""
    decision = request.decision
    assert decision is not None
    words = f'"{views.visible(decision.message or "")}"'
    if decision.type == "approve":
        words = request.labels.get("approve", "runs as shown")
    elif decision.type == "edit":
        words = "runs with a change:"
    views.show(out, [f"{decision.type:<8} {request.id[:6]}  {words}"])
    if decision.args is not None:
        changes = difference(views.arguments(request), views.arguments(request, dict(decision.args)))
        views.show(out, [f"    {line}" for line in changes if line[0] in "+-"])


def show(out: Console, facts: Facts) -> None:
    """What was asked, decided and executed; the mails that arrived; the audit log."""
    rows = []
    for request in facts.asked:
        word = request.decision.type if request.decision else "-"
        otherwise = "-" if request.kind == "question" else "did not run"
        rows.append(
            (request.thread_id, _brief(request), word, facts.ended.get(request.id, otherwise).replace("_", " "))
        )
    out.print("\nWhat was asked, decided and executed", style="bold")
    if rows:
        views.show(out, [views.table(out, ("THREAD", "ASKED", "DECIDED", "EXECUTED"), rows, whole=(0, 2, 3), main=1)])
    out.print("\nWhat the mail server received", style="bold")
    copies = Counter(str(mail["Message-ID"]).strip() for mail in facts.received)
    first = {str(mail["Message-ID"]).strip(): mail for mail in reversed(facts.received)}
    lines = [
        f"{n} x  to {views.visible(str(first[name]['To']))}: {_subject(first[name])}" for name, n in copies.items()
    ]
    views.show(out, lines or ["nothing"])
    out.print("\nThe audit log", style="bold")
    views.show(out, [f"{facts.audit.rows} rows, each sealed with the one before: {facts.audit.problem or 'verified'}"])


def _subject(mail: EmailMessage) -> str:
    return views.visible(str(mail["Subject"] or "(no subject)"))


def _brief(request: Request) -> str:
    action = request.action
    if action is None or action.name != "send_email":
        return views.what(request)
    text = views.visible(f"send to {action.args.get('to')}: {action.args.get('subject')}")
    return f"did it happen? {text}" if request.kind == "question" else text
