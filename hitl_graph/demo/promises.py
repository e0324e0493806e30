"""What the demo promises, held against what is on the disk: mails that arrived, mails that moved, the audit log."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import getaddresses
from typing import Any

from hitl_graph.demo.mailbox import Mailbox, message_id
from hitl_graph.ledger import AuditReport, Ledger
from hitl_graph.model import Request

__all__ = ["Facts", "broken", "wanted"]


def wanted(request: Request) -> dict[str, Any] | None:
    """The arguments that a person wants an action to run with; None if it shall not run."""
    if request.kind != "approval" or request.action is None or request.decision is None:
        return None
    if request.decision.type == "approve":
        return dict(request.action.args)
    return dict(request.decision.args or {}) if request.decision.type == "edit" else None


@dataclass(frozen=True)
class Facts:
    """What is on record when all is over."""

    before: Sequence[str]
    """The ids of the mails in the inbox at the start; each had a thread."""
    asked: Sequence[Request]
    ended: dict[str, str]
    """How the action of a request ended, by the request's id; nothing for one that did not run."""
    received: Sequence[EmailMessage]
    audit: AuditReport

    @classmethod
    def gather(
        cls,
        ledger: Ledger,
        before: Sequence[str],
        received: Sequence[EmailMessage],
        errors: Collection[tuple[str, str]],
    ) -> "Facts":
        """Read them from the ledger.

        Args:
            ledger: What was asked, decided and executed.
            before: The ids of the mails in the inbox at the start.
            received: What the mail server stored.
            errors: The calls that ended in an error: thread and tool call id.
        """
        threads = [f"mail {name}" for name in before]
        asked = [request for thread in threads for request in ledger.history(thread)]
        rows = [row for thread in threads for row in ledger.executed(thread)]
        ended = {row["request_id"]: str(row["state"]) for row in rows if row["request_id"]}
        for request in asked:  # a tool whose error the model was told came to its end, but not to its goal
            if ended.get(request.id) == "done" and (request.thread_id, str(request.tool_call_id)) in errors:
                ended[request.id] = "failed"
        return cls(before, asked, ended, received, ledger.verify_audit())

    def about(self, request: Request) -> list[Request]:
        """The questions what became of a request's action."""
        return [other for other in self.asked if other.kind == "question" and other.action_key == request.action_key]

    def done(self, request: Request) -> bool:
        """Whether a request's action reached its end, in whatever attempt."""
        return any(self.ended.get(other.id) == "done" for other in (request, *self.about(request)))


def broken(facts: Facts, mails: Mailbox) -> list[str]:
    """Each promise that was not kept, in a sentence; empty if all is well.

    Args:
        facts: What is on record.
        mails: The mailbox as it is now.
    """
    problems = [f"request {r.id[:6]} is {r.state}, not delivered" for r in facts.asked if r.state != "delivered"]
    if not facts.asked:
        problems.append("the assistant asked for nothing")
    for request in facts.asked:
        if request.kind == "approval" and wanted(request) is None and request.id in facts.ended:
            problems.append(f"request {request.id[:6]} was not approved, and ran")
    problems += _sent(facts)
    problems += _moved(facts, mails)
    if facts.audit.problem is not None:
        problems.append(f"the audit log: {facts.audit.problem}")
    return problems


def _sent(facts: Facts) -> Iterator[str]:
    copies = Counter(str(mail["Message-ID"]).strip() for mail in facts.received)
    for request in facts.asked:
        args = wanted(request)
        if args is None or request.action is None or request.action.name != "send_email":
            continue
        name = message_id(str(request.action_key))
        number = copies.pop(name, 0)
        again = sum(q.decision is not None and q.decision.type == "approve" for q in facts.about(request))
        if not int(facts.done(request)) <= number <= 1 + again:
            yield f"the mail of request {request.id[:6]} arrived {number} times"
        for mail in facts.received:
            if str(mail["Message-ID"]).strip() == name and not _same(mail, args):
                yield f"the mail of request {request.id[:6]} is not the one that was decided on"
    for name, number in copies.items():
        yield f"{name} arrived {number} times, and nobody approved it"


def _moved(facts: Facts, mails: Mailbox) -> Iterator[str]:
    shall: dict[str, set[str]] = {"archive": set(), "delete": set()}
    for request in facts.asked:
        args = wanted(request)
        if args is not None and request.action and request.action.name in shall and facts.done(request):
            shall[request.action.name].add(str(args["mail_id"]))
    inbox = {path.stem for path in mails.inbox.glob("*.eml")}
    archived = {path.stem for path in mails.archived.glob("*.eml")}
    if archived != shall["archive"]:
        yield f"the archive has {sorted(archived)}, and should have {sorted(shall['archive'])}"
    if inbox != set(facts.before) - shall["archive"] - shall["delete"]:
        yield f"the inbox has {sorted(inbox)}, which is not what was decided"


def _same(mail: EmailMessage, args: dict[str, Any]) -> bool:
    to = [address for _, address in getaddresses([str(mail["To"])])]
    return (
        to == [address for _, address in getaddresses([str(args["to"])])]
        and str(mail["Subject"] or "").split() == str(args["subject"]).split()
        and str(mail.get_content()).splitlines() == str(args["body"]).splitlines()
    )
