"""One body, two colours: the same results, the same errors, and a cancellation that leaves nothing half done."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hitl_graph.steps import Step, Steps, arun, blocking, run

DRIVERS: list[Callable[[Any], Any]] = [run, lambda steps: asyncio.run(arun(steps))]
both = pytest.mark.parametrize("drive", DRIVERS, ids=["sync", "async"])


async def _async(value: str) -> str:
    return value


@both
def test_the_body_gets_what_each_step_gives_and_gives_its_own(drive: Any) -> None:
    def body() -> Steps[list[Any]]:
        one = yield blocking(lambda x: x + 1, 1)
        two = yield Step(lambda: "sync", lambda: _async("async"))
        return [one, two]

    assert drive(body()) == [2, "sync" if drive is run else "async"]


@both
def test_a_body_without_steps_just_returns(drive: Any) -> None:
    def body() -> Steps[int]:
        return 1
        yield

    assert drive(body()) == 1


@both
def test_what_a_step_raises_is_raised_in_the_body_which_may_go_on(drive: Any) -> None:
    def body() -> Steps[str]:
        try:
            yield blocking(int, "x")
        except ValueError:
            return (yield blocking(str, "recovered"))  # type: ignore[no-any-return]
        return "not raised"

    assert drive(body()) == "recovered"


@both
@pytest.mark.parametrize("error", [KeyError("a"), KeyboardInterrupt(), SystemExit(3), StopIteration(7)])
def test_what_the_body_does_not_catch_is_raised(drive: Any, error: BaseException) -> None:
    def fail() -> None:
        raise error

    def body() -> Steps[None]:
        yield blocking(fail)

    with pytest.raises((type(error), RuntimeError)):
        drive(body())


@both
def test_a_body_that_wraps_another_sees_its_errors(drive: Any) -> None:
    def inner() -> Steps[int]:
        value = yield blocking(int, "7")
        return int(value)

    def body() -> Steps[int]:
        return (yield from inner()) + 1

    assert drive(body()) == 8


def test_a_blocking_step_does_not_block_the_event_loop() -> None:
    def body() -> Steps[int]:
        yield blocking(time.sleep, 0.2)
        return threading.get_ident()

    async def scenario() -> int:
        ticks = 0
        work = asyncio.ensure_future(arun(body()))
        while not work.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(scenario()) > 3


async def cancelled(steps: Steps[Any], begun: threading.Event, *, times: int = 1) -> asyncio.Task[Any]:
    """Start the body, cancel it in the middle of a step, and wait for its end."""
    work = asyncio.ensure_future(arun(steps))
    await asyncio.to_thread(begun.wait)
    for _ in range(times):
        work.cancel()
        await asyncio.sleep(0.01)
    await asyncio.wait([work])
    return work


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_transaction_is_waited_for_and_its_result_is_not_lost(times: int) -> None:
    begun, done = threading.Event(), list[str]()

    def transaction() -> str:
        begun.set()
        time.sleep(0.1)
        done.append("committed")
        return "result"

    def body() -> Steps[None]:
        result = yield blocking(transaction)
        done.append(f"body got {result}")

    work = asyncio.run(cancelled(body(), begun, times=times))
    assert work.cancelled()
    assert done == ["committed", "body got result"]


def test_a_cancellation_during_a_transaction_reaches_the_body_at_its_next_wait_for_the_outside() -> None:
    begun, seen = threading.Event(), list[str]()

    def transaction() -> None:
        begun.set()
        time.sleep(0.05)

    def body() -> Steps[None]:
        yield blocking(transaction)
        yield blocking(seen.append, "blocking steps still run")
        try:
            yield Step(lambda: None, lambda: _async("never started"))
        except asyncio.CancelledError:
            yield blocking(seen.append, "recorded")
            raise

    work = asyncio.run(cancelled(body(), begun))
    assert work.cancelled()
    assert seen == ["blocking steps still run", "recorded"]


def test_a_cancelled_effect_tells_the_body_which_can_record_it() -> None:
    begun, seen = threading.Event(), list[str]()

    async def effect() -> None:
        begun.set()
        await asyncio.sleep(60)

    def body() -> Steps[None]:
        try:
            yield Step(lambda: None, effect)
        except asyncio.CancelledError:
            yield blocking(seen.append, "recorded")
            raise

    work = asyncio.run(cancelled(body(), begun))
    assert work.cancelled()
    assert seen == ["recorded"]


def test_a_failure_in_a_cancelled_transaction_is_the_body_s_to_handle() -> None:
    begun, seen = threading.Event(), list[str]()

    def transaction() -> None:
        begun.set()
        time.sleep(0.05)
        raise OSError("disk full")

    def body() -> Steps[None]:
        try:
            yield blocking(transaction)
        except OSError as exc:
            seen.append(str(exc))
            raise

    work = asyncio.run(cancelled(body(), begun))
    assert seen == ["disk full"]
    assert work.cancelled() or isinstance(work.exception(), OSError)
