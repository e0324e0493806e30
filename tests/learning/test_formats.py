"""What an example becomes: which rows, which of them a model is trained with, and what is left out for which reason."""

import json
import string
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from hitl_graph.errors import LearningError
from hitl_graph.learning import formats
from hitl_graph.learning.examples import Example, Split
from hitl_graph.learning.formats.chat import Unusable, answer, prompt
from hitl_graph.learning.formats.plain import columns, from_row, row
from hitl_graph.model import approve, edit, respond
from tests.learning.made import ASKED, CALL, call, draft, every_kind

PAYS = {"type": "function", "function": {"name": "pay", "arguments": CALL}}
UNLABELLED = {
    "not decided by a person": 1, "nobody was asked": 1, "not decided yet": 1, "closed without a decision": 1,
    "redacted": 1,
}  # fmt: skip


def made(name: str, split: Split | None = None) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Rows of every kind by their ids, and what was left out."""
    skipped = Counter[str]()
    found = list(formats.rows(every_kind(), formats.find(name), split, skipped))
    assert len(found) + skipped.total() == len(every_kind())  # nothing is lost without a word
    return {_id(one): one for one in found}, dict(skipped)


def _id(row: dict[str, Any]) -> str:
    return str(row.get("id") or (row.get("metadata") or row["data"])["request_id"])


def test_sft_is_what_people_said_is_right() -> None:
    rows, skipped = made("trl-sft")
    assert list(rows) == ["a1", "e1", "a2", "e2", "s2"]
    assert rows["a1"]["prompt"] == ASKED
    assert rows["a1"]["completion"] == [{"role": "assistant", "content": "", "tool_calls": [PAYS]}]
    assert rows["e1"]["completion"][0]["tool_calls"][0]["function"]["arguments"]["eur"] == 4
    assert rows["a2"]["prompt"] == [{"role": "user", "content": "Write to Bob"}]
    assert json.loads(rows["a2"]["completion"][0]["content"]) == every_kind()[4].output
    assert rows["e2"]["completion"] == [{"role": "assistant", "content": "Dear Bob, thank you."}]
    assert rows["s2"]["completion"] == [{"role": "assistant", "content": "Dear Bob,"}]
    assert skipped == {"nothing right is known": 2, "no input is known": 1, "of the split audit": 1, **UNLABELLED}


def test_dpo_prefers_the_edit_or_the_approved_revision_to_the_draft() -> None:
    rows, skipped = made("trl-dpo")
    assert list(rows) == ["e1", "e2", "s2"]
    assert rows["e2"]["chosen"] == [{"role": "assistant", "content": "Dear Bob, thank you."}]
    assert rows["s2"]["rejected"] == [{"role": "assistant", "content": "Hey Bob"}]
    assert rows["e1"]["rejected"][0]["tool_calls"] == [PAYS]
    assert skipped["approved as it was: nothing to compare it with"] == 3


def test_kto_says_whether_the_draft_was_right_as_it_was() -> None:
    labels = {id: one["label"] for id, one in made("trl-kto")[0].items()}
    assert labels == {"a1": True, "e1": False, "r1": False, "s1": False, "a2": True, "e2": False, "s2": False}


def test_an_edit_that_changes_nothing_is_an_approval() -> None:
    same = call("e", "edit", decision=edit(CALL))
    assert formats.FORMATS["trl-kto"].row(same)["label"] is True
    with pytest.raises(Unusable, match="approved as it was"):
        formats.FORMATS["trl-dpo"].row(same)


@pytest.mark.parametrize("name", sorted(name for name, one in formats.FORMATS.items() if one.trains))
def test_no_model_is_trained_with_audits_unless_they_are_asked_for(name: str) -> None:
    audits = [call(str(i), word, split="audit") for i, word in enumerate(("approve", "edit", "reject"))]
    skipped = Counter[str]()
    assert list(formats.rows(audits, formats.find(name), None, skipped)) == []
    assert skipped == {"of the split audit": 3}
    assert list(formats.rows(audits, formats.find(name), "audit", Counter()))


@pytest.mark.parametrize("name", sorted(name for name, one in formats.FORMATS.items() if not one.trains))
def test_everything_else_has_audits_and_says_so(name: str) -> None:
    rows, _ = made(name)
    assert "audit" in json.dumps(rows["a3"], default=str)


def test_langsmith_has_inputs_outputs_metadata_and_split() -> None:
    rows, skipped = made("langsmith")
    assert rows["e1"]["inputs"] == {"messages": ASKED}
    [told] = rows["e1"]["outputs"]["messages"]
    assert told["tool_calls"][0]["function"]["arguments"]["eur"] == 4
    assert rows["a3"]["split"] == "audit"
    assert rows["r1"]["outputs"] is None  # what is wrong is known, and stands in the metadata
    assert rows["r1"]["metadata"]["proposed"]["tool_calls"] == [PAYS]
    assert rows["r1"]["metadata"]["message"] == "not him"
    assert skipped == {"no input is known": 1, **UNLABELLED}


def test_openai_evals_have_input_and_ideal() -> None:
    rows, _ = made("openai-evals")
    assert list(rows) == ["a1", "e1", "a2", "e2", "s2", "a3"]
    assert rows["e2"]["ideal"] == "Dear Bob, thank you."
    assert json.loads(rows["a1"]["ideal"]) == {"name": "pay", "arguments": CALL}
    assert rows["a1"]["input"] == ASKED


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(LearningError, match="'csv'; there are jsonl, parquet, trl-sft"):
        formats.find("csv")
    with pytest.raises(LearningError, match="'trl-dpo' to label in; there are jsonl, label-studio, argilla"):
        formats.find("trl-dpo", waiting=True)


@pytest.mark.parametrize(
    ("input", "messages"),
    [
        (
            [
                {"role": "user", "content": "Pay"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"id": "7", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
                    ],
                },
                {"role": "tool", "content": "found", "tool_call_id": "7"},
            ],
            [("user", "Pay"), ("assistant", ""), ("tool", "found")],
        ),
        ("Pay", [("user", "Pay")]),
        ({"a": 1}, [("user", '{"a": 1}')]),
        ([1, 2], [("user", "[1, 2]")]),
        ([{"role": "human", "content": "Pay"}], [("user", "Pay")]),
        ([{"role": "user", "content": [{"type": "text", "text": "Pay "}, "him"]}], [("user", "Pay him")]),
        (
            [
                {"role": "user", "content": "Pay"},
                {"role": "ai", "content": None, "tool_calls": [{"name": "find", "args": {"q": 1}, "id": "7"}]},
                {"role": "tool", "content": "found", "tool_call_id": "7"},
            ],
            [("user", "Pay"), ("assistant", ""), ("tool", "found")],
        ),
    ],
)
def test_whatever_the_model_was_given_is_a_conversation(input: JsonValue, messages: list[tuple[str, str]]) -> None:
    found = prompt(input)
    assert [(one["role"], one["content"]) for one in found] == messages
    if len(found) > 1:
        [called] = found[1]["tool_calls"]
        assert called == {"id": "7", "type": "function", "function": {"name": "find", "arguments": {"q": 1}}}
        assert found[2]["tool_call_id"] == "7"


@pytest.mark.parametrize(
    "input",
    [
        None,
        "",
        [],
        [{"role": "user", "content": "Pay"}, {"role": "assistant", "content": "Yes"}],
        [{"role": "system", "content": "You pay"}],
        [{"role": "oracle", "content": "Pay"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{"name": "x"}]}, {"role": "user", "content": "?"}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]}],
    ],
)
def test_what_no_model_can_go_on_from_is_left_out(input: JsonValue) -> None:
    with pytest.raises(Unusable):
        prompt(input)
    skipped = Counter[str]()
    assert list(formats.rows([call("1", input=input)], formats.find("trl-sft"), None, skipped)) == []
    assert skipped.total() == 1


def test_a_call_has_arguments() -> None:
    with pytest.raises(Unusable, match="no arguments"):
        answer("pay", "5 euros")


# --- JSON lines: everything, and back ---------------------------------------------------------------------------------

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OUTPUT = JSON.filter(lambda value: value is not None)
DECISION = (
    st.builds(approve, st.none() | TEXT)
    | st.builds(edit, st.dictionaries(TEXT, JSON) | TEXT)
    | st.builds(respond, TEXT | st.lists(JSON, min_size=1))
)
EXAMPLE = st.builds(
    Example,
    id=st.text(string.hexdigits, min_size=1), thread_id=TEXT, kind=st.sampled_from(["approval", "review"]),
    tool=st.none() | TEXT, input=JSON, output=OUTPUT,
    at=st.integers(0, 7 * 10**15).map(lambda us: datetime(1970, 1, 2, tzinfo=UTC) + timedelta(microseconds=us)),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False), model=st.none() | TEXT,
    route=st.sampled_from(["auto", "audit", "unsure", "query", "policy"]), propensity=st.floats(0.0009765625, 1),
    split=st.sampled_from(["train", "audit"]), decision=st.none() | DECISION, by_people=st.booleans(), better=JSON,
    reviewer=st.none() | TEXT, seconds=st.none() | st.floats(0, 1e6),
)  # fmt: skip


@given(EXAMPLE)
def test_jsonl_keeps_everything(example: Example) -> None:
    line = json.dumps(row(example), ensure_ascii=False, allow_nan=False)
    assert from_row(json.loads(line)) == example


@given(EXAMPLE)
def test_a_table_has_the_same_in_columns_of_one_type(example: Example) -> None:
    found = columns(example)
    for name in ("input", "output", "better", "right"):
        assert found[name] is None or isinstance(found[name], str)
    assert json.loads(found["output"]) == example.output
    assert found["at"] == example.at


@given(EXAMPLE, st.sampled_from(sorted(formats.FORMATS)))
def test_no_example_breaks_a_format(example: Example, name: str) -> None:
    skipped = Counter[str]()
    found = list(formats.rows([example], formats.find(name), example.split, skipped))
    assert len(found) + skipped.total() == 1
    json.dumps(found, allow_nan=False, default=str)


@pytest.mark.parametrize("name", sorted(formats.FORMATS))
@pytest.mark.parametrize("score", [float("nan"), float("inf"), -3.5, 1e300])
def test_a_score_is_any_number_and_none_where_it_is_no_number(name: str, score: float) -> None:
    [found] = formats.rows([call("1", "edit", score=score)], formats.find(name), None, Counter())
    json.dumps(found, allow_nan=False, default=str)
    if name in ("jsonl", "parquet"):
        assert found["score"] == (score if abs(score) < 1e301 else None)


def test_what_is_no_example_is_an_error() -> None:
    with pytest.raises(LearningError, match="this is no example: kind"):
        from_row({**row(draft("1")), "kind": "party"})
