"""ag2 1.x, point by point: one test a point of what it has for people, with its own agents."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ag2")

from ag2 import Agent, Context
from ag2.events import HumanInputRequest, HumanMessage, ToolCallEvent
from ag2.exceptions import HumanInputFailedError, HumanInputTimeoutError
from ag2.middleware import BaseMiddleware, Middleware, approval_required
from ag2.testing import TestConfig
from ag2.tools import tool

from hitl_graph.adapters.ag2 import People
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from tests.databases import open_ledger
from tests.invariants.agents import ran, write_effect
from tests.invariants.processes import Report, child
from tests.peers.waiting import answering, eventually, waiting


@pytest.fixture
def ledger(db_path: str) -> Iterator[Ledger]:
    with open_ledger(db_path) as opened:
        yield opened


@pytest.fixture
def effects(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


def paying(people: People, effects: str, *calls: int, **options: Any) -> Agent:
    """An agent that makes these payments, one a turn, through a tool that is approved."""

    @tool(middleware=[people.approval])
    async def pay(eur: int) -> str:
        """Pay somebody."""
        write_effect(effects, f"pay {eur}")
        return f"paid {eur}"

    script = [ToolCallEvent("pay", arguments=f'{{"eur": {eur}}}', id=f"pay-{eur}") for eur in calls]
    return Agent("agent", config=TestConfig(*script, "Done."), tools=[pay], **options)


def asking(people: People, timeout: float | None = None) -> tuple[Agent, list[str]]:
    """An agent with a tool that asks a person by `context.input`."""
    heard: list[str] = []

    @tool
    async def colour(context: Context) -> str:
        """Which colour people like."""
        heard.append(await context.input("Which colour?", timeout=timeout))
        return heard[-1]

    config = TestConfig(ToolCallEvent("colour", id="c"), "Done.")
    return Agent("agent", config=config, tools=[colour], hitl_hook=people.hook), heard


@pytest.mark.both_databases
async def test_hitl_hook_asks_in_the_inbox(ledger: Ledger) -> None:
    agent, heard = asking(People(ledger, "42"))
    asked = answering(ledger, respond("red"))
    await agent.ask("Go")
    [request] = asked()
    assert (heard, request.kind, request.description) == (["red"], "question", "Which colour?")
    assert [r.state for r in ledger.history("42")] == ["delivered"]


async def test_a_timeout_is_theirs_and_leaves_no_question_behind(ledger: Ledger) -> None:
    agent, heard = asking(People(ledger, "42"), timeout=1.0)
    with pytest.raises(HumanInputTimeoutError):
        await agent.ask("Go")
    assert (heard, Inbox(ledger).pending()) == ([], [])
    assert [r.state for r in ledger.history("42")] == ["cancelled"]


async def test_a_deadline_of_ours_is_their_timeout_too(ledger: Ledger) -> None:
    rule = Rule("*", "ask", deadline=timedelta(milliseconds=300))
    agent, heard = asking(People(ledger, "42", rule=rule))
    with pytest.raises(HumanInputTimeoutError):
        await agent.ask("Go")
    assert heard == []
    assert [(r.state, r.channel) for r in ledger.history("42")] == [("delivered", "deadline")]


async def test_somebody_who_declines_is_no_answer(ledger: Ledger) -> None:
    agent, heard = asking(People(ledger, "42"))
    answering(ledger, reject("not my business"))
    with pytest.raises(HumanInputFailedError, match="not my business"):
        await agent.ask("Go")
    assert heard == []


async def test_a_cancelled_turn_cancels_its_question(ledger: Ledger) -> None:
    agent, _ = asking(People(ledger, "42"))
    turn = asyncio.create_task(agent.ask("Go"))
    await eventually(ledger)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert [r.state for r in ledger.history("42")] == ["cancelled"]


@pytest.mark.both_databases
async def test_a_call_runs_as_it_was_approved_edited_or_not_at_all(ledger: Ledger, effects: str) -> None:
    people = People(ledger, "42")
    asked = answering(ledger, approve(), edit({"eur": 7}), reject("too much"))
    reply = await paying(people, effects, 1, 2, 3).ask("Pay")
    told = str([event for event in await reply.context.stream.history.get_events()])
    assert ran(effects) == ["pay 1", "pay 7"]
    assert "too much" in told
    assert "A person changed this call" in told
    assert len(asked()) == 3
    assert ledger.verify_audit().ok


async def test_approval_required_of_ag2_is_approved_or_rejected_in_the_inbox(ledger: Ledger, effects: str) -> None:
    @tool(middleware=[approval_required()])
    async def pay(eur: int) -> str:
        write_effect(effects, f"pay {eur}")
        return "paid"

    script = [ToolCallEvent("pay", arguments=f'{{"eur": {eur}}}', id=str(eur)) for eur in (1, 2)]
    agent = Agent("agent", config=TestConfig(*script, "Done."), tools=[pay], hitl_hook=People(ledger, "42").hook)
    asked = answering(ledger, approve(), reject())
    await agent.ask("Pay")
    assert ran(effects) == ["pay 1"]
    assert [request.kind for request in asked()] == ["approval", "approval"]


async def test_always_is_a_grant_bound_to_the_implementation_and_listed(ledger: Ledger, effects: str) -> None:
    people = People(ledger, "42")
    turn = asyncio.create_task(paying(people, effects, 1, 2).ask("Pay"))
    [request] = await eventually(ledger)
    assert request.origin is not None
    always = approve(grant=Grant(implementation=request.origin.implementation))
    Inbox(ledger).decide(request.id, always, reviewer="alice")
    await turn
    assert ran(effects) == ["pay 1", "pay 2"]
    [grant] = Inbox(ledger).grants()
    assert len(Inbox(ledger).uses(grant.id)) == 1

    @tool(middleware=[people.approval])
    async def pay(eur: int) -> str:
        """Another tool of the same name."""
        write_effect(effects, f"other pay {eur}")
        return "paid"

    config = TestConfig(ToolCallEvent("pay", arguments='{"eur": 3}', id="pay-3"), "Done.")
    asked = answering(ledger, reject())
    await Agent("agent", config=config, tools=[pay]).ask("Pay")
    assert len(asked()) == 1
    assert ran(effects) == ["pay 1", "pay 2"]


async def test_middleware_on_human_input_still_sees_what_is_asked(ledger: Ledger) -> None:
    seen: list[str] = []

    class Watching(BaseMiddleware):
        async def on_human_input(self, call_next: Any, event: HumanInputRequest, context: Context) -> HumanMessage:
            answer: HumanMessage = await call_next(event, context)
            seen.append(f"{event.content} {answer.content}")
            return answer

    people = People(ledger, "42")

    @tool
    async def colour(context: Context) -> str:
        """Which colour people like."""
        return await context.input("Which colour?")

    agent = Agent(
        "agent",
        config=TestConfig(ToolCallEvent("colour", id="c"), "Done."),
        tools=[colour],
        hitl_hook=people.hook,
        middleware=[Middleware(Watching)],
    )
    answering(ledger, respond("red"))
    await agent.ask("Go")
    assert seen == ["Which colour? red"]


async def test_a_loop_of_denied_calls_is_put_to_a_person(ledger: Ledger, effects: str) -> None:
    """Their LoopDetector only alerts."""
    policy = Policy([Rule("pay", "deny", reason="frozen")], max_denials=2)
    asked = answering(ledger, respond("stop paying"))
    await paying(People(ledger, "42", policy=policy), effects, 1, 2).ask("Pay")
    assert ran(effects) == []
    [request] = asked()
    assert request.kind == "escalation"


def ask(report: Report, path: str) -> None:
    with open_ledger(path) as ledger:
        agent, heard = asking(People(ledger, "42"))
        report("ready")  # importing ag2 takes its time
        asyncio.run(agent.ask("Go"))
        report("heard", *heard)


@pytest.mark.slow
@pytest.mark.both_databases
def test_what_ag2_holds_in_the_process_outlives_it(db_path: str) -> None:
    """Its AG-UI interrupts wait in one process; a question in the ledger is answered whoever lives."""
    with open_ledger(db_path) as ledger:
        with child(ask, db_path) as first:
            first.hear("ready")
            [request] = waiting(ledger)
            first.kill()
        Inbox(ledger).decide(request.id, respond("red"), reviewer="alice")
        with child(ask, db_path) as second:
            assert second.hear("heard") == ("heard", "red")
        assert len(ledger.history("42")) == 1
