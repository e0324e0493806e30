"""Where a thread can be kept: our checkpointers, and others beside a ledger of ours."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import Command, StateSnapshot

from hitl_graph.inbox import Inbox
from hitl_graph.model import Request
from hitl_graph.worker import Resumed, Worker
from tests.databases import NOTE, open_checkpointer, open_ledger
from tests.invariants.agents import AnyGraph, Calls
from tests.invariants.scenes import Scene
from tests.ways.builders import Way
from tests.ways.scripted import told

__all__ = ["OUTLIVING", "OWN", "PLACES", "TWO", "Place", "WayScene"]

Place = Literal[
    "SqliteCheckpointer", "PostgresCheckpointer", "InMemorySaver", "SqliteSaver", "AsyncSqliteSaver", "PostgresSaver"
]
OWN: tuple[Place, ...] = ("SqliteCheckpointer", "PostgresCheckpointer")
OUTLIVING: tuple[Place, ...] = (*OWN, "SqliteSaver", "AsyncSqliteSaver", "PostgresSaver")
"""What is there when the process is not any more."""
PLACES: tuple[Place, ...] = (*OWN, "InMemorySaver", *OUTLIVING[2:])
TWO: tuple[Place, ...] = ("SqliteCheckpointer", "InMemorySaver")
"""One of ours and a foreign one, for what is about the way rather than the place."""
_ASYNC: tuple[Place, ...] = ("PostgresCheckpointer", "AsyncSqliteSaver")


class WayScene(Scene):
    """A scene for an agent that was built in one of the ways, kept in one of the places.

    Half of the places are driven by `ainvoke`, in one event loop; `PostgresCheckpointer` and `AsyncSqliteSaver` are.

    Args:
        path: A folder of its own. For PostgreSQL there is a note in it that names the database.
        way: How the agent is built.
        place: Where it is kept.
    """

    def __init__(self, path: Path, way: Way, place: Place) -> None:
        self.own, self.effects = place in OWN, path / "effects"
        self.mode = "async" if place in _ASYNC else "sync"
        self.way, self._stack = way, ExitStack()
        self._loop = self._stack.enter_context(asyncio.Runner())
        self.checkpointer: BaseCheckpointSaver[Any]
        if self.own:
            self.checkpointer = own = self._stack.enter_context(open_checkpointer(path / "agent.db"))
            self.ledger, self.given = own.ledger, None
        else:
            self.checkpointer = self._saver(path, place)
            self.ledger = self.given = self._stack.enter_context(open_ledger(path / "ledger.db"))
        self.inbox = Inbox(self.ledger)

    def _saver(self, path: Path, place: Place) -> BaseCheckpointSaver[Any]:
        if place == "InMemorySaver":
            from langgraph.checkpoint.memory import InMemorySaver

            return InMemorySaver()
        if place == "SqliteSaver":
            from langgraph.checkpoint.sqlite import SqliteSaver

            return self._stack.enter_context(SqliteSaver.from_conn_string(str(path / "official.db")))
        if place == "AsyncSqliteSaver":
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

            manager = AsyncSqliteSaver.from_conn_string(str(path / "official.db"))
            saver = self._loop.run(manager.__aenter__())
            self._stack.callback(lambda: self._loop.run(manager.__aexit__(None, None, None)))
            return saver
        return self._stack.enter_context(_official_postgres(path))

    def close(self) -> None:
        self._stack.close()

    def agent(self, **options: Any) -> Any:
        return self.way.build(self.checkpointer, self.effects, ledger=self.given, **options)

    def run(self, awaited: Coroutine[Any, Any, Any]) -> Any:
        """Await it in the loop of this scene."""
        return self._loop.run(awaited)

    def go(
        self, graph: AnyGraph, input: Any, thread: str = "t", *, checkpoint_id: str | None = None, **how: Any
    ) -> Any:
        config: Any = {"configurable": {"thread_id": thread, **how.pop("configurable", {})}}
        if checkpoint_id is not None:
            config["configurable"]["checkpoint_id"] = checkpoint_id
        if self.mode == "async":
            return self.run(graph.ainvoke(input, config, **how))
        return graph.invoke(input, config, **how)

    def start(self, graph: AnyGraph, calls: Calls | Sequence[Calls], thread: str = "t", **how: Any) -> list[Request]:
        asked = super().start(graph, calls, thread, **how)
        while self.way.asks_late:
            before, asked = asked, (self.go(graph, None, thread), self.asked())[1]
            if len(before) == len(asked):
                break
        return asked

    def work(self, graph: AnyGraph) -> list[Resumed]:
        worker = Worker(graph, self.ledger)
        return self.run(worker.arun_once()) if self.mode == "async" else worker.run_once()

    def state(self, graph: AnyGraph, thread: str = "t", **how: Any) -> StateSnapshot:
        """The thread's state."""
        config: Any = {"configurable": {"thread_id": thread, **how.pop("configurable", {})}}
        if self.mode == "async":
            return self.run(graph.aget_state(config, **how))  # type: ignore[no-any-return]
        return graph.get_state(config, **how)

    def past(self, graph: AnyGraph, thread: str = "t") -> list[StateSnapshot]:
        """The thread's states so far, the latest first."""
        config: Any = {"configurable": {"thread_id": thread}}

        async def listed() -> list[StateSnapshot]:
            return [state async for state in graph.aget_state_history(config)]

        return self.run(listed()) if self.mode == "async" else list(graph.get_state_history(config))

    def update(self, graph: AnyGraph, config: Any, values: Any, as_node: str | None = None) -> Any:
        """`update_state`."""
        if self.mode == "async":
            return self.run(graph.aupdate_state(config, values, as_node))
        return graph.update_state(config, values, as_node)

    def answer(self, graph: AnyGraph, *answers: tuple[Request, Any], thread: str = "t") -> None:
        """Resume with an answer to each of these requests, through LangGraph.

        Where one interrupt asks about several calls, an answer names the one that it is about.
        """
        resume: dict[str, Any] = {}
        for request, word in answers:
            if request.position is None:
                resume[request.interrupt_id] = word
            else:
                named = {**word, "request_id": request.id} if isinstance(word, dict) else word
                resume.setdefault(request.interrupt_id, {"decisions": []})["decisions"].append(named)
        self.go(graph, Command(resume=resume), thread)

    def waits(self, graph: AnyGraph, thread: str = "t") -> list[str]:
        return list(dict.fromkeys(interrupt.id for interrupt in self.state(graph, thread).interrupts))

    def saved(self, thread: str = "t") -> Any:
        """What the checkpointer has of the thread."""
        config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
        if self.mode == "async":
            return self.run(self.checkpointer.aget_tuple(config))
        return self.checkpointer.get_tuple(config)

    def told(self) -> dict[str, str]:
        """What the model was told by its tools in the end, by the id of the call."""
        return told(self.effects)


@contextmanager
def _official_postgres(path: Path) -> Iterator[BaseCheckpointSaver[Any]]:
    """The official saver, without what an earlier test left: its tables take a second to make, so all share them."""
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string((path / NOTE).read_text()) as saver:
        saver.setup()
        for thread in ("t", "u", "other", "bare"):
            saver.delete_thread(thread)
        yield saver
