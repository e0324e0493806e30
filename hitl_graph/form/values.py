"""From what was typed to values."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from hitl_graph.form.fields import MISSING, Field

__all__ = ["parse_json", "read"]

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def read(field: Field, submitted: Mapping[str, str]) -> Any:
    """The value of a field.

    Raises:
        ValueError: What was typed is none; the message says what is needed.
    """
    typed = _lines(submitted.get(field.key, field.text))
    chosen = submitted.get(field.presence_key, field.presence)
    touched = typed != _lines(field.text)
    if chosen != field.presence and chosen in ("null", "missing"):
        if chosen not in field.presences:
            raise ValueError("it takes a value")
        if touched and typed:
            raise ValueError("a value was typed, and “no value” was chosen; do one of them")
        return None if chosen == "null" else MISSING
    if not touched and chosen == field.presence:
        return field.value
    if not touched and chosen == "given" and field.value is not MISSING and field.value is not None:
        return field.value
    if not typed and not touched and field.widget not in ("text", "lines", "list"):
        raise ValueError("it needs a value")
    return _value(field, typed)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _value(field: Field, typed: str) -> Any:
    match field.widget:
        case "text" | "lines":
            return typed
        case "date":
            return typed or _nothing(field)
        case "number":
            return _number(typed.strip(), field) if typed.strip() else _nothing(field)
        case "choice":
            if not typed:
                return _nothing(field)
            if all(typed != option.text for option in field.options):
                raise ValueError(f"choose one of {', '.join(option.label for option in field.options)}")
            return json.loads(typed)
        case "list":
            return [_item_value(line.strip(), field) for line in typed.split("\n") if line.strip()]
        case "json":
            return parse_json(typed) if typed.strip() else _nothing(field)


def _nothing(field: Field) -> Any:
    """What an emptied field means, where it cannot be an empty text."""
    if field.presence == "missing" and not field.required:
        return MISSING
    if "null" in field.presences:
        return None
    if not field.required:
        return MISSING
    raise ValueError("it needs a value")


def _number(typed: str, field: Field) -> int | float:
    whole = field.kind == "integer" or field.item == "integer"
    try:
        if _INTEGER.fullmatch(typed):
            return int(typed)
        number = parse_json(typed)
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or (whole and not isinstance(number, int)):
        example = "12" if whole else "12 or 1.5"
        raise ValueError(f"{typed[:40]!r} is not a {'whole number' if whole else 'number'}; write it as {example}")
    return number


def _item_value(line: str, field: Field) -> JsonValue:
    return line if field.item == "string" else _number(line, field)


def parse_json(text: str) -> Any:
    """The JSON in a text.

    Raises:
        ValueError: It is none; the message names line and column.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise ValueError(f"{twice!r} is given twice")
        return found

    def no_number(text: str) -> Any:
        raise ValueError(f"{text} is no JSON")

    def finite(text: str) -> float:
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is too large for a number")
        return number

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number, parse_float=finite)
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    except RecursionError:
        raise ValueError("nested too deep") from None
