"""Threads that a page closed without an answer, which only the server knows: what they asked is cancelled.

Agent Inbox's "Mark as Resolved" puts a thread at its end; a checkpointer of this library notices that, another one
tells nobody. Agent Chat UI's sends the thread to its end from a checkpoint that it names: LangGraph then forks, asks
again and goes on waiting, so that only the run says what was wanted.
"""

import asyncio
import time
from typing import Any

from langgraph.constants import END
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from hitl_graph.ledger import Ledger, requests
from hitl_graph.storage import Transaction

__all__ = ["Resolved"]

_EVERY = 2.0  # seconds between two looks for new questions
_AGAIN = 30.0  # and at those beside another checkpointer, which are looked at again and again
_LATE_MS = 5000  # for so long a question may be stored after one that was asked later
_NEW = (
    "SELECT id, thread_id, created_ms FROM hitl_requests WHERE state = 'pending' AND parked = 1 AND created_ms >= ?"
    " ORDER BY created_ms, id LIMIT 100"
)
_UNTOLD = (
    "SELECT id, thread_id, created_ms FROM hitl_requests WHERE state IN ('pending', 'decided') AND parked = 1"
    " AND task_id IS NULL"
)


class Resolved:
    """Looks at each question as soon as it is asked."""

    def __init__(self, client: LangGraphClient, ledger: Ledger) -> None:
        self.client, self.ledger = client, ledger
        self._since, self._seen = 0, set[str]()
        self._next = self._again = 0.0

    async def tidied(self) -> None:
        """Cancel what threads asked that were closed."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        rows = await asyncio.to_thread(self.ledger.read, _found, _NEW, self._since)
        for own, thread_id, _ in rows:
            if own not in self._seen and await self._looked_at(own, thread_id):
                self._seen.add(own)
        if rows and self._seen.issuperset(own for own, _, _ in rows):
            full = len(rows) == 100
            self._since = rows[-1][2] if full else max(self._since, rows[-1][2] - _LATE_MS)
            self._seen = {own for own, _, created in rows if created >= self._since}
        if now >= self._again:
            self._again = now + _AGAIN
            for own, thread_id, _ in await asyncio.to_thread(self.ledger.read, _found, _UNTOLD):
                await self._looked_at(own, thread_id, untold=True)

    async def _looked_at(self, own: str, thread_id: str, *, untold: bool = False) -> bool:
        """Cancel it if its thread was closed; whether that is known yet.

        Args:
            untold: Its checkpointer tells nothing.
        """
        try:
            thread: Any = await self.client.threads.get(thread_id)
            if thread["status"] == "busy":
                return False
            if untold and thread["status"] == "idle":
                await self._cancel(own, "its thread came to its end without an answer")
                return True
            runs: list[Any] = list(await self.client.runs.list(thread_id, limit=1))
        except APIStatusError as exc:
            if exc.status_code in (404, 422):  # it is no thread of this server
                return True
            raise
        command = (runs[0].get("kwargs") or {}).get("command") or {} if runs else {}
        if command.get("goto") in (END, [END]) and command.get("resume") is None:
            await self._cancel(own, "its thread was marked as resolved, without an answer")
        return True

    async def _cancel(self, own: str, why: str) -> None:
        await asyncio.to_thread(self.ledger.write, _close, self.ledger.now_ms(), own, why)


def _found(tx: Transaction, query: str, *parameters: Any) -> list[Any]:
    return tx.execute(query, parameters).fetchall()


def _close(tx: Transaction, now_ms: int, own: str, why: str) -> None:
    request = requests.get(tx, own)
    if request is not None:
        requests.close(tx, now_ms, request, "cancelled", why)
