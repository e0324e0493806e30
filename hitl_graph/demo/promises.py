"""What the demo promises, held against what is on the disk: mails that arrived, mails that moved, the audit log."""

from collections import Counter
from collections.abc import Iterator, Sequence
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from hitl_graph.demo.agent import message_id
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request

__all__ = ["broken", "wanted"]


def wanted(request: Request) -> dict[str, Any] | None:
    """The arguments that a person wants an action to run with; None if it shall not run."""
    if request.kind != "approval" or request.action is None or request.decision is None:
        return None
    if request.decision.type == "approve":
        return dict(request.action.args)
    return dict(request.decision.args or {}) if request.decision.type == "edit" else None


def broken(
    ledger: Ledger, threads: Sequence[str], mails: Mailbox, before: Sequence[str], received: Sequence[EmailMessage]
) -> list[str]:
    """Each promise that was not kept, in a sentence; empty if all is well.

    Args:
        ledger: What was asked, decided and executed.
        threads: All threads of the show.
        mails: The mailbox as it is now.
        before: The ids of the mails that it had at the start.
        received: What the mail server stored.
    """
    asked = [request for thread in threads for request in ledger.history(thread)]
    rows = [row for thread in threads for row in ledger.executed(thread)]
    problems = [f"request {r.id[:6]} is {r.state}, not delivered" for r in asked if r.state != "delivered"]
    if not asked:
        problems.append("the assistant asked for nothing")
    for request in asked:
        ran = [row for row in rows if row["request_id"] == request.id]
        if request.kind == "approval" and wanted(request) is None and ran:
            problems.append(f"request {request.id[:6]} was not approved, and ran")
    problems += _mails(asked, rows, received)
    problems += _moved(asked, rows, mails, before)
    report = ledger.verify_audit()
    if report.problem is not None:
        problems.append(f"the audit log: {report.problem}")
    return problems


def _mails(asked: Sequence[Request], rows: Sequence[dict[str, Any]], received: Sequence[EmailMessage]) -> Iterator[str]:
    copies = Counter(str(mail["Message-ID"]).strip() for mail in received)
    for request in asked:
        args = wanted(request)
        if args is None or request.action is None or request.action.name != "send_email":
            continue
        name, again = message_id(str(request.action_key)), _questions(asked, request)
        number = copies.pop(name, 0)
        least = 1 if _done(request, asked, rows) else 0
        most = 1 + sum(q.decision is not None and q.decision.type == "approve" for q in again)  # "run it again"
        if not least <= number <= most:
            yield f"the mail of request {request.id[:6]} arrived {number} times"
        for mail in received:
            if str(mail["Message-ID"]).strip() == name and not _same(mail, args):
                yield f"the mail of request {request.id[:6]} is not the one that was decided on"
    for name, number in copies.items():
        yield f"{name} arrived {number} times, and nobody approved it"


def _moved(
    asked: Sequence[Request], rows: Sequence[dict[str, Any]], mails: Mailbox, before: Sequence[str]
) -> Iterator[str]:
    shall: dict[str, set[str]] = {"archive": set(), "delete": set()}
    for request in asked:
        args = wanted(request)
        if args is not None and request.action and request.action.name in shall and _done(request, asked, rows):
            shall[request.action.name].add(str(args["mail_id"]))
    inbox = {path.stem for path in mails.inbox.glob("*.eml")}
    archived = {path.stem for path in mails.archived.glob("*.eml")}
    if archived != shall["archive"]:
        yield f"the archive has {sorted(archived)}, and should have {sorted(shall['archive'])}"
    if inbox != set(before) - shall["archive"] - shall["delete"]:
        yield f"the inbox has {sorted(inbox)}, which is not what was decided"


def _questions(asked: Sequence[Request], about: Request) -> list[Request]:
    return [request for request in asked if request.kind == "question" and request.action_key == about.action_key]


def _done(request: Request, asked: Sequence[Request], rows: Sequence[dict[str, Any]]) -> bool:
    ids = {request.id, *(question.id for question in _questions(asked, request))}
    return any(row["request_id"] in ids and row["state"] == "done" for row in rows)


def _same(mail: EmailMessage, args: dict[str, Any]) -> bool:
    to = [address for _, address in getaddresses([str(mail["To"])])]
    return (
        to == [address for _, address in getaddresses([str(args["to"])])]
        and str(mail["Subject"] or "").split() == str(args["subject"]).split()
        and str(mail.get_content()).splitlines() == str(args["body"]).splitlines()
    )
