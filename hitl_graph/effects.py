"""Run an action at most once.

Before: a permit is taken and the effect reserved, in one transaction. After: its result is recorded. A second run of
the same action, in whatever process, gets the recorded result. If the process died in between, nobody knows whether
it happened; then a person is asked, unless the tool is declared idempotent.
"""

import asyncio
import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import GraphBubbleUp

from hitl_graph.errors import EffectBusyError
from hitl_graph.ledger import Ledger, effects, owner
from hitl_graph.ledger.effects import Asked, Authority, Begun, Busy, Finished, Lost, Stopped
from hitl_graph.model import Action
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.storage import Transaction

__all__ = ["Asked", "Effect", "Lost", "Outcome", "Stopped", "idempotency_key", "idempotent", "is_idempotent"]

AnyTool = TypeVar("AnyTool", bound=BaseTool)


class _Declared(IntEnum):
    """In a tool's metadata; what comes from elsewhere, such as the annotations of an MCP server, never is one."""

    IDEMPOTENT = True


_MARK = "idempotent"
_running: set[tuple[str, str, str]] = set()
"""What this process runs: process, database, permit. A permit that it holds and does not run was left behind."""
_key: ContextVar[str | None] = ContextVar("hitl_idempotency_key", default=None)
_serde = JsonPlusSerializer(allowed_msgpack_modules=None)


def idempotency_key() -> str:
    """The key of the action that runs now; inside a tool. The same for every retry of the same action.

    Hand it to the service that you call (as `Idempotency-Key`, `Message-ID` ...), so that it can drop a repetition.

    Raises:
        RuntimeError: No action runs here.
    """
    key = _key.get()
    if key is None:
        raise RuntimeError("idempotency_key() is for tools, while an ApprovalNode runs them")
    return key


def idempotent(tool: AnyTool) -> AnyTool:
    """Declare that running a tool twice does no more than running it once: an unknown outcome is then retried."""
    tool.metadata = {**(tool.metadata or {}), _MARK: _Declared.IDEMPOTENT}
    return tool


def is_idempotent(tool: BaseTool | None) -> bool:
    """Whether a tool was declared idempotent."""
    return tool is not None and (tool.metadata or {}).get(_MARK) is _Declared.IDEMPOTENT


@dataclass(frozen=True)
class Outcome:
    """An effect that came to its end, now or earlier."""

    result: Any


@dataclass(frozen=True)
class Effect:
    """One attempt to run an action.

    Args:
        key: Names the action: the same call of the same message of the same thread.
        attempt: From 1; another one only after a person, or the tool's idempotence, allowed it.
        patience: How many seconds to wait for another process that runs this very attempt.
        alone: Its LangGraph task runs nothing else, so that answers to questions which the tool asks cannot go astray.
        graph: The graph's name, for switches.
    """

    ledger: Ledger
    key: str
    thread_id: str
    action: Action
    authority: Authority
    attempt: int = 1
    patience: float = 60.0
    alone: bool = True
    graph: str | None = None

    def steps(self, execute: Step) -> Steps[Outcome | Lost | Asked | Stopped]:
        """Take the permit, run `execute`, record its end; or find what an earlier run left.

        Raises:
            PermitError: Nothing entitles the action to run.
            EffectBusyError: Another process still runs it after `patience` seconds.
        """
        until = time.monotonic() + self.patience
        while isinstance(begun := (yield blocking(self._start)), Busy):
            if time.monotonic() > until:
                raise EffectBusyError(
                    f"{self.action.name} is being run by {begun.owner} (permit {begun.permit_id}); resume the thread"
                    " again when it is done"
                )
            yield Step(lambda: time.sleep(0.05), lambda: asyncio.sleep(0.05))
        if isinstance(begun, Lost | Asked | Stopped):
            return begun
        if isinstance(begun, Finished):
            return Outcome(_serde.loads_typed((begun.type, begun.result)))
        token = _key.set(self.key)
        try:
            return Outcome((yield from self._to_the_end(begun, execute)))
        finally:
            _running.discard(self._name(begun))
            _key.reset(token)

    def _to_the_end(self, begun: Begun, execute: Step) -> Steps[Any]:
        try:
            result = yield execute
        except GraphBubbleUp:  # the tool asks a question of its own; it runs again when that is answered
            yield blocking(self._settle, begun.permit_id, "paused")
            raise
        except BaseException as exc:
            state = "failed" if isinstance(exc, Exception) else "unknown"
            yield blocking(self._settle, begun.permit_id, state, error=f"{type(exc).__name__}: {exc}"[:2000])
            raise
        type_, data = _dump(result, self.action)
        told = result.text[:2000] if isinstance(result, ToolMessage) and result.status == "error" else None
        yield blocking(self._settle, begun.permit_id, "done", type_=type_, result=data, error=told)
        return result

    def resolve(self, lost: Lost, request_id: str, happened: bool, result: Any) -> None:
        """Record what a person found out about a lost attempt."""
        type_, data = _dump(result, self.action)
        state: Any = "done" if happened else "not_done"
        self.ledger.write(
            effects.resolve, self.ledger.now_ms(), lost.permit_id, request_id, state, type_=type_, result=data
        )

    def _start(self) -> Any:
        return self.ledger.write(self._take)

    def _take(self, tx: Transaction) -> Any:
        now_ms = self.ledger.now_ms()
        wanted = (now_ms, self.key, self.attempt, self.thread_id, self.action, self.authority)
        begun = effects.start(tx, *wanted, alone=self.alone, graph=self.graph)
        if isinstance(begun, Busy) and begun.owner == owner.current() and self._name(begun) not in _running:
            effects.settle(tx, now_ms, begun.permit_id, "unknown", error="its end could not be recorded")
            begun = effects.start(tx, *wanted, alone=self.alone, graph=self.graph)
        if isinstance(begun, Begun):
            _running.add(self._name(begun))
        return begun

    def _name(self, permit: Begun | Busy) -> tuple[str, str, str]:
        return owner.current(), self.ledger.database.url, permit.permit_id

    def _settle(self, permit_id: str, state: Any, **how: Any) -> None:
        # If the power fails before the next commit, the end is not known and a person is asked: the checkpoint that
        # says so is not stored either. So this need not wait for the disk; killing the process does not lose it.
        self.ledger.note(effects.settle, self.ledger.now_ms(), permit_id, state, **how)


def _dump(result: Any, action: Action) -> tuple[str, bytes]:
    try:
        return _serde.dumps_typed(result)
    except Exception as exc:  # it did run: that must be on record, with or without its result
        return _serde.dumps_typed(f"{action.name} ran; its result could not be stored ({exc!r})")
