"""Ask people where no LangGraph graph is: whoever asks waits for the answer itself, and no worker resumes anything.

The gate is the nodes' own. Where a node would pause, its steps are run anew once somebody has decided. A process that
died while it waited finds its question again, by the thread and by what was asked.
"""

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.runtime import Runtime

from hitl_graph.errors import InvalidDecisionError, PolicyError, StaleRequestError, UnansweredError
from hitl_graph.facts import Inquiry
from hitl_graph.ledger import Ledger, claims, owner, requests, schedule
from hitl_graph.model import Action, Decision, Request, digest, request_id
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import Item, items_of
from hitl_graph.nodes.gate import Gate
from hitl_graph.nodes.replies import text
from hitl_graph.nodes.terms import on_terms, origin_of, verdict_of
from hitl_graph.policy import Policy, Rule, Verdict
from hitl_graph.reviewers import ANONYMOUS, Reviewer
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.storage import Transaction
from hitl_graph.terms import Origin

__all__ = ["Outside", "OutsideAsker", "OutsideGate", "answer_of", "asks"]

T = TypeVar("T")

_NAP = 0.5  # seconds between two looks at an SQLite file, and at deadlines
_LEASE_MS = 10 * 60 * 1000
_MARK = "awaited:"


class _Waits(Exception):
    """A question is open; the steps are run anew once it is answered."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.id)
        self.request = request


@dataclass(frozen=True)
class OutsideAsker(Asker):
    """Asks without a graph: where a node would pause, it says that it waits."""

    @classmethod
    def at(cls, ledger: Ledger, config: RunnableConfig) -> "OutsideAsker":
        """Of what `checkpoint_ns` in the config names."""
        own = config.get("configurable", {})
        return cls(
            ledger=ledger,
            thread_id=own["thread_id"],
            namespace=own["checkpoint_ns"],
            reports=False,
            person=Reviewer(ANONYMOUS),
            config=config,
        )

    def ask(
        self,
        number: int,
        describe: Callable[[str, str], Request],
        check: Callable[[Request, Decision], object] | None = None,
    ) -> tuple[Request, Decision]:
        """As that of a node; never pauses a graph."""
        interrupt_id = self._interrupt_id(number)
        own = request_id(self.thread_id, interrupt_id)
        request = self.ledger.read(requests.get, own)
        if request is None:
            request = describe(own, interrupt_id).model_copy(update={"answer_shape": "awaited"})
            self.opened(request)
        if request.decision is None and request.state == "pending":
            raise _Waits(request)
        if request.decision is None or request.state not in ("decided", "delivered"):
            raise StaleRequestError(own, f"it is {request.state} ({request.note or 'no longer asked'})")
        if check is not None and request.state == "decided":
            try:
                check(request, request.decision)
            except InvalidDecisionError as exc:
                why = f"the answer was refused: {exc.args[1]}"
                self.ledger.write(requests.reopen, self.ledger.now_ms(), request, why)
                raise _Waits(request) from None
        return request, request.decision


@dataclass(frozen=True)
class OutsideGate(Gate):
    """The gate, with people who are asked without a graph."""

    def asker(self, config: RunnableConfig) -> OutsideAsker:
        """Who asks about the call that the config names."""
        return OutsideAsker.at(cast(Ledger, self.ledger), config)

    def _question(self, item: Item, asker: Asker, action: Action, verdict: Verdict) -> Callable[[str, str], Request]:
        if not asker.config.get("metadata", {}).get("editable", True):
            verdict = replace(verdict, editable=())
        return super()._question(item, asker, action, verdict)

    def _origin(self, asker: Asker, tool: BaseTool | None) -> Callable[[], Origin | None]:
        source = asker.config.get("metadata", {}).get("implementation")

        def where() -> Origin | None:
            found = origin_of(asker, graph=self.graph, version=self.version, tool=tool)
            if source is None:
                return found
            return (found or Origin()).model_copy(update={"implementation": digest(source)})

        return where


class _Runner:
    """Runs a call by the step that came with it."""

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        """The step, for this action."""
        execute: Callable[[Action], Step] = config.get("metadata", {})["execute"]
        return execute(action)

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> ToolMessage:
        """What is wrong with arguments."""
        return ToolMessage(str(error), name=item.call["name"], tool_call_id=item.call["id"] or "", status="error")


class Outside:
    """What asks people on behalf of one conversation that no graph runs.

    Args:
        ledger: Or the file or URL of its database.
        thread_id: Names the conversation in the inbox. A process that goes on with it gives the same.
        policy: Which tool calls are allowed, asked about or denied. Without one, every call is asked about.
        rule: Who answers questions, and by when: `Rule("*", "ask", reviewers=["role:support"])`.
        requester: On whose behalf the agents run, for rules that exclude them.
        graph, version: Of the agents, as grants and switches name them.

    Raises:
        PolicyError: `rule` says something else.
    """

    def __init__(
        self,
        ledger: Ledger | str | os.PathLike[str],
        thread_id: str,
        *,
        policy: Policy | None = None,
        rule: Rule | None = None,
        requester: str | None = None,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger.open(ledger)
        self.thread_id, self.requester = thread_id, requester
        self.policy = policy or Policy()
        self.gate = OutsideGate(self.policy, self.ledger, _Runner(), type(self).__name__, graph, version)
        self.verdict = verdict_of(rule, "the agents ask", PolicyError)

    def config(self, key: str, **metadata: Any) -> RunnableConfig:
        """What names a call or a question to the gate."""
        configurable = {"thread_id": self.thread_id, "checkpoint_ns": f"{_MARK}{key}", "user_id": self.requester}
        return {"configurable": configurable, "metadata": metadata}

    def question(self, question: str, *, key: str | None = None, correlation: str | None = None) -> Steps[str]:
        """Ask people, and wait for what they answer.

        Args:
            key: Names the question in this thread. Asked again with the same key, even by another process after it was
                answered, it has the same answer. Without one, a question is found again until its answer was given.
            correlation: What the agents call it.

        Raises:
            UnansweredError: Nobody answered in time, or somebody declined.
        """
        inquiry, holder = Inquiry(question=question), _holder()
        shown = inquiry.model_dump(mode="json")
        own = yield blocking(self._named, key or uuid.uuid4().hex, lambda r: r.question == shown, key is None, holder)
        asker = OutsideAsker.at(self.ledger, self.config(own))
        where = partial(origin_of, asker, graph=self.gate.graph, version=self.gate.version)
        describe = on_terms(asks(asker, inquiry, own, correlation), asker, self.verdict, where)

        def once() -> Steps[str]:
            request, decision = yield blocking(asker.ask, 0, describe)
            yield blocking(asker.delivered, request.id)
            return answer_of(request, decision)

        return (yield from self._settled(own, holder, once))

    def call(
        self, name: str, args: Mapping[str, Any], execute: Callable[[Action], Step], *, call_id: str | None = None,
        tool: BaseTool | None = None, source: str | None = None, editable: bool = True,
    ) -> Steps[ToolMessage]:  # fmt: skip
        """Put a tool call through the gate, and wait as long as people take.

        Args:
            execute: Gives the step that runs the call with the arguments of an action.
            call_id: As the model gave it.
            tool: Stands for the tool: its schema, description, metadata and code.
            source: Names the tool's implementation, where there is no `tool`.
            editable: Whether it can run as people change it.
        """
        call = ToolCall(name=name, args=dict(args), id=call_id or uuid.uuid4().hex, type="tool_call")
        runtime: Any = Runtime()
        [item] = items_of(
            [call], "tool_calls", {}, "messages", self.config(call_id or ""), runtime, [tool] if tool else []
        )
        if item.action is None:
            assert item.refused is not None
            return item.refused
        signature, holder = item.action.digest, _holder()
        identity = item.key if call_id else uuid.uuid4().hex
        own = yield blocking(
            self._named, identity, lambda r: r.action is not None and r.action.digest == signature, True, holder
        )
        config = self.config(own, execute=execute, implementation=source, editable=editable)
        item = replace(item, key=own)

        def once() -> Steps[Any]:
            [judged] = yield from self.gate.judged([item], config)
            if judged.verdict is not None and not judged.verdict.asking:
                told = yield from self.gate.allowed(judged, config, True)
                if told is not None:
                    return told
            [judged] = yield from self.gate.remembered([judged], config)
            return (yield from self.gate.gated(judged, config))

        return cast(ToolMessage, (yield from self._settled(own, holder, once)))

    # --- waiting -------------------------------------------------------------------------------------------------

    def _settled(self, key: str, holder: str, once: Callable[[], Steps[T]]) -> Steps[T]:
        """Run steps, again after each answer, until nothing more is asked."""
        try:
            while True:
                try:
                    return (yield from once())
                except _Waits as waits:
                    waited = waits.request
                yield from self._answered(key, holder, waited)
        finally:
            yield blocking(self.ledger.write, claims.release, f"{_MARK}{key}", holder)

    def _answered(self, key: str, holder: str, request: Request) -> Steps[None]:
        renewal = time.monotonic() + _LEASE_MS / 3000
        watch = yield blocking(self.ledger.database.watch, "decided")
        try:
            with watch:
                while (yield blocking(self._is_open, request.id)):
                    yield Step(partial(watch.wait, _NAP), partial(watch.await_news, _NAP))
                    if time.monotonic() > renewal:
                        renewal = time.monotonic() + _LEASE_MS / 3000
                        yield blocking(self.ledger.write, _claimed, self.ledger.now_ms(), key, holder)
        except asyncio.CancelledError:
            yield blocking(self.ledger.write, _cancelled, self.ledger.now_ms(), request)
            raise

    def _is_open(self, own: str) -> bool:
        request = self.ledger.read(requests.get, own)
        due = request.terms.due_ms(request.fired) if request is not None and request.terms else None
        if request is not None and request.state == "pending" and due is not None and due <= self.ledger.now_ms():
            self.ledger.write(schedule.catch_up, self.ledger.now_ms(), own)
            request = self.ledger.read(requests.get, own)
        return request is not None and request.state == "pending"

    def _named(self, identity: str, is_same: Callable[[Request], bool], adopts: bool, holder: str) -> str:
        named = hashlib.sha256(json.dumps([self.thread_id, identity]).encode()).hexdigest()[:32]
        how = (self.thread_id, named, is_same if adopts else None, holder)
        return self.ledger.write(_taken, self.ledger.now_ms(), *how)


def _holder() -> str:
    """Who waits: another one each time, for of two that ask the same at once each has its own question."""
    return f"{owner.current()}|{os.urandom(4).hex()}"


def asks(asker: Asker, inquiry: Inquiry, key: str, correlation: str | None = None) -> Callable[[str, str], Request]:
    """A question to people, without its terms and origin."""

    def describe(own: str, interrupt_id: str) -> Request:
        return Request(
            id=own,
            kind="question",
            thread_id=asker.thread_id,
            interrupt_id=interrupt_id,
            question=inquiry.model_dump(mode="json"),
            allowed=("reject", "respond"),
            labels={"reject": "the agents get no answer", "respond": "the agents get your answer"},
            answer_schema={"type": "string", "pattern": r"\S"},  # silence is no answer
            description=inquiry.question,
            reason=inquiry.why or "the agents ask",
            tool_call_id=correlation,
            action_key=key,
        )

    return describe


def answer_of(request: Request, decision: Decision) -> str:
    """The answer to a question.

    Raises:
        UnansweredError: There is none.
    """
    if decision.type == "respond":
        return text(decision)
    if request.channel == schedule.CHANNEL:
        raise UnansweredError(request.id, decision.message or "nobody answered in time")
    why = f': "{decision.message}"' if decision.message else ""
    raise UnansweredError(request.id, f"{request.reviewer} declined to answer{why}")


def _taken(
    tx: Transaction, now_ms: int, thread_id: str, key: str, is_same: Callable[[Request], bool] | None, holder: str
) -> str:
    """The name of what is asked: of the same question that a process left behind when it died, else its own.

    Args:
        is_same: Whether a question is this one; None: only its name tells.
    """
    if is_same is not None:
        open_ = "thread_id = ? AND state IN ('pending', 'decided') AND task_id IS NULL ORDER BY created_ms, id"
        left = [r.action_key for r in requests.select(tx, open_, (thread_id,)) if r.answer_shape == "awaited"]
        for other in filter(None, dict.fromkeys(left)):
            first = requests.for_actions(tx, [other])[other][0]
            if is_same(first) and _claimed(tx, now_ms, other, holder):
                return other
    while _was_cancelled(tx, key):
        key = hashlib.sha256(f"{key} again".encode()).hexdigest()[:32]
    _claimed(tx, now_ms, key, holder)
    return key


def _claimed(tx: Transaction, now_ms: int, key: str, holder: str) -> bool:
    return claims.claim(tx, now_ms, f"{_MARK}{key}", holder, _LEASE_MS)


def _was_cancelled(tx: Transaction, key: str) -> bool:
    asked = requests.for_actions(tx, [key])[key]
    return bool(asked) and asked[-1].state in ("cancelled", "expired", "superseded")


def _cancelled(tx: Transaction, now_ms: int, request: Request) -> None:
    current = requests.get(tx, request.id)
    if current is not None and current.state in ("pending", "decided"):
        requests.close(tx, now_ms, current, "cancelled", "whoever asked was cancelled, and does not wait any more")
