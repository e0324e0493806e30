"""One piece of work for all who want the same at about the same time.

When something happens, everybody who watches asks for the list again. Whoever asks gets what was begun after they
asked, so nobody sees what is older than their question; but it is begun at most so often, and once for all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection

__all__ = ["Sharing", "sharing_of"]

_PAUSE = 0.5  # seconds between the beginnings of two works for the same
_AT_ONCE = 2  # works; people's answers come before what is drawn again


@dataclass
class _Work:
    begins: float
    has_begun: bool = False
    task: asyncio.Task[bytes] | None = None


class Sharing:
    """Works that are shared, by what they are for."""

    def __init__(self, pause: float = _PAUSE) -> None:
        self._pause = pause
        self._works: dict[Hashable, _Work] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """The outcome of a work that begins from now on.

        Args:
            key: What it is for; whoever gives the same gets the same.
        """
        loop, last = asyncio.get_running_loop(), self._works.get(key)
        if last is None or last.has_begun:
            work = _Work(loop.time() if last is None else max(loop.time(), last.begins + self._pause))
            self._works[key] = work
            work.task = asyncio.create_task(self._done(key, work, make))
            work.task.add_done_callback(_look_at)
        else:
            work = last
        return await asyncio.shield(cast("asyncio.Task[bytes]", work.task))

    async def _done(self, key: Hashable, work: _Work, make: Callable[[], Awaitable[bytes]]) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(work.begins - loop.time())
        try:
            async with self._room:
                work.has_begun, work.begins = True, loop.time()
                return await make()
        finally:
            work.has_begun = True
            loop.call_later(self._pause, self._forget, key, work)

    def _forget(self, key: Hashable, work: _Work) -> None:
        if self._works.get(key) is work:
            del self._works[key]


def _look_at(task: asyncio.Task[bytes]) -> None:
    if not task.cancelled():
        task.exception()  # whoever asked has it; if they went away, nobody does


def sharing_of(connection: HTTPConnection) -> Sharing:
    """The shared works of this application."""
    state = connection.app.state
    if not hasattr(state, "sharing"):
        state.sharing = Sharing()
    return cast(Sharing, state.sharing)
