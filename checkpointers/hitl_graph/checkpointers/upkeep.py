"""Deleting, pruning and copying threads. What survives reads back exactly as before.

Never pruned: the latest checkpoint of each namespace, the one at which people are asked, and the ancestors from which a
`DeltaChannel` of one that stays is rebuilt.
"""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from hitl_graph.checkpointers import rows, segments
from hitl_graph.checkpointers.codec import skeleton_channels
from hitl_graph.checkpointers.rows import NewState, Row
from hitl_graph.ledger import messages, parking
from hitl_graph.storage import Transaction

__all__ = [
    "copy_thread",
    "delete_idle",
    "delete_runs",
    "delete_thread",
    "earliest_id",
    "idle_threads",
    "prune",
    "threads",
]

_GREGORIAN = datetime.fromisoformat("1582-10-15T00:00:00+00:00")


class _Checkpoint(NamedTuple):
    id: int
    checkpoint_id: str
    parent_id: str
    deltas: frozenset[str]  # channels that are rebuilt from ancestors


def earliest_id(moment: datetime) -> str:
    """The lowest checkpoint id (a version 6 UUID) that can have been made at this moment."""
    ticks = int((moment - _GREGORIAN) / timedelta(microseconds=1)) * 10
    return f"{ticks >> 28:08x}-{ticks >> 12 & 0xFFFF:04x}-6{ticks & 0xFFF:03x}-0000-000000000000"


def delete_thread(tx: Transaction, thread_id: str) -> int:
    """Delete a thread with all its namespaces; returns how many checkpoints it had."""
    count = 0
    for ns, _ in _namespaces(tx, thread_id):
        rows.bump(tx, ns)
        doomed = [checkpoint.id for checkpoint in _checkpoints(tx, ns)]
        segments.discard(tx, ns, doomed)
        tx.execute("DELETE FROM hitl_writes WHERE ns = ?", (ns,))
        tx.execute("DELETE FROM hitl_namespaces WHERE ns = ?", (ns,))
        count += len(doomed)
    parking.forgotten(tx, thread_id)
    return count


def delete_idle(tx: Transaction, thread_id: str, before: str) -> int:
    """Delete a thread if it is still idle, as `idle_threads` has it; returns how many checkpoints it had."""
    rows.lock(tx, thread_id, "")
    return delete_thread(tx, thread_id) if idle_threads(tx, [thread_id], before) else 0


def prune(tx: Transaction, thread_id: str, before: str | None = None) -> int:
    """Delete the checkpoints of a thread that nothing needs; returns how many.

    Args:
        before: Only those with a lower id than this; None for all. An id that is no version 6 UUID tells no time: its
            checkpoint stays.
    """
    namespaces = _namespaces(tx, thread_id)
    for ns, _ in namespaces:
        rows.bump(tx, ns)
    asked = {request.checkpoint_id for request in parking.unfinished(tx, thread_id)}
    count = 0
    for ns, _ in namespaces:
        found = _checkpoints(tx, ns)
        latest = max((checkpoint.checkpoint_id for checkpoint in found), default=None)
        doomed = {
            checkpoint.checkpoint_id
            for checkpoint in found
            if checkpoint.checkpoint_id not in asked
            and checkpoint.checkpoint_id != latest
            and (before is None or (checkpoint.checkpoint_id[14:15] == "6" and checkpoint.checkpoint_id < before))
        }
        count += _delete(tx, ns, found, doomed)
    return count


def delete_runs(tx: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Delete the checkpoints of some runs, except those from which a `DeltaChannel` of others is rebuilt.

    What is asked at one of them is cancelled.

    Returns:
        The threads that lost some.
    """
    doomed: dict[int, set[str]] = {}
    owners: dict[int, str] = {}
    for run_id in dict.fromkeys(run_ids):
        candidates = tx.execute(
            "SELECT c.metadata, c.ns, c.checkpoint_id, n.thread_id FROM hitl_states c"
            " JOIN hitl_namespaces n ON n.ns = c.ns WHERE c.checkpoint_id <> '' AND c.metadata LIKE ?",
            (f"%{json.dumps(run_id)}%".replace("\\", "_"),),
        ).fetchall()
        for metadata, ns, checkpoint_id, thread_id in candidates:
            if json.loads(metadata).get("run_id") == run_id:
                doomed.setdefault(ns, set()).add(checkpoint_id)
                owners[ns] = thread_id
    for ns, thread_id in owners.items():
        rows.bump(tx, ns)
        _delete(tx, ns, _checkpoints(tx, ns), doomed[ns])
        gone = rows.find(tx, thread_id, "", None) is None
        parking.forgotten(tx, thread_id, None if gone else doomed[ns])
    return list(dict.fromkeys(owners.values()))


def copy_thread(tx: Transaction, source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread into another one.

    Requests are not copied: their permits are bound to the thread. A copied pause is asked anew when the copy is run.
    """
    for ns, checkpoint_ns in _namespaces(tx, source):
        place = (target, checkpoint_ns)
        tx.execute(*rows.begin(*place, rows.new_epoch()))
        into, epoch = rows.number_of(tx, *place), rows.epoch_of(tx, *place)
        assert epoch is not None
        new = segments.copy_all(tx, ns, into)
        checkpoints = _checkpoints(tx, ns)
        first = segments.reserve_ids(tx, len(checkpoints))
        for identity, checkpoint in enumerate(checkpoints, first):
            row = rows.by_rowid(tx, checkpoint.id)
            assert row is not None
            renamed = json.dumps({channel: new[segment] for channel, segment in json.loads(row.refs).items()})
            state = NewState.checkpoint(identity, row.checkpoint_id, row.parent_id, row.metadata, renamed, row.skeleton)
            tx.execute(*rows.insert_states(place, epoch, [state], ""))
        tx.execute(
            "INSERT INTO hitl_writes (ns, checkpoint_id, task_id, idx, task_path, channel, value)"
            " SELECT ?, checkpoint_id, task_id, idx, task_path, channel, value FROM hitl_writes WHERE ns = ?"
            " ORDER BY id ON CONFLICT (ns, checkpoint_id, task_id, idx) DO UPDATE SET task_path = excluded.task_path,"
            " channel = excluded.channel, value = excluded.value",
            (into, ns),
        )


def threads(tx: Transaction, after: str | None, limit: int) -> list[str]:
    """A page of the names of all threads, in order."""
    where, parameters = ("", [limit]) if after is None else ("WHERE thread_id > ?", [after, limit])
    found = tx.execute(f"SELECT DISTINCT thread_id FROM hitl_namespaces {where} ORDER BY thread_id LIMIT ?", parameters)
    return [row[0] for row in found]


def idle_threads(tx: Transaction, thread_ids: Sequence[str], before: str) -> list[str]:
    """Those of some threads whose latest checkpoint is older than this id, and in which nothing is asked or queued."""
    idle = []
    for thread_id in thread_ids:
        row: Row | None = rows.find(tx, thread_id, "", None)
        old = row is not None and row.checkpoint_id[14:15] == "6" and row.checkpoint_id < before
        if old and not parking.unfinished(tx, thread_id) and not messages.queued(tx, thread_id):
            idle.append(thread_id)
    return idle


def _delete(tx: Transaction, ns: int, found: Sequence[_Checkpoint], doomed: Collection[str]) -> int:
    doomed = set(doomed) - _ancestors(tx, found, doomed)
    for checkpoint_id in doomed:
        tx.execute("DELETE FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?", (ns, checkpoint_id))
    segments.discard(tx, ns, [checkpoint.id for checkpoint in found if checkpoint.checkpoint_id in doomed])
    return len(doomed)


def _ancestors(tx: Transaction, found: Sequence[_Checkpoint], doomed: Collection[str]) -> set[str]:
    """What the delta channels of the checkpoints that stay are rebuilt from."""
    by_id = {checkpoint.checkpoint_id: checkpoint for checkpoint in found}
    channels = _memoised(lambda checkpoint: skeleton_channels(_skeleton(tx, checkpoint.id)))
    needed = set[str]()
    for checkpoint in found:
        if checkpoint.checkpoint_id in doomed or not checkpoint.deltas:
            continue
        missing, at = set(checkpoint.deltas), checkpoint
        while (missing := missing - channels(at)) and at.parent_id in by_id:
            at = by_id[at.parent_id]
            needed.add(at.checkpoint_id)
    return needed


def _memoised(work: Callable[[_Checkpoint], set[str]]) -> Callable[[_Checkpoint], set[str]]:
    seen: dict[int, set[str]] = {}

    def remembered(checkpoint: _Checkpoint) -> set[str]:
        if checkpoint.id not in seen:
            seen[checkpoint.id] = work(checkpoint)
        return seen[checkpoint.id]

    return remembered


def _skeleton(tx: Transaction, rowid: int) -> bytes:
    return bytes(tx.execute("SELECT data FROM hitl_states WHERE id = ?", (rowid,)).fetchone()[0])


def _namespaces(tx: Transaction, thread_id: str) -> list[tuple[int, str]]:
    return tx.execute("SELECT ns, checkpoint_ns FROM hitl_namespaces WHERE thread_id = ?", (thread_id,)).fetchall()


def _checkpoints(tx: Transaction, ns: int) -> list[_Checkpoint]:
    found: Iterable[tuple[int, str, str, str]] = tx.execute(
        "SELECT id, checkpoint_id, parent_id, metadata FROM hitl_states WHERE ns = ? AND checkpoint_id <> ''"
        " ORDER BY id",
        (ns,),
    )
    return [
        _Checkpoint(rowid, own, parent, frozenset(json.loads(metadata).get("counters_since_delta_snapshot") or ()))
        for rowid, own, parent, metadata in found
    ]
