"""Rules for people hold for drafts, for agents that are stuck and for questions as they do for calls."""

import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import (
    AlreadyVotedError,
    ClaimedError,
    EscalationError,
    HitlError,
    InvalidDecisionError,
    NotEntitledError,
    PolicyError,
    QuorumMissingError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import schedule
from hitl_graph.model import approve, edit, respond
from hitl_graph.nodes import ApprovalNode, EscalationNode, OutputReviewNode, ask_human
from hitl_graph.nodes.asking import _authenticated
from hitl_graph.nodes.refusing import past_handlers
from hitl_graph.policy import Policy, Rule
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.testing import FakeClock
from hitl_graph.worker import Worker
from tests import escalation_agents as stuck
from tests.databases import open_checkpointer
from tests.reviews import Colour, Desk, writing

pytestmark = pytest.mark.both_databases

PEOPLE = StaticDirectory(
    [
        Reviewer("alice", ["editor"]),
        Reviewer("bob", ["editor"]),
        Reviewer("carol", ["legal"]),
        Reviewer("otto", groups=["oncall"]),
    ]
)


@pytest.fixture
def saver(db_path: str) -> Iterator[Checkpointer]:
    with open_checkpointer(db_path, directory=PEOPLE) as saver:
        saver.ledger.clock = FakeClock()
        yield saver
        assert saver.ledger.verify_audit().problem is None


def later(saver: Checkpointer, **span: Any) -> None:
    clock: Any = saver.ledger.clock
    clock.advance(timedelta(**span))
    saver.ledger.write(schedule.sweep, saver.ledger.now_ms())


# --- drafts ------------------------------------------------------------------------------------------------------


def reviewed(saver: Checkpointer, rules: list[Rule], colour: Colour = "sync", **how: Any) -> tuple[Desk, list[Any]]:
    sent: list[Any] = []
    node = OutputReviewNode("draft", revise="writer", delivery=sent.append, policy=Policy(rules), **how)
    return Desk(writing(["a draft", "a better draft"], node), saver, colour), sent


def test_a_draft_takes_as_many_as_the_rule_says(saver: Checkpointer, colour: Colour) -> None:
    desk, sent = reviewed(
        saver, [Rule("review", "ask", reviewers=["role:editor"], quorum=2, exclude=["author"])], colour
    )
    desk.config["configurable"]["author"] = "Bob"
    desk.start()
    assert desk.asked.origin is not None
    assert desk.asked.origin.author == "bob"  # as the directory names him
    for name in ("bob", "carol"):
        with pytest.raises(NotEntitledError):
            desk.decide(approve(), name)
    assert desk.decide(approve(), "alice").state == "pending"
    assert desk.work() == sent == []
    assert desk.decide(respond("shorter"), "Alice").state == "decided"  # nobody else has to agree that it is not good
    [result] = desk.work()
    assert (result.status, desk.outcomes, sent) == ("paused", ["revise"], [])
    desk.decide(approve(), "alice")
    desk.inbox.decide(desk.asked.id, approve(), reviewer=Reviewer("erin", ["editor"]))
    desk.work()
    assert sent == ["a better draft"]
    assert desk.state["reviews"][-1]["by"] == "alice, erin"


def test_an_edited_draft_that_needs_other_people_is_put_to_them(saver: Checkpointer, colour: Colour) -> None:
    rules = [
        Rule("review", "ask", reviewers=["role:editor"]),
        Rule("review", "ask", when=lambda c: "refund" in c.args["draft"], reviewers=["role:legal"], reason="a promise"),
    ]
    desk, sent = reviewed(saver, rules, colour)
    desk.start()
    assert desk.answer(edit("you get a refund"), "alice") == "paused"
    again = desk.asked
    assert (again.draft, sent) == ("you get a refund", [])
    with pytest.raises(NotEntitledError):
        desk.decide(approve(), "otto")
    assert desk.inbox.standing(again.id).missing == "1 of role:editor, then 1 of role:legal"
    desk.decide(approve(), "bob")
    assert desk.answer(approve(), "carol") == "finished"
    assert sent == ["you get a refund"]
    [entry] = desk.state["reviews"]
    assert (entry["draft"], entry["delivered"], entry["by"]) == ("a draft", "you get a refund", "bob, carol")


def test_facts_behind_a_draft_are_read_again(saver: Checkpointer) -> None:
    price = {"now": 10}
    desk, sent = reviewed(saver, [Rule("review", "ask", quorum=2, facts={"price": lambda _: price["now"]})])
    desk.start()
    desk.decide(approve(), "alice")
    price["now"] = 12
    assert desk.answer(approve(), "bob") == "paused"
    assert desk.asked.fresh is not None
    assert "12" in str(desk.asked.fresh.changed)
    desk.decide(approve(), "alice")  # as many as before
    assert desk.asked.state == "pending"
    assert desk.answer(approve(), "bob") == "finished"
    assert sent == ["a draft"]


@pytest.mark.parametrize("end", ["reject", "approve"])
def test_nobody_looked_at_a_draft_in_time(saver: Checkpointer, end: Any) -> None:
    desk, sent = reviewed(saver, [Rule("review", "ask", deadline=timedelta(hours=1), on_deadline=end)])
    desk.start()
    later(saver, hours=1)
    [result] = desk.work()
    assert result.status == "finished"
    assert sent == (["a draft"] if end == "approve" else [])
    [entry] = desk.state["reviews"]
    assert (entry["by"], entry["message"]) == ("deadline", "Nobody decided by 2030-01-01 10:00 UTC.")


def test_what_became_of_a_delivery_is_asked_of_the_same_people(saver: Checkpointer) -> None:
    def deliver(draft: str) -> None:
        raise ConnectionError("no answer")

    rule = Rule("review", "ask", reviewers=["role:editor"], deadline=timedelta(hours=1), on_deadline="approve")
    node = OutputReviewNode("draft", revise="writer", delivery=deliver, policy=Policy([rule]))
    desk = Desk(writing(["a draft"], node), saver, "sync")
    desk.start()
    desk.decide(approve(), "alice")
    desk.work()
    desk.work()
    lost = desk.asked
    assert (lost.kind, lost.terms and lost.terms.schedule) == ("question", ())
    with pytest.raises(NotEntitledError):
        desk.decide(respond("it arrived"), "carol")
    assert desk.answer(respond("it arrived"), "bob") == "finished"
    assert desk.outcomes == ["delivered"]


# --- an agent that is stuck, an agent that asks ------------------------------------------------------------------


def test_who_helps_an_agent_that_is_stuck(saver: Checkpointer, colour: Colour) -> None:
    rule = Rule("*", "ask", reviewers=["group:oncall"], exclude=["requester"])
    graph = stuck.build(saver, rule=rule)
    with pytest.raises(PolicyError, match="does not say who that is"):
        stuck.start(graph, "nobody", colour)
    config: Any = {**stuck.config_of(), "configurable": {"thread_id": "t", "user_id": "alice"}}
    given = {"messages": [("user", "Look for x")], "region": "eu", "limit": 100}
    graph.invoke(given, config)
    request = stuck.the_one(saver.ledger)
    assert request.terms is not None
    assert (request.terms.excluded, request.kind) == (("alice",), "escalation")
    inbox = Inbox(saver.ledger)
    for name in ("alice", "bob", "anonymous"):
        with pytest.raises(NotEntitledError):
            inbox.decide(request.id, respond("stop looking"), reviewer=name)
    inbox.decide(request.id, respond("stop looking"), reviewer="otto")
    assert stuck.work(graph, saver.ledger, colour).status == "finished"


@pytest.mark.parametrize(("end", "last"), [("reject", "was stopped. Nobody decided by 2030-"), ("approve", None)])
def test_nobody_helped_in_time(saver: Checkpointer, end: Any, last: str | None) -> None:
    rule = Rule("*", "ask", deadline=timedelta(hours=1), on_deadline=end)
    graph = stuck.build(saver, rule=rule)
    stuck.start(graph)
    later(saver, hours=1)
    done = stuck.work(graph, saver.ledger)
    if last is not None:
        assert done.status == "finished"
        assert last in stuck.told(graph)[-1][1]
    else:
        assert done.status == "paused"  # it carried on, and got stuck again
    [first, *_] = saver.ledger.history("t")
    assert (first.reviewer, first.channel, first.state) == ("deadline", "deadline", "delivered")


def test_a_rule_that_says_what_does_not_count_here_is_refused() -> None:
    wrong = [Rule("*", "deny"), Rule("*", "ask", when=lambda _: True), Rule("*", "ask", allowed=("approve",)),
             Rule("*", "ask", facts={"x": lambda _: 1})]  # fmt: skip
    for rule in wrong:
        with pytest.raises(EscalationError, match="rule="):
            EscalationNode("agent", rule=rule)
        with pytest.raises(PolicyError, match="rule="):
            ask_human(rule=rule)


@pytest.mark.parametrize("inside", [True, False], ids=["ApprovalNode", "ToolNode"])
def test_who_answers_an_agents_question(saver: Checkpointer, inside: bool) -> None:
    own = Rule("*", "ask", reviewers=["role:legal"], deadline=timedelta(hours=1), on_deadline="approve")
    human = ask_human(rule=own)
    node = ApprovalNode([human], policy=Policy([Rule("ask_human", "ask", quorum=2)])) if inside else ToolNode([human])

    def agent(state: MessagesState) -> dict[str, Any]:
        if isinstance(state["messages"][-1], ToolMessage):
            return {"messages": [AIMessage("done")]}
        call = {"name": "ask_human", "args": {"question": "Which one?"}, "id": "c"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_node("tools", node)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges(
        "agent", lambda s: "tools" if s["messages"][-1].type == "ai" and s["messages"][-1].tool_calls else "__end__"
    )
    builder.add_edge("tools", "agent")
    graph: Any = builder.compile(checkpointer=saver)
    inbox, worker = Inbox(saver.ledger), Worker(graph, saver.ledger)
    for thread in ("answered", "silent"):
        graph.invoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": thread}})
    [asked] = inbox.pending(thread_id="answered")
    with pytest.raises(NotEntitledError):
        inbox.decide(asked.id, respond("the red one"), reviewer="alice")
    done = inbox.decide(asked.id, respond("the red one"), reviewer="carol")
    assert done.state == ("pending" if inside else "decided")
    if inside:
        assert inbox.standing(asked.id).missing == "1 of anybody"
        inbox.decide(asked.id, respond("the red one"), reviewer="alice")
    later(saver, hours=1)
    assert {done.status for done in worker.run_once()} == {"finished"}

    def told(thread: str) -> str:
        return str(graph.get_state({"configurable": {"thread_id": thread}}).values["messages"][-2].content)

    assert told("answered") == "the red one"
    assert told("silent").startswith("Nobody decided by 2030-")  # approve is no answer to this: it was not
    assert [r.decision and r.decision.type for r in saver.ledger.history("silent")] == ["reject"]


# --- answers that come straight through LangGraph ----------------------------------------------------------------


def test_without_authentication_nothing_is_decided_and_nothing_is_lost(saver: Checkpointer, colour: Colour) -> None:
    desk, sent = reviewed(saver, [Rule("review", "ask", reviewers=["role:editor"], quorum=2)], colour)
    desk.start()
    before = desk.asked

    def straight(answer: Any, user: Any = None) -> None:
        desk.config["configurable"].pop("langgraph_auth_user", None)
        if user is not None:
            desk.config["configurable"]["langgraph_auth_user"] = user
        desk.go(Command(resume=answer))

    for answer in ({"type": "approve"}, {"type": "reject"}, {"type": "approve", "reviewer": "alice"}):
        with pytest.raises(NotEntitledError, match="nobody was authenticated"):
            straight(answer)
    with pytest.raises(NotEntitledError, match="carol may not decide it"):
        straight({"type": "approve"}, {"identity": "carol"})
    assert desk.asked == before
    with pytest.raises(
        QuorumMissingError, match=r"of alice is recorded; still needed: 1 of role:editor\. The question"
    ):
        straight({"type": "approve"}, {"identity": "alice"})
    with pytest.raises(AlreadyVotedError):
        straight({"type": "approve"}, {"identity": "ALICE"})
    desk.inbox.claim(desk.asked.id, reviewer="bob")
    with pytest.raises(ClaimedError):
        straight({"type": "approve"}, {"identity": "erin", "roles": ["editor"]})
    assert desk.outcomes == sent == []
    straight({"type": "approve"}, {"identity": "bob"})
    assert sent == ["a draft"]
    assert desk.state["reviews"][0]["by"] == "alice, bob"


@pytest.mark.parametrize("saved", ["ours", "foreign"])
@pytest.mark.parametrize("first", ["refused", "recorded"])
def test_an_answer_that_lies_around_is_not_the_answer_of_whoever_comes_next(
    saver: Checkpointer, first: str, saved: str
) -> None:
    """LangGraph keeps an answer that names no interrupt; running the thread again would give it in another name."""
    sent: list[Any] = []
    policy = Policy([Rule("review", "ask", reviewers=["role:editor"], quorum=2)])
    node = OutputReviewNode("draft", revise="writer", delivery=sent.append, policy=policy, ledger=saver.ledger)
    used: Any = saver if saved == "ours" else InMemorySaver()
    graph: Any = writing(["a draft"], node).compile(checkpointer=used)
    inbox = Inbox(saver.ledger)

    def run(name: str, input: Any) -> None:
        user = {"identity": name}
        graph.invoke(input, {"configurable": {"thread_id": "t", "langgraph_auth_user": user}})

    run("zed", {})
    [asked] = inbox.pending()
    given = {asked.interrupt_id: {"type": "approve"}}
    bare: Any = Command(resume={"type": "approve"})
    if saved == "foreign":
        with pytest.raises(InvalidDecisionError, match="has to name its question"):
            run("carol" if first == "refused" else "alice", bare)
        with pytest.raises(QuorumMissingError):
            run("alice", Command(resume=given))
        with pytest.raises(InvalidDecisionError):
            run("bob", None)  # it still lies around there
    else:
        with pytest.raises(NotEntitledError if first == "refused" else QuorumMissingError):
            run("carol" if first == "refused" else "alice", bare)
        run("bob", None)
        run("alice", None)
    assert [vote.reviewer for vote in inbox.standing(asked.id).votes] == (
        ["alice"] if saved == "foreign" or first == "recorded" else []
    )
    if saved == "ours" and first == "refused":
        with pytest.raises(QuorumMissingError):
            run("alice", bare)
    run("bob", bare if saved == "ours" else Command(resume=given))
    assert (sent, inbox.get(asked.id).reviewer) == (["a draft"], "alice, bob")


def test_who_answers_is_not_the_requester_of_what_comes_next(saver: Checkpointer, colour: Colour) -> None:
    desk, _ = reviewed(saver, [Rule("review", "ask", exclude=["requester"])], colour)

    def as_user(name: str, input: Any) -> None:
        desk.config["configurable"]["langgraph_auth_user"] = {"identity": name}
        desk.go(input)

    as_user("alice", {})
    as_user("bob", Command(resume={"type": "respond", "message": "shorter"}))  # the same run writes a second draft
    second = desk.asked
    assert second.review is not None
    assert (second.review.revision, second.origin and second.origin.requester) == (2, "alice")
    with pytest.raises(NotEntitledError, match="it is their own"):
        as_user("alice", Command(resume={"type": "approve"}))
    as_user("carol", {"draft": "x"})  # a new input, which supersedes it
    assert desk.asked.origin is not None
    assert desk.asked.origin.requester == "carol"


def test_a_refusal_is_no_failure_of_the_node(saver: Checkpointer) -> None:
    ran: list[str] = []

    @tool
    def pay(eur: int) -> str:
        """Pay."""
        ran.append(f"paid {eur}")
        return "paid"

    def agent(state: MessagesState) -> dict[str, Any]:
        call = {"name": "pay", "args": {"eur": 5}, "id": "c"}
        return {"messages": [AIMessage("", tool_calls=[call])]}

    def handler(state: Any) -> Any:
        ran.append("handler")
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    node = ApprovalNode([pay], policy=Policy([Rule("pay", "ask", reviewers=["role:editor"], quorum=2)]))
    retry = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=lambda _: True)
    builder.add_node("tools", node, error_handler=handler, retry_policy=retry)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", "tools")
    graph: Any = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"messages": [("user", "pay")]}, config)
    with pytest.raises(NotEntitledError):
        graph.invoke(Command(resume={"type": "approve"}), config)
    config["configurable"]["langgraph_auth_user"] = {"identity": "alice"}
    with pytest.raises(QuorumMissingError):
        graph.invoke(Command(resume={"type": "approve"}), config)
    assert ran == []
    config["configurable"]["langgraph_auth_user"] = {"identity": "bob"}
    graph.invoke(Command(resume={"type": "approve"}), config)
    assert ran == ["paid 5"]


@pytest.mark.parametrize("error", [NotEntitledError, ClaimedError, QuorumMissingError])
def test_such_errors_pass_handlers_and_are_themselves_elsewhere(error: Callable[..., HitlError]) -> None:
    raised = error("abc", "why")
    past_handlers(raised)
    assert isinstance(raised, GraphBubbleUp)
    again = pickle.loads(pickle.dumps(raised))
    assert type(again) is error
    assert str(again) == str(raised)


def test_whom_a_server_has_authenticated(saver: Checkpointer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URI", ":memory:")  # it reads its settings when it is imported
    monkeypatch.setenv("REDIS_URI", "fake")
    custom = pytest.importorskip("langgraph_api.auth.custom")

    def who(user: Any, **more: Any) -> Reviewer:
        return _authenticated({"langgraph_auth_user": user, **more}, saver.ledger)

    told = {"identity": "Alice", "roles": ["lead"], "groups": ["night"], "permissions": ["x"]}
    for user in (told, custom.normalize_user(told)):
        assert who(user) == Reviewer("alice", ["editor", "lead"], ["night"])  # and what the directory knows
    assert who({"identity": "zoe", "roles": "finance"}) == Reviewer("zoe", ["finance"])  # not six roles of a letter
    assert who({"identity": "zoe", "roles": {"a": 1}, "groups": 5}) == Reviewer("zoe")
    assert who(custom.SimpleUser("zoe")) == Reviewer("zoe")
    assert who(None, langgraph_auth_user_id="zoe") == Reviewer("zoe")
    for nobody in (None, {}, {"identity": " "}, {"identity": "zoe", "is_authenticated": False}):
        assert who(nobody).is_anonymous
