"""Whatever is done to both, our checkpointer reads as LangGraph's in-memory one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Interrupt

from hitl_graph.checkpointers.base import Checkpointer
from tests.databases import open_checkpointer

THREADS = st.sampled_from(["a", "b", "c", "ä ' \"%_"])
SPACES = st.sampled_from(["", "", "", "sub:1", "sub:1|deeper:2"])
RUNS = st.sampled_from(["run-1", "run-2", 'run "3"'])
VALUES = st.one_of(st.none(), st.integers(-2, 2), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=4))
MESSAGES = st.builds(lambda kind, text: kind(text, id=text), st.sampled_from([HumanMessage, AIMessage]), st.text())
Place = tuple[str, str]


class Memory(InMemorySaver):
    """With the upkeep that the original lacks, by its documentation."""

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        for ns, checkpoints in list(self.storage[source_thread_id].items()):
            self.storage[target_thread_id][ns].update(checkpoints)
        for (thread, ns, *rest), value in list(self.blobs.items()):
            if thread == source_thread_id:
                self.blobs[target_thread_id, ns, *rest] = value  # type: ignore[index]
        for (thread, ns, checkpoint), writes in list(self.writes.items()):
            if thread == source_thread_id:
                self.writes[target_thread_id, ns, checkpoint].update(writes)

    def keep(self, thread_id: str, wanted: Callable[[str, str], bool]) -> None:
        for ns, checkpoints in self.storage[thread_id].items():
            for checkpoint_id in [c for c in checkpoints if not wanted(ns, c)]:
                del checkpoints[checkpoint_id]
                self.writes.pop((thread_id, ns, checkpoint_id), None)


class Machine(RuleBasedStateMachine):
    """Does everything to both."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = self.folder / f"{uuid6()}.db"
        self.ours: Checkpointer = open_checkpointer(self.path)
        self.memory = Memory()
        self.made: list[tuple[Place, str]] = []

    @initialize(thread=THREADS)
    def begin(self, thread: str) -> None:
        self._put((thread, ""), None, {"messages": [HumanMessage("hello", id="1")], "n": 0}, "run-1")

    @rule(thread=THREADS, ns=SPACES, value=VALUES, run=RUNS)
    def put_first(self, thread: str, ns: str, value: Any, run: str) -> None:
        self._put((thread, ns), None, {"value": value, "messages": []}, run)

    @rule(data=st.data(), added=st.lists(MESSAGES, max_size=3), value=VALUES, run=RUNS)
    @precondition(lambda self: self.made)
    def put_next(self, data: st.DataObject, added: list[Any], value: Any, run: str) -> None:
        """After any checkpoint: the latest one, or an older one, which forks the thread."""
        place, parent = data.draw(st.sampled_from(self.made))
        before = self._get(self.memory, place, parent)
        values = {} if before is None else dict(before.checkpoint["channel_values"])
        kept = data.draw(st.integers(0, len(values.get("messages", ()))))
        values["messages"] = [*values.get("messages", ())[: kept or None], *added]
        if data.draw(st.booleans()):
            values["value"] = value
        else:
            values.pop("value", None)
        self._put(place, parent, values, run)

    @rule(
        data=st.data(),
        task=st.sampled_from(["t1", "t2", "00000000-0000-0000-0000-000000000000"]),
        path=st.sampled_from(["", "~__pregel_pull, n", "~__pregel_push, 10", "~__pregel_push, 9"]),
        writes=st.lists(st.tuples(st.sampled_from(["messages", "value"]), VALUES), min_size=1, max_size=3),
        special=st.sampled_from([None, None, "__interrupt__", "__resume__", "__error__"]),
    )
    @precondition(lambda self: self.made)
    def put_writes(self, data: st.DataObject, task: str, path: str, writes: list[Any], special: str | None) -> None:
        place, checkpoint_id = data.draw(st.sampled_from(self.made))
        if special == "__interrupt__":
            writes = [(special, (Interrupt(writes[0][1], id=f"{checkpoint_id}{task}"),))]
        elif special is not None:
            writes = [(special, writes[0][1])]
        for saver in (self.ours, self.memory):
            saver.put_writes(_config(place, checkpoint_id), writes, task, path)

    @rule(thread=THREADS)
    def delete_thread(self, thread: str) -> None:
        self.ours.delete_thread(thread)
        self.memory.delete_thread(thread)
        self._forget_gone()

    @rule(thread=THREADS)
    def prune(self, thread: str) -> None:
        latest = {ns: max(checkpoints, default="") for ns, checkpoints in self.memory.storage[thread].items()}
        self.ours.prune([thread])
        self.memory.keep(thread, lambda ns, checkpoint_id: latest[ns] == checkpoint_id)
        self._forget_gone()

    @rule(run=RUNS)
    def delete_run(self, run: str) -> None:
        self.ours.delete_for_runs([run])
        gone = {
            (item.config["configurable"]["thread_id"], item.config["configurable"]["checkpoint_id"])
            for item in self.memory.list(None)
            if item.metadata.get("run_id") == run
        }
        for thread in list(self.memory.storage):
            self.memory.keep(thread, lambda ns, checkpoint_id, thread=thread: (thread, checkpoint_id) not in gone)  # type: ignore[misc]
        self._forget_gone()

    @rule(source=THREADS, copy=THREADS)
    def copy_thread(self, source: str, copy: str) -> None:
        if source != copy and not any(self.memory.storage[copy].values()):
            self.ours.copy_thread(source, copy)
            self.memory.copy_thread(source, copy)
            self.made += [((copy, place[1]), made) for place, made in self.made if place[0] == source]

    @rule()
    def reopen(self) -> None:
        self.ours.close()
        self.ours = open_checkpointer(self.path)

    @rule(
        data=st.data(), thread=THREADS, ns=st.none() | SPACES, limit=st.none() | st.integers(0, 4), run=st.none() | RUNS
    )
    def search(self, data: st.DataObject, thread: str, ns: str | None, limit: int | None, run: str | None) -> None:
        config: Any = {
            "configurable": {"thread_id": thread} if ns is None else {"thread_id": thread, "checkpoint_ns": ns}
        }
        before = data.draw(st.none() | st.sampled_from(self.made)) if self.made else None
        options: dict[str, Any] = {
            "limit": limit if ns is not None else None,  # over namespaces, the in-memory one has no order
            "filter": None if run is None else {"run_id": run},
            "before": None if before is None else _config(*before),
        }
        ours, memory = (list(saver.list(config, **options)) for saver in (self.ours, self.memory))
        if ns is None:
            ours, memory = sorted(ours, key=_key), sorted(memory, key=_key)
        assert list(map(_exact, ours)) == list(map(_exact, memory))

    def teardown(self) -> None:
        try:
            for place in {place for place, _ in self.made}:
                assert _exact(self._get(self.ours, place)) == _exact(self._get(self.memory, place))
            for place, checkpoint_id in self.made:
                found = (self._get(saver, place, checkpoint_id) for saver in (self.ours, self.memory))
                ours, memory = map(_exact, found)
                assert ours == memory
            everything = (sorted(saver.list(None), key=_key) for saver in (self.ours, self.memory))
            all_ours, all_memory = (list(map(_exact, found)) for found in everything)
            assert all_ours == all_memory
            assert self.ours.ledger.verify_audit().ok
        finally:
            self.ours.close()

    def _put(self, place: Place, parent: str | None, values: dict[str, Any], run: str) -> None:
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6())
        checkpoint["channel_values"] = values
        checkpoint["channel_versions"] = dict.fromkeys(values, checkpoint["id"])
        metadata: Any = {"source": "loop", "step": len(self.made), "parents": {}, "run_id": run}
        for saver in (self.ours, self.memory):
            saver.put(_config(place, parent), checkpoint, metadata, dict(checkpoint["channel_versions"]))
        self.made.append((place, checkpoint["id"]))

    @staticmethod
    def _get(saver: Any, place: Place, checkpoint_id: str | None = None) -> CheckpointTuple | None:
        found: CheckpointTuple | None = saver.get_tuple(_config(place, checkpoint_id))
        return found

    def _forget_gone(self) -> None:
        self.made = [(place, made) for place, made in self.made if made in self.memory.storage[place[0]][place[1]]]


def _config(place: Place, checkpoint_id: str | None = None) -> Any:
    named = {"thread_id": place[0], "checkpoint_ns": place[1]}
    return {"configurable": named if checkpoint_id is None else {**named, "checkpoint_id": checkpoint_id}}


def _key(found: CheckpointTuple) -> list[str]:
    return [found.config["configurable"][name] for name in ("thread_id", "checkpoint_ns", "checkpoint_id")]


def _exact(found: CheckpointTuple | None) -> Any:
    if found is None:
        return None
    return found.config, found.checkpoint, found.metadata, found.parent_config, found.pending_writes


@pytest.mark.both_databases
def test_any_history_of_calls_reads_the_same(tmp_path: Path, engine: str) -> None:
    machine = type("Machine", (Machine,), {"folder": tmp_path})
    examples = 80 if engine == "sqlite" else 20
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
