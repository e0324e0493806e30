"""Check plain JSON against the JSON Schema of a tool's arguments.

Pydantic makes such schemas and does not read them; this turns the part that tools use into pydantic types,
so that an edit can be checked where the tool itself is not at hand (another process, another machine).
Text that stands for a number or a truth value becomes one, as the clients that edit in text fields need.
A keyword that is not understood here is left to the tool, which checks again before it runs.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic_core import SchemaError

__all__ = ["SchemaMismatch", "alike", "check"]

_PLAIN: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_LIMITS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}


class SchemaMismatch(ValueError):
    """The value does not fit; one line a problem.

    Attributes:
        problems: Each as where (names and positions) and what.
    """

    def __init__(self, problems: Sequence[tuple[tuple[str, ...], str]]) -> None:
        self.problems = tuple(problems)
        lines = [f"{'.'.join(where) or 'answer'}: {what}" for where, what in self.problems]
        super().__init__("; ".join(dict.fromkeys(lines)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


def check(schema: dict[str, Any], value: JsonValue) -> Any:
    """The value with the schema's types.

    Raises:
        SchemaMismatch: It does not fit. An object takes no properties that the schema does not name.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(_type(schema, schema, ()))
    try:
        fitted = adapter.validate_python(value)
    except ValidationError as exc:
        found = exc.errors(include_url=False)
        raise SchemaMismatch([(tuple(map(str, one["loc"])), one["msg"]) for one in found]) from exc
    return adapter.dump_python(fitted, mode="json", by_alias=True, exclude_unset=True)


def alike(one: Any, other: Any) -> bool:
    """Whether two schemas take the same values: titles, descriptions and examples do not count."""
    return bool(_bare(one) == _bare(other))


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _bare(sub) for name, sub in value.items()} if key in ("properties", "$defs") else _bare(value)
        for key, value in schema.items()
        if key not in ("title", "description", "examples")
    }


def _type(schema: Any, root: dict[str, Any], seen: tuple[str, ...]) -> Any:
    if not isinstance(schema, dict):
        return Any
    if isinstance(ref := schema.get("$ref"), str):
        if ref in seen:  # a recursive type is checked one level deep
            return Any
        target: Any = root
        for part in ref.removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return _type(target, root, (*seen, ref))
    if "const" in schema:
        return _one_of([schema["const"]])
    if isinstance(schema.get("enum"), list):
        return _one_of(schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return _union([_type(option, root, seen) for option in options])
    if isinstance(kinds := schema.get("type"), list):
        return _union([_type({**schema, "type": kind}, root, seen) for kind in kinds])
    if kinds == "object" or isinstance(schema.get("properties"), dict):
        return _object(schema, root, seen)
    limits = {ours: schema[theirs] for theirs, ours in _LIMITS.items() if theirs in schema}
    if kinds == "array":
        plain: Any = list[_type(schema.get("items"), root, seen)]  # type: ignore[misc]
    elif isinstance(kinds, str) and kinds in _PLAIN:
        plain = _PLAIN[kinds]
        if kinds == "string" and isinstance(schema.get("pattern"), str):
            limits["pattern"] = schema["pattern"]
    else:
        return Any
    return _limited(plain, limits) if limits and plain is not None else plain


def _limited(plain: Any, limits: dict[str, Any]) -> Any:
    try:
        limited: Any = Annotated[plain, Field(**limits)]
        TypeAdapter(limited)
    except (TypeError, ValueError, PydanticUserError, SchemaError):  # a minimum for text, a pattern that is none ...
        return plain
    return limited


def _object(schema: dict[str, Any], root: dict[str, Any], seen: tuple[str, ...]) -> Any:
    extra = schema.get("additionalProperties")
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return dict[str, _type(extra, root, seen)] if isinstance(extra, dict) else dict[str, Any]  # type: ignore[misc]
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    fields: dict[str, Any] = {  # aliases, because a property may have a name that Python or pydantic keeps for itself
        f"p{i}": (
            _type(sub, root, seen),
            Field(alias=name) if name in required else Field(default=None, alias=name),
        )
        for i, (name, sub) in enumerate(properties.items())
    }
    return create_model("Arguments", __base__=_Open if extra is True else _Closed, **fields)


def _union(types: list[Any]) -> Any:
    return Union[tuple(types)] if types and Any not in types else Any  # noqa: UP007 - None | None is no type


def _one_of(values: list[Any]) -> Any:
    if values and all(isinstance(v, str | int | bool | None) for v in values):
        return Literal[tuple(values)]
    return Any
