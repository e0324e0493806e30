"""Decisions of any door are handed to the threads that a real LangGraph Server runs."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from langgraph_sdk.client import LangGraphClient

from hitl_graph.adapters.server import Handed, ServerWorker
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests.test_studio import EDITED, Server, pause, status


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
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
            assert sorted(server.bodies(order)) == [f"{order} 0", f"edited {order}"]
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
