"""What the command line reads from the ledger beyond its public questions. Nothing here writes."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hitl_graph.cli.app import UNKNOWN, Failure
from hitl_graph.errors import UnknownRequestError
from hitl_graph.ledger import Ledger, deciding, requests
from hitl_graph.model import Request
from hitl_graph.storage import Transaction
from hitl_graph.voting import Standing, Vote, standing

__all__ = [
    "audit_rows",
    "closings",
    "counts",
    "find",
    "largest_threads",
    "require_thread",
    "short_ids",
    "standings",
    "thread",
]

_SHORTEST, _TYPED = 6, 4
_AUDIT = ("seq", "at_ms", "event", "thread_id", "subject", "actor", "body", "hash")


def find(ledger: Ledger, prefix: str) -> Request:
    """The request that an id, or at least four digits of one, names.

    Raises:
        UnknownRequestError: None or several, which it lists.
    """
    clean = prefix.strip().lower()
    if len(clean) < _TYPED:
        raise UnknownRequestError(prefix, f"give at least {_TYPED} digits of the id; `hitl inbox` lists them")
    try:
        return ledger.read(requests.find, clean)
    except UnknownRequestError as exc:
        several = ledger.read(requests.select, "substr(id, 1, ?) = ? ORDER BY id LIMIT 5", (len(clean), clean))
        if len(several) < 2:
            raise
        known = short_ids(ledger, [request.id for request in several])
        names = ", ".join(f"{known[r.id]} ({r.state})" for r in several)
        raise UnknownRequestError(prefix, f"several begin so: {names}; give more digits") from exc


def short_ids(ledger: Ledger, ids: Sequence[str]) -> dict[str, str]:
    """The shortest beginnings, all of one length, that name these requests and no other one of the database."""

    def work(tx: Transaction) -> int:
        longest = _SHORTEST
        for own in ids:
            below = tx.execute("SELECT max(id) FROM hitl_requests WHERE id < ?", (own,)).fetchone()[0]
            above = tx.execute("SELECT min(id) FROM hitl_requests WHERE id > ?", (own,)).fetchone()[0]
            for other in filter(None, (below, above)):
                longest = max(longest, 1 + next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b))
        return longest

    length = ledger.read(work)
    return {own: own[:length] for own in ids}


def standings(ledger: Ledger, found: Sequence[Request]) -> dict[str, Standing]:
    """How far these requests are."""

    def work(tx: Transaction) -> dict[str, tuple[Vote, ...]]:
        return deciding.votes_on(tx, [request.id for request in found])

    votes, now_ms = ledger.read(work) if found else {}, ledger.now_ms()
    return {request.id: standing(request, votes[request.id], now_ms) for request in found}


def thread(ledger: Ledger, name: str) -> str | None:
    """The thread of this name, or the only one whose name begins so; None if there is no such thread."""

    def work(tx: Transaction) -> list[str]:
        rows: list[Any] = []
        for where, parameters in (("thread_id = ?", (name,)), ("substr(thread_id, 1, ?) = ?", (len(name), name))):
            rows = tx.execute(
                f"SELECT thread_id FROM hitl_requests WHERE {where} UNION"
                f" SELECT thread_id FROM hitl_permits WHERE {where} LIMIT 2",
                parameters * 2,
            ).fetchall()
            if rows:
                break
        return [row[0] for row in rows]

    found = ledger.read(work) if name else []
    return found[0] if len(found) == 1 else None


def closings(ledger: Ledger, thread_id: str) -> list[tuple[int, str, str, str, dict[str, Any]]]:
    """What became of the requests of a thread besides their decision: (at_ms, event, request id, actor, body)."""

    def work(tx: Transaction) -> list[tuple[int, str, str, str, dict[str, Any]]]:
        rows = tx.execute(
            "SELECT at_ms, substr(event, 9), subject, actor, body FROM hitl_audit WHERE thread_id = ?"
            " AND event LIKE 'request.%' AND event NOT IN ('request.opened', 'request.parked', 'request.hailed',"
            " 'request.heeded', 'request.seen', 'request.decided') ORDER BY seq",
            (thread_id,),
        )
        return [(*row[:4], json.loads(row[4]) if row[4] else {}) for row in rows]

    return ledger.read(work)


def audit_rows(ledger: Ledger, thread_id: str | None, limit: int | None) -> Iterator[dict[str, Any]]:
    """The rows of the log, oldest first; of them the last `limit`."""

    def work(tx: Transaction) -> list[Any]:
        wanted = ""
        parameters: list[Any] = []
        if thread_id is not None:
            wanted = " WHERE thread_id = ? OR (subject = ? AND event = 'audit.redacted')"
            parameters = [thread_id, thread_id]
        newest = f"SELECT {', '.join(_AUDIT)} FROM hitl_audit{wanted} ORDER BY seq DESC"
        if limit is not None:
            newest += " LIMIT ?"
            parameters.append(limit)
        return tx.execute(f"SELECT * FROM ({newest}) AS newest ORDER BY seq", parameters).fetchall()

    for row in ledger.read(work):
        yield dict(zip(_AUDIT, row, strict=True))


def counts(ledger: Ledger) -> dict[str, int]:
    """How many there are of what."""

    def work(tx: Transaction) -> dict[str, int]:
        found = [(name, tx.execute(f"SELECT count(*) FROM {rest}")) for name, rest in _COUNTED.items()]
        return {name: int(rows.fetchone()[0]) for name, rows in found}

    return ledger.read(work)


_COUNTED = {
    "threads": "(SELECT DISTINCT thread_id FROM hitl_namespaces) AS each_thread",
    "checkpoints": "hitl_states WHERE checkpoint_id <> ''",
    "values": "hitl_states WHERE checkpoint_id = ''",
    "writes": "hitl_writes",
    "requests": "hitl_requests",
    "pending_requests": "hitl_requests WHERE state = 'pending' AND parked = 1",
    "log_rows": "hitl_audit",
}


def largest_threads(ledger: Ledger, limit: int) -> list[dict[str, Any]]:
    """The threads with the most bytes: thread_id, checkpoints, writes, bytes."""

    def work(tx: Transaction) -> list[Any]:
        return tx.execute(
            "SELECT n.thread_id, sum(s.checkpoints), sum(coalesce(w.writes, 0)),"
            " sum(s.bytes + coalesce(w.bytes, 0)) AS bytes FROM hitl_namespaces n JOIN"
            " (SELECT ns, sum(CASE WHEN checkpoint_id <> '' THEN 1 ELSE 0 END) AS checkpoints,"
            " sum(length(data) + length(metadata) + length(refs)) AS bytes FROM hitl_states GROUP BY ns) s"
            " ON s.ns = n.ns LEFT JOIN (SELECT ns, count(*) AS writes, sum(length(value)) AS bytes FROM hitl_writes"
            " GROUP BY ns) w ON w.ns = n.ns GROUP BY n.thread_id ORDER BY bytes DESC, n.thread_id LIMIT ?",
            (limit,),
        ).fetchall()

    names = ("thread_id", "checkpoints", "writes", "bytes")
    return [dict(zip(names, (row[0], *map(int, row[1:])), strict=True)) for row in ledger.read(work)]


def require_thread(ledger: Ledger, thread_id: str) -> None:
    """Refuse a name that no stored thread has."""

    def work(tx: Transaction) -> bool:
        found = tx.execute("SELECT 1 FROM hitl_namespaces WHERE thread_id = ?", (thread_id,)).fetchone()
        return found is not None

    if not ledger.read(work):
        raise Failure(UNKNOWN, f"no thread {thread_id!r} is stored here (its whole name is needed); nothing was done")
