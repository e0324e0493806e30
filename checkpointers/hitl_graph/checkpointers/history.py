"""Lists that grow: what of a list was stored before, and what has to be stored now.

A list is stored as *the first `keep` elements of an older list, and a tail*. To find `keep`, a `Snapshot` remembers
what the older list looked like when it was stored. Anything may have been mutated in place since, so that identity of
the messages proves nothing. What proves it, in a few calls into C for the whole list:

* the leaves (strings, None) are compared, which is quick because they are mostly the same objects;
* everything mutable or numeric among the fields is marshalled at once and compared as bytes. Format 2 of marshal has
  no references, so it depends on values and types alone, and 1, 1.0 and True differ;
* what is no plain data (see `codec`) is encoded again, one by one.

No I/O here.
"""

import marshal
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, chain, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from hitl_graph.checkpointers.codec import FIELDS, Codec, Element, restore

__all__ = ["Change", "Link", "Snapshot", "compare", "fresh"]

_fields = attrgetter("__dict__")
_extra = attrgetter("__pydantic_extra__")
_MARSHAL = 2
_HEADER = 5  # marshal begins a list with its type and its length; the elements follow and can be joined


Link = tuple[int, int]
"""One stored segment of a list: its id, and the index of the first element in it."""


class _Opaque(NamedTuple):
    begin: int  # where its leaves would be
    end: int
    element: Element


class Snapshot:
    """What a list looked like when it was stored.

    Attributes:
        size: Number of elements.
        links: The stored segments that it is made of, oldest first; empty while nothing is stored.
    """

    __slots__ = ("_is_chat", "_leaves", "_opaque", "_sealed", "_soft", "_types", "links", "size")

    def __init__(self, is_chat: bool, types: list[type], leaves: list[Any], soft: list[int], sealed: bytes) -> None:
        self._is_chat = is_chat
        self._types = types
        self._leaves = leaves  # fields of messages, or the elements themselves; None in place of opaque ones
        self._soft = soft  # where in the leaves something mutable or numeric is
        self._sealed = sealed  # those, marshalled
        self._opaque: dict[int, _Opaque] = {}
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
    leaves = list(chain.from_iterable(map(dict.values, map(_fields, values)))) if is_chat else list(values)
    keep, end, soft, sealed, opaque = 0, 0, [], b"", {}  # type: ignore[var-annotated]
    if before is not None and before._is_chat == is_chat:
        keep, end, soft, sealed = _same(values, types, leaves, before, codec)
        opaque = {i: o for i, o in before._opaque.items() if i < keep}
    snapshot = Snapshot(is_chat, types, leaves, soft, sealed)
    tail = _seal(snapshot, values, keep, end, codec)
    snapshot._opaque.update(opaque)
    for hole in opaque.values():
        leaves[hole.begin : hole.end] = [None] * (hole.end - hole.begin)
    return Change(keep, tail, snapshot)


def fresh(snapshot: Snapshot, codec: Codec) -> tuple[list[Any], Snapshot]:
    """Build the list again, of new objects, without going to the database.

    Returns:
        The list, and a snapshot that knows its objects.
    """
    leaves = snapshot._leaves.copy()
    for place, value in zip(snapshot._soft, _unseal(snapshot._sealed, len(snapshot._soft)), strict=True):
        leaves[place] = value
    values: list[Any]
    if snapshot._is_chat:
        values, rest = [], iter(leaves)
        for index, cls in enumerate(snapshot._types):
            if index in snapshot._opaque:
                hole = snapshot._opaque[index]
                next(islice(rest, hole.end - hole.begin, hole.end - hole.begin), None)
                values.append(None)
            else:
                values.append(restore(cls, dict(zip(FIELDS[cls], rest, strict=False))))  # takes as many as it needs
    else:
        values = leaves.copy()
    for index, hole in snapshot._opaque.items():
        [values[index]] = codec.decode_all(b"\x91" + hole.element.data)
    again = Snapshot(snapshot._is_chat, snapshot._types, leaves, snapshot._soft, snapshot._sealed)
    again._opaque = snapshot._opaque
    again.links = snapshot.links
    return values, again


def _same(
    values: Sequence[Any], types: list[type], leaves: list[Any], before: Snapshot, codec: Codec
) -> tuple[int, int, list[int], bytes]:
    """How many elements at the front are unchanged; where their leaves end, their soft places and their seal."""
    limit = min(len(values), before.size)
    for index, hole in before._opaque.items():
        if index < limit and (
            hole.element.fingerprint is None
            or types[index] is not before._types[index]
            or codec.encode(values[index]).fingerprint != hole.element.fingerprint
        ):
            limit = index
    masked = leaves
    if before._opaque:
        masked = leaves.copy()
        for hole in before._opaque.values():
            masked[hole.begin : hole.end] = [None] * (hole.end - hole.begin)
    if limit == before.size:
        end = len(leaves) - _width(values[limit:], before._is_chat)
        if _agree(values, types, masked, before, before._leaves, limit, end, before._sealed):
            return limit, end, before._soft.copy(), before._sealed
    ends = [0, *accumulate(_width([value], before._is_chat) for value in values)]
    pristine = _unseal(before._sealed, len(before._soft))
    originals = before._leaves.copy()  # its mutable ones may not be any more what they were
    for place, value in zip(before._soft, pristine, strict=True):
        originals[place] = value
    low, high = 0, limit
    while low < high:  # "the first k are unchanged" holds up to some k
        middle = (low + high + 1) // 2
        soft = bisect_left(before._soft, ends[middle])
        if _agree(values, types, masked, before, originals, middle, ends[middle], _marshal(pristine[:soft])):
            low = middle
        else:
            high = middle - 1
    soft = bisect_left(before._soft, ends[low])
    return low, ends[low], before._soft[:soft], _marshal(pristine[:soft])


def _width(values: Sequence[Any], is_chat: bool) -> int:
    return sum(map(len, map(_fields, values))) if is_chat else len(values)


def _agree(
    values: Sequence[Any],
    types: list[type],
    leaves: list[Any],
    before: Snapshot,
    originals: list[Any],
    size: int,
    end: int,
    sealed: bytes,
) -> bool:
    whole = size == before.size
    if whole and end != len(before._leaves):
        return False
    if types[:size] != (before._types if whole else before._types[:size]):
        return False
    if before._is_chat:
        extras = map(_extra, values[:size])
        if before._opaque:
            if any(extra and index not in before._opaque for index, extra in enumerate(extras)):
                return False
        elif any(extras):
            return False
    try:
        if leaves[:end] != (originals if whole else originals[:end]):
            return False
        soft = before._soft if whole else before._soft[: bisect_left(before._soft, end)]
        return _marshal(_pick(leaves, soft)) == sealed
    except Exception:  # something with an equality of its own (an array), or that cannot be marshalled, came in
        return False


def _seal(snapshot: Snapshot, values: Sequence[Any], start: int, end: int, codec: Codec) -> list[bytes]:
    """Encode the elements from `start` on, whose leaves begin at `end`, and complete the snapshot with them."""
    tail: list[bytes] = []
    leaves, soft = snapshot._leaves, snapshot._soft
    known = len(soft)
    for index in range(start, len(values)):
        value = values[index]
        element = codec.encode(value)
        tail.append(element.data)
        begin, end = end, end + (len(value.__dict__) if snapshot._is_chat else 1)
        if element.is_plain and (not snapshot._is_chat) == (type(value) not in FIELDS):
            soft.extend(i for i in range(begin, end) if leaves[i] is not None and type(leaves[i]) is not str)
        else:
            leaves[begin:end] = [None] * (end - begin)
            snapshot._opaque[index] = _Opaque(begin, end, element)
    snapshot._sealed += _marshal(_pick(leaves, soft[known:]))
    return tail


def _pick(leaves: list[Any], places: Sequence[int]) -> Sequence[Any]:
    if len(places) > 1:
        return itemgetter(*places)(leaves)  # type: ignore[no-any-return]
    return [leaves[i] for i in places]


def _marshal(values: Sequence[Any]) -> bytes:
    return marshal.dumps(values if isinstance(values, list) else list(values), _MARSHAL)[_HEADER:]


def _unseal(sealed: bytes, count: int) -> list[Any]:
    return marshal.loads(b"[" + count.to_bytes(4, "little") + sealed)  # type: ignore[no-any-return]
