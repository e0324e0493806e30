"""People in threads of their own, for agents that wait for them."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hitl_graph.errors import DatabaseClosedError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request

__all__ = ["always", "answering", "eventually", "waiting"]


async def eventually(ledger: Ledger, number: int = 1) -> list[Request]:
    """What waits, once so many do."""
    return await asyncio.to_thread(waiting, ledger, number)


def waiting(ledger: Ledger, number: int = 1) -> list[Request]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if len(found := Inbox(ledger).pending()) >= number:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{number} questions were expected; there are {Inbox(ledger).pending()}")


def answering(ledger: Ledger, *answers: Decision, reviewer: str = "alice") -> Callable[[], list[Request]]:
    """A person in a thread of their own, who gives these answers one after the other; returns what they were asked."""
    seen: list[Request] = []

    def work() -> None:
        with suppress(DatabaseClosedError):  # the test has failed before everything was asked
            for answer in answers:
                [request] = waiting(ledger)
                seen.append(request)
                Inbox(ledger).decide(request.id, answer, reviewer=reviewer)

    person = threading.Thread(target=work, daemon=True)
    person.start()

    def done() -> list[Request]:
        person.join(60)
        return seen

    return done


@contextmanager
def always(ledger: Ledger, answer: Decision) -> Iterator[None]:
    """A person in a thread of their own, who answers whatever is asked."""
    gone = threading.Event()

    def work() -> None:
        while not gone.wait(0.02):
            for request in Inbox(ledger).pending():
                Inbox(ledger).decide(request.id, answer, reviewer="alice")

    person = threading.Thread(target=work)
    person.start()
    try:
        yield
    finally:
        gone.set()
        person.join()
