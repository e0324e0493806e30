"""Certificates: leave to decide automatically from a score on. At most one is valid for each source at a time."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue

from hitl_graph.ledger import audit
from hitl_graph.ledger.routing import Source
from hitl_graph.model import canonical, from_ms, to_ms
from hitl_graph.storage import Transaction

__all__ = ["Issued", "Standing", "end", "find", "issue", "latest", "line", "listed", "suspended_at", "valid"]

Standing = Literal["valid", "suspended", "replaced"]
_COLUMNS = "id, name, binding, model_digest, class, threshold, body, state, why, issued_ms, ended_ms"


@dataclass(frozen=True)
class Issued:
    """A certificate as it is stored.

    Attributes:
        threshold: The lowest score that is automatic.
        body: What is promised, on which labels, by which method, and what scores looked like then.
        state: `suspended`: it was taken back, for the reason in `why`.
    """

    id: str
    source: Source
    threshold: float
    body: dict[str, Any]
    state: Standing
    why: str | None
    issued_at: datetime
    ended_at: datetime | None


def issue(tx: Transaction, now_ms: int, source: Source, threshold: float, body: dict[str, JsonValue]) -> Issued:
    """Store a certificate; the one before is replaced."""
    before = valid(tx, source)
    if before is not None:
        end(tx, now_ms, before, "replaced", "another one was issued")
    name = secrets.token_hex(8)
    tx.execute(
        "INSERT INTO hitl_certificates (id, name, binding, model_digest, class, threshold, body, state, issued_ms)"
        " VALUES (?,?,?,?,?,?,?,'valid',?)",
        (name, source.name, source.binding, source.model, source.group, threshold, canonical(body), now_ms),
    )
    told = {"name": source.name, "threshold": threshold, "state": "valid"}
    audit.append(tx, now_ms, "certificate.issued", name, told, thread_id=None, actor="learning")
    return _select(tx, "id = ?", (name,))[0]


def end(tx: Transaction, now_ms: int, issued: Issued, state: Standing, why: str, *, actor: str = "learning") -> bool:
    """Take a valid certificate back; returns whether it was valid until now."""
    changed = tx.execute(
        "UPDATE hitl_certificates SET state = ?, why = ?, ended_ms = ? WHERE id = ? AND state = 'valid'",
        (state, why, now_ms, issued.id),
    )
    if changed.rowcount == 1:
        event = f"certificate.{state}"
        audit.append(tx, now_ms, event, issued.id, {"state": state, "why": why}, thread_id=None, actor=actor)
    return changed.rowcount == 1


def find(tx: Transaction, certificate_id: str) -> Issued | None:
    """The one with this id."""
    found = _select(tx, "id = ?", (certificate_id,))
    return found[0] if found else None


def valid(tx: Transaction, source: Source) -> Issued | None:
    """The one that is in force."""
    where, values = source.where()
    found = _select(tx, f"{where} AND state = 'valid' ORDER BY issued_ms DESC, id", values)
    return found[0] if found else None


def latest(tx: Transaction, source: Source) -> Issued | None:
    """The last one that was issued to a source, whatever became of it."""
    where, values = source.where()
    found = _select(tx, f"{where} ORDER BY issued_ms DESC, state DESC, id LIMIT 1", values)
    return found[0] if found else None


def suspended_at(tx: Transaction, source: Source) -> datetime | None:
    """When one of a source was last suspended; None if none ever was."""
    where, values = source.where()
    query = f"SELECT max(ended_ms) FROM hitl_certificates WHERE {where} AND state = 'suspended'"
    ended = tx.execute(query, values).fetchone()[0]
    return None if ended is None else from_ms(ended)


def line(issued: Issued) -> tuple[str, list[Any]]:
    """A query for the ids of a certificate and of those that it took the place of, since one was suspended; its values.

    They are of the same source at the same time: what is known of one is known of all.
    """
    (where, values), at = issued.source.where(), to_ms(issued.issued_at)
    suspended = f"SELECT max(ended_ms) FROM hitl_certificates WHERE {where} AND state = 'suspended' AND ended_ms <= ?"
    query = (
        f"SELECT id FROM hitl_certificates WHERE {where} AND (id = ? OR state = 'replaced' AND issued_ms <= ?"
        f" AND issued_ms >= coalesce(({suspended}), 0))"
    )
    return query, [*values, issued.id, at, *values, at]


def listed(tx: Transaction, name: str | None = None) -> list[Issued]:
    """All there are, the latest first."""
    where = "name = ?" if name is not None else "1 = 1"
    return _select(tx, f"{where} ORDER BY issued_ms DESC, id", () if name is None else (name,))


def _select(tx: Transaction, where: str, parameters: Sequence[Any]) -> list[Issued]:
    rows = tx.execute(f"SELECT {_COLUMNS} FROM hitl_certificates WHERE {where}", parameters).fetchall()
    return [
        Issued(
            row[0], Source(*row[1:5]), row[5], json.loads(row[6]), row[7], row[8], from_ms(row[9]),
            None if row[10] is None else from_ms(row[10]),
        )
        for row in rows
    ]  # fmt: skip
