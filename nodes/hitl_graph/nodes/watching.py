"""The watches that this process keeps between two looks. A cache only: each can be made anew from the messages."""

from collections.abc import Callable, Sequence
from typing import Any

from hitl_graph.stuck import Watch

__all__ = ["Watches"]

_KEPT = 64
Key = tuple[str, ...]


class Watches:
    """So many watches, the last used ones. A watch is taken out while it is used, so no two threads share one."""

    def __init__(self, make: Callable[[Sequence[Any]], Watch], kept: int = _KEPT) -> None:
        self.make = make
        self._kept = kept
        self._by_key: dict[Key, Watch] = {}

    def take(self, key: Key, memory: Sequence[Any]) -> Watch:
        """The watch of this key, or a new one with this memory."""
        return self._by_key.pop(key, None) or self.make(memory)

    def keep(self, key: Key, watch: Watch) -> None:
        """For the next look."""
        self._by_key[key] = watch
        while len(self._by_key) > self._kept:
            oldest = next(iter(tuple(self._by_key)), None)
            if oldest is not None:
                self._by_key.pop(oldest, None)
