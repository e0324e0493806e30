"""What each client sends, played against a graph and against real servers: what it means, and that it counts once."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint  # type: ignore[import-untyped]
from fastapi import FastAPI
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

from hitl_graph.adapters.ag_ui import HitlAgent
from hitl_graph.adapters.server import ServerWorker
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.ledger import Ledger
from hitl_graph.worker import Worker
from tests.clients import agents
from tests.clients.playing import BOOKING, Recorded, bookings, filled, recorded
from tests.databases import open_checkpointer
from tests.test_studio import Server

ALL = recorded()
OVER_LANGGRAPH = [one for one in ALL if one.sends[0]["path"] != "ag-ui"]
OVER_AG_UI = [one for one in ALL if one.sends[0]["path"] == "ag-ui"]


def by_name(one: Recorded) -> str:
    return one.name


def booked(outbox: Path, room: str) -> list[dict[str, Any]]:
    lines = outbox.read_text().splitlines() if outbox.exists() else []
    made = [json.loads(line) for line in lines]
    return sorted(({key: one[key] for key in BOOKING} for one in made if one["room"] == room), key=str)


def states(ledger: Ledger, thread_id: str) -> list[str]:
    found = ledger.history(thread_id)
    return [request.state for request in sorted(found, key=lambda request: (request.position or 0, request.created_at))]


def shown_in(interrupts: Any) -> dict[str, Any]:
    """What a client knows of a pause."""
    ids = [interrupt["id"] for interrupt in interrupts]
    first = interrupts[0] if interrupts else {"value": None}
    return {"shown": first["value"], "interrupt_id": ids and ids[0], "second_interrupt_id": ids[1:] and ids[1]}


# --- a graph --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saver(db_path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkpointer]:
    monkeypatch.setenv("HITL_OUTBOX", str(Path(db_path).parent / "outbox.jsonl"))
    with open_checkpointer(db_path) as opened:
        yield opened


@pytest.mark.both_databases
@pytest.mark.parametrize("one", OVER_LANGGRAPH, ids=by_name)
def test_in_a_graph(saver: Checkpointer, one: Recorded) -> None:
    graph = agents.agent(one.client).compile(checkpointer=saver)  # type: ignore[arg-type]
    room = uuid4().hex
    config: RunnableConfig = {"configurable": {"thread_id": room}}
    graph.invoke({"messages": [("user", bookings(room, one.calls))]}, config)
    known: dict[str, Any] = {}
    for number, sent in enumerate(one.sends):
        state = graph.get_state(config)
        if not sent.get("stale"):
            waiting = [{"id": interrupt.id, "value": interrupt.value} for interrupt in state.interrupts]
            at = state.config.get("configurable", {})["checkpoint_id"]
            known |= {"assistant_id": "x", "checkpoint_id": at} | shown_in(waiting)
            known.setdefault("first", known["shown"])
        body = filled(sent["body"], known)
        is_last = number == len(one.sends) - 1
        failed = play(graph, config, sent["path"], body)
        assert failed == (one.error if is_last else None)
    outbox = Path(os.environ["HITL_OUTBOX"])
    assert booked(outbox, room) == sorted((BOOKING | change for change in one.booked), key=str)
    assert one.told in str(graph.get_state(config).values["messages"])
    assert states(saver.ledger, room) == one.requests
    assert Worker(graph, saver.ledger).run_once() == []
    assert len(booked(outbox, room)) == len(one.booked)


def play(graph: Any, config: RunnableConfig, path: str, body: dict[str, Any]) -> str | None:
    """Do what the server does with it; gives the name of the error."""
    at = body.get("checkpoint", {})
    config = {"configurable": config.get("configurable", {}) | at}
    try:
        if path.endswith("/state"):
            graph.update_state(config, body["values"], as_node=body["as_node"])
        else:
            graph.invoke(Command(**body["command"]), config)
    except Exception as exc:
        return type(exc).__name__
    return None


# --- a LangGraph Server ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("clients")
    names = ("bridge", "agent_inbox", "agent_chat_ui", "studio", "ag_ui", "copilotkit")
    server = Server(home, graphs={name.replace("_", "-"): f"./agents.py:{name}" for name in names})
    shutil.copy(Path(agents.__file__), home / "agents.py")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        yield client


async def test_over_http(server: Server, http: httpx.AsyncClient) -> None:
    """All at once, each on a thread of its own, with one server."""
    limit = asyncio.Semaphore(4)

    async def played(one: Recorded) -> Any:
        async with limit, server.client() as client:
            return await over_http(http, client, server, one)

    results = await asyncio.gather(*(played(one) for one in OVER_LANGGRAPH))
    for one, result in zip(OVER_LANGGRAPH, results, strict=True):
        became = one.requests, one.with_a_worker
        wanted = one.error, sorted((BOOKING | change for change in one.booked), key=str), became, True
        assert (one.name, result) == (one.name, wanted)


async def over_http(http: httpx.AsyncClient, client: LangGraphClient, server: Server, one: Recorded) -> Any:
    room = uuid4().hex
    thread_id = (await client.threads.create())["thread_id"]
    said: Any = {"messages": [{"role": "user", "content": bookings(room, one.calls)}]}
    await client.runs.wait(thread_id, one.client, input=said, raise_error=False)
    known, failed = dict[str, Any](), None
    for sent in one.sends:
        assert failed is None
        state: Any = await client.threads.get_state(thread_id)
        if not sent.get("stale"):
            at = state["checkpoint"]["checkpoint_id"]
            known |= {"assistant_id": one.client, "checkpoint_id": at} | shown_in(state["interrupts"])
            known.setdefault("first", known["shown"])
        failed = await posted(http, client, sent["path"], thread_id, filled(sent["body"], known))
    with Ledger.open(server.db) as ledger:
        before = states(ledger, thread_id)
        if one.with_a_worker != one.requests:
            await ServerWorker(client, ledger).arun_once()
        found = before, states(ledger, thread_id)
    values: Any = (await client.threads.get_state(thread_id))["values"]
    return failed, booked(server.outbox, room), found, one.told in str(values["messages"])


async def posted(
    http: httpx.AsyncClient, client: LangGraphClient, path: str, thread_id: str, body: dict[str, Any]
) -> str | None:
    """Send it, and wait until it is done; gives the name of the error."""
    answer = await http.post(path.format(thread_id=thread_id), json=body)
    assert answer.status_code == 200, answer.text
    if path.endswith("/runs"):
        await client.runs.join(thread_id, answer.json()["run_id"])
    lines = answer.text.splitlines()
    for event, data in pairwise(lines):
        if event.strip() == "event: error":
            return str(json.loads(data.removeprefix("data: "))["error"])
    return None


# --- AG-UI ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`get_config_jsonschema` is deprecated")  # AG-UI's adapter calls it
@pytest.mark.parametrize("one", OVER_AG_UI, ids=by_name)
async def test_over_ag_ui(saver: Checkpointer, one: Recorded) -> None:
    """The real endpoint of AG-UI; with `client="ag-ui"` our agent in it, for CopilotKit the one that it comes with."""
    room = uuid4().hex
    graph = agents.agent(one.client).compile(checkpointer=saver)  # type: ignore[arg-type]
    kind, app = HitlAgent if one.client == "ag-ui" else LangGraphAgent, FastAPI()
    add_langgraph_fastapi_endpoint(app, kind(name="booking", graph=graph, emit_interrupt_outcome=one.client == "ag-ui"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as http:
        events = await ran_over_ag_ui(http, room, one.calls)
        known, failed = dict[str, Any](), None
        for number, sent in enumerate(one.sends):
            if not sent.get("stale"):
                known |= shown_by(events)
                known.setdefault("first", known["shown"])
            events = await ran_over_ag_ui(http, room, one.calls, **filled(sent["body"], known))
            failed = "RUN_ERROR" if events[-1]["type"] == "RUN_ERROR" else None
            assert failed is None or number == len(one.sends) - 1
    assert failed == one.error
    assert booked(Path(os.environ["HITL_OUTBOX"]), room) == sorted((BOOKING | change for change in one.booked), key=str)
    assert one.told in str((await graph.aget_state({"configurable": {"thread_id": room}})).values["messages"])
    assert states(saver.ledger, room) == one.requests


async def ran_over_ag_ui(http: httpx.AsyncClient, room: str, calls: int, **more: Any) -> list[dict[str, Any]]:
    """The events of one run."""
    told = {"id": f"{room}-1", "role": "user", "content": bookings(room, calls)}
    body: dict[str, Any] = {"threadId": room, "runId": uuid4().hex, "state": {}, "messages": [told], "tools": []}
    answer = await http.post("/", json={**body, "context": [], "forwardedProps": {}, **more})
    assert answer.status_code == 200
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [event for event in map(json.loads, lines) if event["type"] != "RAW"]


def shown_by(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What a page knows of a pause: AG-UI's own interrupts, or the older event, of which the last one counts."""
    told = [json.loads(event["value"]) for event in events if event.get("name") == "on_interrupt"]
    ids = [interrupt["id"] for interrupt in (events[-1].get("outcome") or {}).get("interrupts", [])]
    for interrupt, value in zip((events[-1].get("outcome") or {}).get("interrupts", []), told, strict=False):
        assert interrupt["reason"] == "tool_call"
        assert interrupt["toolCallId"] == value["tool_call_id"]
        assert interrupt["responseSchema"]["properties"]["approved"] == {"type": "boolean"}
    return {"shown": told[0], "interrupt_id": ids and ids[0], "second_interrupt_id": ids[1:] and ids[1]}
