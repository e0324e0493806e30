"""Requests, actions, decisions: equal if and only if they say the same."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hitl_graph.model import (
    WORDS,
    Action,
    Decision,
    Request,
    approve,
    canonical,
    digest,
    edit,
    reject,
    request_id,
    respond,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ARGS = st.dictionaries(TEXT, JSON, max_size=4)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON. Python's == also says so of 1, 1.0 and True."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (repr(one) == repr(other) if isinstance(one, float) else bool(one == other))


def shuffled(value: Any, seed: random.Random) -> Any:
    """The same value with the keys of its objects in another order."""
    if isinstance(value, dict):
        keys = list(value)
        seed.shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


@given(JSON, JSON)
def test_digests_are_equal_if_and_only_if_the_values_are_the_same(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == same(one, other)


@given(JSON)
def test_a_small_change_changes_the_digest(value: Any) -> None:
    for changed in ([value], {"a": value}, {"a": value, "b": None}, [value, value], str(value) + "x"):
        assert digest(changed) != digest(value)


@given(JSON, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: Any, seed: random.Random) -> None:
    assert canonical(shuffled(value, seed)) == canonical(value)


@given(JSON)
def test_canonical_json_is_json_that_means_the_value(value: Any) -> None:
    text = canonical(value)
    assert same(json.loads(text), value)
    assert canonical(json.loads(text)) == text
    assert text.isascii()


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {1: 2}, {"a": {1, 2}}, object(), b"by", "\ud800", ["\udfff"], {"\ud800": 1}, 10**5000],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_json_has_no_digest(value: Any) -> None:
    with pytest.raises(TypeError, match="not plain JSON"):
        digest(value)


def test_nesting_without_end_is_refused_and_does_not_crash() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="not plain JSON"):
        canonical(deep)


def test_a_pair_of_surrogates_in_the_text_of_a_character_is_fine() -> None:
    assert canonical("😀") == r'"\ud83d\ude00"'


@given(st.text(min_size=1, max_size=5), ARGS, st.text(min_size=1, max_size=5), ARGS)
def test_an_action_is_its_name_and_its_arguments(name: str, args: Any, other_name: str, other_args: Any) -> None:
    try:
        one, other = Action(name=name, args=args).digest, Action(name=other_name, args=other_args).digest
    except (TypeError, ValidationError):  # half a surrogate in a name
        return
    assert (one == other) == (name == other_name and same(args, other_args))


def test_one_true_and_one_point_zero_are_different_arguments() -> None:
    assert len({Action(name="pay", args={"eur": value}).digest for value in (1, 1.0, True, "1")}) == 4


DECISIONS = (
    st.builds(approve, st.none() | TEXT)
    | st.builds(edit, ARGS, st.none() | TEXT)
    | st.builds(reject, TEXT)
    | st.builds(respond, JSON.filter(lambda value: value is not None))
)


@given(DECISIONS)
def test_a_decision_survives_its_json(decision: Decision) -> None:
    """As the ledger stores and reads it."""
    text = canonical(decision.model_dump(mode="json", exclude_defaults=True) | {"type": decision.type})
    read = Decision.model_validate_json(text)
    assert same(read.model_dump(), decision.model_dump())


@given(
    st.sampled_from(["approval", "review", "escalation", "question"]),
    st.none() | st.builds(Action, name=TEXT, args=ARGS),
    JSON,
    st.lists(st.sampled_from(WORDS), unique=True),
    st.none() | st.lists(TEXT, max_size=3),
    TEXT,
)
def test_a_request_survives_its_json_with_its_digest(
    kind: Any, action: Action | None, question: Any, allowed: Any, editable: Any, text: str
) -> None:
    request = Request(
        id="a" * 20, kind=kind, thread_id="t", interrupt_id="b" * 32, action=action, question=question,
        allowed=allowed, editable=editable, description=text,
    )  # fmt: skip
    read = Request.model_validate(json.loads(canonical(request.shown())))
    assert read.digest == request.digest
    assert same(read.model_dump(mode="json"), request.model_dump(mode="json"))


def a_request(**more: Any) -> Request:
    base = {"id": "a" * 20, "kind": "approval", "thread_id": "t", "interrupt_id": "b" * 32}
    return Request.model_validate(base | {"action": Action(name="pay", args={"eur": 1})} | more)


@pytest.mark.parametrize(
    "change",
    [
        {"action": Action(name="pay", args={"eur": 2})},
        {"action": Action(name="refund", args={"eur": 1})},
        {"thread_id": "u"},
        {"interrupt_id": "c" * 32},
        {"allowed": ("approve",)},
        {"editable": ("eur",)},
        {"answer_schema": {"type": "object"}},
        {"description": "other"},
        {"reason": "other"},
        {"tool_call_id": "x"},
        {"action_key": "k"},
    ],
    ids=str,
)
def test_the_digest_covers_all_that_is_shown_and_may_be_answered(change: dict[str, Any]) -> None:
    assert a_request(**change).digest != a_request().digest


@pytest.mark.parametrize(
    "moved", [{"state": "decided"}, {"decision": approve(), "reviewer": "x"}, {"note": "n"}, {"checkpoint_id": "c"}]
)
def test_the_digest_does_not_move_with_the_request(moved: dict[str, Any]) -> None:
    assert a_request(**moved).digest == a_request().digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "yes"},
        {"type": "approve", "args": {}},
        {"type": "edit"},
        {"type": "reject", "value": 1},
        {"type": "respond"},
        {"type": "respond", "message": "a", "value": "b"},
        {"type": "approve", "extra": 1},
        {"type": "edit", "args": {"x": {1, 2}}},
    ],
    ids=str,
)
def test_a_decision_that_makes_no_sense_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Decision.model_validate(wrong)


def test_a_decision_and_a_request_cannot_be_changed() -> None:
    decision: Any = approve()
    request: Any = a_request()
    with pytest.raises(ValidationError):
        decision.type = "reject"
    with pytest.raises(ValidationError):
        request.state = "decided"


IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


@given(IDS, IDS, IDS, IDS)
def test_a_request_id_belongs_to_one_interrupt_of_one_thread(thread: str, own: str, thread2: str, own2: str) -> None:
    assert (request_id(thread, own) == request_id(thread2, own2)) == ((thread, own) == (thread2, own2))
    assert len(request_id(thread, own)) == 20
