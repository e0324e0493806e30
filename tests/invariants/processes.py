"""Real processes for tests: started together, killed, never left behind.

They are forked from a clean server that has imported what most of them need, so that a hundred of them cost seconds.
"""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Protocol

__all__ = ["Barrier", "Child", "Report", "child", "race"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "asyncio",
        "pytest",
        "hitl_graph.checkpointers.postgres",
        "hitl_graph.checkpointers.sqlite",
        "hitl_graph.inbox",
        "hitl_graph.nodes",
        "hitl_graph.testing",
        "hitl_graph.worker",
        "langchain.agents",
        "langgraph.prebuilt",
    ]
)
_PATIENCE = 120.0


class Barrier(Protocol):
    def wait(self, timeout: float | None = None) -> int: ...


class Report(Protocol):
    """How a child tells its parent something; when it returns, the word is out, whatever then becomes of the child."""

    def __call__(self, *words: Any) -> None: ...


@dataclass
class Child:
    """A process that reports. All that it reported before it died can be read."""

    process: ForkServerProcess
    pipe: Connection
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def hear(self, first: str | None = None) -> tuple[Any, ...]:
        """Wait for its next report; with `first`, for the next one that begins so."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self.pipe.poll(_PATIENCE):
            words = self._receive()
            if words is None:
                break
            if first is None or words[0] == first:
                return words
        raise AssertionError(f"the child did not report {first or 'anything'}; it reported {self.told}")

    def kill(self) -> list[tuple[Any, ...]]:
        """`kill -9`; returns all that it reported in its life."""
        self.process.kill()
        self.process.join()
        while self._receive() is not None:
            pass
        return self.told

    def end(self) -> list[tuple[Any, ...]]:
        """Wait until it ends by itself."""
        while self._receive() is not None:
            pass
        self.process.join(_PATIENCE)
        assert self.process.exitcode in (0, -signal.SIGKILL, 9), f"the child ended with {self.process.exitcode}"
        return self.told

    def _receive(self) -> tuple[Any, ...] | None:
        try:
            words: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None
        if words[0] == "raised":
            raise AssertionError(f"in a child process:\n{words[1]}")
        self.told.append(words)
        return words


@contextmanager
def child(target: Callable[..., None], *args: Any) -> Iterator[Child]:
    """Run `target(report, *args)` in another process; whatever is left of it at the end is killed."""
    mine, its = _context.Pipe(duplex=False)
    process = _context.Process(target=_child, args=(its, target, args), daemon=True)
    process.start()
    its.close()
    try:
        yield Child(process, mine)
    finally:
        process.kill()
        process.join()
        process.close()
        mine.close()


def _child(pipe: Connection, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    def report(*words: Any) -> None:
        pipe.send(words)

    try:
        target(report, *args)
    except BaseException:
        pipe.send(("raised", traceback.format_exc()))
        raise


def race(count: int, target: Callable[..., Any], *args: Any) -> list[Any]:
    """Run `target(index, barrier, *args)` in `count` processes at once; returns what each returned."""
    barrier = _context.Barrier(count)
    pipes, processes = [], []
    for index in range(count):
        mine, its = _context.Pipe(duplex=False)
        process = _context.Process(target=_racer, args=(its, index, barrier, target, args), daemon=True)
        process.start()
        its.close()
        pipes.append(mine)
        processes.append(process)
    try:
        results = []
        for pipe in pipes:
            assert pipe.poll(_PATIENCE), "a racing process hangs"
            good, value = pipe.recv()
            assert good, f"in a racing process:\n{value}"
            results.append(value)
        for process in processes:
            process.join(_PATIENCE)
        return results
    finally:
        for process, pipe in zip(processes, pipes, strict=True):
            process.kill()
            process.join()
            process.close()
            pipe.close()


def _racer(pipe: Connection, index: int, barrier: Any, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = True, target(index, barrier, *args)
    except BaseException:
        barrier.abort()
        result = False, traceback.format_exc()
    pipe.send(result)
