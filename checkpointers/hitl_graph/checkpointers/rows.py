"""Checkpoints and writes in SQL: one function a statement, no decoding."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hitl_graph.checkpointers import segments
from hitl_graph.checkpointers.segments import Stored
from hitl_graph.storage import Transaction

__all__ = ["Found", "Row", "by_rowid", "find", "intern", "load", "namespace", "put", "put_writes", "search"]

_SELECT = (
    "SELECT c.id, c.ns, n.thread_id, n.checkpoint_ns, c.checkpoint_id, c.parent_id, c.metadata, c.skeleton, c.refs"
    " FROM hitl_checkpoints c JOIN hitl_namespaces n ON n.ns = c.ns "
)


class Row(NamedTuple):
    """One row of `checkpoints`, with its thread."""

    id: int
    ns: int
    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    metadata: str
    skeleton: bytes
    refs: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.thread_id, self.checkpoint_ns, self.checkpoint_id


class Found(NamedTuple):
    """All that belongs to a checkpoint, still encoded.

    Attributes:
        values: Channels in segments; None for those that the caller has already.
        writes: (task_id, channel, element), in the order in which they are applied.
    """

    row: Row
    values: dict[str, Stored | None]
    writes: list[tuple[str, str, bytes]]


def namespace(tx: Transaction, thread_id: str, checkpoint_ns: str) -> int | None:
    """The number of a namespace, if it is known."""
    row = tx.execute(
        "SELECT ns FROM hitl_namespaces WHERE thread_id = ? AND checkpoint_ns = ?", (thread_id, checkpoint_ns)
    ).fetchone()
    return None if row is None else int(row[0])


def intern(tx: Transaction, thread_id: str, checkpoint_ns: str) -> int:
    """The number of a namespace, which is given one if need be."""
    ns = namespace(tx, thread_id, checkpoint_ns)
    if ns is not None:
        return ns
    return int(
        tx.execute(
            "INSERT INTO hitl_namespaces (thread_id, checkpoint_ns) VALUES (?, ?) RETURNING ns",
            (thread_id, checkpoint_ns),
        ).fetchone()[0]
    )


def find(tx: Transaction, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Row | None:
    """A checkpoint, or the latest one if no id is given."""
    ns = namespace(tx, thread_id, checkpoint_ns)
    if ns is None:
        return None
    columns = "SELECT id, checkpoint_id, parent_id, metadata, skeleton, refs FROM hitl_checkpoints WHERE ns = ? "
    if checkpoint_id:
        row = tx.execute(columns + "AND checkpoint_id = ?", (ns, checkpoint_id)).fetchone()
    else:
        row = tx.execute(columns + "ORDER BY checkpoint_id DESC LIMIT 1", (ns,)).fetchone()
    return None if row is None else Row(row[0], ns, thread_id, checkpoint_ns, *row[1:])


def by_rowid(tx: Transaction, rowid: int) -> Row | None:
    """A checkpoint, unless it was deleted in the meantime."""
    row = tx.execute(_SELECT + "WHERE c.id = ?", (rowid,)).fetchone()
    return None if row is None else Row(*row)


def search(
    tx: Transaction,
    *,
    thread_id: str | None,
    checkpoint_ns: str | None,
    checkpoint_id: str | None,
    before: str | None,
    limit: int | None,
) -> list[int]:
    """The row ids of the checkpoints that match, the newest first."""
    tests: list[tuple[str, Any]] = [
        ("n.thread_id = ?", thread_id),
        ("n.checkpoint_ns = ?", checkpoint_ns),
        ("c.checkpoint_id = ?", checkpoint_id),
        ("c.checkpoint_id < ?", before),
    ]
    used = [(test, value) for test, value in tests if value is not None]
    where = "".join(f" AND {test}" for test, _ in used)
    rows = tx.execute(
        f"SELECT c.id FROM hitl_checkpoints c JOIN hitl_namespaces n ON n.ns = c.ns WHERE 1 = 1{where}"
        f" ORDER BY c.checkpoint_id DESC, c.id DESC{'' if limit is None else ' LIMIT ?'}",
        [value for _, value in used] + ([] if limit is None else [max(limit, 0)]),
    )
    return [row[0] for row in rows]


def load(tx: Transaction, row: Row, *, has: Callable[[str, int], bool] = lambda channel, segment: False) -> Found:
    """Read what belongs to a checkpoint.

    Args:
        has: Whether the caller knows the value of this channel, which is this segment.
    """
    values = {
        channel: None if has(channel, segment) else segments.load(tx, segment)
        for channel, segment in json.loads(row.refs).items()
    }
    writes = tx.execute(
        "SELECT task_id, channel, value FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?"
        " ORDER BY task_path, task_id, idx",
        (row.ns, row.checkpoint_id),
    ).fetchall()
    return Found(row, values, writes)


def put(
    tx: Transaction, ns: int, checkpoint_id: str, parent_id: str | None, metadata: str, skeleton: bytes, refs: str
) -> None:
    """Store a checkpoint; an older one of the same id is replaced."""
    tx.execute(
        "INSERT INTO hitl_checkpoints (ns, checkpoint_id, parent_id, metadata, skeleton, refs) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (ns, checkpoint_id) DO UPDATE SET parent_id = excluded.parent_id, metadata = excluded.metadata,"
        " skeleton = excluded.skeleton, refs = excluded.refs",
        (ns, checkpoint_id, parent_id, metadata, skeleton, refs),
    )


def put_writes(tx: Transaction, ns: int, checkpoint_id: str, writes: Sequence[Sequence[Any]], *, replace: bool) -> None:
    """Store writes, each (task_id, idx, task_path, channel, element)."""
    conflict = (
        "UPDATE SET task_path = excluded.task_path, channel = excluded.channel, value = excluded.value"
        if replace
        else "NOTHING"
    )
    tx.executemany(
        "INSERT INTO hitl_writes (ns, checkpoint_id, task_id, idx, task_path, channel, value) VALUES (?, ?, ?, ?, ?, ?, ?)"
        f" ON CONFLICT (ns, checkpoint_id, task_id, idx) DO {conflict}",
        [(ns, checkpoint_id, *write) for write in writes],
    )
