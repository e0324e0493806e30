"""What this process stored or read last: the states that the next checkpoints will be compared with."""

import os
import threading
from collections import OrderedDict
from typing import NamedTuple

from hitl_graph.checkpointers.history import Snapshot

__all__ = ["Kept", "Key", "Recent", "State"]

Key = tuple[str, str, str]
"""thread_id, checkpoint_ns, checkpoint_id."""


class Kept(NamedTuple):
    """A long value that is no list, in a segment of its own."""

    segment: int
    fingerprint: bytes


State = dict[str, Snapshot | Kept]
"""The channels of a checkpoint that are stored outside of its row."""


class Recent:
    """A bounded cache of states, shared by all copies of a checkpointer and safe for threads.

    It is only ever a hint: segments never change and their ids are never used twice, and whoever builds on one checks
    that it still exists.
    """

    def __init__(self, *, entries: int = 1024, elements: int = 50_000) -> None:
        self._bounds = entries, elements
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._states: OrderedDict[Key, State] = OrderedDict()
        self._elements = 0

    def get(self, key: Key) -> State | None:
        """The state of this checkpoint, if it is known."""
        with self._locked():
            state = self._states.get(key)
            if state is not None:
                self._states.move_to_end(key)
            return state

    def put(self, key: Key, state: State, *, instead_of: Key | None = None) -> None:
        """Remember a state, and forget the one it was made from: few checkpoints have two children."""
        entries, elements = self._bounds
        with self._locked():
            if instead_of is not None:
                self._drop(instead_of)
            self._drop(key)
            self._states[key] = state
            self._elements += _size(state)
            while len(self._states) > 1 and (len(self._states) > entries or self._elements > elements):
                self._elements -= _size(self._states.popitem(last=False)[1])

    def forget(self, thread_id: str | None = None) -> None:
        """Forget a thread, or everything."""
        with self._locked():
            for key in [k for k in self._states if thread_id is None or k[0] == thread_id]:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self._elements -= _size(state)

    def _locked(self) -> threading.Lock:
        if self._pid != os.getpid():  # another thread may have held the lock when we were forked
            self._forget_everything()
        return self._lock


def _size(state: State) -> int:
    return sum(kept.size if isinstance(kept, Snapshot) else 1 for kept in state.values())
