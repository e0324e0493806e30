"""What the log keeps a fingerprint of: SHA-256 over a row, and what hangs on it, as a transition left it.

An event is named `subject.what`; `SUBJECTS` says which row of which table it is about. An entry is all that a new one
needs: events then carry its fingerprint, a verification compares every row, and a redaction notes what it left.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.ledger.chain import PAGE, readable
from hitl_graph.storage import Rows, Transaction

__all__ = [
    "LOOKS",
    "SUBJECTS",
    "Part",
    "Subject",
    "about",
    "every",
    "fits",
    "hashed",
    "is_gone",
    "look",
    "of_thread",
    "strays",
]


class Part(NamedTuple):
    """One query of a fingerprint.

    Attributes:
        columns: What it covers. A later column goes to the end and is NULL where it is not used: then old ones hold.
        source: Table or join.
        key: The column with the subject's id.
        order: By which its rows are sorted, where there can be several.
    """

    columns: str
    source: str
    key: str = "id"
    order: str = ""


@dataclass(frozen=True)
class Subject:
    """A kind of row that events are about.

    Attributes:
        name: What a person calls it.
        table: Each of its rows must be in the log.
        parts: What a fingerprint covers.
        hanging: Tables and their columns whose values must be keys of this one.
        key: Its primary key, a text: the subject of the events.
        thread: The column by which a redaction of a thread finds it; None: it belongs to no thread.
    """

    name: str
    table: str
    parts: tuple[Part, ...]
    hanging: tuple[tuple[str, str], ...] = ()
    key: str = "id"
    thread: str | None = "thread_id"


SUBJECTS: Final = {
    "request": Subject(
        "request",
        "hitl_requests",
        (
            Part(
                "thread_id, interrupt_id, checkpoint_id, task_id, action_key, kind, state, parked, hailed, digest,"
                " shown, tool, created_ms, decided_ms, decision, reviewer, channel, note, priority, quorum,"
                " deadline_ms, score, model_digest, route, propensity, reference, reviewers, stage, fired, handling,"
                " risk",
                "hitl_requests",
            ),
            Part("reviewer, decision, channel, at_ms, stage, behalf, rights", "hitl_votes", "request_id", "reviewer"),
        ),
        hanging=(("hitl_votes", "request_id"),),
    ),
    "effect": Subject(
        "permit",
        "hitl_permits",
        (
            Part(
                "p.action_key, p.attempt, p.thread_id, p.request_id, p.tool, p.digest, p.reason, p.issued_ms, e.state,"
                " e.owner, e.started_ms, e.ended_ms, e.result_type, e.result, e.error, e.pauses, p.grant_id, p.amount,"
                " p.args",
                "hitl_permits p LEFT JOIN hitl_effects e ON e.permit_id = p.id",
                "p.id",
            ),
        ),
        hanging=(("hitl_effects", "permit_id"),),
    ),
    "message": Subject(
        "message",
        "hitl_messages",
        (Part("thread_id, sender, message, at_ms, delivered_ms", "hitl_messages", "CAST(id AS TEXT)"),),
        key="CAST(id AS TEXT)",
    ),
    "absence": Subject(
        "absence",
        "hitl_absences",
        (Part("reviewer, deputy, from_ms, until_ms", "hitl_absences"),),
        thread=None,
    ),
    "grant": Subject(
        "standing permission",
        "hitl_grants",
        (
            Part(
                "tool, scope, request_id, thread_id, given_by, given_ms, expires_ms, revoked_ms, revoked_by, note,"
                " revoked_why",
                "hitl_grants",
            ),
        ),
    ),
    "switch": Subject(
        "switch",
        "hitl_switches",
        (Part("outcome, reason, set_by, set_ms", "hitl_switches", "scope"),),
        key="scope",
        thread=None,
    ),
    "denial": Subject(
        "denial",
        "hitl_denials",
        (Part("thread_id, tool, args, reason, at_ms, number, ran, streak, asks", "hitl_denials", "action_key"),),
        key="action_key",
    ),
    "routed": Subject(
        "routed call",
        "hitl_routed",
        (
            Part(
                "thread_id, name, binding, model_digest, class, tool, input, output, score, route, propensity, least,"
                " drawn, certificate, request_id, at_ms",
                "hitl_routed",
                "action_key",
            ),
        ),
        key="action_key",
    ),
    "certificate": Subject(
        "certificate",
        "hitl_certificates",
        (
            Part(
                "name, binding, model_digest, class, threshold, body, state, why, issued_ms, ended_ms",
                "hitl_certificates",
            ),
        ),
        thread=None,
    ),
    "credential": Subject(
        "credential",
        "hitl_credentials",
        (  # when a session or token was last seen changes all the time, and is in no log
            Part(
                "kind, reviewer, identity, label, created_ms, expires_ms, revoked_ms,"
                " CASE WHEN kind = 'link' THEN used_ms END",
                "hitl_credentials",
            ),
        ),
        thread=None,
    ),
}


LOOKS: Final = ("request.seen",)
"""Events that change nothing of what they are about: they carry no fingerprint, and the one before holds."""


def about(event: str) -> str:
    """What an event is about: the part of its name before the point."""
    return event.partition(".")[0]


def look(tx: Transaction, kind: str, subject_id: str) -> list[Rows]:
    """Ask for all that a fingerprint covers; nothing, where none is kept."""
    subject = SUBJECTS.get(kind)
    return [tx.execute(_query(part, "= ?"), (subject_id,)) for part in subject.parts] if subject else []


def hashed(found: Iterable[Iterable[Sequence[Any]]], literal: Callable[[object], str] = ascii) -> str:
    """The fingerprint of these rows: where each value stands, and its Python literal; NULL is left out."""
    text = "".join(
        "".join([f"{number}\0{literal(value)}\0" for number, value in enumerate(row) if value is not None]) + "\n"
        for rows in found
        for row in rows
    )
    return hashlib.sha256(text.encode()).hexdigest()


def is_gone(said: object) -> bool:
    """Whether this is the fingerprint of a row that a transition deleted."""
    return said == hashed(())


def fits(said: object, found: Iterable[Iterable[Sequence[Any]]]) -> bool:
    """Whether this is the fingerprint of these rows; `repr` is how 0.1.0 wrote a literal (see `chain.is_sealed`)."""
    return said == hashed(found) or said == hashed(found, repr)


def every(tx: Transaction, subject: Subject) -> Iterator[list[tuple[str, list[list[Sequence[Any]]]]]]:
    """All rows of a subject's table, some at a time: (id, what its fingerprint covers).

    Raises:
        DatabaseCorruptError: A row holds what is no text, or has an id that is none.
    """
    key, bound, last = subject.key, "", list[Any]()
    while True:
        page = f"SELECT {key} FROM {subject.table} {bound} ORDER BY {key} LIMIT ?"
        ids = readable(tx.execute(page, [*last, PAGE]), subject.table)
        if not ids:
            return
        for (row_id,) in ids:
            if not isinstance(row_id, str):
                raise DatabaseCorruptError(f"a row of {subject.table} has the id {row_id!r}, which is none")
        last = [ids[-1][0]]
        found: dict[str, list[list[Sequence[Any]]]] = {row_id: [[] for _ in subject.parts] for (row_id,) in ids}
        for number, part in enumerate(subject.parts):
            reply = tx.execute(_query(part, "BETWEEN ? AND ?", with_key=True), (ids[0][0], last[0]))
            for row_id, *row in readable(reply, part.source):
                if row_id in found:  # else it hangs on nothing: see `strays`
                    found[row_id][number].append(row)
        yield list(found.items())
        bound = f"WHERE {key} > ?"


def of_thread(tx: Transaction, thread_id: str) -> dict[str, dict[str, str]]:
    """The fingerprint of each subject that belongs to a thread: {kind: {id: fingerprint}}."""
    left: dict[str, dict[str, str]] = {}
    for kind, subject in SUBJECTS.items():
        if subject.thread is not None:
            own = f"SELECT {subject.key} FROM {subject.table} WHERE {subject.thread} = ?"
            asked = {row[0]: look(tx, kind, row[0]) for row in tx.execute(own, (thread_id,)).fetchall()}
            left[kind] = {row_id: hashed(found) for row_id, found in asked.items()}
    return left


def strays(tx: Transaction, subject: Subject) -> Iterator[tuple[str, str]]:
    """Tables with a row that hangs on nothing, and the id it names."""
    for table, column in subject.hanging:
        # Not `NOT IN`: PostgreSQL would go through the whole subject table for each row.
        known = f"SELECT 1 FROM {subject.table} s WHERE s.{subject.key} = h.{column}"
        stray = tx.execute(f"SELECT h.{column} FROM {table} h WHERE NOT EXISTS ({known}) LIMIT 1")
        for row in readable(stray, table):
            yield table, row[0]


def _query(part: Part, which: str, *, with_key: bool = False) -> str:
    columns = f"{part.key}, {part.columns}" if with_key else part.columns
    order = ", ".join(filter(None, [part.key if with_key else "", part.order]))
    return f"SELECT {columns} FROM {part.source} WHERE {part.key} {which}" + (f" ORDER BY {order}" if order else "")
