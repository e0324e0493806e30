"""Deleting, pruning and copying threads. What survives reads back exactly as before."""

import json
from collections.abc import Sequence

from hitl_graph.checkpointers import rows, segments
from hitl_graph.checkpointers.codec import skeleton_channels
from hitl_graph.checkpointers.rows import NewState
from hitl_graph.ledger import parking
from hitl_graph.storage import Transaction

__all__ = ["copy_thread", "delete_runs", "delete_thread", "keep_latest"]


def delete_thread(tx: Transaction, thread_id: str) -> None:
    """Delete a thread with all its namespaces."""
    for ns, _ in _namespaces(tx, thread_id):
        segments.discard(tx, ns, [row[0] for row in _checkpoints(tx, ns)])
        tx.execute("DELETE FROM hitl_writes WHERE ns = ?", (ns,))
        tx.execute("DELETE FROM hitl_namespaces WHERE ns = ?", (ns,))
    parking.forgotten(tx, thread_id)


def delete_runs(tx: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Delete the checkpoints of some runs.

    Returns:
        The threads that lost some.
    """
    touched: dict[int, str] = {}
    gone: dict[int, list[int]] = {}
    for run_id in dict.fromkeys(run_ids):
        doomed = tx.execute(
            "SELECT c.metadata, c.id, c.ns, c.checkpoint_id, n.thread_id FROM hitl_states c"
            " JOIN hitl_namespaces n ON n.ns = c.ns WHERE c.checkpoint_id <> '' AND c.metadata LIKE ?",
            (f"%{json.dumps(run_id)}%".replace("\\", "_"),),
        ).fetchall()
        for metadata, rowid, ns, checkpoint_id, thread_id in doomed:
            if json.loads(metadata).get("run_id") != run_id:
                continue
            _delete_writes(tx, ns, checkpoint_id)
            gone.setdefault(ns, []).append(rowid)
            touched[ns] = thread_id
    for ns, thread_id in touched.items():
        segments.discard(tx, ns, gone[ns])
        if rows.find(tx, thread_id, "", None) is None:
            parking.forgotten(tx, thread_id)
    return list(dict.fromkeys(touched.values()))


def keep_latest(tx: Transaction, thread_id: str) -> None:
    """Delete all but the latest checkpoint of each namespace, and what its state is rebuilt from.

    A `DeltaChannel` is stored as the writes since its last snapshot: the ancestors that carry them stay.
    """
    for ns, checkpoint_ns in _namespaces(tx, thread_id):
        head = rows.find(tx, thread_id, checkpoint_ns, None)
        kept: set[int] = set()
        missing = set(json.loads(head.metadata).get("counters_since_delta_snapshot") or ()) if head else set()
        while head is not None:
            kept.add(head.id)
            missing -= skeleton_channels(head.skeleton)
            if not missing or not head.parent_id:
                break
            head = rows.find(tx, thread_id, checkpoint_ns, head.parent_id)
        doomed = [(rowid, checkpoint_id) for rowid, checkpoint_id in _checkpoints(tx, ns) if rowid not in kept]
        for _, checkpoint_id in doomed:
            _delete_writes(tx, ns, checkpoint_id)
        segments.discard(tx, ns, [rowid for rowid, _ in doomed])


def copy_thread(tx: Transaction, source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread into another one."""
    for ns, checkpoint_ns in _namespaces(tx, source):
        into, epoch = rows.intern(tx, target, checkpoint_ns)
        new = segments.copy_all(tx, ns, into)
        checkpoints = _checkpoints(tx, ns)
        first = segments.reserve_ids(tx, len(checkpoints))
        for identity, (rowid, _) in enumerate(checkpoints, first):
            row = rows.by_rowid(tx, rowid)
            assert row is not None
            renamed = json.dumps({channel: new[segment] for channel, segment in json.loads(row.refs).items()})
            state = NewState.checkpoint(identity, row.checkpoint_id, row.parent_id, row.metadata, renamed, row.skeleton)
            tx.execute(*rows.insert_states(into, epoch, [state], ""))
        tx.execute(
            "INSERT INTO hitl_writes (ns, checkpoint_id, task_id, idx, task_path, channel, value)"
            " SELECT ?, checkpoint_id, task_id, idx, task_path, channel, value FROM hitl_writes WHERE ns = ? ORDER BY id"
            " ON CONFLICT (ns, checkpoint_id, task_id, idx) DO UPDATE SET task_path = excluded.task_path,"
            " channel = excluded.channel, value = excluded.value",
            (into, ns),
        )


def _namespaces(tx: Transaction, thread_id: str) -> list[tuple[int, str]]:
    return tx.execute("SELECT ns, checkpoint_ns FROM hitl_namespaces WHERE thread_id = ?", (thread_id,)).fetchall()


def _checkpoints(tx: Transaction, ns: int) -> list[tuple[int, str]]:
    return tx.execute(
        "SELECT id, checkpoint_id FROM hitl_states WHERE ns = ? AND checkpoint_id <> '' ORDER BY id", (ns,)
    ).fetchall()


def _delete_writes(tx: Transaction, ns: int, checkpoint_id: str) -> None:
    tx.execute("DELETE FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?", (ns, checkpoint_id))
