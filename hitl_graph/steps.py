"""One body for sync and async: the logic is a generator of steps, two small drivers run them.

The body yields a `Step` wherever something outside of it has to happen, and is sent the result or thrown the
exception. `run` takes each step's sync side, `arun` its async side.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

__all__ = ["Step", "Steps", "arun", "blocking", "calling", "run"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """Something to wait for, in both colours. Without an async side it blocks and runs in a thread there."""

    sync: Callable[[], Any]
    awaited: Callable[[], Awaitable[Any]] | None = None
    whole: bool = False
    """The async side goes on when its waiter is cancelled (a tool in a thread): once begun it is always waited for."""

    def then(self, change: Callable[[Any], Any]) -> "Step":
        """This step, with its result changed."""
        awaited = self.awaited

        async def changed() -> Any:
            return change(await awaited()) if awaited else None

        return replace(self, sync=lambda: change(self.sync()), awaited=changed if awaited else None)


Steps = Generator[Step, Any, T]


def blocking(work: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Step:
    """A step that blocks briefly, such as a transaction. Once begun it is always waited for."""
    return Step(partial(work, *args, **kwargs))


def calling(function: Callable[..., Any], *args: Any, in_thread: bool = False) -> Step:
    """A step that calls a user's function, be it sync or async.

    Args:
        in_thread: It may block for long: among async steps it is called in a thread, if it is not async itself.
    """

    def sync() -> object:
        answer = function(*args)
        return _finish(answer) if inspect.isawaitable(answer) else answer

    async def awaited() -> object:
        is_async = any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004
        if in_thread and not is_async:
            answer = await asyncio.to_thread(_in_thread, lambda: function(*args))
        else:
            answer = function(*args)
        return await answer if inspect.isawaitable(answer) else answer

    return Step(sync, awaited)


def _finish(awaitable: Awaitable[Any]) -> Any:
    """Await in a fresh loop in a fresh thread: the calling thread may have a running loop of its own."""

    async def wait() -> Any:
        return await awaitable

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, wait()).result()


def run(steps: Steps[T]) -> T:
    """Drive the steps in this thread."""
    try:
        step = steps.send(None)
        while True:
            try:
                value = step.sync()
            except BaseException as exc:
                step = steps.throw(exc)
            else:
                step = steps.send(value)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def _in_thread(work: Callable[[], T]) -> T:
    try:
        return work()
    except StopIteration as exc:  # asyncio cannot carry it, and would wait for ever
        raise RuntimeError("a step raised StopIteration") from exc


async def arun(steps: Steps[T]) -> T:
    """Drive the steps in this event loop.

    A cancellation never leaves a blocking step half done: it is thrown into the body at the next step that waits
    for the outside, so that the body can record it.
    """
    cancelled: asyncio.CancelledError | None = None
    failed: BaseException | None = None
    value: Any = None
    while True:
        try:
            step = steps.throw(failed) if failed is not None else steps.send(value)
        except StopIteration as done:
            if cancelled is not None:
                raise cancelled from None
            return done.value  # type: ignore[no-any-return]
        failed, value = None, None
        try:
            if step.awaited is not None and cancelled is not None:
                failed = cancelled
            elif step.awaited is None or step.whole:
                work = asyncio.ensure_future(
                    step.awaited() if step.awaited else asyncio.to_thread(_in_thread, step.sync)
                )
                while not work.done():
                    try:
                        await asyncio.shield(work)
                    except asyncio.CancelledError as exc:
                        cancelled = exc
                    except BaseException:
                        break
                value = work.result()
            else:
                value = await step.awaited()
        except BaseException as exc:
            failed = exc
