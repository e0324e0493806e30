"""Who looked at a request: one row of the log a person, channel and digest. Looking changes nothing."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.ledger import audit, requests
from hitl_graph.model import Request, from_ms
from hitl_graph.reviewers import same
from hitl_graph.storage import Transaction

__all__ = ["Viewer", "has_seen", "note", "viewers"]


@dataclass(frozen=True)
class Viewer:
    """Somebody to whom a request was shown.

    Attributes:
        at: When for the first time.
        channel: The door; None once redacted.
        digest: `Request.digest` of what they were shown; None once redacted.
    """

    reviewer: str
    at: datetime
    channel: str | None
    digest: str | None


def viewers(tx: Transaction, request_id: str) -> list[Viewer]:
    """To whom a request was shown, in the order in which they first looked."""
    rows = tx.execute(
        "SELECT actor, at_ms, body FROM hitl_audit WHERE subject = ? AND event = 'request.seen' ORDER BY seq",
        (request_id,),
    )
    found: list[Viewer] = []
    for actor, at_ms, body in rows:
        said: dict[str, Any] = json.loads(body) if body else {}
        found.append(Viewer(actor, from_ms(at_ms), said.get("channel"), said.get("digest")))
    return found


def has_seen(tx: Transaction, request_id: str, digest: str, *, reviewer: str, channel: str) -> bool:
    """Whether it is in the log. What was redacted tells no channel, and counts as any."""
    return any(
        same(viewer.reviewer, reviewer) and viewer.digest in (digest, None) and viewer.channel in (channel, None)
        for viewer in viewers(tx, request_id)
    )


def note(tx: Transaction, now_ms: int, request: Request, digest: str, *, reviewer: str, channel: str) -> bool:
    """Note that somebody looks at it, unless it is in the log; returns whether it was not.

    Raises:
        UnknownRequestError: There is no such request.
    """
    requests.find(tx, request.id)
    if has_seen(tx, request.id, digest, reviewer=reviewer, channel=channel):
        return False
    body = {"channel": channel, "digest": digest}
    audit.append(tx, now_ms, "request.seen", request.id, body, thread_id=request.thread_id, actor=reviewer, after=())
    return True
