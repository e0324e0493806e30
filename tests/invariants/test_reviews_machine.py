"""Whatever people, attackers and workers do in whatever order: what was approved is delivered, at most once."""

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from langgraph.types import Command

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.errors import AlreadyDecidedError, HitlError, StaleRequestError
from hitl_graph.model import Comment, Request, approve, edit, reject, respond
from hitl_graph.nodes import OutputReviewNode
from tests.reviews import Desk, writing

WORDS = st.sampled_from(["approve", "edit", "reject", "respond"])


class Reviewing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.checkpointer = SqliteCheckpointer(Path(self.folder.name) / "agent.db")
        self.texts, self.delivered, self.permitted, self.old = count(), list[str](), set[str](), list[Request]()
        node = OutputReviewNode("draft", revise="writer", delivery=self.delivered.append, max_revisions=2)
        builder = writing(lambda state: f"draft-{next(self.texts)}", node)
        self.desk = Desk(builder, self.checkpointer, "sync")
        self.smuggled_at = ""
        self.desk.start()

    def teardown(self) -> None:
        assert self.checkpointer.ledger.verify_audit().ok
        self.checkpointer.close()
        self.folder.cleanup()

    @property
    def pending(self) -> list[Request]:
        return self.desk.inbox.pending()

    def _answer(self, word: str, request: Request) -> Any:
        mine = f"mine-{next(self.texts)}"
        comment = Comment(text="?", span=(0, 5))
        return {
            "approve": approve(),
            "edit": edit(mine),
            "reject": reject("no"),
            "respond": respond("again", comments=[comment]),
        }[word]

    @rule(word=WORDS)
    def decide(self, word: str) -> None:
        for request in self.pending:
            answer = self._answer(word, request)
            if word not in request.allowed:
                continue
            self.desk.inbox.decide(request.id, answer, reviewer="alice", digest=request.digest)
            self.old.append(request)
            if word in ("approve", "edit"):
                self.permitted.add(str(answer.draft or request.draft))

    @rule(word=WORDS, named=st.booleans())
    def resume(self, word: str, named: bool) -> None:
        """Straight through LangGraph; what was accepted stands in the ledger."""
        for request in self.pending:
            answer = self._answer(word, request).model_dump(mode="json", exclude_none=True)
            try:
                own = {"request_id": request.id} if named else {}
                self.desk.go(Command(resume={request.interrupt_id: answer | own} if named else answer))
            except StaleRequestError:  # the task's second question takes only an answer that names it
                assert not named
            except HitlError:
                assert word not in request.allowed
            self._learn(request)

    def _learn(self, request: Request) -> None:
        decision = self.desk.inbox.get(request.id).decision
        if decision is not None and decision.type in ("approve", "edit"):
            self.permitted.add(str(decision.draft or request.draft))

    @precondition(lambda self: self.old)
    @rule(data=st.data(), word=WORDS)
    def answer_again(self, data: Any, word: str) -> None:
        request = data.draw(st.sampled_from(self.old))
        with pytest.raises((AlreadyDecidedError, StaleRequestError)):
            self.desk.inbox.decide(request.id, self._answer(word, request), reviewer="mallory")
        before = list(self.delivered)
        waiting = [pending.id for pending in self.pending]
        try:
            self.desk.go(Command(resume={request.interrupt_id: {"type": "approve", "request_id": request.id}}))
        except HitlError:
            pass
        if waiting:
            assert self.delivered == before

    @rule()
    def work(self) -> None:
        for result in self.desk.work():
            assert result.status != "failed", result.error

    @rule(with_resume=st.booleans())
    def smuggle(self, with_resume: bool) -> None:
        draft = {"draft": f"smuggled-{next(self.texts)}"}
        head = self.desk.graph.get_state(self.desk.config).config["configurable"]["checkpoint_id"]
        if not with_resume or not self.pending or head == self.smuggled_at:  # LangGraph takes one update a checkpoint
            self.desk.graph.update_state(self.desk.config, draft)
            return
        self.smuggled_at = head
        try:
            self.desk.go(Command(resume={"type": "approve"}, update=draft))
        except HitlError:
            pass

    @rule()
    def go_on(self) -> None:
        try:
            self.desk.go()
        except StaleRequestError:  # LangGraph offers it the answer that came with the smuggled draft
            pass

    @rule()
    def begin_anew(self) -> None:
        self.desk.start()

    @invariant()
    def delivered_is_what_was_approved(self) -> None:
        assert set(self.delivered) <= self.permitted
        assert len(self.delivered) == len(set(self.delivered))
        assert len(self.delivered) == len(self.checkpointer.ledger.executed("t"))


@pytest.mark.sqlite_file
def test_reviews_as_a_state_machine() -> None:
    run_state_machine_as_test(
        Reviewing,
        settings=settings(
            max_examples=25, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
