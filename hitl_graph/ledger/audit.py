"""The hash-chained log: one row a transition, each row sealed with the hash of the one before.

A row's hash covers a commitment to its body (SHA-256 of a random salt and the body), not the body itself, so a
body can be redacted and the chain still verifies; a body that is missing without a redaction row does not. A body
has a fingerprint of the request or effect as the transition left it, so that no column of those changes unseen.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.model import plain_text
from hitl_graph.storage import Rows, Transaction

__all__ = ["AuditReport", "append", "head", "lock", "look", "redact", "verify"]

GENESIS = "0" * 64
_COLUMNS = "seq, at_ms, event, thread_id, subject, actor, commitment, hash, body, salt"
# What a fingerprint covers. A later column goes to the end and is NULL where it is not used: then old ones still hold.
_REQUEST = (
    "SELECT thread_id, interrupt_id, checkpoint_id, task_id, action_key, kind, state, parked, hailed, digest, shown,"
    " tool, created_ms, decided_ms, decision, reviewer, channel, note, priority, quorum, deadline_ms, score,"
    " model_digest, route, propensity, reference, reviewers, stage, fired, handling FROM hitl_requests WHERE id = ?"
)
_VOTES = (
    "SELECT reviewer, decision, channel, at_ms, stage, behalf, rights FROM hitl_votes WHERE request_id = ?"
    " ORDER BY reviewer"
)
_EFFECT = (
    "SELECT p.action_key, p.attempt, p.thread_id, p.request_id, p.tool, p.digest, p.reason, p.issued_ms, e.state,"
    " e.owner, e.started_ms, e.ended_ms, e.result_type, e.result, e.error, e.pauses, p.grant_id, p.amount, p.args"
    " FROM hitl_permits p LEFT JOIN hitl_effects e ON e.permit_id = p.id WHERE p.id = ?"
)
_ROWS = {"request": (_REQUEST, _VOTES), "effect": (_EFFECT,)}


@dataclass(frozen=True)
class AuditReport:
    """What a verification found.

    Attributes:
        rows: Rows that were checked.
        head: Hash of the last row. Kept elsewhere, it proves later that nothing before it was rewritten.
        problem: The first thing that does not fit; None if all is well.
        redacted: Rows whose body was removed on the record.
    """

    rows: int
    head: str
    problem: str | None
    redacted: int = 0

    @property
    def ok(self) -> bool:
        """Whether the chain is intact and agrees with the tables."""
        return self.problem is None


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
        body = {**body, "row": _hashed(rows)}
    text, salt = plain_text(body), os.urandom(16)
    commitment = hashlib.sha256(salt + text.encode()).hexdigest()
    tip = tips.fetchone()
    if tip is None:
        raise DatabaseCorruptError("the end of the log was wiped out (hitl_audit_tip); see `hitl audit verify`")
    seq, previous = tip
    sealed = _seal(previous, seq, at_ms, event, thread_id, subject, actor, commitment)
    tx.execute(
        "INSERT INTO hitl_audit (seq, at_ms, event, thread_id, subject, actor, body, salt, commitment, hash)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (seq, at_ms, event, thread_id, subject, actor, text, salt, commitment, sealed),
    )
    tx.execute("UPDATE hitl_audit_tip SET hash = ?", (sealed,))


def look(tx: Transaction, event: str, subject: str) -> list[Rows]:
    """Ask for the rows of which the log keeps a fingerprint."""
    return [tx.execute(query, (subject,)) for query in _ROWS.get(_table(event), ())]


def _seal(previous: str, *fields: object) -> str:
    return hashlib.sha256("\0".join([previous, *map(repr, fields)]).encode()).hexdigest()


def _fingerprint(tx: Transaction, table: str, subject: str) -> str:
    """SHA-256 over all that is stored of a request (with its votes) or of an effect (with its permit)."""
    return _hashed(look(tx, table, subject))


def _hashed(found: Sequence[Rows]) -> str:
    hashed = hashlib.sha256()
    for rows in found:
        for row in rows.fetchall():
            for number, value in enumerate(row):
                if value is not None:
                    hashed.update(f"{number}\0{value!r}\0".encode())
            hashed.update(b"\n")
    return hashed.hexdigest()


def head(tx: Transaction) -> tuple[int, str]:
    """Number and hash of the last row."""
    last = tx.execute("SELECT seq, hash FROM hitl_audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (last[0], last[1]) if last else (0, GENESIS)


def redact(tx: Transaction, at_ms: int, thread_id: str, *, actor: str, reason: str) -> int:
    """Remove the bodies of a thread's rows; a new row says which. Returns how many were removed."""
    rows = tx.execute("SELECT seq FROM hitl_audit WHERE thread_id = ? AND body IS NOT NULL", (thread_id,)).fetchall()
    numbers = [row[0] for row in rows]
    if numbers:
        tx.execute(
            "UPDATE hitl_audit SET body = NULL, salt = NULL WHERE thread_id = ? AND body IS NOT NULL", (thread_id,)
        )
        left = {
            table: {row[0]: _fingerprint(tx, table, row[0]) for row in tx.execute(query, (thread_id,)).fetchall()}
            for table, query in (
                ("request", "SELECT id FROM hitl_requests WHERE thread_id = ?"),
                ("effect", "SELECT id FROM hitl_permits WHERE thread_id = ?"),
            )
        }
        body = {"seqs": numbers, "reason": reason, "left": left}
        append(tx, at_ms, "audit.redacted", thread_id, body, thread_id=None, actor=actor)
    return len(numbers)


def verify(tx: Transaction, anchor: str | None = None) -> AuditReport:
    """Recompute the chain and hold it against the tables it speaks of.

    Args:
        anchor: A head hash noted earlier; it must still be in the chain.
    """
    previous, count, gone, excused = GENESIS, 0, set[int](), set[int]()
    anchored = anchor in (None, GENESIS)
    last: dict[tuple[str, str], dict[str, Any]] = {}

    def report(problem: str | None) -> AuditReport:
        return AuditReport(count, previous, problem, len(gone))

    for seq, at_ms, event, thread_id, subject, actor, commitment, sealed, body, salt in tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_audit ORDER BY seq"
    ):
        if seq != count + 1:
            return report(f"row {count + 1} is missing")
        if sealed != _seal(previous, seq, at_ms, event, thread_id, subject, actor, commitment):
            return report(f"row {seq} ({event}, {_time(at_ms)}) was changed, or a row before it was")
        count, previous = seq, sealed
        anchored = anchored or sealed == anchor
        if body is None:
            gone.add(seq)
            last[_table(event), subject] = {}
            continue
        if hashlib.sha256(_bytes(salt) + _bytes(body)).hexdigest() != commitment:
            return report(f"the body of row {seq} ({event}) was changed")
        content = json.loads(body)
        if event == "audit.redacted":
            excused.update(content["seqs"])
            for table, subjects in content["left"].items():
                last.update({(table, name): {"row": row} for name, row in subjects.items()})
        last.setdefault((_table(event), subject), {}).update(content, event=event, actor=actor)
    tip = tx.execute("SELECT seq FROM hitl_audit_tip").fetchone()
    if tip is None:
        return report("how many rows the log had was wiped out")
    if tip[0] != count:
        return report(f"rows {count + 1} to {tip[0]} were cut off the end")
    if gone - excused:
        return report(f"the body of row {min(gone - excused)} is missing, and no redaction is on record")
    if not anchored:
        return report("the given head is not in this chain: it was rewritten or cut off")
    return report(_disagreement(tx, last))


def _table(event: str) -> str:
    return event.partition(".")[0]


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _time(at_ms: object) -> str:
    try:
        return datetime.fromtimestamp(int(str(at_ms)) / 1000).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # it was changed, to what is no time
        return repr(at_ms)


def _disagreement(tx: Transaction, last: dict[tuple[str, str], dict[str, Any]]) -> str | None:
    """The first row of a table that is not what the log says of it."""
    seen = set[tuple[str, str]]()
    for row_id, digest, shown, state, decision, reviewer in tx.execute(
        "SELECT id, digest, shown, state, decision, reviewer FROM hitl_requests"
    ):
        said = last.get(("request", row_id))
        seen.add(("request", row_id))
        if said is None:
            return f"request {row_id} is not in the log"
        if shown is None:  # redacted, or else the fingerprint tells
            pass
        elif hashlib.sha256(_bytes(shown)).hexdigest() != digest or digest != said.get("digest"):
            return f"what request {row_id} showed was changed"
        elif state != said.get("state"):
            return f"request {row_id} is {state}; the log says {said.get('state')}"
        elif decision != said.get("decision") or reviewer != said.get("reviewer"):
            return f"the decision of request {row_id} was changed"
        if said.get("row") != _fingerprint(tx, "request", row_id):
            return f"request {row_id} was changed"
    for (permit_id,) in tx.execute("SELECT id FROM hitl_permits").fetchall():
        said = last.get(("effect", permit_id))
        seen.add(("effect", permit_id))
        if said is None:
            return f"permit {permit_id} is not in the log"
        if said.get("row") != _fingerprint(tx, "effect", permit_id):
            return f"permit {permit_id} or its effect was changed"
    for table, subject in last:
        if table in _ROWS and (table, subject) not in seen:
            return f"{table} {subject} is in the log, but its row is gone"
    for table, column, owner in (
        ("hitl_effects", "permit_id", "hitl_permits"),
        ("hitl_votes", "request_id", "hitl_requests"),
    ):
        stray = tx.execute(f"SELECT {column} FROM {table} WHERE {column} NOT IN (SELECT id FROM {owner})").fetchone()
        if stray:
            return f"a row of {table} belongs to {stray[0]}, which does not exist"
    return None
