"""Segments in SQL: values that checkpoints share. They are only added, and removed when nothing refers to them."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from hitl_graph.checkpointers.codec import Codec, array
from hitl_graph.checkpointers.history import Link
from hitl_graph.storage import Transaction

__all__ = ["NOT_A_LIST", "Stored", "add", "collect_garbage", "copy_all", "exist", "load"]

NOT_A_LIST = -1

_CHAIN = (
    "WITH RECURSIVE chain(id, parent, keep, count, data) AS ("
    " SELECT id, parent, keep, count, data FROM segments WHERE id = ?"
    " UNION ALL SELECT s.id, s.parent, s.keep, s.count, s.data FROM chain JOIN segments s ON s.id = chain.parent)"
    " SELECT id, keep, count, data FROM chain"
)
_LIVE = (
    "WITH RECURSIVE live(id) AS ("
    " SELECT json_each.value FROM checkpoints, json_each(checkpoints.refs) WHERE checkpoints.ns = ?1"
    " UNION SELECT s.parent FROM live JOIN segments s ON s.id = live.id WHERE s.parent IS NOT NULL)"
)


class Stored(NamedTuple):
    """A value as it is stored.

    Attributes:
        is_list: Whether it is a list; else `data` has one element.
        data: An encoded array of elements.
        drops: Ranges of elements to leave out, in order.
        links: The segments of a list, oldest first.
    """

    is_list: bool
    data: bytes
    drops: tuple[tuple[int, int], ...]
    links: tuple[Link, ...]

    def decode(self, codec: Codec) -> Any:
        """The value, made of fresh objects."""
        values = codec.decode_all(self.data)
        for begin, end in reversed(self.drops):
            del values[begin:end]
        return values if self.is_list else values[0]


def load(tx: Transaction, segment: int) -> Stored | None:
    """Read a value; None if it is not there."""
    rows = tx.execute(_CHAIN, (segment,)).fetchall()
    if not rows:
        return None
    if rows[0][1] == NOT_A_LIST:
        return Stored(False, array(1, rows[0][3]), (), ())
    links: list[Link] = []
    tails: list[tuple[bytes, int, int]] = []
    wanted: int = rows[0][1] + rows[0][2]
    for identity, keep, count, data in rows:
        if links and wanted <= keep:  # all of this tail was cut off by a younger segment
            continue
        links.append((identity, keep))
        tails.append((data, count, wanted - keep))
        wanted = keep
        if keep == 0:
            break
    drops: list[tuple[int, int]] = []
    end = 0
    for _, count, used in reversed(tails):
        end += count
        if used < count:
            drops.append((end - count + used, end))
    data = array(end, b"".join(data for data, _, _ in reversed(tails)))
    return Stored(True, data, tuple(drops), tuple(reversed(links)))


def add(tx: Transaction, ns: int, parent: int | None, keep: int, count: int, data: bytes) -> int:
    """Store one segment."""
    return int(
        tx.execute(
            "INSERT INTO segments (ns, parent, keep, count, data) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (ns, parent, keep, count, data),
        ).fetchone()[0]
    )


def exist(tx: Transaction, ns: int, segments: Iterable[int]) -> bool:
    """Whether all of these are there: another process may have pruned the thread."""
    return all(tx.execute("SELECT 1 FROM segments WHERE id = ? AND ns = ?", (s, ns)).fetchone() for s in segments)


def collect_garbage(tx: Transaction, ns: int) -> None:
    """Delete the segments of a namespace that no checkpoint needs any more."""
    tx.execute(f"{_LIVE} DELETE FROM segments WHERE ns = ?1 AND id NOT IN (SELECT id FROM live)", (ns,))


def copy_all(tx: Transaction, source: int, target: int) -> dict[int, int]:
    """Copy all segments of a namespace to another one.

    Returns:
        The new id of each old one.
    """
    new: dict[int, int] = {}
    rows = tx.execute(
        "SELECT id, parent, keep, count, data FROM segments WHERE ns = ? ORDER BY id", (source,)
    ).fetchall()
    for identity, parent, keep, count, data in rows:  # a parent is always older than its children
        new[identity] = add(tx, target, None if parent is None else new[parent], keep, count, data)
    return new
