"""Answers from anywhere: what is not recognised is refused, and nothing but a documented approval is one."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hitl_graph.errors import InvalidDecisionError, RequestError, StaleRequestError
from hitl_graph.model import WORDS, Action, Request, approve, canonical, edit, reject, request_id, respond
from hitl_graph.wire import parse, payload, recognise, resume_value, validate

INTERRUPT = "b" * 32
SCHEMA = {
    "type": "object",
    "properties": {"eur": {"type": "integer"}, "to": {"type": "string"}},
    "required": ["eur", "to"],
}


def a_request(**more: Any) -> Request:
    base: dict[str, Any] = {
        "id": request_id("t", INTERRUPT),
        "kind": "approval",
        "thread_id": "t",
        "interrupt_id": INTERRUPT,
        "action": Action(name="pay", args={"eur": 1, "to": "bob"}),
        "answer_schema": SCHEMA,
    }
    return Request.model_validate(base | more)


REQUEST = a_request()
KEYS = st.sampled_from(
    [
        "type",
        "args",
        "message",
        "value",
        "decisions",
        "edited_action",
        "action",
        "name",
        "request_id",
        "digest",
        "eur",
        "to",
    ]
)
LEAVES = st.sampled_from(
    [
        *WORDS,
        "accept",
        "response",
        "ignore",
        "pay",
        "bob",
        1,
        7,
        "7",
        True,
        None,
        float("nan"),
        "\ud800",
        "",
        REQUEST.id,
    ]
)
ANSWERS: st.SearchStrategy[Any] = st.recursive(
    LEAVES | st.text(max_size=3) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.fixed_dictionaries(
            {"type": st.sampled_from([*WORDS, "accept", "response", "ignore"])},
            optional={
                "args": inner,
                "message": inner,
                "value": inner,
                "edited_action": inner,
                "request_id": inner,
            },
        )
        | st.fixed_dictionaries({"decisions": st.lists(inner, max_size=2)})
    ),
    max_leaves=8,
)


def names_this(raw: dict[str, Any]) -> bool:
    return bool(raw.get("request_id", REQUEST.id) == REQUEST.id and raw.get("digest", REQUEST.digest) == REQUEST.digest)


def is_documented_approval(raw: Any) -> bool:
    """Written down here a second time, from the clients' side."""
    if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], dict) and raw[0].get("type") == "accept":
        shown = raw[0].get("args")
        return names_this(raw[0]) and (shown is None or shown.get("args") == {"eur": 1, "to": "bob"})
    if isinstance(raw, list):
        return (
            len(raw) == 1 and isinstance(raw[0], dict) and "decisions" not in raw[0] and is_documented_approval(raw[0])
        )
    if not isinstance(raw, dict) or not names_this(raw):
        return False
    if "decisions" in raw:
        one = raw["decisions"]
        return isinstance(one, list) and len(one) == 1 and isinstance(one[0], dict) and is_documented_approval(one[0])
    return raw.get("type") == "approve" and raw.get("args") is None and raw.get("edited_action") is None


@given(ANSWERS)
@example([{"type": "accept", "args": {"args": {"eur": 1, "to": "bob"}}}])
@example({"decisions": [{"decisions": [{"type": "approve"}]}]})
@example({"type": "approve", "decisions": [{"type": "reject"}]})
@example({"type": "reject", "decisions": ["approve"]})
def test_nothing_but_a_documented_approval_is_a_yes_and_nothing_makes_it_fail(raw: Any) -> None:
    with suppress(RequestError):
        decision = parse(raw, REQUEST)
        assert decision is None or decision.type in WORDS
        if decision is not None and decision.type == "approve":
            assert is_documented_approval(raw)
        if decision is not None and decision.args is not None:
            assert decision.type == "edit"
            assert type(decision.args["eur"]) is int
            assert decision.args.keys() == {"eur", "to"}
        canonical(decision and decision.model_dump(mode="json"))


@given(ANSWERS, st.sets(st.sampled_from(WORDS), min_size=1))
def test_no_answer_gets_a_word_through_that_is_not_offered(raw: Any, offered: Any) -> None:
    with suppress(RequestError):
        decision = parse(raw, a_request(allowed=tuple(offered)))
        assert decision is None or decision.type in offered


@given(ANSWERS)
def test_no_edit_gets_past_what_may_be_edited(raw: Any) -> None:
    with suppress(RequestError):
        decision = parse({"type": "edit", "args": raw}, a_request(editable=("to",)))
        assert decision is not None
        assert decision.args is not None
        assert decision.args["eur"] == 1


@given(ANSWERS)
def test_every_interrupt_is_recognised_as_something_that_can_be_stored(value: Any) -> None:
    for shape in (
        value,
        {"hitl": {"request": value, "digest": value}},
        {"action_requests": value, "review_configs": value},
    ):
        [request] = recognise("t", INTERRUPT, shape, value)
        assert (request.id, request.thread_id, request.interrupt_id) == (REQUEST.id, "t", INTERRUPT)
        assert len(request.digest) == 64
        assert request.allowed


# --- what goes out comes back ---------------------------------------------------------------------------------------


def test_our_own_question_is_recognised_whole() -> None:
    assert recognise("t", INTERRUPT, payload(REQUEST)) == [REQUEST]


@pytest.mark.parametrize(
    ("thread", "interrupt", "change"),
    [
        ("u", INTERRUPT, {}),
        ("t", "c" * 32, {}),
        ("t", INTERRUPT, {"digest": "0" * 64}),
        ("t", INTERRUPT, {"request": a_request(action=Action(name="pay", args={"eur": 2, "to": "bob"})).shown()}),
    ],
)
def test_a_copy_in_another_place_or_with_other_contents_is_not_taken_for_ours(
    thread: str, interrupt: str, change: dict[str, Any]
) -> None:
    shown = payload(REQUEST)
    shown["hitl"] |= change
    [found] = recognise(thread, interrupt, shown)
    assert found.answer_shape == "middleware"
    assert found.action_key is None
    assert found.id == request_id(thread, interrupt)


def test_the_payload_is_what_both_pages_render() -> None:
    request = a_request(
        action=Action(name="pay", args={"eur": 1, "to": "bob", "cc": None}), allowed=("approve", "reject")
    )
    shown = payload(request)
    [action], [config] = shown["action_requests"], shown["review_configs"]
    assert action["args"] == action["arguments"] == {"eur": 1, "to": "bob"}  # Agent Inbox crashes on a null
    assert config == {"action_name": "pay", "allowed_decisions": ["approve", "reject"]}
    assert shown["hitl"]["request"]["action"]["args"]["cc"] is None
    canonical(shown)


def test_the_worker_s_answer_only_points_at_the_ledger() -> None:
    for decision in (approve(), edit({"eur": 2, "to": "eve"}), reject("no"), respond("later")):
        sent = resume_value(REQUEST, decision)
        assert sent == {"request_id": REQUEST.id, "digest": REQUEST.digest}
        assert parse(sent, REQUEST) is None


@pytest.mark.parametrize("decision", [approve(), edit({"eur": 2, "to": "eve"}), reject("no"), respond("later")])
def test_the_middleware_gets_its_own_words(decision: Any) -> None:
    one = {"type": decision.type}
    if decision.type == "edit":
        one["edited_action"] = {"name": "pay", "args": {"eur": 2, "to": "eve"}}
    elif decision.message:
        one["message"] = decision.message
    assert resume_value(a_request(answer_shape="tool_approval"), decision) == one
    assert resume_value(a_request(answer_shape="middleware"), decision) == {"decisions": [one]}
    two: dict[str, Any] = {"action_requests": [{}, {}], "review_configs": []}
    batch = a_request(answer_shape="middleware", action=None, question=two)
    assert resume_value(batch, decision)["decisions"][0] == resume_value(batch, decision)["decisions"][1]


@pytest.mark.parametrize("answer", ["text", 0, False, [], {}, {"type": "approve"}])
def test_a_plain_question_gets_the_answer_itself(answer: Any) -> None:
    request = a_request(kind="question", answer_shape="raw", allowed=("respond",), action=None, answer_schema=None)
    assert resume_value(request, respond(answer)) == answer


# --- edits ----------------------------------------------------------------------------------------------------------


def test_an_edit_gets_the_types_of_the_schema() -> None:
    assert validate(edit({"eur": "7", "to": "eve"}), REQUEST).args == {"eur": 7, "to": "eve"}


def test_an_edit_that_changes_nothing_is_fine_even_where_nothing_may_be_edited() -> None:
    request = a_request(editable=())
    assert validate(edit({"eur": 1, "to": "bob"}), request).args == {"eur": 1, "to": "bob"}
    with pytest.raises(InvalidDecisionError, match="to may not be edited; only nothing"):
        validate(edit({"eur": 1, "to": "eve"}), request)


def test_leaving_out_an_argument_that_may_not_be_edited_is_an_edit_of_it() -> None:
    request = a_request(editable=("to",), answer_schema=None)
    with pytest.raises(InvalidDecisionError, match="eur may not be edited"):
        validate(edit({"to": "bob"}), request)
    with pytest.raises(InvalidDecisionError, match="cc may not be edited"):
        validate(edit({"eur": 1, "to": "bob", "cc": "eve"}), request)


@pytest.mark.parametrize("stand_in", [True, 1.0])
def test_a_value_that_only_python_takes_for_the_same_is_an_edit(stand_in: Any) -> None:
    """In Python 1 == True == 1.0; for a person and for a digest they are not."""
    with pytest.raises(InvalidDecisionError, match="eur may not be edited"):
        validate(edit({"eur": stand_in, "to": "bob"}), a_request(editable=("to",), answer_schema=None))


def test_what_was_shown_has_to_be_what_is_accepted() -> None:
    for other in ({"eur": 2, "to": "bob"}, {"eur": 1}, {"eur": 1, "to": "bob", "cc": "eve"}, {}, None, "x"):
        with pytest.raises(StaleRequestError):
            parse([{"type": "accept", "args": {"action": "pay", "args": other}}], REQUEST)


def test_what_an_edit_does_not_touch_stays_what_was_shown() -> None:
    """The schema's `number` makes 5.0 of 5, which is another value: a locked 5 would count as changed."""
    schema: dict[str, Any] = {"properties": {"eur": {"type": "number"}, "to": {"type": "string"}}, "type": "object"}
    asked = Request(
        id="1", kind="approval", thread_id="t", interrupt_id="i", action=Action(name="pay", args={"eur": 5, "to": "a"}),
        editable=("to",), answer_schema=schema,
    )  # fmt: skip
    decision = validate(edit({"eur": 5, "to": "b"}), asked)
    assert canonical(decision.args) == '{"eur":5,"to":"b"}'
    with pytest.raises(InvalidDecisionError, match="eur may not be edited"):
        validate(edit({"eur": 6, "to": "b"}), asked)
