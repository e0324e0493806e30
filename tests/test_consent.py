"""People are asked again when their answer does not cover what is about to run; what ran is what enough people saw."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import NotEntitledError, PolicyError, QuorumMissingError
from hitl_graph.grants import Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import schedule
from hitl_graph.model import Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.testing import FakeClock
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer

pytestmark = pytest.mark.both_databases

PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("carol")])


class Bank:
    """A graph that pays once, its policy, and everything that was paid."""

    def __init__(self, saver: Checkpointer, rules: list[Rule], *, eur: int = 500) -> None:
        self.paid: list[int] = []
        self.rules = rules
        self.saver = saver
        self.inbox = Inbox(saver.ledger)
        self.eur = eur

        def pay(eur: int) -> str:
            """Pay."""
            self.paid.append(eur)
            return f"paid {eur}"

        self.pay = StructuredTool.from_function(pay)
        self.graph = self.build()
        self.worker = Worker(self.graph, saver.ledger)

    def build(self) -> Any:
        def agent(state: MessagesState) -> dict[str, Any]:
            if isinstance(state["messages"][-1], ToolMessage):
                return {"messages": [AIMessage("done")]}
            call = {"name": "pay", "args": {"eur": self.eur}, "id": "c1"}
            return {"messages": [AIMessage("", tool_calls=[call])]}

        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_node("tools", ApprovalNode([self.pay], policy=Policy(self.rules)))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        return builder.compile(checkpointer=self.saver)

    def start(self, **configurable: Any) -> Request:
        config = {"configurable": {"thread_id": "t", **configurable}}
        self.graph.invoke({"messages": [("user", "pay")]}, config)
        return self.waiting()

    def waiting(self) -> Request:
        [request] = self.inbox.pending()
        return request

    def resume(self) -> str:
        """Carry out what was decided; how the thread stands then."""
        [resumed] = self.worker.run_once()
        assert resumed.error is None
        return resumed.status

    def told(self) -> str:
        state = self.graph.get_state({"configurable": {"thread_id": "t"}})
        return next(m.text for m in state.values["messages"] if isinstance(m, ToolMessage))


@pytest.fixture
def bank(db_path: str) -> Any:
    opened: list[Checkpointer] = []

    def make(rules: list[Rule], **how: Any) -> Bank:
        saver = open_checkpointer(db_path, directory=PEOPLE)
        opened.append(saver)
        return Bank(saver, rules, **how)

    yield make
    for saver in opened:
        assert saver.ledger.verify_audit().problem is None
        saver.close()


Make = Callable[..., Bank]
LIMIT = [
    Rule("pay", "ask"),
    Rule("pay", "ask", when=lambda call: call.args["eur"] > 1000, reviewers=["role:finance"], quorum=2, reason="much"),
]


def test_an_edit_that_needs_other_people_is_put_to_them(bank: Make) -> None:
    desk = bank(LIMIT)
    first = desk.start()
    assert first.terms is None
    desk.inbox.decide(first.id, edit({"eur": 5000}), reviewer="carol")
    assert desk.resume() == "paused"
    second = desk.waiting()
    assert second.action is not None
    assert second.action.args == {"eur": 5000}
    assert second.terms is not None
    assert second.reason == "much"
    assert desk.inbox.get(first.id).state == "delivered"
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(second.id, approve(), reviewer="carol")
    desk.inbox.decide(second.id, approve(), reviewer="alice")
    assert desk.worker.run_once() == []
    desk.inbox.decide(second.id, approve(), reviewer="bob")
    assert desk.resume() == "finished"
    assert desk.paid == [5000]
    assert "A person changed this call" in desk.told()
    [ran] = desk.saver.ledger.executed("t")
    assert ran["reason"] == "approve by alice, bob"


def test_an_edit_within_the_limit_runs(bank: Make) -> None:
    desk = bank(LIMIT, eur=5000)
    request = desk.start()
    for name in ("alice", "bob"):
        desk.inbox.decide(request.id, edit({"eur": 400}), reviewer=name)
    assert desk.resume() == "finished"
    assert desk.paid == [400]


def test_a_policy_that_became_stricter_asks_again_and_one_that_was_relaxed_does_not(bank: Make) -> None:
    desk = bank([Rule("pay", "ask")])
    request = desk.start()
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    desk.rules = [Rule("pay", "ask", reviewers=["role:finance"])]
    desk.worker = Worker(desk.build(), desk.saver.ledger)
    assert desk.resume() == "finished"  # alice is of finance: her word is enough under the new rule, too
    assert desk.paid == [500]


def test_who_agreed_is_counted_again_under_a_stricter_policy(bank: Make) -> None:
    desk = bank([Rule("pay", "ask")])
    request = desk.start()
    desk.inbox.decide(request.id, approve(), reviewer="carol")
    desk.rules = [Rule("pay", "ask", reviewers=["role:finance"])]
    desk.worker = Worker(desk.build(), desk.saver.ledger)
    assert desk.resume() == "paused"
    desk.inbox.decide(desk.waiting().id, reject("no"), reviewer="bob")
    assert desk.resume() == "finished"
    assert desk.paid == []
    assert "rejected" in desk.told()


class Account:
    def __init__(self) -> None:
        self.balance: Any = 1200
        self.read = 0

    def __call__(self, call: Call) -> Any:
        self.read += 1
        if isinstance(self.balance, Exception):
            raise self.balance
        return self.balance


def test_facts_that_changed_are_shown_and_asked_about_again(bank: Make) -> None:
    account = Account()
    desk = bank([Rule("pay", "ask", facts={"balance": account})])
    request = desk.start()
    assert request.fresh is not None
    assert request.fresh.facts == {"balance": 1200}
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    account.balance = 300
    assert desk.resume() == "paused"
    again = desk.waiting()
    assert again.reason == "what was shown has changed since alice answered"
    assert again.fresh is not None
    assert again.fresh.facts == {"balance": 300}
    assert again.fresh.changed is not None
    assert '-  "balance": 1200' in again.fresh.changed
    assert desk.paid == []
    account.balance = 1200  # back again: the question stands all the same
    desk.graph.invoke(None, {"configurable": {"thread_id": "t"}})
    assert desk.waiting().id == again.id
    assert desk.paid == []
    desk.inbox.decide(again.id, reject("wait"), reviewer="bob")
    assert desk.resume() == "finished"
    assert desk.paid == []


def test_facts_that_stayed_let_it_run(bank: Make) -> None:
    account = Account()
    desk = bank([Rule("pay", "ask", facts={"balance": account})])
    desk.inbox.decide(desk.start().id, approve(), reviewer="alice")
    assert desk.resume() == "finished"
    assert desk.paid == [500]
    assert account.read == 2


def test_a_fact_that_cannot_be_read_any_more_has_changed(bank: Make) -> None:
    account = Account()
    desk = bank([Rule("pay", "ask", facts={"balance": account})])
    desk.inbox.decide(desk.start().id, approve(), reviewer="alice")
    account.balance = ConnectionError("down")
    assert desk.resume() == "paused"
    again = desk.waiting()
    assert again.fresh is not None
    assert again.fresh.facts == {"balance": {"could not be read": "ConnectionError"}}
    desk.inbox.decide(again.id, approve(), reviewer="alice")  # knowing that
    assert desk.resume() == "finished"
    assert desk.paid == [500]


def test_once_it_was_started_facts_do_not_count_any_more(bank: Make) -> None:
    """The payment itself changes the balance; after a crash in the middle people are asked what became of it."""
    account = Account()
    desk = bank([Rule("pay", "ask", facts={"balance": account})])
    desk.inbox.decide(desk.start().id, approve(), reviewer="alice")

    def cut(eur: int) -> str:
        desk.paid.append(eur)
        account.balance = 700
        raise KeyboardInterrupt

    whole, desk.pay.func = desk.pay.func, cut
    with pytest.raises(KeyboardInterrupt):
        desk.worker.run_once()
    desk.pay.func = whole
    desk.graph.invoke(None, {"configurable": {"thread_id": "t"}})
    asked = desk.waiting()
    assert (asked.kind, asked.fresh) == ("question", None)
    account.balance = 600
    desk.inbox.decide(asked.id, respond("paid 500"), reviewer="alice")
    assert desk.resume() == "finished"
    assert desk.paid == [500]
    assert desk.told() == "paid 500"


async def test_async_facts_and_graphs(db_path: str) -> None:
    async def balance(call: Call) -> int:
        await asyncio.sleep(0)
        return 7

    with open_checkpointer(db_path, directory=PEOPLE) as saver:
        desk = Bank(saver, [Rule("pay", "ask", facts={"balance": balance}, reviewers=["role:finance"])])
        await desk.graph.ainvoke({"messages": [("user", "pay")]}, {"configurable": {"thread_id": "t"}})
        [request] = await desk.inbox.apending(reviewer="alice")
        assert request.fresh is not None
        assert request.fresh.facts == {"balance": 7}
        await desk.inbox.adecide(request.id, approve(), reviewer="alice")
        [resumed] = await desk.worker.arun_once()
        assert resumed.status == "finished"
        assert desk.paid == [500]


def test_a_server_that_knows_nobody_gives_an_empty_user(bank: Make) -> None:
    desk = bank([Rule("pay", "ask")])
    request = desk.start(user_id="", author=" ", langgraph_auth_user_id="")
    assert request.origin is not None
    assert (request.origin.requester, request.origin.author) == (None, None)


def test_the_requester_may_not_decide(bank: Make) -> None:
    rules = [Rule("pay", "ask", exclude=["requester"])]
    desk = bank(rules)
    with pytest.raises(PolicyError, match="does not say who that is"):
        desk.graph.invoke({"messages": [("user", "pay")]}, {"configurable": {"thread_id": "nobody"}})
    request = desk.start(user_id="Alice")
    assert request.origin is not None
    assert request.origin.requester == "alice"  # as the directory names her
    with pytest.raises(NotEntitledError, match="it is their own"):
        desk.inbox.decide(request.id, approve(), reviewer="alice")
    desk.inbox.decide(request.id, approve(), reviewer="carol")
    assert desk.resume() == "finished"
    assert desk.paid == [500]


def test_an_answer_straight_to_the_graph_is_a_vote_of_whom_the_server_knows(bank: Make) -> None:
    desk = bank([Rule("pay", "ask", reviewers=["role:finance"], quorum=2)])
    request = desk.start()

    def answer(user: dict[str, Any] | None) -> Any:
        configurable = {"thread_id": "t"} | ({"langgraph_auth_user": user} if user else {})
        command: Any = Command(resume={request.interrupt_id: {"type": "approve"}})
        return desk.graph.invoke(command, {"configurable": configurable})

    with pytest.raises(NotEntitledError, match="nobody was authenticated"):
        answer(None)
    with pytest.raises(NotEntitledError, match="carol may not decide it"):
        answer({"identity": "carol"})
    with pytest.raises(QuorumMissingError, match="still needed: 1 of role:finance"):
        answer({"identity": "alice"})
    assert desk.waiting().id == request.id
    answer({"identity": "dora", "roles": ["finance"]})
    assert desk.paid == [500]
    assert desk.inbox.get(request.id).reviewer == "alice, dora"


def test_silence_rejects_and_the_model_is_told(bank: Make) -> None:
    clock = FakeClock()
    desk = bank([Rule("pay", "ask", deadline=timedelta(hours=4))])
    desk.saver.ledger.clock = clock
    request = desk.start()
    clock.advance(timedelta(hours=5))
    desk.saver.ledger.write(schedule.sweep, desk.saver.ledger.now_ms())
    assert desk.inbox.get(request.id).state == "decided"
    assert desk.resume() == "finished"
    assert desk.paid == []
    assert desk.told().startswith("pay needed a person's approval and did not run. Nobody decided by 2030-01-01 13:00")


def test_who_said_no_is_not_counted_under_a_stricter_policy(bank: Make) -> None:
    desk = bank([Rule("pay", "ask", quorum=2, rejects=2)])
    request = desk.start()
    desk.inbox.decide(request.id, reject("no"), reviewer="alice")
    for name in ("bob", "carol"):
        desk.inbox.decide(request.id, approve(), reviewer=name)
    desk.rules = [Rule("pay", "ask", reviewers=["role:finance"], quorum=2)]
    desk.worker = Worker(desk.build(), desk.saver.ledger)
    assert desk.resume() == "paused"
    assert desk.paid == []


def test_a_vote_by_proxy_is_counted_under_a_stricter_policy_only_if_both_may(bank: Make) -> None:
    desk = bank([Rule("pay", "ask", reviewers=["role:finance"])])
    request = desk.start(user_id="carol")
    desk.inbox.delegate(request.id, "carol", reviewer="alice")
    desk.inbox.decide(request.id, approve(), reviewer="carol")
    desk.rules = [Rule("pay", "ask", reviewers=["role:finance"], exclude=["requester"])]
    desk.worker = Worker(desk.build(), desk.saver.ledger)
    assert desk.resume() == "paused"
    assert desk.paid == []


def test_an_edit_that_brings_facts_into_play_is_put_to_people_with_them(bank: Make) -> None:
    account = Account()
    much = Rule("pay", "ask", when=lambda call: call.args["eur"] > 1000, facts={"balance": account})
    desk = bank([Rule("pay", "ask"), much])
    first = desk.start()
    assert first.fresh is None
    desk.inbox.decide(first.id, edit({"eur": 5000}), reviewer="carol")
    assert desk.resume() == "paused"
    second = desk.waiting()
    assert second.reason == "carol was not shown balance"
    assert second.fresh is not None
    assert second.fresh.facts == {"balance": 1200}
    desk.inbox.decide(second.id, approve(), reviewer="carol")
    assert desk.resume() == "finished"
    assert desk.paid == [5000]


def test_facts_that_changed_are_put_to_the_same_people_also_under_a_relaxed_policy(bank: Make) -> None:
    desk = bank([Rule("pay", "ask", reviewers=["role:finance"], exclude=["requester"], facts={"balance": Account()})])
    desk.inbox.decide(desk.start(user_id="bob").id, approve(), reviewer="alice")
    desk.rules = [Rule("pay", "allow")]
    desk.worker = Worker(desk.build(), desk.saver.ledger)
    assert desk.resume() == "paused"  # the fact cannot be read any more
    for name in ("carol", "bob"):
        with pytest.raises(NotEntitledError):
            desk.inbox.decide(desk.waiting().id, approve(), reviewer=name)
    desk.inbox.decide(desk.waiting().id, approve(), reviewer="alice")
    assert desk.resume() == "finished"
    assert desk.paid == [500]


def test_who_has_two_names_may_not_decide_under_the_other_one(db_path: str) -> None:
    def directory(name: str) -> Reviewer | None:
        return PEOPLE(name.removesuffix("@corp.example"))

    with open_checkpointer(db_path, directory=directory) as saver:
        desk = Bank(saver, [Rule("pay", "ask", exclude=["requester"])])
        request = desk.start(user_id="alice@corp.example")
        for name in ("alice", "alice@corp.example"):
            with pytest.raises(NotEntitledError, match="it is their own"):
                desk.inbox.decide(request.id, approve(), reviewer=name)


def test_a_grant_given_by_proxy_is_not_one_for_the_proxys_own_calls(bank: Make) -> None:
    desk = bank([Rule("pay", "ask", reviewers=["role:finance"], exclude=["requester"])])
    request = desk.start(user_id="bob")
    desk.inbox.delegate(request.id, "carol", reviewer="alice")
    desk.inbox.decide(request.id, approve(grant=Grant()), reviewer="carol")
    assert desk.resume() == "finished"

    def paid_for(name: str) -> bool:
        config: Any = {"configurable": {"thread_id": f"of {name}", "user_id": name}}
        return "__interrupt__" not in desk.graph.invoke({"messages": [("user", "pay")]}, config)

    assert paid_for("bob")
    assert not paid_for("carol")
    assert not paid_for("alice")
