"""Permits and effects: the right to run one digest once, and what came of it.

`start` is the only way to a permit. In one transaction it looks for an earlier attempt and for a switch that stops it,
checks the authority (a policy that allows, a standing permission with something left, or a recorded decision about
exactly this digest), writes the permit and reserves the effect.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hitl_graph.errors import PermitError
from hitl_graph.ledger import audit, grants, owner, requests, switches
from hitl_graph.ledger.switches import Switch
from hitl_graph.model import Action, Request, delivery, plain_text
from hitl_graph.storage import Transaction
from hitl_graph.terms import Origin

__all__ = [
    "Asked",
    "Authority",
    "Begun",
    "Busy",
    "Finished",
    "Lost",
    "Stopped",
    "authority_of",
    "begun",
    "ended",
    "executed",
    "is_done",
    "redact",
    "resolve",
    "settle",
    "start",
    "states",
]

LEASE_MS = 15 * 60 * 1000
"""After this long an effect of a process that cannot be seen from here (another machine) counts as lost."""


@dataclass(frozen=True)
class Authority:
    """Why an action may run: a decided request, a standing permission, or a policy's reason."""

    reason: str
    request_id: str | None = None
    grants: tuple[str, ...] | None = None
    """Standing permissions that cover it; the first with something left is the authority. None: it needs none."""
    origin: Origin | None = None
    """Where the call comes from, as far as those look at it."""
    retry: bool = False
    """The tool is declared idempotent, so that an attempt with an unknown end may be followed by another."""


@dataclass(frozen=True)
class Begun:
    """Run it now; then `settle` this permit."""

    permit_id: str


@dataclass(frozen=True)
class Asked:
    """People have to be asked, or were; or it asked them something. Nothing was written.

    Attributes:
        reason: Why they have to be asked after all.
    """

    permit_id: str
    reason: str = ""


@dataclass(frozen=True)
class Stopped:
    """A switch does not let it start, whoever approved it. Nothing was written."""

    permit_id: str
    switch: Switch


@dataclass(frozen=True)
class Finished:
    """It ran before; this is what it gave."""

    permit_id: str
    type: str
    result: bytes


@dataclass(frozen=True)
class Busy:
    """Another living process runs it right now."""

    permit_id: str
    owner: str


@dataclass(frozen=True)
class Lost:
    """It was started, and did not come to a known end."""

    permit_id: str
    error: str
    outcome: Literal["failed", "unknown"]
    pauses: int = 0
    """How often it stopped to ask a question of its own."""


def start(
    tx: Transaction,
    now_ms: int,
    key: str,
    attempt: int,
    thread_id: str,
    action: Action,
    authority: Authority,
    *,
    alone: bool = True,
    graph: str | None = None,
) -> Asked | Begun | Finished | Busy | Lost | Stopped:
    """Take the right to run attempt `attempt` (from 1) of an action, or say what became of it.

    Args:
        graph: The name of the graph, for switches.

    Raises:
        PermitError: Nothing entitles this action to run. Nothing was written.
    """
    permit_id, signature = f"{key}#{attempt}", action.digest
    row = tx.execute(
        "SELECT p.digest, e.state, e.owner, e.started_ms, e.result_type, e.result, e.error, e.pauses"
        " FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id WHERE p.id = ?",
        (permit_id,),
    ).fetchone()
    if row is not None:
        digest, state, holder, started_ms, result_type, result, error, pauses = row
        if state in ("done", "not_done") and result is None:
            raise PermitError(f"{action.name} came to its end, and its result was redacted; it does not run again")
        if state in ("done", "not_done"):
            return Finished(permit_id, result_type, bytes(result))
        if state == "paused":
            if not alone:
                return Asked(permit_id)
            if digest != signature:
                raise PermitError(f"{action.name} was permitted with other arguments than these; it did not run")
            if (switch := switches.strictest(tx, action.name, graph, thread_id)) and switch.outcome == "deny":
                return Stopped(permit_id, switch)
            tx.execute(
                "UPDATE hitl_effects SET state = 'reserved', owner = ? WHERE permit_id = ?",
                (owner.current(), permit_id),
            )
            _log(tx, now_ms, permit_id, thread_id, digest, "reserved")
            return Begun(permit_id)
        if state == "reserved":
            dead = owner.is_dead(holder)
            if dead is False or (dead is None and now_ms < started_ms + LEASE_MS):
                return Busy(permit_id, holder)
            error = "the process that ran it ended before it was done"
            state = "unknown"
            settle(tx, now_ms, permit_id, "unknown", error=error, holder=holder)
        return Lost(permit_id, error or "", "failed" if state == "failed" else "unknown", pauses)
    was_asked, is_switched = tx.execute(_LOOK, (key,)).fetchone()
    if authority.request_id is None and was_asked:
        return Asked(permit_id)
    switch = switches.strictest(tx, action.name, graph, thread_id) if is_switched else None
    if switch is not None and switch.outcome == "deny":
        return Stopped(permit_id, switch)
    if switch is not None and authority.request_id is None:
        return Asked(permit_id, switch.told)
    _check(tx, key, attempt, action, authority)
    reason, spent = authority.reason, None
    if authority.grants is not None and authority.request_id is None:
        spent = grants.spend(tx, now_ms, authority.grants, key, action, thread_id, authority.origin)
        if spent is None:
            return Asked(permit_id)
        reason = f"standing permission {spent.grant_id} by {spent.given_by}"
    tx.execute(
        "INSERT INTO hitl_permits (id, action_key, attempt, thread_id, request_id, tool, digest, reason, issued_ms,"
        " grant_id, amount, args) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            permit_id, key, attempt, thread_id, authority.request_id, action.name, signature, reason, now_ms,
            spent and spent.grant_id, spent and spent.amount,
            plain_text(action.args) if authority.request_id is None else None,  # else the request has them
        ),
    )  # fmt: skip
    tx.execute(
        "INSERT INTO hitl_effects (permit_id, state, owner, started_ms) VALUES (?, 'reserved', ?, ?)",
        (permit_id, owner.current(), now_ms),
    )
    _log(
        tx, now_ms, permit_id, thread_id, signature, "reserved",
        tool=action.name, request=authority.request_id, reason=reason, grant=spent.grant_id if spent else None,
        amount=spent.amount if spent else None,
    )  # fmt: skip
    return Begun(permit_id)


_LOOK = (
    "SELECT EXISTS (SELECT 1 FROM hitl_requests WHERE action_key = ? AND kind IN ('approval', 'review', 'escalation')),"
    " EXISTS (SELECT 1 FROM hitl_switches)"
)
"""Whether people were asked about an action, and whether any switch is on: one look, as nearly always neither is so."""


def _check(tx: Transaction, key: str, attempt: int, action: Action, authority: Authority) -> None:
    if authority.request_id is None:
        if attempt > 1 and not authority.retry:
            raise PermitError(f"only a person may let {action.name} run again; it did not run")
        return
    request = requests.get(tx, authority.request_id)
    if request is None or request.action_key != key or request.decision is None:
        raise PermitError(f"no decision is recorded that lets {action.name} run; it did not run")
    if request.state not in ("decided", "delivered"):
        raise PermitError(f"request {request.id} is {request.state}; {action.name} did not run")
    if attempt > 1 and request.kind != "question" and not authority.retry:
        raise PermitError(f"only an answer to what became of {action.name} lets it run again; it did not run")
    if authority_of(request) != action.digest:
        raise PermitError(f"request {request.id} was decided about other arguments; {action.name} did not run")


def authority_of(request: Request) -> str | None:
    """Digest of the action that a request's decision lets run, if it lets one run."""
    if request.decision is None:
        return None
    if request.delivery is not None:
        if request.decision.type == "edit":
            return delivery(request.decision.draft).digest
        return request.delivery.digest if request.decision.type == "approve" else None
    if request.action is None:
        return None
    if request.decision.type == "approve":
        return request.action.digest
    if request.decision.type == "edit" and request.decision.args is not None:
        return Action(name=request.action.name, args=request.decision.args).digest
    return None


def settle(
    tx: Transaction,
    now_ms: int,
    permit_id: str,
    state: Literal["done", "failed", "unknown", "paused"],
    *,
    type_: str | None = None,
    result: bytes | None = None,
    error: str | None = None,
    holder: str | None = None,
) -> None:
    """Record how a reserved effect ended. Only its owner may (`holder`: the dead one, when it is found lost).

    Raises:
        PermitError: The reservation is not ours any more.
    """
    changed = tx.execute(
        "UPDATE hitl_effects SET state = ?, ended_ms = ?, result_type = ?, result = ?, error = ?, pauses = pauses + ?"
        " WHERE permit_id = ? AND state = 'reserved' AND owner = ?",
        (state, now_ms, type_, result, error, int(state == "paused"), permit_id, holder or owner.current()),
    )
    if changed.rowcount != 1:
        raise PermitError(f"permit {permit_id} is not held by this process; its end was not recorded")
    _log_end(tx, now_ms, permit_id, state, result, error=error)


def resolve(
    tx: Transaction, now_ms: int, permit_id: str, request_id: str, state: Literal["done", "not_done"], *,
    type_: str, result: bytes,
) -> None:  # fmt: skip
    """Record what a person found out about an effect whose end was not known. Doing it again changes nothing."""
    changed = tx.execute(
        "UPDATE hitl_effects SET state = ?, ended_ms = ?, result_type = ?, result = ?"
        " WHERE permit_id = ? AND state IN ('unknown', 'failed')",
        (state, now_ms, type_, result, permit_id),
    )
    if changed.rowcount == 1:
        _log_end(tx, now_ms, permit_id, state, result, request=request_id)


def redact(tx: Transaction, thread_id: str) -> None:
    """Remove what a thread's actions were given, what they gave and why they were let run; the caller tells the log."""
    tx.execute("UPDATE hitl_permits SET reason = '', args = NULL WHERE thread_id = ?", (thread_id,))
    tx.execute(
        "UPDATE hitl_effects SET result_type = NULL, result = NULL, error = NULL"
        " WHERE permit_id IN (SELECT id FROM hitl_permits WHERE thread_id = ?)",
        (thread_id,),
    )


def states(tx: Transaction, keys: Sequence[str]) -> dict[str, str]:
    """The state of the last attempt of each of these actions that was ever started."""
    marks = ",".join("?" * len(keys))
    rows = tx.execute(
        "SELECT p.action_key, e.state FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id"
        f" WHERE p.action_key IN ({marks}) ORDER BY p.attempt",
        list(keys),
    )
    return {key: state for key, state in rows}


def begun(tx: Transaction, key: str) -> bool:
    """Whether an action was ever started: from then on it is about what became of it, not about whether it may run."""
    return tx.execute("SELECT 1 FROM hitl_permits WHERE action_key = ? LIMIT 1", (key,)).fetchone() is not None


def ended(tx: Transaction, key: str) -> int | None:
    """Which attempt of an action came to a known end, if one did."""
    row = tx.execute(
        "SELECT p.attempt FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id"
        " WHERE p.action_key = ? AND e.state IN ('done', 'not_done')",
        (key,),
    ).fetchone()
    return None if row is None else int(row[0])


def is_done(tx: Transaction, key: str, digest: str) -> bool:
    """Whether this action ran to its end with exactly these arguments."""
    done = (
        "SELECT 1 FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id"
        " WHERE p.action_key = ? AND p.digest = ? AND e.state = 'done' LIMIT 1"
    )
    return tx.execute(done, (key, digest)).fetchone() is not None


def _log_end(
    tx: Transaction, now_ms: int, permit_id: str, state: str, result: bytes | None, **more: str | None
) -> None:
    thread_id, digest = tx.execute("SELECT thread_id, digest FROM hitl_permits WHERE id = ?", (permit_id,)).fetchone()
    sha = hashlib.sha256(result).hexdigest() if result is not None else None
    _log(tx, now_ms, permit_id, thread_id, digest, state, result=sha, **more)


def _log(
    tx: Transaction, now_ms: int, permit_id: str, thread_id: str, digest: str, state: str, **more: str | None
) -> None:
    body = {"state": state, "digest": digest, **{name: value for name, value in more.items() if value is not None}}
    audit.append(tx, now_ms, f"effect.{state}", permit_id, body, thread_id=thread_id, actor="graph")


def executed(tx: Transaction, thread_id: str) -> list[dict[str, object]]:
    """What ran in a thread, oldest first, as plain rows for people to read."""
    rows = tx.execute(
        "SELECT p.tool, p.request_id, p.reason, e.state, e.started_ms, e.ended_ms, e.error, p.id"
        " FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id WHERE p.thread_id = ? ORDER BY"
        " p.issued_ms, p.id",
        (thread_id,),
    ).fetchall()
    names = ("tool", "request_id", "reason", "state", "started_ms", "ended_ms", "error", "permit_id")
    return [dict(zip(names, row, strict=True)) for row in rows]
