"""Every way on a real LangGraph Server with its own checkpointer, and a ledger of ours beside it."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from hitl_graph.errors import AlreadyDecidedError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.wire import resume_values
from tests.invariants.agents import Calls, pay_call, ran, said, search_call
from tests.invariants.scenes import ALICE
from tests.test_studio import ROOT, Server
from tests.ways.builders import WAYS, Way
from tests.ways.served import LAX, graph_name

pytestmark = pytest.mark.slow
IN = ("LangGraph Server",)
APPROVE = {"type": "approve"}
_all_have_asked = threading.Barrier(len(WAYS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ways"))
    graphs = {graph_name(number): f"tests.ways.served:{graph_name(number)}" for number, _ in enumerate(WAYS)}
    (server.home / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        server.start()
    try:
        yield server
    finally:
        server.stop()


class Thread:
    """One thread of one way on the server, seen from outside."""

    def __init__(self, server: Server, client: SyncLangGraphClient, way: Way, ledger: Ledger) -> None:
        self.way, self.graph, self.server, self.ledger = way, graph_name(WAYS.index(way)), server, ledger
        self.client, self.inbox = client, Inbox(ledger)
        self.id = self.another()

    def all_have_asked(self) -> None:
        """Wait for the other ways; what comes next would change the policy under their feet."""
        _all_have_asked.wait(120)

    def another(self) -> str:
        return str(self.client.threads.create()["thread_id"])

    def run(self, thread: str | None = None, **how: Any) -> str:
        """Run to its pause or its end: `paused`, `finished`, or the name of the error."""
        output: Any = self.client.runs.wait(thread or self.id, self.graph, raise_error=False, **how)
        if isinstance(output, dict) and "__error__" in output:
            return str(output["__error__"]["error"])
        return "paused" if isinstance(output, dict) and output.get("__interrupt__") else "finished"

    def start(self, calls: Calls | Sequence[Calls], thread: str | None = None) -> list[Request]:
        [message] = said(calls)["messages"]
        self.run(thread, input={"messages": [{"role": "user", "content": message.content}]})
        return self.asked(thread)

    def asked(self, thread: str | None = None) -> list[Request]:
        return sorted(self.inbox.pending(thread_id=thread or self.id), key=lambda request: str(request.action))

    def answer(self, request: Request, word: Any) -> str:
        if request.position is not None:
            word = {"decisions": [{**word, "request_id": request.id}]} if isinstance(word, dict) else word
        return self.run(command={"resume": {request.interrupt_id: word}})

    def decide(self, request: Request, decision: Decision) -> None:
        self.inbox.decide(request.id, decision, reviewer=ALICE, digest=request.digest)

    def go_on(self) -> str:
        """Resume with what is decided, as a worker of the server does."""
        return self.run(command={"resume": resume_values(self.inbox_decided())})

    def inbox_decided(self) -> list[Request]:
        return [request for request in self.ledger.history(self.id) if request.state == "decided"]

    def ran(self, thread: str | None = None) -> list[str]:
        lines = [line.split(" ", 2) for line in ran(self.server.outbox)]
        return [what for whose, _, what in lines if whose == (thread or self.id)]

    def states(self) -> list[str]:
        return [request.state for request in self.ledger.history(self.id)]


def i1_an_answer_made_for_something_else_is_refused(thread: Thread) -> None:
    thread.start([[pay_call(1)], [pay_call(2)]])
    [first] = thread.asked()
    foreign = thread.another()
    [other] = thread.start([pay_call(5)], foreign)
    assert thread.answer(first, {**APPROVE, "digest": other.digest}) == "StaleRequestError"
    assert thread.run(command={"resume": {other.interrupt_id: APPROVE}}) == "paused"
    assert (thread.ran(), thread.ran(foreign)) == ([], [])
    for _ in range(2):
        assert thread.answer(first, APPROVE) == "paused"
        assert thread.ran() == ["pay 1 bob"]
    [second] = thread.asked()
    assert thread.answer(second, APPROVE) == "finished"
    assert thread.ran() == ["pay 1 bob", "pay 2 bob"]


def i2_the_second_answer_is_told_of_the_first(thread: Thread) -> None:
    [request] = thread.start([pay_call(1)])
    thread.decide(request, reject("no"))
    assert thread.answer(request, APPROVE) == "AlreadyDecidedError"
    with pytest.raises(AlreadyDecidedError, match="reject by alice"):
        thread.decide(request, approve())
    assert thread.go_on() == "finished"
    assert thread.ran() == []


def i3_what_was_asked_is_not_waved_through_when_the_limit_is_raised(thread: Thread) -> None:
    [request] = thread.start([pay_call(50)])
    thread.all_have_asked()
    Path(f"{thread.server.db}{LAX}").touch()
    thread.run(input=None)
    assert (thread.ran(), thread.states()) == ([], ["pending"])
    thread.decide(request, reject("too much"))
    assert thread.go_on() == "finished"
    assert thread.ran() == []


def i4_no_jump_and_no_forged_state_runs_what_was_not_approved(thread: Thread) -> None:
    [request] = thread.start([pay_call(1)])
    call = {**pay_call(1), "type": "tool_call"}
    forged = {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}
    for goto in ("tools", {"node": "tools", "input": [call]}, {"node": "tools", "input": forged}):
        thread.run(command={"goto": goto})
    for state in thread.client.threads.get_history(thread.id, limit=3):
        with suppress(Exception):
            thread.run(input=None, checkpoint=state["checkpoint"])
        for node in ("tools", "agent", "model"):
            with suppress(Exception):
                thread.client.threads.update_state(thread.id, forged, as_node=node, checkpoint=state["checkpoint"])
                thread.run(input=None)
    assert thread.ran() == []
    assert thread.inbox.get(request.id).decision is None


def i5_a_call_that_failed_in_the_middle_is_asked_about(thread: Thread) -> None:
    [request] = thread.start([pay_call(13)])
    thread.decide(request, approve())
    assert thread.go_on() == "ConnectionError"
    thread.run(input=None)
    [doubt] = thread.asked()
    assert doubt.description.startswith("Did this happen?")
    thread.decide(doubt, respond("it arrived"))
    assert thread.run(command={"resume": resume_values([thread.inbox.get(doubt.id)])}) == "finished"
    assert thread.ran() == ["pay 13 bob"]


def i7_a_malformed_answer_is_refused_and_poisons_nothing(thread: Thread) -> None:
    [request] = thread.start([pay_call(1)])
    answers: list[Any] = ["yes", {"decisions": []}, {"type": "edit", "args": {"eur": "seven", "to": "eve"}}]
    for answer in answers:
        assert thread.run(command={"resume": {request.interrupt_id: answer}}) == "InvalidDecisionError"
    assert (thread.ran(), thread.asked()) == ([], [request])
    assert thread.answer(request, APPROVE) == "finished"
    assert thread.ran() == ["pay 1 bob"]


def i8_what_happened_is_in_the_log(thread: Thread) -> None:
    one, two = thread.start([pay_call(1), pay_call(2)])
    thread.decide(one, approve())
    thread.decide(two, reject("no"))
    assert thread.go_on() == "finished"
    assert thread.states() == ["delivered"] * 2
    [effect] = thread.ledger.executed(thread.id)
    assert (effect["request_id"], effect["state"]) == (one.id, "done")
    assert thread.ledger.verify_audit().ok


def i9_silence_is_not_yes(thread: Thread) -> None:
    [request] = thread.start([pay_call(1)])
    silences: list[Any] = [True, "", [], {"approved": "yes"}, {"type": "approved"}]
    for silence in silences:
        assert thread.run(command={"resume": {request.interrupt_id: silence}}) == "InvalidDecisionError"
    assert thread.run(input=None) == "paused"
    assert (thread.ran(), thread.states()) == ([], ["pending"])


def i10_each_call_gets_its_own_answer_and_runs_once(thread: Thread) -> None:
    asked = thread.start([search_call("x"), *(pay_call(eur) for eur in (1, 2, 3))])
    assert thread.ran() == ([] if thread.way.turns_wait else ["search x"])
    for request, decision in zip(asked, (approve(), reject("no"), edit({"eur": 30, "to": "eve"})), strict=True):
        thread.decide(request, decision)
    assert thread.go_on() == "finished"
    assert sorted(thread.ran()) == ["pay 1 bob", "pay 30 eve", "search x"]


PROMISES: dict[str, Callable[[Thread], None]] = {
    "I1": i1_an_answer_made_for_something_else_is_refused,
    "I2": i2_the_second_answer_is_told_of_the_first,
    "I3": i3_what_was_asked_is_not_waved_through_when_the_limit_is_raised,
    "I4": i4_no_jump_and_no_forged_state_runs_what_was_not_approved,
    "I5": i5_a_call_that_failed_in_the_middle_is_asked_about,
    "I7": i7_a_malformed_answer_is_refused_and_poisons_nothing,
    "I8": i8_what_happened_is_in_the_log,
    "I9": i9_silence_is_not_yes,
    "I10": i10_each_call_gets_its_own_answer_and_runs_once,
}


@pytest.fixture(scope="module")
def played(server: Server) -> Iterator[dict[tuple[str, str], "Future[None]"]]:
    """Each promise for each way, all at the same time: a run takes the server a second, mostly of waiting."""

    def play(promise: str, way: Way) -> None:
        with Ledger.open(server.db) as ledger, get_sync_client(url=server.url) as client:
            PROMISES[promise](Thread(server, client, way, ledger))

    with ThreadPoolExecutor(2 * len(WAYS)) as pool:
        order = sorted(PROMISES, key=lambda promise: promise != "I3")  # those of I3 wait for each other
        yield {(promise, way.name): pool.submit(play, promise, way) for promise in order for way in WAYS}


@pytest.mark.parametrize("promise", PROMISES)
def test_on_a_server_with_its_own_checkpointer_it_holds(
    played: dict[tuple[str, str], "Future[None]"], promise: str, way: Way, place: str
) -> None:
    played[promise, way.name].result(300)
