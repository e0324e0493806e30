"""What the checkpointer tells the ledger, in the transaction that stores a pause or moves a thread on.

Only the root namespace counts: an interrupt of a subgraph surfaces there with the same id. A write may land
before its checkpoint or after a later one, so a request is parked (can be answered) only while its checkpoint is
the head of its thread. A task that a node calls (`@task`) pauses and ends before the node does; what counts is the
node: LangGraph takes an answer once the node has paused, and has no more use for it once the node has gone on.
"""

import time
from collections.abc import Collection, Sequence
from typing import Any

from hitl_graph.ledger import audit, messages, requests
from hitl_graph.model import Request
from hitl_graph.storage import Rows, Transaction
from hitl_graph.wire import recognise

__all__ = ["advanced", "closed", "finished", "forgotten", "hailed", "interrupted", "unfinished", "waiting"]

CALLED = -1
_HEAD = (
    "SELECT max(c.checkpoint_id) FROM hitl_states c JOIN hitl_namespaces n USING (ns)"
    " WHERE n.thread_id = ? AND n.checkpoint_ns = '' AND c.checkpoint_id <> ''"
)

_UNFINISHED = (
    "SELECT id, checkpoint_id, task_id, parked FROM hitl_requests WHERE thread_id = ?"
    " AND state IN ('pending', 'decided') AND task_id IS NOT NULL"
)
_NOTES = {"loop": "another run of the thread went on past it", "update": "the state was changed while it waited"}


def _now() -> int:
    return time.time_ns() // 1_000_000


def interrupted(
    tx: Transaction, thread_id: str, checkpoint_id: str, task_id: str, task_path: str, interrupts: Sequence[Any]
) -> None:
    """A task of the root graph paused: its questions become requests, its earlier ones are answered."""
    audit.lock(tx)
    now, called = _now(), task_path.count("~") > 1  # a path within a path: a node called this task
    heads = tx.execute(_HEAD, (thread_id,))
    before = _asked_by(tx, thread_id, checkpoint_id, task_id)
    asked = [
        request
        for interrupt in interrupts
        for request in recognise(thread_id, interrupt.id, interrupt.value, interrupt.response_schema)
    ]
    known = requests.known(tx, [request.id for request in asked])
    head = heads.fetchone()[0]
    opened = {row[0] for row in known.fetchall()}
    for order, request in enumerate(asked):  # a millisecond apart, so that the inbox keeps the order of the calls
        parked = CALLED if called else int(head == checkpoint_id)
        is_new = request.id not in opened and requests.open_request(
            tx, now + order, request, checkpoint_id=checkpoint_id, task_id=task_id, parked=parked
        )
        if not is_new and not called:
            requests.park(tx, now + order, thread_id, request.id, task_id, parked)
        if head is not None and head > checkpoint_id:
            requests.close(tx, now, request, "superseded", "the thread had moved on before the pause was stored")
    kept = {request.id for request in asked}
    _settle_all(tx, now, before, kept)


def finished(tx: Transaction, thread_id: str, checkpoint_id: str, task_id: str) -> None:
    """A task of the root graph came to its end: what it asked has been answered."""
    audit.lock(tx)
    _settle_all(tx, _now(), _asked_by(tx, thread_id, checkpoint_id, task_id))


def waiting(tx: Transaction, thread_id: str) -> Rows:
    """What is asked in a thread; for `advanced`."""
    audit.lock(tx)
    return tx.execute(_UNFINISHED, (thread_id,))


def advanced(
    tx: Transaction, thread_id: str, checkpoint_id: str, parent_id: str | None, source: str, waiting: Rows
) -> bool:
    """The thread has a new head: its pauses are parked from now on, those of older checkpoints are over.

    Returns:
        Whether nothing is asked at the new head, nor at one that is stored later.
    """
    goes_on = True
    for request_id, asked_at, task_id, parked in waiting.fetchall():
        if asked_at >= checkpoint_id:
            goes_on = False
            if parked == 0 and asked_at == checkpoint_id:
                requests.park(tx, _now(), thread_id, request_id, task_id, 1)
            continue
        [request] = requests.select(tx, "id = ?", (request_id,))
        if source == "loop" and asked_at == parent_id:
            _settle(tx, _now(), request)
        else:
            requests.close(tx, _now(), request, "superseded", _NOTES.get(source, "new input came while it waited"))
    return goes_on


def hailed(tx: Transaction, thread_id: str, checkpoint_id: str) -> None:
    """An answer came that names no question."""
    audit.lock(tx)
    requests.hail(tx, _now(), thread_id, checkpoint_id)


def closed(tx: Transaction, thread_id: str, checkpoint_id: str) -> None:
    """Somebody sent the thread to its end while it waited; LangGraph itself goes on waiting."""
    audit.lock(tx)
    for request in unfinished(tx, thread_id):
        if request.checkpoint_id == checkpoint_id:
            requests.close(tx, _now(), request, "cancelled", "the thread was marked as resolved, without an answer")


def forgotten(tx: Transaction, thread_id: str, checkpoint_ids: Collection[str] | None = None) -> None:
    """The thread was deleted, or these checkpoints of it: nothing of them can be answered any more."""
    audit.lock(tx)
    if checkpoint_ids is None:
        messages.drop(tx, _now(), thread_id, actor="graph", reason="the thread was deleted")
    for request in unfinished(tx, thread_id):
        if checkpoint_ids is None or request.checkpoint_id in checkpoint_ids:
            note = "the thread was deleted" if checkpoint_ids is None else "the run that asks was deleted"
            requests.close(tx, _now(), request, "cancelled", note)


def unfinished(tx: Transaction, thread_id: str) -> list[Request]:
    """What is asked in a thread, or answered and not carried out, and is stored with its checkpoint."""
    where = "thread_id = ? AND state IN ('pending', 'decided') AND task_id IS NOT NULL"
    return requests.select(tx, where, (thread_id,))


def _asked_by(tx: Transaction, thread_id: str, checkpoint_id: str, task_id: str) -> Rows:
    return requests.look_up(
        tx,
        "thread_id = ? AND state IN ('pending', 'decided') AND checkpoint_id = ? AND task_id = ?",
        (thread_id, checkpoint_id, task_id),
    )


def _settle_all(tx: Transaction, now: int, found: Rows, kept: Collection[str] = ()) -> None:
    for request in requests.made_of(found):
        if request.id not in kept:
            _settle(tx, now, request)


def _settle(tx: Transaction, now: int, request: Request) -> None:
    if request.decision is not None:
        requests.close(tx, now, request, "delivered", "the graph went on", is_open=True)
    else:
        requests.close(tx, now, request, "superseded", "answered outside of the inbox", is_open=True)
