"""Work that a click starts, beside whatever else the kernel does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Beside"]


class Beside:
    """Starts work in the running event loop, which every kernel has; where none runs, the work is done at once."""

    def __init__(self) -> None:
        self._tasks = set[asyncio.Task[None]]()
        self._at_once = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it, and keep it until it is done."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._at_once = True
            asyncio.run(work)
            return
        task = loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """After a while."""
        if self._at_once:
            work()
        else:
            asyncio.get_running_loop().call_later(seconds, work)
