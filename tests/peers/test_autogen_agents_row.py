"""AutoGen 0.4-0.7, point by point, with AutoGen's own agents: one test a point of what it has for people."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("autogen_agentchat")

from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent, SocietyOfMindAgent, UserProxyAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import (
    ExternalTermination,
    FunctionalTermination,
    FunctionCallTermination,
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    TextMentionTermination,
    TextMessageTermination,
    TimeoutTermination,
    TokenUsageTermination,
)
from autogen_agentchat.messages import HandoffMessage, TextMessage, UserInputRequestedEvent
from autogen_agentchat.teams import RoundRobinGroupChat, Swarm
from autogen_core import CancellationToken, FunctionCall
from autogen_core.code_executor import CodeBlock, CodeExecutor, CodeResult

from hitl_graph.adapters.autogen import ApprovalIntervention, People
from hitl_graph.adapters.autogen.testing import ScriptedModelClient
from hitl_graph.errors import InvalidDecisionError, RejectedError, UnansweredError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from tests.databases import open_ledger
from tests.invariants.agents import ran
from tests.peers.autogen_agents import call, pay_tool
from tests.peers.waiting import always, answering, eventually


@pytest.fixture
def ledger(db_path: str) -> Iterator[Ledger]:
    with open_ledger(db_path) as opened:
        yield opened


@pytest.fixture
def effects(tmp_path: Any) -> str:
    return str(tmp_path / "effects")


def assistant(script: list[Any], **options: Any) -> AssistantAgent:
    return AssistantAgent("assistant", model_client=ScriptedModelClient(script), **options)


def texts(result: TaskResult) -> list[str]:
    return [m.to_text() for m in result.messages if isinstance(m, TextMessage | HandoffMessage)]


@pytest.mark.both_databases
async def test_1_a_user_proxy_asks_in_the_inbox_and_waits_for_the_answer(ledger: Ledger) -> None:
    people = People(ledger, "42")
    team = RoundRobinGroupChat(
        [assistant(["Blue or red?", "Red it is."]), UserProxyAgent("user", input_func=people.ainput)],
        termination_condition=MaxMessageTermination(4),
    )
    asked = answering(ledger, respond("red"))
    result = await team.run(task="Choose a colour")
    assert texts(result) == ["Choose a colour", "Blue or red?", "red", "Red it is."]
    [request] = asked()
    assert (request.kind, request.thread_id, request.allowed) == ("question", "42", ("reject", "respond"))
    assert [(r.state, r.reviewer) for r in ledger.history("42")] == [("delivered", "alice")]


async def test_1_a_synchronous_input_function_asks_too(ledger: Ledger) -> None:
    agent = UserProxyAgent("user", input_func=People(ledger, "42").input)
    asked = answering(ledger, respond("red"))
    result = await agent.run(task="Blue or red?")
    assert result.messages[-1].to_text() == "red"
    assert len(asked()) == 1


async def test_2_the_request_in_the_ledger_names_the_event_by_which_a_page_knows_it(ledger: Ledger) -> None:
    agent = UserProxyAgent("user", input_func=People(ledger, "42").ainput)
    asked, events = answering(ledger, respond("yes")), []
    async for message in agent.run_stream(task="Well?"):
        if isinstance(message, UserInputRequestedEvent):
            events.append(message.request_id)
    [request] = asked()
    assert events == [request.tool_call_id]


async def test_3_a_handoff_to_the_user_proxy_goes_back_to_who_handed_off(ledger: Ledger) -> None:
    people = People(ledger, "42")
    team = Swarm(
        [
            assistant([[call("transfer_to_user")], "Thank you."], handoffs=["user"]),
            UserProxyAgent("user", input_func=people.ainput),
        ],
        termination_condition=MaxMessageTermination(4),
    )
    asked = answering(ledger, respond("Gate 7"))
    result = await team.run(task="Which gate?")
    [request] = asked()
    assert "Handoff received from assistant" in request.description
    answer = next(m for m in result.messages if isinstance(m, HandoffMessage) and m.source == "user")
    assert (answer.target, answer.content) == ("assistant", "Gate 7")


@pytest.mark.both_databases
async def test_4_a_team_that_waits_is_cancelled_by_its_token_and_leaves_no_question_behind(ledger: Ledger) -> None:
    token = CancellationToken()
    team = RoundRobinGroupChat([UserProxyAgent("user", input_func=People(ledger, "42").ainput)])
    running = asyncio.create_task(team.run(task="Well?", cancellation_token=token))
    await eventually(ledger)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    assert Inbox(ledger).pending() == []
    assert [r.state for r in ledger.history("42")] == ["cancelled"]
    assert ledger.verify_audit().ok


async def test_4_a_deadline_ends_the_wait_and_silence_is_no_answer(ledger: Ledger) -> None:
    rule = Rule("*", "ask", deadline=timedelta(milliseconds=300))
    with pytest.raises(UnansweredError, match="Nobody decided"):
        await People(ledger, "42", rule=rule).aask("Well?")
    told = await People(ledger, "43", rule=rule, otherwise="nobody is there").aask("Well?")
    assert told == "nobody is there"
    assert {r.channel for thread in ("42", "43") for r in ledger.history(thread)} == {"deadline"}


async def test_4_only_whom_the_rule_names_answers(ledger: Ledger) -> None:
    people = People(ledger, "42", rule=Rule("*", "ask", reviewers=["bob"]))
    asked = asyncio.create_task(people.aask("Well?"))
    [request] = await eventually(ledger)
    with pytest.raises(PermissionError):
        Inbox(ledger).decide(request.id, respond("yes"), reviewer="alice")
    Inbox(ledger).decide(request.id, respond("no"), reviewer="bob")
    assert await asked == "no"


async def test_5_handoff_termination_stops_the_team_and_a_later_handoff_goes_on(ledger: Ledger) -> None:
    def team() -> Swarm:
        return Swarm(
            [assistant([[call("transfer_to_user")], "Thank you, gate 7. DONE"], handoffs=["user"])],
            termination_condition=HandoffTermination("user") | TextMentionTermination("DONE"),
        )

    first = team()
    stopped = await first.run(task="Which gate?")
    assert stopped.stop_reason == "Handoff to user from assistant detected."
    saved = json.loads(json.dumps(await first.save_state()))
    asked = answering(ledger, respond("Gate 7"))
    answer = await People(ledger, "42").aask(stopped.messages[-1].to_text())
    second = team()
    await second.load_state(saved)
    result = await second.run(task=HandoffMessage(source="user", target="assistant", content=answer))
    assert result.messages[-1].to_text() == "Thank you, gate 7. DONE"
    assert len(asked()) == 1


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (TextMentionTermination("red"), "'red' mentioned"),
        (MaxMessageTermination(3), "Maximum number of messages 3"),
        (TimeoutTermination(0.0), "Timeout of 0.0"),
        (TokenUsageTermination(max_total_token=1), "Token usage limit"),
        (SourceMatchTermination(["user"]), "'user' answered"),
        (TextMessageTermination("user"), "'user'"),
        (FunctionCallTermination("approve") | MaxMessageTermination(3), "Maximum number of messages 3"),
        (FunctionalTermination(lambda messages: len(messages) > 0), "Functional"),
        (TextMentionTermination("red") & MaxMessageTermination(3), "'red' mentioned"),
    ],
)
async def test_6_every_condition_ends_a_team_with_a_person_in_it(ledger: Ledger, condition: Any, reason: str) -> None:
    people = People(ledger, "42", otherwise="nobody")
    team = RoundRobinGroupChat(
        [assistant(["Which?", "Oh."]), UserProxyAgent("user", input_func=people.ainput)],
        termination_condition=condition | people.pause,
        max_turns=6,
    )
    with always(ledger, respond("red")):
        result = await asyncio.wait_for(team.run(task="Colour?"), 30)
    assert reason in str(result.stop_reason)


async def test_6_a_stop_button_ends_the_team_after_the_answer(ledger: Ledger) -> None:
    stop = ExternalTermination()
    team = RoundRobinGroupChat(
        [UserProxyAgent("user", input_func=People(ledger, "42").ainput)], termination_condition=stop
    )
    running = asyncio.create_task(team.run(task="Well?"))
    [request] = await eventually(ledger)
    stop.set()
    Inbox(ledger).decide(request.id, respond("yes"), reviewer="alice")
    assert (await running).stop_reason == "External termination requested"


async def test_7_one_turn_at_a_time_with_the_person_in_between(ledger: Ledger) -> None:
    team = RoundRobinGroupChat([assistant(["Draft 1", "Draft 2"])], max_turns=1)
    people, said = People(ledger, "42"), []
    asked = answering(ledger, respond("shorter"), respond("fine"))
    task = "Write"
    for _ in range(2):
        draft = (await team.run(task=task)).messages[-1].to_text()
        said.append(draft)
        task = await people.aask(draft)
    assert (said, task, len(asked())) == (["Draft 1", "Draft 2"], "fine", 2)


async def test_8_a_saved_team_goes_on_in_another_object_with_what_was_approved(ledger: Ledger, effects: str) -> None:
    def team() -> RoundRobinGroupChat:
        tools = People(ledger, "42").approved([pay_tool(effects)])
        return RoundRobinGroupChat([assistant([[call("pay", eur=5)], "Paid."], tools=tools)], max_turns=1)

    asked = answering(ledger, approve())
    first = team()
    await first.run(task="Pay 5")
    saved = json.dumps(await first.save_state())
    second = team()
    await second.load_state(json.loads(saved))
    assert (await second.run()).messages[-1].to_text() == "Paid."
    assert ran(effects) == ["pay 5"]
    assert len(asked()) == 1


async def test_9_pause_and_resume_reach_the_agents_while_the_person_is_asked(ledger: Ledger) -> None:
    calls: list[str] = []

    class Pausable(UserProxyAgent):
        async def on_pause(self, cancellation_token: CancellationToken) -> None:
            calls.append("pause")

        async def on_resume(self, cancellation_token: CancellationToken) -> None:
            calls.append("resume")

    team = RoundRobinGroupChat([Pausable("user", input_func=People(ledger, "42").ainput)], max_turns=1)
    running = asyncio.create_task(team.run(task="Well?"))
    [request] = await eventually(ledger)
    await asyncio.wait_for(team.pause(), 20)
    await asyncio.wait_for(team.resume(), 20)
    assert [r.id for r in Inbox(ledger).pending()] == [request.id]
    Inbox(ledger).decide(request.id, respond("yes"), reviewer="alice")
    assert (await running).messages[-1].to_text() == "yes"
    assert calls == ["pause", "resume"]


async def test_10_a_cancelled_team_does_not_hang_on_a_tool_that_waits_for_approval(
    ledger: Ledger, effects: str
) -> None:
    token = CancellationToken()
    tools: Any = People(ledger, "42").approved([pay_tool(effects)])
    team = RoundRobinGroupChat([assistant([[call("pay", eur=5)], "Well."], tools=tools)], max_turns=1)
    running = asyncio.create_task(team.run(task="Pay", cancellation_token=token))
    await eventually(ledger)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    assert ran(effects) == []
    assert [r.state for r in ledger.history("42")] == ["cancelled"]


class _Executor(CodeExecutor):
    """Stands for a sandbox: keeps what it was given to run."""

    component_type = "code_executor"

    def __init__(self) -> None:
        self.code: list[str] = []

    async def execute_code_blocks(
        self, code_blocks: list[CodeBlock], cancellation_token: CancellationToken
    ) -> CodeResult:
        self.code += [block.code for block in code_blocks]
        return CodeResult(exit_code=0, output="ran")

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def restart(self) -> None: ...


@pytest.mark.parametrize(
    ("answer", "runs", "told"),
    [(approve(), 1, "ran"), (reject("too risky"), 0, "too risky"), (None, 0, "Nobody decided")],
)
async def test_11_code_runs_only_when_it_is_approved(ledger: Ledger, answer: Any, runs: int, told: str) -> None:
    policy = Policy([Rule("run_code", "ask", deadline=timedelta(seconds=1) if answer is None else None)])
    executor = _Executor()
    agent = CodeExecutorAgent("coder", executor, approval_func=People(ledger, "42", policy=policy).approve_code)
    asked = answering(ledger, *([answer] if answer else []))
    result = await agent.run(task="```python\nprint(1)\n```")
    assert told in result.messages[-1].to_text()
    assert len(executor.code) == runs
    if answer is not None:
        [request] = asked()
        assert request.action is not None
        assert request.action.args == {"code": "```python\nprint(1)\n\n```"}


async def test_11_code_cannot_be_edited_since_autogen_would_run_the_old_one(ledger: Ledger) -> None:
    executor = _Executor()
    agent = CodeExecutorAgent("coder", executor, approval_func=People(ledger, "42").approve_code)
    running = asyncio.create_task(agent.run(task="```python\nprint(1)\n```"))
    [request] = await eventually(ledger)
    with pytest.raises(InvalidDecisionError, match="may not be edited"):
        Inbox(ledger).decide(request.id, edit({"code": "print(2)"}), reviewer="alice")
    Inbox(ledger).decide(request.id, respond("use another library"), reviewer="alice")
    assert "use another library" in (await running).messages[-1].to_text()
    assert executor.code == []


async def test_11_each_approval_of_code_lets_it_run_once(ledger: Ledger) -> None:
    executor = _Executor()
    agent = CodeExecutorAgent("coder", executor, approval_func=People(ledger, "42").approve_code)
    asked = answering(ledger, approve(), reject())
    for _ in range(2):
        await agent.run(task="```python\nprint(1)\n```")
    assert len(asked()) == 2
    assert len(executor.code) == 1


@pytest.mark.both_databases
async def test_12_a_tool_runs_as_it_was_approved_edited_or_not_at_all(ledger: Ledger, effects: str) -> None:
    people = People(ledger, "42")
    [pay] = people.approved([pay_tool(effects)])
    asked = answering(ledger, approve(), edit({"eur": 7}), reject("too much"), respond("paid by hand"))
    token = CancellationToken()
    assert await pay.run_json({"eur": 1}, token, call_id="a") == "paid 1"
    told = await pay.run_json({"eur": 2}, token, call_id="b")
    assert told.startswith("paid 7")
    assert "A person changed this call" in told
    with pytest.raises(RejectedError, match="too much"):
        await pay.run_json({"eur": 3}, token, call_id="c")
    assert await pay.run_json({"eur": 4}, token, call_id="d") == "paid by hand"
    assert ran(effects) == ["pay 1", "pay 7"]
    assert len(asked()) == 4
    assert {r.state for r in ledger.history("42")} == {"delivered"}
    assert ledger.verify_audit().ok


async def test_12_the_same_call_runs_once_however_often_it_is_made(ledger: Ledger, effects: str) -> None:
    [pay] = People(ledger, "42", policy=Policy([Rule("pay", "allow")])).approved([pay_tool(effects, delay=0.2)])
    runs = [pay.run_json({"eur": 1}, CancellationToken(), call_id="a") for _ in range(5)]
    assert await asyncio.gather(*runs) == ["paid 1"] * 5
    assert ran(effects) == ["pay 1"]


async def test_12_two_calls_alike_are_two_and_each_is_decided_by_itself(ledger: Ledger, effects: str) -> None:
    [pay] = People(ledger, "42").approved([pay_tool(effects)])
    first = asyncio.create_task(pay.run_json({"eur": 1}, CancellationToken(), call_id="a"))
    await eventually(ledger)
    second = asyncio.create_task(pay.run_json({"eur": 1}, CancellationToken(), call_id="b"))
    again = asyncio.create_task(pay.run_json({"eur": 1}, CancellationToken(), call_id="a"))
    asked = {request.tool_call_id: request for request in await eventually(ledger, 2)}
    assert asked.keys() == {"a", "b"}
    Inbox(ledger).decide(asked["a"].id, approve(), reviewer="alice")
    Inbox(ledger).decide(asked["b"].id, reject("once is enough"), reviewer="alice")
    assert [await first, await again] == ["paid 1"] * 2
    with pytest.raises(RejectedError, match="once is enough"):
        await second
    assert ran(effects) == ["pay 1"]


async def test_12_the_model_is_told_why_and_the_team_goes_on(ledger: Ledger, effects: str) -> None:
    model = ScriptedModelClient([[call("pay", eur=5)], "I see."])
    tools: Any = People(ledger, "42").approved([pay_tool(effects)])
    agent = AssistantAgent("assistant", model_client=model, tools=tools, reflect_on_tool_use=True)
    answering(ledger, reject("over budget"))
    result = await agent.run(task="Pay 5")
    assert result.messages[-1].to_text() == "I see."
    last: Any = model.seen[-1][-1]
    assert [(told.is_error, "over budget" in told.content) for told in last.content] == [(True, True)]
    assert ran(effects) == []


async def test_12_a_denied_call_asks_nobody_and_a_misspelt_rule_lets_nothing_run(ledger: Ledger, effects: str) -> None:
    [pay] = People(ledger, "42", policy=Policy([Rule("pay", "deny", reason="frozen")])).approved([pay_tool(effects)])
    with pytest.raises(RejectedError, match="frozen"):
        await pay.run_json({"eur": 1}, CancellationToken(), call_id="a")
    [pay] = People(ledger, "43", policy=Policy([Rule("pya", "deny")])).approved([pay_tool(effects)])
    with pytest.raises(ValueError, match="did you mean 'pay'"):
        await pay.run_json({"eur": 1}, CancellationToken(), call_id="a")
    assert ran(effects) == []
    assert ledger.history("42") == []


async def test_13_a_function_call_in_the_core_runtime_passes_only_as_it_was_approved(ledger: Ledger) -> None:
    from autogen_core import AgentId, DropMessage, MessageContext

    refused: list[str] = []
    people = People(ledger, "42", policy=Policy([Rule("look", "allow")]))
    handler = ApprovalIntervention(people, on_refused=lambda call, why: refused.append(why))
    context: Any = MessageContext(None, None, True, CancellationToken(), "m1")

    async def send(message: FunctionCall) -> Any:
        return await handler.on_send(message, message_context=context, recipient=AgentId("tools", "default"))

    answering(ledger, approve(), edit({"eur": 1}), reject("no"))
    first, second, third = (call("pay", eur=number) for number in (5, 6, 7))
    assert await send(call("look")) == call("look")
    assert await send(first) == first
    assert json.loads((await send(second)).arguments) == {"eur": 1}
    assert await send(third) is DropMessage
    assert ['"no"' in why for why in refused] == [True]
    assert await send(FunctionCall(id="x", name="pay", arguments="[1]")) is DropMessage


async def test_14_people_are_asked_about_a_team_that_does_not_get_on(ledger: Ledger, effects: str) -> None:
    """What Magentic replans silently: calls that are denied again and again are put to a person."""
    policy = Policy([Rule("pay", "deny", reason="frozen")], max_denials=2)
    [pay] = People(ledger, "42", policy=policy).approved([pay_tool(effects)])
    asked = answering(ledger, respond("stop paying, write to Bob"))
    with pytest.raises(RejectedError, match="frozen"):
        await pay.run_json({"eur": 1}, CancellationToken(), call_id="a")
    with pytest.raises(RejectedError, match="write to Bob"):
        await pay.run_json({"eur": 2}, CancellationToken(), call_id="b")
    [request] = asked()
    assert request.kind == "escalation"


async def test_15_a_question_has_no_time_limit_of_its_own_and_outlives_the_page(ledger: Ledger) -> None:
    """Studio's page gives up after three minutes; a question without a deadline has nothing that is ever due."""
    asked = asyncio.create_task(People(ledger, "42").aask("Well?"))
    [request] = await eventually(ledger)
    assert request.terms is None
    Inbox(ledger).decide(request.id, respond("after a week"), reviewer="alice")
    assert await asked == "after a week"


async def test_16_a_society_of_mind_asks_from_its_inner_team(ledger: Ledger) -> None:
    people = People(ledger, "42")
    inner = RoundRobinGroupChat(
        [assistant(["Red?"]), UserProxyAgent("person", input_func=people.ainput)],
        termination_condition=SourceMatchTermination(["person"]),
    )
    mind = SocietyOfMindAgent("mind", team=inner, model_client=ScriptedModelClient(["We say blue."]))
    asked = answering(ledger, respond("blue"))
    result = await mind.run(task="Which colour?")
    assert result.messages[-1].to_text() == "We say blue."
    assert len(asked()) == 1
