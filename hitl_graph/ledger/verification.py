"""Whether the log is what was written: the chain is recomputed and held against the tables that it speaks of."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.ledger import chain, fingerprints
from hitl_graph.ledger.fingerprints import SUBJECTS
from hitl_graph.storage import Transaction

__all__ = ["AuditReport", "Progress", "verify"]

Progress = Callable[[int, int], object]
"""Told now and then how many rows are done, and of how many."""


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


def verify(tx: Transaction, anchor: str | None = None, progress: Progress | None = None) -> AuditReport:
    """Recompute the chain and hold it against the tables it speaks of.

    Args:
        anchor: A head hash noted earlier; it must still be in the chain.
        progress: Told now and then how many rows of the log and of those tables are done, and of how many.
    """
    run = _Verification(tx, anchor, progress)
    problem: str | None = None
    try:
        run.read_log()
        run.check_end()
        run.check_tables()
        run.check_tip()
    except DatabaseCorruptError as found:
        problem = str(found)
    return AuditReport(run.rows, run.head, problem, run.gone.count(1))


class _Verification:
    """What is kept while the log is read: a fingerprint a subject, two bytes a row."""

    def __init__(self, tx: Transaction, anchor: str | None, progress: Progress | None) -> None:
        self.tx, self.progress = tx, progress
        self.rows, self.head = 0, chain.GENESIS
        self.anchor, self.anchored = anchor, anchor in (None, chain.GENESIS)
        self.gone, self.excused = bytearray(), bytearray()  # by row: its body is missing; it was redacted
        # By kind and id: the fingerprint of a subject as the log says it is; empty once that was redacted.
        self.last: dict[str, dict[str, bytes]] = {kind: {} for kind in SUBJECTS}
        self.done, self.total = 0, 0
        if progress is not None:
            for table in ("hitl_audit", *(subject.table for subject in SUBJECTS.values())):
                self.total += tx.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def read_log(self) -> None:
        for page in chain.pages(self.tx):
            for row in page:
                self._read(row)
            self._tell(len(page))

    def check_end(self) -> None:
        tips = self.tx.execute("SELECT seq, hash FROM hitl_audit_tip").fetchall()
        if not tips:
            raise _Found("how many rows the log had was wiped out")
        if len(tips) > 1 or type(tips[0][0]) is not int or tips[0][0] < self.rows:
            raise _Found("how many rows the log had was changed (hitl_audit_tip)")
        if tips[0][0] > self.rows:
            raise _Found(f"rows {self.rows + 1} to {tips[0][0]} were cut off the end")
        for number, (gone, excused) in enumerate(zip(self.gone, self.excused, strict=True), 1):
            if gone > excused:
                raise _Found(f"the body of row {number} is missing, and no redaction is on record")
            if gone < excused:
                raise _Found(f"the body of row {number} was redacted, and is there again")
        if not self.anchored:
            raise _Found("the given head is not in this chain: it was rewritten or cut off")

    def check_tables(self) -> None:
        for kind, subject in SUBJECTS.items():
            last = self.last[kind]
            for page in fingerprints.every(self.tx, subject):
                for subject_id, found in page:
                    said = last.pop(subject_id, None)
                    if said is None:
                        raise _Found(f"{subject.name} {subject_id} is not in the log")
                    if not fingerprints.fits(said.hex(), found):
                        raise _Found(_what_was_changed(self.tx, kind, subject_id))
                self._tell(len(page))
            for subject_id, said in last.items():
                if not fingerprints.is_gone(said.hex()):
                    raise _Found(f"{subject.name} {subject_id} is in the log, but its row is gone")
            for table, names in fingerprints.strays(self.tx, subject):
                raise _Found(f"a row of {table} belongs to {names}, which does not exist")

    def check_tip(self) -> None:
        [tip] = self.tx.execute("SELECT hash FROM hitl_audit_tip").fetchone()
        if tip != self.head:
            raise _Found("the head that the next row continues was changed (hitl_audit_tip)")

    def _read(self, row: tuple[Any, ...]) -> None:
        seq, at_ms, event, _, subject_id, _, commitment, sealed, salt, body = row
        if seq != self.rows + 1:
            raise _Found(f"row {self.rows + 1} is missing")
        if not chain.is_sealed(sealed, self.head, row[:7]):
            raise _Found(f"row {seq} ({event}, {_time(at_ms)}) was changed, or a row before it was")
        self.rows, self.head = seq, sealed
        self.anchored = self.anchored or sealed == self.anchor
        self.gone.append(body is None)
        self.excused.append(0)
        if body is None and salt is None:
            content: dict[str, Any] = {}
        else:
            content = self._opened(seq, event, commitment, salt, body)
        kind = fingerprints.about(event)
        if kind in self.last and event not in fingerprints.LOOKS:
            self.last[kind][subject_id] = _packed(content.get("row"))
        if event == "audit.redacted" and content:
            self._excuse(content)

    def _opened(self, seq: int, event: str, commitment: str, salt: Any, body: Any) -> dict[str, Any]:
        # A salt of another length could have taken letters from the body, or given it some.
        whole = type(body) is str and type(salt) is bytes and len(salt) == chain.SALT
        if not whole or chain.commitment(salt, body) != commitment:
            raise _Found(f"the body of row {seq} ({event}) was changed")
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise _Found(f"the body of row {seq} ({event}) is no JSON object: the log was rewritten")
        return content

    def _excuse(self, content: dict[str, Any]) -> None:
        try:
            for seq in content["seqs"]:
                self.excused[seq - 1] = 1
            for kind, subjects in content["left"].items():
                self.last[kind].update({subject_id: _packed(row) for subject_id, row in subjects.items()})
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise _Found(f"row {self.rows} is a redaction that makes no sense: the log was rewritten") from error

    def _tell(self, rows: int) -> None:
        if self.progress is not None:
            self.done += rows
            self.progress(self.done, self.total)


class _Found(DatabaseCorruptError):
    """The first thing that does not fit."""


def _packed(fingerprint: object) -> bytes:
    """Half as long, since there is one for each subject; empty for what is none, which no row fits."""
    try:
        return bytes.fromhex(fingerprint) if isinstance(fingerprint, str) else b""
    except ValueError:
        return b""


def _time(at_ms: object) -> str:
    try:
        return datetime.fromtimestamp(int(str(at_ms)) / 1000).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # it was changed, to what is no time
        return repr(at_ms)


def _what_was_changed(tx: Transaction, kind: str, subject_id: str) -> str:
    """In words, as far as the bodies of its events tell."""
    if kind == "effect":
        return f"permit {subject_id} or its effect was changed"
    changed = f"{SUBJECTS[kind].name} {subject_id} was changed"
    if kind != "request":
        return changed
    said = dict[str, Any]()
    for (body,) in tx.execute(
        "SELECT body FROM hitl_audit WHERE subject = ? AND event LIKE 'request.%' AND event <> 'request.seen'"
        " ORDER BY seq",
        (subject_id,),
    ).fetchall():
        said = {**said, **json.loads(body)} if body is not None else {}
    [(digest, shown, state, decision, reviewer)] = tx.execute(
        "SELECT digest, shown, state, decision, reviewer FROM hitl_requests WHERE id = ?", (subject_id,)
    ).fetchall()
    if shown is None:  # redacted: what it was is not told any more
        return changed
    if hashlib.sha256(str(shown).encode()).hexdigest() != digest or digest != said.get("digest"):
        return f"what request {subject_id} showed was changed"
    if state != said.get("state"):
        return f"request {subject_id} is {state}; the log says {said.get('state')}"
    if decision != said.get("decision") or reviewer != said.get("reviewer"):
        return f"the decision of request {subject_id} was changed"
    return changed
