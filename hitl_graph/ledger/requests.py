"""Requests: how they are opened, found, settled and closed; `deciding` has people's answers.

Every function runs inside a transaction; every arrow is a compare-and-set.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from hitl_graph.errors import StaleRequestError, UnknownRequestError
from hitl_graph.handling import Handling
from hitl_graph.ledger import audit, words
from hitl_graph.model import Decision, Request, State, canonical, from_ms, plain_text, to_ms
from hitl_graph.storage import Rows, Transaction
from hitl_graph.voting import who

__all__ = [
    "FETCHED",
    "asked",
    "asked_of",
    "check_waiting",
    "close",
    "decided_threads",
    "decision_text",
    "find",
    "for_actions",
    "get",
    "hail",
    "heed",
    "index_older",
    "is_hailed",
    "known",
    "look_up",
    "made_of",
    "move_on",
    "open_request",
    "park",
    "pending",
    "place",
    "reopen",
    "select",
    "settle",
]

FETCHED = 2
"""In place of 1 (parked), once it is decided: no worker carries it out, as whoever asked fetches the decision."""
_STRINGS: TypeAdapter[list[str]] = TypeAdapter(list[str])
_COLUMNS = (
    "shown, state, checkpoint_id, created_ms, decided_ms, decision, reviewer, channel, note, id, thread_id, kind,"
    " stage, fired, handling"
)


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _request(row: Sequence[Any]) -> Request:
    blank = {"id": row[9], "thread_id": row[10], "kind": row[11], "interrupt_id": "", "allowed": ()}
    try:
        fixed: dict[str, Any] = json.loads(row[0]) if row[0] else {**blank, "description": "(redacted)"}
    except ValueError:  # one damaged row must not hide all others
        fixed = {**blank, "description": "(damaged; see `hitl audit verify`)"}
    return Request(
        **fixed,
        state=row[1],
        checkpoint_id=row[2],
        created_at=_at(row[3]),
        decided_at=_at(row[4]),
        decision=Decision.model_validate_json(row[5]) if row[5] else None,
        reviewer=row[6],
        channel=row[7],
        note=row[8],
        stage=row[12] or 0,
        fired=row[13] or 0,
        handling=Handling.model_validate_json(row[14]) if row[14] else None,
    )


def select(tx: Transaction, where: str, parameters: Sequence[Any] = ()) -> list[Request]:
    """The requests of a WHERE clause (fixed text only; values go into `parameters`)."""
    return made_of(look_up(tx, where, parameters))


def look_up(tx: Transaction, where: str, parameters: Sequence[Any] = ()) -> Rows:
    """As `select`; `made_of` reads them, when others have been looked up too."""
    return tx.execute(f"SELECT {_COLUMNS} FROM hitl_requests WHERE {where}", parameters)


def made_of(found: Rows) -> list[Request]:
    """The requests that were looked up."""
    return [_request(row) for row in found]


def get(tx: Transaction, request_id: str) -> Request | None:
    """The request with exactly this id."""
    found = select(tx, "id = ?", (request_id,))
    return found[0] if found else None


def find(tx: Transaction, prefix: str) -> Request:
    """The request whose id begins with `prefix`.

    Raises:
        UnknownRequestError: None does, or several do.
    """
    clean = prefix.strip().lower()
    if not clean or not all(c in "0123456789abcdef" for c in clean):
        raise UnknownRequestError(prefix, "this is no request id (hex digits); `hitl inbox` lists them")
    found = select(tx, "id >= ? AND id < ? LIMIT 3", (clean, clean + "g"))
    if not found:
        raise UnknownRequestError(prefix, "no such request; `hitl inbox` lists what is pending")
    if len(found) > 1:
        raise UnknownRequestError(prefix, "several requests begin so; give more digits")
    return found[0]


def decided_threads(tx: Transaction) -> list[str]:
    """Threads with a decision that waits to be carried out, the longest waiting first."""
    rows = tx.execute(
        "SELECT thread_id FROM hitl_requests WHERE state = 'decided' AND parked = 1"
        " GROUP BY thread_id ORDER BY min(decided_ms), min(created_ms), thread_id"
    )
    return [row[0] for row in rows]


def for_actions(tx: Transaction, keys: Sequence[str]) -> dict[str, list[Request]]:
    """All requests that were ever made for these actions, oldest first."""
    found: dict[str, list[Request]] = {key: [] for key in keys}
    marks = ",".join("?" * len(keys))
    for request in select(tx, f"action_key IN ({marks}) ORDER BY created_ms", list(keys)):
        if request.action_key is not None:
            found[request.action_key].append(request)
    return found


def hail(tx: Transaction, now_ms: int, thread_id: str, checkpoint_id: str) -> None:
    """Note that an answer came which names no question: it can mean what is asked now, nothing that is asked later.

    Only for requests for which that makes a difference: when they were asked, such an answer lay around already; or
    one may lie around that was refused, or was the vote of somebody else.
    """
    changed = tx.execute(
        "UPDATE hitl_requests SET hailed = 1 WHERE thread_id = ? AND checkpoint_id = ? AND state = 'pending'"
        """ AND parked = 1 AND hailed = 0 AND (reviewers IS NOT NULL OR shown LIKE '%"ignored":"%') RETURNING id""",
        (thread_id, checkpoint_id),
    ).fetchall()
    for (request_id,) in changed:
        audit.append(tx, now_ms, "request.hailed", request_id, {}, thread_id=thread_id, actor="graph")


def heed(tx: Transaction, now_ms: int, request_id: str) -> bool:
    """Note that an answer which names no question is looked at now: it counts once, for whoever sent it.

    Returns:
        Whether one came that was not looked at before.
    """
    changed = tx.execute("UPDATE hitl_requests SET hailed = 0 WHERE id = ? AND hailed = 1", (request_id,))
    if heeded := changed.rowcount == 1:
        thread = tx.execute("SELECT thread_id FROM hitl_requests WHERE id = ?", (request_id,)).fetchone()[0]
        audit.append(tx, now_ms, "request.heeded", request_id, {}, thread_id=thread, actor="graph")
    return heeded


def park(tx: Transaction, now_ms: int, thread_id: str, request_id: str, task_id: str, parked: int) -> None:
    """Note that the pause of a request is stored (1), or only its checkpoint is missing (0)."""
    changed = tx.execute(
        "UPDATE hitl_requests SET task_id = ?, parked = CASE parked WHEN 1 THEN 1 ELSE ? END,"
        " created_ms = CASE parked WHEN 1 THEN created_ms ELSE ? END"
        " WHERE id = ? AND (task_id IS NULL OR task_id <> ? OR parked < ?)",
        (task_id, parked, now_ms, request_id, task_id, parked),
    )
    if changed.rowcount == 1:
        body = {"parked": parked, "task": task_id}
        audit.append(tx, now_ms, "request.parked", request_id, body, thread_id=thread_id, actor="graph")
        if parked == 1 and tx.dialect == "sqlite" and (waits := get(tx, request_id)) is not None:
            _index(tx, waits)
        tx.notify("inbox")


def is_hailed(tx: Transaction, request_id: str) -> bool:
    """Whether such an answer came after this question."""
    return tx.execute("SELECT 1 FROM hitl_requests WHERE id = ? AND hailed = 1", (request_id,)).fetchone() is not None


def pending(tx: Transaction, *, limit: int | None = 50, after: str | None = None) -> list[Request]:
    """What waits for people, oldest first; `after` is the id of the last request of the page before (see `waiting`)."""
    where, parameters = "state = 'pending' AND parked = 1", list[Any]()
    if after is not None:
        where += " AND (created_ms, id) > (?, ?)"
        parameters += place(tx, after)
    clause = f"{where} ORDER BY created_ms, id"
    return select(tx, clause, parameters) if limit is None else select(tx, f"{clause} LIMIT ?", [*parameters, limit])


def place(tx: Transaction, after: str) -> tuple[int, str]:
    """Where in the list a page ended; also if that request does not wait any more.

    Raises:
        UnknownRequestError: There is no such request.
    """
    row = tx.execute("SELECT created_ms FROM hitl_requests WHERE id = ?", (after,)).fetchone()
    if row is None:
        raise UnknownRequestError(after, "the cursor names no request; start again without after=")
    return row[0], after


def asked_of(tx: Transaction, meant: Callable[[str], bool]) -> list[str]:
    """The different sets of reviewers of whom something is asked now, as they are stored. Few, as rules are few.

    Args:
        meant: Only those with a selector of which this is true.
    """
    # From one to the next along the index, however many requests there are.
    following = "SELECT min(reviewers) FROM hitl_requests WHERE state = 'pending' AND parked = 1 AND reviewers >"
    rows = tx.execute(
        f"WITH RECURSIVE sets (named) AS ({following} '' UNION ALL"
        f" SELECT ({following} sets.named) FROM sets WHERE sets.named IS NOT NULL)"
        " SELECT named FROM sets WHERE named IS NOT NULL"
    ).fetchall()
    return [row[0] for row in rows if any(meant(selector) for selector in _STRINGS.validate_json(row[0]))]


def asked(request: Request) -> tuple[str, ...]:
    """Selectors of who may decide it now, or may reject it at any time."""
    return (*who(request), *request.terms.veto) if request.terms else who(request)


def known(tx: Transaction, ids: Sequence[str]) -> Rows:
    """Those of these ids that there are requests for."""
    return tx.execute(f"SELECT id FROM hitl_requests WHERE id IN ({','.join('?' * len(ids))})", list(ids))


def index_older(tx: Transaction, *, limit: int = 500) -> bool:
    """Let some of what was asked before there was an index be found by its words; returns whether there is more."""
    rows = tx.execute("SELECT request FROM hitl_words_due ORDER BY request LIMIT ?", (limit,)).fetchall()
    due = [row[0] for row in rows]
    if due:
        marks = ",".join("?" * len(due))
        on = "" if tx.dialect == "postgres" else " AND parked = 1"
        for request in select(tx, f"id IN ({marks}) AND state = 'pending'{on}", due):
            _index(tx, request)
        tx.execute(f"DELETE FROM hitl_words_due WHERE request IN ({marks})", due)
    return len(due) == limit


def open_request(
    tx: Transaction, now_ms: int, request: Request, *, checkpoint_id: str | None, task_id: str | None, parked: int
) -> bool:
    """Record that a question is asked. Asking it again changes nothing. Returns whether it is new."""
    shown = plain_text(request.shown())
    signature = hashlib.sha256(shown.encode()).hexdigest()  # `request.digest`, without building the text again
    inserted = tx.execute(
        "INSERT INTO hitl_requests (id, thread_id, interrupt_id, checkpoint_id, task_id, action_key,"
        " kind, state, parked,"
        " digest, shown, tool, created_ms, score, model_digest, route, propensity, reference, quorum, reviewers,"
        " deadline_ms, stage, fired, risk)"
        " VALUES (?,?,?,?,?,?,?,'pending',?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING",
        (
            request.id, request.thread_id, request.interrupt_id, checkpoint_id, task_id, request.action_key,
            request.kind, parked, signature, shown,
            request.action.name if request.action else None, now_ms,
            request.score, request.model_digest, request.route, request.propensity, request.reference,
            sum(stage.quorum for stage in request.terms.stages) if request.terms else 1, *_waits_for(request),
            0 if request.terms else None, 0 if request.terms else None, request.risk,
        ),
    )  # fmt: skip
    after = audit.look(tx, "request.opened", request.id)
    if inserted.rowcount == 1:
        body = {"state": "pending", "digest": signature, "kind": request.kind}
        audit.append(
            tx, now_ms, "request.opened", request.id, body, thread_id=request.thread_id, actor="graph", after=after
        )
        if parked == 1 or tx.dialect == "postgres":  # on SQLite, it comes into its index with its place in the list
            words.enter(tx, request, now_ms)
        tx.notify("inbox")
    return inserted.rowcount == 1


def settle(
    tx: Transaction, now_ms: int, request: Request, decision: Decision, *, reviewer: str, channel: str
) -> Request:
    """Record the one decision; returns the request with it.

    Raises:
        StaleRequestError: It does not wait any more, or not yet.
    """
    text = decision_text(decision)
    changed = tx.execute(
        "UPDATE hitl_requests SET state = 'decided', decided_ms = ?, decision = ?, reviewer = ?, channel = ?,"
        " parked = ? WHERE id = ? AND state = 'pending' AND parked = 1",
        (now_ms, text, reviewer, channel, FETCHED if request.answer_shape == "awaited" else 1, request.id),
    )
    body = {"state": "decided", "digest": request.digest, "decision": text, "reviewer": reviewer, "channel": channel}
    audit.append(tx, now_ms, "request.decided", request.id, body, thread_id=request.thread_id, actor=reviewer)
    check_waiting(request, changed)
    _unindex(tx, request)
    tx.notify("decided")
    tx.notify("inbox")
    made = {"state": "decided", "decided_at": _at(now_ms), "decision": decision}
    decided = request.model_copy(update={**made, "reviewer": reviewer, "channel": channel})
    if request.answer_shape != "audit":
        return decided
    close(tx, now_ms, decided, "delivered", "an audit: nothing waited for it", is_open=True)
    return decided.model_copy(update={"state": "delivered"})


def decision_text(decision: Decision) -> str:
    """A decision as it is stored."""
    return canonical(decision.model_dump(mode="json", exclude_defaults=True) | {"type": decision.type})


def check_waiting(request: Request, changed: Rows) -> None:
    """Refuse if an update of a request that waits changed none."""
    if changed.rowcount != 1:
        raise StaleRequestError(request.id, "its pause is not stored yet; try again in a moment")


def move_on(tx: Transaction, request: Request, *, stage: int, fired: int) -> Rows:
    """Store in which stage a waiting request is, and how many turns of its schedule have come.

    Claims are on a stage, and end with it; an escalation comes because nobody was fast enough, and ends them, too.
    """
    moved = request.model_copy(update={"stage": stage, "fired": fired})
    handling = request.handling
    came = request.terms.schedule[request.fired : fired] if request.terms else ()
    if handling is not None and (stage != request.stage or any(turn.then == "escalate" for turn in came)):
        handling = handling.model_copy(update={"claims": ()})
    return tx.execute(
        "UPDATE hitl_requests SET stage = ?, fired = ?, reviewers = ?, deadline_ms = ?, handling = ?"
        " WHERE id = ? AND state = 'pending' AND parked = 1",
        (stage, fired, *_waits_for(moved), handling and handling.model_dump_json(), request.id),
    )


def _waits_for(request: Request) -> tuple[str | None, int | None]:
    """Who may decide now, for queries, and when the next turn comes."""
    if request.terms is None:
        return None, None
    return canonical(list(asked(request))), request.terms.due_ms(request.fired)


def _index(tx: Transaction, request: Request) -> None:
    """Let it be found by its words, which may be in the index already."""
    if request.created_at is not None and request.interrupt_id:  # else it is redacted
        _unindex(tx, request)
        words.enter(tx, request, to_ms(request.created_at))


def _unindex(tx: Transaction, request: Request) -> None:
    if request.created_at is not None:
        words.leave(tx, request.id, to_ms(request.created_at))


def reopen(tx: Transaction, now_ms: int, request: Request, note: str) -> None:
    """Ask again, because the graph itself refused the answer: it has checks that no schema tells.

    All votes are void. Delegations stand; claims do not.
    """
    kept = request.handling and request.handling.model_copy(update={"claims": ()})
    again = request.model_copy(update={"stage": 0, "handling": kept})
    changed = tx.execute(
        "UPDATE hitl_requests SET state = 'pending', parked = 1, decided_ms = NULL, decision = NULL, reviewer ="
        " NULL, channel = NULL, stage = CASE WHEN stage IS NULL THEN NULL ELSE 0 END, reviewers = ?, handling = ?,"
        " note = ? WHERE id = ? AND state = 'decided'",
        (_waits_for(again)[0], again.handling and again.handling.model_dump_json(), note, request.id),
    )
    if changed.rowcount == 1:
        tx.execute("DELETE FROM hitl_votes WHERE request_id = ?", (request.id,))
        body = {"state": "pending", "decision": None, "reviewer": None, "note": note}
        audit.append(tx, now_ms, "request.reopened", request.id, body, thread_id=request.thread_id, actor="graph")
        _index(tx, request)
        tx.notify("inbox")


def close(
    tx: Transaction,
    now_ms: int,
    request: Request,
    state: State,
    note: str,
    *,
    is_open: bool = False,
    actor: str = "graph",
) -> None:
    """End a request that is pending or decided; one that has ended stays as it is.

    Args:
        is_open: It was read in this transaction as pending or decided, so it needs no asking.
        actor: Who ends it.
    """
    changed = tx.execute(
        "UPDATE hitl_requests SET state = ?, note = ? WHERE id = ? AND state IN ('pending', 'decided')",
        (state, note, request.id),
    )
    event = f"request.{state}"
    after = audit.look(tx, event, request.id)
    if is_open or changed.rowcount == 1:
        body = {"state": state, "note": note}
        audit.append(tx, now_ms, event, request.id, body, thread_id=request.thread_id, actor=actor, after=after)
        if request.state == "pending":
            _unindex(tx, request)
            tx.notify("inbox")
