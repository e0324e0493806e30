"""I6: what was acknowledged survives `kill -9` at any moment, in every durability mode.

Two processes at a time start threads, decide and resume them, and acknowledge each step over a pipe; both are killed
at random moments. Then somebody else opens the file and carries on: a worker, and a person who looks into the effects
file before saying what became of a call.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import UnknownRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.storage.sqlite import SqliteDatabase
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants import agents
from tests.invariants.agents import Durability, Graph, build, config_of, pay_call, ran, start, write_effect
from tests.invariants.processes import Report, child

MODES: tuple[Durability, ...] = ("sync", "async", "exit")
Told = Sequence[tuple[Any, ...]]

# --- the processes that are killed ---------------------------------------------------------------------------------


def live(report: Report, path: str, effects: str, mode: Durability, name: str, seed: int) -> None:
    """Start, decide and resume threads without end, and acknowledge each step once it is over."""
    with open_checkpointer(path) as checkpointer:
        graph, ledger = build(checkpointer, effects, delay=0.01), checkpointer.ledger
        report("ready")
        for number in count():
            _one_thread(report, graph, ledger, mode, f"{name}-{number}", random.Random(f"{seed} {name} {number}"))


def _one_thread(
    report: Report, graph: Graph, ledger: Ledger, mode: Durability, thread_id: str, chance: random.Random
) -> None:
    start(graph, thread_id, [pay_call(eur) for eur in range(1, chance.choice([2, 2, 3]))], mode)
    inbox = Inbox(ledger)
    asked = inbox.pending(thread_id=thread_id)
    way = chance.choice(["worker", "invoke", "answer"])
    report("paused", thread_id, [request.id for request in asked], way)
    answers: dict[str, Any] = {}
    decided: list[tuple[str, Decision]] = []
    for request in asked:
        choices = [approve(), approve(), edit({"eur": 99, "to": "carol"}), reject("no"), respond("later")]
        decision = chance.choice(choices)
        decided.append((request.id, decision))
        if way == "answer":
            answers[request.interrupt_id] = decision.model_dump(exclude_none=True)
        else:
            inbox.decide(request.id, decision, reviewer="alice")
            report("decided", request.id, decision)
            answers[request.interrupt_id] = {"request_id": request.id, "digest": request.digest}
    if way == "worker":
        Worker(graph, ledger).run_once()
    else:
        graph.invoke(Command(resume=answers), config_of(thread_id), durability=mode)
        for request_id, decision in decided:
            report("decided", request_id, decision)
    report("resumed", thread_id)


# --- the one who carries on ----------------------------------------------------------------------------------------


@dataclass
class Findings:
    """What is wrong after a crash, and how much there was to look at."""

    problems: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def check(self, good: bool, problem: str) -> None:
        if not good:
            self.problems.append(problem)


def carry_on(path: Path, effects: Path, told: Told, found: Findings, *, idempotent: bool = False) -> None:
    """Open the file as another process does, hold it against what was acknowledged, and bring everything to its end."""
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, idempotent=idempotent)
        ledger, inbox = checkpointer.ledger, Inbox(checkpointer.ledger)
        _acknowledged(graph, inbox, told, found)
        unknown, before = _unfinished(ledger), ran(effects)
        found.seen["unknown outcomes"] += len(unknown)
        _work(graph, ledger, found)
        _asked_not_run(inbox, unknown, before, ran(effects), found)
        _answer_everything(graph, inbox, effects, found)
        _go_on_with_own_runs(graph, told)
        _everything_ended(graph, ledger, effects, told, found)
        report = ledger.verify_audit()
        found.check(report.ok, f"audit: {report.problem}")


def _acknowledged(graph: Graph, inbox: Inbox, told: Told, found: Findings) -> None:
    for kind, *rest in told:
        found.seen[kind] += 1
        if kind == "paused":
            thread_id, ids, _ = rest
            for request_id in ids:
                request = _get(inbox, request_id)
                if request is None or request.state not in ("pending", "decided", "delivered"):
                    found.check(False, f"pause {request_id} of {thread_id} is lost: {request and request.state}")
                elif request.state == "pending":
                    waiting = {interrupt.id for interrupt in graph.get_state(config_of(thread_id)).interrupts}
                    listed = request_id in {one.id for one in inbox.pending(thread_id=thread_id)}
                    found.check(
                        listed and request.interrupt_id in waiting, f"{thread_id} does not wait for {request_id}"
                    )
        elif kind == "decided":
            request_id, decision = rest
            request = _get(inbox, request_id)
            kept = request is not None and request.decision == decision
            kept = kept and request is not None and request.state in ("decided", "delivered")
            found.check(kept, f"the decision on {request_id} is lost: {request and request.state}")


def _get(inbox: Inbox, request_id: str) -> Request | None:
    try:
        return inbox.get(request_id)
    except UnknownRequestError:
        return None


def _unfinished(ledger: Ledger) -> dict[str, str]:
    """The actions that a dead process was in the middle of: key and line prefix in the effects file."""
    rows = ledger.read(
        lambda tx: tx.execute(
            "SELECT p.action_key, p.thread_id, r.shown FROM hitl_effects e"
            " JOIN hitl_permits p ON p.id = e.permit_id JOIN hitl_requests r ON r.id = p.request_id"
            " WHERE e.state = 'reserved'"
        ).fetchall()
    )
    return {key: f"{thread_id} {json.loads(shown)['tool_call_id']} " for key, thread_id, shown in rows}


def _work(graph: Graph, ledger: Ledger, found: Findings) -> None:
    for _ in range(10):
        results = Worker(graph, ledger).run_once(limit=1000)
        for result in results:
            found.check(result.status != "failed", f"{result.thread_id} could not be resumed: {result.error!r}")
        if not results:
            return
    found.check(False, "the worker never comes to an end")


def _asked_not_run(inbox: Inbox, unknown: dict[str, str], before: list[str], after: list[str], found: Findings) -> None:
    """Every unknown outcome is a request to a person, and was not run again before the answer."""
    asked = {request.action_key for request in inbox.pending(kind="question", limit=1000)}
    for key, prefix in unknown.items():
        found.check(key in asked, f"nobody is asked what became of {prefix}")
        times = [sum(line.startswith(prefix) for line in lines) for lines in (before, after)]
        found.check(times[0] == times[1], f"{prefix}was run again by itself")


def _answer_everything(graph: Graph, inbox: Inbox, effects: Path, found: Findings) -> None:
    for _ in range(10):
        open_requests = inbox.pending(limit=1000)
        if not open_requests:
            return
        for request in open_requests:
            happened = any(line.startswith(f"{request.thread_id} {request.tool_call_id} ") for line in ran(effects))
            done = request.kind == "question" and happened
            inbox.decide(request.id, respond("it was done") if done else approve(), reviewer="carol")
        _work(graph, inbox.ledger, found)
    found.check(False, "it asks again and again")


def _go_on_with_own_runs(graph: Graph, told: Told) -> None:
    """Who resumes a graph without a worker goes on without one, as after any crash of a LangGraph program."""
    for kind, *rest in told:
        if kind == "paused" and rest[2] != "worker":
            state = graph.get_state(config_of(rest[0]))
            if state.next and not state.interrupts:
                graph.invoke(None, config_of(rest[0]), durability="sync")


def _everything_ended(graph: Graph, ledger: Ledger, effects: Path, told: Told, found: Findings) -> None:
    lines = ran(effects)
    for line, times in Counter(line.rsplit(" pay ")[0] for line in lines).items():
        found.check(times == 1, f"{line} ran {times} times")
    for thread_id in {words[1] for words in told if words[0] == "paused"}:
        found.seen["threads"] += 1
        found.check(graph.get_state(config_of(thread_id)).next == (), f"{thread_id} did not come to its end")
        for request in ledger.history(thread_id):
            if request.kind != "approval":
                continue
            expected = _line(request)
            mine = [line for line in lines if line.startswith(f"{thread_id} {request.tool_call_id} ")]
            found.check(request.state == "delivered", f"{request.id} of {thread_id} is {request.state}")
            found.check(mine == expected, f"{thread_id}: decided {expected}, ran {mine}")
    left = ledger.read(requests.select, "state = 'decided'")
    found.check(not left, f"decided and not carried out: {[request.id for request in left]}")


def _line(request: Request) -> list[str]:
    """What the effects file has to say about a decided request."""
    assert request.action is not None
    if request.decision is None or request.decision.type in ("reject", "respond"):
        return []
    args = request.decision.args or request.action.args
    return [f"{request.thread_id} {request.tool_call_id} pay {args['eur']} {args['to']}"]


# --- the tests -----------------------------------------------------------------------------------------------------


def kill_at_random(tmp_path: Path, mode: Durability, kills: int, seed: int) -> Findings:
    path, effects, found, chance = tmp_path / "agent.db", tmp_path / "effects", Findings(), random.Random(seed)
    for round_ in range(kills // 2):
        names = f"a{round_}", f"b{round_}"
        with (
            child(live, str(path), str(effects), mode, names[0], seed) as first,
            child(live, str(path), str(effects), mode, names[1], seed) as second,
        ):
            first.hear("ready")
            second.hear("ready")
            time.sleep(chance.uniform(0.02, 0.5))
            told = first.kill()
            time.sleep(chance.uniform(0.0, 0.25))
            told += second.kill()
        found.seen["kills"] += 2
        carry_on(path, effects, told, found)
        if found.problems:
            break
    print(mode, dict(found.seen))
    return found


@pytest.mark.parametrize("mode", MODES)
def test_a_dozen_kills(tmp_path: Path, mode: Durability) -> None:
    found = kill_at_random(tmp_path, mode, 12, seed=6)
    assert found.problems == []
    assert found.seen["kills"] == 12
    assert min(found.seen[kind] for kind in ("paused", "decided", "resumed")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_forty_kills(tmp_path: Path, mode: Durability) -> None:
    found = kill_at_random(tmp_path, mode, 40, seed=7)
    assert found.problems == []
    assert found.seen["kills"] == 40


def _die_before_commit(checkpointer: Checkpointer, last: int) -> None:
    """Die just before transaction number `last`, of whatever kind and in whatever thread."""
    database: Any = checkpointer.ledger.database
    done = count(1)

    def dying(commit: Any) -> Any:
        def die_or_commit(*args: Any, **kwargs: Any) -> Any:
            if next(done) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return commit(*args, **kwargs)

        return die_or_commit

    database._writes._commit = dying(database._writes._commit)
    if not isinstance(database, SqliteDatabase):
        database._write = dying(database._write)


def live_to_the_nth_write(report: Report, path: str, effects: str, mode: Durability, way: str, last: int) -> None:
    """One thread with two calls, from its start to its end, killed just before transaction number `last`."""
    with open_checkpointer(path) as checkpointer:
        _die_before_commit(checkpointer, last)
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        start(graph, "t", [pay_call(1), pay_call(2)], mode)
        asked = inbox.pending()
        report("paused", "t", [request.id for request in asked], way)
        for request, decision in zip(asked, [approve(), edit({"eur": 99, "to": "carol"})], strict=True):
            inbox.decide(request.id, decision, reviewer="alice")
            report("decided", request.id, decision)
            if way == "worker":
                Worker(graph, checkpointer.ledger).run_once()
            else:
                answer = {request.interrupt_id: {"request_id": request.id, "digest": request.digest}}
                graph.invoke(Command(resume=answer), config_of("t"), durability=mode)
        report("resumed", "t")


@pytest.mark.parametrize(
    ("mode", "way"),
    [
        ("sync", "worker"),
        ("async", "invoke"),
        ("exit", "invoke"),
        pytest.param("sync", "invoke", marks=pytest.mark.slow),
        pytest.param("async", "worker", marks=pytest.mark.slow),
        pytest.param("exit", "worker", marks=pytest.mark.slow),
    ],
)
def test_a_kill_before_each_single_write(tmp_path: Path, mode: Durability, way: str) -> None:
    resumed, last, found = False, 0, Findings()
    while not resumed:
        last += 1
        path, effects = tmp_path / f"{last}.db", tmp_path / f"{last}.effects"
        with child(live_to_the_nth_write, str(path), str(effects), mode, way, last) as process:
            told = process.end()
        resumed = ("resumed", "t") in told
        carry_on(path, effects, told, found)
        assert found.problems == [], f"killed before write {last}, after {told}"
    print(mode, way, last, dict(found.seen))
    assert last > 10


def pay_and_die(report: Report, path: str, effects: str) -> None:
    """One approved call, killed when its effect had happened and was not recorded."""
    with open_checkpointer(path) as checkpointer:
        graph, ledger = build(checkpointer, effects), checkpointer.ledger
        start(graph, "t", [pay_call(1)])
        [request] = Inbox(ledger).pending()
        report("paused", "t", [request.id], "worker")
        Inbox(ledger).decide(request.id, approve(), reviewer="alice")
        report("decided", request.id, approve())

        def die(*_: Any, **__: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

        ledger.note = die  # type: ignore[method-assign]
        Worker(graph, ledger).run_once()


def ask_and_die(report: Report, path: str, effects: str) -> None:
    """The next worker asks what became of the call, and is killed when the call has paused and its node has not."""
    with open_checkpointer(path) as checkpointer:
        ledger, put_writes = checkpointer.ledger, checkpointer.put_writes

        def dying(config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            if writes[0][0] == "__interrupt__" and task_path.count("~") == 1:
                while not ledger.read(requests.select, "kind = 'question'"):
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            put_writes(config, writes, task_id, task_path)

        checkpointer.put_writes = dying  # type: ignore[method-assign]
        Worker(build(checkpointer, effects), ledger).run_once()
        report("worked")


def test_a_question_is_asked_again_when_its_worker_died_while_asking(tmp_path: Path) -> None:
    path, effects, found = tmp_path / "agent.db", tmp_path / "effects", Findings()
    with child(pay_and_die, str(path), str(effects)) as process:
        told = process.end()
    for _ in range(3):
        with child(ask_and_die, str(path), str(effects)) as process:
            assert process.end() == []
        with open_ledger(path) as ledger:
            assert Inbox(ledger).pending() == []  # no answer could be delivered yet
    carry_on(path, effects, told, found)
    assert found.problems == []
    assert ran(effects) == ["t pay-1 pay 1 bob"]


def test_a_thread_whose_model_fails_after_the_action_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is carried out and delivered by then: the worker must not forget the thread for that."""
    effects, model, faults = tmp_path / "effects", agents._model, [ConnectionError("500"), ConnectionError("500")]

    def failing(state: Any) -> Any:
        if len(state["messages"]) > 2 and faults:
            raise faults.pop()
        return model(state)

    monkeypatch.setattr(agents, "_model", failing)
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        graph, worker = build(checkpointer, effects), Worker(build(checkpointer, effects), checkpointer.ledger)
        start(graph, "t", [pay_call(1)])
        [request] = Inbox(checkpointer.ledger).pending()
        Inbox(checkpointer.ledger).decide(request.id, approve(), reviewer="alice")
        for _ in range(2):
            [result] = worker.run_once()
            assert (result.status, type(result.error)) == ("failed", ConnectionError)
        [result] = Worker(graph, checkpointer.ledger).run_once()
        assert (result.status, result.request_ids) == ("finished", ())
        assert worker.run_once() == []
        assert ran(effects) == ["t pay-1 pay 1 bob"]
        assert graph.get_state(config_of("t")).values["messages"][-1].content == "finished"


# The harness can see what it looks for: each of these breaks one promise on purpose.


class _HastyLedger(Ledger):
    """Says that it is done, and writes later."""

    def acting(self, work: Any, request_id: str, *args: Any, **how: Any) -> Any:
        later = threading.Timer(30, super().acting, (work, request_id, *args), how)
        later.daemon = True
        later.start()
        return self.read(requests.find, request_id)


def decide_hastily(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects)
        start(graph, "t", [pay_call(1)])
        hasty = Inbox(_HastyLedger(checkpointer.ledger.database))
        [request] = hasty.pending()
        report("paused", "t", [request.id], "worker")
        hasty.decide(request.id, reject("no"), reviewer="alice")
        report("decided", request.id, reject("no"))
        signal.pause()


def test_a_ledger_that_acknowledges_before_its_commit_would_be_found(tmp_path: Path) -> None:
    path, effects, found = tmp_path / "agent.db", tmp_path / "effects", Findings()
    with child(decide_hastily, str(path), str(effects)) as process:
        process.hear("decided")
        told = process.kill()
    carry_on(path, effects, told, found)
    assert len(found.problems) == 1
    assert "the decision on" in found.problems[0]
    assert "is lost: pending" in found.problems[0]


def pause_and_forget(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects)
        start(graph, "t", [pay_call(1)])
        [request] = Inbox(checkpointer.ledger).pending()
        checkpointer.delete_thread("t")
        report("paused", "t", [request.id], "worker")
        report("paused", "t", ["0" * 20], "worker")
        signal.pause()


def test_a_lost_pause_would_be_found(tmp_path: Path) -> None:
    path, effects, found = tmp_path / "agent.db", tmp_path / "effects", Findings()
    with child(pause_and_forget, str(path), str(effects)) as process:
        process.hear("paused")
        process.hear("paused")
        told = process.kill()
    carry_on(path, effects, told, found)
    assert sum(" is lost: " in problem for problem in found.problems) == 2


@pytest.mark.parametrize("idempotent", [False, True])
def test_an_action_that_runs_again_by_itself_would_be_found(tmp_path: Path, idempotent: bool) -> None:
    path, effects, found = tmp_path / "agent.db", tmp_path / "effects", Findings()
    with child(pay_and_die, str(path), str(effects)) as process:
        told = process.end()
    assert ran(effects) == ["t pay-1 pay 1 bob"]
    carry_on(path, effects, told, found, idempotent=idempotent)  # it lies: paying twice is no harmless repetition
    assert found.seen["unknown outcomes"] == 1
    if not idempotent:
        assert found.problems == []
        return
    assert "nobody is asked what became of t pay-1 " in found.problems
    assert "t pay-1 was run again by itself" in found.problems
    assert "t pay-1 ran 2 times" in found.problems


def test_a_decision_that_is_not_what_ran_would_be_found(tmp_path: Path) -> None:
    path, effects, found = tmp_path / "agent.db", tmp_path / "effects", Findings()
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects)
        start(graph, "t", [pay_call(1)])
        [request] = Inbox(checkpointer.ledger).pending()
        Inbox(checkpointer.ledger).decide(request.id, reject("no"), reviewer="alice")
    write_effect(effects, "t pay-1 pay 1 bob")
    carry_on(path, effects, [("paused", "t", [request.id], "worker")], found)
    assert found.problems == ["t: decided [], ran ['t pay-1 pay 1 bob']"]
