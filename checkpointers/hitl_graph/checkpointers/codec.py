"""How values become bytes: plain data and chat messages directly, everything else by the serializer.

An *element* is one of

    [1, data]              JSON-like data: str, int, float, bool, None, bytes, list, dict with str keys
    ["AIMessage", fields]  a chat message whose fields are plain, as its `__dict__`
    [2, bytes]             lists and dicts with such messages inside
    [0, type, bytes]       what the serializer made of anything else

in msgpack. Directly restored messages are equal to what the serializer gives, at a tenth of the time: no validation
of what was valid when it was stored. With a serializer of the user's own (encryption) everything takes the third form.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import ormsgpack
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

__all__ = ["DELTA", "DICT", "FIELDS", "PLAIN", "Codec", "Element", "array", "restore", "skeleton_channels"]

_CLASSES: dict[str, type[BaseMessage]] = {
    cls.__name__: cls
    for cls in (AIMessage, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage)
}
_NAMES = {cls: name for name, cls in _CLASSES.items()}

FIELDS: dict[type, list[str]] = {cls: list(cls.model_fields) for cls in _NAMES}
"""The message classes that are stored directly, and their fields in order."""

# Without a `default`, and with everything exotic passed on to it, packb refuses whatever is not exactly plain data.
_EXACT = (
    ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_FINGERPRINTS = JsonPlusSerializer()
_ELSEWHERE = b"\xc0"  # nil

# How a stored list becomes the value of a channel, where it is not the value itself.
PLAIN, DICT, DELTA = 0, 1, 2
"""DICT: a list of keys and values. DELTA: inside of LangGraph's snapshot of a delta channel. Both: 3."""

# The slots of a model, past its own __setattr__: half of the time of `object.__setattr__` with a name.
_ALL_SET = {cls: set(names) for cls, names in FIELDS.items()}
_set_dict = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


class Element(NamedTuple):
    """One encoded value."""

    data: bytes
    """What to store."""
    fingerprint: bytes | None
    """Equal for equal values; None: not to be told, take it as changed."""
    is_plain: bool
    """Whether the value is plain data or a message of plain fields."""


_DECODED = Element(b"", None, True)  # of a plain value nothing else is asked


class Codec:
    """Encodes and decodes with one serializer."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = serde
        self._is_direct = type(serde) is JsonPlusSerializer and not getattr(serde, "_custom_unpack_ext_hook", False)

    def encode(self, value: Any) -> Element:
        """Encode one value.

        Raises:
            TypeError: The serializer refuses it.
        """
        plain = _plain(value)
        if plain is not None and self._is_direct:
            return Element(plain, plain, True)
        if plain is None and self._is_direct and type(value) in (list, dict):
            nested = _nested(value)
            if nested is not None:
                return Element(nested, nested, False)
        kind, data = self.serde.dumps_typed(value)
        opaque = ormsgpack.packb([0, kind, data])
        if plain is not None:
            return Element(opaque, plain, True)
        return Element(opaque, opaque if self._is_direct else _fingerprint(value), False)

    def decode(self, element: Sequence[Any]) -> Any:
        """Decode one unpacked element into a fresh object."""
        kind = element[0]
        if kind == 1:
            return element[1]
        if kind == 0:
            return self.serde.loads_typed((element[1], element[2]))
        if kind == 2:
            return ormsgpack.unpackb(element[1], ext_hook=_restore_nested)
        return restore(_CLASSES[kind], element[1])

    def encoded(self, value: Any, element: Sequence[Any]) -> Element:
        """The encoding of a value that was just decoded from this unpacked element."""
        if self._is_direct and element[0] != 0 and element[0] != 2:
            return _DECODED
        return self.encode(value)

    def decode_all(self, data: bytes) -> list[Any]:
        """Decode an array of elements."""
        return [self.decode(element) for element in ormsgpack.unpackb(data)]

    def pack_skeleton(
        self, rest: dict[str, Any], channels: Iterable[str], inline: dict[str, bytes], forms: dict[str, int]
    ) -> bytes:
        """Encode what a checkpoint has in its own row: all but the values, and small values, encoded already."""
        parts = [self.encode(rest).data]
        for channel in channels:  # all of them, for their order
            here = inline.get(channel)
            if here is None:
                here = bytes((forms[channel],)) if channel in forms else _ELSEWHERE
            parts += ormsgpack.packb(channel), here
        return array(len(parts), b"".join(parts))

    def unpack_skeleton(self, data: bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
        """Decode what `pack_skeleton` made: all but the values, the values (None for those elsewhere), the forms."""
        rest, *pairs = ormsgpack.unpackb(data)
        forms = {channel: form for channel, form in zip(pairs[::2], pairs[1::2], strict=True) if type(form) is int}
        values = zip(pairs[::2], pairs[1::2], strict=True)
        return (
            self.decode(rest),
            {c: self.decode(element) if type(element) is list else None for c, element in values},
            forms,
        )


def skeleton_channels(data: bytes) -> set[str]:
    """The channels that have a value in a checkpoint."""
    return set(ormsgpack.unpackb(data)[1::2])


def restore(cls: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    """A message with exactly these fields, as unpickling would make it."""
    if list(fields) != FIELDS[cls]:
        return _of_another_version(cls, fields)
    message = object.__new__(cls)
    _set_dict(message, fields)
    _set_fields_set(message, _ALL_SET[cls].copy())
    _set_extra(message, {})
    _set_private(message, None)
    return message


def array(count: int, elements: bytes) -> bytes:
    """The msgpack array of `count` elements that were encoded one by one."""
    if count < 16:
        return bytes((0x90 | count,)) + elements
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2) + elements
    return b"\xdd" + count.to_bytes(4) + elements


def _plain(value: Any) -> bytes | None:
    name = _NAMES.get(type(value))
    try:
        if name is None:
            return ormsgpack.packb([1, value], option=_EXACT)
        fields = value.__dict__
        if value.__pydantic_extra__ or list(fields) != FIELDS[type(value)]:
            return None
        return ormsgpack.packb([name, fields], option=_EXACT)
    except (ormsgpack.MsgpackEncodeError, AttributeError):
        return None


def _nested(value: Any) -> bytes | None:
    try:
        return ormsgpack.packb([2, ormsgpack.packb(value, _pack_nested, option=_EXACT)])
    except ormsgpack.MsgpackEncodeError:
        return None


def _pack_nested(value: Any) -> ormsgpack.Ext:
    message = _plain(value) if type(value) in _NAMES else None
    if message is None:
        raise TypeError
    return ormsgpack.Ext(1, message)


def _restore_nested(code: int, data: bytes) -> BaseMessage:
    name, fields = ormsgpack.unpackb(data)
    return restore(_CLASSES[name], fields)


def _fingerprint(value: Any) -> bytes | None:
    try:
        kind, data = _FINGERPRINTS.dumps_typed(value)
    except Exception:
        return None
    return kind.encode() + b":" + data


def _of_another_version(cls: type[BaseMessage], fields: dict[str, Any]) -> BaseMessage:
    try:
        return cls(**fields)
    except ValueError:
        return cls.model_construct(**fields)
