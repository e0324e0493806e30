"""Checkpoints and writes in SQL: one function a statement, no decoding."""

import json
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.types import INTERRUPT

from hitl_graph.checkpointers import segments
from hitl_graph.checkpointers.segments import Stored
from hitl_graph.storage import Statement, Transaction

__all__ = [
    "Found",
    "NewState",
    "Row",
    "begin",
    "bump",
    "by_rowid",
    "epoch_of",
    "find",
    "hold",
    "insert_states",
    "insert_writes",
    "load",
    "lock",
    "new_epoch",
    "note_asked",
    "number_of",
    "search",
]

_SELECT = (
    "SELECT c.id, c.ns, n.epoch, n.claim, n.thread_id, n.checkpoint_ns, c.checkpoint_id, c.parent_id, c.metadata,"
    " c.data, c.refs FROM hitl_states c JOIN hitl_namespaces n ON n.ns = c.ns WHERE c.checkpoint_id <> ''"
)


class Row(NamedTuple):
    """A checkpoint, with its thread."""

    id: int
    ns: int
    epoch: int
    claim: str
    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str
    metadata: str
    skeleton: bytes
    refs: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.thread_id, self.checkpoint_ns, self.checkpoint_id


class NewState(NamedTuple):
    """A row of `hitl_states`, without its namespace: a checkpoint (`checkpoint`), or a value."""

    id: int
    checkpoint_id: str
    parent_id: str
    metadata: str
    refs: str
    parent: int
    keep: int
    length: int
    data: bytes

    @classmethod
    def checkpoint(
        cls, id: int, checkpoint_id: str, parent_id: str, metadata: str, refs: str, data: bytes
    ) -> "NewState":
        """A checkpoint."""
        return cls(id, checkpoint_id, parent_id, metadata, refs, 0, 0, 0, data)

    @classmethod
    def value(cls, id: int, parent: int, keep: int, length: int, data: bytes) -> "NewState":
        """A segment of a list, or another value (keep = `segments.NOT_A_LIST`)."""
        return cls(id, "", "", "", "", parent, keep, length, data)


class Found(NamedTuple):
    """All that belongs to a checkpoint, still encoded.

    Attributes:
        refs: Channels in segments.
        values: Their contents; None for those that the caller has already.
        writes: (task_id, channel, element), in the order in which they are applied.
    """

    row: Row
    refs: dict[str, int]
    values: dict[str, Stored | None]
    writes: list[tuple[str, str, bytes]]

    @property
    def is_paused(self) -> bool:
        """Whether somebody was asked here, and may have answered since."""
        return any(channel == INTERRUPT for _, channel, _ in self.writes)


def new_epoch() -> int:
    """Where a new namespace begins to count, so that one which was deleted and made again is another one."""
    return secrets.randbits(48)


def epoch_of(tx: Transaction, thread_id: str, checkpoint_ns: str) -> int | None:
    """The epoch of a namespace, if there is one."""
    row = tx.execute(
        "SELECT epoch FROM hitl_namespaces WHERE thread_id = ? AND checkpoint_ns = ?", (thread_id, checkpoint_ns)
    ).fetchone()
    return None if row is None else int(row[0])


def number_of(tx: Transaction, thread_id: str, checkpoint_ns: str) -> int:
    """The number of a namespace that is there."""
    found = tx.execute(
        "SELECT ns FROM hitl_namespaces WHERE thread_id = ? AND checkpoint_ns = ?", (thread_id, checkpoint_ns)
    )
    return int(found.fetchone()[0])


def begin(thread_id: str, checkpoint_ns: str, epoch: int) -> Statement:
    """Make a namespace, unless it is there already."""
    return _BEGIN, (thread_id, checkpoint_ns, epoch)


_BEGIN = (
    "INSERT INTO hitl_namespaces (thread_id, checkpoint_ns, epoch) VALUES (?, ?, ?)"
    " ON CONFLICT (thread_id, checkpoint_ns) DO NOTHING"
)


def lock(tx: Transaction, thread_id: str, checkpoint_ns: str) -> None:
    """Keep others from storing checkpoints of a namespace until the end; what is read after this is up to date."""
    tx.execute(
        "UPDATE hitl_namespaces SET asked = asked WHERE thread_id = ? AND checkpoint_ns = ?", (thread_id, checkpoint_ns)
    )


def hold(tx: Transaction, thread_id: str, checkpoint_ns: str, *, asked: bool) -> None:
    """As `lock`, of a namespace that is made if need be.

    Args:
        asked: Note that people may be asked at the latest checkpoint.
    """
    tx.execute(
        "INSERT INTO hitl_namespaces (thread_id, checkpoint_ns, epoch, asked) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (thread_id, checkpoint_ns) DO UPDATE SET"
        f" asked = {'excluded' if asked else 'hitl_namespaces'}.asked",
        (thread_id, checkpoint_ns, new_epoch(), int(asked)),
    )


def bump(tx: Transaction, ns: int) -> None:
    """Say that something of a namespace is deleted: first of all, for whoever stores waits for the end, and sees it."""
    tx.execute("UPDATE hitl_namespaces SET epoch = epoch + 1 WHERE ns = ?", (ns,))


def note_asked(tx: Transaction, thread_id: str, asked: bool) -> None:
    """Note whether people may be asked at the latest checkpoint. Locks, as `lock`."""
    tx.execute(
        "UPDATE hitl_namespaces SET asked = ? WHERE thread_id = ? AND checkpoint_ns = ''", (int(asked), thread_id)
    )


def insert_states(
    place: tuple[str, str], epoch: int, states: Sequence[NewState], hold: str, *, unless_asked: bool = False
) -> Statement:
    """Store a checkpoint with its new values; an older one of the same id is replaced.

    Stores nothing if something of the namespace was deleted since `epoch`.

    Args:
        place: thread_id and checkpoint_ns.
        hold: See `Database.hold`.
        unless_asked: Store nothing if people may be asked at the latest checkpoint.
    """
    parameters: list[Any] = [*place, epoch]
    for state in states:
        parameters += state
    return _insert_states(len(states), hold, unless_asked), parameters


@cache
def _insert_states(count: int, hold: str, unless_asked: bool) -> str:
    unless = " AND asked = 0" if unless_asked else ""
    each = "SELECT ok.ns, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM ok"
    return (
        "INSERT INTO hitl_states (ns, id, checkpoint_id, parent_id, metadata, refs, parent, keep, count, data)"
        " WITH ok AS (SELECT ns FROM hitl_namespaces WHERE thread_id = ? AND checkpoint_ns = ?"
        f" AND epoch = ?{unless}{hold}) {' UNION ALL '.join([each] * count)} WHERE 1 = 1"
        " ON CONFLICT (ns, checkpoint_id) WHERE checkpoint_id <> '' DO UPDATE SET parent_id = excluded.parent_id,"
        " metadata = excluded.metadata, refs = excluded.refs, data = excluded.data"
    )


def insert_writes(
    place: tuple[str, str],
    checkpoint_id: str,
    writes: Sequence[tuple[str, int, str, str, bytes]],
    *,
    replace: bool,
    unless_asked: bool = False,
) -> Statement:
    """Store writes, each (task_id, idx, task_path, channel, element). Stores nothing if there is no such namespace.

    Args:
        place: thread_id and checkpoint_ns.
        unless_asked: Store nothing if people may be asked at the latest checkpoint.
    """
    parameters: list[Any] = [*place]
    for write in writes:
        parameters.append(checkpoint_id)
        parameters += write
    return _insert_writes(len(writes), replace, unless_asked), parameters


@cache
def _insert_writes(count: int, replace: bool, unless_asked: bool) -> str:
    unless = " AND asked = 0" if unless_asked else ""
    conflict = (
        "UPDATE SET task_path = excluded.task_path, channel = excluded.channel, value = excluded.value"
        if replace
        else "NOTHING"
    )
    return (
        "INSERT INTO hitl_writes (ns, checkpoint_id, task_id, idx, task_path, channel, value)"
        f" WITH ok AS (SELECT ns FROM hitl_namespaces WHERE thread_id = ? AND checkpoint_ns = ?{unless})"
        f" {' UNION ALL '.join(['SELECT ok.ns, ?, ?, ?, ?, ?, ? FROM ok'] * count)} WHERE 1 = 1"
        f" ON CONFLICT (ns, checkpoint_id, task_id, idx) DO {conflict}"
    )


def find(tx: Transaction, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None) -> Row | None:
    """A checkpoint, or the latest one if no id is given."""
    which = " AND c.checkpoint_id = ?" if checkpoint_id else " ORDER BY c.checkpoint_id DESC LIMIT 1"
    row = tx.execute(
        f"{_SELECT} AND n.thread_id = ? AND n.checkpoint_ns = ?{which}",
        (thread_id, checkpoint_ns, checkpoint_id) if checkpoint_id else (thread_id, checkpoint_ns),
    ).fetchone()
    return None if row is None else Row(*row)


def by_rowid(tx: Transaction, rowid: int) -> Row | None:
    """A checkpoint, unless it was deleted in the meantime."""
    row = tx.execute(f"{_SELECT} AND c.id = ?", (rowid,)).fetchone()
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
        "SELECT c.id FROM hitl_states c JOIN hitl_namespaces n ON n.ns = c.ns"
        f" WHERE c.checkpoint_id <> ''{where}"
        f" ORDER BY c.checkpoint_id DESC, c.id DESC{'' if limit is None else ' LIMIT ?'}",
        [value for _, value in used] + ([] if limit is None else [max(limit, 0)]),
    )
    return [row[0] for row in rows]


def load(tx: Transaction, row: Row, *, has: Callable[[str, int], bool] = lambda channel, segment: False) -> Found:
    """Read what belongs to a checkpoint.

    Args:
        has: Whether the caller knows the value of this channel, which is this segment.
    """
    refs = json.loads(row.refs)
    writes = tx.execute(
        "SELECT task_id, channel, value FROM hitl_writes WHERE ns = ? AND checkpoint_id = ?"
        " ORDER BY task_path, task_id, idx",
        (row.ns, row.checkpoint_id),
    )
    chains = {channel: segments.chain(tx, segment) for channel, segment in refs.items() if not has(channel, segment)}
    values = {channel: segments.joined(chains[channel]) if channel in chains else None for channel in refs}
    return Found(row, refs, values, writes.fetchall())
