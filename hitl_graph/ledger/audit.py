"""The hash-chained log: one row a transition, each row sealed with the hash of the one before.

A row's hash covers a commitment to its body (SHA-256 of a random salt and the body), not the body itself, so a
body can be redacted and the chain still verifies; a body that is missing without a redaction row does not.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.model import canonical
from hitl_graph.storage import Transaction

__all__ = ["AuditReport", "append", "head", "redact", "verify"]

GENESIS = "0" * 64
_COLUMNS = "seq, at_ms, event, thread_id, subject, actor, commitment, hash, body, salt"


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


def append(
    tx: Transaction, at_ms: int, event: str, subject: str, body: dict[str, Any], *, thread_id: str | None, actor: str
) -> None:
    """Add one row to the chain."""
    text, salt = canonical(body), os.urandom(16)
    commitment = hashlib.sha256(salt + text.encode()).hexdigest()
    last = tx.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    seq, previous = (last[0] + 1, last[1]) if last else (1, GENESIS)
    sealed = _seal(previous, seq, at_ms, event, thread_id, subject, actor, commitment)
    tx.execute(
        "INSERT INTO audit (seq, at_ms, event, thread_id, subject, actor, body, salt, commitment, hash)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (seq, at_ms, event, thread_id, subject, actor, text, salt, commitment, sealed),
    )


def _seal(previous: str, *fields: object) -> str:
    return hashlib.sha256("\0".join([previous, *map(repr, fields)]).encode()).hexdigest()


def head(tx: Transaction) -> tuple[int, str]:
    """Number and hash of the last row."""
    last = tx.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
    return (last[0], last[1]) if last else (0, GENESIS)


def redact(tx: Transaction, at_ms: int, thread_id: str, *, actor: str, reason: str) -> int:
    """Remove the bodies of a thread's rows; a new row says which. Returns how many were removed."""
    rows = tx.execute("SELECT seq FROM audit WHERE thread_id = ? AND body IS NOT NULL", (thread_id,)).fetchall()
    numbers = [row[0] for row in rows]
    if numbers:
        tx.execute("UPDATE audit SET body = NULL, salt = NULL WHERE thread_id = ? AND body IS NOT NULL", (thread_id,))
        append(tx, at_ms, "audit.redacted", thread_id, {"seqs": numbers, "reason": reason}, thread_id=None, actor=actor)
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
        f"SELECT {_COLUMNS} FROM audit ORDER BY seq"
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
        if hashlib.sha256(bytes(salt or b"") + body.encode()).hexdigest() != commitment:
            return report(f"the body of row {seq} ({event}) was changed")
        content = json.loads(body)
        if event == "audit.redacted":
            excused.update(content["seqs"])
        last.setdefault((_table(event), subject), {}).update(content, event=event, actor=actor)
    highest = tx.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").fetchone()
    if highest and highest[0] != count:
        return report(f"rows {count + 1} to {highest[0]} were cut off the end")
    if gone - excused:
        return report(f"the body of row {min(gone - excused)} is missing, and no redaction is on record")
    if not anchored:
        return report("the given head is not in this chain: it was rewritten or cut off")
    return report(_disagreement(tx, last))


def _table(event: str) -> str:
    return event.partition(".")[0]


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(timespec="seconds")


def _disagreement(tx: Transaction, last: dict[tuple[str, str], dict[str, Any]]) -> str | None:
    """The first row of a table that is not what the log says of it."""
    seen = set[tuple[str, str]]()
    for row_id, digest, shown, state, decision, reviewer in tx.execute(
        "SELECT id, digest, shown, state, decision, reviewer FROM requests"
    ):
        said = last.get(("request", row_id))
        seen.add(("request", row_id))
        if said is None:
            return f"request {row_id} is not in the log"
        if not said:  # redacted
            continue
        if shown is None or hashlib.sha256(shown.encode()).hexdigest() != digest or digest != said["digest"]:
            return f"what request {row_id} showed was changed"
        if state != said["state"]:
            return f"request {row_id} is {state}; the log says {said['state']}"
        if decision != said.get("decision") or reviewer != said.get("reviewer"):
            return f"the decision of request {row_id} was changed"
    for permit_id, digest, state, result in tx.execute(
        "SELECT p.id, p.digest, e.state, e.result FROM permits p LEFT JOIN effects e ON e.permit_id = p.id"
    ):
        said = last.get(("effect", permit_id))
        seen.add(("effect", permit_id))
        if said is None:
            return f"permit {permit_id} is not in the log"
        if said and (digest != said["digest"] or state != said["state"]):
            return f"the effect of permit {permit_id} was changed"
        if said and said.get("result") != (result and hashlib.sha256(result).hexdigest()):
            return f"the result of permit {permit_id} was changed"
    for table, subject in last:
        if table in ("request", "effect") and (table, subject) not in seen and last[table, subject]:
            if last[table, subject]["event"] != f"{table}.forgotten":
                return f"{table} {subject} is in the log, but its row is gone"
    return None
