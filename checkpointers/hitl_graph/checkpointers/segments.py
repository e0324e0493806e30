"""Values that checkpoints share, in SQL. They never change, and go when no checkpoint needs them any more."""

import json
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple, cast

import ormsgpack

from hitl_graph.checkpointers.codec import array
from hitl_graph.checkpointers.history import Link
from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.storage import Rows, Transaction

__all__ = ["NOT_A_LIST", "Stored", "are_there", "chain", "copy_all", "discard", "joined", "needed", "reserve_ids"]

NOT_A_LIST = -1

_CHAIN = (
    "WITH RECURSIVE chain(id, parent, keep, count, data) AS ("
    " SELECT id, parent, keep, count, data FROM hitl_states WHERE id = ?"
    " UNION ALL SELECT s.id, s.parent, s.keep, s.count, s.data FROM chain JOIN hitl_states s ON s.id = chain.parent)"
    " SELECT id, keep, count, data FROM chain"
)
_PARENTS = (
    "WITH RECURSIVE chain(id, parent) AS ("
    " SELECT id, parent FROM hitl_states WHERE id = ?"
    " UNION ALL SELECT s.id, s.parent FROM chain JOIN hitl_states s ON s.id = chain.parent)"
    " SELECT id FROM chain"
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

    def elements(self) -> list[Any]:
        """The elements of the list, or the one element, unpacked."""
        elements = cast("list[Any]", ormsgpack.unpackb(self.data))
        for begin, end in reversed(self.drops):
            del elements[begin:end]
        return elements


def chain(tx: Transaction, segment: int) -> Rows:
    """Look up the segments of a value; `joined` reads them."""
    return tx.execute(_CHAIN, (segment,))


def joined(found: Rows) -> Stored:
    """The value that a chain of segments makes.

    Raises:
        DatabaseCorruptError: They are not there.
    """
    rows = found.fetchall()
    if not rows:
        raise DatabaseCorruptError("a checkpoint refers to a value that is not in the database; restore a backup")
    if rows[0][1] == NOT_A_LIST:
        return Stored(False, array(1, rows[0][3]), (), ())
    links: list[Link] = []
    tails: list[tuple[bytes, int, int]] = []
    wanted: int = rows[0][1] + rows[0][2]
    for segment, keep, length, data in rows:
        if links and wanted <= keep:  # all of this tail was cut off by a younger segment
            continue
        links.append((segment, keep))
        tails.append((data, length, wanted - keep))
        wanted = keep
        if keep == 0:
            break
    drops: list[tuple[int, int]] = []
    end = 0
    for _, length, used in reversed(tails):
        end += length
        if used < length:
            drops.append((end - length + used, end))
    data = array(end, b"".join(data for data, _, _ in reversed(tails)))
    return Stored(True, data, tuple(drops), tuple(reversed(links)))


def needed(tx: Transaction, ns: int) -> set[int]:
    """The segments that the checkpoints of a namespace refer to, directly or not."""
    tips = set[int]()
    for (refs,) in tx.execute("SELECT refs FROM hitl_states WHERE ns = ? AND checkpoint_id <> ''", (ns,)).fetchall():
        tips.update(json.loads(refs).values())
    found = set[int]()
    for tip in sorted(tips, reverse=True):  # the youngest ones have most of the others among their ancestors
        if tip not in found:
            found.update(row[0] for row in tx.execute(_PARENTS, (tip,)))
    return found


def are_there(tx: Transaction, segments: Sequence[int]) -> bool:
    """Whether none of some segments was deleted. Then none of those that they begin with was, either."""
    if not segments:
        return True
    marks = ",".join("?" * len(segments))
    found = tx.execute(f"SELECT count(*) FROM hitl_states WHERE id IN ({marks})", segments).fetchone()
    return int(found[0]) == len(segments)


def discard(tx: Transaction, ns: int, checkpoints: Sequence[int]) -> None:
    """Delete checkpoints of a namespace, and the segments that no other one needs."""
    before = needed(tx, ns)
    tx.executemany("DELETE FROM hitl_states WHERE id = ?", [(checkpoint,) for checkpoint in checkpoints])
    tx.executemany("DELETE FROM hitl_states WHERE id = ?", [(segment,) for segment in before - needed(tx, ns)])


def copy_all(tx: Transaction, source: int, target: int) -> dict[int, int]:
    """Copy all segments of a namespace to another one.

    Returns:
        The new id of each old one.
    """
    old = sorted(needed(tx, source))
    new = dict(zip(old, count(reserve_ids(tx, len(old))), strict=False))
    for segment in old:
        parent, keep, length, data = tx.execute(
            "SELECT parent, keep, count, data FROM hitl_states WHERE id = ?", (segment,)
        ).fetchone()
        tx.execute(
            "INSERT INTO hitl_states (id, ns, checkpoint_id, parent_id, metadata, refs, parent, keep, count, data)"
            " VALUES (?, ?, '', '', '', '', ?, ?, ?, ?)",
            (new[segment], target, new.get(parent, 0), keep, length, data),
        )
    return new


def reserve_ids(tx: Transaction, count: int) -> int:
    """Take as many ids that nobody else will ever get; returns the first."""
    row = tx.execute("UPDATE hitl_ids SET next = next + ? RETURNING next", (count,)).fetchone()
    return int(row[0]) - count
