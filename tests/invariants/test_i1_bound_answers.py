"""I1: an answer counts only for the question that it was made for; any other is refused, or it is asked anew."""

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.errors import UnknownInterruptError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from hitl_graph.errors import HitlError, InvalidDecisionError, RequestError, StaleRequestError
from hitl_graph.model import approve, reject
from tests.invariants.agents import Graph, pay_call, write_effect
from tests.invariants.scenes import ALICE, APPROVE, Scene

STRICT = {"__pregel_strict_resume": True}


def forged(scene: Scene, graph: Graph, eur: int) -> dict[str, Any]:
    """An update that replaces the message which is being asked about: same id, other arguments."""
    state = graph.get_state({"configurable": {"thread_id": "t"}})
    message = next(m for m in reversed(state.values["messages"]) if isinstance(m, AIMessage))
    return {"messages": [AIMessage("", id=message.id, tool_calls=[pay_call(eur, id="pay-1")])]}


# --- an answer to one question never answers another ----------------------------------------------------------------


def test_the_answer_to_the_first_question_sent_again_does_not_answer_the_second(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    [first] = scene.waits(graph)
    scene.go(graph, Command(resume={first: APPROVE}))
    scene.go(graph, Command(resume={first: APPROVE}))
    assert scene.ran() == ["pay 1 bob"]
    assert scene.the_one().action == scene.ledger.history("t")[1].action
    with pytest.raises(UnknownInterruptError):
        scene.go(graph, Command(resume={first: APPROVE}), configurable=STRICT)
    assert scene.ran() == ["pay 1 bob"]


@pytest.mark.parametrize("again", [APPROVE, [{"type": "accept", "args": None}], {"decisions": [APPROVE]}])
def test_the_approval_sent_again_is_no_leave_to_run_a_lost_call_once_more(scene: Scene, again: Any) -> None:
    """LangGraph hands the answer of a task's first question to its second, if it is sent again."""

    @tool
    def pay(eur: int, to: str) -> str:
        """Send money, and crash."""
        write_effect(scene.effects, f"t pay-1 pay {eur} {to}")
        raise ConnectionError("the line went dead")

    graph = scene.agent(tools=[pay])
    scene.start(graph, [pay_call(1)])
    [first] = scene.waits(graph)
    with pytest.raises(ConnectionError):
        scene.go(graph, Command(resume={first: again}))
    scene.go(graph, None)
    assert scene.the_one().description.startswith("Did this happen?")
    for resume in ({first: again}, again):
        with pytest.raises(StaleRequestError, match="request_id"):
            scene.go(graph, Command(resume=resume))
    assert scene.ran() == ["pay 1 bob"]
    assert scene.the_one().kind == "question"


def test_an_answer_that_names_another_request_or_other_contents_is_refused(scene: Scene) -> None:
    graph = scene.agent()
    one, two = scene.start(graph, [pay_call(1), pay_call(2)])
    for claim in ({"request_id": two.id}, {"digest": two.digest}, {"request_id": None}):
        for answer in ({**APPROVE, **claim}, {"decisions": [{**APPROVE, **claim}]}, [{"type": "accept", **claim}]):
            with pytest.raises(StaleRequestError, match="look at what is asked now"):
                scene.go(graph, Command(resume={one.interrupt_id: answer}))
    assert scene.ran() == []
    assert scene.states() == ["pending", "pending"]
    scene.go(graph, Command(resume={one.interrupt_id: {**APPROVE, "request_id": one.id, "digest": one.digest}}))
    assert len(scene.ran()) == 1


def test_a_decision_about_what_is_not_shown_any_more_is_refused_by_the_inbox(scene: Scene) -> None:
    graph = scene.agent()
    one, two = scene.start(graph, [pay_call(1), pay_call(2)])
    with pytest.raises(StaleRequestError, match="look again"):
        scene.inbox.decide(one.id, approve(), reviewer=ALICE, digest=two.digest)
    assert scene.states() == ["pending", "pending"]


def test_an_answer_for_another_thread_is_refused(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)], "one")
    scene.start(graph, [pay_call(1)], "two")
    [foreign] = scene.waits(graph, "two")
    scene.go(graph, Command(resume={foreign: APPROVE}), "one")
    assert scene.ran() == []
    assert scene.states("one") == scene.states("two") == ["pending"]


# --- answers without an address -------------------------------------------------------------------------------------


def test_a_bare_answer_is_refused_while_two_questions_are_open(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1), pay_call(2)])
    with pytest.raises(RuntimeError, match="interrupt id"):
        scene.go(graph, Command(resume=APPROVE))
    assert scene.ran() == []


def test_a_bare_answer_sent_before_anything_was_asked_does_not_count(scene: Scene) -> None:
    graph = scene.agent()
    graph.interrupt_before_nodes = ["tools"]
    scene.start(graph, [pay_call(1)])
    graph.interrupt_before_nodes = []
    scene.go(graph, Command(resume=APPROVE))
    scene.go(graph, None)
    assert scene.ran() == []
    assert scene.states() == ["pending"]


def two_questions_in_one_step(scene: Scene) -> Graph:
    """An agent inside a graph: all that it asks belongs to one checkpoint of the outer graph."""
    outer = StateGraph(MessagesState)
    outer.add_node("team", scene.agent().builder.compile())
    outer.add_edge(START, "team")
    return outer.compile(checkpointer=scene.checkpointer)


def test_a_bare_answer_left_over_from_the_first_question_does_not_answer_the_second(scene: Scene) -> None:
    """LangGraph keeps such an answer with the checkpoint, and `invoke(None)` brings it up again (its #8837)."""
    graph = two_questions_in_one_step(scene)
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    scene.go(graph, Command(resume=APPROVE))
    for _ in range(2):
        scene.go(graph, None)
        assert scene.ran() == ["pay 1 bob"]
        assert scene.states() == ["delivered", "pending"]


def test_the_second_question_takes_the_same_answer_when_it_is_given_to_it(own_scene: Scene) -> None:
    scene = own_scene
    graph = two_questions_in_one_step(scene)
    scene.start(graph, [[pay_call(1)], [pay_call(2)], [pay_call(3)], [pay_call(4)]])
    scene.go(graph, Command(resume=APPROVE))
    scene.go(graph, Command(resume=APPROVE))
    scene.go(graph, None)
    assert scene.ran() == ["pay 1 bob", "pay 2 bob"]
    scene.go(graph, Command(resume={scene.waits(graph)[0]: APPROVE}))
    assert scene.ran() == ["pay 1 bob", "pay 2 bob", "pay 3 bob"]
    scene.decide(scene.the_one(), approve())
    scene.work(graph)
    assert scene.ran()[3:] == ["pay 4 bob"]


def test_beside_a_foreign_checkpointer_the_second_question_takes_it_with_an_address(scene: Scene) -> None:
    graph = two_questions_in_one_step(scene)
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    scene.go(graph, Command(resume=APPROVE))
    scene.go(graph, Command(resume={scene.waits(graph)[0]: APPROVE}))
    assert scene.ran() == ["pay 1 bob", "pay 2 bob"]


# --- the world changed while it waited ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["bare", "strict", "by id", "strict by id"])
def test_after_the_state_was_edited_no_answer_approves_what_nobody_saw(scene: Scene, answer: str) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    graph.update_state({"configurable": {"thread_id": "t"}}, forged(scene, graph, 999))
    resume = {shown.interrupt_id: APPROVE} if "by id" in answer else APPROVE
    try:
        scene.go(graph, Command(resume=resume), configurable=STRICT if "strict" in answer else {})
    except UnknownInterruptError:
        assert answer == "strict by id"
    scene.go(graph, None)
    assert scene.ran() == []
    [fresh] = [request for request in scene.asked() if request.id != shown.id]
    assert fresh.action is not None
    assert fresh.action.args["eur"] == 999


def test_after_the_state_was_edited_the_old_request_runs_nothing(scene: Scene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    graph.update_state({"configurable": {"thread_id": "t"}}, forged(scene, graph, 999))
    if scene.own:
        with pytest.raises(StaleRequestError, match="state was changed"):
            scene.decide(shown, approve())
    else:  # a foreign checkpointer does not tell the ledger; the worker finds out
        scene.decide(shown, approve())
        [result] = scene.work(graph)
        assert result.status == "failed"
        assert "does not wait" in str(result.error)
    assert scene.ran() == []


def test_a_decision_made_before_the_state_was_edited_runs_nothing(scene: Scene) -> None:
    graph = scene.agent()
    scene.decide(scene.start(graph, [pay_call(1)])[0], approve())
    graph.update_state({"configurable": {"thread_id": "t"}}, forged(scene, graph, 999))
    scene.work(graph)
    scene.go(graph, None)
    assert scene.ran() == []
    assert scene.the_one().action != scene.ledger.history("t")[0].action


@pytest.mark.parametrize("by_id", [False, True])
def test_an_answer_that_brings_an_update_along_approves_nothing_new(scene: Scene, by_id: bool) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    resume = {shown.interrupt_id: APPROVE} if by_id else APPROVE
    try:
        scene.go(graph, Command(resume=resume, update=forged(scene, graph, 999)))
    except HitlError:
        pass
    assert "pay 999 bob" not in scene.ran()


def test_new_input_while_it_waits_ends_the_old_question(scene: Scene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [[pay_call(1)], [pay_call(2)]])[0]
    scene.go(graph, {"messages": [HumanMessage("never mind")]})
    scene.go(graph, Command(resume={shown.interrupt_id: APPROVE}))
    assert scene.ran() == []
    if scene.own:
        with pytest.raises(StaleRequestError, match="new input"):
            scene.decide(shown, approve())
        assert scene.states() == ["superseded", "pending"]
    else:
        scene.decide(shown, approve())
        assert scene.work(graph)[0].status == "failed"
    assert scene.ran() == []


@pytest.mark.parametrize("words", [("approve", "approve"), ("reject", "approve"), ("approve", "reject")])
def test_of_two_stale_tabs_the_first_counts(scene: Scene, words: tuple[str, str]) -> None:
    """Agent Chat UI names the checkpoint that it shows; LangGraph then runs the step again."""
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    seen = scene.head(graph)
    for word in words:
        scene.go(graph, Command(resume={"decisions": [{"type": word}]}), checkpoint_id=seen)
    assert scene.ran() == (["pay 1 bob"] if words[0] == "approve" else [])
    decision = scene.ledger.history("t")[0].decision
    assert decision is not None
    assert decision.type == words[0]


def test_after_a_stale_tab_the_thread_can_still_be_answered(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [[pay_call(1)], [pay_call(2)]])
    seen = scene.head(graph)
    scene.go(graph, Command(resume=APPROVE), checkpoint_id=seen)
    scene.go(graph, Command(resume=APPROVE), checkpoint_id=seen)
    for interrupt_id in scene.waits(graph):
        scene.go(graph, Command(resume={interrupt_id: APPROVE}))
    assert sorted(scene.ran()) == ["pay 1 bob", "pay 2 bob"]
    assert scene.waits(graph) == []


# --- addresses that lead nowhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unknown", "empty"])
def test_an_address_that_leads_nowhere_answers_nothing(scene: Scene, name: str) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)])
    nowhere = {uuid4().hex: APPROVE} if name == "unknown" else {}
    scene.go(graph, Command(resume=nowhere))
    with pytest.raises(UnknownInterruptError):
        scene.go(graph, Command(resume=nowhere), configurable=STRICT)
    assert scene.ran() == []
    assert scene.states() == ["pending"]


def test_a_pointer_to_the_ledger_is_no_answer_while_nobody_decided(scene: Scene) -> None:
    """What the worker sends only says "look it up"; forging it gains nothing."""
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    with pytest.raises(InvalidDecisionError, match="nobody decided it yet"):
        scene.go(graph, Command(resume={shown.interrupt_id: {"request_id": shown.id, "digest": shown.digest}}))
    assert scene.ran() == []
    assert scene.states() == ["pending"]


def test_the_recorded_decision_counts_whatever_else_is_sent_later(scene: Scene) -> None:
    graph = scene.agent()
    shown = scene.start(graph, [pay_call(1)])[0]
    scene.decide(shown, reject("too much"))
    with pytest.raises(RequestError, match="already decided: reject by alice"):
        scene.go(graph, Command(resume={shown.interrupt_id: APPROVE}))
    [result] = scene.work(graph)
    assert result.status == "finished"
    assert scene.ran() == []


def test_a_plain_question_before_the_node_does_not_feed_it_with_its_answer(scene: Scene) -> None:
    """The host node of a nested agent asks something itself, with an answer that looks like an approval."""
    inner = scene.agent().builder.compile()

    def host(state: MessagesState) -> Any:
        interrupt("go on?")
        return inner.invoke(state)

    outer = StateGraph(MessagesState)
    outer.add_node("host", host)
    outer.add_edge(START, "host")
    graph = outer.compile(checkpointer=scene.checkpointer)
    scene.mode = "sync"  # a sync node that runs a graph
    scene.start(graph, [pay_call(1)])
    scene.go(graph, Command(resume=APPROVE))
    scene.go(graph, None)
    assert scene.ran() == []
    assert [request.kind for request in scene.asked()] == ["approval"]
