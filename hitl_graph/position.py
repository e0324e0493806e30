"""Where a thread stands: what it waits for, whether it has come to its end, and how a message goes on from there."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import StateSnapshot

from hitl_graph import turns
from hitl_graph.errors import DeliveryError
from hitl_graph.ledger import Ledger, messages, requests
from hitl_graph.ledger.messages import MARK, Queued
from hitl_graph.model import Request
from hitl_graph.nodes import ApprovalNode, EscalationNode, OutputReviewNode
from hitl_graph.steps import Step, Steps, blocking

__all__ = ["Position", "asked_from_afar", "has_begun", "is_of", "look", "names_of", "reports", "waiting"]

_NO_OUTPUT = ("__error__", "__error_source_node__", "__interrupt__", "__resume__")  # a task with others has ended
_OVER = ("cancelled", "expired", "superseded")
_STARTS = {"__input__", "__start__", "__interrupt__"}


@dataclass(frozen=True)
class Position:
    """A thread, as its graph and the ledger have it.

    Attributes:
        asked: Its requests that are pending, or decided and not carried out.
        over: Requests for which it waits and which nobody can answer any more: they were withdrawn.
        unknown: Interrupts for which it waits and of which the ledger knows nothing.
        values: Its state, without what a step has written that was not completed: new input discards that.
        is_midway: A step is not completed. (LangGraph's `next` leaves out tasks that have written already, though the
            step that follows them is missing; so it may be empty after a crash in the middle of a run.)
        stored: Its checkpoint, where the graph has a checkpointer of its own.
    """

    thread_id: str
    asked: tuple[Request, ...]
    over: tuple[Request, ...]
    unknown: tuple[str, ...]
    values: Any
    is_midway: bool
    stored: CheckpointTuple | None

    @property
    def waits(self) -> bool:
        """Whether people are asked, or an answer of theirs is to be carried out."""
        return bool(self.asked or self.unknown)

    @property
    def has_ended(self) -> bool:
        """Whether a message may be its next input: it is at its end, or waits for what was withdrawn."""
        return not self.waits and (not self.is_midway or bool(self.over))

    def input_of(self, given: Mapping[str, Any], key: str, sender: str) -> dict[str, Any]:
        """The input that goes on from here: open tool calls are answered first."""
        calls = turns.open_calls(self.values, key)
        writes: Sequence[Any] = (self.stored.pending_writes or ()) if self.stored else ()
        return turns.with_closing(given, turns.closing(calls, turns.answers(writes), self.over, sender), key)

    def check_graph(self, graph: Pregel[Any, Any, Any, Any]) -> None:
        """Raise DeliveryError if another graph made this thread."""
        seen = set(self.stored.checkpoint["versions_seen"]) - _STARTS if self.stored else set[str]()
        if seen and not seen & graph.nodes.keys():
            raise DeliveryError(
                f"thread {self.thread_id} was run by a graph with the nodes {', '.join(sorted(seen))}, and this one has"
                " none of them; deliver its messages with that graph. They are kept"
            )

    def has_begun(self, message: Queued, key: str) -> bool:
        """Whether the latest checkpoint shows that the message was an input already."""
        listed = self.values.get(key) if isinstance(self.values, Mapping) else None
        mine = f"hitl-message-{message.id}-"
        return (self.stored is not None and dict(self.stored.metadata).get(MARK) == str(message.id)) or any(
            str(getattr(one, "id", None)).startswith(mine) for one in (listed if isinstance(listed, list) else ())
        )


def look(graph: Pregel[Any, Any, Any, Any], ledger: Ledger, config: RunnableConfig) -> Steps[Position]:
    """Look where the thread of a config stands."""
    thread_id, saver = str(config.get("configurable", {})["thread_id"]), graph.checkpointer
    stored = None
    state: StateSnapshot = yield Step(lambda: graph.get_state(config), lambda: graph.aget_state(config))
    if isinstance(saver, BaseCheckpointSaver):
        stored = yield Step(lambda: saver.get_tuple(state.config), lambda: saver.aget_tuple(state.config))
    asking, values = (yield from waiting(graph, state)), state.values
    if state.tasks:  # with a checkpoint's id, the state is what that checkpoint has
        values = (yield Step(lambda: graph.get_state(state.config), lambda: graph.aget_state(state.config))).values
    known: dict[str, list[Request]] = yield blocking(ledger.read, _requests_of, thread_id, sorted(asking))
    where = (
        "thread_id = ? AND state IN ('pending', 'decided') AND route NOT IN ('audit', 'query') ORDER BY created_ms, id"
    )
    asked: list[Request] = yield blocking(ledger.read, requests.select, where, (thread_id,))
    if not reports(graph, ledger):  # then a request that is over stays listed
        asked = [request for request in asked if request.interrupt_id in asking]
    return Position(
        thread_id,
        tuple(asked),
        tuple(request for asked_by in known.values() for request in asked_by if request.state in _OVER),
        tuple(sorted(interrupt for interrupt, asked_by in known.items() if not asked_by)),
        values,
        bool(state.tasks),
        stored,
    )


def names_of(graph: Pregel[Any, Any, Any, Any]) -> frozenset[str]:
    """What the nodes that ask people say that the graph is called; empty where one of them does not say."""
    names = set[str | None]()
    inner: Any = graph.get_subgraphs(recurse=True)
    for pregel in (graph, *(subgraph for _, subgraph in inner)):
        if isinstance(pregel, RemoteGraph):
            return frozenset()
        for node in pregel.nodes.values():
            if isinstance(node.bound, ApprovalNode | EscalationNode | OutputReviewNode):
                names.add(node.bound.graph)
    return frozenset() if None in names else frozenset(name for name in names if name is not None)


def is_of(ledger: Ledger, thread_id: str, names: frozenset[str]) -> bool:
    """Whether a thread may be one of a graph that is called so: what it asked last was not asked by another one."""
    if not names:
        return True
    where = "thread_id = ? ORDER BY created_ms DESC, id LIMIT 1"
    last: list[Request] = ledger.read(requests.select, where, (thread_id,))
    asked_by = last[0].origin.graph if last and last[0].origin is not None else None
    return asked_by is None or asked_by in names


def _requests_of(tx: Any, thread_id: str, interrupt_ids: Sequence[str]) -> dict[str, list[Request]]:
    """The requests that these interrupts ask."""
    where = "thread_id = ? AND interrupt_id = ? ORDER BY created_ms, id"
    return {interrupt: requests.select(tx, where, (thread_id, interrupt)) for interrupt in interrupt_ids}


def reports(graph: Pregel[Any, Any, Any, Any], ledger: Ledger) -> bool:
    """Whether the graph's checkpointer tells this ledger of every pause (ours does, a foreign one does not)."""
    own = getattr(graph.checkpointer, "ledger", None)
    return isinstance(own, Ledger) and own.database.url == ledger.database.url


def waiting(graph: Pregel[Any, Any, Any, Any], state: StateSnapshot) -> Steps[set[str]]:
    """The interrupts for which a thread waits. LangGraph's state leaves out those of error handlers."""
    asking = {interrupt.id for interrupt in state.interrupts}
    saver = graph.checkpointer
    if isinstance(saver, BaseCheckpointSaver) and any(task.error is not None for task in state.tasks):
        stored = yield Step(lambda: saver.get_tuple(state.config), lambda: saver.aget_tuple(state.config))
        asked: dict[str, set[str]] = {}
        ended = set[str]()
        for task_id, channel, value in (stored.pending_writes or ()) if stored else ():
            if channel == "__interrupt__":
                asked[task_id] = {interrupt.id for interrupt in value}
            elif channel not in _NO_OUTPUT:
                ended.add(task_id)
        asking |= set[str]().union(*(ids for task_id, ids in asked.items() if task_id not in ended))
    return asking


def asked_from_afar(graph: Pregel[Any, Any, Any, Any], state: StateSnapshot) -> set[str]:
    """The interrupts of nodes that are remote graphs."""
    nodes = {name for name, node in graph.nodes.items() if isinstance(node.bound, RemoteGraph)}
    return {interrupt.id for task in state.tasks if task.name in nodes for interrupt in task.interrupts}


def has_begun(
    graph: Pregel[Any, Any, Any, Any], ledger: Ledger, config: RunnableConfig, message: Queued, key: str
) -> Steps[bool]:
    """Whether a run has begun with the message: its checkpoints say so."""
    saver = graph.checkpointer
    if reports(graph, ledger) and (yield blocking(ledger.read, messages.begun, message)):
        return True
    found = yield from look(graph, ledger, config)
    if found.has_begun(message, key) or reports(graph, ledger) or not isinstance(saver, BaseCheckpointSaver):
        return found.has_begun(message, key)
    wanted = {MARK: str(message.id)}

    async def alisted() -> bool:
        async with aclosing(cast(Any, saver.alist(config, filter=wanted, limit=1))) as listed:
            return await anext(listed, None) is not None

    found = yield Step(lambda: next(iter(saver.list(config, filter=wanted, limit=1)), None) is not None, alisted)
    return bool(found)
