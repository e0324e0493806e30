"""From what LangGraph rebuilds a `DeltaChannel`: its last snapshot, and what was written since."""

from collections.abc import Sequence
from typing import NamedTuple

from hitl_graph.checkpointers import rows
from hitl_graph.checkpointers.codec import skeleton_channels
from hitl_graph.checkpointers.rows import Row
from hitl_graph.storage import Transaction

__all__ = ["Lineage", "lineage"]

_PAGE = 64
_LINE = (
    "WITH RECURSIVE line(id, checkpoint_id, parent_id, data, depth) AS ("
    " SELECT id, checkpoint_id, parent_id, data, 0 FROM hitl_states WHERE ns = ? AND checkpoint_id = ?"
    " AND checkpoint_id <> '' UNION ALL"
    " SELECT s.id, s.checkpoint_id, s.parent_id, s.data, line.depth + 1 FROM line JOIN hitl_states s"
    " ON s.ns = ? AND s.checkpoint_id = line.parent_id AND s.checkpoint_id <> '' WHERE line.depth < ?)"
    " SELECT id, checkpoint_id, parent_id, data FROM line ORDER BY depth"
)


class Lineage(NamedTuple):
    """What the ancestors of a checkpoint say of some channels.

    Attributes:
        seeds: The nearest ancestor that has a value of a channel.
        writes: Of each channel (task_id, element), oldest first, since then.
    """

    seeds: dict[str, Row]
    writes: dict[str, list[tuple[str, bytes]]]


def lineage(tx: Transaction, target: Row, channels: Sequence[str]) -> Lineage:
    """Walk from a checkpoint to its ancestors until each channel has a value."""
    missing, seen = set(channels), {target.checkpoint_id}
    seeds: dict[str, int] = {}
    reach: dict[str, list[str]] = {channel: [] for channel in channels}  # nearest first
    at = target.parent_id
    while at and at not in seen and missing:
        found = tx.execute(_LINE, (target.ns, at, target.ns, _PAGE)).fetchall()
        if not found:
            break
        for identity, checkpoint_id, parent_id, data in found:
            if checkpoint_id in seen or not missing:  # an id that was stored twice can be its own ancestor
                at = ""
                break
            seen.add(checkpoint_id)
            for channel in missing:
                reach[channel].append(checkpoint_id)
            for channel in missing & skeleton_channels(bytes(data)):
                seeds[channel] = identity
                missing.discard(channel)
            at = parent_id
    written = {channel: _writes(tx, target.ns, channel, ids) for channel, ids in reach.items()}
    found_rows = {channel: rows.by_rowid(tx, identity) for channel, identity in seeds.items()}
    return Lineage({channel: row for channel, row in found_rows.items() if row is not None}, written)


def _writes(tx: Transaction, ns: int, channel: str, nearest_first: Sequence[str]) -> list[tuple[str, bytes]]:
    by_checkpoint: dict[str, list[tuple[str, bytes]]] = {}
    for start in range(0, len(nearest_first), _PAGE):
        ids = nearest_first[start : start + _PAGE]
        for checkpoint_id, task_id, value in tx.execute(
            f"SELECT checkpoint_id, task_id, value FROM hitl_writes WHERE ns = ? AND channel = ?"
            f" AND checkpoint_id IN ({','.join('?' * len(ids))}) ORDER BY task_path, task_id, idx",
            (ns, channel, *ids),
        ):
            by_checkpoint.setdefault(checkpoint_id, []).append((task_id, bytes(value)))
    return [write for checkpoint_id in reversed(nearest_first) for write in by_checkpoint.get(checkpoint_id, ())]
