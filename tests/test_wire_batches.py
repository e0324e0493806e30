"""One interrupt that asks several things: each is a request of its own, and one answer may be for all of them."""

import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import Interrupt
from typing_extensions import TypedDict

from hitl_graph import position
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import InvalidDecisionError, RequestError, StaleRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import requests as rows
from hitl_graph.model import WORDS, Action, Decision, Request, approve, edit, reject, request_id, respond
from hitl_graph.steps import run
from hitl_graph.wire import client_of, parse, parse_all, payload, recognise, resume_values
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer

INTERRUPT = "b" * 32
APPROVE, REJECT = {"type": "approve"}, {"type": "reject", "message": "no"}
DECISIONS = [approve(), edit({"eur": 2}), reject("no"), respond("later")]


def asked(position: int | None, thread: str = "t", interrupt: str = INTERRUPT, **more: Any) -> Request:
    base: dict[str, Any] = {
        "id": request_id(thread, interrupt, position or 0),
        "kind": "approval",
        "thread_id": thread,
        "interrupt_id": interrupt,
        "position": position,
        "action": Action(name="pay", args={"eur": position or 0}),
        "answer_schema": {"type": "object", "properties": {"eur": {"type": "integer"}}, "required": ["eur"]},
    }
    return Request.model_validate(base | more)


BATCH = [asked(0), asked(1), asked(2)]


def test_the_first_and_the_only_request_of_an_interrupt_have_the_same_id() -> None:
    """So whoever knows only the interrupt finds something, and ids of earlier releases stay."""
    assert asked(None).id == asked(0).id == request_id("t", INTERRUPT)
    assert len({request.id for request in BATCH}) == 3
    assert "position" not in asked(None).shown()
    assert asked(None).digest != asked(0).digest


@pytest.mark.parametrize("client", ["bridge", "agent-inbox", "agent-chat-ui", "studio", "ag-ui"])
def test_what_is_left_of_a_batch_is_recognised_whatever_the_client(client: Any) -> None:
    for left in itertools.chain.from_iterable(itertools.combinations(BATCH, n) for n in (1, 2, 3)):
        assert recognise("t", INTERRUPT, payload(left, client_of(client))) == list(left)
    assert recognise("t", INTERRUPT, payload(asked(None), client_of(client))) == [asked(None)]


def test_a_batch_is_shown_as_langchain_s_middleware_shows_it() -> None:
    shown = payload(BATCH)
    assert [(one["name"], one["args"]) for one in shown["action_requests"]] == [("pay", {"eur": n}) for n in range(3)]
    assert [one["action_name"] for one in shown["review_configs"]] == ["pay"] * 3


@pytest.mark.parametrize(
    "forged",
    [
        [asked(0), asked(0)],
        [asked(0), asked(None)],
        [asked(0), asked(1, thread="u")],
        [asked(0), asked(1, interrupt="c" * 32)],
        [asked(0), asked(1, id=request_id("t", INTERRUPT, 2))],
        [asked(0), asked(1, interrupt_id="c" * 32)],
        [],
    ],
)
def test_a_batch_with_one_request_that_is_not_of_this_interrupt_is_not_taken_for_ours(forged: list[Request]) -> None:
    shown = payload(BATCH) | {"hitl": {"requests": [{"digest": one.digest, "request": one.shown()} for one in forged]}}
    [found] = recognise("t", INTERRUPT, shown)
    assert found.answer_shape == "middleware"
    assert found.id == request_id("t", INTERRUPT)


def test_a_batch_with_other_contents_than_its_digest_says_is_not_taken_for_ours() -> None:
    shown = payload(BATCH)
    shown["hitl"]["requests"][1]["request"]["action"]["args"]["eur"] = 1_000_000
    [found] = recognise("t", INTERRUPT, shown)
    assert found.answer_shape == "middleware"


# --- answers --------------------------------------------------------------------------------------------------------


def test_one_answer_has_a_decision_for_each_in_their_order() -> None:
    answer = {"decisions": [APPROVE, {"type": "edit", "edited_action": {"name": "pay", "args": {"eur": "7"}}}, REJECT]}
    assert [*parse_all(answer, BATCH).items()] == [
        (BATCH[0].id, approve()),
        (BATCH[1].id, edit({"eur": 7})),
        (BATCH[2].id, reject("no")),
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_a_wrong_number_of_decisions_is_refused_and_says_what_is_asked(count: int) -> None:
    with pytest.raises(InvalidDecisionError, match="asks about 3: pay") as refused:
        parse_all({"decisions": [APPROVE] * count}, BATCH)
    assert all(request.id in str(refused.value) for request in BATCH)


@pytest.mark.parametrize("broken", [None, {}, {"type": "yes"}, {"type": "edit", "args": {"eur": "x"}}, "approve", True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_broken_decision_and_none_counts(broken: Any, place: int) -> None:
    decisions = [APPROVE, APPROVE, APPROVE]
    decisions[place] = broken
    with pytest.raises(InvalidDecisionError):
        parse_all({"decisions": decisions}, BATCH)


@pytest.mark.parametrize(
    "answer", [APPROVE, [APPROVE], {"decisions": APPROVE}, {"decisions": None}, "approve", None, [], True, {}]
)
def test_an_answer_that_does_not_say_which_it_is_for_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidDecisionError, match="asks about 3"):
        parse_all(answer, BATCH)


def test_decisions_that_name_their_requests_may_be_for_some_of_them_in_any_order() -> None:
    answer = {"decisions": [REJECT | {"request_id": BATCH[2].id}, APPROVE | {"request_id": BATCH[0].id}]}
    assert parse_all(answer, BATCH) == {BATCH[2].id: reject("no"), BATCH[0].id: approve()}
    assert parse_all(APPROVE | {"request_id": BATCH[1].id}, BATCH) == {BATCH[1].id: approve()}
    assert parse_all([APPROVE | {"request_id": BATCH[1].id}], BATCH) == {BATCH[1].id: approve()}


def test_a_decision_is_never_taken_for_another_request_than_the_one_it_names() -> None:
    stranger = asked(1, thread="u")
    twice = APPROVE | {"request_id": BATCH[1].id}
    swapped = [APPROVE, APPROVE | {"request_id": BATCH[2].id}, APPROVE]
    for answer, error in [
        ({"decisions": [APPROVE | {"request_id": stranger.id}]}, StaleRequestError),
        ({"decisions": [APPROVE | {"request_id": ["x"]}]}, StaleRequestError),
        ({"decisions": [twice, twice]}, InvalidDecisionError),
        ({"decisions": swapped}, StaleRequestError),
        ({"decisions": [APPROVE, APPROVE, APPROVE | {"digest": "0" * 64}]}, StaleRequestError),
        ({"decisions": [APPROVE] * 3, "request_id": BATCH[1].id}, InvalidDecisionError),
    ]:
        with pytest.raises(error):
            parse_all(answer, BATCH)


def test_agent_inbox_answers_what_it_draws_the_first() -> None:
    client = client_of("agent-inbox")
    [shown] = payload(BATCH, client)
    accepted = [{"type": "accept", "args": shown["action_request"]}]
    assert parse_all(accepted, BATCH, client) == {BATCH[0].id: approve()}
    with pytest.raises(StaleRequestError):  # the same once more, when the next one is drawn
        parse_all(accepted, BATCH[1:], client)
    with pytest.raises(InvalidDecisionError, match="asks about 3"):
        parse_all(accepted, BATCH)


def test_what_agent_inbox_sends_back_is_bound_to_its_request_though_the_arguments_are_the_same() -> None:
    first, second = asked(0), asked(1, action=asked(0).action)
    accepted = payload([first, second], client_of("agent-inbox"))[0]["action_request"]
    with pytest.raises(StaleRequestError):
        parse([{"type": "accept", "args": accepted}], second)
    with pytest.raises(StaleRequestError):
        parse([{"type": "accept", "args": {"action": "refund", "args": {"eur": 0}}}], first)


@given(st.lists(st.sampled_from(range(3)), unique=True, min_size=1), st.data())
def test_what_the_worker_resumes_with_points_at_each_decision(places: list[int], data: Any) -> None:
    decided = [BATCH[n].model_copy(update={"decision": data.draw(st.sampled_from(DECISIONS))}) for n in places]
    [value] = resume_values(decided).values()
    assert parse_all(value, BATCH) == {request.id: None for request in decided}


ENTRY = st.sampled_from(
    [APPROVE, REJECT, {}, None, "approve", APPROVE | {"request_id": BATCH[1].id}, {"type": "respond", "message": "x"}]
)


@given(st.lists(ENTRY, max_size=4), st.booleans())
def test_whatever_comes_either_every_decision_is_one_that_was_given_or_none_counts(given_: Any, wrapped: bool) -> None:
    try:
        found = parse_all({"decisions": given_} if wrapped else given_, BATCH)
    except RequestError:
        return
    assert len(found) == len(given_)
    for decision, entry in zip(found.values(), given_, strict=True):
        assert decision is not None
        assert decision.type == entry["type"]
        assert decision.type in WORDS


# --- in a graph -----------------------------------------------------------------------------------------------------

CALLS = [Action(name="pay", args={"eur": n}) for n in (1, 2, 3)]


class State(TypedDict, total=False):
    done: list[str]


def batch_of(saver: Checkpointer, ran: list[int]) -> Pregel[State, None, State, State]:
    """A graph whose one node asks three things by one interrupt, and again for those that nobody decided."""

    def node(state: State, config: RunnableConfig) -> State:
        ran.append(1)
        configurable = config.get("configurable", {})
        interrupt_id = Interrupt.from_ns("", configurable["checkpoint_ns"]).id
        thread_id = str(configurable["thread_id"])
        batch = [asked(n, thread_id, interrupt_id, action=action) for n, action in enumerate(CALLS)]
        recorded = [saver.ledger.read(rows.get, request.id) for request in batch]
        left = [one for one, known in zip(batch, recorded, strict=True) if known is None or known.decision is None]
        if left:
            raise GraphInterrupt((Interrupt(payload(left), id=interrupt_id),))
        return {"done": [f"{known.action.args['eur']} {known.decision.type}" for known in recorded]}  # type: ignore[union-attr]

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=saver)


@pytest.fixture
def saver(db_path: Path) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


CONFIG: RunnableConfig = {"configurable": {"thread_id": "t"}}


def states(saver: Checkpointer) -> list[str]:
    found: Sequence[Request] = saver.ledger.read(rows.select, "thread_id = 't' ORDER BY created_ms, id", ())
    return [request.state for request in sorted(found, key=lambda request: request.position or 0)]


@pytest.mark.both_databases
def test_each_call_of_a_batch_is_in_the_inbox_and_decided_by_itself(saver: Checkpointer) -> None:
    ran: list[int] = []
    graph, inbox = batch_of(saver, ran), Inbox(saver.ledger)
    graph.invoke({}, CONFIG)
    first, second, third = inbox.pending()
    assert [request.action for request in (first, second, third)] == CALLS
    assert len({request.interrupt_id for request in (first, second, third)}) == 1

    worker = Worker(graph, saver.ledger)
    inbox.decide(second.id, reject("no"), reviewer="bob")
    [resumed] = worker.run_once()
    assert resumed.status == "paused"
    assert resumed.request_ids == (second.id,)
    assert states(saver) == ["pending", "delivered", "pending"]
    [waiting] = graph.get_state(CONFIG).interrupts
    assert waiting.id == first.interrupt_id
    assert [one["args"] for one in waiting.value["action_requests"]] == [{"eur": 1}, {"eur": 3}]
    assert worker.run_once() == []

    found = run(position.look(graph, saver.ledger, CONFIG))
    assert [request.id for request in found.asked] == [first.id, third.id]
    assert found.unknown == ()
    assert found.over == ()

    inbox.decide(first.id, approve(), reviewer="ann")
    inbox.decide(third.id, edit({"eur": 4}), reviewer="ann")
    [resumed] = worker.run_once()
    assert resumed.status == "finished"
    assert set(resumed.request_ids) == {first.id, third.id}
    assert graph.get_state(CONFIG).values["done"] == ["1 approve", "2 reject", "3 edit"]
    assert states(saver) == ["delivered"] * 3
    assert len(ran) == 3
    assert saver.ledger.verify_audit().ok


@pytest.mark.both_databases
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_whatever_the_order_no_decision_is_lost_and_none_is_delivered_twice(
    saver: Checkpointer, order: Sequence[int]
) -> None:
    graph, inbox = batch_of(saver, []), Inbox(saver.ledger)
    graph.invoke({}, CONFIG)
    batch = list(inbox.pending())
    worker, handed = Worker(graph, saver.ledger), list[str]()
    for place in order:
        decision: Decision = approve(str(place))
        inbox.decide(batch[place].id, decision, reviewer="ann")
        for resumed in worker.run_once():
            handed += resumed.request_ids
    assert handed == [batch[place].id for place in order]
    assert graph.get_state(CONFIG).next == ()
    assert states(saver) == ["delivered"] * 3


def test_what_is_left_of_a_batch_ends_with_its_pause(saver: Checkpointer) -> None:
    graph, inbox = batch_of(saver, []), Inbox(saver.ledger)
    graph.invoke({}, CONFIG)
    inbox.decide(inbox.pending()[1].id, approve(), reviewer="ann")
    Worker(graph, saver.ledger).run_once()
    graph.invoke({"done": []}, CONFIG)  # new input: the thread asks anew
    assert sorted(states(saver)) == sorted(["superseded", "delivered", "superseded", *["pending"] * 3])


def test_of_a_batch_whose_thread_is_closed_by_hand_nothing_stays_pending(saver: Checkpointer) -> None:
    graph, inbox = batch_of(saver, []), Inbox(saver.ledger)
    graph.invoke({}, CONFIG)
    inbox.decide(inbox.pending()[0].id, approve(), reviewer="ann")
    graph.update_state(CONFIG, None, as_node="__end__")
    assert inbox.pending() == []
    assert states(saver) == ["superseded"] * 3
    assert Worker(graph, saver.ledger).run_once() == []
    assert graph.get_state(CONFIG).values == {}
