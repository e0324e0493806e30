"""A form as a whole: what is submitted, what was changed, what does not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import JsonValue

from hitl_graph.form.fields import MISSING, Field, differ, fields_of
from hitl_graph.form.values import read
from hitl_graph.schema import SchemaMismatch, check

__all__ = ["Filled", "Form"]


@dataclass(frozen=True)
class Filled:
    """What was typed.

    Attributes:
        value: All of it; `MISSING` where nothing was given. As far as it could be read, where there are errors.
        changed: Of an object: those of its keys that were changed, with their values. A key that was taken away is not
            in it.
        errors: A message for each field that does not fit, by its key. "" is the form as a whole.
    """

    value: Any
    changed: dict[str, JsonValue]
    errors: dict[str, str]


@dataclass(frozen=True)
class Form:
    """The fields of a value.

    Attributes:
        schema: What it has to fit; None: anything.
        value: What it is now; `MISSING`: nothing.
    """

    schema: Mapping[str, Any] | None
    value: Any
    fields: tuple[Field, ...]

    @classmethod
    def of(
        cls, schema: Mapping[str, Any] | None, value: Any = MISSING, *, editable: Sequence[str] | None = None
    ) -> Self:
        """The form of a value.

        Args:
            schema: JSON Schema; what it has beyond what is known here is left to whoever gets the value.
            value: Plain JSON, or `MISSING`.
            editable: The names on the first level that may be changed; None: all.
        """
        root = dict(schema or {})
        fields = tuple(fields_of(root, root, value, (), True, ()))
        if editable is not None:
            fields = tuple(replace(one, locked=(one.path or ("draft",))[0] not in editable) for one in fields)
        return cls(schema, value, fields)

    def submitted(self) -> dict[str, str]:
        """What is submitted by a browser in which nothing was touched."""
        sent: dict[str, str] = {}
        for field in self.fields:
            if not field.locked:
                sent[field.key] = field.text
                if len(field.presences) > 1:
                    sent[field.presence_key] = field.presence
        return sent

    def read(self, submitted: Mapping[str, str]) -> Filled:
        """What was typed, with the schema's types. What is not submitted stays as it is."""
        value, changed, errors = self.value, set[str](), dict[str, str]()
        for field in self.fields:
            if field.locked:
                continue
            try:
                new = read(field, submitted)
            except ValueError as exc:
                errors[field.key] = str(exc)
                continue
            if differ(new, field.value):
                value = _put(value, field.path, new)
                changed.update(field.path[:1])
        if not errors:
            errors = self._check(value)
        parts = value if isinstance(value, dict) else {}
        return Filled(value, {name: parts[name] for name in parts if name in changed}, errors)

    def _check(self, value: Any) -> dict[str, str]:
        """Where the value does not fit the schema; messages of what is not a field are at the field around it."""
        if self.schema is None or value is MISSING:
            return {"": "there is no value"} if value is MISSING and self.schema is not None else {}
        try:
            check(dict(self.schema), value)
        except SchemaMismatch as exc:
            return self._placed(exc)
        except Exception as exc:
            return {"": f"the schema cannot be read: {exc}"}
        return {}

    def _placed(self, exc: SchemaMismatch) -> dict[str, str]:
        errors: dict[str, str] = {}
        for path, message in exc.problems:
            around = (f for f in self.fields if f.path == path[: len(f.path)])
            field = max(around, key=lambda f: len(f.path), default=None)
            errors.setdefault(field.key if field is not None else "", message)
        return errors


def _put(whole: Any, path: tuple[str, ...], new: Any) -> Any:
    """The whole with a new value at a place; `MISSING` takes the name away."""
    if not path:
        return new
    inner = dict(whole) if isinstance(whole, dict) else {}
    put = _put(inner.get(path[0], MISSING), path[1:], new)
    if put is MISSING:
        inner.pop(path[0], None)
    else:
        inner[path[0]] = put
    return inner
