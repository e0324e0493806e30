"""`ApprovalMiddleware`: in place of `HumanInTheLoopMiddleware`, and without its ways around it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    InterruptOnConfig,
    ToolCallRequest,
    ToolRetryMiddleware,
    hook_config,
)
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from hitl_graph.adapters.langchain import ApprovalMiddleware
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.effects import idempotent
from hitl_graph.errors import (
    AlreadyDecidedError,
    InvalidDecisionError,
    OutcomeUnknownError,
    PolicyError,
    StaleRequestError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger

THREAD: Any = {"configurable": {"thread_id": "t"}}
APPROVE, REJECT = {"type": "approve"}, {"type": "reject", "message": "no"}
Mode = Any


class World:
    """Tools with an effect that can be counted, and agents that have them."""

    def __init__(self, checkpointer: Checkpointer, mode: Mode) -> None:
        self.checkpointer, self.mode, self.ran = checkpointer, mode, list[Any]()
        self.inbox = Inbox(checkpointer.ledger)

        @tool
        def pay(eur: int, to: str = "bob") -> str:
            """Send money."""
            self.ran.append((eur, to))
            return f"paid {eur} to {to}"

        @tool
        def search(q: str) -> str:
            """Look something up."""
            self.ran.append(q)
            return f"found {q}"

        self.pay, self.search = pay, search

    def agent(
        self,
        *calls: Any,
        before: Sequence[AgentMiddleware[Any, Any]] = (),
        after: Sequence[AgentMiddleware[Any, Any]] = (),
        tools: Sequence[BaseTool] | None = None,
        interrupt_on: Any = None,
        then: Sequence[Any] = ("done",),
        **options: Any,
    ) -> Any:
        if interrupt_on is None and "policy" not in options:
            interrupt_on = {"pay": True}
        gate = ApprovalMiddleware(interrupt_on, interrupt_mode=self.mode, **options)
        return create_agent(
            ScriptedChatModel(script=[list(calls), *then]),
            tools or [self.pay, self.search],
            middleware=[*before, gate, *after],
            checkpointer=self.checkpointer,
        )

    def start(self, agent: Any) -> list[Any]:
        """What the run shows of its pauses."""
        return list(agent.invoke({"messages": [("user", "go")]}, THREAD).get("__interrupt__", ()))

    def told(self, agent: Any) -> list[str]:
        messages = agent.get_state(THREAD).values["messages"]
        return [str(message.content) for message in messages if isinstance(message, ToolMessage)]

    def decide_all(self, decision: Decision) -> None:
        for request in self.inbox.pending():
            self.inbox.decide(request.id, decision, reviewer="alice")

    def work(self, agent: Any) -> list[str]:
        return [resumed.status for resumed in Worker(agent, self.checkpointer.ledger).run_once()]


@pytest.fixture(params=["batched", "per_call"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with open_checkpointer(str(tmp_path / "agent.db")) as checkpointer:
        yield World(checkpointer, request.param)
        assert checkpointer.ledger.verify_audit().ok


@pytest.fixture
def batched(tmp_path: Path) -> Iterator[World]:
    with open_checkpointer(str(tmp_path / "agent.db")) as checkpointer:
        yield World(checkpointer, "batched")
        assert checkpointer.ledger.verify_audit().ok


def pay(eur: int, **args: Any) -> Any:
    return tool_call("pay", id=f"p{eur}", eur=eur, **args)


def search(q: str) -> Any:
    return tool_call("search", id=q, q=q)


class Jump(AgentMiddleware[Any, Any]):
    """Goes to the tools by itself, past whatever stands between."""

    @hook_config(can_jump_to=["tools"])
    def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return {"jump_to": "tools"} if state["messages"][-1].tool_calls else None


# --- one changed import ---------------------------------------------------------------------------------------------

ANSWERS: Sequence[tuple[dict[str, Any], Any]] = (
    (APPROVE, [(7, "bob")]),
    ({"type": "edit", "edited_action": {"name": "pay", "args": {"eur": 8, "to": "eve"}}}, [(8, "eve")]),
    ({"type": "reject", "message": "too much"}, []),
    ({"type": "respond", "message": "it is paid already"}, []),
)


@pytest.mark.parametrize(("answer", "ran"), ANSWERS)
def test_the_answers_of_langchain_s_middleware_do_what_they_did(world: World, answer: Any, ran: Any) -> None:
    agent = world.agent(pay(7), search("x"))
    [interrupt] = world.start(agent)
    assert "x" in world.ran or world.mode == "batched"
    resume = {"decisions": [answer]} if world.mode == "batched" else {interrupt.id: answer}
    agent.invoke(Command(resume=resume), THREAD)
    assert [one for one in world.ran if one != "x"] == ran
    assert sorted(map(str, world.ran)) == sorted(map(str, [*ran, "x"]))
    said = world.told(agent)[0]
    assert any(word in said for word in ("paid 7", "paid 8", "too much", "it is paid already")), said
    assert [request.state for request in world.checkpointer.ledger.history("t")] == ["delivered"]


def test_a_batched_answer_decides_each_call_by_its_place(batched: World) -> None:
    agent = batched.agent(pay(1), search("x"), pay(2), pay(3), pay(4))
    [interrupt] = batched.start(agent)
    assert [one["args"]["eur"] for one in interrupt.value["action_requests"]] == [1, 2, 3, 4]
    edited = {"type": "edit", "edited_action": {"name": "pay", "args": {"eur": 30, "to": "eve"}}}
    later = {"type": "respond", "message": "later"}
    agent.invoke(Command(resume={"decisions": [APPROVE, REJECT, edited, later]}), THREAD)
    assert sorted(map(str, batched.ran)) == ["(1, 'bob')", "(30, 'eve')", "x"]
    said = batched.told(agent)
    assert "paid 1" in said[0]
    assert "rejected" in said[2]
    assert "paid 30" in said[3]
    assert said[4] == "later"


def test_the_interrupts_of_both_middlewares_show_the_same(batched: World) -> None:
    """A client that draws LangChain's requests draws ours."""
    config: Any = {"pay": InterruptOnConfig(allowed_decisions=["reject", "approve"], description="Pay?")}
    theirs: Any = create_agent(
        ScriptedChatModel(script=[[pay(1), pay(2)], "done"]),
        [batched.pay, batched.search],
        middleware=[HumanInTheLoopMiddleware(config)],
        checkpointer=InMemorySaver(),
    )
    [expected] = theirs.invoke({"messages": [("user", "go")]}, THREAD)["__interrupt__"]
    [shown] = batched.start(batched.agent(pay(1), pay(2), interrupt_on=config))
    for mine, its in zip(shown.value["action_requests"], expected.value["action_requests"], strict=True):
        assert {name: mine[name] for name in its} == its
    for mine, its in zip(shown.value["review_configs"], expected.value["review_configs"], strict=True):
        assert {**mine, "allowed_decisions": sorted(mine["allowed_decisions"])} == {
            **its, "allowed_decisions": sorted(its["allowed_decisions"])
        }  # fmt: skip


def test_the_interrupts_of_one_call_each_show_the_same(tmp_path: Path) -> None:
    with open_checkpointer(str(tmp_path / "agent.db")) as checkpointer:
        world = World(checkpointer, "per_call")
        config: Any = {"pay": InterruptOnConfig(allowed_decisions=["reject", "approve"], description="Pay?")}
        theirs: Any = create_agent(
            ScriptedChatModel(script=[[pay(1)], "done"]),
            [world.pay, world.search],
            middleware=[HumanInTheLoopMiddleware(config, interrupt_mode="per_call")],
            checkpointer=InMemorySaver(),
        )
        [expected] = theirs.invoke({"messages": [("user", "go")]}, THREAD)["__interrupt__"]
        [shown] = world.start(world.agent(pay(1), interrupt_on=config))
        assert {name: shown.value[name] for name in expected.value} == expected.value


def test_a_client_that_names_no_interrupt_needs_one_for_all(batched: World) -> None:
    with pytest.raises(ValueError, match="agent-inbox does not say which interrupt"):
        ApprovalMiddleware({"pay": True}, interrupt_mode="per_call", client="agent-inbox")
    agent = batched.agent(pay(1), pay(2), client="agent-inbox")
    [interrupt] = batched.start(agent)
    for eur, answer in ((1, "ignore"), (2, "accept")):
        [shown] = interrupt.value
        assert shown["action_request"]["args"]["eur"] == eur
        args = shown["action_request"] if answer == "accept" else None
        result = agent.invoke(Command(resume=[{"type": answer, "args": args}]), THREAD)
        [interrupt] = result.get("__interrupt__", [None])
    assert batched.ran == [(2, "bob")]


def test_descriptions_and_predicates_get_what_they_got(world: World) -> None:
    seen = list[Any]()

    def large(request: ToolCallRequest) -> bool:
        seen.append((request.tool_call["name"], request.runtime.tool_call_id, len(request.state["messages"])))
        return bool(request.tool_call["args"]["eur"] > 5)

    def described(call: Any, state: Any, runtime: Any) -> str:
        return f"{call['name']} {call['args']['eur']} after {len(state['messages'])} messages"

    config: Any = {"pay": {"allowed_decisions": ["approve"], "when": large, "description": described}}
    agent = world.agent(pay(1), pay(7), interrupt_on=config)
    [interrupt] = world.start(agent)
    [action] = interrupt.value["action_requests"]
    assert action["description"] == "pay 7 after 2 messages"
    assert interrupt.value["review_configs"][0]["allowed_decisions"] == ["approve"]
    assert {("pay", "p1", 2), ("pay", "p7", 2)} <= set(seen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pay": {"allow_decisions": ["approve"]}},
        {"pay": {"allowed_decisions": []}},
        {"pay": {"allowed_decisions": ["aprove"]}},
        {"pay": {"allowed_decisions": ["approve"], "wehn": bool}},
        {"pay": "yes"},
        {"pay": 1},
        {"pay": None},
    ],
)
def test_a_misspelt_configuration_is_refused(wrong: Any) -> None:
    with pytest.raises(PolicyError, match=r"interrupt_on\['pay'\]"):
        ApprovalMiddleware(wrong)


def test_a_misspelt_tool_is_refused_at_the_first_model_call(world: World) -> None:
    """LangChain's runs the tool that was meant, unasked."""
    for options in ({"interrupt_on": {"payy": True}}, {"policy": Policy([Rule("payy", "ask")])}):
        with pytest.raises(PolicyError, match="did you mean 'pay'"):
            world.start(world.agent(pay(1), **options))
    assert world.ran == []


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(PolicyError, match="not both"):
        ApprovalMiddleware({"pay": True}, policy=Policy())
    with pytest.raises(PolicyError, match="interrupt_mode"):
        ApprovalMiddleware({"pay": True}, interrupt_mode="always")  # type: ignore[arg-type]


def test_without_configuration_every_call_is_asked_about(world: World) -> None:
    agent = world.agent(search("x"), policy=None)
    world.start(agent)
    assert world.ran == []
    assert [request.action.name for request in world.inbox.pending() if request.action] == ["search"]


def test_the_notice_of_an_edit_can_be_worded_or_left_out(world: World) -> None:
    for notice, expected in (("Changed!", "Changed! Executed instead: pay"), (None, None)):
        agent = world.agent(pay(7), edit_notice=notice)
        config: Any = {"configurable": {"thread_id": str(notice)}}
        agent.invoke({"messages": [("user", "go")]}, config)
        [request] = world.inbox.pending()
        world.inbox.decide(request.id, edit({"eur": 8, "to": "bob"}), reviewer="alice")
        world.work(agent)
        [message] = [m for m in agent.get_state(config).values["messages"] if isinstance(m, ToolMessage)]
        assert message.content == "paid 8 to bob" if expected is None else expected in str(message.content)


# --- through the inbox ----------------------------------------------------------------------------------------------


def test_each_call_of_a_turn_is_decided_by_itself(world: World) -> None:
    agent = world.agent(pay(1), pay(2), pay(3), search("x"))
    world.start(agent)
    asked = {request.action.args["eur"]: request for request in world.inbox.pending() if request.action}
    world.inbox.decide(asked[2].id, reject("no"), reviewer="alice")
    assert world.work(agent) == ["paused"]
    assert {request.id for request in world.inbox.pending()} == {asked[1].id, asked[3].id}
    world.inbox.decide(asked[3].id, edit({"eur": 30, "to": "eve"}), reviewer="bob")
    world.inbox.decide(asked[1].id, respond("later"), reviewer="bob")
    assert world.work(agent) == ["finished"]
    assert sorted(map(str, world.ran)) == ["(30, 'eve')", "x"]
    assert len(world.told(agent)) == 4
    assert [request.state for request in world.checkpointer.ledger.history("t")] == ["delivered"] * 3


def test_what_is_decided_in_the_inbox_meanwhile_is_not_decided_again(batched: World) -> None:
    agent = batched.agent(pay(1), pay(2))
    batched.start(agent)
    first, second = batched.inbox.pending()
    batched.inbox.decide(first.id, reject("no"), reviewer="alice")
    with pytest.raises(AlreadyDecidedError, match="alice"):
        agent.invoke(Command(resume={"decisions": [APPROVE, APPROVE]}), THREAD)
    assert batched.ran == []
    recorded = {request.id: request.decision for request in batched.checkpointer.ledger.history("t")}
    assert recorded == {first.id: reject("no"), second.id: approve()}
    assert batched.work(agent) == ["finished"]
    assert batched.ran == [(2, "bob")]


def test_the_second_reading_of_a_shorter_list_is_refused(batched: World) -> None:
    """Who looked at three calls does not decide the two that are left by place."""
    agent = batched.agent(pay(1), pay(2), pay(3))
    batched.start(agent)
    requests = batched.inbox.pending()
    batched.inbox.decide(requests[0].id, reject("no"), reviewer="alice")
    batched.work(agent)
    with pytest.raises(InvalidDecisionError, match="asks about 2"):
        agent.invoke(Command(resume={"decisions": [REJECT, APPROVE, REJECT]}), THREAD)
    with pytest.raises(StaleRequestError):
        agent.invoke(
            Command(resume={"decisions": [{**APPROVE, "request_id": requests[0].id}, {**APPROVE, "request_id": "x"}]}),
            THREAD,
        )
    assert batched.ran == []


@pytest.mark.parametrize(
    "answer",
    [
        {"decisions": []},
        {"decisions": [APPROVE]},
        {"decisions": [APPROVE] * 3},
        {"decisions": [APPROVE, None]},
        {"decisions": [APPROVE, {"type": "yes"}]},
        {"decisions": "approve"},
        {"decisions": [APPROVE, {"type": "edit", "edited_action": {"name": "search", "args": {"q": "x"}}}]},
        {"decisions": [APPROVE, {"type": "edit", "edited_action": {"name": "pay", "args": {"eur": "much"}}}]},
        APPROVE,
        [APPROVE],
        True,
        "approve",
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_list_that_does_not_fit_is_refused_and_nothing_of_it_counts(batched: World, answer: Any, named: bool) -> None:
    """LangChain's keeps such a list for good, and no later answer reaches the thread."""
    agent = batched.agent(pay(1), pay(2))
    [interrupt] = batched.start(agent)
    for _ in range(2):
        with pytest.raises((InvalidDecisionError, StaleRequestError)):
            agent.invoke(Command(resume={interrupt.id: answer} if named else answer), THREAD)
    assert len(batched.inbox.pending()) == 2
    assert batched.ran == []
    agent.invoke(Command(resume={interrupt.id: {"decisions": [APPROVE, REJECT]}}), THREAD)
    assert batched.ran == [(1, "bob")]


# --- the ways around it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["jump first", "approval first"])
@pytest.mark.parametrize("calls", [[1], [1, 2]])
def test_jumping_to_the_tools_asks_all_the_same(world: World, order: str, calls: list[int]) -> None:
    jump = {"before" if order == "jump first" else "after": [Jump()]}
    agent = world.agent(*map(pay, calls), search("x"), **jump)  # type: ignore[arg-type]
    world.start(agent)
    assert [one for one in world.ran if one != "x"] == []
    requests = world.inbox.pending()
    assert sorted(request.action.args["eur"] for request in requests if request.action) == calls  # type: ignore[type-var]
    for request in requests:
        wanted = request.action and request.action.args["eur"]
        world.inbox.decide(request.id, reject("no") if wanted == 1 else approve(), reviewer="alice")
    assert world.work(agent)[-1] == "finished"
    assert [one for one in world.ran if one != "x"] == [(eur, "bob") for eur in calls if eur != 1]
    assert world.ran.count("x") == 1


class Broken(Exception):
    """What a tool raises after it did what it does."""


@pytest.mark.parametrize("allowed", [True, False])
def test_what_became_of_a_call_beside_others_is_never_guessed(world: World, allowed: bool) -> None:
    @tool
    def wire(eur: int) -> str:
        """Send money, and lose the connection."""
        world.ran.append(eur)
        if eur == 1:
            raise Broken("no answer")
        return f"sent {eur}"

    calls = [tool_call("wire", eur=eur) for eur in (1, 2)]
    agent = world.agent(*calls, tools=[wire], after=[Jump()], policy=Policy([Rule("*", "allow" if allowed else "ask")]))
    if allowed:
        with pytest.raises(Broken):
            world.start(agent)
    else:
        world.start(agent)
        world.decide_all(approve())
        assert world.work(agent) == ["failed"]
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError, match="Find out what it did"):
            agent.invoke(None, THREAD)
    assert sorted(world.ran) in ([1], [1, 2])  # where one fails, a call that has not begun yet may never begin
    assert not any("did not run" in said for said in world.told(agent))


@pytest.mark.parametrize("outcome", ["allow", "ask"])
def test_a_tool_beside_others_gets_no_answer_that_was_meant_for_one_of_them(world: World, outcome: Any) -> None:
    @tool
    def sure(eur: int) -> str:
        """Ask whether it shall be done, and do it."""
        world.ran.append((eur, interrupt(f"sure of {eur}?")))
        return f"sent {eur}"

    policy = Policy([Rule("*", outcome)])
    calls = [tool_call("sure", eur=eur) for eur in (1, 2)]
    agent = world.agent(*calls, tools=[sure], after=[Jump()], policy=policy, then=[[tool_call("sure", eur=1)], "done"])
    world.start(agent)
    if outcome == "ask":
        world.decide_all(approve())
        world.work(agent)
    assert world.ran == []
    assert len(said := world.told(agent)) == 2
    assert all("stopped to ask" in one and "alone" in one for one in said)
    if outcome == "ask":
        world.decide_all(approve())
        world.work(agent)
    world.decide_all(respond("yes"))
    world.work(agent)
    assert world.ran == [(1, "yes")]


def test_a_predicate_that_changes_its_mind_does_not_let_a_rejected_call_run(world: World) -> None:
    asks = [True]
    config = {"pay": InterruptOnConfig(allowed_decisions=["approve", "reject"], when=lambda _: asks[0])}
    agent = world.agent(pay(1), interrupt_on=config)
    world.start(agent)
    asks[0] = False
    agent.invoke(Command(resume={"decisions": [REJECT]}), THREAD)
    assert world.ran == []
    assert "rejected" in world.told(agent)[0]


@pytest.mark.parametrize("wrong", [RuntimeError("no"), None, 0, "yes"])
def test_a_predicate_that_fails_asks(world: World, wrong: Any) -> None:
    def when(_: ToolCallRequest) -> bool:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong  # type: ignore[no-any-return]

    config = {"pay": InterruptOnConfig(allowed_decisions=["approve", "reject"], when=when)}
    world.start(world.agent(pay(1), interrupt_on=config))
    assert world.ran == []
    assert len(world.inbox.pending()) == 1


class Rewrites(AgentMiddleware[Any, Any]):
    """Between the approval and the tool it makes something else of the call."""

    def __init__(self, change: Callable[[ToolCallRequest], ToolCallRequest], times: int = 1) -> None:
        super().__init__()
        self.change, self.times = change, times

    def wrap_tool_call(self, request: ToolCallRequest, handler: Any) -> Any:
        return [handler(self.change(request)) for _ in range(self.times)][-1]


def larger(request: ToolCallRequest) -> ToolCallRequest:
    return request.override(tool_call={**request.tool_call, "args": {"eur": 1_000_000}})


def test_middleware_after_the_approval_cannot_change_the_call(world: World) -> None:
    agent = world.agent(pay(1), after=[Rewrites(larger)])
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["failed"]
    assert world.ran == []


def test_middleware_before_the_approval_changes_what_people_are_asked_about(world: World) -> None:
    agent = world.agent(pay(1), before=[Rewrites(larger)])
    world.start(agent)
    while world.ran == [] and (requests := world.inbox.pending()):
        for request in requests:
            world.inbox.decide(request.id, approve(), reviewer="alice")
        world.work(agent)
    assert world.ran == [(1_000_000, "bob")]
    last = world.checkpointer.ledger.history("t")[-1]
    assert last.action is not None
    assert last.action.args == {"eur": 1_000_000}


def test_nothing_runs_twice_under_one_permit_unless_it_is_idempotent(world: World) -> None:
    twice = Rewrites(lambda request: request, times=2)
    agent = world.agent(pay(1), after=[twice])
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["failed"]
    assert world.ran == [(1, "bob")]


def test_an_idempotent_tool_may_be_retried(world: World) -> None:
    tries = list[int]()

    @tool
    def pay(eur: int) -> str:
        """Send money."""
        tries.append(eur)
        if len(tries) == 1:
            raise ConnectionError("try again")
        return "paid"

    retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    agent = world.agent(tool_call("pay", id="p", eur=1), after=[retry], tools=[idempotent(pay)])
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["finished"]
    assert tries == [1, 1]
    assert world.told(agent) == ["paid"]


# --- what agents are made of ----------------------------------------------------------------------------------------


def test_a_call_of_no_tool_is_told_so_and_nobody_is_asked(world: World) -> None:
    agent = world.agent(tool_call("fly", id="f", to="moon"))
    assert world.start(agent) == []
    assert world.told(agent) == ["fly is not a tool here; it did not run. The tools are pay, search."]


def test_arguments_that_do_not_fit_are_told_so_and_nobody_is_asked(world: World) -> None:
    agent = world.agent(tool_call("pay", id="p", eur="a lot"))
    assert world.start(agent) == []
    assert "eur" in world.told(agent)[0]
    assert world.ran == []


def test_tools_get_what_is_injected(world: World) -> None:
    seen = list[Any]()

    @tool
    def pay(eur: int, runtime: ToolRuntime[Any, Any]) -> str:
        """Send money."""
        seen.append((eur, runtime.tool_call_id, len(runtime.state["messages"])))
        return "paid"

    agent = world.agent(tool_call("pay", id="p", eur=1), tools=[pay])
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["finished"]
    assert seen == [(1, "p", 2)]


def test_a_tool_that_gives_a_command_changes_the_state(world: World) -> None:
    @tool
    def pay(eur: int, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        """Send money."""
        return Command(update={"messages": [ToolMessage(f"paid {eur}", tool_call_id=runtime.tool_call_id)]})

    agent = world.agent(tool_call("pay", id="p", eur=1), tools=[pay])
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["finished"]
    assert world.told(agent) == ["paid 1"]


class Report(BaseModel):
    total: int


def test_a_call_that_another_middleware_answered_is_not_asked_about(batched: World) -> None:
    class Limit(AgentMiddleware[Any, Any]):
        """Answers the first call by itself, as limits do."""

        def after_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
            calls = state["messages"][-1].tool_calls
            return {"messages": [ToolMessage("limit reached", tool_call_id=calls[0]["id"])]} if calls else None

    agent = batched.agent(pay(1), pay(2), after=[Limit()])
    batched.start(agent)
    [request] = batched.inbox.pending()
    assert request.action is not None
    assert request.action.args["eur"] == 2
    batched.inbox.decide(request.id, approve(), reviewer="alice")
    assert batched.work(agent) == ["finished"]
    assert batched.ran == [(2, "bob")]


def test_structured_output_is_no_call_that_is_asked_about(world: World) -> None:
    agent = create_agent(
        ScriptedChatModel(script=[[pay(1)], [tool_call("Report", id="r", total=1)], "done"]),
        [world.pay],
        middleware=[ApprovalMiddleware(interrupt_mode=world.mode)],
        checkpointer=world.checkpointer,
        response_format=Report,
    )
    world.start(agent)
    world.inbox.decide(world.inbox.pending()[0].id, approve(), reviewer="alice")
    assert world.work(agent) == ["finished"]
    assert world.ran == [(1, "bob")]
    assert "structured_response" in agent.get_state(THREAD).values


@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_all_of_it_is_async_too(tmp_path: Path, mode: Mode) -> None:
    async with open_checkpointer(str(tmp_path / "agent.db")) as checkpointer:
        world = World(checkpointer, mode)
        agent = world.agent(pay(1), pay(2), search("x"))
        await agent.ainvoke({"messages": [("user", "go")]}, THREAD)
        for request in await world.inbox.apending():
            wanted = request.action and request.action.args["eur"]
            await world.inbox.adecide(request.id, reject("no") if wanted == 1 else approve(), reviewer="alice")
        [resumed] = await Worker(agent, checkpointer.ledger).arun_once()
        assert resumed.status == "finished"
        assert sorted(map(str, world.ran)) == ["(2, 'bob')", "x"]


@pytest.mark.parametrize("mode", ["batched", "per_call"])
def test_beside_another_checkpointer_the_ledger_is_given(tmp_path: Path, mode: Mode) -> None:
    with open_checkpointer(str(tmp_path / "x.db")) as unused, open_ledger(tmp_path / "ledger.db") as ledger:
        world = World(unused, mode)
        agent = create_agent(
            ScriptedChatModel(script=[[pay(1), pay(2)], "done"]),
            [world.pay],
            middleware=[ApprovalMiddleware({"pay": True}, interrupt_mode=mode, ledger=ledger)],
            checkpointer=InMemorySaver(),
        )
        world.start(agent)
        inbox = Inbox(ledger)
        first, second = inbox.pending()
        inbox.decide(first.id, reject("no"), reviewer="alice")
        Worker(agent, ledger).run_once()
        inbox.decide(second.id, approve(), reviewer="alice")
        assert [resumed.status for resumed in Worker(agent, ledger).run_once()] == ["finished"]
        assert second.action is not None
        assert world.ran == [(second.action.args["eur"], "bob")]
        assert [request.state for request in ledger.history("t")] == ["delivered"] * 2
