"""Calls that a function makes side by side, each a LangGraph task: what they give, and one pause for all that pause.

LangGraph lets a function that waits for several tasks pause with the question of the first one; the others are not
shown, and cannot be answered, until that is. Here a call that is paused waits for the calls beside it to come to their
end or to a question, and then all their questions are asked at once; or whoever gave one of them an answer that does
not do is told so.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError as _Cancelled
from concurrent.futures import Future
from threading import Lock
from typing import Any

from langgraph.config import get_config
from langgraph.errors import GraphInterrupt, is_invalid_resume

from hitl_graph.errors import PermitError

__all__ = ["started"]

_SCRATCHPAD = "__pregel_scratchpad"  # langgraph._internal._constants
AnyFuture = Future[Any] | asyncio.Future[Any]


def started(task: Callable[..., AnyFuture], name: str, args: dict[str, Any], result: Callable[[Any], Any]) -> AnyFuture:
    """Start a task of the function that runs now.

    Args:
        name: Of the call, for errors.
        args: Of the task, by name.
        result: What the caller gets for what the task gave; it may raise.

    Returns:
        A future of asyncio in a coroutine, else one of a thread.

    Raises:
        PermitError: No graph runs here.
    """
    try:
        owner = get_config()["configurable"][_SCRATCHPAD]
    except (RuntimeError, KeyError) as exc:
        raise PermitError(
            f"{name} was called where no graph runs, so nobody can be asked; it did not run. Call it in an"
            " @entrypoint, a @task or a node"
        ) from exc
    with _lock:
        calls = _open.setdefault(id(owner), _Calls(owner))
        number = calls.started = calls.started + 1
        calls.running += 1
    try:
        inner = task(**args)
    except BaseException:
        calls.one_ended()
        raise
    outer: AnyFuture = inner.get_loop().create_future() if isinstance(inner, asyncio.Future) else Future()
    inner.add_done_callback(lambda ended: calls.ended(number, ended, outer, result))
    return outer


class _Calls:
    """The calls of one function that are running."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner  # kept, so that its id is nobody else's meanwhile
        self.started = self.running = 0
        self._paused = dict[int, tuple[AnyFuture, GraphInterrupt]]()
        self._refused: BaseException | None = None

    def ended(self, number: int, inner: AnyFuture, outer: AnyFuture, result: Callable[[Any], Any]) -> None:
        """One has come to its end, or to a question."""
        failure = None if inner.cancelled() else inner.exception()
        if isinstance(failure, GraphInterrupt):
            with _lock:
                self._paused[number] = outer, failure
        else:
            if failure is not None and is_invalid_resume(failure):
                self._refused = failure
            _settle(outer, lambda: result(inner.result()))
        self.one_ended()

    def one_ended(self) -> None:
        """Pause those that wait, if it was the last one."""
        with _lock:
            self.running -= 1
            if self.running:
                return
            _open.pop(id(self.owner), None)
            paused = [self._paused[number] for number in sorted(self._paused)]
        asked = {interrupt.id: interrupt for _, pause in paused for interrupt in pause.args[0]}
        stop = self._refused or GraphInterrupt(tuple(asked.values()))
        for outer, _ in paused:
            _settle(outer, _raising(stop))


_lock = Lock()
_open: dict[int, _Calls] = {}


def _raising(error: BaseException) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


def _settle(outer: AnyFuture, work: Callable[[], Any]) -> None:
    """Give a future its end, in its own loop if it has one."""

    def settle() -> None:
        if outer.done():
            return
        try:
            value = work()
        except (asyncio.CancelledError, _Cancelled):
            outer.cancel()
        except BaseException as exc:
            outer.set_exception(exc)
        else:
            outer.set_result(value)

    if isinstance(outer, asyncio.Future):
        outer.get_loop().call_soon_threadsafe(settle)
    else:
        settle()
