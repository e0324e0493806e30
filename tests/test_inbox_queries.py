"""What a page of the inbox needs from the ledger: who saw what, what has happened, what waits; on both databases."""

import multiprocessing
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from hitl_graph.errors import UnknownRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, approve, request_id
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.terms import Stage, Terms
from hitl_graph.testing import FakeClock
from tests.databases import open_ledger

pytestmark = pytest.mark.both_databases

PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["legal"]), Reviewer("carol")])


class Desk:
    """A ledger into which requests can be put, a second apart."""

    def __init__(self, path: str) -> None:
        self.path, self.clock, self.asked = path, FakeClock(), 0
        self.ledger: Ledger = open_ledger(path)
        self.ledger.clock, self.ledger.directory = self.clock, PEOPLE
        self.inbox = Inbox(self.ledger)

    def ask(self, tool: str | None = "pay", thread: str = "t", *, parked: int = 1, **fields: Any) -> Request:
        self.asked += 1
        self.clock.advance(timedelta(seconds=1))
        interrupt = f"{self.asked:032x}"
        args = fields.pop("args", {"eur": self.asked})
        reviewers = fields.pop("reviewers", ())
        request = Request(
            id=request_id(thread, interrupt), thread_id=thread, interrupt_id=interrupt,
            kind=fields.pop("kind", "approval"), action=Action(name=tool, args=args) if tool else None,
            terms=Terms(stages=(Stage(reviewers=tuple(reviewers)),)) if reviewers else None, **fields,
        )  # fmt: skip
        self.ledger.write(
            requests.open_request, self.ledger.now_ms(), request, checkpoint_id="c", task_id="k", parked=parked
        )
        return request

    def log(self) -> list[tuple[str, str]]:
        return self.ledger.read(lambda tx: tx.execute("SELECT event, actor FROM hitl_audit ORDER BY seq").fetchall())


@pytest.fixture
def desk(db_path: str) -> Generator[Desk]:
    made = Desk(db_path)
    with made.ledger:
        yield made


def see(path: str, request: Request) -> None:
    with open_ledger(path) as ledger:
        Inbox(ledger).seen(request, reviewer="alice", channel="web")


def test_who_saw_a_request_is_noted_once_a_person_and_channel(desk: Desk) -> None:
    request = desk.ask()
    for _ in range(3):
        for who, channel in (("alice", "web"), ("ALICE", "web"), ("alice", "mcp"), ("bob", "web")):
            desk.inbox.seen(request, reviewer=who, channel=channel)
    desk.inbox.seen(request, reviewer="anonymous", channel="web")
    assert [(seen.reviewer, seen.channel, seen.digest) for seen in desk.inbox.viewers(request.id)] == [
        ("alice", "web", request.digest), ("alice", "mcp", request.digest), ("bob", "web", request.digest)
    ]  # fmt: skip
    assert desk.log().count(("request.seen", "alice")) == 2
    assert desk.ledger.verify_audit().ok


def test_two_processes_note_one_look(desk: Desk) -> None:
    request = desk.ask()
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=see, args=(desk.path, request)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert desk.log().count(("request.seen", "alice")) == 1


def test_a_look_at_what_was_tampered_with_does_not_make_it_true(desk: Desk) -> None:
    request = desk.ask()
    desk.ledger.database.write(lambda tx: tx.execute("UPDATE hitl_requests SET tool = 'harmless'"))
    desk.inbox.seen(desk.inbox.get(request.id), reviewer="alice", channel="web")
    assert not desk.ledger.verify_audit().ok


def test_a_look_is_redacted_with_its_thread_and_is_not_noted_of_what_does_not_exist(desk: Desk) -> None:
    request = desk.ask()
    desk.inbox.seen(request, reviewer="alice", channel="web")
    desk.ledger.redact("t", actor="dpo", reason="asked for")
    desk.inbox.seen(desk.inbox.get(request.id), reviewer="alice", channel="web")
    [viewer] = desk.inbox.viewers(request.id)
    assert (viewer.reviewer, viewer.channel, viewer.digest) == ("alice", None, None)
    assert desk.ledger.verify_audit().ok
    with pytest.raises(UnknownRequestError):
        desk.inbox.seen(request.model_copy(update={"id": "0" * 20}), reviewer="alice", channel="web")


def test_events_tell_all_that_becomes_of_requests_and_in_order(desk: Desk) -> None:
    before = desk.inbox.last_event()
    request = desk.ask(reviewers=["role:finance"])
    desk.inbox.claim(request.id, reviewer="alice")
    desk.inbox.seen(request, reviewer="alice", channel="web")
    desk.inbox.hand_back(request.id, reviewer="alice")
    desk.inbox.delegate(request.id, "carol", reviewer="alice")
    desk.inbox.switch("tool:pay", "ask", reviewer="alice", reason="audit")
    desk.inbox.decide(request.id, approve(), reviewer="carol")
    found = desk.inbox.events(before)
    assert [event.name for event in found] == [
        "request.opened", "request.claimed", "request.handed_back", "request.delegated", "request.decided"
    ]  # fmt: skip
    assert [event.actor for event in found] == ["graph", "alice", "alice", "alice", "carol"]
    assert {event.request_id for event in found} == {request.id}
    assert desk.inbox.events(before, limit=2) == found[:2]
    assert desk.inbox.events(found[1].seq) == found[2:]
    assert desk.inbox.events(desk.inbox.last_event()) == []
    assert desk.inbox.events() == found
