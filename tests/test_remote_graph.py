"""RemoteGraph against a real `langgraph dev`: as a client, under the worker, and as a node of a local graph."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_sync_client

from hitl_graph.adapters.server import ServerWorker
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.errors import DeliveryError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request, approve, edit, reject
from hitl_graph.worker import Worker
from tests.test_studio import EDITED, Server

Remote = Callable[[str], RemoteGraph]
APPROVE = {"type": "approve"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("remote"), graphs={"refunds": "./examples/functional_agent.py:refund_desk"})
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def remote(server: Server) -> Iterator[Remote]:
    """Makes a RemoteGraph; its connections are closed at the end."""
    with get_sync_client(url=server.url) as client:
        yield lambda name: RemoteGraph(name, sync_client=client)


@pytest.fixture
def inbox(server: Server) -> Iterator[Inbox]:
    with Ledger.open(server.db) as ledger:
        yield Inbox(ledger)


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def on(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def interrupts_of(graph: RemoteGraph, thread: str) -> list[str]:
    return sorted(interrupt.id for interrupt in graph.get_state(on(thread)).interrupts)


def the_one(inbox: Inbox, thread: str) -> Request:
    """What a thread asks. A node that is a remote graph goes on as soon as it hears of the pause."""
    until = time.monotonic() + 10
    while not (asked := inbox.pending(thread_id=thread)) and time.monotonic() < until:
        time.sleep(0.05)
    [request] = asked
    return request


pytestmark = pytest.mark.slow


def test_a_client_invokes_resumes_by_id_and_looks_at_the_state(server: Server, inbox: Inbox, remote: Remote) -> None:
    graph, thread, order = remote("email_agent"), str(uuid4()), uuid4().hex
    output: Any = graph.invoke(said(f"answer 1: {order}"), on(thread))
    request = the_one(inbox, thread)
    assert [one["id"] for one in output["__interrupt__"]] == [request.interrupt_id]
    assert interrupts_of(graph, thread) == [request.interrupt_id]
    assert server.bodies(order) == []
    with pytest.raises(RemoteException, match="InvalidDecisionError"):
        graph.invoke(Command(resume={request.interrupt_id: {"type": "aprove"}}), on(thread))
    assert interrupts_of(graph, thread) == [request.interrupt_id]
    output = graph.invoke(
        Command(resume={request.interrupt_id: {"type": "edit", "args": {**EDITED, "body": order}}}), on(thread)
    )
    assert "__interrupt__" not in output
    assert server.bodies(order) == [order]
    assert graph.get_state(on(thread)).next == ()
    graph.invoke(Command(resume={request.interrupt_id: APPROVE}), on(thread))  # the same answer once more
    assert server.bodies(order) == [order]


def test_a_client_streams_the_pause_once_and_the_effect_once(server: Server, inbox: Inbox, remote: Remote) -> None:
    graph, thread, order = remote("email_agent"), str(uuid4()), uuid4().hex
    seen: list[Any] = list(graph.stream(said(f"answer 1: {order}"), on(thread), stream_mode=["updates", "values"]))
    paused = [chunk for chunk in seen if chunk.event == "updates" and "__interrupt__" in chunk.data]
    assert len(paused) == 1
    request = the_one(inbox, thread)
    seen = list(graph.stream(Command(resume={request.interrupt_id: APPROVE}), on(thread), stream_mode="updates"))
    assert not any("__interrupt__" in chunk for chunk in seen)
    assert len(server.bodies(order)) == 1


def test_an_update_from_afar_ends_the_question_and_lets_nothing_run(
    server: Server, inbox: Inbox, remote: Remote
) -> None:
    graph, thread, order = remote("email_agent"), str(uuid4()), uuid4().hex
    graph.invoke(said(f"answer 1: {order}"), on(thread))
    request = the_one(inbox, thread)
    graph.update_state(on(thread), said("never mind"), as_node="tools")
    assert inbox.pending(thread_id=thread) == []
    graph.invoke(Command(resume={request.interrupt_id: APPROVE}), on(thread))
    assert server.bodies(order) == []


def test_the_functional_agent_asks_about_several_at_once_from_afar(
    server: Server, inbox: Inbox, remote: Remote
) -> None:
    graph, thread = remote("refunds"), str(uuid4())
    who = [f"x{uuid4().hex}" for _ in range(4)]
    output: Any = graph.invoke(
        said(f"refund 20 to {who[0]}, 100 to {who[1]}, 200 to {who[2]} and to {who[3]}"), on(thread)
    )
    [asked] = output["__interrupt__"]
    output = graph.invoke(Command(resume={asked["id"]: {"type": "respond", "message": "5"}}), on(thread))
    requests = {str(r.action.args["to"]): r for r in inbox.pending(thread_id=thread) if r.action}
    assert set(requests) == {who[1], who[2]}
    assert len(output["__interrupt__"]) == 2
    graph.invoke(Command(resume={requests[who[2]].interrupt_id: APPROVE}), on(thread))
    output = graph.invoke(
        Command(resume={requests[who[1]].interrupt_id: {"type": "reject", "message": "no"}}), on(thread)
    )
    booked = [json.loads(line) for line in (server.home / "refunds.jsonl").read_text().splitlines()]
    paid = {one["to"]: one["eur"] for one in booked}
    assert paid == {who[0]: 20, who[2]: 200, who[3]: 5}
    assert output["messages"][-1]["content"].splitlines()[1] == "not paid: no"


def test_a_worker_with_a_remote_graph_says_what_to_take_instead(server: Server, inbox: Inbox, remote: Remote) -> None:
    with pytest.raises(DeliveryError, match="ServerWorker"):
        Worker(remote("email_agent"), inbox.ledger)  # type: ignore[arg-type]


async def test_the_server_worker_carries_out_what_a_remote_client_started(server: Server, inbox: Inbox) -> None:
    thread, order = str(uuid4()), uuid4().hex
    async with server.client() as client:
        graph = RemoteGraph("email_agent", client=client)
        await graph.ainvoke(said(f"answer 1: {order}"), on(thread))
        inbox.decide(the_one(inbox, thread).id, approve(), reviewer="alice")
        handed = await ServerWorker(client, inbox.ledger).arun_once()
        assert [one.thread_id for one in handed] == [thread]
        await client.runs.join(thread, handed[0].run_id)
    assert len(server.bodies(order)) == 1


def host(remote: RemoteGraph, checkpointer: SqliteCheckpointer, before: list[str]) -> Any:
    def prepare(state: MessagesState) -> dict[str, list[AnyMessage]]:
        before.append("ran")
        return {"messages": []}

    builder = StateGraph(MessagesState)
    builder.add_node("prepare", prepare)
    builder.add_node("remote", remote)
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "remote")
    return builder.compile(checkpointer=checkpointer)


@pytest.mark.parametrize("answer", [approve(), edit({**EDITED, "body": "edited"}), reject("not now")])
def test_as_a_node_the_remote_pause_is_in_both_inboxes_and_answered_in_the_local_one(
    server: Server, tmp_path: Path, inbox: Inbox, remote: Remote, answer: Decision
) -> None:
    thread, order, before = str(uuid4()), uuid4().hex, list[str]()
    with SqliteCheckpointer(tmp_path / "host.db") as checkpointer:
        graph = host(remote("email_agent"), checkpointer, before)
        output = graph.invoke(said(f"answer 1: {order}"), on(thread))
        there, here = the_one(inbox, thread), the_one(Inbox(checkpointer.ledger), thread)
        assert [one.id for one in output["__interrupt__"]] == [there.interrupt_id]
        assert (here.id, here.digest) == (there.id, there.digest)
        Inbox(checkpointer.ledger).decide(here.id, answer, reviewer="alice")
        [resumed] = Worker(graph, checkpointer.ledger).run_once()
        assert (resumed.status, resumed.error) == ("finished", None)
        assert before == ["ran"]
        [recorded] = inbox.ledger.history(thread)
        assert (recorded.state, recorded.decision) == ("delivered", answer)
        assert recorded.reviewer == "anonymous"  # who it was is known here; there, whom its server authenticated
        assert checkpointer.ledger.history(thread)[0].state == "delivered"
        told = graph.get_state(on(thread)).values["messages"][-2].content
    assert server.bodies(order) == ([order] if answer.type == "approve" else [])
    assert {"approve": "sent to", "edit": "A person changed", "reject": "not now"}[answer.type] in told


def test_as_a_node_what_was_answered_there_is_not_answered_again_here(
    server: Server, tmp_path: Path, inbox: Inbox, remote: Remote
) -> None:
    thread, order = str(uuid4()), uuid4().hex
    with SqliteCheckpointer(tmp_path / "host.db") as checkpointer:
        graph = host(remote("email_agent"), checkpointer, [])
        graph.invoke(said(f"answer 1: {order}"), on(thread))
        inbox.decide(the_one(inbox, thread).id, reject("no"), reviewer="bob")
        here = Inbox(checkpointer.ledger)
        here.decide(the_one(here, thread).id, approve(), reviewer="alice")
        [resumed] = Worker(graph, checkpointer.ledger).run_once()
        assert resumed.status == "failed"
        assert "AlreadyDecidedError" in str(resumed.error)
    assert server.bodies(order) == []
