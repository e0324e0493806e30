"""What the parts of an inbox stand on."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from hitl_graph.ledger import Ledger

__all__ = ["Desk", "to_the_end"]

P = ParamSpec("P")
T = TypeVar("T")


class Desk:
    """A ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger


async def to_the_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a work in a thread; if the caller is cancelled, its end is awaited first."""
    running = asyncio.ensure_future(asyncio.to_thread(partial(work, *args, **kwargs)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
