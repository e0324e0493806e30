"""Lists that grow: what of a list was stored before, and what has to be stored now.

A list is stored as *the first `keep` elements of an older list, and a tail*. To find `keep`, a `Snapshot` remembers
what the older list looked like when it was stored. Anything may have been mutated in place since, so that identity of
the messages proves nothing. What proves it, in a few calls into C for the whole list:

* the fields of each message are compared with a copy of them, which is quick because the strings are the same objects;
  the copy has empty lists and dicts of its own, so that a message's can be seen to be empty no more;
* everything else that is mutable or numeric is marshalled at once and compared as bytes. Format 2 of marshal has no
  references, so it depends on values and types alone, and 1, 1.0 and True differ;
* what is no plain data (see `codec`) is encoded again, one by one.

With a long history this is bound by memory: each pass over it costs more than what is done there.

No I/O here.
"""

import marshal
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter, getitem
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from hitl_graph.checkpointers.codec import FIELDS, Codec, Element, restore

__all__ = ["Change", "Link", "Snapshot", "compare", "fresh"]

Link = tuple[int, int]
"""One stored segment of a list: its id, and the index of the first element in it."""

_fields = attrgetter("__dict__")
_extra = attrgetter("__pydantic_extra__")
_MARSHAL = 2
_HEADER = 5  # marshal begins a list with its type and its length; the elements follow and can be joined
_EMPTY: dict[type, Any] = {list: [], dict: {}}  # stand for empty ones in copies; nobody else gets hold of them


class _Soft(NamedTuple):
    """What may change in place: where it is, and what it was."""

    rows: list[int]
    names: list[str]  # fields of messages; "" in a list of plain data
    sealed: bytes  # the values, marshalled

    def until(self, size: int) -> "_Soft":
        """Of the first elements only."""
        count = bisect_left(self.rows, size)
        return _Soft(self.rows[:count], self.names[:count], _marshal(self.unseal()[:count]))

    def unseal(self) -> list[Any]:
        """New objects that are what these were."""
        data = b"[" + len(self.rows).to_bytes(4, "little") + self.sealed
        return marshal.loads(data)  # type: ignore[no-any-return]

    def read(self, rows: list[Any], is_chat: bool) -> list[Any]:
        """What is in these places of a list now."""
        found = map(rows.__getitem__, self.rows)
        return list(map(getitem, found, self.names) if is_chat else found)

    def renewed(self, rows: list[Any], is_chat: bool) -> list[Any]:
        """A copy of the rows, with what these were in their places."""
        rows = [row and row.copy() for row in rows] if is_chat else rows.copy()
        for row, name, value in zip(self.rows, self.names, self.unseal(), strict=True):
            if is_chat:
                rows[row][name] = value
            else:
                rows[row] = value
        return rows


class Snapshot:
    """What a list looked like when it was stored.

    Attributes:
        size: Number of elements.
        links: The stored segments that it is made of, oldest first; empty while nothing is stored.
    """

    __slots__ = ("_is_chat", "_opaque", "_rows", "_soft", "_types", "links", "size")

    def __init__(
        self, is_chat: bool, types: list[type], rows: list[Any], soft: _Soft, opaque: dict[int, Element]
    ) -> None:
        self._is_chat = is_chat
        self._types = types
        self._rows = rows  # the fields of messages, or the elements themselves; None for opaque ones
        self._soft = soft
        self._opaque = opaque  # by index, what is no plain data
        self.links: tuple[Link, ...] = ()
        self.size = len(types)


class Change(NamedTuple):
    """What to store of a list.

    Attributes:
        keep: How many elements are as they were.
        tail: The others, encoded.
        snapshot: Of the list as it is now, without links.
    """

    keep: int
    tail: list[bytes]
    snapshot: Snapshot


def compare(values: Sequence[Any], before: Snapshot | None, codec: Codec) -> Change:
    """Compare a list with an older state of it.

    Args:
        values: The list.
        before: The older state; None if there is none.
        codec: Encodes what has to be stored.
    """
    types = list(map(type, values))
    is_chat = all(issubclass(t, BaseMessage) for t in set(types))
    rows = list(map(_fields, values)) if is_chat else list(values)
    keep, soft = 0, _Soft([], [], b"")
    snapshot = Snapshot(is_chat, types, [], soft, {})
    if before is not None and before._is_chat == is_chat:
        keep, soft = _same(values, types, rows, before, codec)
        snapshot._rows = before._rows[:keep]
        snapshot._opaque = {index: element for index, element in before._opaque.items() if index < keep}
    return Change(keep, _seal(snapshot, soft, values, rows, keep, codec), snapshot)


def fresh(snapshot: Snapshot, codec: Codec) -> tuple[list[Any], Snapshot]:
    """Build the list again, of new objects, without going to the database.

    Returns:
        The list, and a snapshot that knows its objects.
    """
    rows = snapshot._soft.renewed(snapshot._rows, snapshot._is_chat)
    values: list[Any] = []
    for index, row in enumerate(rows):
        if index in snapshot._opaque:
            values += codec.decode_all(b"\x91" + snapshot._opaque[index].data)
        elif snapshot._is_chat:
            fields = row.copy()
            for name, value in row.items():
                if value is _EMPTY[dict] or value is _EMPTY[list]:
                    fields[name] = value.copy()
            values.append(restore(snapshot._types[index], fields))
        else:
            values.append(row.copy() if row is _EMPTY[dict] or row is _EMPTY[list] else row)
    again = Snapshot(snapshot._is_chat, snapshot._types, rows, snapshot._soft, snapshot._opaque)
    again.links = snapshot.links
    return values, again


def _same(
    values: Sequence[Any], types: list[type], rows: list[Any], before: Snapshot, codec: Codec
) -> tuple[int, _Soft]:
    """How many elements at the front are unchanged, and what is soft in those."""
    limit = min(len(values), before.size)
    for index, element in before._opaque.items():
        if index < limit and (
            element.fingerprint is None
            or types[index] is not before._types[index]
            or codec.encode(values[index]).fingerprint != element.fingerprint
        ):
            limit = index
    if before._opaque:
        rows = [None if index in before._opaque else row for index, row in enumerate(rows)]
    if limit == before.size and _agree(values, types, rows, before, before._rows, limit, before._soft):
        return limit, before._soft
    originals = before._soft.renewed(before._rows, before._is_chat)  # those in `before` may have been changed
    low, high = 0, limit
    while low < high:  # "the first k are unchanged" holds up to some k
        middle = (low + high + 1) // 2
        if _agree(values, types, rows, before, originals, middle, before._soft.until(middle)):
            low = middle
        else:
            high = middle - 1
    return low, before._soft.until(low)


def _agree(
    values: Sequence[Any],
    types: list[type],
    rows: list[Any],
    before: Snapshot,
    originals: list[Any],
    size: int,
    soft: _Soft,
) -> bool:
    if types[:size] != before._types[:size]:
        return False
    if before._is_chat:
        extras = map(_extra, values[:size])
        if before._opaque:
            if any(extra and index not in before._opaque for index, extra in enumerate(extras)):
                return False
        elif any(extras):
            return False
    try:
        return rows[:size] == originals[:size] and _marshal(soft.read(rows, before._is_chat)) == soft.sealed
    except Exception:  # something with an equality of its own (an array), or that cannot be marshalled, came in
        return False


def _seal(
    snapshot: Snapshot, soft: _Soft, values: Sequence[Any], rows: list[Any], start: int, codec: Codec
) -> list[bytes]:
    """Encode the elements from `start` on and complete the snapshot with them."""
    tail: list[bytes] = []
    added, names, sealed = [], [], []
    for index in range(start, len(values)):
        element = codec.encode(values[index])
        tail.append(element.data)
        if not element.is_plain or snapshot._is_chat != (snapshot._types[index] in FIELDS):
            snapshot._opaque[index] = element
            snapshot._rows.append(None)
            continue
        row = rows[index].copy() if snapshot._is_chat else {"": rows[index]}
        for name, value in row.items():
            if value is None or type(value) is str:
                continue
            if not value and type(value) in _EMPTY:
                row[name] = _EMPTY[type(value)]
            else:
                added.append(index)
                names.append(name)
                sealed.append(value)
        snapshot._rows.append(row if snapshot._is_chat else row[""])
    if added:
        soft = _Soft(soft.rows + added, soft.names + names, soft.sealed + _marshal(sealed))
    snapshot._soft = soft
    return tail


def _marshal(values: list[Any]) -> bytes:
    return marshal.dumps(values, _MARSHAL)[_HEADER:]
