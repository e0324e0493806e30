"""Lists that grow: what of a list was stored before, and what has to be stored now.

A list is stored as *the first `keep` elements of an older list, and a tail*. To find `keep`, a `Snapshot` remembers
what the older list looked like when it was stored. Anything may have been mutated in place since, so that identity of
the messages proves nothing. What proves it is one comparison of two lists in C: the fields of all messages with copies
of them whose containers are our own. It is quick because the strings in both are the same objects. What is no plain
data (see `codec`) is encoded again, one by one.

Python takes 1, 1.0 and True for equal; an action does not. Where there are numbers, what is equal is marshalled too and
compared as bytes, except in the fields where models report on themselves. The order of the keys of a dict does not
count.

No I/O here.
"""

import marshal
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from hitl_graph.checkpointers.codec import FIELDS, Codec, Element, restore

__all__ = ["Change", "Link", "Snapshot", "compare", "fresh", "has_numbers", "own", "recalled"]

Link = tuple[int, int]
"""One stored segment of a list: its id, and the index of the first element in it."""

_CONTAINERS = frozenset((dict, list))
_NUMBERS = frozenset((int, float, bool))
_REPORTS = frozenset(("usage_metadata", "response_metadata"))
_MUTABLE = {
    cls: [name for name in names if name not in ("type", "name", "id", "tool_call_id", "status")]
    for cls, names in FIELDS.items()
}
_EMPTY: dict[type, Any] = {dict: {}, list: []}  # stand for empty ones in snapshots; nobody else gets hold of them
_MARSHAL = 2  # a format without references: it depends on values and types alone
_fields = attrgetter("__dict__")
_extra = attrgetter("__pydantic_extra__")


class Snapshot:
    """What a list looked like when it was stored. Only ever added to, as a list of the same elements and more is made.

    Attributes:
        size: Number of elements.
        links: The stored segments that it is made of, oldest first; empty while nothing is stored.
    """

    __slots__ = ("_is_chat", "_numbers", "_opaque", "_rows", "_types", "links", "size")

    def __init__(self, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._types: list[type] = []
        self._rows: list[Any] = []  # copies of the fields of messages, or of the elements; None for opaque ones
        self._opaque: dict[int, Element] = {}  # by index, what is no plain data
        self._numbers: list[tuple[int, str]] = []  # where numbers are: index, and field of a message
        self.links: tuple[Link, ...] = ()
        self.size = 0

    def first(self, size: int) -> "Snapshot":
        """Of the first elements only, without links."""
        part = Snapshot(self._is_chat)
        part._types = self._types[:size]
        part._rows = self._rows[:size]
        part._opaque = {index: element for index, element in self._opaque.items() if index < size}
        part._numbers = self._numbers[: bisect_left(self._numbers, (size, ""))]
        part.size = size
        return part

    def add(self, value: Any, element: Element) -> None:
        """One more element, as it was encoded."""
        self._types.append(type(value))
        if not element.is_plain or self._is_chat != (type(value) in FIELDS):
            self._opaque[self.size] = element
            self._rows.append(None)
        elif self._is_chat:
            row = value.__dict__.copy()
            for name, item in row.items():
                if type(item) in _CONTAINERS:
                    row[name] = own(item) if item else _EMPTY[type(item)]
            self._rows.append(row)
            for name, item in value.__dict__.items():
                if type(item) is not str and name not in _REPORTS and has_numbers(item):
                    self._numbers.append((self.size, name))
        else:
            self._rows.append(own(value))
            if has_numbers(value):
                self._numbers.append((self.size, ""))
        self.size += 1

    def _numbers_in(self, rows: list[Any], start: int, end: int) -> bytes:
        """The values with numbers, of rows of which the first one has the index `start`."""
        found = self._numbers[bisect_left(self._numbers, (start, "")) : bisect_left(self._numbers, (end, ""))]
        if self._is_chat:
            return marshal.dumps([rows[index - start][name] for index, name in found], _MARSHAL)
        return marshal.dumps([rows[index - start] for index, _ in found], _MARSHAL)


class Change(NamedTuple):
    """What to store of a list, or of a dict (see `mappings`).

    Attributes:
        keep: How many elements are as they were.
        tail: The others, encoded.
        snapshot: What to compare the next one with, without links.
    """

    keep: int
    tail: list[bytes]
    snapshot: Any


def compare(values: Sequence[Any], before: Snapshot | None, codec: Codec) -> Change:
    """Compare a list with an older state of it.

    Args:
        values: The list.
        before: The older state; None if there is none.
        codec: Encodes what has to be stored.
    """
    types = list(map(type, values))
    is_chat = _is_chat(types)
    keep = 0
    if before is not None and before._is_chat == is_chat:
        keep = _same(values, types, before, codec)
    snapshot = before.first(keep) if keep and before is not None else Snapshot(is_chat)
    tail = []
    for value in values[keep:]:
        element = codec.encode(value)
        tail.append(element.data)
        snapshot.add(value, element)
    return Change(keep, tail, snapshot)


def recalled(values: Sequence[Any], elements: Sequence[Any], codec: Codec) -> Snapshot:
    """The snapshot of a list that was just decoded from these unpacked elements, without links."""
    snapshot = Snapshot(_is_chat(list(map(type, values))))
    for value, element in zip(values, elements, strict=True):
        snapshot.add(value, codec.encoded(value, element))
    return snapshot


def fresh(snapshot: Snapshot, codec: Codec) -> list[Any]:
    """Build the list again, of new objects, without going to the database."""
    rows: list[Any]
    if snapshot._is_chat:
        rows = [row and _message(cls, row) for cls, row in zip(snapshot._types, snapshot._rows, strict=True)]
    else:
        rows = list(map(own, snapshot._rows))
    for index, element in snapshot._opaque.items():
        [rows[index]] = codec.decode_all(b"\x91" + element.data)
    return rows


def _message(cls: type[Any], row: dict[str, Any]) -> BaseMessage:
    fields = row.copy()
    for name in _MUTABLE[cls]:
        item = fields[name]
        if type(item) in _CONTAINERS:
            fields[name] = own(item) if item else item.copy()
    return restore(cls, fields)


def _is_chat(types: list[type]) -> bool:
    return all(issubclass(cls, BaseMessage) for cls in set(types))


def _same(values: Sequence[Any], types: list[type], before: Snapshot, codec: Codec) -> int:
    """How many elements at the front are unchanged."""
    limit = min(len(values), before.size)
    for index, element in before._opaque.items():
        if index < limit and (
            element.fingerprint is None
            or types[index] is not before._types[index]
            or codec.encode(values[index]).fingerprint != element.fingerprint
        ):
            limit = index
    if _agree(values, types, before, 0, limit):
        return limit
    low, high = 0, limit  # those below `low` are unchanged, one below `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        if _agree(values, types, before, low, middle):
            low = middle
        else:
            high = middle
    return low


def _agree(values: Sequence[Any], types: list[type], before: Snapshot, start: int, end: int) -> bool:
    if types[start:end] != before._types[start:end]:
        return False
    some = values[start:end]
    rows = list(map(_fields, some)) if before._is_chat else list(some)
    extras = list(map(_extra, some)) if before._is_chat else []
    for index in before._opaque:
        if start <= index < end:
            rows[index - start] = None  # they were looked at one by one
            extras[index - start : index - start + 1] = [None]
    then = before._rows[start:end]
    try:
        if rows != then or any(extras):
            return False
        return not before._numbers or before._numbers_in(rows, start, end) == before._numbers_in(then, start, end)
    except Exception:  # something with an equality of its own, such as an array, came in
        return False


def own(value: Any) -> Any:
    """A copy with containers of its own, of plain data."""
    if type(value) is dict:
        copy = value.copy()  # half of the time of building a new one
        for key, item in value.items():
            if type(item) is dict or type(item) is list:
                copy[key] = own(item)
        return copy
    if type(value) is list:
        return [own(item) if type(item) is dict or type(item) is list else item for item in value]
    return value


def has_numbers(value: Any) -> bool:
    """Whether a number is anywhere in plain data."""
    cls = type(value)
    if cls is dict:
        return any(type(item) is not str and has_numbers(item) for item in value.values())
    if cls is list:
        return any(type(item) is not str and has_numbers(item) for item in value)
    return cls in _NUMBERS
