"""Segments in SQL: values that checkpoints share. They are only added, and removed when nothing refers to them."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from hitl_graph.checkpointers.codec import Codec, array
from hitl_graph.checkpointers.history import Link
from hitl_graph.storage import Transaction

__all__ = ["NOT_A_LIST", "Stored", "add", "collect_garbage", "copy_all", "exist", "load"]

NOT_A_LIST = -1

_CHAIN = (
    "WITH RECURSIVE chain(id, parent, keep, count, data) AS ("
    " SELECT id, parent, keep, count, data FROM hitl_segments WHERE id = ?"
    " UNION ALL SELECT s.id, s.parent, s.keep, s.count, s.data FROM chain JOIN hitl_segments s ON s.id = chain.parent)"
    " SELECT id, keep, count, data FROM chain"
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
            "INSERT INTO hitl_segments (ns, parent, keep, count, data) VALUES (?, ?, ?, ?, ?) RETURNING id",
            (ns, parent, keep, count, data),
        ).fetchone()[0]
    )


def exist(tx: Transaction, ns: int, segments: Iterable[int]) -> bool:
    """Whether all of these are there: another process may have pruned the thread."""
    return all(tx.execute("SELECT 1 FROM hitl_segments WHERE id = ? AND ns = ?", (s, ns)).fetchone() for s in segments)


def collect_garbage(tx: Transaction, ns: int) -> None:
    """Delete the segments of a namespace that no checkpoint needs any more."""
    parents = dict(tx.execute("SELECT id, parent FROM hitl_segments WHERE ns = ?", (ns,)).fetchall())
    for (refs,) in tx.execute("SELECT refs FROM hitl_checkpoints WHERE ns = ?", (ns,)).fetchall():
        for segment in json.loads(refs).values():
            while segment in parents:  # what is left there in the end is needed by nobody
                segment = parents.pop(segment)
    tx.executemany("DELETE FROM hitl_segments WHERE id = ?", [(segment,) for segment in parents])


def copy_all(tx: Transaction, source: int, target: int) -> dict[int, int]:
    """Copy all segments of a namespace to another one.

    Returns:
        The new id of each old one.
    """
    new: dict[int | None, int | None] = {None: None}
    waiting = tx.execute(
        "SELECT id, parent, keep, count, data FROM hitl_segments WHERE ns = ? ORDER BY id DESC", (source,)
    ).fetchall()
    while waiting:
        identity, parent, keep, count, data = waiting.pop()
        if parent in new:
            new[identity] = add(tx, target, new[parent], keep, count, data)
        else:  # ids are handed out in blocks: a parent may have a higher one
            waiting.insert(0, (identity, parent, keep, count, data))
    return cast("dict[int, int]", new)
