"""Calls that a function makes side by side, each a LangGraph task: what they give, and one pause for all that pause.

LangGraph lets a function that waits for several tasks pause with the question of the first one; the others are not
shown, and cannot be answered, until that is. Here a call that is paused waits for the calls beside it to come to their
end or to a question, and then all their questions are asked at once; or whoever gave one of them an answer that does
not do is told so.

A function that waits for a call at once lends it its thread: LangGraph's threads are few, and if all of them waited for
calls of their own, none were left for these.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError as _Cancelled
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Lock, Timer
from typing import Any, cast
from weakref import WeakValueDictionary

from langgraph.config import get_config
from langgraph.errors import GraphInterrupt, is_invalid_resume
from langgraph.func import _TaskFunction
from langgraph.runtime import get_runtime

from hitl_graph.errors import PermitError

__all__ = ["started", "waited"]

_SCRATCHPAD, _CALL = "__pregel_scratchpad", "__pregel_call"  # langgraph._internal._constants
AnyFuture = Future[Any] | asyncio.Future[Any]
AnyTask = _TaskFunction[..., Any]
Result = Callable[[Any], Any]


def started(task: AnyTask, name: str, args: dict[str, Any], result: Result) -> AnyFuture:
    """Start a task of the function that runs now.

    Args:
        name: Of the call, for errors.
        args: Of the task, by name.
        result: What the caller gets for what the task gave; it may raise.

    Returns:
        A future of asyncio in a coroutine, else one of a thread.

    Raises:
        PermitError: No graph runs here, or it is the retry of a function.
    """
    return _begun(_config(name), lambda: task(**args), result)


def waited(task: AnyTask, name: str, args: dict[str, Any], result: Result, *, instead: str) -> Any:
    """Run a task of the function that runs now, in this thread, and wait for it.

    Args:
        instead: What to do in a coroutine.

    Raises:
        PermitError: No graph runs here, or it would block the event loop in which it shall wait.
    """
    if _is_in_a_loop():
        raise PermitError(f"{name} would block its event loop; nothing ran and nobody was asked: {instead}")
    config = _config(name)
    call = config["configurable"][_CALL]
    work: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()

    def in_a_loop() -> Any:
        """LangGraph's task is a coroutine, which hands its work over."""

        async def handed(**args: Any) -> Any:
            done: Future[Any] = Future()
            work.put((partial(copy_context().run, task.func, **args), done))
            return await asyncio.wrap_future(done)

        handed.__name__ = name
        return call(handed, ((), args), retry_policy=task.retry_policy, callbacks=config["callbacks"])

    def in_a_thread() -> Any:
        """LangGraph's task runs where it is submitted."""

        def submit(function: Callable[..., Any], *given: Any, configurable: dict[str, Any], **how: Any) -> Future[Any]:
            inner = {key: partial(value, submit=call.keywords["submit"]) for key, value in configurable.items()}
            options = {key: value for key, value in how.items() if not key.startswith("__")}
            done: Future[Any] = Future()
            _settle(done, lambda: copy_context().run(function, *given, configurable=inner, **options))
            return done

        return call(
            task.func, ((), args), retry_policy=task.retry_policy, callbacks=config["callbacks"], submit=lambda: submit
        )

    outer = _begun(config, in_a_loop if "loop" in call.keywords else in_a_thread, result)
    outer.add_done_callback(lambda _: work.put(None))
    cast(_InThread, outer).calls.is_waited_for()
    while (piece := work.get()) is not None:
        _settle(piece[1], piece[0])
    return outer.result()


def _config(name: str) -> dict[str, Any]:
    try:
        config = cast("dict[str, Any]", get_config())
    except RuntimeError:
        config = {}
    if config.get("configurable", {}).keys() >= {_SCRATCHPAD, _CALL}:
        _refuse_retries(name)
        return config
    raise PermitError(
        f"{name} was called where no graph runs, so nobody can be asked; it did not run. Call it in an"
        " @entrypoint, a @task or a node"
    )


def _refuse_retries(name: str) -> None:
    """A retry counts its calls on from those of the try before, so that none could be told from a new one."""
    info = get_runtime().execution_info
    if info is not None and info.node_attempt > 1:
        raise PermitError(
            f"{name} was called by a retry of the function around it, where it cannot be told from the call of the"
            " try before; it did not run. Give a retry_policy to what may fail, in a @task of its own, not to the"
            " function that makes this call"
        )


def _begun(config: dict[str, Any], start: Callable[[], Any], result: Result) -> AnyFuture:
    owner = config["configurable"][_SCRATCHPAD]
    with _lock:
        calls = _open.get(id(owner))
        if calls is None:
            calls = _open[id(owner)] = _Calls(owner)
        number = calls.started = calls.started + 1
        calls.running += 1
    try:
        inner: AnyFuture = start()
    except BaseException:
        calls.one_ended()
        raise
    outer = _InLoop(loop=inner.get_loop()) if isinstance(inner, asyncio.Future) else _InThread()
    outer.calls = calls
    inner.add_done_callback(lambda ended: calls.ended(number, ended, outer, result))
    return outer


class _InLoop(asyncio.Future[Any]):
    """Keeps the calls beside it together, as long as somebody has it."""

    calls: "_Calls"


class _InThread(Future[Any]):
    """Whoever asks for its result has started all calls that shall be asked about at once."""

    calls: "_Calls"

    def result(self, timeout: float | None = None) -> Any:
        self.calls.is_waited_for()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.calls.is_waited_for()
        return super().exception(timeout)


class _Calls:
    """The calls of one function, as long as it has their futures."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner  # kept, so that its id is nobody else's meanwhile
        self.started = self.running = 0
        self._is_waited_for = False
        self._paused = dict[int, tuple[AnyFuture, GraphInterrupt]]()
        self._refused: BaseException | None = None
        self._timer: Timer | None = None

    def ended(self, number: int, inner: AnyFuture, outer: AnyFuture, result: Result) -> None:
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
        """Pause those that wait, if it was the last one and the function does not start others."""
        with _lock:
            self.running -= 1
            if self.running:
                return
            if not self._paused:
                self._is_waited_for = False
                return
            in_loop = any(isinstance(outer, asyncio.Future) for outer, _ in self._paused.values())
            if not in_loop and not self._is_waited_for:  # or it waits in some other way
                if self._timer is None:
                    self._timer = Timer(_PATIENCE, self.is_waited_for)
                    self._timer.daemon = True
                    self._timer.start()
                return
        self._pause()

    def is_waited_for(self) -> None:
        """From now on the function waits, until all have come to an end or to a question."""
        with _lock:
            self._is_waited_for = True
            if self.running:
                return
        self._pause()

    def _pause(self) -> None:
        with _lock:
            paused = [self._paused[number] for number in sorted(self._paused)]
            self._paused, self._is_waited_for, refused, timer = {}, False, self._refused, self._timer
            self._timer = None
        if timer is not None:
            timer.cancel()
        asked = {interrupt.id: interrupt for _, pause in paused for interrupt in pause.args[0]}
        stop = refused or GraphInterrupt(tuple(asked.values()))
        for outer, _ in paused:
            _settle(outer, partial(_raise, stop))


_PATIENCE = 1.0  # seconds, after which a function is taken to wait, though it did not ask for a result
_lock = Lock()
_open = WeakValueDictionary[int, _Calls]()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _raise(error: BaseException) -> Any:
    raise error


def _settle(future: AnyFuture, work: Callable[[], Any]) -> None:
    """Give a future its end, in its own loop if it has one."""

    def settle() -> None:
        if future.done():
            return
        with suppress(InvalidStateError):  # it was cancelled meanwhile; what ran is in the ledger
            try:
                value = work()
            except (asyncio.CancelledError, _Cancelled):
                future.cancel()
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(value)

    if isinstance(future, asyncio.Future):
        future.get_loop().call_soon_threadsafe(settle)
    else:
        settle()
