"""The hash-chained log: one row a transition, each row sealed with the hash of the one before.

A row's hash covers a commitment to its body, not the body itself (see `chain`), so a body can be redacted and the chain
still verifies; a body that is missing without a redaction row does not. A body has a fingerprint of the request or
effect as the transition left it (see `fingerprints`), so that no column of those changes unseen.
"""

import os
from collections.abc import Sequence
from typing import Any

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.ledger import chain, fingerprints
from hitl_graph.model import plain_text
from hitl_graph.storage import Rows, Transaction

__all__ = ["append", "head", "lock", "look", "redact"]


def lock(tx: Transaction) -> None:
    """Keep others from changing anything that the log tells of until the end; what is read after this stays true."""
    tx.execute("UPDATE hitl_audit_tip SET seq = seq")


def append(
    tx: Transaction,
    at_ms: int,
    event: str,
    subject: str,
    body: dict[str, Any],
    *,
    thread_id: str | None,
    actor: str,
    after: Sequence[Rows] | None = None,
) -> None:
    """Add one row to the chain, after the change that it tells of.

    Args:
        after: What `look` found after the change; None: look now.
    """
    rows = look(tx, event, subject) if after is None else after
    tips = tx.execute("UPDATE hitl_audit_tip SET seq = seq + 1 RETURNING seq, hash")
    if rows:
        body = {**body, "row": fingerprints.hashed(rows)}
    text, salt = plain_text(body), os.urandom(chain.SALT)
    commitment = chain.commitment(salt, text)
    tip = tips.fetchone()
    if tip is None:
        raise DatabaseCorruptError("the end of the log was wiped out (hitl_audit_tip); see `hitl audit verify`")
    seq, previous = tip
    sealed = chain.seal(previous, (seq, at_ms, event, thread_id, subject, actor, commitment))
    tx.execute(
        "INSERT INTO hitl_audit (seq, at_ms, event, thread_id, subject, actor, body, salt, commitment, hash)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (seq, at_ms, event, thread_id, subject, actor, text, salt, commitment, sealed),
    )
    tx.execute("UPDATE hitl_audit_tip SET hash = ?", (sealed,))


def look(tx: Transaction, event: str, subject: str) -> list[Rows]:
    """Ask for the rows of which the log keeps a fingerprint."""
    return fingerprints.look(tx, fingerprints.about(event), subject)


def head(tx: Transaction) -> tuple[int, str]:
    """Number and hash of the last row."""
    last = tx.execute("SELECT seq, hash FROM hitl_audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (last[0], last[1]) if last else (0, chain.GENESIS)


def redact(tx: Transaction, at_ms: int, thread_id: str, *, actor: str, reason: str) -> int:
    """Remove the bodies of a thread's rows; a new row says which. Returns how many were removed."""
    rows = tx.execute("SELECT seq FROM hitl_audit WHERE thread_id = ? AND body IS NOT NULL", (thread_id,)).fetchall()
    numbers = [row[0] for row in rows]
    if numbers:
        tx.execute(
            "UPDATE hitl_audit SET body = NULL, salt = NULL WHERE thread_id = ? AND body IS NOT NULL", (thread_id,)
        )
        body = {"seqs": numbers, "reason": reason, "left": fingerprints.of_thread(tx, thread_id)}
        append(tx, at_ms, "audit.redacted", thread_id, body, thread_id=None, actor=actor)
    return len(numbers)
