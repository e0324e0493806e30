"""Requests that wait, audits, and people's decisions about them, without a graph."""

from itertools import count
from typing import Any

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Decision, Request, request_id

__all__ = ["LABELS", "MAIL", "SCHEMA", "audit", "decide", "mail"]

_numbers = count(1)
MAIL: dict[str, Any] = {"to": "bob@corp.example", "subject": "Your refund", "body": "120 EUR are on their way."}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in MAIL},
    "required": list(MAIL),
    "additionalProperties": False,
}
LABELS = {"approve": "it was right", "edit": "it should have been this", "reject": "it was wrong"}


def mail(ledger: Ledger, **fields: Any) -> Request:
    """A request for a call of send_email that waits; `args` are what is another one in it."""
    thread = fields.pop("thread_id", f"thread-{next(_numbers)}")
    args = {**MAIL, **fields.pop("args", {})}
    plain: dict[str, Any] = {
        "id": request_id(thread, f"i{next(_numbers)}"), "kind": "approval", "thread_id": thread, "interrupt_id": "i",
        "action": Action(name="send_email", args=args), "answer_schema": SCHEMA, "reason": "a rule says so",
    }  # fmt: skip
    request = Request(**{**plain, **fields})
    ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id=None, task_id=None, parked=1)
    return Inbox(ledger).get(request.id)


def audit(ledger: Ledger, **fields: Any) -> Request:
    """A call that was decided automatically, for people to look at; with `draft=`, a draft."""
    plain: dict[str, Any] = {
        "kind": "review", "interrupt_id": "audit", "answer_shape": "audit", "route": "audit", "labels": LABELS,
        "allowed": ("approve", "edit", "reject"), "score": 0.97,
        "reason": "decided automatically with a score of 0.97; nothing waits for your answer",
    }  # fmt: skip
    if "draft" in fields:
        plain |= {"action": None, "answer_schema": None}
    return mail(ledger, **{**plain, **fields})


def decide(ledger: Ledger, decision: Decision, who: str = "alice", **fields: Any) -> Request:
    """A request that somebody decided."""
    return Inbox(ledger).decide(mail(ledger, **fields).id, decision, reviewer=who)
