"""Ask people from inside a node: the only place that pauses a graph.

A question is bound to its task by the interrupt's id, which every re-execution derives again. An answer counts only
if the question was stored before it came; one that names another question, or none where several answers may lie
around, is refused or asked for again.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt, interrupt

from hitl_graph.errors import (
    AlreadyDecidedError,
    HitlError,
    InvalidDecisionError,
    LedgerMissingError,
    QuorumMissingError,
    StaleRequestError,
)
from hitl_graph.ledger import Ledger, deciding, requests
from hitl_graph.model import Decision, Request, digest, request_id
from hitl_graph.nodes.refusing import past_handlers
from hitl_graph.reviewers import Reviewer, authenticated
from hitl_graph.storage import Transaction
from hitl_graph.voting import missing
from hitl_graph.wire import BRIDGE, Client, answer_schema, named_in, parse, parse_all, payload

__all__ = ["Asker", "NotAloneError"]

_CHECKPOINTER, _SCRATCHPAD = "__pregel_checkpointer", "__pregel_scratchpad"  # langgraph._internal._constants
_INVALID_RESUME = "_langgraph_invalid_resume"


_together = threading.Lock()


class NotAloneError(Exception):
    """A question that needs a task of its own came up in one that runs other calls, too. Nothing was asked."""


@dataclass(frozen=True)
class Asker:
    """What a node needs to ask: the ledger, the thread, the namespace of the running task, and who resumed it."""

    ledger: Ledger
    thread_id: str
    namespace: str
    reports: bool
    """The run's checkpointer tells this ledger of every pause (ours does, a foreign one does not)."""
    person: Reviewer
    """Who resumed the run, as LangGraph Server authenticated them."""
    config: RunnableConfig
    loop: asyncio.AbstractEventLoop | None = None
    """Of an async run, for checkpointers that are only async."""
    client: Client = BRIDGE
    """For which the questions are shown."""
    alone: bool = True
    """Nothing else asks in the running task, so that LangGraph's answers cannot go astray."""

    @property
    def reviewer(self) -> str:
        """Their name."""
        return self.person.name

    @classmethod
    def of(cls, config: RunnableConfig, ledger: Ledger | None, node: str, client: Client = BRIDGE) -> "Asker":
        """Find the ledger: the node's own, else the run's checkpointer's.

        Raises:
            LedgerMissingError: There is none, or the run has no thread.
        """
        configurable = config.get("configurable", {})
        checkpointer = configurable.get(_CHECKPOINTER)
        own = getattr(checkpointer, "ledger", None)
        found = ledger or own
        if not isinstance(found, Ledger):
            raise LedgerMissingError(
                f"{node} has nowhere to record what is asked and decided: compile the graph with"
                " checkpointer=SqliteCheckpointer('agent.db'), or give the node ledger=Ledger.open('agent.db')"
                " beside another checkpointer"
            )
        thread_id = configurable.get("thread_id")
        if checkpointer is None or thread_id is None:
            raise LedgerMissingError(
                f"{node} cannot pause without a checkpointer and a thread: compile with a checkpointer and invoke with"
                " {'configurable': {'thread_id': ...}}"
            )
        return cls(
            ledger=found,
            thread_id=str(thread_id),
            namespace=str(configurable.get("checkpoint_ns", "")),
            reports=isinstance(own, Ledger) and own.database.url == found.database.url,
            person=_authenticated(configurable, found),
            config=config,
            loop=_running_loop(),
            client=client,
        )

    def own(self, number: int = 0) -> str:
        """The id of the request that this task asks as its question of this number."""
        return request_id(self.thread_id, self._interrupt_id(number))

    def asks_with(self, request: Request) -> bool:
        """Whether this task asked it, in one go with others."""
        return request.position is not None and request.interrupt_id == self._interrupt_id(0)

    def ask(
        self,
        number: int,
        describe: Callable[[str, str], Request],
        check: Callable[[Request, Decision], object] | None = None,
    ) -> tuple[Request, Decision]:
        """Pause until the question is decided; on the way back, give the request and its one decision.

        Args:
            number: How many questions this task asked before, in every execution the same.
            describe: Makes the request from its id and the interrupt's id.
            check: Raises InvalidDecisionError for what no schema tells. Such an answer is not recorded; one that was
                recorded elsewhere is taken back, and the question asked again.

        Raises:
            GraphInterrupt: Nobody decided yet.
            AlreadyDecidedError: The answer that came in lost against another one.
            StaleRequestError: The answer was made for something else.
            NotAloneError: The task runs other calls, too.
        """
        if not self.alone:
            raise NotAloneError
        interrupt_id, *others = (self._interrupt_id(n) for n in (number, *range(number)))
        own = request_id(self.thread_id, interrupt_id)
        earlier = [request_id(self.thread_id, other) for other in others]  # no set: what names them is a stranger's
        request = self.ledger.read(requests.get, own)
        if request is None:
            request = describe(own, interrupt_id).model_copy(update={"ignored": self._unbound_answer()})
            if not self.reports:
                self.opened(request, earlier)
            self._pause(request)
        asked = request

        def accept(raw: Any, addressed: bool) -> Decision:
            named = named_in(raw)
            if named in earlier:  # LangGraph gives a task's answer to its first question to a later one, too
                self._pause(asked)
            if number and named != own:
                raise StaleRequestError(own, "this question takes only an answer with its request_id")
            if not addressed:
                self._beware(asked, raw)
            return self._record(asked, parse(raw, asked, self.client), check)

        decision: Decision = self._resumed(number, [asked], accept)
        if asked.decision is None:  # by whom, too
            asked = self.ledger.read(requests.get, own) or asked
        return asked, decision

    def ask_all(self, describe: Sequence[Callable[[str, str], Request]]) -> list[Request]:
        """Pause with one interrupt until several questions are decided; each is a request and decided by itself.

        They are this task's first questions, and in every execution the same, whichever of its calls asks them. An
        answer may be about all that are left, in their order, or about some, each by its `request_id`; it counts as a
        whole or not at all, unless somebody else decides one of them in that moment: then the others count.

        Returns:
            The requests, decided, in the order of the questions.

        Raises:
            As `ask`.
        """
        with _together:  # of the calls of one task, the first takes the answer for all
            return self._asked_all(describe)

    def _asked_all(self, describe: Sequence[Callable[[str, str], Request]]) -> list[Request]:
        interrupt_id, asked, is_new = self._interrupt_id(0), list[Request](), False
        for position, one in enumerate(describe):
            own = request_id(self.thread_id, interrupt_id, position)
            request = self.ledger.read(requests.get, own)
            if request is None:
                update = {"position": position, "ignored": self._unbound_answer()}
                request, is_new = one(own, interrupt_id).model_copy(update=update), True
                if not self.reports:
                    self.opened(request)
            asked.append(request)
        left = [request for request in asked if request.state != "delivered"]
        if is_new:
            self._pause(*left)
        all_decided = all(request.state == "decided" for request in left)
        if not left or (all_decided and self._given(0)[0] is None):
            return asked

        def accept(raw: Any, addressed: bool) -> None:
            given = parse_all(raw, left, self.client)
            answered = [request for request in left if request.id in given]
            for request in answered:
                if not addressed:
                    self._beware(request, raw)
            late = list[HitlError]()
            for request in answered:
                try:
                    self._record(request, given[request.id], None)
                except (AlreadyDecidedError, QuorumMissingError) as exc:
                    late.append(exc)
            if late:
                raise late[0]
            now = self._again(left)
            if pending := [request for request in now if request.decision is None]:
                for request in now:
                    if request.decision is not None:  # not shown any more
                        self.delivered(request.id)
                self._pause(*pending)

        self._resumed(0, left, accept, takes=not all_decided)
        return self._again(asked)

    def _again(self, asked: Sequence[Request]) -> list[Request]:
        return [self.ledger.read(requests.get, request.id) or request for request in asked]

    def _given(self, number: int) -> tuple[Any, bool]:
        """The answer that the run came with for the question of this number, and whether it names its interrupt."""
        scratchpad: Any = self.config.get("configurable", {}).get(_SCRATCHPAD)
        if scratchpad is None:
            return None, False
        addressed = number < len(scratchpad.resume)
        return scratchpad.resume[number] if addressed else scratchpad.get_null_resume(False), addressed

    def _resumed(
        self, number: int, asked: Sequence[Request], accept: Callable[[Any, bool], Any], *, takes: bool = True
    ) -> Any:
        """What `accept` makes of the answer that the run came with; it pauses again if it came without one.

        Args:
            accept: Takes the answer, and whether it names this interrupt.
            takes: The answer is needed, so LangGraph shall keep it; else it is only looked at.
        """
        raw, addressed = self._given(number)
        if raw is None and not addressed:
            self._pause(*asked)
        try:
            accepted = accept(raw, addressed)
        except HitlError as exc:
            setattr(exc, _INVALID_RESUME, True)  # so that siblings are not cut off in the middle of an effect
            past_handlers(exc)
            raise
        if takes:  # and LangGraph stores it
            interrupt(payload(asked, self.client), response_schema=answer_schema(asked))
        return accepted

    def _beware(self, asked: Request, raw: Any) -> None:
        """An answer that names no interrupt may have lain there before the question, or be somebody else's."""
        if asked.terms is not None and asked.terms.names_people:
            self._heed(asked)
        elif _mark(raw) == asked.ignored and asked.decision is None and not self._sent_since(asked.id):
            self._pause(asked)

    def _heed(self, asked: Request) -> None:
        """Where it matters whose answer it is, one that names no interrupt counts once, for the run that it came with.

        LangGraph keeps such an answer. If it was refused, or was one vote of several, whoever runs the thread next
        would give it again, without a word.
        """
        if asked.decision is not None:
            return
        if not self.reports:
            raise InvalidDecisionError(
                asked.id,
                "beside this checkpointer an answer has to name its question, so that it is not taken for somebody"
                f" else's later: Command(resume={{{asked.interrupt_id!r}: ...}}). Or answer it in the inbox",
            )
        if not self._sent_since(asked.id) or not self.ledger.write(requests.heed, self.ledger.now_ms(), asked.id):
            self._pause(asked)

    def _interrupt_id(self, number: int) -> str:
        return Interrupt.from_ns("", f"{self.namespace}|{number}" if number else self.namespace).id

    def _record(
        self, asked: Request, given: Decision | None, check: Callable[[Request, Decision], object] | None
    ) -> Decision:
        """The decision of a request: the one on record, or this one, which is then."""
        recorded = self.ledger.read(requests.get, asked.id) or asked
        if recorded.state not in ("pending", "decided", "delivered"):
            raise StaleRequestError(asked.id, f"it is {recorded.state} ({recorded.note or 'no longer asked'})")
        if recorded.decision is not None and given in (None, recorded.decision):
            if check is not None and recorded.state == "decided":
                self._hold_to(recorded, recorded.decision, check)
            return recorded.decision
        if given is None:
            raise InvalidDecisionError(asked.id, "nobody decided it yet; decide it in the inbox")
        if check is not None:
            check(recorded, given)
        decided = self.ledger.decide(asked.id, given, reviewer=self.person, channel="langgraph")
        if decided.decision is None:
            raise QuorumMissingError(
                asked.id,
                f"the answer of {self.reviewer} is recorded; still needed:"
                f" {missing(decided, self.ledger.read(deciding.votes, asked.id))}. The question stays",
            )
        return decided.decision

    def _hold_to(self, recorded: Request, decision: Decision, check: Callable[[Request, Decision], object]) -> None:
        try:
            check(recorded, decision)
        except InvalidDecisionError as exc:
            self.ledger.write(requests.reopen, self.ledger.now_ms(), recorded, f"the answer was refused: {exc.args[1]}")
            self._pause(recorded)

    def _pause(self, *asked: Request) -> NoReturn:
        raise GraphInterrupt(
            (Interrupt(payload(asked, self.client), id=asked[0].interrupt_id, response_schema=answer_schema(asked)),)
        )

    def _unbound_answer(self) -> str | None:
        """Digest of a resume value that names no interrupt and was there before the question."""
        scratchpad = self.config.get("configurable", {}).get(_SCRATCHPAD)
        raw = scratchpad.get_null_resume(False) if scratchpad is not None else None
        return None if raw is None else _mark(raw)

    def _sent_since(self, own: str) -> bool:
        """Whether a value that names no interrupt was sent after the question was stored.

        Only a checkpointer of this library tells. LangGraph stores such a value while the node already runs.
        """
        for _ in range(25 if self.reports else 0):
            if self.ledger.read(requests.is_hailed, own):
                return True
            time.sleep(0.02)
        return False

    def opened(self, request: Request, earlier: Collection[str] = ()) -> None:
        """Tell a ledger that hears nothing from the checkpointer that a question is asked (see `_open`)."""
        self.ledger.write(_open, self.ledger.now_ms(), request, earlier)

    def dropped(self, action_key: str) -> None:
        """Tell such a ledger, too, that a call came to its end whatever people say."""
        if not self.reports:
            self.ledger.write(_drop, self.ledger.now_ms(), action_key)

    def delivered(self, request_id: str) -> None:
        """Tell a ledger that hears nothing from the checkpointer that the answer was carried out."""
        if not self.reports:
            self.ledger.write(_delivered, self.ledger.now_ms(), request_id)


def _drop(tx: Transaction, now_ms: int, action_key: str) -> None:
    open_ = "action_key = ? AND kind <> 'escalation' AND state IN ('pending', 'decided')"
    for request in requests.select(tx, open_, (action_key,)):
        requests.close(tx, now_ms, request, "superseded", "the call was refused without an answer")


def _open(tx: Transaction, now_ms: int, request: Request, earlier: Collection[str] = ()) -> None:
    """Store a question.

    Args:
        tx, now_ms, request: What, and when.
        earlier: What the same task asked before; it stays, for the task goes through these questions again.
    """
    for older in requests.select(
        tx,
        "action_key = ? AND kind = ? AND state IN ('pending', 'decided') AND id <> ?",
        (request.action_key, request.kind, request.id),
    ):
        if older.id not in earlier:
            requests.close(tx, now_ms, older, "superseded", "it is asked anew")
    requests.open_request(tx, now_ms, request, checkpoint_id=None, task_id=None, parked=1)


def _delivered(tx: Transaction, now_ms: int, own: str) -> None:
    request = requests.get(tx, own)
    if request is None:
        return
    about_it = requests.select(tx, "action_key = ? AND state = 'decided'", (request.action_key,))
    for done in about_it if request.action_key else [request]:  # what was asked about it before, too
        if done.state == "decided":
            requests.close(tx, now_ms, done, "delivered", "the graph went on")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _mark(raw: Any) -> str:
    try:
        return digest(raw)
    except TypeError:
        return digest(repr(raw))


def _authenticated(configurable: dict[str, Any], ledger: Ledger) -> Reviewer:
    """Who resumed the run, as LangGraph Server authenticated them; never from the payload."""
    user = configurable.get("langgraph_auth_user")
    return authenticated(user, ledger.directory, otherwise=configurable.get("langgraph_auth_user_id"))
