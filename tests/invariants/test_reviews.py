"""The promise, for drafts: what a person approved is what is delivered, once."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.graph import END
from langgraph.types import Command

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.effects import Effect
from hitl_graph.errors import (
    AlreadyDecidedError,
    HitlError,
    InvalidDecisionError,
    PermitError,
    StaleRequestError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Decision, Finding, approve, delivery, edit, reject, respond
from hitl_graph.nodes import Sampled, Unsure
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import blocking, run
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.processes import Barrier, Report, child, race
from tests.invariants.review_agent import Way, build, crash, delivered
from tests.reviews import Colour, Desk


@dataclass
class Place:
    """A folder with a database and a file of effects."""

    path: Path
    effects: Path
    checkpointer: Checkpointer
    colour: Colour
    way: Way

    def desk(self, thread: str = "t", **options: Any) -> Desk:
        graph = build(self.checkpointer, self.effects, colour=self.colour, way=self.way, **options)
        desk = Desk(graph.builder, self.checkpointer, self.colour, thread)
        desk.graph = graph
        return desk

    @property
    def delivered(self) -> list[str]:
        return delivered(self.effects)


@pytest.fixture(params=["node", "middleware"])
def way(request: pytest.FixtureRequest) -> Way:
    return cast(Way, request.param)


@pytest.fixture
def place(tmp_path: Path, colour: Colour, way: Way) -> Iterator[Place]:
    with open_checkpointer(tmp_path / "agent.db") as checkpointer:
        yield Place(tmp_path / "agent.db", tmp_path / "effects", checkpointer, colour, way)
        assert checkpointer.ledger.verify_audit().ok


# --- I1: an answer applies only to what was shown --------------------------------------------------------------------


def test_i1_a_draft_that_changed_while_somebody_thought_is_asked_about_anew(place: Place) -> None:
    desk = place.desk()
    desk.start()
    before = desk.asked
    desk.graph.update_state(desk.config, desk.other("smuggled"))
    desk.go()
    with pytest.raises(StaleRequestError):
        desk.inbox.decide(before.id, approve(), reviewer="alice")
    assert (desk.asked.draft, place.delivered) == ("smuggled", [])
    desk.answer(reject())
    assert place.delivered == []


def test_i1_a_draft_that_changes_after_the_decision_is_not_delivered(place: Place) -> None:
    desk = place.desk()
    desk.start()
    desk.decide(approve())
    desk.graph.update_state(desk.config, desk.other("smuggled"))
    desk.work()
    desk.go()
    assert place.delivered == []
    assert desk.asked.draft == "smuggled"


@pytest.mark.parametrize("named", [True, False])
def test_i1_an_answer_that_brings_another_draft_along_approves_nothing(place: Place, named: bool) -> None:
    desk = place.desk()
    desk.start()
    answer: Any = {"type": "approve"}
    desk.go(Command(resume={desk.asked.interrupt_id: answer} if named else answer, update=desk.other("smuggled")))
    assert place.delivered == []
    assert desk.asked.draft == "smuggled"
    assert desk.answer(approve()) == "finished"  # now somebody has seen it
    assert place.delivered == ["smuggled"]


def test_i1_the_answer_to_one_revision_is_none_to_the_next(place: Place) -> None:
    desk = place.desk()
    desk.start()
    first = desk.asked
    desk.answer(respond("again"))
    for stale in (
        {first.interrupt_id: {"type": "approve"}},
        {"type": "approve", "request_id": first.id},
        {"type": "approve", "digest": first.digest},
        {"request_id": first.id, "digest": first.digest},
    ):
        try:
            desk.go(Command(resume=stale))
        except HitlError:
            pass
        assert place.delivered == []
    with pytest.raises(AlreadyDecidedError):
        desk.inbox.decide(first.id, approve(), reviewer="alice")
    with pytest.raises(StaleRequestError):
        desk.inbox.decide(desk.asked.id, approve(), reviewer="alice", digest=first.digest)
    desk.answer(approve())
    assert place.delivered == ["draft-2"]


# --- I2: of several answers one counts -------------------------------------------------------------------------------


def resume(index: int, barrier: Barrier, path: str, effects: str, interrupt_id: str, way: Way) -> str:
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, effects, way=way)
        answer: Any = {"type": "edit", "draft": f"mine-{index}"} if index % 2 else {"type": "reject"}
        barrier.wait(60)
        try:
            graph.invoke(Command(resume={interrupt_id: answer}), {"configurable": {"thread_id": "t"}})
        except HitlError as exc:
            return type(exc).__name__
        return "went on"


@pytest.mark.parametrize("colour", ["sync"])
def test_i2_four_processes_answer_at_once(place: Place) -> None:
    desk = place.desk()
    desk.start()
    race(4, resume, str(place.path), str(place.effects), desk.asked.interrupt_id, place.way)
    [request] = desk.ledger.history("t")
    assert request.decision is not None
    assert place.delivered == ([request.decision.draft] if request.decision.type == "edit" else [])
    assert desk.outcomes == [{"edit": "delivered", "reject": "rejected"}[request.decision.type]]


# --- I3: the verdict is evaluated once -------------------------------------------------------------------------------


def test_i3_a_policy_that_is_relaxed_while_people_think_does_not_let_a_rejected_draft_out(place: Place) -> None:
    now = {"outcome": True}
    policy = Policy([Rule("review", "allow"), Rule("review", "ask", when=lambda call: now["outcome"])])
    desk = place.desk(policy=policy)
    desk.start()
    now["outcome"] = False
    desk.answer(reject())
    assert place.delivered == []


def test_i3_a_policy_that_is_tightened_stops_an_approved_draft(place: Place) -> None:
    now = {"denied": False}
    policy = Policy([Rule("review", "ask"), Rule("review", "deny", when=lambda call: now["denied"])])
    desk = place.desk(policy=policy)
    desk.start()
    now["denied"] = True
    desk.answer(approve())
    assert (place.delivered, desk.outcomes) == ([], ["blocked"])


def test_i3_checks_look_once_and_their_findings_are_kept(place: Place) -> None:
    looked: list[str] = []

    def check(draft: str) -> str | None:
        looked.append(draft)
        return "look" if len(looked) == 1 else None

    desk = place.desk(policy=Policy([Rule("review", "allow")]), checks=[check])
    desk.start()
    assert desk.asked.review is not None
    findings = desk.asked.review.findings
    desk.answer(approve())
    assert looked == ["draft-1"]
    assert desk.reviews[0]["findings"] == [findings[0].model_dump(mode="json", exclude_none=True)]


def test_i3_a_sample_is_drawn_once_and_is_on_record(place: Place) -> None:
    policy = Policy([Rule("review", "allow"), Rule("review", "ask", when=Sampled(0.5, seed="s"))])
    drawn = {}
    for number in range(24):
        desk = place.desk(f"t{number}", policy=policy)
        desk.start()
        drawn[f"t{number}"] = bool(desk.inbox.pending(thread_id=f"t{number}"))
    assert 4 < sum(drawn.values()) < 20
    for request in place.desk().ledger.pending_rows():
        assert (request.route, request.propensity) == ("audit", 0.5)
    for thread, asked in drawn.items():
        reasons = [row["reason"] for row in place.desk().ledger.executed(thread)]
        assert reasons == ([] if asked else ["rule 'review' says allow; not in the sample of 0.5"])
    none_drawn = Policy([Rule("review", "allow"), Rule("review", "ask", when=Sampled(0.0, seed="s"))])
    waiting = [thread for thread, asked in drawn.items() if asked]
    desk = place.desk(waiting[0], policy=none_drawn)  # another rate now changes nothing for what was drawn
    [request] = desk.inbox.pending(thread_id=waiting[0])
    desk.inbox.decide(request.id, reject(), reviewer="alice")
    desk.work()
    assert request.draft not in [line for line in place.delivered][sum(not asked for asked in drawn.values()) :]
    assert len(place.delivered) == sum(not asked for asked in drawn.values())


# --- I4: only under a permit -----------------------------------------------------------------------------------------


def test_i4_the_ledger_gives_no_permit_for_what_nobody_approved(place: Place) -> None:
    desk = place.desk()
    desk.start()
    request = desk.asked
    assert request.action_key is not None
    ran: list[str] = []

    def attempt(draft: str, authority: Authority) -> None:
        effect = Effect(desk.ledger, str(request.action_key), "t", delivery(draft), authority)
        run(effect.steps(blocking(lambda: ran.append(draft))))

    with pytest.raises(PermitError, match="no decision is recorded"):
        attempt("draft-1", Authority("forged", request.id))
    desk.decide(edit("mine"))
    for draft in ("draft-1", "other"):
        with pytest.raises(PermitError, match="decided about other arguments"):
            attempt(draft, Authority("forged", request.id))
    run(
        Effect(desk.ledger, request.action_key, "t", delivery("mine"), Authority("policy")).steps(
            blocking(ran.append, "x")
        )
    )
    assert ran == []  # people were asked, so no policy can let it out


def test_i4_walking_around_the_node_delivers_nothing(place: Place) -> None:
    after, onward = {"node": ("review", "publish"), "middleware": ("OutputReviewMiddleware.after_agent", END)}[
        place.way
    ]
    desk = place.desk(**({"deliver": "publish"} if place.way == "node" else {}))
    desk.start()
    desk.graph.update_state(desk.config, desk.other("forged"), as_node=after)
    desk.go()
    desk.start()
    desk.go(Command(goto=onward))
    assert place.delivered == []


# --- I5: at most once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["approve", "reject", "respond"])
@pytest.mark.parametrize("first", [approve(), edit("mine")], ids=["approved", "edited"])
def test_i5_a_process_that_is_killed_while_it_delivers(place: Place, word: str, first: Decision) -> None:
    desk = place.desk(deaths=1)
    desk.start()
    desk.decide(first)
    crash(place.path, place.effects, place.colour, way=place.way)
    text = first.draft or "draft-1"
    assert place.delivered == [text]
    for _ in range(2):
        desk.work()
        assert place.delivered == [text]
    question = desk.asked
    assert (question.kind, question.action) == ("question", delivery(text))
    assert "Was this delivered?" in question.description
    answer = {"approve": approve(), "reject": reject("I looked"), "respond": respond("it is out")}[word]
    assert desk.answer(answer, "bob") == "finished"
    assert desk.inbox.pending() == []
    assert place.delivered == [text, text] if word == "approve" else [text]
    assert len(set(place.effects.read_text().splitlines())) == 1  # with the same idempotency key
    [entry] = desk.reviews
    if word == "reject":
        assert (entry["outcome"], entry["message"], desk.delivered) == ("rejected", "I looked", None)
    else:
        assert (entry["outcome"], entry["delivered"], desk.delivered) == ("delivered", text, text)
        assert entry["result"] == {"approve": f"sent {text}", "respond": "it is out"}[word]
    assert all(request.state == "delivered" for request in desk.ledger.history("t"))


def test_i5_an_idempotent_delivery_is_tried_again(place: Place) -> None:
    desk = place.desk(deaths=1, idempotent=True)
    desk.start()
    desk.decide(approve())
    crash(place.path, place.effects, place.colour, idempotent=True, way=place.way)
    assert [result.status for result in desk.work()] == ["finished"]
    assert place.delivered == ["draft-1", "draft-1"]
    assert len(set(place.effects.read_text().splitlines())) == 1


def die_after_the_delivery(report: Report, path: str, effects: str, colour: Colour, way: Way) -> None:
    """Deliver, and die before the graph has stored that it did."""
    with open_checkpointer(path) as checkpointer:

        def die(*_: Any, **__: Any) -> None:
            if "done" in {row["state"] for row in checkpointer.ledger.executed("t")}:
                os.kill(os.getpid(), signal.SIGKILL)

        async def adie(*_: Any, **__: Any) -> None:
            die()

        checkpointer.put_writes, checkpointer.aput_writes = die, adie  # type: ignore[method-assign]
        worker = Worker(build(checkpointer, effects, colour=colour, way=way), checkpointer.ledger)
        _ = asyncio.run(worker.arun_once()) if colour == "async" else worker.run_once()
        report("survived")


@pytest.mark.parametrize("first", [approve(), edit("mine")], ids=["approved", "edited"])
@pytest.mark.parametrize("way", ["worker", "none"])
def test_i5_a_delivery_that_is_on_record_is_not_repeated(place: Place, first: Decision, way: str) -> None:
    desk = place.desk()
    desk.start()
    desk.decide(first)
    with child(die_after_the_delivery, str(place.path), str(place.effects), place.colour, place.way) as process:
        assert process.end() == []
    assert len(place.delivered) == 1
    if way == "worker":
        desk.work()
    else:
        desk.go()
    assert len(place.delivered) == 1
    [entry] = desk.reviews
    assert (entry["outcome"], entry["by"], entry["delivered"]) == ("delivered", "alice", first.draft or "draft-1")
    assert (desk.delivered, entry["result"]) == (first.draft or "draft-1", f"sent {first.draft or 'draft-1'}")


def test_i5_a_delivery_that_fails_is_a_question(place: Place) -> None:
    def broken(draft: str) -> None:
        raise RuntimeError("the mail server is down")

    desk = place.desk(delivery=broken)
    desk.start()
    desk.decide(approve())
    assert [result.status for result in desk.work()] == ["failed"]
    assert [result.status for result in desk.work()] == ["paused"]
    assert "the mail server is down" in desk.asked.description
    desk.answer(reject())
    assert desk.outcomes == ["rejected"]


# --- I6: a decision survives -----------------------------------------------------------------------------------------


def decide_and_die(report: Report, path: str) -> None:
    with open_checkpointer(path) as checkpointer:
        inbox = Inbox(checkpointer.ledger)
        [request] = inbox.pending()
        inbox.decide(request.id, edit("mine"), reviewer="alice")
        os.kill(os.getpid(), signal.SIGKILL)


def test_i6_an_acknowledged_decision_survives_the_process(place: Place) -> None:
    desk = place.desk()
    desk.start()
    with child(decide_and_die, str(place.path)) as process:
        process.end()
    assert [result.status for result in desk.work()] == ["finished"]
    assert place.delivered == ["mine"]


# --- I7 and I9: malformed is no answer, silence is not yes ---------------------------------------------------------

MALFORMED: list[Any] = [
    None,
    "yes",
    "approve",
    True,
    {},
    [],
    {"type": "yes"},
    {"type": "APPROVE"},
    {"type": "approve", "draft": "mine"},
    {"type": "edit"},
    {"type": "edit", "draft": None},
    {"type": "edit", "draft": {"a": 1}},
    {"type": "edit", "draft": 7},
    {"type": "edit", "args": {"text": "mine"}},
    {"type": "edit", "edited_action": {"name": "pay", "args": {"draft": "mine"}}},
    {"type": "respond"},
    {"type": "respond", "message": "x", "comments": "no list"},
    {"type": "respond", "message": "x", "comments": [{"text": ""}]},
    {"type": "respond", "message": "x", "comments": [{"text": "y", "span": [0, 99]}]},
    {"type": "respond", "message": "x", "comments": [{"text": "y", "file": "a.py"}]},
    {"type": "respond", "message": "x", "comments": [{"text": "y", "field": "a", "span": [0, 1]}]},
    {"decisions": []},
    {"decisions": [{"type": "approve"}, {"type": "approve"}]},
    [{"type": "accept", "args": {"action": "review", "args": {"draft": "another"}}}],
    [{"type": "edit", "args": {"action": "review", "args": {}}}],
]


@pytest.mark.parametrize("answer", MALFORMED, ids=str)
def test_i7_a_malformed_answer_leaves_the_question_answerable(place: Place, answer: Any) -> None:
    desk = place.desk()
    desk.start()
    own = desk.asked
    for resumed in ({own.interrupt_id: answer}, answer):
        try:
            desk.go(Command(resume=resumed))
        except (HitlError, UnboundLocalError):  # the latter is LangGraph's answer to a bare None
            pass
        assert place.delivered == []
        assert desk.asked.id == own.id
    desk.answer(approve())
    assert place.delivered == ["draft-1"]


GOOD: list[tuple[Any, str]] = [
    ({"type": "edit", "draft": "mine"}, "mine"),
    ({"type": "edit", "args": {"draft": "mine"}}, "mine"),
    ({"decisions": [{"type": "edit", "edited_action": {"name": "review", "args": {"draft": "mine"}}}]}, "mine"),
    ([{"type": "edit", "args": {"action": "review", "args": {"draft": "mine"}}}], "mine"),
    ([{"type": "accept", "args": None}], "draft-1"),
    ([{"type": "accept", "args": {"action": "review", "args": {"draft": "draft-1"}}}], "draft-1"),
    ({"decisions": [{"type": "approve"}]}, "draft-1"),
]


@pytest.mark.parametrize(("answer", "text"), GOOD, ids=str)
def test_i7_what_the_known_clients_send_is_understood(place: Place, answer: Any, text: str) -> None:
    desk = place.desk()
    desk.start()
    desk.go(Command(resume={desk.asked.interrupt_id: answer}))
    assert place.delivered == [text]


def _fail(_: Any) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    "options",
    [
        {"policy": Policy([Rule("review", "allow"), Rule("review", "ask", when=_fail)])},
        {"policy": Policy([Rule("review", "allow", when=lambda call: None)])},  # type: ignore[arg-type, return-value]
        {"policy": Policy([])},
        {"policy": Policy([Rule("review", "allow"), Rule("review", "ask", when=Unsure(_fail, below=0.5))])},
        {"policy": Policy([Rule("review", "allow"), Rule("review", "ask", when=Unsure(lambda c: float("nan"), 0.5))])},
        {"policy": Policy([Rule("review", "allow"), Rule("review", "ask", when=Unsure(lambda c: "0.9", 0.5))])},  # type: ignore[arg-type, return-value]
        {"policy": Policy([Rule("review", "allow")]), "checks": [_fail]},
        {"policy": Policy([Rule("review", "allow")]), "checks": [lambda draft: False]},
        {"policy": Policy([Rule("review", "allow")]), "checks": [lambda draft: 7]},
        {"policy": Policy([Rule("review", "allow")]), "checks": [lambda draft: Finding(text="\ud800")]},
    ],
)
def test_i9_what_fails_means_ask(place: Place, options: dict[str, Any]) -> None:
    desk = place.desk(**options)
    desk.start()
    assert place.delivered == []
    assert desk.asked.kind == "review"
    with pytest.raises(InvalidDecisionError):
        desk.decide(edit({"a": 1}))
    desk.answer(approve())
    assert place.delivered == ["draft-1"]
