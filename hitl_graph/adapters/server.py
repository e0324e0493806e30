"""LangGraph Server: hand decisions over to the threads that a server runs."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from hitl_graph.adapters.resolved import Resolved
from hitl_graph.deadlines import Sweeper
from hitl_graph.ledger import Ledger, claims, owner, requests
from hitl_graph.model import Request
from hitl_graph.steps import arun
from hitl_graph.wire import resume_values

__all__ = ["Handed", "ServerWorker"]

log = logging.getLogger(__name__)

_LEASE_MS = 60_000
_LONGEST = 60.0  # seconds between two tries with a thread that does not take its decision


@dataclass(frozen=True)
class Handed:
    """What was handed over to one thread; the server runs it from here.

    Attributes:
        run_id: The server's run that goes on with the thread.
    """

    thread_id: str
    request_ids: tuple[str, ...]
    run_id: str


class ServerWorker:
    """Resume decided threads of a LangGraph Server, by runs of its own, and take what is due of deadlines.

    The runs are bound to the interrupts that were asked; for a question of our nodes a run only points at the decision
    in the ledger. Threads that the server does not know, and those that it is running, are left alone.

    Args:
        client: Of the server. `langgraph_sdk.get_client()` inside the server itself is not asked who it is; another
            one has to be allowed to run each thread.
        ledger: In the database in which the server's checkpointer keeps its threads.
        on_handed: Told of each thread.
    """

    def __init__(
        self, client: LangGraphClient, ledger: Ledger, *, on_handed: Callable[[Handed], object] | None = None
    ) -> None:
        self.client, self.ledger, self.on_handed = client, ledger, on_handed
        self._sweeper, self._resolved = Sweeper(ledger), Resolved(client, ledger)
        self._stopping = asyncio.Event()
        self._again: dict[str, tuple[float, float]] = {}  # thread: not before, and how long the pause was
        self._name = f"{owner.current()}|{os.urandom(4).hex()}"

    async def arun_once(self) -> list[Handed]:
        """Take what is due, and hand over what is decided; returns what was handed over.

        What is asked in threads that were marked as resolved is cancelled.
        """
        await arun(self._sweeper.tried())
        try:
            await self._resolved.tidied()
        except Exception as exc:
            log.warning("it could not be looked for threads that were marked as resolved: %s", exc)
        decided = await asyncio.to_thread(self.ledger.read, requests.decided_threads)
        self._again = {thread_id: pause for thread_id, pause in self._again.items() if thread_id in decided}
        handed = list[Handed]()
        for thread_id in decided:
            if self._again.get(thread_id, (0.0, 0.0))[0] > time.monotonic():
                continue
            try:
                one = await self._hand_over(thread_id)
            except Exception as exc:
                log.warning("the decision of thread %s could not be handed to the server: %s", thread_id, exc)
                self._pause(thread_id)
                continue
            if one is not None:
                handed.append(one)
                self._pause(thread_id)  # if it is still decided then, the server could not carry it out
                if self.on_handed is not None:
                    self.on_handed(one)
        return handed

    async def arun(self, *, interval: float = 0.5) -> None:
        """Serve until `stop()`, or until cancelled. What goes wrong is logged, and tried again.

        Args:
            interval: Seconds between two looks; PostgreSQL tells of each decision.
        """
        with await asyncio.to_thread(self.ledger.database.watch, "decided") as news:
            while not self._stopping.is_set():
                try:
                    await self.arun_once()
                except Exception:
                    log.exception("decisions could not be looked for; it is tried again")
                await news.await_news(interval)

    def stop(self) -> None:
        """`arun` returns when the current round is done."""
        self._stopping.set()

    async def _hand_over(self, thread_id: str) -> Handed | None:
        if not await asyncio.to_thread(self._claim, thread_id):
            return None
        try:
            decided = await asyncio.to_thread(self.ledger.read, requests.select, _DECIDED, (thread_id,))
            thread = await self._known(thread_id)
            if not decided or thread is None or thread["status"] == "busy":
                return None
            return await self._run(thread_id, decided, thread)
        finally:
            await asyncio.to_thread(self.ledger.write, claims.release, thread_id, self._name)

    async def _run(self, thread_id: str, decided: list[Request], thread: Any) -> Handed:
        state = await self.client.threads.get_state(thread_id)
        configurable: dict[str, Any] = {}
        if (mode := (state["metadata"] or {}).get("hitl_mode")) is not None:
            configurable["hitl_mode"] = mode  # the run that paused was to be stricter
        runs = await self.client.runs.list(thread_id, limit=1)
        run = await self.client.runs.create(
            thread_id,
            runs[0]["assistant_id"] if runs else thread["metadata"]["graph_id"],
            command={"resume": resume_values(decided)},
            config={"configurable": configurable},
            multitask_strategy="reject",
            durability="sync",
        )
        return Handed(thread_id, tuple(request.id for request in decided), run["run_id"])

    async def _known(self, thread_id: str) -> Any:
        try:
            return await self.client.threads.get(thread_id)
        except APIStatusError as exc:
            if exc.status_code in (404, 422):  # it is no thread of this server
                self._pause(thread_id)
                return None
            raise

    def _pause(self, thread_id: str) -> None:
        pause = min(_LONGEST, self._again.get(thread_id, (0.0, 0.5))[1] * 2)
        self._again[thread_id] = (time.monotonic() + pause, pause)

    def _claim(self, thread_id: str) -> bool:
        return self.ledger.write(claims.claim, self.ledger.now_ms(), thread_id, self._name, _LEASE_MS)


_DECIDED = "thread_id = ? AND state = 'decided' AND parked = 1"
