"""Streaming in every mode: the pause is shown once, what nobody approved is not shown as done, effects happen once."""

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, edit, reject
from tests.databases import open_checkpointer
from tests.invariants import agents
from tests.invariants.agents import pay_call, said, search_call
from tests.ways import functional_agent

Mode = Literal["values", "updates", "messages", "custom", "tasks", "debug", "checkpoints"]
MODES: list[Mode] = ["values", "updates", "messages", "custom", "tasks", "debug", "checkpoints"]
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
BUILDERS = {"node": agents.build, "functional": functional_agent.build}


class Stage:
    """An agent that is streamed in one way."""

    def __init__(self, path: Path, way: str) -> None:
        self.way, self.effects = way, path / "effects"
        self.saver: Checkpointer = open_checkpointer(str(path / "agent.db"))
        self.inbox = Inbox(self.saver.ledger)
        self.graph: Any = BUILDERS[way](self.saver, self.effects)

    def stream(self, given: Any, **how: Any) -> list[Any]:
        return list(self.graph.stream(given, THREAD, **how))

    def answers(self) -> Command[Any]:
        """Decide in the inbox; gives what a worker would resume with."""
        for request in self.inbox.pending():
            assert request.action is not None
            eur = request.action.args["eur"]
            answer = {1: approve(), 2: edit({"eur": 20, "to": "eve"}), 3: reject("a secret reason")}[eur]  # type: ignore[index]
            self.inbox.decide(request.id, answer, reviewer="alice")
        pointers = {
            request.interrupt_id: {"request_id": request.id, "digest": request.digest}
            for request in self.saver.ledger.history("t")
        }
        return Command(resume=pointers)

    def ran(self) -> list[str]:
        return sorted(line.split(" ", 2)[2] for line in agents.ran(self.effects))


@pytest.fixture(params=BUILDERS)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Stage]:
    made = Stage(tmp_path, request.param)
    yield made
    assert made.saver.ledger.verify_audit().ok
    made.saver.close()


CALLS = [search_call("x"), pay_call(1), pay_call(2), pay_call(3)]
RAN = ["pay 1 bob", "pay 20 eve", "search x"]


def interrupts(parts: list[Any]) -> list[str]:
    """The ids of the interrupts that an end user is shown, in the mode `updates`."""
    return [one.id for part in parts if isinstance(part, dict) for one in part.get("__interrupt__", ())]


@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_updates_show_each_pause_once_and_each_effect_happens_once(
    stage: Stage, version: str, subgraphs: bool
) -> None:
    how: Any = {"stream_mode": "updates", "version": version, "subgraphs": subgraphs}

    def plain(parts: list[Any]) -> list[Any]:
        if version == "v2":
            return [part["data"] for part in parts if not part["ns"]]
        return [part[1] for part in parts if not part[0]] if subgraphs else parts

    first = plain(stage.stream(said(CALLS), **how))
    asked = sorted(request.interrupt_id for request in stage.inbox.pending())
    assert sorted(interrupts(first)) == asked
    assert len(set(asked)) == 3
    assert stage.ran() == ["search x"]
    second = plain(stage.stream(stage.answers(), **how))
    assert interrupts(second) == []
    assert stage.ran() == RAN


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("mode", MODES)
def test_in_every_mode_the_effects_happen_once_and_nothing_is_shown_as_done_before_it_is(
    stage: Stage, mode: Mode, version: str
) -> None:
    how: Any = {"stream_mode": mode, "version": version, "subgraphs": True}
    first = stage.stream(said(CALLS), **how)
    shown = str(first)
    assert "paid" not in shown
    assert stage.ran() == ["search x"]
    assert {r.state for r in stage.saver.ledger.history("t")} == {"pending"}
    second = stage.stream(stage.answers(), **how)
    assert stage.ran() == RAN
    if mode in ("values", "updates", "messages", "debug", "checkpoints"):
        assert "paid 1 to bob" in str(second)
        assert "paid 20 to eve" in str(second)
    assert "paid 2 " not in str(second)
    assert "paid 3 " not in str(second)


def test_several_modes_at_once_tell_the_same(stage: Stage) -> None:
    seen = stage.stream(said(CALLS), stream_mode=MODES)
    by_mode = {mode: [data for name, data in seen if name == mode] for mode in MODES}
    asked = sorted(request.interrupt_id for request in stage.inbox.pending())
    assert sorted(interrupts(by_mode["updates"])) == asked
    ended = [one for one in by_mode["tasks"] if one.get("interrupts")]
    assert sorted(one["id"] for task in ended for one in task["interrupts"]) == asked
    stage.stream(stage.answers(), stream_mode=MODES)
    assert stage.ran() == RAN


def test_who_reviewed_and_why_is_not_in_the_stream_of_a_call_that_ran(stage: Stage) -> None:
    """The reviewer's name is for the ledger; what the model is told of a rejection is the reason, and nothing else."""
    stage.stream(said(CALLS), stream_mode="updates")
    answers = stage.answers()
    for mode in ("updates", "messages", "custom"):
        assert "alice" not in str(stage.stream(answers, stream_mode=mode)), mode
    assert stage.ran() == RAN


def test_the_events_of_a_run_show_a_tool_only_when_it_runs(stage: Stage) -> None:
    async def events(given: Any) -> list[Any]:
        return [event async for event in stage.graph.astream_events(given, THREAD, version="v2")]

    first = asyncio.run(events(said(CALLS)))
    assert "paid" not in str(first)
    assert [event["name"] for event in first if event["event"] == "on_tool_start"] == ["search"]
    second = asyncio.run(events(stage.answers()))
    assert sorted(event["name"] for event in second if event["event"] == "on_tool_start") == ["pay", "pay"]
    assert stage.ran() == RAN


def test_a_stream_that_is_left_in_the_middle_loses_nothing(stage: Stage) -> None:
    stream = stage.graph.stream(said([pay_call(1)]), THREAD, stream_mode="updates", durability="sync")
    next(stream)
    stream.close()
    stage.graph.invoke(None, THREAD)  # goes on from where it was left
    [request] = stage.inbox.pending()
    stage.inbox.decide(request.id, approve(), reviewer="alice")
    pointer = {request.interrupt_id: {"request_id": request.id, "digest": request.digest}}
    stream = stage.graph.stream(Command(resume=pointer), THREAD, stream_mode="updates", durability="sync")
    next(stream)
    stream.close()
    stage.graph.invoke(None, THREAD)
    assert stage.ran() == ["pay 1 bob"]


def test_what_is_streamed_of_a_pause_can_be_sent_as_json(stage: Stage) -> None:
    seen = stage.stream(said([pay_call(1)]), stream_mode="updates")
    [pause] = [part["__interrupt__"] for part in seen if "__interrupt__" in part]
    assert json.loads(json.dumps(pause[0].value))["action_requests"][0]["args"] == {"eur": 1, "to": "bob"}
