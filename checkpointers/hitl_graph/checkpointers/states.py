"""From a checkpoint to rows and back: what of its values is stored anew, and what is referred to."""

import hashlib
import json
from bisect import bisect_left
from operator import itemgetter
from typing import Any, NamedTuple, Self, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from hitl_graph.checkpointers import segments
from hitl_graph.checkpointers.codec import DELTA, DICT, PLAIN, Codec, Element
from hitl_graph.checkpointers.history import Change, Snapshot, compare, fresh, recalled
from hitl_graph.checkpointers.mappings import Entries, compare_entries, fresh_entries, from_pairs, recalled_entries
from hitl_graph.checkpointers.recent import Kept, Remembered, State
from hitl_graph.checkpointers.rows import Found, NewState
from hitl_graph.checkpointers.segments import Stored

__all__ = ["Plan", "checkpoint_tuple", "config_of", "recall", "refs_of", "segment_of"]

_INLINE_BYTES = 256  # what is shorter costs less in the row of its checkpoint than a segment would
_Older = Snapshot | Entries | None


class Plan(NamedTuple):
    """What storing a checkpoint takes.

    Attributes:
        skeleton: What goes into its own row.
        same: Channels that are as in the older state: nothing to store.
        grown: Lists and dicts, with what they have in common with the older ones.
        new: Other values, with their fingerprints.
        deltas: Which of the channels are snapshots of delta channels.
    """

    skeleton: bytes
    same: dict[str, Remembered]
    grown: dict[str, tuple[Change, _Older]]
    new: dict[str, tuple[Element, bytes]]
    deltas: set[str]

    @classmethod
    def of(cls, checkpoint: Checkpoint, before: State | None, codec: Codec) -> Self:
        """Plan to store `checkpoint`, given the state that it was probably made from."""
        inline: dict[str, bytes] = {}
        forms: dict[str, int] = {}
        plan = cls(b"", {}, {}, {}, set())
        for channel, value in checkpoint["channel_values"].items():
            form = PLAIN
            older = before.kept.get(channel) if before is not None else None
            content = value
            if type(value) is _DeltaSnapshot:
                form, content = DELTA, value.value
                older = before.snapshots.get(channel) if before is not None else None
                plan.deltas.add(channel)
            if type(content) is list:
                change = compare(content, older if isinstance(older, Snapshot) else None, codec)
            elif type(content) is dict:
                form |= DICT
                change = compare_entries(content, older if isinstance(older, Entries) else None, codec)
            else:
                plan._add_value(channel, value, older if isinstance(older, Kept) else None, inline, codec)
                continue
            same_kind = cast(_Older, older if isinstance(older, type(change.snapshot)) else None)
            if not plan._add_change(channel, change, same_kind):
                inline[channel] = codec.encode(value).data
            elif form:
                forms[channel] = form
        rest = {k: v for k, v in checkpoint.items() if k not in ("id", "channel_values")}
        return plan._replace(skeleton=codec.pack_skeleton(rest, checkpoint["channel_values"], inline, forms))

    @property
    def size(self) -> int:
        """How many new values there are."""
        return len(self.grown) + len(self.new)

    def rows(self, ids: range) -> tuple[list[NewState], dict[str, Remembered]]:
        """The new values as rows, and all values to compare the next checkpoint with."""
        kept, rows = dict(self.same), list[NewState]()
        free = iter(ids)
        for channel, (change, older) in self.grown.items():
            links = older.links if older else ()
            links = links[: bisect_left(links, change.keep, key=itemgetter(1))]
            segment, parent = next(free), links[-1][0] if links else 0
            rows.append(NewState.value(segment, parent, change.keep, len(change.tail), b"".join(change.tail)))
            change.snapshot.links = (*links, (segment, change.keep))
            kept[channel] = change.snapshot
        for channel, (element, fingerprint) in self.new.items():
            segment = next(free)
            rows.append(NewState.value(segment, 0, segments.NOT_A_LIST, 1, element.data))
            kept[channel] = Kept(segment, fingerprint)
        return rows, kept

    def state(self, epoch: int, kept: dict[str, Remembered], before: State | None) -> State:
        """What is known of the checkpoint now that it is stored."""
        snapshots = {} if before is None else before.snapshots
        if self.deltas:
            snapshots = {**snapshots, **{channel: kept[channel] for channel in self.deltas if channel in kept}}
        return State(epoch, kept, snapshots)

    def _add_change(self, channel: str, change: Change, older: _Older) -> bool:
        if older is not None and not change.tail and change.keep == older.size:
            change.snapshot.links = older.links
            self.same[channel] = change.snapshot
        elif older is None and sum(map(len, change.tail)) < _INLINE_BYTES:
            return False
        else:
            self.grown[channel] = change, older
        return True

    def _add_value(self, channel: str, value: Any, older: Kept | None, inline: dict[str, bytes], codec: Codec) -> None:
        element = codec.encode(value)
        if len(element.data) < _INLINE_BYTES:
            inline[channel] = element.data
            return
        fingerprint = _digest(element)
        if older is not None and fingerprint == older.fingerprint != b"":
            self.same[channel] = older
        else:
            self.new[channel] = element, fingerprint


def checkpoint_tuple(found: Found, codec: Codec) -> CheckpointTuple:
    """Decode a checkpoint of which everything was read."""
    return _decoded(found, None, codec)[0]


def recall(found: Found, known: State | None, codec: Codec) -> tuple[CheckpointTuple, State]:
    """Decode a checkpoint, taking from `known` what was not read.

    Returns:
        The checkpoint, all of fresh objects, and its state, taken before anybody can change the values.
    """
    row = found.row
    checkpoint, kept = _decoded(found, known, codec, state=True)
    snapshots = dict(known.snapshots) if known is not None and known.epoch == row.epoch else {}
    for channel, value in checkpoint.checkpoint["channel_values"].items():
        if type(value) is _DeltaSnapshot and channel in kept:
            snapshots[channel] = kept[channel]
    return checkpoint, State(row.epoch, kept, snapshots)


def _decoded(
    found: Found, known: State | None, codec: Codec, *, state: bool = False
) -> tuple[CheckpointTuple, dict[str, Remembered]]:
    row = found.row
    kept: dict[str, Remembered] = {}
    rest, values, forms = codec.unpack_skeleton(row.skeleton)
    for channel, stored in found.values.items():
        form = forms.get(channel, PLAIN)
        if stored is None:
            assert known is not None
            kept[channel] = older = known.kept[channel]
            value: Any = fresh_entries(older, codec) if isinstance(older, Entries) else fresh(cast(Any, older), codec)
        else:
            value, remembered = _restored(stored, form, found.refs[channel], codec, state)
            if remembered is not None:
                kept[channel] = remembered
        values[channel] = _DeltaSnapshot(value) if form & DELTA else value
    writes = [(task, channel, codec.decode(ormsgpack.unpackb(value))) for task, channel, value in found.writes]
    return CheckpointTuple(
        config_of(row.thread_id, row.checkpoint_ns, row.checkpoint_id),
        cast(Checkpoint, {**rest, "id": row.checkpoint_id, "channel_values": values}),
        json.loads(row.metadata),
        config_of(row.thread_id, row.checkpoint_ns, row.parent_id) if row.parent_id else None,
        writes,
    ), kept


def _restored(stored: Stored, form: int, segment: int, codec: Codec, state: bool) -> tuple[Any, Remembered | None]:
    elements = stored.elements()
    decoded = [codec.decode(element) for element in elements]
    if not stored.is_list:
        return decoded[0], Kept(segment, _digest(codec.encode(decoded[0]))) if state else None
    value: Any = decoded
    remembered: Snapshot | Entries | None = None
    if form & DICT:
        value = from_pairs(decoded)
        remembered = recalled_entries(value, decoded[::2], elements, codec) if state else None
    elif state:
        remembered = recalled(decoded, elements, codec)
    if remembered is not None:
        remembered.links = stored.links
    return value, remembered


def refs_of(kept: dict[str, Remembered]) -> str:
    """Where the values of a checkpoint end, as JSON."""
    return json.dumps({channel: segment_of(value) for channel, value in kept.items()})


def segment_of(kept: Remembered) -> int:
    """The segment in which a value ends."""
    return kept.segment if isinstance(kept, Kept) else kept.links[-1][0]


def config_of(thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}}


def _digest(element: Element) -> bytes:
    if element.fingerprint is None:
        return b""  # equal to nothing
    return hashlib.blake2b(element.fingerprint, digest_size=16).digest()
