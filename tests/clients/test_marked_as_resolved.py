"""A thread that somebody closes without an answer leaves nothing pending, and what it asked does not run later."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph.types import Command

from hitl_graph import position
from hitl_graph.adapters import resolved
from hitl_graph.adapters.resolved import Resolved
from hitl_graph.errors import StaleRequestError
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve
from hitl_graph.steps import run
from tests.clients import agents
from tests.clients.playing import bookings
from tests.invariants.agents import config_of, pay_call, ran
from tests.invariants.scenes import APPROVE, Scene
from tests.test_studio import Server

TO_END: Command[Any] = Command(goto="__end__")


@pytest.fixture(params=["sync", "async"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path, own=True, mode=request.param)
    yield scene
    scene.close()


@pytest.mark.both_databases
@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.parametrize("by", ["goto", "as_node"])
def test_nothing_stays_and_nothing_runs(scene: Scene, by: str, decided: bool) -> None:
    graph = scene.agent()
    [first, second] = scene.start(graph, [pay_call(1), pay_call(2)])
    if decided:
        scene.decide(first, approve())
    if by == "goto":
        scene.go(graph, TO_END)
    else:
        graph.update_state(config_of("t"), None, as_node="__end__")
    assert scene.inbox.pending() == []
    closed = [scene.inbox.get(request.id) for request in (first, second)]
    wanted = ("cancelled", "the thread was marked as resolved, without an answer")
    if by == "as_node":
        wanted = ("superseded", "the state was changed while it waited")
    assert [(request.state, request.note) for request in closed] == [wanted, wanted]
    assert scene.work(graph) == []
    assert ran(scene.effects) == []
    assert run(position.look(graph, scene.ledger, config_of("t"))).has_ended
    if by == "goto":  # LangGraph goes on waiting, and takes no answer
        for answer in ({first.interrupt_id: APPROVE}, {second.interrupt_id: APPROVE}):
            with pytest.raises(StaleRequestError, match="marked as resolved"):
                scene.go(graph, Command(resume=answer))
    assert ran(scene.effects) == []
    assert scene.ledger.verify_audit().ok


@pytest.mark.both_databases
def test_a_node_of_the_graph_that_goes_to_the_end_closes_nothing_of_other_threads(scene: Scene) -> None:
    graph = scene.agent()
    scene.start(graph, [pay_call(1)], "t")
    scene.start(graph, [pay_call(2)], "u")
    scene.go(graph, TO_END, "t")
    [left] = scene.inbox.pending()
    assert left.thread_id == "u"
    scene.decide(left, approve())
    scene.work(graph)
    assert [line.split()[1] for line in ran(scene.effects)] == ["pay-2"]


FOREIGN = """
import os

from hitl_graph.ledger import Ledger
from tests_agents import agent

graph = agent("agent-inbox", ledger=Ledger.open(os.environ["HITL_DB"])).compile()
"""


@pytest.mark.slow
async def test_beside_the_server_s_own_checkpointer_the_worker_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolved, "_EVERY", 0.0)
    monkeypatch.setattr(resolved, "_AGAIN", 0.0)
    server = Server(tmp_path, graphs={"foreign": "./foreign.py:graph"})
    shutil.copy(Path(agents.__file__), tmp_path / "tests_agents.py")
    (tmp_path / "foreign.py").write_text(FOREIGN)
    named = json.loads((tmp_path / "langgraph.json").read_text())
    del named["checkpointer"]
    (tmp_path / "langgraph.json").write_text(json.dumps(named))
    try:
        server.start()
        with Ledger.open(server.db) as ledger:
            async with server.client() as client:
                threads = list[str]()
                for _ in range(3):
                    threads.append((await client.threads.create())["thread_id"])
                    said: Any = {"messages": [{"role": "user", "content": bookings(uuid4().hex, 1)}]}
                    output = await client.runs.wait(threads[-1], "foreign", input=said)
                    assert "__interrupt__" in output
                ended, sent, waits = threads
                await client.threads.update_state(ended, None, as_node="__end__")
                command: Any = {"goto": "__end__"}
                await client.runs.wait(sent, "foreign", input={}, command=command, raise_error=False)
                looking = Resolved(client, ledger)
                for _ in range(3):
                    await looking.tidied()
                    await asyncio.sleep(0.1)
                assert [request.state for request in ledger.history(ended)] == ["cancelled"]
                assert [request.state for request in ledger.history(sent)] == ["cancelled"]
                assert [request.state for request in ledger.history(waits)] == ["pending"]
    finally:
        server.stop()
