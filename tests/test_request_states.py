"""The states of a request: every arrow is taken once, and after each step the log agrees with the tables."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from hitl_graph.errors import AlreadyDecidedError, InvalidDecisionError, StaleRequestError, UnknownRequestError
from hitl_graph.ledger import Ledger, deciding, effects, requests
from hitl_graph.ledger.effects import Authority, Begun, Finished
from hitl_graph.model import Action, Decision, Request, approve, edit, reject, request_id, respond
from hitl_graph.reviewers import Reviewer

DECISIONS = st.sampled_from([approve(), edit({"eur": 2}), reject("no"), respond("later")])
ENDS: st.SearchStrategy[Any] = st.sampled_from(["delivered", "superseded", "cancelled", "expired"])


def make(number: int, allowed: Any) -> Request:
    interrupt = f"{number:032x}"
    return Request(
        id=request_id("t", interrupt), kind="approval", thread_id="t", interrupt_id=interrupt, allowed=allowed,
        action=Action(name="pay", args={"eur": number}), action_key=f"key {number}",
    )  # fmt: skip


class Requests(RuleBasedStateMachine):
    """People, workers and a checkpointer at work on one ledger, held against a plain dict."""

    asked = Bundle("asked")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open(Path(self.folder.name) / "ledger.db")
        self.state: dict[str, str] = {}
        self.decision: dict[str, Decision] = {}
        self.clock = 0
        self.anchor = self.ledger.verify_audit().head

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    def now(self) -> int:
        self.clock += 1
        return self.clock

    @rule(target=asked, number=st.integers(0, 5), allowed=st.sampled_from([("approve", "edit"), ("reject", "respond")]))
    def ask(self, number: int, allowed: Any) -> Request:
        request = make(number, allowed)
        known = self.ledger.read(requests.get, request.id)
        self.ledger.write(requests.open_request, self.now(), request, checkpoint_id="c", task_id="k", parked=True)
        self.state.setdefault(request.id, "pending")
        return known or request

    @rule(request=asked, decision=DECISIONS, reviewer=st.sampled_from(["alice", "bob"]), stale=st.booleans())
    def decide(self, request: Request, decision: Decision, reviewer: str, stale: bool) -> None:
        def attempt() -> Request:
            shown = "0" * 64 if stale else request.digest
            return self.ledger.write(
                deciding.decide,
                self.now(),
                request.id[:12],
                decision,
                reviewer=Reviewer(reviewer),
                channel="test",
                shown=shown,
            )

        refusal: type[Exception] | None = None
        if stale:
            refusal = StaleRequestError
        elif request.id in self.decision:
            refusal = AlreadyDecidedError
        elif self.state[request.id] != "pending":
            refusal = StaleRequestError
        elif decision.type not in request.allowed:
            refusal = InvalidDecisionError
        if refusal is not None:
            with pytest.raises(refusal):
                attempt()
            return
        decided = attempt()
        assert (decided.state, decided.decision, decided.reviewer) == ("decided", decision, reviewer)
        self.state[request.id], self.decision[request.id] = "decided", decision

    @rule(request=asked, end=ENDS)
    def close(self, request: Request, end: Any) -> None:
        self.ledger.write(requests.close, self.now(), request, end, "test")
        if self.state[request.id] in ("pending", "decided"):
            self.state[request.id] = end

    @rule(request=asked)
    def run_what_was_decided(self, request: Request) -> None:
        decision = self.decision.get(request.id)
        action = Action(name="pay", args={"eur": 2}) if decision and decision.type == "edit" else request.action
        assert action is not None
        arguments = (self.now(), str(request.action_key), 1, "t", action, Authority("test", request.id))
        may = decision is not None and decision.type in ("approve", "edit")
        ran = self.ledger.read(effects.states, [str(request.action_key)])
        if not ran and not (may and self.state[request.id] in ("decided", "delivered")):
            with pytest.raises(Exception, match="did not run"):
                self.ledger.write(effects.start, *arguments)
            return
        begun = self.ledger.write(effects.start, *arguments)
        assert isinstance(begun, Finished if ran else Begun)
        if isinstance(begun, Begun):
            self.ledger.write(effects.settle, self.now(), begun.permit_id, "done", type_="msgpack", result=b"x")

    @rule(request=consumes(asked))
    def forget(self, request: Request) -> None:
        """Nothing happens; later rules speak of other requests."""

    @invariant()
    def the_tables_agree_with_the_log_and_with_what_happened(self) -> None:
        if not hasattr(self, "ledger"):
            return
        report = self.ledger.verify_audit(self.anchor)
        assert report.ok, report.problem
        self.anchor = report.head
        history = {request.id: request for request in self.ledger.history("t")}
        assert {key: request.state for key, request in history.items()} == self.state
        assert {key: request.decision for key, request in history.items() if request.decision} == self.decision
        waiting = {request.id for request in self.ledger.pending_rows()}
        assert waiting == {key for key, state in self.state.items() if state == "pending"}


TestRequests = Requests.TestCase
TestRequests.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def test_an_unknown_or_ambiguous_id_is_refused(db_path: str) -> None:
    with Ledger.open(db_path) as ledger:
        for number in range(40):
            request = make(number, ("approve",))
            ledger.write(requests.open_request, 1, request, checkpoint_id=None, task_id=None, parked=True)
        for nobody in ("", "zz", "0" * 20, request.id + "0", "%", "g", "'; DROP TABLE hitl_requests; --"):
            with pytest.raises(UnknownRequestError, match="hitl inbox"):
                ledger.read(requests.find, nobody)
        with pytest.raises(UnknownRequestError, match="give more digits"):
            ledger.read(requests.find, request.id[:1])
        assert ledger.read(requests.find, f" {request.id[:12].upper()} ").id == request.id
