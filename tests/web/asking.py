"""Requests that wait in a ledger, and people who come in by their names."""

import time
from collections.abc import Collection
from itertools import count
from typing import Any

import httpx
from starlette.requests import HTTPConnection

from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, request_id
from hitl_graph.reviewers import person
from hitl_graph.storage import Transaction
from hitl_graph.terms import Stage, Terms
from hitl_graph.web.visitors import Visitor

__all__ = ["Named", "ask", "ask_many", "client", "two_of"]

_numbers = count()
EMAIL: dict[str, Any] = {"to": "bob@corp.example", "subject": "Lunch?", "body": "At noon."}


class Named:
    """Believes everybody, or only `known`: `Bearer NAME`, or `Bearer NAME:read` for whoever may only look."""

    def __init__(self, ledger: Ledger, known: Collection[str] | None = None) -> None:
        self._ledger, self._known = ledger, known
        self.gone: set[str] = set()

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        kind, _, name = connection.headers.get("authorization", "").partition(" ")
        name, _, only = name.partition(":")
        if kind != "Bearer" or not name or name in self.gone or (self._known is not None and name not in self._known):
            return None
        scopes = frozenset[Any]([only] if only else ["read", "decide"])
        return Visitor(person(name, self._ledger.directory), scopes=scopes, how="token")


def client(url: str, who: str | None, **options: Any) -> httpx.Client:
    """Somebody who uses the API."""
    headers = {"authorization": f"Bearer {who}"} if who else {}
    return httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=20, **options)


def ask(ledger: Ledger, **fields: Any) -> Request:
    """A request that waits."""
    [request] = ask_many(ledger, 1, **fields)
    time.sleep(0.002)  # the next one is asked later, also by a clock of milliseconds
    return request


def ask_many(ledger: Ledger, number: int, **fields: Any) -> list[Request]:
    """Requests that wait, each in a thread of its own."""
    made = [_made(fields) for _ in range(number)]

    def work(tx: Transaction) -> None:
        now_ms = ledger.now_ms()
        for order, request in enumerate(made):
            requests.open_request(tx, now_ms + order, request, checkpoint_id="c", task_id="k", parked=1)

    ledger.write(work)
    return made


def _made(fields: dict[str, Any]) -> Request:
    thread = f"thread-{next(_numbers)}"
    own = fields.get("thread_id", thread)
    plain: dict[str, Any] = {
        "id": request_id(own, thread), "kind": "approval", "thread_id": own, "interrupt_id": thread,
        "action": Action(name="send_email", args=EMAIL), "reason": "a rule says so",
    }  # fmt: skip
    return Request(**{**plain, **fields})


def two_of(*reviewers: str) -> Terms:
    """Two of these people have to agree."""
    return Terms(stages=(Stage(reviewers=reviewers, quorum=2),))
