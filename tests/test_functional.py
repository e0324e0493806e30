"""The functional API: what the person decided is exactly what happens to a call of a function, once."""

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import as_completed
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, RetryPolicy, StreamWriter
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.effects import idempotency_key
from hitl_graph.errors import (
    ArgumentsError,
    InvalidDecisionError,
    LedgerMissingError,
    PermitError,
    PolicyError,
    RejectedError,
)
from hitl_graph.functional import aask, requires_approval
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Resumed, Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import write_effect
from tests.invariants.processes import Report, child

AnyGraph = Pregel[Any, Any, Any, Any]
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


class Room:
    """A checkpointer, its people, and what ran."""

    def __init__(self, path: Path) -> None:
        self.saver: Checkpointer = open_checkpointer(str(path / "agent.db"))
        self.inbox = Inbox(self.saver.ledger)
        self.ran = list[Any]()

    def asked(self) -> list[Request]:
        """What waits for people, in the order of its content."""
        return sorted(self.inbox.pending(), key=lambda request: str(request.action and request.action.args))

    def the_one(self) -> Request:
        [request] = self.inbox.pending()
        return request

    def decide(self, decision: Decision, request: Request | None = None) -> None:
        request = request or self.the_one()
        self.inbox.decide(request.id, decision, reviewer="alice", digest=request.digest)

    def work(self, graph: AnyGraph) -> Resumed:
        [resumed] = Worker(graph, self.saver.ledger).run_once()
        if resumed.error is not None:
            raise resumed.error
        return resumed

    def answer(self, graph: AnyGraph, decision: Decision) -> Any:
        """Answer the only question, and let the graph go on; gives its output."""
        self.decide(decision)
        self.work(graph)
        return graph.get_state(THREAD).values


@pytest.fixture
def room(tmp_path: Path) -> Generator[Room]:
    made = Room(tmp_path)
    yield made
    assert made.saver.ledger.verify_audit().ok
    made.saver.close()


# --- however it is decorated and called ------------------------------------------------------------------------------

WAYS = ["plain", "coroutine", "approval of task", "task of approval", "async task", "task of coroutine"]


def paying(room: Room, way: str, policy: Policy | None = None, **options: Any) -> AnyGraph:
    """An agent that pays 1, 2 and 3 side by side, as far as that way of calling goes."""

    def pay(eur: int, to: str = "bob") -> str:
        """Send money."""
        room.ran.append((eur, to))
        return f"paid {eur} to {to}"

    async def apay(eur: int, to: str = "bob") -> str:
        """Send money."""
        await asyncio.sleep(0)
        return pay(eur, to)

    gated = requires_approval(policy, name="pay", **options)
    named: dict[str, Callable[[], Any]] = {
        "plain": lambda: gated(pay),
        "coroutine": lambda: gated(apay),
        "approval of task": lambda: gated(task(pay)),
        "task of approval": lambda: task(gated(pay)),
        "async task": lambda: gated(task(apay)),
        "task of coroutine": lambda: task(gated(apay)),
    }
    call = named[way]()

    def told(get: Callable[[], Any]) -> Any:
        try:
            return get()
        except RejectedError as exc:
            return [exc.message, exc.request_id is not None]

    @entrypoint(checkpointer=room.saver)
    def agent(amounts: list[int]) -> list[Any]:
        if way == "plain":
            return [told(partial(call, eur)) for eur in amounts]
        futures = [call(eur) for eur in amounts]
        return [told(future.result) for future in futures]

    @entrypoint(checkpointer=room.saver)
    async def aagent(amounts: list[int]) -> list[Any]:
        given = await asyncio.gather(*map(call, amounts), return_exceptions=True)
        for one in given:
            if isinstance(one, BaseException) and not isinstance(one, RejectedError):
                raise one
        return [[one.message, one.request_id is not None] if isinstance(one, RejectedError) else one for one in given]

    return aagent if "coroutine" in way or "async" in way else agent


def start(graph: AnyGraph, given: Any, thread: RunnableConfig = THREAD) -> Any:
    if graph.nodes[next(iter(graph.nodes))].bound.func is None:  # type: ignore[attr-defined]
        return asyncio.run(graph.ainvoke(given, thread))
    return graph.invoke(given, thread)


def work(room: Room, graph: AnyGraph) -> Resumed:
    if graph.nodes[next(iter(graph.nodes))].bound.func is None:  # type: ignore[attr-defined]
        [resumed] = asyncio.run(Worker(graph, room.saver.ledger).arun_once())
        return resumed
    return room.work(graph)


@pytest.mark.both_databases
@pytest.mark.parametrize("way", WAYS)
def test_each_call_has_its_own_question_its_own_answer_and_runs_once(room: Room, way: str) -> None:
    graph = paying(room, way)
    output = start(graph, [1, 2, 3, 4])
    answers: dict[int, Decision] = {
        1: approve(),
        2: edit({"eur": 20, "to": "eve"}),
        3: reject("no"),
        4: respond("later"),
    }
    # A plain function asks one after the other, and of tasks that are not ours LangGraph shows the first question.
    shown = 1 if way in ("plain", "task of approval", "task of coroutine") else 4
    assert len(output["__interrupt__"]) == len(graph.get_state(THREAD).interrupts) == shown
    for eur, answer in answers.items():  # one at a time: the others stay asked
        [request] = [r for r in room.asked() if r.action and r.action.args["eur"] == eur]
        room.decide(answer, request)
        assert work(room, graph).status == ("finished" if eur == 4 else "paused")
    assert room.ran == [(1, "bob"), (20, "eve")]
    assert graph.get_state(THREAD).values == ["paid 1 to bob", "paid 20 to eve", ["no", True], "later"]
    assert {request.state for request in room.saver.ledger.history("t")} == {"delivered"}


@pytest.mark.parametrize("way", WAYS)
def test_a_policy_lets_some_run_denies_others_and_asks_about_the_rest(room: Room, way: str) -> None:
    def small(call: Any) -> bool:
        return bool(call.args["eur"] < 10)

    def large(call: Any) -> bool:
        return bool(call.args["eur"] > 100)

    policy = Policy([Rule("pay", "allow", when=small), Rule("pay", "deny", when=large, reason="far too much")])
    graph = paying(room, way, policy)
    start(graph, [1, 500, 50])
    assert room.ran == [(1, "bob")]
    room.decide(approve())
    assert work(room, graph).status == "finished"
    assert room.ran == [(1, "bob"), (50, "bob")]
    given: Any = graph.get_state(THREAD).values
    assert given[0::2] == ["paid 1 to bob", "paid 50 to bob"]
    assert "far too much" in given[1][0]
    assert given[1][1] is False  # nobody was asked


def test_the_decorator_goes_without_and_with_arguments(room: Room) -> None:
    @requires_approval
    def one(a: int) -> int:
        return a

    @requires_approval()
    def two(a: int) -> int:
        return a

    @requires_approval(Policy([Rule("third", "allow")]), name="third")
    def three(a: int) -> int:
        """Three."""
        return a

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        return three(3) + one(1) + two(2)

    agent.invoke("", THREAD)
    assert room.the_one().action.name == "one"  # type: ignore[union-attr]
    room.answer(agent, approve())
    assert room.answer(agent, approve()) == 6
    assert three.__name__ == "three"
    assert three.__doc__ == "Three."
    with pytest.raises(PolicyError, match="is no Policy"):
        requires_approval("pay")  # type: ignore[call-overload]


def test_what_has_come_to_its_end_does_not_run_again_when_the_body_does(room: Room) -> None:
    bodies = list[str]()

    @requires_approval
    @task
    def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        bodies.append("ran")
        return sum(pay(eur).result() for eur in (1, 2, 3))

    agent.invoke("", THREAD)
    assert [room.answer(agent, approve()) for _ in range(3)][-1] == 6
    assert len(bodies) == 4
    assert room.ran == [1, 2, 3]


def test_the_same_call_made_twice_is_two_actions(room: Room) -> None:
    @requires_approval
    def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> list[Any]:
        answers = list[Any]()
        for _turn in range(2):
            try:
                answers.append(pay(5))
            except RejectedError as exc:
                answers.append(exc.message)
        return answers

    agent.invoke("", THREAD)
    first = room.the_one()
    room.answer(agent, approve())
    assert room.the_one().id != first.id
    assert room.the_one().action == first.action
    assert room.answer(agent, reject("once is enough")) == [5, "once is enough"]
    assert room.ran == [5]
    agent.invoke("", THREAD)  # a new input is a new call again
    assert room.the_one().id != first.id
    assert room.ran == [5]


def test_a_refused_call_raises_what_says_so_or_gives_what_on_reject_says(room: Room) -> None:
    @requires_approval
    def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    async def zero(error: RejectedError) -> int:
        return len(error.message)

    @requires_approval(name="mild", on_reject=zero)
    def mild(eur: int) -> int:
        room.ran.append(eur)
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        return mild(1) + pay(2)

    agent.invoke("", THREAD)
    room.answer(agent, reject("four"))
    request = room.the_one()
    room.decide(reject("too much"))
    with pytest.raises(RejectedError, match="a person rejected this call of pay; it did not run: too much") as caught:
        room.work(agent)
    error = caught.value
    assert (error.message, error.action, error.request_id) == ("too much", "pay", request.id)
    assert room.ran == []


@pytest.mark.parametrize("silent", [False, True])
def test_a_pause_that_the_program_catches_runs_nothing(room: Room, silent: bool) -> None:
    """LangGraph's pause is an Exception. Who catches it has not been told yes."""

    @requires_approval
    def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> str:
        try:
            pay(1)
        except Exception:
            return "caught"
        return "paid"

    assert agent.invoke("", THREAD) == "caught"
    assert room.ran == []
    for request in room.inbox.pending():
        room.decide(approve(), request)
    Worker(agent, room.saver.ledger).run_once()
    assert room.ran == []


# --- arguments -------------------------------------------------------------------------------------------------------


class Invoice(BaseModel):
    number: int
    due: datetime


def test_people_see_json_and_the_function_gets_its_types(room: Room) -> None:
    got = list[Any]()

    @requires_approval
    def settle(
        eur: Decimal,
        invoice: Invoice,
        share: Annotated[float, Field(gt=0, le=1)] = 1.0,
        *,
        tags: frozenset[str] = frozenset(),
        config: RunnableConfig,
        runtime: Runtime[None],
        writer: StreamWriter,
    ) -> str:
        """Settle an invoice."""
        writer("settling")
        got.extend([eur, invoice, share, tags, config["configurable"]["thread_id"], type(runtime).__name__])
        return idempotency_key()

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> str:
        given: Any = settle
        return str(given(Decimal("1.10"), Invoice(number=7, due=datetime(2030, 1, 1, tzinfo=UTC)), tags={"a"}))

    agent.invoke("", THREAD)
    request = room.the_one()
    assert request.action is not None
    invoice = {"number": 7, "due": "2030-01-01T00:00:00Z"}
    assert request.action.args == {"eur": "1.10", "invoice": invoice, "share": 1.0, "tags": ["a"]}
    assert request.description == "Settle an invoice."
    for unfit, why in (
        ({**request.action.args, "share": 2.0}, "share"),
        ({**request.action.args, "invoice": {"number": "seven"}}, "invoice"),
        ({**request.action.args, "unknown": 1}, "unknown"),
    ):
        with pytest.raises(InvalidDecisionError, match=why):
            room.decide(edit(unfit))
    edited = {"eur": "2.50", "invoice": {**invoice, "number": "8"}, "share": "0.5", "tags": ["b"]}
    key = room.answer(agent, edit(edited))
    due = datetime(2030, 1, 1, tzinfo=UTC)
    assert got == [Decimal("2.50"), Invoice(number=8, due=due), 0.5, frozenset({"b"}), "t", "Runtime"]
    assert key == request.action_key


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        (object(), "plain JSON"),
        (lambda: 1, "plain JSON"),
        ({1: "a"}, "something else"),
        ((1, 2), "something else"),
        ({1, 2}, "something else"),
        (float("nan"), "something else|plain JSON"),
        (datetime(2030, 1, 1, tzinfo=UTC), "something else"),
        ("\ud800", "plain JSON"),
    ],
)
def test_what_is_no_json_is_refused_before_anybody_is_asked(room: Room, argument: Any, why: str) -> None:
    @requires_approval
    def send(what) -> None:  # type: ignore[no-untyped-def]
        room.ran.append(what)

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> None:
        send(argument)

    with pytest.raises(ArgumentsError, match=why):
        agent.invoke("", THREAD)
    assert room.inbox.pending() == []
    assert room.ran == []


def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked(room: Room) -> None:
    @requires_approval
    def pay(eur: Annotated[int, Field(gt=0)], to: str) -> None:
        room.ran.append(eur)

    calls: list[tuple[Any, type[Exception], str]] = [
        (lambda: pay(-1, "bob"), ArgumentsError, "eur"),
        (lambda: pay("many", "bob"), ArgumentsError, "eur"),  # type: ignore[arg-type]
        (lambda: pay(1), TypeError, "to"),  # type: ignore[call-arg]
        (lambda: pay(1, "bob", "eve"), TypeError, "too many"),  # type: ignore[call-arg]
        (lambda: pay(1, whom="bob"), TypeError, "whom"),  # type: ignore[call-arg]
    ]
    for call, error, why in calls:

        @entrypoint(checkpointer=room.saver)
        def agent(_: str, call: Callable[[], None] = call) -> None:
            call()

        with pytest.raises(error, match=why):
            agent.invoke("", THREAD)
    assert room.inbox.pending() == []


def test_what_cannot_be_put_to_people_is_refused_when_it_is_decorated(room: Room) -> None:
    @tool
    def search(q: str) -> str:
        """Search."""
        return q

    @entrypoint()
    def other(_: str) -> None: ...

    def many(*eur: int) -> None: ...

    def named(**eur: int) -> None: ...

    def parts(_: str) -> Generator[int]:
        yield 1

    def strange(what: Callable[[], int]) -> None: ...

    unkept: Any = many
    cached: Any = task(cache_policy=CachePolicy())(unkept)

    things: list[tuple[Any, str]] = [
        (search, "ApprovalNode"),
        (other, "functions and tasks"),
        (many, "by name"),
        (named, "by name"),
        (parts, "generator"),
        (strange, "cannot be shown"),
        (cached, "cache_policy"),
        (Invoice, "functions and tasks"),
    ]
    for thing, why in things:
        with pytest.raises(PolicyError, match=why):
            requires_approval(thing)


# --- where it is called ----------------------------------------------------------------------------------------------


def test_where_nobody_can_be_asked_nothing_runs(room: Room) -> None:
    @requires_approval
    def pay(eur: int) -> None:
        room.ran.append(eur)

    with pytest.raises(PermitError, match="no graph runs"):
        pay(1)

    @entrypoint()
    def unkept(_: str) -> None:
        pay(1)

    with pytest.raises(LedgerMissingError, match="pay"):
        unkept.invoke("")

    @entrypoint(checkpointer=InMemorySaver())
    def foreign(_: str) -> None:
        pay(1)

    with pytest.raises(LedgerMissingError, match="pay"):
        foreign.invoke("", THREAD)

    @entrypoint(checkpointer=room.saver)
    async def blocking(_: str) -> None:
        pay(1)

    with pytest.raises(PermitError, match="would block its event loop"):
        asyncio.run(blocking.ainvoke("", THREAD))
    assert room.ran == []


def test_beside_a_foreign_checkpointer_it_works_with_a_ledger(tmp_path: Path) -> None:
    ran = list[int]()
    with open_ledger(tmp_path / "ledger.db") as ledger:

        @requires_approval(ledger=ledger)
        @task
        def pay(eur: int) -> int:
            ran.append(eur)
            return eur

        @entrypoint(checkpointer=InMemorySaver())
        def agent(_: str) -> int:
            return sum(future.result() for future in [pay(1), pay(2)])

        agent.invoke("", THREAD)
        inbox = Inbox(ledger)
        for request in inbox.pending():
            inbox.decide(request.id, approve(), reviewer="alice")
        [resumed] = Worker(agent, ledger).run_once()
        assert resumed.status == "finished"
        assert agent.get_state(THREAD).values == 3
        assert sorted(ran) == [1, 2]


class Tally(TypedDict):
    total: int


def test_in_a_node_of_a_graph_each_turn_of_a_loop_is_asked_anew(room: Room) -> None:
    @requires_approval
    def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    builder = StateGraph(Tally)
    builder.add_node("pay", lambda state: {"total": state["total"] + pay(5)})
    builder.add_edge(START, "pay")
    builder.add_conditional_edges("pay", lambda state: END if state["total"] >= 15 else "pay", ["pay", END])
    graph = builder.compile(checkpointer=room.saver)
    graph.invoke({"total": 0}, THREAD)
    ids = set[str]()
    for _ in range(3):
        ids.add(room.the_one().id)
        room.answer(graph, approve())
    assert len(ids) == 3
    assert graph.get_state(THREAD).values == {"total": 15}
    assert room.ran == [5, 5, 5]


def test_in_a_task_and_in_another_gated_function(room: Room) -> None:
    @requires_approval
    def pay(eur: int) -> int:
        room.ran.append(("pay", eur))
        return eur

    @requires_approval
    def order(eur: int) -> int:
        room.ran.append(("order", eur))
        return pay(eur)

    @task
    def outer(eur: int) -> int:
        return order(eur)

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        return sum(future.result() for future in [outer(1), outer(2)])

    agent.invoke("", THREAD)
    assert room.the_one().action.name == "order"  # type: ignore[union-attr]
    while asked := room.asked():
        for request in asked:
            room.decide(approve(), request)
        room.work(agent)
    assert agent.get_state(THREAD).values == 3
    assert sorted(what for what in room.ran if what[0] == "pay") == [("pay", 1), ("pay", 2)]


# --- a body that is not the same every time --------------------------------------------------------------------------


def test_a_call_that_has_changed_meanwhile_is_asked_about_anew(room: Room) -> None:
    price = [100]

    @requires_approval
    def pay(eur: int) -> str:
        room.ran.append(eur)
        return f"paid {eur}"

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> str:
        return pay(price[0])

    agent.invoke("", THREAD)
    room.decide(approve())
    price[0] = 101
    assert room.work(agent).status == "paused"
    assert room.ran == []
    request = room.the_one()
    assert request.action is not None
    assert request.action.args == {"eur": 101}
    assert '{"eur":100}' in request.reason
    assert room.answer(agent, approve()) == "paid 101"
    assert room.ran == [101]


def test_calls_that_have_changed_places_do_not_take_each_others_answers(room: Room) -> None:
    order = ["ann", "bob"]

    @requires_approval
    @task
    def pay(to: str) -> str:
        room.ran.append(to)
        return f"paid {to}"

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> list[str]:
        given = list[str]()
        for future in [pay(to) for to in order]:
            try:
                given.append(future.result())
            except RejectedError as exc:
                given.append(exc.message)
        return given

    agent.invoke("", THREAD)
    ann, bob = room.asked()
    room.decide(approve(), ann)
    room.decide(reject("not bob"), bob)
    order.reverse()
    room.work(agent)
    assert room.ran == []
    for request in room.asked():
        assert request.action is not None
        room.decide(approve() if request.action.args["to"] == "ann" else reject("not bob"), request)
    room.work(agent)
    assert room.ran == ["ann"]
    assert agent.get_state(THREAD).values == ["not bob", "paid ann"]


# --- failures --------------------------------------------------------------------------------------------------------


def crashing(report: Report, folder: str, *, idempotent: bool) -> None:
    """Go on with the approved call in a process that dies in the middle of it."""
    with open_checkpointer(f"{folder}/agent.db") as saver:
        Worker(_slow(saver, folder, report, idempotent), saver.ledger).run_once()


def _slow(saver: Checkpointer, folder: str, report: Report | None, idempotent: bool) -> AnyGraph:
    @requires_approval(idempotent=idempotent)
    @task
    def pay(eur: int) -> str:
        write_effect(f"{folder}/effects", f"{eur} {idempotency_key()}")
        if report is not None:
            report("paid")
            time.sleep(60)
        return f"paid {eur}"

    @entrypoint(checkpointer=saver)
    def agent(_: str) -> str:
        try:
            return pay(7).result()
        except RejectedError as exc:
            return f"refused: {exc.message}"

    return agent


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("answer", "given", "times"),
    [
        (respond("it was paid, receipt 12"), "it was paid, receipt 12", 1),
        (reject("it was not"), "refused: it was not", 1),
        (approve(), "paid 7", 2),
        (None, "paid 7", 2),
    ],
    ids=["it was done", "it was not done", "run it again", "idempotent"],
)
def test_after_a_crash_in_the_middle_of_it_a_person_is_asked_what_became_of_it(
    room: Room, tmp_path: Path, answer: Decision | None, given: str, times: int
) -> None:
    graph = _slow(room.saver, str(tmp_path), None, answer is None)
    graph.invoke("", THREAD)
    room.decide(approve())
    with child(crashing_again if answer is None else crashing_once, str(tmp_path)) as process:
        process.hear("paid")
        process.kill()
    resumed = room.work(graph)
    if answer is not None:
        assert resumed.status == "paused"
        question = room.the_one()
        assert question.kind == "question"
        assert "Did this happen?" in question.description
        room.answer(graph, answer)
    assert graph.get_state(THREAD).values == given
    effects = (tmp_path / "effects").read_text().splitlines()
    assert len(effects) == times
    assert len(set(effects)) == 1  # a repetition has the same key


def crashing_once(report: Report, folder: str) -> None:
    crashing(report, folder, idempotent=False)


def crashing_again(report: Report, folder: str) -> None:
    crashing(report, folder, idempotent=True)


def test_what_failed_is_not_tried_again_without_a_person(room: Room) -> None:
    retry = RetryPolicy(max_attempts=3, initial_interval=0.01, jitter=False, retry_on=OSError)

    def failing(eur: int) -> str:
        room.ran.append(eur)
        if len(room.ran) == 1:
            raise OSError("no line")
        return f"paid {eur}"

    pay: Any = requires_approval(name="pay")(task(retry_policy=retry)(failing))  # type: ignore[arg-type]

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> Any:
        return pay(1).result()

    agent.invoke("", THREAD)
    room.decide(approve())
    assert room.work(agent).status == "paused"
    assert room.ran == [1]
    assert "no line" in room.the_one().description
    assert room.answer(agent, approve()) == "paid 1"
    assert room.ran == [1, 1]


def test_a_retry_of_the_function_around_a_call_makes_it_no_second_time(room: Room) -> None:
    """LangGraph counts the calls of a retry on from those of the try before, and would run them as new ones."""

    @requires_approval(Policy([Rule("*", "allow")]))
    def pay(eur: int) -> str:
        """Send money."""
        room.ran.append(eur)
        return "paid"

    @entrypoint(checkpointer=room.saver, retry_policy=RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False))
    def agent(eur: int) -> str:
        pay(eur)
        raise ConnectionError("the line is dead")

    with pytest.raises((PermitError, ConnectionError)):
        agent.invoke(1, THREAD)
    assert room.ran == [1]


def test_a_bad_answer_is_refused_and_the_question_stays(room: Room) -> None:
    graph = paying(room, "approval of task")
    graph.invoke([1, 2], THREAD)
    one, two = room.asked()
    for bad in ({"type": "aprove"}, {}, {"type": "edit", "args": {"eur": "many"}}, {"type": "approve", "digest": "x"}):
        with pytest.raises(Exception, match=two.id):
            graph.invoke(Command(resume={two.interrupt_id: bad}), THREAD)
        assert room.ran == []
        assert room.asked() == [one, two]
    graph.invoke(Command(resume={two.interrupt_id: {"type": "approve"}}), THREAD)
    assert room.ran == [(2, "bob")]
    with pytest.raises(Exception, match=two.id):  # nor can it be given once more
        room.decide(approve(), two)


@pytest.mark.both_databases
def test_a_deadline_refuses_in_the_name_of_nobody(room: Room) -> None:
    policy = Policy([Rule("pay", "ask", deadline=timedelta(milliseconds=1), on_deadline="reject")])
    graph = paying(room, "approval of task", policy)
    graph.invoke([1], THREAD)
    time.sleep(0.01)
    worker = Worker(graph, room.saver.ledger)
    assert [resumed.status for resumed in worker.run_once()] == ["finished"]
    assert room.ran == []
    values: Any = graph.get_state(THREAD).values
    [[message, _]] = values
    assert "Nobody decided" in message


# --- a foreign thread, another process -------------------------------------------------------------------------------


@pytest.mark.both_databases
def test_another_process_finds_the_same_call(room: Room, tmp_path: Path) -> None:
    _slow(room.saver, str(tmp_path), None, False).invoke("", THREAD)
    request = room.the_one()
    with child(looking, str(tmp_path)) as process:
        assert process.hear("asked")[1] == request.id
        process.end()
    assert room.saver.ledger.history("t")[0].state == "delivered"
    assert (tmp_path / "effects").read_text().split()[1] == request.action_key


def looking(report: Report, folder: str) -> None:
    with open_checkpointer(f"{folder}/agent.db") as saver:
        inbox = Inbox(saver.ledger)
        [request] = inbox.pending()
        inbox.decide(request.id, approve(), reviewer="bob")
        [resumed] = Worker(_slow(saver, folder, None, False), saver.ledger).run_once()
        assert resumed.status == "finished"
        report("asked", request.id)


def test_several_are_asked_at_once_in_a_coroutine_and_calls_and_questions_mix(room: Room) -> None:
    @requires_approval
    async def pay(eur: int) -> int:
        room.ran.append(eur)
        return eur

    @entrypoint(checkpointer=room.saver)
    async def agent(_: str) -> Any:
        city, country, paid = await asyncio.gather(
            aask("Which city?"), aask("Which country?", options=["pt", "es"]), pay(1)
        )
        return {"city": city, "country": country, "paid": paid}

    async def play() -> Any:
        output = await agent.ainvoke("", THREAD)
        assert len(output["__interrupt__"]) == 3
        answers = {"Which city?": respond("Lisbon"), "Which country?": respond("pt"), None: approve()}
        for request in room.inbox.pending():
            asked = request.question["question"] if isinstance(request.question, dict) else None
            room.decide(answers[asked], request)  # type: ignore[index]
        await Worker(agent, room.saver.ledger).arun_once()
        return (await agent.aget_state(THREAD)).values

    assert asyncio.run(play()) == {"city": "Lisbon", "country": "pt", "paid": 1}
    assert room.ran == [1]


def test_a_call_that_pauses_before_the_next_one_starts_is_asked_about_with_it(room: Room) -> None:
    @requires_approval
    @task
    def pay(eur: int) -> int:
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        one = pay(1)
        time.sleep(0.2)
        return sum(call.result() for call in [one, pay(2)])

    output = agent.invoke("", THREAD)
    assert len(output["__interrupt__"]) == 2


def test_who_waits_for_futures_in_another_way_pauses_too(room: Room) -> None:
    @requires_approval
    @task
    def pay(eur: int) -> int:
        return eur

    @entrypoint(checkpointer=room.saver)
    def agent(_: str) -> int:
        return sum(call.result() for call in as_completed([pay(1), pay(2)]))

    output = agent.invoke("", THREAD)
    assert len(output["__interrupt__"]) == 2
    for request in room.asked():
        room.decide(approve(), request)
    assert room.work(agent).status == "finished"
    assert agent.get_state(THREAD).values == 3


def test_without_a_ledger_of_its_own_it_takes_the_one_it_is_given(room: Room, tmp_path: Path) -> None:
    other = Ledger.open(tmp_path / "other.db")
    try:
        graph = paying(room, "approval of task", ledger=other)
        graph.invoke([1], THREAD)
        [request] = Inbox(other).pending()
        Inbox(other).decide(request.id, approve(), reviewer="alice")
        Worker(graph, other).run_once()
        assert room.ran == [(1, "bob")]
    finally:
        other.close()
