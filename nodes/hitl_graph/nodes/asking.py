"""Ask people from inside a node: the only place that pauses a graph.

A question is bound to its task by the interrupt's id, which every re-execution derives again. An answer counts only
if the question was stored before it came; one that names another question, or none where several answers may lie
around, is refused or asked for again.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt, interrupt
from pydantic import PlainValidator, ValidationError, WithJsonSchema

from hitl_graph.errors import (
    HitlError,
    InvalidDecisionError,
    LedgerMissingError,
    QuorumMissingError,
    StaleRequestError,
)
from hitl_graph.ledger import Ledger, deciding, requests
from hitl_graph.model import Comment, Decision, Request, digest, request_id
from hitl_graph.nodes.refusing import past_handlers
from hitl_graph.reviewers import Reviewer, authenticated
from hitl_graph.storage import Transaction
from hitl_graph.voting import missing
from hitl_graph.wire import parse, payload

__all__ = ["Asker"]

_CHECKPOINTER, _SCRATCHPAD = "__pregel_checkpointer", "__pregel_scratchpad"  # langgraph._internal._constants
_INVALID_RESUME = "_langgraph_invalid_resume"


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

    @property
    def reviewer(self) -> str:
        """Their name."""
        return self.person.name

    @classmethod
    def of(cls, config: RunnableConfig, ledger: Ledger | None, node: str) -> "Asker":
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
        )

    def own(self, number: int = 0) -> str:
        """The id of the request that this task asks as its question of this number."""
        return request_id(self.thread_id, self._interrupt_id(number))

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
        """
        interrupt_id, *others = (self._interrupt_id(n) for n in (number, *range(number)))
        own = request_id(self.thread_id, interrupt_id)
        earlier = [request_id(self.thread_id, other) for other in others]  # no set: what names them is a stranger's
        request = self.ledger.read(requests.get, own)
        if request is None:
            request = describe(own, interrupt_id).model_copy(update={"ignored": self._unbound_answer()})
            if not self.reports:
                self.opened(request)
            self._pause(request)
        asked = request
        scratchpad = self.config.get("configurable", {}).get(_SCRATCHPAD)
        addressed = scratchpad is not None and number < len(scratchpad.resume)  # it names this interrupt
        if scratchpad is not None and not addressed and scratchpad.get_null_resume(False) is None:
            self._pause(asked)  # here, for LangGraph would have pydantic read a schema that is not pydantic's

        def accept(raw: Any) -> Decision:
            try:
                named = raw.get("request_id") if isinstance(raw, dict) else None
                if named in earlier:  # LangGraph gives a task's answer to its first question to a later one, too
                    self._pause(asked)
                if number and named != own:
                    raise StaleRequestError(own, "this question takes only an answer with its request_id")
                if not addressed and asked.terms is not None and asked.terms.names_people:
                    self._heed(asked)
                elif (
                    not addressed
                    and _mark(raw) == asked.ignored
                    and asked.decision is None
                    and not self._sent_since(own)
                ):
                    self._pause(asked)
                return self._decision(asked, raw, check)
            except HitlError as exc:
                setattr(exc, _INVALID_RESUME, True)  # so that siblings are not cut off in the middle of an effect
                past_handlers(exc)
                raise

        schema: Any = Annotated[Any, PlainValidator(accept), WithJsonSchema(_answer_schema(asked))]
        try:
            decision = cast(Decision, interrupt(payload(asked), response_schema=schema))
            if asked.decision is None:  # by whom, too
                asked = self.ledger.read(requests.get, own) or asked
            return asked, decision
        except ValidationError as exc:  # pydantic wraps what is a ValueError; our own error says more
            raise exc.errors()[0].get("ctx", {}).get("error", exc) from None

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

    def _decision(
        self, asked: Request, raw: Any, check: Callable[[Request, Decision], object] | None = None
    ) -> Decision:
        given = parse(raw, asked)
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

    def _pause(self, request: Request) -> None:
        raise GraphInterrupt(
            (Interrupt(payload(request), id=request.interrupt_id, response_schema=_answer_schema(request)),)
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

    def opened(self, request: Request) -> None:
        """Tell a ledger that hears nothing from the checkpointer that a question is asked."""
        self.ledger.write(_open, self.ledger.now_ms(), request)

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


def _open(tx: Transaction, now_ms: int, request: Request) -> None:
    for older in requests.select(
        tx,
        "action_key = ? AND kind = ? AND state IN ('pending', 'decided') AND id <> ?",
        (request.action_key, request.kind, request.id),
    ):
        requests.close(tx, now_ms, older, "superseded", "it is asked anew")
    requests.open_request(tx, now_ms, request, checkpoint_id=None, task_id=None, parked=1)


def _delivered(tx: Transaction, now_ms: int, own: str) -> None:
    request = requests.get(tx, own)
    if request is not None and request.state == "decided":
        requests.close(tx, now_ms, request, "delivered", "the graph went on")


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


def _answer_schema(request: Request) -> dict[str, Any]:
    """JSON Schema of an answer, for clients that draw a form from it."""
    name = {"question": "value", "review": "draft"}.get(request.kind, "args")
    schema = dict(request.answer_schema or ({"type": "object"} if name == "args" else {}))
    shared = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}  # what it refers to is looked up at the root
    properties: dict[str, Any] = {
        "type": {"type": "string", "enum": list(request.allowed), "description": str(request.labels or "")},
        name: schema,
        "message": {"type": "string"},
        "request_id": {"const": request.id},
        "digest": {"const": request.digest},
    }
    if request.kind == "review":
        properties["comments"] = {"type": "array", "items": Comment.model_json_schema()}
    return {"title": "Decision", "type": "object", "properties": properties, "required": ["type"], **shared}
