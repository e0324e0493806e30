"""What this process stored or read last: the states that the next checkpoints will be compared with."""

import os
import threading
from collections import OrderedDict
from typing import NamedTuple

from hitl_graph.checkpointers.history import Snapshot
from hitl_graph.checkpointers.mappings import Entries

__all__ = ["Kept", "Key", "Recent", "Remembered", "State"]

Key = tuple[str, str, str]
"""thread_id, checkpoint_ns, checkpoint_id."""


class Kept(NamedTuple):
    """A long value that is no list or dict, in a segment of its own."""

    segment: int
    fingerprint: bytes


Remembered = Snapshot | Entries | Kept


class State(NamedTuple):
    """What is known of a checkpoint.

    Attributes:
        epoch: Of the namespace; when that is another one, the segments may be gone.
        kept: The channels that are stored outside of its row.
        snapshots: The latest snapshots of delta channels, of this checkpoint or an older one.
    """

    epoch: int
    kept: dict[str, Remembered]
    snapshots: dict[str, Remembered]


class Recent:
    """A bounded cache of states, shared by all copies of a checkpointer and safe for threads.

    It is only ever a hint: segments never change and their ids are never used twice, and whoever builds on one checks
    that nothing was deleted.
    """

    def __init__(self, *, entries: int = 4096, elements: int = 100_000) -> None:
        self._bounds = entries, elements
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._states: OrderedDict[Key, State] = OrderedDict()
        self._elements = 0
        self._ids = range(0)
        self._paused: set[Key] = set()

    def get(self, key: Key) -> State | None:
        """The state of this checkpoint, if it is known."""
        with self._locked():
            state = self._states.get(key)
            if state is not None:
                self._states.move_to_end(key)
            return state

    def note_pause(self, key: Key) -> None:
        """Somebody may be asked at this checkpoint."""
        with self._locked():
            if len(self._paused) > self._bounds[0]:
                self._paused.clear()
            self._paused.add(key)

    def is_paused(self, key: Key) -> bool:
        """Whether a pause of this checkpoint was noted. A hint: False only costs an attempt."""
        with self._locked():
            return key in self._paused

    def take_ids(self, count: int) -> range | None:
        """As many reserved ids; None: reserve some."""
        with self._locked():
            taken, self._ids = self._ids[:count], self._ids[count:]
            return taken if len(taken) == count else None

    def add_ids(self, ids: range) -> None:
        """Ids that were reserved."""
        with self._locked():
            self._ids = ids

    def amend(self, key: Key, epoch: int) -> None:
        """The namespace of a checkpoint turned out to have another epoch."""
        with self._locked():
            if key in self._states:
                self._states[key] = self._states[key]._replace(epoch=epoch)

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
    each = (*state.kept.values(), *state.snapshots.values())
    return sum(1 if isinstance(kept, Kept) else kept.size for kept in each)
