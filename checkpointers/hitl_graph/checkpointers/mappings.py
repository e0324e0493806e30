"""Dicts of which a step changes a few entries: what of a dict was stored before, and what has to be stored now.

A dict is stored as a list, `key, value, key, value ...`, to which a step appends the entries that it changed. When keys
go or change their order, or the list has become much longer than the dict, it begins anew. No I/O here.
"""

import marshal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hitl_graph.checkpointers.codec import FIELDS, Codec, Element
from hitl_graph.checkpointers.history import Change, Link, has_numbers, own

__all__ = ["Entries", "compare_entries", "fresh_entries", "from_pairs", "recalled_entries"]

_LONGEST = 4  # times as many elements as the dict has
_SPARE = 64


class Entries:
    """What a dict looked like when it was stored.

    Attributes:
        size: Number of stored elements: two for each change of an entry.
        links: The stored segments that it is made of, oldest first; empty while nothing is stored.
    """

    __slots__ = ("_opaque", "_plain", "keys", "links", "size")

    def __init__(self, keys: Sequence[Any], size: int) -> None:
        self.keys = keys
        self.size = size
        self.links: tuple[Link, ...] = ()
        self._plain: dict[Any, Any] = {}
        self._opaque: dict[Any, Element] = {}  # what is no plain data, or is a message

    def set(self, key: Any, value: Any, element: Element) -> None:
        """Remember an entry as it was encoded."""
        if element.is_plain and type(value) not in FIELDS:
            self._plain[key] = own(value)
            self._opaque.pop(key, None)
        else:
            self._opaque[key] = element
            self._plain.pop(key, None)

    def changed(self, values: Mapping[Any, Any], codec: Codec) -> list[Any]:
        """The keys whose values are others than they were."""
        return [key for key, value in values.items() if not self._has(key, value, codec)]

    def _has(self, key: Any, value: Any, codec: Codec) -> bool:
        element = self._opaque.get(key)
        if element is not None:
            return element.fingerprint is not None and codec.encode(value).fingerprint == element.fingerprint
        try:
            then = self._plain[key]
            if type(value) is not type(then) or value != then:
                return False
            return not has_numbers(then) or marshal.dumps(value, 2) == marshal.dumps(then, 2)
        except Exception:  # it is new, or something with an equality of its own came in
            return False


def compare_entries(values: dict[Any, Any], before: Entries | None, codec: Codec) -> Change:
    """Compare a dict with an older state of it; `keep` and `tail` of the answer count and hold keys and values."""
    keys = list(values)
    changed = keys
    if before is not None and keys[: len(before.keys)] == before.keys:
        changed = before.changed(values, codec)
        if before.size + 2 * len(changed) > _LONGEST * 2 * len(keys) + _SPARE:
            before, changed = None, keys
    else:
        before = None
    keep = before.size if before is not None else 0
    entries = Entries(keys, keep + 2 * len(changed))
    if before is not None:
        entries._plain, entries._opaque = before._plain.copy(), before._opaque.copy()
    tail: list[bytes] = []
    for key in changed:
        element = codec.encode(values[key])
        tail += codec.encode(key).data, element.data
        entries.set(key, values[key], element)
    return Change(keep, tail, entries)


def from_pairs(decoded: Iterable[Any]) -> dict[Any, Any]:
    """The dict that a list of keys and values stands for."""
    each = iter(decoded)
    return dict(zip(each, each, strict=True))


def recalled_entries(values: dict[Any, Any], keys: Sequence[Any], elements: Sequence[Any], codec: Codec) -> Entries:
    """The state of a dict that was just decoded from these unpacked elements, of which every second is a key."""
    entries = Entries(list(values), len(elements))
    last = dict(zip(keys, elements[1::2], strict=True))
    for key, value in values.items():
        entries.set(key, value, codec.encoded(value, last[key]))
    return entries


def fresh_entries(entries: Entries, codec: Codec) -> dict[Any, Any]:
    """Build the dict again, of new objects, without going to the database."""
    return {
        key: codec.decode_all(b"\x91" + entries._opaque[key].data)[0]
        if key in entries._opaque
        else own(entries._plain[key])
        for key in entries.keys
    }
