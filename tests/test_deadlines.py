"""Reminders, escalations and ends: each once, in order, by the ledger's clock; a machine that slept is no consent."""

import asyncio
import json
import logging
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.pregel import Pregel

from hitl_graph.deadlines import Came, Sweeper
from hitl_graph.errors import AlreadyDecidedError, StaleRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests, schedule
from hitl_graph.model import Action, Request, approve, reject, request_id
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Deadline, Escalate, Policy, Rule
from hitl_graph.storage import Transaction
from hitl_graph.terms import Stage, Terms, Turn
from hitl_graph.testing import FakeClock, ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger

pytestmark = pytest.mark.both_databases

HOUR = timedelta(hours=1)


@pytest.fixture
def ledger(db_path: Path) -> Generator[Ledger]:
    with open_ledger(db_path) as opened:
        opened.clock = FakeClock()
        yield opened
        assert opened.verify_audit().problem is None


def clock(ledger: Ledger) -> FakeClock:
    assert isinstance(ledger.clock, FakeClock)
    return ledger.clock


def ask(ledger: Ledger, name: str, deadline: Deadline, *, parked: int = 1, **terms: Any) -> str:
    on = Terms(schedule=deadline.schedule(ledger.clock()), **terms)
    request = Request(
        id=request_id("t", name), kind="approval", thread_id="t", interrupt_id=name,
        action=Action(name="pay", args={"eur": 5}), action_key=name, terms=on,
    )  # fmt: skip
    ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id="c", task_id="k", parked=parked)
    return request.id


def events(ledger: Ledger, own: str) -> list[str]:
    def work(tx: Transaction) -> list[str]:
        rows = tx.execute("SELECT event FROM hitl_audit WHERE subject = ? ORDER BY seq", (own,))
        return [row[0].partition(".")[2] for row in rows]

    return ledger.read(work)


def turns(came: list[Came]) -> list[tuple[str, str]]:
    return [(one.request.interrupt_id, one.turn.then) for one in came]


def test_a_machine_that_slept_catches_up_in_the_order_in_which_it_was_due(ledger: Ledger) -> None:
    chain = (Escalate(3 * HOUR, ("role:lead",)),)
    ids = [
        ask(ledger, "a", Deadline(5 * HOUR, remind=(HOUR, 4 * HOUR)), stages=(Stage(reviewers=("bob",)),)),
        ask(ledger, "b", Deadline(6 * HOUR, "escalate", to=("role:boss",), remind=(2 * HOUR,), escalate=chain)),
    ]
    told = list[Came]()
    sweeper = Sweeper(ledger, on_turn=told.append, batch=2)
    assert sweeper.run_once() == []
    assert sweeper.next_due() == ledger.clock() + HOUR
    clock(ledger).advance(timedelta(days=3))
    came = sweeper.run_once()
    assert turns(came) == [
        ("a", "remind"), ("b", "remind"), ("b", "escalate"), ("a", "remind"), ("a", "reject"), ("b", "escalate"),
    ]  # fmt: skip
    assert [one.late / 3600 for one in came] == [71, 70, 69, 68, 67, 66]
    assert [one.to for one in came[:3]] == [("bob",), ("*",), ("role:lead",)]
    assert told == came
    assert sweeper.run_once() == []
    assert sweeper.next_due() is None
    assert events(ledger, ids[0]) == ["opened", "reminded", "reminded", "timed_out", "decided"]
    assert came[4].request == Inbox(ledger).get(ids[0])
    assert came[5].request == Inbox(ledger).get(ids[1])


def test_a_deadline_is_exact_whoever_looks(ledger: Ledger) -> None:
    inbox, millisecond = Inbox(ledger), timedelta(milliseconds=1)
    before, after = ask(ledger, "before", Deadline(HOUR)), ask(ledger, "after", Deadline(HOUR))
    clock(ledger).advance(HOUR - millisecond)
    assert inbox.decide(before, approve(), reviewer="alice").state == "decided"
    clock(ledger).advance(millisecond)
    assert inbox.standing(after).upcoming[0].at == ledger.clock()  # due, and nobody took it yet: it says so
    for act in (inbox.claim, lambda own, reviewer: inbox.delegate(own, "bob", reviewer=reviewer)):
        with pytest.raises(AlreadyDecidedError, match="reject by deadline"):
            act(after, reviewer="alice")
    with pytest.raises(AlreadyDecidedError, match="reject by deadline"):
        inbox.decide(after, approve(), reviewer="alice")


@pytest.mark.parametrize(("wait", "slept", "ends"), [
    (4 * HOUR, timedelta(minutes=24), "decided"), (4 * HOUR, timedelta(minutes=24, milliseconds=1), "pending"),
    (timedelta(seconds=5), timedelta(minutes=1), "decided"), (timedelta(days=9), timedelta(minutes=61), "pending"),
])  # fmt: skip
def test_a_machine_that_slept_through_the_end_is_no_consent(
    ledger: Ledger, wait: timedelta, slept: timedelta, ends: str
) -> None:
    own, inbox = ask(ledger, "a", Deadline(wait, "approve")), Inbox(ledger)
    clock(ledger).advance(wait + slept)
    [came] = Sweeper(ledger).run_once()
    assert came.request.state == inbox.get(own).state == ends
    assert Sweeper(ledger).run_once() == []
    if ends == "pending":
        assert events(ledger, own) == ["opened", "lapsed"]
        assert inbox.decide(own, reject("too late"), reviewer="alice").decision == reject("too late")
    else:
        assert came.lapsed is None
        assert inbox.get(own).reviewer == "deadline"


def test_silence_does_not_outvote_a_person(ledger: Ledger) -> None:
    own = ask(ledger, "a", Deadline(HOUR, "approve"), rejects=2)
    other = ask(ledger, "b", Deadline(HOUR), stages=(Stage(quorum=2),))
    Inbox(ledger).decide(own, reject("no"), reviewer="alice")
    Inbox(ledger).decide(other, approve(), reviewer="alice")
    clock(ledger).advance(HOUR)
    came = {one.request.id: one for one in Sweeper(ledger).run_once()}
    assert came[own].lapsed == "alice voted against it"
    assert came[other].request.decision == reject("Not enough people agreed by 2030-01-01 10:00 UTC.")


def test_what_is_not_asked_takes_no_turns(ledger: Ledger) -> None:
    parked_late = ask(ledger, "late", Deadline(2 * HOUR, remind=(HOUR,)), parked=0)
    gone = ask(ledger, "gone", Deadline(HOUR))
    ledger.write(requests.close, ledger.now_ms(), Inbox(ledger).get(gone), "superseded", "the thread went on")
    clock(ledger).advance(2 * HOUR)
    assert Sweeper(ledger).run_once() == []
    with pytest.raises(StaleRequestError, match="not stored yet"):  # and does not wait for ever
        Inbox(ledger).decide(parked_late, approve(), reviewer="alice")
    ledger.write(requests.park, ledger.now_ms(), "t", parked_late, "k", 1)
    assert turns(Sweeper(ledger).run_once()) == [("late", "remind"), ("late", "reject")]  # from when it was asked


def test_a_clock_that_goes_back_repeats_nothing(ledger: Ledger) -> None:
    own = ask(ledger, "a", Deadline(3 * HOUR, remind=(HOUR, 2 * HOUR)))
    for minutes, expected in ((60, ["remind"]), (59, []), (119, []), (61, []), (120, ["remind"]), (10, [])):
        clock(ledger).now = datetime(2030, 1, 1, 9, tzinfo=UTC) + timedelta(minutes=minutes)
        assert [then for _, then in turns(Sweeper(ledger).run_once())] == expected
    assert Inbox(ledger).decide(own, approve(), reviewer="alice").state == "decided"


def test_an_answer_that_was_refused_is_asked_again_and_goes_on_where_it_was(ledger: Ledger) -> None:
    own = ask(ledger, "a", Deadline(3 * HOUR, remind=(HOUR, 2 * HOUR)))
    clock(ledger).advance(HOUR)
    Sweeper(ledger).run_once()
    decided = Inbox(ledger).decide(own, approve(), reviewer="alice")
    clock(ledger).advance(HOUR)
    assert Sweeper(ledger).run_once() == []
    ledger.write(requests.reopen, ledger.now_ms(), decided, "the graph refused it")
    assert turns(Sweeper(ledger).run_once()) == [("a", "remind")]
    clock(ledger).advance(HOUR)
    assert turns(Sweeper(ledger).run_once()) == [("a", "reject")]


def test_a_record_that_was_changed_holds_nobody_else_up(db_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_ledger(db_path) as ledger:
        ledger.clock = FakeClock()
        forged, sound = ask(ledger, "a", Deadline(HOUR)), ask(ledger, "b", Deadline(2 * HOUR))
        said = '"then":"reject"', '"then":"approve"'
        ledger.database.write(
            lambda tx: tx.execute("UPDATE hitl_requests SET shown = replace(shown, ?, ?) WHERE id = ?", (*said, forged))
        )
        clock(ledger).advance(2 * HOUR)
        sweeper = Sweeper(ledger, batch=1)
        assert turns(sweeper.run_once()) == [("b", "reject")]
        assert sweeper.run_once() == []
        assert sweeper.next_due() is None
        assert caplog.text.count(f"{forged} was changed behind our back") == 1
        assert Inbox(ledger).get(forged).state == "pending"
        assert Inbox(ledger).get(sound).state == "decided"
        assert ledger.verify_audit().problem == f"what request {forged} showed was changed"


def test_a_hook_that_fails_stops_nothing(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    heard = list[str]()

    async def fail(came: Came) -> None:
        heard.append(came.turn.then)
        raise RuntimeError("the channel is down")

    ask(ledger, "a", Deadline(2 * HOUR, remind=(HOUR,)))
    clock(ledger).advance(2 * HOUR)
    assert len(asyncio.run(Sweeper(ledger, on_turn=fail).arun_once())) == 2
    assert heard == ["remind", "reject"]
    assert caplog.text.count("RuntimeError: the channel is down") == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_it_serves_until_it_is_told_to_stop(ledger: Ledger, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.clock = lambda: datetime.now(UTC)
    ask(ledger, "a", Deadline(timedelta(seconds=0.4)))
    came, real, broken = list[Came](), ledger.read, Event()

    def read(*args: Any) -> Any:
        if not broken.is_set():
            broken.set()
            raise OSError("the disk hiccupped")
        return real(*args)

    monkeypatch.setattr(ledger, "read", read)

    def on_turn(one: Came) -> None:
        came.append(one)
        sweeper.stop()

    sweeper = Sweeper(ledger, on_turn=on_turn)
    if is_async:
        asyncio.run(sweeper.arun(interval=0.2))
    else:
        sweeper.run(interval=0.2)
    assert broken.is_set()
    assert 0 <= came[0].late < 0.3
    monkeypatch.undo()


# --- through a graph and its worker ------------------------------------------------------------------------------


def build(saver: BaseCheckpointSaver[Any], rule: Rule, pay: BaseTool, **options: Any) -> Pregel[Any, Any, Any, Any]:
    model = ScriptedChatModel([[tool_call("pay", eur=5)], "Done."]).bind_tools([pay])
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ApprovalNode([pay], policy=Policy([rule]), **options))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver)


@tool
def pay(eur: int) -> str:
    """Pay."""
    return f"paid {eur}"


THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


@pytest.mark.parametrize(("end", "told"), [
    ("reject", "pay needed a person's approval and did not run. Nobody decided by 2030-01-01 10:00 UTC."
               " Do not try it again."),
    ("approve", "paid 5"),
])  # fmt: skip
@pytest.mark.parametrize("foreign", [False, True])
def test_a_worker_takes_what_is_due_and_carries_it_out(
    db_path: Path, end: Literal["reject", "approve"], told: str, foreign: bool
) -> None:
    with open_checkpointer(db_path) as saver:
        saver.ledger.clock = FakeClock()
        ours = {} if not foreign else {"ledger": saver.ledger}
        rule = Rule("pay", "ask", deadline=HOUR, on_deadline=end)
        graph = build(InMemorySaver() if foreign else saver, rule, pay, **ours)
        graph.invoke({"messages": [("user", "Pay")]}, THREAD)
        came = list[Came]()
        worker = Worker(graph, saver.ledger, on_turn=came.append)
        assert worker.run_once() == []
        clock(saver.ledger).advance(HOUR)
        [resumed] = worker.run_once()
        assert (resumed.status, [one.turn.then for one in came]) == ("finished", [end])
        [answer] = [m for m in graph.get_state(THREAD).values["messages"] if isinstance(m, ToolMessage)]
        assert answer.content == told
        assert [row["reason"] for row in saver.ledger.executed("1")] == (["approve by deadline"] * (end == "approve"))
        assert saver.ledger.verify_audit().problem is None


def test_a_sweep_that_fails_does_not_keep_decided_threads_waiting(
    db_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_checkpointer(db_path) as saver:
        graph = build(saver, Rule("pay", "ask", deadline=HOUR), pay)
        graph.invoke({"messages": [("user", "Pay")]}, THREAD)
        [request] = Inbox(saver.ledger).pending()
        Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice")

        def broken(*_: Any) -> None:
            raise OSError("the disk hiccupped")

        monkeypatch.setattr(schedule, "next_due", broken)
        with caplog.at_level(logging.WARNING):
            [resumed] = Worker(graph, saver.ledger).run_once()
        assert resumed.status == "finished"
        assert "the disk hiccupped" in caplog.text


def test_a_worker_wakes_up_for_what_is_due_and_takes_it_while_a_thread_runs(db_path: Path) -> None:
    running, done = Event(), Event()

    @tool
    def pay(eur: int) -> str:
        """Pay, slowly."""
        running.set()
        return f"paid: {done.wait(20)}"

    with open_checkpointer(db_path) as saver:
        graph = build(saver, Rule("pay", "ask", deadline=timedelta(seconds=0.3), on_deadline="approve"), pay)
        graph.invoke({"messages": [("user", "Pay")]}, THREAD)
        came = list[Came]()
        worker = Worker(graph, saver.ledger, on_turn=came.append)
        serving = Thread(target=worker.run, kwargs={"interval": 60.0})
        serving.start()
        try:
            assert running.wait(10)
            other = ask(saver.ledger, "other", Deadline(timedelta(seconds=0.3)))
            until = time.monotonic() + 10
            while Inbox(saver.ledger).get(other).state == "pending" and time.monotonic() < until:
                time.sleep(0.05)
            assert Inbox(saver.ledger).get(other).reviewer == "deadline"
            assert not done.is_set()
        finally:
            done.set()
            worker.stop()
            serving.join()
        assert [one.turn.then for one in came] == ["approve", "reject"]


def test_turns_are_found_by_an_index(ledger: Ledger) -> None:
    """Among many that wait, also where most have a deadline."""
    for number in range(30):
        ask(ledger, str(number), Deadline((number + 1) * HOUR))
    looks = list[tuple[str, Any]]()

    class Spy:
        def __init__(self, tx: Transaction) -> None:
            self.tx = tx

        def execute(self, sql: str, parameters: Any = ()) -> Any:
            looks.append((sql, parameters))
            return self.tx.execute(sql, parameters)

    is_postgres = ledger.database.url.startswith("postgres")

    def work(tx: Transaction) -> list[str]:
        spy: Any = Spy(tx)
        schedule.next_due(spy)
        schedule.sweep(spy, 0)
        if is_postgres:
            tx.execute("SET LOCAL enable_seqscan = off")
            tx.execute("SET LOCAL enable_sort = off")
        how = "EXPLAIN" if is_postgres else "EXPLAIN QUERY PLAN"
        return [json.dumps(tx.execute(f"{how} {sql}", given).fetchall()) for sql, given in looks]

    plans = ledger.write(work)
    assert len(plans) == 2
    for plan in plans:
        assert "hitl_requests_due" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def test_turns_by_hand_lapse_after_a_minute() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    turn = Turn(at=at, then="approve")
    assert not turn.lapsed(turn.at_ms + 60_000)
    assert turn.lapsed(turn.at_ms + 60_001)
    assert not Turn(at=at, then="reject").lapsed(turn.at_ms + 10**9)
