"""I7: what real clients send is understood; what is malformed is a clear error, costs nothing and can be corrected."""

import json
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import Field

from hitl_graph.errors import InvalidDecisionError, RequestError, StaleRequestError
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from tests.invariants.agents import config_of, pay_call, tool_messages, write_effect
from tests.invariants.scenes import APPROVE, Scene

SHOWN = {"eur": 1, "to": "bob"}
EDITED = {"eur": "7", "to": "eve"}  # clients that edit in text fields send every value as text

PAID, EDITED_IT, REFUSED, ANSWERED = "paid 1 to bob", "paid 7 to eve", "A person rejected", "ask me tomorrow"
UNDERSTOOD: list[tuple[str, Any, str]] = [
    ("Agent Inbox: accept", [{"type": "accept", "args": None}], PAID),
    (
        "Agent Inbox: accept where an edit is offered",
        [{"type": "accept", "args": {"action": "pay", "args": SHOWN}}],
        PAID,
    ),
    ("Agent Inbox: edit", [{"type": "edit", "args": {"action": "pay", "args": EDITED}}], EDITED_IT),
    ("Agent Inbox: respond", [{"type": "response", "args": ANSWERED}], ANSWERED),
    ("Agent Inbox: ignore", [{"type": "ignore", "args": None}], REFUSED),
    ("Agent Chat UI: approve", {"decisions": [APPROVE]}, PAID),
    (
        "Agent Chat UI: edit",
        {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": EDITED}}]},
        EDITED_IT,
    ),
    ("Agent Chat UI: reject", {"decisions": [{"type": "reject", "message": "too much"}]}, REFUSED),
    ("LangChain's middleware: approve", APPROVE, PAID),
    ("LangChain's middleware: edit", {"type": "edit", "edited_action": {"name": "pay", "args": EDITED}}, EDITED_IT),
    ("LangChain's middleware: reject without a reason", {"type": "reject"}, REFUSED),
    ("LangChain's middleware: respond", {"type": "respond", "message": ANSWERED}, ANSWERED),
    ("ours: approve with a comment", {"type": "approve", "message": "fine"}, PAID),
    ("ours: edit", {"type": "edit", "args": EDITED, "message": "it is Eve's turn"}, EDITED_IT),
    ("ours: respond with a value", {"type": "respond", "value": {"ask": "me"}}, '{"ask":"me"}'),
]


@pytest.mark.parametrize(("answer", "told"), [case[1:] for case in UNDERSTOOD], ids=[case[0] for case in UNDERSTOOD])
@pytest.mark.parametrize("addressed", [False, True], ids=["bare", "by id"])
def test_every_shape_that_clients_send_is_understood(
    sync_scene: Scene, answer: Any, told: str, addressed: bool
) -> None:
    scene = sync_scene
    graph = scene.agent()
    request = scene.start(graph, [pay_call(1)])[0]
    scene.go(graph, Command(resume={request.interrupt_id: answer} if addressed else answer))
    assert tool_messages(graph, "t")[0].startswith(told)
    assert scene.ran() == {PAID: ["pay 1 bob"], EDITED_IT: ["pay 7 eve"]}.get(told, [])
    recorded = scene.inbox.get(request.id)
    assert (recorded.state, recorded.reviewer, recorded.channel) == ("delivered", "anonymous", "langgraph")


MALFORMED: list[tuple[Any, str]] = [
    (True, "this is no answer: True; send"),
    ("approve", 'send {"type": "approve"}'),
    ([], "the answer has no decisions"),
    ([{"type": "accept", "args": None}] * 2, "the answer has 2 decisions"),
    ({"decisions": []}, "asks about one action, the answer has no decisions"),
    ({"decisions": [APPROVE, APPROVE]}, "asks about one action, the answer has 2 decisions"),
    ({"decisions": "approve"}, "the answer has no decisions"),
    ({"decisions": [[APPROVE]]}, "this is no answer"),
    ({"decisions": ["approve"]}, "this is no answer"),
    ({"decisions": [{"decisions": [APPROVE]}]}, "this is no answer"),
    ({"type": "approve", "request_id": []}, "the answer was made for request_id []"),
    ({"type": "yes"}, "'yes' is not one of approve, edit, reject, respond"),
    ({"type": "approve", "args": {"eur": 1_000_000, "to": "eve"}}, "approve takes no arguments; use edit"),
    ({"type": "approve", "edited_action": {"name": "pay", "args": EDITED}}, "approve takes no arguments; use edit"),
    ({"type": "reject", "args": {}}, "reject takes no arguments"),
    ({"type": "approve", "message": 5}, "message: Input should be a valid string"),
    ({"type": "respond"}, "respond needs a text or a value"),
    ({"type": "respond", "message": "a", "value": 1}, "respond needs a text or a value, not both"),
    ({"type": "edit"}, "an edit needs all arguments"),
    ({"type": "edit", "args": []}, "an edit needs all arguments"),
    ({"type": "edit", "args": {}}, "eur: Field required; to: Field required"),
    (
        {"type": "edit", "args": {"eur": "seven", "to": "eve"}},
        "does not fit the arguments of pay: eur: Input should be",
    ),
    ({"type": "edit", "args": {"eur": 1.5, "to": "eve"}}, "eur: Input should be a valid integer"),
    ({"type": "edit", "args": {"eur": 7, "to": None}}, "to: Input should be a valid string"),
    ({"type": "edit", "args": {"eur": 7, "to": "eve", "bcc": "mallory"}}, "bcc: Extra inputs are not permitted"),
    ({"type": "edit", "edited_action": {"name": "refund", "args": SHOWN}}, "an edit cannot turn pay into 'refund'"),
    ([{"type": "edit", "args": {"action": "refund", "args": SHOWN}}], "an edit cannot turn pay into 'refund'"),
    ([{"type": "edit", "args": None}], "an edit needs all arguments"),
    ([{"type": "accept", "args": {"action": "pay", "args": {"eur": 2, "to": "bob"}}}], "are not the ones asked about"),
    ([{"type": "accept", "args": "pay"}], "are not the ones asked about"),
    ([{"type": "response", "args": None}], "'response' is not one of"),
]


@pytest.mark.parametrize(("answer", "problem"), MALFORMED, ids=[json.dumps(case[0])[:70] for case in MALFORMED])
def test_a_malformed_answer_says_what_is_wrong_and_the_right_one_still_works(
    sync_scene: Scene, answer: Any, problem: str
) -> None:
    scene = sync_scene
    graph = scene.agent()
    request = scene.start(graph, [pay_call(1)])[0]
    for resume in (answer, {request.interrupt_id: answer}):
        with pytest.raises(RequestError) as caught:
            scene.go(graph, Command(resume=resume))
        assert problem in str(caught.value)
        assert request.id in str(caught.value)
    assert isinstance(caught.value, InvalidDecisionError | StaleRequestError)
    assert scene.ran() == []
    assert scene.the_one() == request
    scene.go(graph, Command(resume={request.interrupt_id: APPROVE}))
    assert scene.ran() == ["pay 1 bob"]


@pytest.mark.parametrize("answer", ["yes", {"decisions": []}, [{"type": "edit", "args": None}]], ids=json.dumps)
def test_langgraph_keeps_no_malformed_answer_to_choke_on_later(scene: Scene, answer: Any) -> None:
    """LangChain's middleware saves a list that is one decision short; each later resume then fails on it."""
    graph = scene.agent()
    request = scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError):
        scene.go(graph, Command(resume={request.interrupt_id: answer}))
    saved = scene.checkpointer.get_tuple(config_of("t"))
    assert saved is not None
    assert all(channel != "__resume__" for _, channel, _ in saved.pending_writes or [])
    scene.go(graph, None)
    scene.decide(request, approve())
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


def test_a_bare_malformed_answer_does_not_get_in_the_way_of_the_worker(scene: Scene) -> None:
    graph = scene.agent()
    request = scene.start(graph, [[pay_call(1)], [pay_call(2)]])[0]
    with pytest.raises(InvalidDecisionError):
        scene.go(graph, Command(resume="yes"))
    scene.decide(request, approve())
    [result] = scene.work(graph)
    assert (result.status, result.error) == ("paused", None)
    assert scene.ran() == ["pay 1 bob"]


@pytest.mark.parametrize(
    ("decision", "problem"),
    [
        (edit({"eur": "seven", "to": "bob"}), "eur: Input should be a valid integer"),
        (edit({"eur": 7}), "to: Field required"),
        (edit({"eur": 7, "to": "bob", "cc": "eve"}), "cc: Extra inputs are not permitted"),
        (respond(float("nan")), "not plain JSON"),
        (respond("\ud800"), "not plain JSON"),
        (edit({"eur": 7, "to": "\ud800"}), "not plain JSON"),
    ],
    ids=["type", "missing", "extra", "NaN", "half a character", "half a character in an edit"],
)
def test_the_inbox_refuses_it_at_once_and_takes_the_right_one(sync_scene: Scene, decision: Any, problem: str) -> None:
    scene = sync_scene
    graph = scene.agent()
    request = scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError, match=problem):
        scene.decide(request, decision)
    assert scene.the_one() == request
    scene.decide(request, edit({"eur": "7", "to": "eve"}))
    assert scene.inbox.get(request.id).decision == edit({"eur": 7, "to": "eve"})
    scene.work(graph)
    assert scene.ran() == ["pay 7 eve"]


def test_an_edit_may_change_only_what_the_rule_names(scene: Scene) -> None:
    graph = scene.agent(policy=Policy([Rule("pay", "ask", editable=("to",))]))
    request = scene.start(graph, [pay_call(1)])[0]
    for answer in ({"eur": 2, "to": "bob"}, {"eur": 2, "to": "eve"}):
        with pytest.raises(InvalidDecisionError, match="eur may not be edited; only to"):
            scene.decide(request, edit(answer))
        with pytest.raises(InvalidDecisionError, match="eur may not be edited; only to"):
            scene.go(graph, Command(resume={request.interrupt_id: {"type": "edit", "args": answer}}))
    scene.decide(request, edit({"eur": 1, "to": "eve"}))
    scene.work(graph)
    assert scene.ran() == ["pay 1 eve"]


@pytest.mark.parametrize("answer", [approve(), edit({"eur": 2, "to": "bob"}), respond("later")])
def test_a_word_that_is_not_offered_is_refused(scene: Scene, answer: Any) -> None:
    graph = scene.agent(policy=Policy([Rule("pay", "ask", allowed=("reject",))]))
    request = scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError, match=f"{answer.type} is not offered; it takes reject"):
        scene.decide(request, answer)
    with pytest.raises(InvalidDecisionError, match=f"{answer.type} is not offered; it takes reject"):
        scene.go(graph, Command(resume=answer.model_dump()))
    scene.decide(request, reject("no"))
    scene.work(graph)
    assert scene.ran() == []


def test_agent_inbox_that_leaves_out_a_null_argument_can_still_accept_and_edit(own_scene: Scene) -> None:
    """A null crashes its page, so the payload leaves it out; its answers then lack it as well."""
    scene = own_scene

    @tool
    def pay(eur: int, to: str | None = Field(description="nobody: the poor")) -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return "paid"

    graph = scene.agent(tools=[pay])
    calls = [{"name": "pay", "args": {"eur": eur, "to": None}, "id": f"pay-{eur}"} for eur in (1, 2)]
    one, two = sorted(scene.start(graph, calls), key=lambda request: str(request.action))
    scene.go(
        graph,
        Command(
            resume={
                one.interrupt_id: [{"type": "accept", "args": {"action": "pay", "args": {"eur": 1}}}],
                two.interrupt_id: [{"type": "edit", "args": {"action": "pay", "args": {"eur": "3"}}}],
            }
        ),
    )
    assert sorted(scene.ran()) == ["pay 1 None", "pay 3 None"]
