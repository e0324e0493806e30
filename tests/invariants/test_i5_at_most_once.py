"""I5: an effect happens at most once. If a crash leaves its outcome unknown, a person is asked."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException
from langgraph.types import Command, interrupt

from hitl_graph.effects import idempotency_key, idempotent
from hitl_graph.errors import DatabaseWriteError
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import (
    Graph,
    build,
    config_of,
    pay_call,
    ran,
    said,
    search_call,
    start,
    tool_messages,
    write_effect,
)
from tests.invariants.processes import Barrier, Report, child, race

THREADS, PROCESSES = 50, 4

# --- several processes at once -----------------------------------------------------------------------------------


def resume_all(
    index: int, barrier: Barrier, path: str, effects: str, way: str, threads: dict[str, str]
) -> list[tuple[str, str]]:
    """Resume every thread in the given way, against the other processes; returns what was raised."""
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, delay=0.004)
        worker = Worker(graph, checkpointer.ledger)
        if way in ("run_once", "arun_once"):
            barrier.wait(60)
            results = worker.run_once() if way == "run_once" else asyncio.run(worker.arun_once())
            return [(result.thread_id, repr(result.error)) for result in results if result.status != "finished"]
        return list(asyncio.run(_resume_one_by_one(barrier, graph, way, threads)))


async def _resume_one_by_one(
    barrier: Barrier, graph: Graph, way: str, threads: dict[str, str]
) -> list[tuple[str, str]]:
    raised = []
    for number, (thread_id, interrupt_id) in enumerate(threads.items()):
        if number % 5 == 0:
            barrier.wait(60)
        answer: Command[Any] = Command(resume={interrupt_id: {"type": "approve"}})
        try:
            if way == "ainvoke":
                await graph.ainvoke(answer, config_of(thread_id), durability="sync")
            else:
                await asyncio.to_thread(graph.invoke, answer, config_of(thread_id), durability="sync")
        except Exception as exc:
            raised.append((thread_id, repr(exc)))
    return raised


@pytest.mark.parametrize("way", ["run_once", "arun_once", "invoke", "ainvoke"])
def test_four_processes_race_to_resume_fifty_threads(tmp_path: Path, way: str) -> None:
    path, effects = str(tmp_path / "agent.db"), tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        threads = {}
        for number in range(THREADS):
            threads[f"t{number}"] = start(graph, f"t{number}", [pay_call(number)])["__interrupt__"][0].id
        for request in inbox.pending(limit=THREADS):
            inbox.decide(request.id, approve(), reviewer="alice")

        raised = race(PROCESSES, resume_all, path, str(effects), way, threads)

        assert raised == [[]] * PROCESSES
        assert sorted(ran(effects)) == sorted(f"t{n} pay-{n} pay {n} bob" for n in range(THREADS))
        for number in range(THREADS):
            state = graph.get_state(config_of(f"t{number}"))
            assert (state.next, state.interrupts) == ((), ())
            kinds = [(type(message), message.content) for message in state.values["messages"][1:]]
            assert kinds == [(AIMessage, ""), (ToolMessage, f"paid {number} to bob"), (AIMessage, "finished")]
            [request] = checkpointer.ledger.history(f"t{number}")
            assert request.state == "delivered"
            [effect] = checkpointer.ledger.executed(f"t{number}")
            assert effect["state"] == "done"
        assert checkpointer.ledger.verify_audit().ok


def resume_and_fall_asleep(report: Report, path: str, effects: str, interrupt_id: str) -> None:
    """Carry out the approved call, and be held up before the graph's next checkpoint is stored."""
    with open_checkpointer(path) as checkpointer:
        put, asleep = checkpointer.put, list[bool]()

        def sleepy(*args: Any) -> RunnableConfig:
            if not asleep:
                asleep.append(True)
                report("asleep")
                until = time.monotonic() + 60
                while not Path(f"{effects}.awake").exists() and time.monotonic() < until:
                    time.sleep(0.01)
            return put(*args)

        checkpointer.put = sleepy  # type: ignore[method-assign, assignment]
        graph = build(checkpointer, effects)
        graph.invoke(Command(resume={interrupt_id: {"type": "approve"}}), config_of("t"), durability="sync")
        report("finished")


def test_a_run_that_was_overtaken_does_not_run_anything_again(tmp_path: Path) -> None:
    """Two runs of one thread, one on a machine that went silent: its late checkpoints become the newest ones."""
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        worker = Worker(graph, checkpointer.ledger)
        interrupt_id = start(graph, "t", [[pay_call(1)], [pay_call(2)]])["__interrupt__"][0].id
        with child(resume_and_fall_asleep, str(path), str(effects), interrupt_id) as sleeper:
            sleeper.hear("asleep")
            checkpointer.ledger.write(lambda tx: tx.execute("UPDATE hitl_namespaces SET claim = ''"))
            graph.invoke(Command(resume={interrupt_id: {"type": "approve"}}), config_of("t"), durability="sync")
            assert ran(effects) == ["t pay-1 pay 1 bob"]
            overtaken = _decide_only(inbox, approve())
            Path(f"{effects}.awake").touch()
            sleeper.hear("finished")
        # The late run put its own second message on top: the decision about the other one is over, and said to be so.
        assert inbox.get(overtaken).state == "superseded"
        assert [result.status for result in worker.run_once()] == []
        assert ran(effects) == ["t pay-1 pay 1 bob"]
        assert _decide_only(inbox, approve()) != overtaken
        assert [result.status for result in worker.run_once()] == ["finished"]
        assert ran(effects) == ["t pay-1 pay 1 bob", "t pay-2 pay 2 bob"]
        assert checkpointer.ledger.verify_audit().ok


# --- a crash in the middle of an effect --------------------------------------------------------------------------


def _crashing_pay(effects: str, how: str, times: int = 1) -> BaseTool:
    """`pay`, which kills its process the first `times` times; the file `effects`.deaths counts."""

    def pay(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Send money."""
        deadly = len(ran(f"{effects}.deaths")) < times
        write_effect(effects, f"{tool_call_id} pay {eur} {to} {idempotency_key()}")
        if deadly:
            write_effect(f"{effects}.deaths", "died")
            if how == "os._exit":
                os._exit(9)
            os.kill(os.getpid(), signal.SIGKILL)
        return f"paid {eur} to {to}"

    return StructuredTool.from_function(pay)


def work_once(report: Report, path: str, effects: str, make: Callable[..., BaseTool], *args: Any) -> None:
    """A worker in a process of its own."""
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[make(effects, *args)])
        for result in Worker(graph, checkpointer.ledger).run_once():
            report(result.thread_id, result.status, repr(result.error))


def crash(path: Path, effects: Path, make: Callable[..., BaseTool], *args: Any) -> None:
    """Let a worker run into its death."""
    with child(work_once, str(path), str(effects), make, *args) as worker:
        assert worker.end() == []
        assert worker.process.exitcode != 0


@pytest.mark.parametrize("how", ["os._exit", "SIGKILL"])
@pytest.mark.parametrize("word", ["approve", "reject", "respond"])
@pytest.mark.parametrize("first", [approve(), edit({"eur": 7, "to": "carol"})], ids=["approved", "edited"])
def test_after_a_crash_a_person_says_what_became_of_it(tmp_path: Path, how: str, word: str, first: Decision) -> None:
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[_crashing_pay(str(effects), how)])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, first)
        crash(path, effects, _crashing_pay, how)
        assert len(ran(effects)) == 1

        for _ in range(3):  # however often a worker looks, it asks and does nothing else
            worker.run_once()
            assert len(ran(effects)) == 1
        [question] = inbox.pending()
        assert question.kind == "question"
        assert question.action is not None
        assert question.action.args == (first.args or pay_call(1)["args"])
        assert "Did this happen?" in question.description
        assert question.labels.keys() == {"approve", "reject", "respond"}
        [effect] = checkpointer.ledger.executed("t")
        assert effect["state"] == "unknown"

        answer = {"approve": approve(), "reject": reject("I looked"), "respond": respond("it went through")}[word]
        inbox.decide(question.id, answer, reviewer="alice")
        [result] = worker.run_once()
        assert (result.status, worker.run_once(), inbox.pending()) == ("finished", [], [])
        [told] = tool_messages(graph, "t")
        lines = ran(effects)
        if word == "approve":
            assert len(lines) == 2
            assert lines[0] == lines[1]  # the same action with the same idempotency key
            assert told.startswith(f"paid {question.action.args['eur']} to {question.action.args['to']}")
        else:
            assert len(lines) == 1
            assert told == "it went through" if word == "respond" else "not done" in told and "I looked" in told
        states = [row["state"] for row in checkpointer.ledger.executed("t")]
        assert states == {"approve": ["unknown", "done"], "reject": ["not_done"], "respond": ["done"]}[word]
        assert all(request.state == "delivered" for request in checkpointer.ledger.history("t"))
        assert checkpointer.ledger.verify_audit().ok


def test_each_crash_is_asked_about_anew(tmp_path: Path) -> None:
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[_crashing_pay(str(effects), "SIGKILL", times=3)])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        asked = set()
        for crashes in range(1, 4):
            asked.add(_decide_only(inbox, approve()))
            crash(path, effects, _crashing_pay, "SIGKILL", 3)
            assert [result.status for result in worker.run_once()] == ["paused"]
            assert len(ran(effects)) == crashes
        asked.add(_decide_only(inbox, respond("done at last")))
        assert len(asked) == 4
        assert [result.status for result in worker.run_once()] == ["finished"]
        assert len(ran(effects)) == 3
        assert tool_messages(graph, "t") == ["done at last"]


def _pay_idempotently(effects: str, times: int = 1) -> BaseTool:
    return idempotent(_crashing_pay(effects, "SIGKILL", times=times))


@pytest.mark.parametrize("times", [1, 3])
def test_a_tool_that_is_declared_idempotent_is_retried_by_itself(tmp_path: Path, times: int) -> None:
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph, inbox = build(checkpointer, effects, tools=[_pay_idempotently(str(effects))]), Inbox(checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, approve())
        for _ in range(times):
            crash(path, effects, _pay_idempotently, times)
        assert [result.status for result in Worker(graph, checkpointer.ledger).run_once()] == ["finished"]
        assert inbox.pending() == []
        lines = ran(effects)
        assert len(lines) == times + 1
        assert len(set(lines)) == 1  # the same idempotency key each time
        assert tool_messages(graph, "t") == ["paid 1 to bob"]
        states = [row["state"] for row in checkpointer.ledger.executed("t")]
        assert states == ["unknown"] * times + ["done"]


def test_a_crash_of_a_call_that_the_policy_allows_is_asked_about_too(tmp_path: Path) -> None:
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    tools, policy = [_crashing_pay(str(effects), "SIGKILL")], Policy([Rule("pay", "allow")])
    with child(start_allowed, str(path), str(effects)) as process:
        assert process.end() == []
    with open_checkpointer(path) as checkpointer:
        graph, inbox = build(checkpointer, effects, tools=tools, policy=policy), Inbox(checkpointer.ledger)
        graph.invoke(None, config_of("t"))
        [question] = inbox.pending()
        assert (question.kind, len(ran(effects))) == ("question", 1)
        inbox.decide(question.id, respond("found it"), reviewer="alice")
        assert [result.status for result in Worker(graph, checkpointer.ledger).run_once()] == ["finished"]
        assert (len(ran(effects)), tool_messages(graph, "t")) == (1, ["found it"])


def start_allowed(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:
        tools, policy = [_crashing_pay(effects, "SIGKILL")], Policy([Rule("pay", "allow")])
        start(build(checkpointer, effects, tools=tools, policy=policy), "t", [pay_call(1)])
        report("survived")


def test_a_crash_after_a_retry_that_a_person_allowed_does_not_undo_it(tmp_path: Path) -> None:
    """The retry is done and on record; the graph has not heard of it when the process dies."""
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=[_crashing_pay(str(effects), "SIGKILL")])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, edit({"eur": 7, "to": "carol"}))
        crash(path, effects, _crashing_pay, "SIGKILL")
        worker.run_once()
        _decide_only(inbox, approve())
        with child(work_and_die_before_the_graph_hears, str(path), str(effects)) as process:
            assert process.end() == []
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["unknown", "done"]
        assert [result.status for result in worker.run_once()] == ["finished"]
        [told] = tool_messages(graph, "t")
        assert told.startswith("paid 7 to carol")
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["unknown", "done"]
        assert len(ran(effects)) == 2


def work_and_die_before_the_graph_hears(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:

        def die(*_: Any, **__: Any) -> None:
            if "done" in {row["state"] for row in checkpointer.ledger.executed("t")}:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpointer.put_writes = die  # type: ignore[method-assign]
        graph = build(checkpointer, effects, tools=[_crashing_pay(effects, "SIGKILL")])
        Worker(graph, checkpointer.ledger).run_once()
        report("survived")


# --- tools that raise, hang, are cancelled, or ask ---------------------------------------------------------------


def _failing_pay(effects: str) -> BaseTool:
    def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(effects, f"pay {eur} {to}")
        if len(ran(effects)) == 1:
            raise ConnectionError("no answer from the bank")
        return f"paid {eur} to {to}"

    return StructuredTool.from_function(pay)


@pytest.mark.parametrize("word", ["approve", "reject", "respond"])
def test_a_tool_that_raises_is_not_run_again_without_a_person(tmp_path: Path, word: str) -> None:
    effects = tmp_path / "effects"
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph = build(checkpointer, effects, tools=[_failing_pay(str(effects))])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, approve())
        [result] = worker.run_once()
        assert result.status == "failed"
        assert isinstance(result.error, ConnectionError)
        assert [worker.run_once()[0].status, worker.run_once()] == ["paused", []]
        [question] = inbox.pending()
        assert question.kind == "question"
        assert "no answer from the bank" in question.description
        assert len(ran(effects)) == 1
        answer = {"approve": approve(), "reject": reject("I looked"), "respond": respond("it went through")}[word]
        inbox.decide(question.id, answer, reviewer="alice")
        assert [result.status for result in worker.run_once()] == ["finished"]
        assert len(ran(effects)) == (2 if word == "approve" else 1)


def test_a_tool_whose_error_is_told_to_the_model_is_done(tmp_path: Path) -> None:
    """`handle_tool_error` turns the error into a result: the action came to its end."""
    effects = tmp_path / "effects"

    def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(effects, f"pay {eur} {to}")
        raise ToolException("insufficient funds")

    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph = build(checkpointer, effects, tools=[StructuredTool.from_function(pay, handle_tool_error=True)])
        start(graph, "t", [pay_call(1)])
        _decide_only(Inbox(checkpointer.ledger), approve())
        assert [result.status for result in Worker(graph, checkpointer.ledger).run_once()] == ["finished"]
        assert (len(ran(effects)), tool_messages(graph, "t")) == (1, ["insufficient funds"])


def _pay_until_let(effects: str, entered: asyncio.Event, hold: asyncio.Event) -> BaseTool:
    async def pay(eur: int, to: str) -> str:
        """Send money."""
        write_effect(effects, f"pay {eur} {to}")
        entered.set()
        await hold.wait()
        return f"paid {eur} to {to}"

    return StructuredTool.from_function(coroutine=pay)


async def test_an_async_tool_that_is_cancelled_has_an_unknown_outcome(tmp_path: Path) -> None:
    effects, entered, hold = tmp_path / "effects", asyncio.Event(), asyncio.Event()
    async with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph = build(checkpointer, effects, tools=[_pay_until_let(str(effects), entered, hold)])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        await graph.ainvoke(said([pay_call(1)]), config_of("t"), durability="sync")
        _decide_only(inbox, approve())
        running = asyncio.create_task(worker.arun_once())
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["unknown"]
        hold.set()
        assert [result.status for result in await worker.arun_once()] == ["paused"]
        [question] = inbox.pending()
        assert (question.kind, len(ran(effects))) == ("question", 1)
        await inbox.adecide(question.id, approve(), reviewer="alice")
        assert [result.status for result in await worker.arun_once()] == ["finished"]
        assert len(ran(effects)) == 2


async def test_a_sync_tool_that_cannot_be_cancelled_is_waited_for(tmp_path: Path) -> None:
    """Its thread goes on whatever becomes of the waiting task: to ask "did this happen?" now would be too early."""
    effects, entered, hold = tmp_path / "effects", asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def pay(eur: int, to: str) -> str:
        """Send money."""
        loop.call_soon_threadsafe(entered.set)
        hold.wait(60)
        write_effect(effects, f"pay {eur} {to}")
        return f"paid {eur} to {to}"

    async with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph = build(checkpointer, effects, tools=[StructuredTool.from_function(pay)])
        await graph.ainvoke(said([pay_call(1)]), config_of("t"), durability="sync")
        _decide_only(Inbox(checkpointer.ledger), approve())
        worker = Worker(graph, checkpointer.ledger)
        running = asyncio.create_task(worker.arun_once())
        await entered.wait()
        running.cancel()
        await asyncio.sleep(0.05)
        [effect] = checkpointer.ledger.executed("t")
        hold.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert effect["state"] == "reserved"
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["done"]
        assert [result.status for result in await worker.arun_once()] == ["finished"]
        assert (len(ran(effects)), tool_messages(graph, "t")) == (1, ["paid 1 to bob"])


def test_a_tool_that_asks_a_question_of_its_own_runs_to_its_end_once(tmp_path: Path) -> None:
    effects = tmp_path / "effects"

    def pay(eur: int, to: str) -> str:
        """Send money."""
        purpose = interrupt(f"What is {eur} for?")
        write_effect(effects, f"pay {eur} {to} {purpose}")
        return f"paid {eur} to {to} for {purpose}"

    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph = build(checkpointer, effects, tools=[StructuredTool.from_function(pay)])
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1), pay_call(2)])
        for request in inbox.pending():
            inbox.decide(request.id, approve(), reviewer="alice")
        assert [result.status for result in worker.run_once()] == ["paused"]
        questions = {str(request.question): request for request in inbox.pending()}
        assert questions.keys() == {"What is 1 for?", "What is 2 for?"}
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["paused", "paused"]
        assert ran(effects) == []
        for number, expected in (("1", ["pay 1 bob rent"]), ("2", ["pay 1 bob rent", "pay 2 bob rent"])):
            inbox.decide(questions[f"What is {number} for?"].id, respond("rent"), reviewer="alice")
            worker.run_once()
            assert ran(effects) == expected
        assert tool_messages(graph, "t") == ["paid 1 to bob for rent", "paid 2 to bob for rent"]
        assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["done", "done"]
        assert checkpointer.ledger.verify_audit().ok


def test_an_end_that_could_not_be_recorded_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the wrong moment, and the worker lives on."""
    effects = tmp_path / "effects"
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        worker = Worker(graph, checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, approve())

        def full(*_: Any, **__: Any) -> None:
            raise DatabaseWriteError("the disk is full")

        monkeypatch.setattr(checkpointer.ledger, "note", full)
        [result] = worker.run_once()
        assert isinstance(result.error, DatabaseWriteError)
        assert len(ran(effects)) == 1
        monkeypatch.undo()
        assert [result.status for result in worker.run_once()] == ["paused"]
        [question] = inbox.pending()
        assert (question.kind, len(ran(effects))) == ("question", 1)
        inbox.decide(question.id, respond("it was paid"), reviewer="alice")
        assert [result.status for result in worker.run_once()] == ["finished"]
        assert (len(ran(effects)), tool_messages(graph, "t")) == (1, ["it was paid"])


# --- the same call again -----------------------------------------------------------------------------------------


def test_identical_calls_in_one_message_run_once_each(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        start(
            graph, "t", [pay_call(1, id="a"), pay_call(1, id="b"), search_call("x", id="c"), search_call("x", id="d")]
        )
        first, second = inbox.pending()
        inbox.decide(first.id, approve(), reviewer="alice")
        worker = Worker(graph, checkpointer.ledger)
        worker.run_once()
        assert sorted(ran(effects)) == sorted(["t c search x", "t d search x", f"t {first.tool_call_id} pay 1 bob"])
        inbox.decide(second.id, approve(), reviewer="alice")
        worker.run_once()
        assert sorted(ran(effects)) == ["t a pay 1 bob", "t b pay 1 bob", "t c search x", "t d search x"]
        assert len(tool_messages(graph, "t")) == 4


@pytest.fixture
def executed(tmp_path: Path) -> Any:
    """A finished thread `t` that paid once."""
    effects = tmp_path / "effects"
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        _decide_only(inbox, approve())
        assert [result.status for result in Worker(graph, checkpointer.ledger).run_once()] == ["finished"]
        yield checkpointer, graph, inbox, effects


def _checkpoints(graph: Graph) -> list[RunnableConfig]:
    """The thread's checkpoints from which the tools are still to run, or have just run."""
    return [state.config for state in graph.get_state_history(config_of("t")) if len(state.values["messages"]) >= 2]


@pytest.mark.parametrize("resume", [None, Command(resume={"type": "approve"})], ids=["none", "approve"])
def test_going_on_from_an_old_checkpoint_does_not_run_it_again(executed: Any, resume: Any) -> None:
    checkpointer, graph, _, effects = executed
    configs = _checkpoints(graph)
    assert len(configs) == 3
    for config in configs:
        for _ in range(2):
            graph.invoke(resume, config, durability="sync")
        assert len(ran(effects)) == 1
    assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["done"]


def test_a_fork_of_an_old_checkpoint_does_not_run_it_again(executed: Any) -> None:
    checkpointer, graph, inbox, effects = executed
    paused = _checkpoints(graph)[-1]
    message = graph.get_state(paused).values["messages"][1]
    assert message.tool_calls
    fork = graph.update_state(paused, {"messages": [message]}, as_node="agent")
    assert graph.get_state(fork).next == ("tools",)
    graph.invoke(None, fork, durability="sync")
    assert (inbox.pending(), len(ran(effects))) == ([], 1)
    assert tool_messages(graph, "t") == ["paid 1 to bob"]
    assert [row["state"] for row in checkpointer.ledger.executed("t")] == ["done"]


def test_a_copy_of_a_thread_does_not_run_it_again(executed: Any) -> None:
    checkpointer, graph, inbox, effects = executed
    checkpointer.copy_thread("t", "copy")
    assert tool_messages(graph, "copy") == ["paid 1 to bob"]
    graph.invoke(None, config_of("copy"))
    assert (len(ran(effects)), inbox.pending()) == (1, [])
    for state in list(graph.get_state_history(config_of("copy"))):
        if len(state.values["messages"]) == 2:  # a copy is another thread: there a person is asked anew
            graph.invoke(None, state.config)
    assert len(ran(effects)) == 1


def test_a_copy_of_a_paused_thread_does_not_share_its_answer(tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        checkpointer.copy_thread("t", "copy")
        _decide_only(inbox, approve())
        worker = Worker(graph, checkpointer.ledger)
        assert [result.thread_id for result in worker.run_once()] == ["t"]
        assert ran(effects) == ["t pay-1 pay 1 bob"]
        graph.invoke(None, config_of("copy"))
        assert ran(effects) == ["t pay-1 pay 1 bob"]
        [asked] = inbox.pending()
        assert asked.thread_id == "copy"
        inbox.decide(asked.id, reject(), reviewer="alice")
        assert [result.status for result in worker.run_once()] == ["finished"]
        assert ran(effects) == ["t pay-1 pay 1 bob"]


def _decide_only(inbox: Inbox, decision: Decision) -> str:
    """Decide the one request that waits."""
    [request] = inbox.pending()
    inbox.decide(request.id, decision, reviewer="alice")
    return request.id
