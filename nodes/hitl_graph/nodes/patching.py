"""What of a graph's state a person may change, which types it has, and how a patch becomes an update.

A node is not told its graph's schema, but the channels behind its reader carry the types. Where a type has no JSON
Schema, or LangGraph tells nothing, the key cannot be changed.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NotRequired, Required, get_args, get_origin

from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels import LastValue
from langgraph.channels.base import BaseChannel
from pydantic import JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import ReadOnly

from hitl_graph.model import canonical

__all__ = ["Patchable", "channels_of", "read"]

_READ = "__pregel_read"  # langgraph._internal._constants; ToolNode reads through it, too
_OURS = ("__", "branch:", "join:")  # LangGraph's own channels
_OVERWRITE = "__overwrite__"
_LONGEST = 2_000
_MESSAGES: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": ["user", "assistant", "system", "tool"]},
            "content": {"type": "string"},
            "tool_call_id": {"type": "string"},
            "name": {"type": "string"},
            "id": {"type": "string"},
        },
        "required": ["role", "content"],
    },
}


class _Quiet(GenerateJsonSchema):
    """Leaves out a default that is no JSON without a word: a patch has no defaults."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


def channels_of(config: RunnableConfig) -> Mapping[str, BaseChannel[Any, Any, Any]]:
    """The channels of the running graph; empty if LangGraph does not tell."""
    read = config.get("configurable", {}).get(_READ)
    arguments = read.args if isinstance(read, partial) else ()
    found = arguments[1] if len(arguments) > 1 else None
    return found if isinstance(found, Mapping) else {}


def read(config: RunnableConfig, keys: str | list[str]) -> Any:
    """What keys of the state hold; of several, those that hold anything."""
    return config.get("configurable", {})[_READ](keys, False)


@dataclass(frozen=True)
class Patchable:
    """The keys that may be changed, each with its type.

    Attributes:
        types: None for a list of messages.
        adds: Keys with a reducer: what is given is added in its way, not put in place of what is there.
    """

    types: Mapping[str, TypeAdapter[Any] | None]
    adds: tuple[str, ...]

    @classmethod
    def of(cls, config: RunnableConfig, only: Collection[str] | None) -> "Patchable":
        """What LangGraph tells of the running graph; of it the keys in `only`, or all."""
        types: dict[str, TypeAdapter[Any] | None] = {}
        adds: list[str] = []
        for name, channel in channels_of(config).items():
            if name.startswith(_OURS) or (only is not None and name not in only):
                continue
            try:
                hint = _bare(channel.UpdateType)
                types[name] = None if _is_messages(hint) else _adapter(hint)
            except (PydanticUserError, TypeError, NameError):  # no type of which pydantic can make a schema
                continue
            if not isinstance(channel, LastValue):
                adds.append(name)
        return cls(types, tuple(adds))

    def without(self, name: str) -> "Patchable":
        """The same, but for one key."""
        types = {key: adapter for key, adapter in self.types.items() if key != name}
        return Patchable(types, tuple(key for key in self.adds if key != name))

    def schema(self) -> dict[str, Any]:
        """JSON Schema of a patch: any of the keys, no others."""
        adapters = [(name, "validation", adapter) for name, adapter in self.types.items() if adapter is not None]
        schemas, shared = TypeAdapter.json_schemas(adapters, schema_generator=_Quiet) if adapters else ({}, {})  # type: ignore[arg-type]
        properties = {
            name: _MESSAGES if adapter is None else schemas[name, "validation"] for name, adapter in self.types.items()
        }
        whole = {"type": "object", "properties": properties, "additionalProperties": False, **shared}
        return json.loads(canonical(whole))  # type: ignore[no-any-return]

    def values(self, config: RunnableConfig) -> dict[str, JsonValue]:
        """What the keys that a patch replaces hold now: what is JSON and not long."""
        names = [name for name, adapter in self.types.items() if adapter is not None and name not in self.adds]
        held = read(config, names) if names else {}
        shown: dict[str, JsonValue] = {}
        for name in names:
            adapter = self.types[name]
            if name in held and adapter is not None:
                try:
                    text = canonical(adapter.dump_python(held[name], mode="json", warnings=False))
                except (TypeError, ValueError):
                    continue
                if len(text) <= _LONGEST:
                    shown[name] = json.loads(text)
        return shown

    def update(self, patch: Mapping[str, JsonValue]) -> dict[str, Any]:
        """The patch with the state's own types.

        Raises:
            ValueError: A key that is none, or a value that the type itself refuses.
        """
        typed: dict[str, Any] = {}
        for name, value in patch.items():
            if name not in self.types:
                raise ValueError(f"there is no key {name!r} to change; there are {', '.join(self.types) or 'none'}")
            if isinstance(value, dict) and (_OVERWRITE in value or value.get("type") == _OVERWRITE):
                raise ValueError(f"{name}: {_OVERWRITE} is LangGraph's own")
            adapter = self.types[name]
            try:
                typed[name] = (
                    convert_to_messages(value) if adapter is None else adapter.validate_json(json.dumps(value))  # type: ignore[arg-type]
                )
            except ValidationError as exc:
                first = exc.errors(include_url=False)[0]
                raise ValueError(f"{'.'.join(map(str, (name, *first['loc'])))}: {first['msg']}") from exc
            except (ValueError, TypeError, LookupError, NotImplementedError) as exc:
                raise ValueError(f"{name}: {exc!r:.200}") from exc
        return typed


def _adapter(hint: Any) -> TypeAdapter[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    canonical(adapter.json_schema(schema_generator=_Quiet))  # raises where there is none
    return adapter


def _bare(hint: Any) -> Any:
    while get_origin(hint) in (Required, NotRequired, ReadOnly):
        [hint] = get_args(hint)
    return hint


def _is_messages(hint: Any) -> bool:
    """Whether a type is a list of LangChain's messages, however it is written."""
    if isinstance(hint, type) and not get_args(hint):
        return issubclass(hint, BaseMessage)
    return any(_is_messages(part) for part in get_args(hint))
