"""Forms from a JSON Schema: what is not touched keeps its exact value, and what is typed gets the schema's types."""

import json
import time
from datetime import date
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hitl_graph.form import MISSING, Form, parse_json


class Address(BaseModel):
    street: str
    number: int | None = None


class Booking(BaseModel):
    to: str = Field(description="Who gets it", min_length=2)
    nights: int = Field(ge=1, le=30)
    price: float = 0.0
    cc: str | None = None
    smoking: bool = False
    room: Literal["single", "double"] = "single"
    day: date | None = None
    tags: list[str] = []
    home: Address | None = None
    extra: dict[str, Any] = {}


SCHEMA = Booking.model_json_schema()
SHOWN: dict[str, Any] = {
    "to": "bob", "nights": 3, "price": 5, "smoking": True, "tags": ["a", "b c"], "home": {"street": "x"},
    "extra": {"k": [1, None]},
}  # fmt: skip


def exact(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))
plain = st.sampled_from(
    [
        {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"enum": ["a", 1, None]},
        {"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "number"}}, {},
        {"anyOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": ["number", "null"]}, {"type": "string", "format": "date"}, {"$ref": "#/$defs/Node"}, {"const": 7},
    ]
)  # fmt: skip
DEFS = {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}}}}
objects = st.dictionaries(st.text(max_size=5), plain, max_size=4).flatmap(
    lambda props: st.builds(
        lambda needed: {"type": "object", "properties": props, "required": needed, "$defs": DEFS},
        st.lists(st.sampled_from(sorted(props)), unique=True) if props else st.just([]),
    )
)


@given(objects, st.dictionaries(st.text(max_size=5), values, max_size=4), st.booleans())
def test_what_nobody_touches_is_exactly_what_it_was(schema: dict[str, Any], value: Any, crlf: bool) -> None:
    """Whatever the value is, fitting or not: also when a browser sends its line ends."""
    form = Form.of(schema, value)
    sent = {key: text.replace("\n", "\r\n") if crlf else text for key, text in form.submitted().items()}
    filled = form.read(sent)
    assert exact(filled.value) == exact(value)
    assert filled.changed == {}


@given(objects, values)
def test_values_that_are_no_objects_too(schema: dict[str, Any], value: Any) -> None:
    assert exact(Form.of(schema, value).read(Form.of(schema, value).submitted()).value) == exact(value)
    assert exact(Form.of(None, value).read(Form.of(None, value).submitted()).value) == exact(value)


@given(st.builds(
    Booking, to=st.text(min_size=2, max_size=9), nights=st.integers(1, 30), cc=st.none() | st.text(max_size=9),
    price=st.floats(allow_nan=False, allow_infinity=False), tags=st.lists(st.text(max_size=4), max_size=3),
    smoking=st.booleans(), room=st.sampled_from(["single", "double"]), day=st.none() | st.dates(),
))  # fmt: skip
def test_values_that_fit_their_schema_raise_no_error(booking: Booking) -> None:
    value = booking.model_dump(mode="json")
    form = Form.of(SCHEMA, value)
    filled = form.read(form.submitted())
    assert filled.errors == {}
    assert exact(filled.value) == exact(value)


def test_what_is_typed_gets_the_schema_s_types() -> None:
    form = Form.of(SCHEMA, SHOWN)
    typed = {
        "/nights": "4", "/price": "1.5", "/cc": "007", "/smoking": "false", "/room": '"double"', "/day": "2026-12-24",
        "/tags": "x\r\n\r\n y ", "/home/number": "12",
    }  # fmt: skip
    filled = form.read(form.submitted() | typed)
    assert filled.errors == {}
    assert filled.value == {
        "to": "bob", "nights": 4, "price": 1.5, "cc": "007", "smoking": False, "room": "double", "day": "2026-12-24",
        "tags": ["x", "y"], "home": {"street": "x", "number": 12}, "extra": {"k": [1, None]},
    }  # fmt: skip
    assert sorted(filled.changed) == ["cc", "day", "home", "nights", "price", "room", "smoking", "tags"]
    assert exact(form.read({"/to": "eve"}).value) == exact({**SHOWN, "to": "eve"})  # price stays 5, not 5.0


@pytest.mark.parametrize(
    ("key", "typed", "says"),
    [
        ("/nights", "three", "whole number"),
        ("/nights", "3.5", "whole number"),
        ("/nights", "", "needs a value"),
        ("/nights", "31", "less than or equal to 30"),
        ("/price", "1,5", "1.5"),
        ("/price", "1e999", "number"),
        ("/price", "NaN", "number"),
        ("/to", "b", "at least 2"),
        ("/room", '"suite"', "choose one of"),
        ("/extra", "{", "line 1"),
        ("/extra", '{"a": 1, "a": 2}', "twice"),
        ("/extra", "[1]", "dictionary"),
        ("/home/number", "x", "whole number"),
    ],
)
def test_each_field_says_what_does_not_fit(key: str, typed: str, says: str) -> None:
    form = Form.of(SCHEMA, SHOWN)
    errors = form.read(form.submitted() | {key: typed}).errors
    assert list(errors) == [key]
    assert says in errors[key]


def test_null_an_empty_text_and_nothing_at_all_are_three_things() -> None:
    form = Form.of(SCHEMA, {"to": "bob", "nights": 1, "cc": "x"})
    [field] = [field for field in form.fields if field.key == "/cc"]
    assert field.presences == ("given", "null", "missing")
    base = form.submitted()
    assert form.read(base | {"/cc": ""}).value["cc"] == ""
    assert form.read(base | {"/cc?": "null"}).value["cc"] is None
    assert "cc" not in form.read(base | {"/cc?": "missing"}).value
    assert "do one of them" in form.read(base | {"/cc": "y", "/cc?": "null"}).errors["/cc"]
    assert form.read(base | {"/nights?": "missing"}).errors == {"/nights": "it takes a value"}
    absent = Form.of(SCHEMA, {"to": "bob", "nights": 1})
    assert "cc" not in absent.read(absent.submitted()).value
    assert absent.read(absent.submitted() | {"/cc": "typed"}).value["cc"] == "typed"
    assert absent.read(absent.submitted() | {"/cc?": "given"}).value["cc"] == ""


def test_what_may_not_be_edited_is_not_read() -> None:
    form = Form.of(SCHEMA, SHOWN, editable=["to"])
    assert [field.key for field in form.fields if not field.locked] == ["/to"]
    assert form.read({"/to": "eve", "/nights": "9"}).value == {**SHOWN, "to": "eve"}
    assert list(form.submitted()) == ["/to"]


def test_deep_odd_and_hidden_values_are_json_that_hides_nothing() -> None:
    schema = {"properties": {"a": {"type": "string"}, "b": {"type": "object"}, "c": {"type": "string"}}}
    form = Form.of(schema, {"a": "safe\u202egnp.exe", "b": {"x": {"y": [1]}}, "c": "two\nlines"})
    assert [(f.key, f.widget) for f in form.fields] == [("/a", "json"), ("/b", "json"), ("/c", "lines")]
    assert form.fields[0].text == '"safe\\u202egnp.exe"'
    assert form.read({"/a": '"plain"', "/b": "[1, 2]"}).value["b"] == [1, 2]


def test_names_of_any_kind_stand_for_themselves() -> None:
    names = ["a/b", "a~b", "ü", "", "a?", "a b", "\n", "a%2Fb"]
    value = {name: str(number) for number, name in enumerate(names)}
    form = Form.of(None, value)
    assert len({field.key for field in form.fields}) == len(names)
    changed = {field.key: f"{field.text}!" for field in form.fields}
    assert form.read(changed).value == {name: f"{text}!" for name, text in value.items()}


def test_an_answer_of_one_value_or_with_fields() -> None:
    number = Form.of({"type": "integer"}, MISSING)
    assert number.read({"": "12"}).value == 12
    assert number.read({"": ""}).errors == {"": "there is no value"}
    fields = Form.of({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, MISSING)
    assert [field.key for field in fields.fields] == ["/n"]
    assert fields.read({"/n": "1"}).value == {"n": 1}
    assert fields.read({"/n": ""}).errors
    assert Form.of(None, MISSING).read({"": '{"a": 1}'}).value == {"a": 1}


@pytest.mark.parametrize("text", ["[1", "NaN", "-Infinity", "1e999", '{"a":1,"a":1}', "[" * 100_000, ""])
def test_json_that_is_none_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_json_with_many_names_is_refused_at_once() -> None:
    names = ",".join(f'"a{number}":0' for number in range(30_000))
    began = time.perf_counter()
    with pytest.raises(ValueError, match="'a29999' is given twice"):
        parse_json(f'{{{names},"a29999":1}}')
    assert time.perf_counter() - began < 5
