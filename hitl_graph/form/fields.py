"""From a schema and a value to fields, and how each value looks as a text."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, cast
from urllib.parse import quote

from hitl_graph.visible import hides

__all__ = ["MISSING", "Field", "Option", "Presence", "differ", "fields_of"]

Widget = Literal["text", "lines", "number", "choice", "date", "list", "json"]
Presence = Literal["given", "null", "missing"]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Any = _Missing()
"""In place of a value: there is none, not even null."""

_DEEP = 3  # objects in objects in objects are fields; what is in those is JSON
_LONG = 60  # a text longer than this gets room for several lines
_HINTS = {"email": "email", "idn-email": "email", "uri": "url", "uri-reference": "url", "url": "url"}


@dataclass(frozen=True)
class Option:
    """One value to choose: `text` is what is sent, `label` what is read."""

    text: str
    label: str


@dataclass(frozen=True)
class Field:
    """One value of a form.

    Attributes:
        key: Its name in what is submitted: where the value stands, as a JSON pointer (percent-encoded); "" is all.
        path: The same as names.
        label, help: Title and description of the schema.
        widget: `text`, `lines` (a text of several lines), `number`, `choice`, `date`, `list` (one item a line), `json`.
        kind: The JSON type in words, such as `integer`, `list of string`.
        text: What stands in it; for a choice one of the options.
        value: What it stands for; `MISSING` where there is none.
        presence: Whether there is a value now.
        presences: What may be chosen; just one: there is no choice.
        locked: It may not be changed, and what is submitted for it does not count.
        hint: Which keyboard a phone should show: `numeric`, `decimal`, `email`, `url` or nothing.
        limits: Keywords of the schema that limit the value.
        options: Of a choice: its values. Of a list: those that it takes, if it takes no others.
        suggested: Of a text or a list: values that the schema suggests (`examples`); others are welcome.
    """

    key: str
    path: tuple[str, ...]
    label: str
    help: str
    widget: Widget
    kind: str
    text: str
    value: Any
    required: bool
    presence: Presence
    presences: tuple[Presence, ...]
    locked: bool = False
    options: tuple[Option, ...] = ()
    default: str = ""
    hint: str = ""
    limits: tuple[tuple[str, Any], ...] = ()
    item: str = ""
    """Of a list: the JSON type of its items."""
    suggested: tuple[str, ...] = ()

    @property
    def presence_key(self) -> str:
        """The name under which is submitted whether there is a value."""
        return f"{self.key}?"


def fields_of(
    schema: Any, root: Mapping[str, Any], value: Any, path: tuple[str, ...], required: bool, seen: tuple[str, ...]
) -> Iterator[Field]:
    """The fields of a value at a place.

    Args:
        root: The schema in which references are looked up.
        seen: References that were followed to here.
    """
    plain, nullable, met = _resolved(schema, root, seen)
    known = plain.get("properties")
    parts = known if isinstance(known, dict) else {}
    is_object = isinstance(value, dict) or (value is MISSING and required and bool(parts))
    if is_object and len(path) < _DEEP and (parts or not path) and (value or parts):
        needed = plain.get("required") if isinstance(plain.get("required"), list) else []
        given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        order = dict.fromkeys((*(n for n in needed or () if n in parts), *given, *parts))
        for name in order:
            yield from fields_of(
                parts.get(name), root, given.get(name, MISSING), (*path, name), name in (needed or ()), met
            )
        return
    yield _field(plain, value, path, required, nullable or value is None)


def _resolved(
    schema: Any, root: Mapping[str, Any], seen: tuple[str, ...]
) -> tuple[dict[str, Any], bool, tuple[str, ...]]:
    """The schema behind references and without null; whether null is taken; which references were followed."""
    plain: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
    nullable = False
    for _ in range(20):
        if isinstance(ref := plain.get("$ref"), str):
            if ref in seen:
                return {}, nullable, seen
            seen, target = (*seen, ref), cast(Any, root)
            for part in ref.removeprefix("#/").split("/") if ref != "#" else ():
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
            around = {name: said for name, said in plain.items() if name != "$ref"}
            plain = {**(target if isinstance(target, Mapping) else {}), **around}
            continue
        branches = plain.get("anyOf") or plain.get("oneOf")
        if isinstance(branches, list):
            others = [b for b in branches if not (isinstance(b, Mapping) and b.get("type") == "null")]
            nullable = nullable or len(others) < len(branches)
            if len(others) != 1 or not isinstance(others[0], Mapping):
                return plain, nullable, seen
            around = {name: said for name, said in plain.items() if name not in ("anyOf", "oneOf")}
            plain = {**others[0], **around}
            continue
        if isinstance(kinds := plain.get("type"), list) and "null" in kinds:
            rest = [one for one in kinds if one != "null"]
            nullable, plain = True, {**plain, "type": rest[0] if len(rest) == 1 else rest}
            continue
        break
    return plain, nullable, seen


def _field(schema: dict[str, Any], value: Any, path: tuple[str, ...], required: bool, nullable: bool) -> Field:
    kind = _kind(schema, value)
    options = _options(schema, kind, value)
    widget = _widget(schema, kind, value, options)
    item = _item(schema, value) if widget == "list" else ""
    if item == "string":
        options = _options(cast("dict[str, Any]", schema.get("items") or {}), "string", MISSING)
    presence: Presence = "null" if value is None else "given"
    if value is MISSING and not required:
        presence = "missing"
    takes: tuple[Presence, ...] = ("given", *(("null",) if nullable else ()), *(() if required else ("missing",)))
    limits = tuple((name, schema[name]) for name in _LIMITS if name in schema)
    default = json.dumps(schema["default"], ensure_ascii=False) if schema.get("default") is not None else ""
    hint = {"integer": "numeric", "number": "decimal"}.get(kind, _HINTS.get(str(schema.get("format")), ""))
    return Field(
        key="".join(f"/{_pointer(name)}" for name in path),
        path=path,
        label=str(schema.get("title") or "") if not path else path[-1],
        help=str(schema.get("description") or ""),
        widget=widget,
        kind=f"list of {item}" if item else kind,
        text=_text(widget, value),
        value=value,
        required=required,
        presence=presence,
        presences=takes,
        options=options,
        default=default,
        hint=hint if widget in ("text", "number") else "",
        limits=limits,
        item=item,
        suggested=() if options else _suggested(schema, widget, item),
    )


_LIMITS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "format",
)  # fmt: skip


def _pointer(name: str) -> str:
    return quote(name.replace("~", "~0").replace("/", "~1"), safe=" ~-_.", errors="surrogatepass")


def _kind(schema: dict[str, Any], value: Any) -> str:
    """The one JSON type that it takes, else `anything`; where no schema says so, that of the value."""
    kind = schema.get("type")
    if kind is None and ("enum" in schema or "const" in schema):
        return "choice"
    if isinstance(kind, str):
        return kind
    if schema.keys() & {"anyOf", "oneOf", "allOf", "type", "properties"}:
        return "anything"
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "anything"


def _options(schema: dict[str, Any], kind: str, value: Any) -> tuple[Option, ...]:
    values: list[Any] = []
    if isinstance(schema.get("enum"), list):
        values = [one for one in schema["enum"] if one is not None]
    elif "const" in schema:
        values = [schema["const"]]
    elif kind == "boolean":
        values = [True, False]
    if not values:
        return ()
    if value is not MISSING and value is not None and not any(not differ(value, one) for one in values):
        values = [*values, value]  # what the agent proposes stays to be seen, even if it is none of them
    return tuple(Option(_json(one), _named(one)) for one in values)


def _suggested(schema: dict[str, Any], widget: Widget, item: str) -> tuple[str, ...]:
    told = schema if widget == "text" else cast("dict[str, Any]", schema.get("items") or {}) if item == "string" else {}
    examples = told.get("examples")
    return tuple(one for one in examples if isinstance(one, str) and one) if isinstance(examples, list) else ()


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) and value and not any(map(hides, value)) else _json(value)


def _widget(schema: dict[str, Any], kind: str, value: Any, options: tuple[Option, ...]) -> Widget:
    if options:
        return "choice"
    there = value is not MISSING and value is not None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("integer", "number") and (is_number or not there):
        return "number"
    if kind == "string" and (isinstance(value, str) or not there):
        return _text_widget(schema, value if isinstance(value, str) else "", there)
    if kind == "array" and _item(schema, value) and (there or "items" in schema):
        items: list[Any] = value if isinstance(value, list) else []
        as_lines = not any(isinstance(i, str) and (not i or i != i.strip() or any(map(hides, i))) for i in items)
        return "list" if as_lines else "json"
    return "json"


def _text_widget(schema: dict[str, Any], text: str, there: bool) -> Widget:
    if any(hides(c) for c in text if c not in "\n\t"):
        return "json"
    if schema.get("format") == "date" and (not there or _is_date(text)):
        return "date"
    return "lines" if "\n" in text or len(text) > _LONG else "text"


def _item(schema: dict[str, Any], value: Any) -> str:
    """The one scalar type of a list's items; empty where there is none."""
    items = schema.get("items")
    kind = items.get("type") if isinstance(items, dict) else None
    found = value if isinstance(value, list) else []
    types = {"string": str, "integer": int, "number": (int, float)}
    if kind is None and items is None and found and all(isinstance(one, str) for one in found):
        return "string"
    if not isinstance(kind, str) or kind not in types:
        return ""
    fit = all(isinstance(one, types[kind]) and not isinstance(one, bool) for one in found)  # type: ignore[arg-type]
    return kind if fit else ""


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _text(widget: Widget, value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    if widget in ("text", "lines", "date"):
        return str(value)
    if widget == "list":
        return "\n".join(one if isinstance(one, str) else _json(one) for one in value)
    if widget in ("number", "choice"):
        return _json(value)
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(c if c == "\n" or not hides(c) else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return json.dumps(c)[1:-1]


def _json(value: Any) -> str:
    return "".join(c if not hides(c) else _escaped(c) for c in json.dumps(value, ensure_ascii=False))


def differ(one: Any, other: Any) -> bool:
    """Whether two values are not the same JSON; for Python 1, 1.0 and True are."""
    if one is MISSING or other is MISSING:
        return one is not other
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)
