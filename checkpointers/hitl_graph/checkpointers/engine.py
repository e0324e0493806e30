"""What a checkpointer does, written once: generators that ask for transactions, for threads and for asyncio alike."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, SCHEDULED
from langgraph.constants import END

from hitl_graph.checkpointers import rows, runs, segments, upkeep
from hitl_graph.checkpointers.codec import Codec
from hitl_graph.checkpointers.deltas import Lineage, lineage
from hitl_graph.checkpointers.query import names
from hitl_graph.checkpointers.recent import Kept, Key, Recent, State
from hitl_graph.checkpointers.retention import Retained, Retention, apply
from hitl_graph.checkpointers.rows import Found, NewState, Row
from hitl_graph.checkpointers.runs import Run, Runs
from hitl_graph.checkpointers.states import Plan, config_of, recall, refs_of, segment_of
from hitl_graph.errors import DatabaseWriteError
from hitl_graph.ledger import parking
from hitl_graph.steps import Step, Steps
from hitl_graph.storage import Database, Deferred, Statement, Transaction

if TYPE_CHECKING:
    from langgraph.types import Interrupt

__all__ = ["Engine"]

_ID_BLOCK = 1000
_LARGEST = 200  # rows of one statement
_NULL_TASK = "00000000-0000-0000-0000-000000000000"  # input and update_state write as this task
_BY_LOOP = ("input", "loop")  # the sources of checkpoints that a run makes
_TO_END = f"branch:to:{END}"  # `Command(goto=END)` from outside: Agent Chat UI's "Mark as Resolved"
_CONTROL = {ERROR, "__error_source_node__", INTERRUPT, RESUME, SCHEDULED}


class Engine:
    """Reads and stores the threads of one database. Shared by all copies of a checkpointer.

    What it is asked with a `codec` depends on the serializer, of which each copy may have another one.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recent = Recent()
        self._runs = Runs(database, self._recent.forget)

    def get_tuple(self, codec: Codec, config: RunnableConfig, run: Run | None) -> Steps[CheckpointTuple | None]:
        place = names(config)
        read = self._read(partial(self._find, *place), place[0])
        found = yield read
        claim = None
        if run is not None and found is not None and not place[1] and (found[0].is_paused or found[0].row.claim):
            until = time.monotonic() + runs.WAIT
            while found is not None and claim is None:
                row, writes = found[0].row, len(found[0].writes)
                claim = yield from self._runs.claim(row, writes, latest=place[2] is None, until=until)
                if claim is None:
                    found = yield read
        checkpoint = None
        if found is not None:
            checkpoint, state = recall(found[0], found[1], codec)
            self._recent.put(found[0].row.key, state)
            if found[0].is_paused:
                self._recent.note_pause(found[0].row.key)
        if run is not None:
            held = (found[0].row.ns, claim) if found is not None and claim is not None else None
            self._runs.begin(run, place[0], place[1], held)
        return checkpoint

    def delta_history(
        self, codec: Codec, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        if not channels:
            return {}

        def look(tx: Transaction) -> tuple[Lineage, dict[str, tuple[Found, State | None]]] | None:
            target = rows.find(tx, *names(config))
            if target is None:
                return None
            line, known = lineage(tx, target, channels), self._recent.get(target.key)
            return line, {channel: self._load(tx, row, known) for channel, row in line.seeds.items()}

        found = yield self._read(look, names(config)[0])
        result: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        if found is None:
            return result
        line, seeds = found
        for channel, writes in line.writes.items():
            result[channel]["writes"] = [
                (task, channel, codec.decode(ormsgpack.unpackb(value))) for task, value in writes
            ]
        for channel, (seed, known) in seeds.items():
            result[channel]["seed"] = recall(seed, known, codec)[0].checkpoint["channel_values"][channel]
        return result

    def put(
        self, codec: Codec, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> Steps[RunnableConfig]:
        thread_id, checkpoint_ns, parent_id = names(config)
        place, key = (thread_id, checkpoint_ns), (thread_id, checkpoint_ns, checkpoint["id"])
        described, source = json.dumps(get_checkpoint_metadata(config, metadata)), str(metadata.get("source", "loop"))
        parent = (thread_id, checkpoint_ns, parent_id) if parent_id else None
        while True:
            before = self._recent.get(parent) if parent else None
            if parent and before is None:
                found = yield self._read(partial(self._find, *parent), thread_id)
                if found is not None:
                    before = recall(found[0], found[1], codec)[1]
            plan = Plan.of(checkpoint, before, codec)
            ids = self._recent.take_ids(plan.size + 1)
            if ids is None:
                ids = yield from self._reserve_ids(plan.size + 1)
            states, kept = plan.rows(ids)
            states.append(
                NewState.checkpoint(ids[-1], checkpoint["id"], parent_id or "", described, refs_of(kept), plan.skeleton)
            )
            epoch = before.epoch if before else rows.new_epoch()
            store = partial(self._store, key, parent_id, epoch, states, source)
            insert = None
            if len(states) <= _LARGEST:  # the usual case is one statement
                insert = rows.insert_states(place, epoch, states, self.database.hold, unless_asked=True)
            going = self._runs.of(*place)
            if going is not None and not going.waiting and source in _BY_LOOP:
                if before is None and insert is not None:
                    going.add(self.database.defer(rows.begin(*place, epoch), scope=thread_id))
                going.add(self._defer(insert, len(states), store, thread_id))
            elif before is None or insert is None or not (yield self._execute(insert)):
                try:
                    epoch = yield self._write(store)
                except _Outdated:
                    self._recent.forget(thread_id)
                    continue
            self._recent.put(key, plan.state(epoch, kept, before), instead_of=parent)
            return config_of(*key)

    def _store(
        self, key: Key, parent_id: str | None, epoch: int, states: Sequence[NewState], source: str, tx: Transaction
    ) -> int:
        """Store a checkpoint, whatever is in the way, and tell the ledger that the thread has gone on.

        Args:
            epoch: What the namespace is thought to have.

        Returns:
            The epoch that it has.
        """
        thread_id, checkpoint_ns, checkpoint_id = key
        place = (thread_id, checkpoint_ns)
        is_new = tx.execute(*rows.begin(*place, epoch))
        rows.lock(tx, *place)
        parts = [states[start : start + _LARGEST] for start in range(0, len(states), _LARGEST)]
        stored = [tx.execute(*rows.insert_states(place, epoch, part, "")) for part in parts]
        waiting = parking.waiting(tx, thread_id) if not checkpoint_ns else None
        if stored[-1].rowcount == 0:  # something of the thread was deleted, or another process began it
            epoch = rows.epoch_of(tx, *place) or 0
            if not segments.are_there(tx, _built_on(states)):
                raise _Outdated(thread_id)
            for part in parts:
                tx.execute(*rows.insert_states(place, epoch, part, ""))
            self._recent.amend(key, epoch)
        if waiting is not None and not is_new.rowcount:  # else nobody can have been asked in it
            goes_on = parking.advanced(tx, thread_id, checkpoint_id, parent_id, source, waiting)
            rows.note_asked(tx, thread_id, not goes_on)
        return epoch

    def _reserve_ids(self, count: int) -> Steps[range]:
        more = count + _ID_BLOCK
        first = yield self._write(lambda tx: segments.reserve_ids(tx, more), durable=False)
        self._recent.add_ids(range(first + count, first + more))
        return range(first, first + count)

    def put_writes(
        self, codec: Codec, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Steps[None]:
        thread_id, checkpoint_ns, checkpoint_id = names(config)
        assert checkpoint_id is not None, "writes belong to a checkpoint"
        key = (thread_id, checkpoint_ns, checkpoint_id)
        if not writes:
            return
        encoded = [
            (task_id, WRITES_IDX_MAP.get(channel, index), task_path, channel, codec.encode(value).data)
            for index, (channel, value) in enumerate(writes)
        ]
        channels = {channel for channel, _ in writes}
        replace = channels <= WRITES_IDX_MAP.keys()
        interrupts = [i for channel, value in writes if channel == INTERRUPT for i in _interrupts(value)]
        is_output = task_id != _NULL_TASK and not channels <= _CONTROL
        hails = task_id == _NULL_TASK and RESUME in channels
        closes = task_id == _NULL_TASK and _TO_END in channels and not hails
        tells = not checkpoint_ns and (interrupts or hails or closes or (is_output and self._recent.is_paused(key)))
        if interrupts:
            self._recent.note_pause(key)
        place = (thread_id, checkpoint_ns)
        insert = None
        if not tells and len(encoded) <= _LARGEST:  # usually one statement does it
            insert = rows.insert_writes(place, checkpoint_id, encoded, replace=replace, unless_asked=is_output)

        def store(tx: Transaction) -> None:
            rows.hold(tx, thread_id, checkpoint_ns, asked=bool(interrupts) and not checkpoint_ns)
            for start in range(0, len(encoded), _LARGEST):
                part = encoded[start : start + _LARGEST]
                tx.execute(*rows.insert_writes(place, checkpoint_id, part, replace=replace))
            if not checkpoint_ns:
                if interrupts:
                    parking.interrupted(tx, thread_id, checkpoint_id, task_id, task_path, interrupts)
                if hails:
                    parking.hailed(tx, thread_id, checkpoint_id)
                if closes:
                    parking.closed(tx, thread_id, checkpoint_id)
                if is_output:
                    parking.finished(tx, thread_id, checkpoint_id, task_id)

        going = self._runs.of(*place)
        if going is not None:
            going.add(self._defer(insert, len(encoded), store, thread_id))
        elif insert is None or (yield self._execute(insert)) != len(encoded):
            yield self._write(store)

    def delete_threads(self, thread_ids: Sequence[str]) -> Steps[None]:
        def delete(tx: Transaction) -> None:
            for thread_id in thread_ids:
                upkeep.delete_thread(tx, str(thread_id))

        yield self._write(delete)
        self._forget(thread_ids)

    def delete_for_runs(self, run_ids: Sequence[str]) -> Steps[None]:
        self._forget((yield self._write(lambda tx: upkeep.delete_runs(tx, run_ids))))

    def copy_thread(self, source: str, target: str) -> Steps[None]:
        yield self._write(lambda tx: upkeep.copy_thread(tx, str(source), str(target)))

    def prune(self, thread_ids: Sequence[str], strategy: str, older_than: timedelta | None) -> Steps[None]:
        if strategy not in ("keep_latest", "older_than", "delete"):
            raise ValueError(f"strategy={strategy!r} is unknown; take 'keep_latest', 'older_than' or 'delete'")
        if (strategy == "older_than") != (older_than is not None):
            raise ValueError("older_than=timedelta(...) goes with strategy='older_than', and only with that one")
        if strategy == "delete":
            yield from self.delete_threads(thread_ids)
            return
        before = None if older_than is None else upkeep.earliest_id(datetime.now(UTC) - older_than)
        for thread_id in thread_ids:
            yield self._write(partial(_prune, str(thread_id), before))
        self._forget(thread_ids)

    def retain(self, retention: Retention, progress: Callable[[Retained], object] | None) -> Steps[Retained]:
        done = yield from apply(self.database, retention, progress=progress)
        self._recent.forget()
        return done

    def _read(self, work: Callable[[Transaction], Any], scope: str | None = None) -> Step:
        read, aread = self.database.read, self.database.aread
        return Step(partial(read, work, scope=scope), partial(aread, work, scope=scope))

    def _write(self, work: Callable[[Transaction], Any], *, durable: bool = True) -> Step:
        write, awrite = self.database.write, self.database.awrite
        return Step(partial(write, work, durable=durable), partial(awrite, work, durable=durable))

    def _execute(self, statement: Statement) -> Step:
        return Step(partial(self.database.execute, *statement), partial(self.database.aexecute, *statement))

    def _defer(
        self, insert: Statement | None, expected: int, store: Callable[[Transaction], Any], thread_id: str
    ) -> Deferred:
        """One statement if it does all, else `store`: within a moment, and before the run ends."""
        if insert is None:
            return self.database.defer(store, scope=thread_id)
        return self.database.defer(insert, scope=thread_id, expected=expected, otherwise=store)

    def _forget(self, thread_ids: Collection[str]) -> None:
        for thread_id in thread_ids:
            self._recent.forget(str(thread_id))

    def _find(
        self, thread_id: str, checkpoint_ns: str, checkpoint_id: str | None, tx: Transaction
    ) -> tuple[Found, State | None] | None:
        row = rows.find(tx, thread_id, checkpoint_ns, checkpoint_id)
        if row is None:
            return None
        return self._load(tx, row, self._recent.get(row.key))

    def _load(self, tx: Transaction, row: Row, known: State | None) -> tuple[Found, State | None]:
        """Read a checkpoint, but for the values that `known` has, which may be the state of a younger one."""
        if known is not None:
            known = known._replace(kept={**known.snapshots, **known.kept})

        def has(channel: str, segment: int) -> bool:
            kept = known.kept.get(channel) if known is not None else None
            return kept is not None and not isinstance(kept, Kept) and segment_of(kept) == segment

        return rows.load(tx, row, has=has), known


class _Outdated(DatabaseWriteError):
    """What is built on is not there any more: another process has deleted the thread, or its last run."""

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        super().__init__(
            f"thread {thread_id} was deleted while a run went on with it; what the run did since then was not stored."
            " Begin the thread anew"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.thread_id,)


def _built_on(states: Sequence[NewState]) -> list[int]:
    """The stored values that a checkpoint and its new values refer to."""
    referred = {state.parent for state in states if state.parent} | set(json.loads(states[-1].refs).values())
    return sorted(referred - {state.id for state in states})


def _prune(thread_id: str, before: str | None, tx: Transaction) -> None:
    upkeep.prune(tx, thread_id, before)


def _interrupts(value: Any) -> "list[Interrupt]":
    from langgraph.types import Interrupt  # takes as long as all other imports; whoever pauses has it

    return [item for item in value if isinstance(item, Interrupt)] if isinstance(value, list | tuple) else []
