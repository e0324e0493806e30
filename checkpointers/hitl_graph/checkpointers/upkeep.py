"""Deleting, pruning and copying threads. What survives reads back exactly as before."""

import json
from collections.abc import Sequence

from hitl_graph.checkpointers import rows, segments
from hitl_graph.checkpointers.codec import skeleton_channels
from hitl_graph.ledger import parking
from hitl_graph.storage import Transaction

__all__ = ["copy_thread", "delete_runs", "delete_thread", "keep_latest"]


def delete_thread(tx: Transaction, thread_id: str) -> None:
    """Delete a thread with all its namespaces."""
    for ns, _ in _namespaces(tx, thread_id):
        for table in ("hitl_checkpoints", "hitl_writes", "hitl_segments", "hitl_namespaces"):
            tx.execute(f"DELETE FROM {table} WHERE ns = ?", (ns,))
    parking.forgotten(tx, thread_id)


def delete_runs(tx: Transaction, run_ids: Sequence[str]) -> list[str]:
    """Delete the checkpoints of some runs.

    Returns:
        The threads that lost some.
    """
    touched: dict[int, str] = {}
    for run_id in dict.fromkeys(run_ids):
        doomed = tx.execute(
            "SELECT c.metadata, c.id, c.ns, c.checkpoint_id, n.thread_id"
            " FROM hitl_checkpoints c JOIN hitl_namespaces n ON n.ns = c.ns WHERE c.metadata LIKE ?",
            (f"%{json.dumps(run_id)}%".replace("\\", "_"),),
        ).fetchall()
        for metadata, rowid, ns, checkpoint_id, thread_id in doomed:
            if json.loads(metadata).get("run_id") != run_id:
                continue
            _delete(tx, rowid, ns, checkpoint_id)
            touched[ns] = thread_id
    for ns, thread_id in touched.items():
        segments.collect_garbage(tx, ns)
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
            if not missing or head.parent_id is None:
                break
            head = rows.find(tx, thread_id, checkpoint_ns, head.parent_id)
        for rowid, checkpoint_id in tx.execute(
            "SELECT id, checkpoint_id FROM hitl_checkpoints WHERE ns = ?", (ns,)
        ).fetchall():
            if rowid not in kept:
                _delete(tx, rowid, ns, checkpoint_id)
        segments.collect_garbage(tx, ns)


def copy_thread(tx: Transaction, source: str, target: str) -> None:
    """Copy all checkpoints and writes of a thread into another one."""
    for ns, checkpoint_ns in _namespaces(tx, source):
        into = rows.intern(tx, target, checkpoint_ns)
        new = segments.copy_all(tx, ns, into)
        checkpoints = tx.execute(
            "SELECT checkpoint_id, parent_id, metadata, skeleton, refs FROM hitl_checkpoints WHERE ns = ? ORDER BY id",
            (ns,),
        ).fetchall()
        for checkpoint_id, parent_id, metadata, skeleton, refs in checkpoints:
            renamed = {channel: new[segment] for channel, segment in json.loads(refs).items()}
            rows.put(tx, into, checkpoint_id, parent_id, metadata, skeleton, json.dumps(renamed))
        tx.execute(
            "INSERT INTO hitl_writes (ns, checkpoint_id, task_id, idx, task_path, channel, value)"
            " SELECT ?, checkpoint_id, task_id, idx, task_path, channel, value FROM hitl_writes WHERE ns = ? ORDER BY id"
            " ON CONFLICT (ns, checkpoint_id, task_id, idx) DO UPDATE SET task_path = excluded.task_path,"
            " channel = excluded.channel, value = excluded.value",
            (into, ns),
        )


def _namespaces(tx: Transaction, thread_id: str) -> list[tuple[int, str]]:
    return tx.execute("SELECT ns, checkpoint_ns FROM hitl_namespaces WHERE thread_id = ?", (thread_id,)).fetchall()


def _delete(tx: Transaction, rowid: int, ns: int, checkpoint_id: str) -> None:
    tx.execute("DELETE FROM hitl_checkpoints WHERE id = ?", (rowid,))
    tx.execute("DELETE FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?", (ns, checkpoint_id))
