"""From a checkpoint to rows and back: what of its values is stored anew, and what is referred to."""

import hashlib
import json
from bisect import bisect_left
from operator import itemgetter
from typing import Any, NamedTuple, Self, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple

from hitl_graph.checkpointers import segments
from hitl_graph.checkpointers.codec import Codec, Element
from hitl_graph.checkpointers.history import Change, Link, Snapshot, compare, fresh
from hitl_graph.checkpointers.recent import Kept, State
from hitl_graph.checkpointers.rows import Found
from hitl_graph.storage import Transaction

__all__ = ["Plan", "checkpoint_tuple", "config_of", "refs", "remember", "segment_of"]

_INLINE_BYTES = 256  # what is shorter costs less in the row of its checkpoint than a segment would


class Plan(NamedTuple):
    """What storing a checkpoint takes.

    Attributes:
        skeleton: What goes into its own row.
        same: Channels that are as in the older state: nothing to store.
        grown: Lists, with what they have in common with the older ones.
        new: Other values, with their fingerprints.
    """

    skeleton: bytes
    same: State
    grown: dict[str, tuple[Change, Snapshot | None]]
    new: dict[str, tuple[Element, bytes]]

    @classmethod
    def of(cls, checkpoint: Checkpoint, before: State, codec: Codec) -> Self:
        """Plan to store `checkpoint`, given the state that it was probably made from."""
        inline: dict[str, bytes] = {}
        plan = cls(b"", {}, {}, {})
        for channel, value in checkpoint["channel_values"].items():
            older = before.get(channel)
            if type(value) is list:
                plan._add_list(channel, value, older if isinstance(older, Snapshot) else None, inline, codec)
            else:
                plan._add_value(channel, value, older if isinstance(older, Kept) else None, inline, codec)
        rest = {k: v for k, v in checkpoint.items() if k not in ("id", "channel_values")}
        return plan._replace(skeleton=codec.pack_skeleton(rest, checkpoint["channel_values"], inline))

    def store(self, tx: Transaction, ns: int) -> State | None:
        """Store the values.

        Returns:
            The state to compare the next checkpoint with; None if what this plan builds on is there no more.
        """
        used = {segment_of(kept) for kept in self.same.values()}
        parents: dict[str, tuple[Link, ...]] = {}
        for channel, (change, older) in self.grown.items():
            links = older.links if older else ()
            parents[channel] = links[: bisect_left(links, change.keep, key=itemgetter(1))]
            used.update(segment for segment, _ in parents[channel][-1:])
        if not segments.exist(tx, ns, used):
            return None
        state = dict(self.same)
        for channel, (change, _) in self.grown.items():
            links = parents[channel]
            parent = links[-1][0] if links else None
            identity = segments.add(tx, ns, parent, change.keep, len(change.tail), b"".join(change.tail))
            change.snapshot.links = (*links, (identity, change.keep))
            state[channel] = change.snapshot
        for channel, (element, fingerprint) in self.new.items():
            identity = segments.add(tx, ns, None, segments.NOT_A_LIST, 1, element.data)
            state[channel] = Kept(identity, fingerprint)
        return state

    def _add_list(
        self, channel: str, value: list[Any], older: Snapshot | None, inline: dict[str, bytes], codec: Codec
    ) -> None:
        change = compare(value, older, codec)
        if older is not None and change.keep == older.size == len(value):
            change.snapshot.links = older.links
            self.same[channel] = change.snapshot
        elif older is None and sum(map(len, change.tail)) < _INLINE_BYTES:
            inline[channel] = codec.encode(value).data
        else:
            self.grown[channel] = change, older

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


def checkpoint_tuple(found: Found, known: State, codec: Codec) -> tuple[CheckpointTuple, State]:
    """Decode a checkpoint, taking from `known` what was not read.

    Returns:
        The checkpoint, all of fresh objects, and the part of its state that came from `known`.
    """
    row = found.row
    state: State = {}
    rest, values = codec.unpack_skeleton(row.skeleton)
    for channel, stored in found.values.items():
        if stored is None:
            values[channel], state[channel] = fresh(cast(Snapshot, known[channel]), codec)
        else:
            values[channel] = stored.decode(codec)
    writes = [(task, channel, codec.decode(ormsgpack.unpackb(value))) for task, channel, value in found.writes]
    return CheckpointTuple(
        config_of(row.thread_id, row.checkpoint_ns, row.checkpoint_id),
        cast(Checkpoint, {**rest, "id": row.checkpoint_id, "channel_values": values}),
        json.loads(row.metadata),
        config_of(row.thread_id, row.checkpoint_ns, row.parent_id) if row.parent_id else None,
        writes,
    ), state


def remember(found: Found, checkpoint: Checkpoint, state: State, codec: Codec) -> State:
    """The whole state of a checkpoint that was just decoded, before anybody can change its values."""
    whole = dict(state)
    for channel, stored in found.values.items():
        if stored is None:
            continue
        value = checkpoint["channel_values"][channel]
        if stored.is_list:
            snapshot = compare(value, None, codec).snapshot
            snapshot.links = stored.links
            whole[channel] = snapshot
        else:
            whole[channel] = Kept(refs(found)[channel], _digest(codec.encode(value)))
    return whole


def refs(found: Found) -> dict[str, int]:
    """The segments of a checkpoint."""
    return cast(dict[str, int], json.loads(found.row.refs))


def segment_of(kept: Snapshot | Kept) -> int:
    """The segment in which a value ends."""
    return kept.segment if isinstance(kept, Kept) else kept.links[-1][0]


def config_of(thread_id: str, checkpoint_ns: str, checkpoint_id: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}}


def _digest(element: Element) -> bytes:
    if element.fingerprint is None:
        return b""  # equal to nothing
    return hashlib.blake2b(element.fingerprint, digest_size=16).digest()
