"""A rule's `Unsure` means the same, however the agent is built: nodes, middleware, functions; sync and async."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.adapters.langchain import ApprovalMiddleware
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.functional import requires_approval
from hitl_graph.inbox import Inbox
from hitl_graph.learning import Guarantee, Unsure
from hitl_graph.ledger import certificates, routing
from hitl_graph.ledger.routing import Source
from hitl_graph.model import Request, approve, edit
from hitl_graph.nodes import ApprovalNode, OutputReviewNode
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.reviews import writing

Agent = tuple[Any, Any]
Build = Callable[[Policy, BaseCheckpointSaver[Any], list[str], float], Agent]


def score(call: Call) -> float:
    if "draft" in call.args:
        return float(call.args["draft"].split()[-1])
    return float(call.args["sureness"])


UNSURE = Unsure(score, guarantee=Guarantee(0.05), audit_rate=1.0, version="1")


def _pay(done: list[str]) -> Callable[..., str]:
    def pay(to: str, sureness: float) -> str:
        """Send money."""
        done.append(to)
        return f"paid {to}"

    return pay


def _script(sureness: float) -> ScriptedChatModel:
    return ScriptedChatModel([[tool_call("pay", to="bob", sureness=sureness)], "done"])


def node(policy: Policy, saver: BaseCheckpointSaver[Any], done: list[str], sureness: float) -> Agent:
    pay, model = _pay(done), _script(sureness)
    builder = StateGraph(MessagesState)
    builder.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_node("tools", ApprovalNode([pay], policy=policy))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", tools_condition)
    builder.add_edge("tools", "agent")
    return builder.compile(checkpointer=saver), {"messages": [("user", "pay bob")]}


def middleware(policy: Policy, saver: BaseCheckpointSaver[Any], done: list[str], sureness: float) -> Agent:
    agent = create_agent(
        _script(sureness), [_pay(done)], middleware=[ApprovalMiddleware(policy=policy)], checkpointer=saver
    )
    return agent, {"messages": [("user", "pay bob")]}


def function(policy: Policy, saver: BaseCheckpointSaver[Any], done: list[str], sureness: float) -> Agent:
    pay = requires_approval(policy)(_pay(done))

    @entrypoint(checkpointer=saver)
    def agent(sureness: float) -> str:
        return str(pay(to="bob", sureness=sureness))

    return agent, sureness


def review(policy: Policy, saver: BaseCheckpointSaver[Any], done: list[str], sureness: float) -> Agent:
    reviewed = OutputReviewNode(
        "draft", revise="writer", policy=policy, name="pay", delivery=lambda draft: done.append("bob")
    )
    return writing([f"a draft of sureness {sureness}"], reviewed).compile(checkpointer=saver), {"reviews": []}


@pytest.fixture(params=[node, middleware, function, review], ids=lambda build: build.__name__)
def build(request: pytest.FixtureRequest) -> Build:
    found: Build = request.param
    return found


@pytest.fixture(params=["sync", "async"])
def go(request: pytest.FixtureRequest, build: Build) -> Callable[[Any, Any], None]:
    def sync(agent: Any, given: Any) -> None:
        agent.invoke(given, {"configurable": {"thread_id": "t"}}, durability="sync")

    def awaited(agent: Any, given: Any) -> None:
        asyncio.run(agent.ainvoke(given, {"configurable": {"thread_id": "t"}}, durability="sync"))

    if build is function or request.param == "sync":
        return sync
    return awaited


@pytest.fixture
def saver(db_path: str) -> Iterator[SqliteCheckpointer]:
    with SqliteCheckpointer(db_path) as saver:
        yield saver
        assert saver.ledger.verify_audit().ok


def certified(saver: SqliteCheckpointer, threshold: float = 0.8) -> None:
    body: dict[str, Any] = {
        "method": "calibrate",
        "error": 0.05,
        "confidence": 0.9,
        "labels": 100,
        "accepted": 60,
        "errors": 0,
    }
    source = Source(UNSURE.name, UNSURE.binding)
    saver.ledger.write(certificates.issue, saver.ledger.now_ms(), source, threshold, {**body, "scores": []})


def policy_of(*more: Rule) -> Policy:
    return Policy([Rule("pay", "ask", when=UNSURE), Rule("pay", "allow"), *more])


def only(saver: SqliteCheckpointer) -> Request:
    [request] = Inbox(saver.ledger).pending()
    return request


def test_no_certificate_asks(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    done: list[str] = []
    agent, given = build(policy_of(), saver, done, 0.99)
    go(agent, given)
    request = only(saver)
    assert (done, request.route, request.score, request.propensity) == ([], "unsure", 0.99, 1.0)
    assert "there is no certificate" in request.reason
    assert request.reference == "one reviewer"
    Inbox(saver.ledger).decide(request.id, approve(), reviewer="alice", digest=request.digest)
    [resumed] = Worker(agent, saver.ledger).run_once()
    assert (resumed.status, done) == ("finished", ["bob"])
    [label] = saver.ledger.read(routing.labels, "1 = 1")
    assert label.wrong is False


def test_a_certified_score_goes_on_and_is_audited(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    certified(saver)
    done: list[str] = []
    agent, given = build(policy_of(), saver, done, 0.99)
    go(agent, given)
    assert done == ["bob"]
    audit = only(saver)
    assert (audit.route, audit.kind, audit.score, audit.propensity) == ("audit", "review", 0.99, 1.0)
    better = {**audit.action.args, "to": "eve"} if audit.action else "a better draft"
    Inbox(saver.ledger).decide(audit.id, edit(better), reviewer="alice", digest=audit.digest)
    assert Worker(agent, saver.ledger).run_once() == []
    assert done == ["bob"]
    [label] = saver.ledger.read(routing.labels, "1 = 1")
    assert label.wrong is True


def test_a_score_below_asks(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    certified(saver)
    done: list[str] = []
    agent, given = build(policy_of(), saver, done, 0.5)
    go(agent, given)
    assert done == []
    assert "only that from 0.8 on is decided without asking" in only(saver).reason


@pytest.mark.parametrize("outcome", ["ask", "deny"])
def test_other_rules_hold_whatever_the_model_is_sure_of(
    build: Build, go: Any, saver: SqliteCheckpointer, outcome: Any
) -> None:
    certified(saver)
    done: list[str] = []
    agent, given = build(policy_of(Rule("pay", outcome, reason="always")), saver, done, 0.99)
    if build is function and outcome == "deny":
        with pytest.raises(Exception, match="always"):
            go(agent, given)
    else:
        go(agent, given)
    assert done == []
    assert saver.ledger.read(routing.labels, "1 = 1") == []
    if outcome == "ask":
        request = only(saver)
        assert (request.route, request.score, request.reason) == ("policy", 0.99, "always")


def test_a_rule_about_hints_may_be_unsure_too(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    certified(saver)
    done: list[str] = []
    rules = [Rule("pay", "ask", when=UNSURE, hints={"readOnlyHint": False}), Rule("pay", "allow")]
    agent, given = build(Policy.layered(managed=Policy(rules[1:]), project=Policy(rules[:1])), saver, done, 0.99)
    go(agent, given)
    assert (done, only(saver).route) == (["bob"], "audit")


def test_two_that_are_unsure_ask_and_no_standing_permission_answers(
    build: Build, go: Any, saver: SqliteCheckpointer
) -> None:
    certified(saver)
    done: list[str] = []
    agent, given = build(policy_of(Rule("p*", "ask", when=UNSURE)), saver, done, 0.99)
    go(agent, given)
    request = only(saver)
    assert (done, request.reason) == ([], "several rules are unsure of it")
    assert request.grantable is False or request.kind == "review"


def test_a_rule_without_one_that_allows_asks(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    certified(saver)
    done: list[str] = []
    agent, given = build(Policy([Rule("pay", "ask", when=UNSURE)]), saver, done, 0.99)
    go(agent, given)
    assert (done, only(saver).reason) == ([], "no rule matches")


def test_unattended_nothing_is_decided_by_a_score(build: Build, go: Any, saver: SqliteCheckpointer) -> None:
    certified(saver)
    done: list[str] = []
    policy = Policy([Rule("pay", "ask", when=UNSURE), Rule("pay", "allow")], mode="dont-ask")
    agent, given = build(policy, saver, done, 0.99)
    if build is function:
        with pytest.raises(Exception, match="nobody is"):
            go(agent, given)
    else:
        go(agent, given)
    assert (done, saver.ledger.read(routing.labels, "1 = 1")) == ([], [])
