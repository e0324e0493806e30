"""Each kind of question in the shape of each client, and what a page that edits texts sends back."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.model import Action, Request, approve, canonical, edit, reject, request_id, respond
from hitl_graph.wire import ClientName, client_of, parse, payload, recognise

INTERRUPT = "b" * 32
NAMES: tuple[ClientName, ...] = get_args(ClientName)


class Booking(BaseModel):
    room: str
    minutes: int
    price: float
    catering: bool
    guests: list[str]
    seats: list[int]
    extras: dict[str, int]
    note: str | None = None
    limit: int | None = None


def asked(**more: Any) -> Request:
    base: dict[str, Any] = {
        "id": request_id("t", INTERRUPT),
        "kind": "approval",
        "thread_id": "t",
        "interrupt_id": INTERRUPT,
        "action": Action(name="book", args={"room": "A1", "minutes": 30}),
        "tool_call_id": "call-1",
    }
    return Request.model_validate(base | more)


KINDS = {
    "approval": asked(),
    "approval of approve only": asked(allowed=("approve", "reject")),
    "review of a text": asked(kind="review", action=None, draft="Dear Ann", allowed=("approve", "edit", "respond")),
    "review of an object": asked(kind="review", action=None, draft={"title": "A", "tags": ["x"]}),
    "escalation": asked(kind="escalation", action=None, question={"why": "it loops"}),
    "question": asked(kind="question", action=None, question={"question": "Which?"}, allowed=("reject", "respond")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_each_kind_is_shown_as_plain_json_and_recognised_again(name: ClientName, kind: str) -> None:
    shown = payload(KINDS[kind], client_of(name))
    assert recognise("t", INTERRUPT, json.loads(canonical(shown))) == [KINDS[kind]]


@pytest.mark.parametrize("kind", [kind for kind, request in KINDS.items() if "approve" in request.allowed])
def test_agent_inbox_accepts_what_it_draws(kind: str) -> None:
    request, client = KINDS[kind], client_of("agent-inbox")
    [drawn] = payload(request, client)
    assert drawn["config"]["allow_accept"]
    assert None not in drawn["action_request"]["args"].values()
    assert parse([{"type": "accept", "args": drawn["action_request"]}], request, client) == approve()


def test_agent_inbox_edits_a_draft() -> None:
    request, client = KINDS["review of a text"], client_of("agent-inbox")
    [drawn] = payload(request, client)
    args = drawn["action_request"]["args"]
    answer = {"type": "edit", "args": {"action": "review", "args": args | {"draft": "Dear Bob"}}}
    assert parse([answer], request, client) == edit("Dear Bob")


def test_what_agent_inbox_must_not_offer_is_not_offered() -> None:
    [drawn] = payload(KINDS["question"], client_of("agent-inbox"))
    assert drawn["config"] == {
        "allow_accept": False, "allow_edit": False, "allow_respond": True, "allow_ignore": True,
    }  # fmt: skip


def test_an_edit_that_is_drawn_only_so_that_the_page_sends_back_what_it_accepts_is_refused() -> None:
    request, client = KINDS["approval of approve only"], client_of("agent-inbox")
    [drawn] = payload(request, client)
    args = drawn["action_request"]["args"] | {"minutes": "60"}
    with pytest.raises(InvalidDecisionError, match="edit is not offered"):
        parse([{"type": "edit", "args": {"action": "book", "args": args}}], request, client)


def test_the_name_of_a_request_among_the_arguments_is_no_argument() -> None:
    request, client = asked(answer_schema=None), client_of("agent-inbox")
    [drawn] = payload(request, client)
    changed = parse([{"type": "edit", "args": drawn["action_request"]}], request, client)
    assert changed == edit({"room": "A1", "minutes": 30})
    for other in ("0" * 20, None, 1, ["x"]):
        args = drawn["action_request"]["args"] | {"hitl_request": other}
        with pytest.raises(StaleRequestError):
            parse([{"type": "edit", "args": {"action": "book", "args": args}}], request, client)


WORDS = st.text(max_size=8)
INTEGERS = st.integers(-(2**53), 2**53)
BOOKINGS = st.builds(
    Booking,
    room=WORDS | st.sampled_from(["7", "true", "null", "[1]", '{"a": 1}']),
    minutes=INTEGERS,
    price=st.floats(allow_nan=False, allow_infinity=False),
    catering=st.booleans(),
    guests=st.lists(WORDS, max_size=3),
    seats=st.lists(INTEGERS, max_size=3),
    extras=st.dictionaries(WORDS, INTEGERS, max_size=3),
    note=st.none() | WORDS,
    limit=st.none() | INTEGERS,
)


@given(BOOKINGS, st.sampled_from(["agent-inbox", "agent-chat-ui"]))
def test_whatever_is_edited_as_a_text_comes_back_with_its_type(booking: Booking, name: Any) -> None:
    """Somebody touches every field, and leaves all of them as they were."""
    args, client = booking.model_dump(), client_of(name)
    request = asked(action=Action(name="book", args=args), answer_schema=Booking.model_json_schema())
    shown = payload(request, client)
    drawn = shown[0]["action_request"]["args"] if name == "agent-inbox" else shown["action_requests"][0]["args"]
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in drawn.items()}
    edited: Any = [{"type": "edit", "args": {"action": "book", "args": texts}}]
    if name == "agent-chat-ui":
        edited = {"decisions": [{"type": "edit", "edited_action": {"name": "book", "args": texts}}]}
    decision = parse(edited, request, client)
    assert decision is not None
    assert decision.args is not None
    assert decision.args == args
    assert {key: type(value) for key, value in decision.args.items()} == {k: type(v) for k, v in args.items()}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("minutes", "abc"), ("minutes", ""), ("minutes", "7.5"), ("price", "much"), ("catering", "perhaps"),
        ("guests", '["ann"'), ("guests", "ann"), ("seats", '["x"]'), ("extras", "[]"), ("extras", '{"a": "b"}'),
        ("limit", "none"), ("minutes", "[" * 100_000),
    ],
)  # fmt: skip
def test_a_text_that_is_no_value_of_the_type_is_refused(field: str, text: str) -> None:
    booking = Booking(
        room="A1", minutes=1, price=1.5, catering=True, guests=["a"], seats=[1], extras={"a": 1}, note=None, limit=3
    )
    request = asked(action=Action(name="book", args=booking.model_dump()), answer_schema=Booking.model_json_schema())
    args = {key: value for key, value in booking.model_dump().items() if value is not None} | {field: text}
    with pytest.raises(InvalidDecisionError, match=field):
        parse([{"type": "edit", "args": {"action": "book", "args": args}}], request)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ({"approved": True}, approve()),
        ({"approved": True, "message": "fine"}, approve("fine")),
        ({"approved": False}, reject()),
        ({"approved": False, "reason": "no"}, reject("no")),
        ({"approved": True, "editedArgs": {"room": "B2", "minutes": 1}}, edit({"room": "B2", "minutes": 1})),
        ('{"approved": true}', approve()),
        ('{"type": "respond", "message": "later"}', respond("later")),
        ({"__agui_cancelled__": True, "interrupt_id": INTERRUPT}, reject("cancelled")),
        ({"__agui_resume_map__": {INTERRUPT: {"status": "resolved", "payload": {"approved": True}}}}, approve()),
        ({"__agui_resume_map__": {INTERRUPT: {"status": "cancelled"}}}, reject("cancelled")),
    ],
)
def test_what_ag_ui_says(answer: Any, decision: Any) -> None:
    assert parse(answer, asked(), client_of("ag-ui")) == decision


def test_from_another_client_approved_is_no_answer() -> None:
    with pytest.raises(InvalidDecisionError, match="this is no answer"):
        parse({"approved": True}, asked())


@pytest.mark.parametrize(
    "answer",
    [
        {"approved": "true"}, {"approved": 1}, {"approved": None}, {"approved": {}}, {"approved": True, "also": 1},
        {"approved": False, "editedArgs": {"room": "B2", "minutes": 1}}, {"approved": True, "editedArgs": "x"},
        {"__agui_resume_map__": {INTERRUPT: {"status": "resolved"}}}, {"__agui_resume_map__": {}},
        {"__agui_resume_map__": {"c" * 32: {"status": "resolved", "payload": {"approved": True}}}},
        {"__agui_resume_map__": {INTERRUPT: {"payload": {"approved": True}}, "c" * 32: {}}},
        {"__agui_cancelled__": True, "interrupt_id": "c" * 32}, {"__agui_cancelled__": "true"},
        "true", "approve", "yes", '{"approved": true', "[" * 100_000, '"approve"', "[]", "{}",
    ],
)  # fmt: skip
def test_nothing_else_is_a_yes_of_ag_ui(answer: Any) -> None:
    with pytest.raises((InvalidDecisionError, StaleRequestError)):
        parse(answer, asked(), client_of("ag-ui"))


def test_a_text_answers_a_question_and_nothing_else() -> None:
    assert parse("the blue one", KINDS["question"]) == respond("the blue one")
    for kind in KINDS.keys() - {"question"}:
        with pytest.raises(InvalidDecisionError):
            parse("the blue one", KINDS[kind])
    with pytest.raises(InvalidDecisionError):
        parse("the blue one", asked(kind="question", allowed=("approve",)))
