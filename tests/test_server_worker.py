"""A real LangGraph Server: decisions of any door are handed to its threads, and it has the inbox in it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_sdk.client import LangGraphClient

from hitl_graph.adapters.server import Handed, ServerWorker
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.ledger.credentials import LINK, Identity, issue
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests.test_studio import EDITED, Server, pause, status
from tests.web.conftest import hidden


@pytest.fixture(scope="module", params=[False])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its parameter says whether the inbox is in it."""
    server = Server(tmp_path_factory.mktemp("server"), inbox=request.param)
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def test_decisions_are_carried_out_by_the_server_once(server: Server) -> None:
    order = uuid4().hex
    with Ledger.open(server.db) as ledger:
        inbox, told = Inbox(ledger), list[Handed]()
        async with server.client() as client:
            threads = [(await pause(client, f"answer 1: {order} {n}"))[0] for n in range(3)]
            answers = [approve(), edit({**EDITED, "body": f"edited {order}"}), reject("no")]
            for thread, answer in zip(threads, answers, strict=True):
                [request] = inbox.pending(thread_id=thread)
                await inbox.adecide(request.id, answer, reviewer="alice")
            workers = [ServerWorker(client, ledger, on_handed=told.append) for _ in range(3)]
            serving = [asyncio.create_task(worker.arun(interval=0.05)) for worker in workers]
            for thread in threads:
                async with asyncio.timeout(30):
                    await _idle(client, thread)
            for worker in workers:
                worker.stop()
            await asyncio.gather(*serving)
            assert sorted(one.thread_id for one in told) == sorted(threads)  # each by one of the three
            for thread in threads:
                assert [request.state for request in ledger.history(thread)] == ["delivered"]
            assert sorted(server.bodies(order)) == sorted([f"{order} 0", f"edited {order}"])
            values = (await client.threads.get_state(threads[2]))["values"]
            assert isinstance(values, dict)
            assert 'They said: "no"' in str(values["messages"])


async def _idle(client: LangGraphClient, thread: str) -> None:
    while await status(client, thread) != "idle":  # noqa: ASYNC110 - another process tells nothing
        await asyncio.sleep(0.05)


async def test_threads_that_the_server_does_not_know_are_left_alone(server: Server) -> None:
    with SqliteCheckpointer(server.db) as checkpointer:
        builder = StateGraph(MessagesState)
        builder.add_node("ask", lambda state: {"messages": [interrupt("Which city?")]})
        builder.add_edge(START, "ask")
        graph, inbox = builder.compile(checkpointer=checkpointer), Inbox(checkpointer.ledger)
        for thread in (str(uuid4()), "no id of a server"):
            graph.invoke({"messages": []}, {"configurable": {"thread_id": thread}})
            [request] = inbox.pending(thread_id=thread)
            inbox.decide(request.id, respond("Lisbon"), reviewer="alice")
        async with server.client() as client:
            assert await ServerWorker(client, checkpointer.ledger).arun_once() == []
        done = Worker(graph, checkpointer.ledger).run_once()
        assert [resumed.status for resumed in done] == ["finished", "finished"]


@asynccontextmanager
async def browser(server: Server, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has logged in by a link."""
    with Ledger.open(server.db) as ledger:
        secret, _ = ledger.write(issue, ledger.now_ms(), "link", Identity(name), by=name, lifetime=LINK)
    async with httpx.AsyncClient(base_url=f"{server.url}/inbox", follow_redirects=True) as client:
        page = await client.get(f"/login/{secret}")
        form = dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', page.text))
        assert (await client.post(f"/login/{secret}", data=form)).status_code == 200
        yield client


@pytest.mark.parametrize("server", [True], indirect=True)
async def test_inside_langgraph_dev_it_lets_in_by_itself_and_the_server_carries_out(server: Server) -> None:
    order = uuid4().hex
    async with server.client() as client, browser(server, "alice") as alice, httpx.AsyncClient() as stranger:
        thread, _ = await pause(client, f"answer 1: {order}")
        for path in ("/", "/api/v1/requests", "/account"):
            answer = await stranger.get(f"{server.url}/inbox{path}")
            assert answer.status_code in (303, 401), path
            assert order not in answer.text
        assert str((await alice.get("/")).url) == f"{server.url}/inbox/"
        [listed] = (await alice.get("/api/v1/requests", params={"thread_id": thread})).json()["requests"]
        card = await alice.get(f"/requests/{listed['id']}")
        assert order in card.text
        form = {**hidden(card.text), "answer": "approve"}
        done = await alice.post(f"/requests/{listed['id']}/decide", data=form, headers={"origin": server.url})
        assert done.status_code == 200, done.text
        async with asyncio.timeout(30):
            await _idle(client, thread)
        assert [body.replace(order, "").strip() for body in server.bodies(order)] == [""]
    said = [json.dumps(record) for record in server.records()]
    assert any("this LangGraph Server has no `auth`" in line for line in said), "an open server is warned about"
    assert not any("Blocking" in line for line in said)
