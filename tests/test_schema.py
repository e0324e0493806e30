"""What a tool's arguments may be is checked from their JSON Schema as pydantic checks them from the tool itself."""

from contextlib import suppress
from typing import Annotated, Any, Literal, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from hitl_graph.schema import SchemaMismatch, alike, check

NAMES = st.sampled_from(["eur", "to", "copy", "schema", "model_name", "class_", "a b", "type", "$ref"])
TYPES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [
            int,
            float,
            bool,
            str,
            None,
            Any,
            Literal["a", "b"],
            Literal[1, 2],
            Literal["a", 1, None],
            Annotated[int, Field(ge=0, lt=5)],
            Annotated[float, Field(gt=-1.5, le=2.5)],
            Annotated[int, Field(multiple_of=3)],
            Annotated[str, Field(min_length=1, max_length=3)],
            Annotated[str, Field(pattern="^[ab]*$")],
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda item: list[item]),  # type: ignore[valid-type]
        inner.map(lambda item: Annotated[list[item], Field(min_length=1, max_length=2)]),  # type: ignore[valid-type]
        inner.map(lambda item: dict[str, item]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda pair: Any if Any in pair else Union[pair]),  # noqa: UP007
        st.dictionaries(NAMES, inner, min_size=1, max_size=2).map(lambda fields: model_of(fields, "Inner")),
    ),
    max_leaves=4,
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [None, True, False, 0, 1, 2, 3, 7, -1, 1.0, 1.5, "", "a", "b", "ab", "abcd", "1", "7", "1.5", "true"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def model_of(fields: dict[str, Any], name: str = "Tool") -> type[BaseModel]:
    """A model with these properties; every second one may be left out."""
    made: dict[str, Any] = {
        f"f{number}": (of, Field(alias=alias) if number % 2 == 0 else Field(default=None, alias=alias))
        for number, (alias, of) in enumerate(fields.items())
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **made)


def fits(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


@given(st.dictionaries(NAMES, TYPES, min_size=1, max_size=3), st.data())
def test_it_takes_what_the_tool_takes_and_refuses_what_the_tool_refuses(fields: dict[str, Any], data: Any) -> None:
    model = model_of(fields)
    value = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, VALUES)) | VALUES)
    schema = model.model_json_schema()
    if not fits(model, value):
        with pytest.raises(SchemaMismatch):
            check(schema, value)
        return
    checked = check(schema, value)
    assert checked.keys() == value.keys()
    assert model.model_validate(checked) == model.model_validate(value)


@pytest.mark.parametrize(
    ("of", "typed", "meant"),
    [
        (int, "7", 7),
        (float, "7.5", 7.5),
        (bool, "true", True),
        (int | None, "7", 7),
        (list[int], ["1", "2"], [1, 2]),
        (str, "7", "7"),
        (str | int, "7", "7"),
        (dict[str, int], {"a": "7"}, {"a": 7}),
    ],
    ids=str,
)
def test_text_that_stands_for_a_value_becomes_one(of: Any, typed: Any, meant: Any) -> None:
    """Agent Inbox makes text of every value that was touched."""
    checked = check(create_model("Tool", x=(of, ...)).model_json_schema(), {"x": typed})["x"]
    assert (checked, type(checked)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("of", "wrong"), [(int, "seven"), (int, 1.5), (bool, "perhaps"), (str, 7), (int, None)], ids=str
)
def test_text_that_does_not_is_refused_with_the_name_of_the_argument(of: Any, wrong: Any) -> None:
    with pytest.raises(SchemaMismatch, match=r"^x: Input should be"):
        check(create_model("Tool", x=(of, ...)).model_json_schema(), {"x": wrong})


def test_an_argument_that_the_tool_does_not_have_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="y: Extra inputs are not permitted"):
        check(create_model("Tool", x=(int, ...)).model_json_schema(), {"x": 1, "y": 2})


def test_unless_the_tool_takes_any() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "additionalProperties": True}
    assert check(schema, {"x": "1", "y": [2]}) == {"x": 1, "y": [2]}


def test_defaults_are_not_filled_in() -> None:
    """What the reviewer saw and what is recorded is what was given; the tool fills in its defaults when it runs."""
    assert check(create_model("Tool", x=(int, 1), y=(int, 2)).model_json_schema(), {"y": 3}) == {"y": 3}


class Tree(BaseModel):
    label: str
    children: "list[Tree]" = []


def test_a_recursive_type_is_checked_at_least_at_its_top() -> None:
    schema = create_model("Tool", tree=(Tree, ...)).model_json_schema()
    assert check(schema, {"tree": {"label": "a", "children": [{"label": "b"}]}})
    with pytest.raises(SchemaMismatch, match=r"tree\.label"):
        check(schema, {"tree": {"children": []}})


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "integer"}, {"minimum": 3}]},
        {"not": {"type": "integer"}},
        {"$ref": "https://elsewhere.example/schema"},
        {"$ref": "#/missing/part"},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
        {"enum": [1.5, {"a": 1}]},
        {"type": "unheard of"},
        {},
        True,
    ],
    ids=str,
)
def test_what_it_does_not_understand_it_leaves_to_the_tool(schema: Any) -> None:
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    assert check(whole, {"x": ["anything"]}) == {"x": ["anything"]}


WORDS = [
    *(
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "$ref",
        "$defs",
        "minimum",
        "pattern",
    ),
    *("object", "array", "string", "integer", "null", "#/$defs/a", "#", "a", "additionalProperties", "maxLength", "(["),
]
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=10,
)


@given(SCHEMAS, VALUES)
def test_no_schema_however_odd_makes_it_fail(schema: Any, value: Any) -> None:
    with suppress(SchemaMismatch):
        check({"type": "object", "properties": {"x": schema}, "$defs": {"a": schema}}, {"x": value})


def with_(**fields: Any) -> dict[str, Any]:
    made: type[BaseModel] = create_model("Tool", **fields)
    return made.model_json_schema()


def test_schemas_are_alike_if_they_take_the_same_values() -> None:
    one = with_(x=(int, Field(description="how much", title="X", examples=[1])), description=(str, ...))
    assert alike(one, with_(x=(int, Field(description="amount")), description=(str, Field(title="text"))))
    assert alike(None, None)


@pytest.mark.parametrize(
    "other",
    [
        with_(x=(float, ...), description=(str, ...)),
        with_(x=(int, 1), description=(str, ...)),
        with_(x=(int, ...)),
        with_(x=(int, ...), title=(str, ...)),
        with_(x=(int, Field(le=5)), description=(str, ...)),
        with_(x=(int, ...), description=(str, "none")),
        with_(x=(int, ...), description=(str, ...), more=(int, 0)),
        None,
    ],
    ids=str,
)
def test_and_not_if_they_do_not(other: Any) -> None:
    assert not alike(with_(x=(int, ...), description=(str, ...)), other)
