"""Standing permissions: given, spent, revoked. What each let through are the permits with its id.

Spending is part of the transaction that writes the permit, under the log's lock: of any number of processes at once,
no more get through than there are uses or budget left, and none after a revocation.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from hitl_graph.errors import GrantError, UnknownGrantError
from hitl_graph.grants import Grant, Named, amount_of, covers, lasting
from hitl_graph.ledger import audit
from hitl_graph.model import canonical, from_ms
from hitl_graph.storage import Transaction
from hitl_graph.terms import Origin, Terms

__all__ = ["Given", "Spent", "Use", "find", "give", "listed", "live", "redact", "revoke", "spend", "under", "uses"]

_COLUMNS = (
    "g.id, g.tool, g.scope, g.request_id, g.given_by, g.given_ms, g.expires_ms, g.revoked_ms, g.revoked_by, g.note,"
    " g.revoked_why"
)
_STRINGS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True)
class Given:
    """A grant on record.

    Attributes:
        grant: What it covers. Once redacted, only its tool.
        people: Who agreed to it in their own right.
        terms: On which terms they did; None: one answer of anybody.
        used: How many calls it let through.
        spent: What those within the budget's time took of it.
        status: `live`, `revoked`, `expired`, `used up`; one whose budget is spent for now is live.
        note: Why it was given.
    """

    id: str
    grant: Grant
    people: tuple[str, ...]
    terms: Terms | None
    request_id: str | None
    given_by: str
    given_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    note: str | None
    revoked_why: str | None
    used: int
    spent: Fraction
    status: Literal["live", "revoked", "expired", "used up"]


@dataclass(frozen=True)
class Use:
    """A call that a grant let through.

    Attributes:
        args: None once redacted.
        amount: What it took of the budget, as it was written.
        state: What became of it.
    """

    permit_id: str
    thread_id: str
    tool: str
    args: dict[str, Any] | None
    at: datetime
    amount: str | None
    state: str


@dataclass(frozen=True)
class Spent:
    """A use that was taken."""

    grant_id: str
    given_by: str
    amount: str | None


def give(
    tx: Transaction,
    now_ms: int,
    grant: Grant,
    *,
    tool: str | None = None,
    by: str,
    people: Sequence[str],
    terms: Terms | None = None,
    request_id: str | None = None,
    note: str | None = None,
) -> str:
    """Record a grant; returns its id.

    Args:
        tool: What it is for, where the grant itself does not say.

    Raises:
        GrantError: It names no tool, or has ended already.
    """
    if grant.tool is None and tool is None:
        raise GrantError("a standing permission that no request is about has to name a tool; nothing was recorded")
    now = from_ms(now_ms)
    made = lasting(grant, tool or "", now)
    if made.expires_at is not None and made.expires_at <= now:
        raise GrantError(f"the standing permission ended at {made.expires_at:%Y-%m-%d %H:%M} UTC; nothing was recorded")
    scope: dict[str, Any] = {
        "grant": made.model_dump(mode="json", exclude_defaults=True),
        "people": list(people),
        "terms": None if terms is None else terms.unscheduled.model_dump(mode="json"),
    }
    own, expires_ms = secrets.token_hex(10), made.expires_at and round(made.expires_at.timestamp() * 1000)
    tx.execute(
        "INSERT INTO hitl_grants (id, tool, scope, request_id, thread_id, given_by, given_ms, expires_ms, note)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (own, made.tool, canonical(scope), request_id, made.thread_id, by, now_ms, expires_ms, note),
    )
    body = {"tool": made.tool, **scope, "request": request_id, "note": note}
    audit.append(tx, now_ms, "grant.given", own, body, thread_id=made.thread_id, actor=by)
    return own


def revoke(tx: Transaction, now_ms: int, grant_id: str, *, by: str, why: str) -> Given:
    """End a grant now: what was not started under it by then is asked about. Revoking it again changes nothing.

    Raises:
        UnknownGrantError: No such grant.
    """
    given = find(tx, now_ms, grant_id)
    changed = tx.execute(
        "UPDATE hitl_grants SET revoked_ms = ?, revoked_by = ?, revoked_why = ? WHERE id = ? AND revoked_ms IS NULL",
        (now_ms, by, why, given.id),
    )
    if changed.rowcount == 1:
        audit.append(tx, now_ms, "grant.revoked", given.id, {"why": why}, thread_id=given.grant.thread_id, actor=by)
    return find(tx, now_ms, given.id)


def live(tx: Transaction, now_ms: int, call: Named, thread_id: str, origin: Origin | None) -> list[Given]:
    """The grants that cover a call and have neither ended nor been revoked, the oldest first."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_grants g WHERE g.revoked_ms IS NULL"
        " AND (g.expires_ms IS NULL OR g.expires_ms > ?) AND (g.thread_id IS NULL OR g.thread_id = ?)"
        " ORDER BY g.given_ms, g.id",
        (now_ms, thread_id),
    ).fetchall()
    known = [_given(tx, now_ms, row, counted=False) for row in rows]
    return [given for given in known if covers(given.grant, call, thread_id, origin)]


def spend(
    tx: Transaction,
    now_ms: int,
    ids: Sequence[str],
    key: str,
    call: Named,
    thread_id: str,
    origin: Origin | None,
) -> Spent | None:
    """Take a use of the first of these grants that has one left; another attempt at the same action takes none.

    Args:
        key: Names the action.
    """
    for grant_id in ids:
        row = tx.execute(f"SELECT {_COLUMNS} FROM hitl_grants g WHERE g.id = ?", (grant_id,)).fetchone()
        if row is None:
            continue
        given = _given(tx, now_ms, row, counted=False)
        grant = given.grant
        if given.status in ("revoked", "expired") or not covers(grant, call, thread_id, origin):
            continue
        if under(tx, key) == grant_id:
            return Spent(given.id, given.given_by, None)
        if grant.uses is not None and _used(tx, grant_id) >= grant.uses:
            continue
        if grant.budget is None:
            return Spent(given.id, given.given_by, None)
        amount = amount_of(grant.budget, call.args)
        spent = _spent(tx, now_ms, grant_id, grant.budget.per)
        if amount is not None and spent + amount <= Fraction(grant.budget.limit):
            return Spent(given.id, given.given_by, repr(call.args[grant.budget.arg]))
    return None


def under(tx: Transaction, key: str) -> str | None:
    """Which grant let an action through before."""
    row = tx.execute(
        "SELECT grant_id FROM hitl_permits WHERE action_key = ? AND grant_id IS NOT NULL ORDER BY attempt", (key,)
    ).fetchone()
    return None if row is None else str(row[0])


def find(tx: Transaction, now_ms: int, prefix: str) -> Given:
    """The grant whose id begins so.

    Raises:
        UnknownGrantError: None does, or several do.
    """
    clean = prefix.strip().lower()
    if not clean or not all(c in "0123456789abcdef" for c in clean):
        raise UnknownGrantError(f"{prefix!r} is no id of a standing permission (hex digits); `hitl grants` lists them")
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_grants g WHERE g.id >= ? AND g.id < ? LIMIT 2", (clean, clean + "g")
    ).fetchall()
    if len(rows) != 1:
        why = "several standing permissions begin so; give more digits" if rows else "there is no such one"
        raise UnknownGrantError(f"standing permission {prefix}: {why}; `hitl grants` lists them")
    return _given(tx, now_ms, rows[0])


def listed(tx: Transaction, now_ms: int) -> list[Given]:
    """All grants, the newest first."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM hitl_grants g ORDER BY g.given_ms DESC, g.id").fetchall()
    return [_given(tx, now_ms, row) for row in rows]


def uses(tx: Transaction, grant_id: str, *, limit: int = 50) -> list[Use]:
    """What a grant let through, the newest first."""
    rows = tx.execute(
        "SELECT p.id, p.thread_id, p.tool, p.args, p.issued_ms, p.amount, e.state FROM hitl_permits p"
        " JOIN hitl_effects e ON e.permit_id = p.id WHERE p.grant_id = ? ORDER BY p.issued_ms DESC, p.id LIMIT ?",
        (grant_id, limit),
    ).fetchall()
    return [Use(r[0], r[1], r[2], json.loads(r[3]) if r[3] else None, from_ms(r[4]), r[5], r[6]) for r in rows]


def redact(tx: Transaction, now_ms: int, thread_id: str, *, actor: str) -> list[str]:
    """End and empty the grants that hold only in a thread; gives their ids. What holds beyond it stays."""
    rows = tx.execute("SELECT id FROM hitl_grants WHERE thread_id = ?", (thread_id,)).fetchall()
    for (own,) in rows:
        revoke(tx, now_ms, own, by=actor, why="redacted")
    tx.execute("UPDATE hitl_grants SET scope = NULL, note = NULL, revoked_why = NULL WHERE thread_id = ?", (thread_id,))
    return [row[0] for row in rows]


def _given(tx: Transaction, now_ms: int, row: Sequence[Any], *, counted: bool = True) -> Given:
    """Read one; counting what it let through takes longer the more that was."""
    own, tool, scope, request_id, by, given_ms, expires_ms, revoked_ms, revoked_by, note, why = row
    try:
        kept: dict[str, Any] = json.loads(scope) if scope else {"grant": {"tool": tool}, "people": [], "terms": None}
        grant, people = Grant.model_validate(kept["grant"]), _STRINGS.validate_python(kept["people"])
        terms = None if kept["terms"] is None else Terms.model_validate(kept["terms"])
    except (ValueError, LookupError, TypeError, ValidationError):  # damaged: it covers nothing
        grant, people, terms, revoked_ms = Grant(tool=tool), (), None, revoked_ms or given_ms
    used = _used(tx, own) if counted else 0
    spent = _spent(tx, now_ms, own, grant.budget.per) if counted and grant.budget else Fraction(0)
    status: Literal["live", "revoked", "expired", "used up"] = "live"
    if revoked_ms is not None:
        status = "revoked"
    elif expires_ms is not None and expires_ms <= now_ms:
        status = "expired"
    elif grant.uses is not None and used >= grant.uses:
        status = "used up"
    return Given(
        own, grant, people, terms, request_id, by, from_ms(given_ms),
        None if revoked_ms is None else from_ms(revoked_ms), revoked_by, note, why, used, spent, status,
    )  # fmt: skip


def _used(tx: Transaction, grant_id: str) -> int:
    found = tx.execute("SELECT count(DISTINCT action_key) FROM hitl_permits WHERE grant_id = ?", (grant_id,)).fetchone()
    return int(found[0])


def _spent(tx: Transaction, now_ms: int, grant_id: str, per: timedelta | None) -> Fraction:
    since = -1 if per is None else now_ms - per // timedelta(milliseconds=1)
    rows = tx.execute(
        "SELECT amount FROM hitl_permits WHERE grant_id = ? AND issued_ms > ? AND amount IS NOT NULL", (grant_id, since)
    )
    return sum((Fraction(row[0]) for row in rows), Fraction(0))
