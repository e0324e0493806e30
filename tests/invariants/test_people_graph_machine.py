"""Whatever people, facts, policies and workers do in whatever order: what runs is what enough people agreed to (I3-I5).

A real graph pays. At the moment at which it does, who agreed to exactly this is counted from the tables, and held
against what the rules want of such a payment as everything is then.
"""

from datetime import timedelta
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import Command

from hitl_graph.errors import HitlError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import requests, schedule
from hitl_graph.model import Decision, Request, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import FakeClock
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.people_oracle import DIRECTORY, MEANS, known, proposed

STAFF = ("alice", "bob", "fay", "mia", "sam", "dave", "Alice ", "FAY", "anonymous")
AMOUNT = st.sampled_from([5, 500, 2000, 2001, 9000])
ANSWER = st.one_of(
    st.just(approve()), st.just(approve()), st.just(reject("no")), st.just(respond("later")),
    st.builds(lambda eur, to: edit({"eur": eur, "to": to}), AMOUNT, st.sampled_from(["shop", "bank"])),
)  # fmt: skip


class Paying(RuleBasedStateMachine):
    folder: Path
    number = count()

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.strict, self.balance = FakeClock(), False, {"shop": 1, "bank": 2}
        self.saver = open_checkpointer(self.folder / f"pay-{next(self.number)}.db", directory=DIRECTORY)
        self.saver.ledger.clock = self.clock
        self.ledger, self.inbox = self.saver.ledger, Inbox(self.saver.ledger)
        self.requester, self.paid = dict[str, str](), dict[str, dict[str, Any]]()
        graphs = [self.build(), self.build()]
        self.graph, self.workers, self.turn = graphs[0], [Worker(g, self.ledger) for g in graphs], count()
        self.wanted = dict[str, int]()

    def build(self) -> Any:
        @tool
        def pay(eur: int, to: str, config: RunnableConfig) -> str:
            """Pay."""
            self.pays(config["configurable"]["thread_id"], {"eur": eur, "to": to})
            return "paid"

        def agent(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
            if isinstance(state["messages"][-1], ToolMessage):
                return {"messages": [AIMessage("done")]}
            args = {"eur": self.wanted[config["configurable"]["thread_id"]], "to": "shop"}
            return {"messages": [AIMessage("", tool_calls=[{"name": "pay", "args": args, "id": "c"}])]}

        policy = Policy(
            [
                Rule("pay", "ask"),
                Rule(
                    "pay", "ask", when=lambda call: self.strict or call.args["eur"] > 1000, reviewers=["role:finance"],
                    quorum=2, rejects=2, exclude=["requester"], facts={"balance": lambda c: self.balance[c.args["to"]]},
                    deadline=timedelta(hours=4),
                ),
                Rule("pay", "ask", when=lambda call: call.args["eur"] > 5000, stages=[["role:manager"]]),
                Rule(
                    "pay", "ask", when=lambda call: call.args["eur"] < 10, deadline=timedelta(hours=1),
                    on_deadline="approve",
                ),
            ]
        )  # fmt: skip
        builder = StateGraph(MessagesState)
        builder.add_node("agent", agent)
        builder.add_node("tools", ApprovalNode([pay], policy=policy))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", tools_condition)
        builder.add_edge("tools", "agent")
        return builder.compile(checkpointer=self.saver)

    def teardown(self) -> None:
        assert self.ledger.verify_audit().problem is None
        self.saver.close()

    # --- what must hold at the moment of paying --------------------------------------------------------------------

    def pays(self, thread: str, args: dict[str, Any]) -> None:
        assert thread not in self.paid, "it was paid twice"
        self.paid[thread] = args
        permits = self.rows("SELECT request_id FROM hitl_permits WHERE thread_id = ?", thread)
        [(request_id,)] = permits
        request = self.ledger.read(requests.find, request_id)
        decision = request.decision
        assert decision is not None
        assert request.action is not None
        assert {"approve": request.action.args, "edit": decision.args}[decision.type] == args
        votes = self.rows("SELECT reviewer, behalf, decision FROM hitl_votes WHERE request_id = ?", request_id)
        self.is_backed(thread, args["eur"], request, decision, votes)
        if request.fresh is not None:
            assert request.fresh.facts == {"balance": self.balance[args["to"]]}

    def is_backed(self, thread: str, eur: int, request: Request, decision: Decision, votes: list[Any]) -> None:
        agreeing = [v for v in votes if proposed(Decision.model_validate_json(v[2])) == proposed(decision)]
        is_large, is_huge = self.strict or eur > 1000, eur > 5000
        if request.reviewer == "deadline":
            assert decision.type == "approve"
            assert (eur < 10, is_large, len(agreeing)) == (True, False, len(votes))
            return
        assert agreeing
        if is_large:
            assert request.fresh is not None, "facts were not shown"
        if not is_large and not is_huge:
            return
        able = [(known(v[1] or v[0]), known(v[0])) for v in agreeing]
        if is_large:
            able = [pair for pair in able if self.requester[thread] not in pair]
        people = [principal for principal, _ in able]
        assert len(people) == len(set(people))
        finance = [p for p in people if p in MEANS["role:finance"]]
        managers = [p for p in people if p in MEANS["role:manager"]]
        enough = any(
            not is_huge or set(managers) - set(pair) for pair in (combinations(finance, 2) if is_large else [()])
        )
        assert enough, f"{eur} was paid on the word of {able}"

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        return self.ledger.read(lambda tx: tx.execute(query, parameters).fetchall())

    # --- what happens ----------------------------------------------------------------------------------------------

    @initialize(eur=AMOUNT)
    def begin(self, eur: int) -> None:
        self.start(eur, "carol")

    @precondition(lambda self: len(self.requester) < 3)
    @rule(eur=AMOUNT, requester=st.sampled_from(["alice", "bob", "carol"]))
    def start(self, eur: int, requester: str) -> None:
        thread = f"t{len(self.requester)}"
        self.requester[thread], self.wanted[thread] = requester, eur
        config: Any = {"configurable": {"thread_id": thread, "user_id": requester}}
        self.graph.invoke({"messages": [("user", "pay")]}, config)

    @precondition(lambda self: self.inbox.pending())
    @rule(data=st.data(), who=st.sampled_from(STAFF), decision=ANSWER, people=st.integers(1, 4))
    def decide(self, data: Any, who: str, decision: Decision, people: int) -> None:
        request = data.draw(st.sampled_from(self.inbox.pending()), "request")
        for _ in range(people):
            try:
                self.inbox.decide(request.id, decision, reviewer=who)
            except HitlError:
                pass
            who = data.draw(st.sampled_from(STAFF), "who")

    @precondition(lambda self: self.inbox.pending())
    @rule(data=st.data(), who=st.sampled_from(STAFF), decision=ANSWER)
    def answer_the_graph(self, data: Any, who: str, decision: Decision) -> None:
        request = data.draw(st.sampled_from(self.inbox.pending()), "request")
        answer = decision.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"type": decision.type}
        command: Any = Command(resume={request.interrupt_id: answer | {"request_id": request.id}})
        user = {} if who == "anonymous" else {"langgraph_auth_user": {"identity": who}}
        try:
            self.graph.invoke(command, {"configurable": {"thread_id": request.thread_id, **user}})
        except HitlError:
            pass

    @precondition(lambda self: self.inbox.pending())
    @rule(data=st.data(), who=st.sampled_from(STAFF), to=st.sampled_from(STAFF))
    def delegate(self, data: Any, who: str, to: str) -> None:
        request = data.draw(st.sampled_from(self.inbox.pending()), "request")
        try:
            self.inbox.delegate(request.id, to, reviewer=who)
        except HitlError:
            pass

    @rule(who=st.sampled_from(["alice", "bob"]), deputy=st.sampled_from(STAFF))
    def leave(self, who: str, deputy: str) -> None:
        if known(deputy) not in (who, "anonymous"):
            self.inbox.leave(reviewer=who, deputy=deputy, until=self.clock() + timedelta(hours=1))

    @rule(to=st.sampled_from(["shop", "bank"]), by=st.integers(0, 2))
    def earn(self, to: str, by: int) -> None:
        self.balance = self.balance | {to: self.balance[to] + by}

    @rule(strict=st.booleans())
    def change_the_policy(self, strict: bool) -> None:
        self.strict = strict

    @rule(hours=st.sampled_from([0.5, 1, 3]), sweep=st.booleans())
    def wait(self, hours: float, sweep: bool) -> None:
        self.clock.advance(timedelta(hours=hours))
        if sweep:
            self.ledger.write(schedule.sweep, self.ledger.now_ms())

    @rule()
    def work(self) -> None:
        for result in self.workers[next(self.turn) % 2].run_once():
            assert result.error is None

    @rule()
    def go_on(self) -> None:
        """Somebody runs the threads without an answer."""
        for thread in self.requester:
            config: Any = {"configurable": {"thread_id": thread}}
            self.graph.invoke(None, config)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each thread waits for people, or for a worker, or has come to its end."""
        for thread in self.requester:
            asked = [r.state for r in self.ledger.history(thread)]
            ended = not self.graph.get_state({"configurable": {"thread_id": thread}}).next
            assert ended or {"pending", "decided"} & {*asked}
            assert asked.count("pending") <= 1
            if ended and thread in self.paid:
                assert [ran["state"] for ran in self.ledger.executed(thread)] == ["done"]


def explore(folder: Path, examples: int, steps: int) -> None:
    Paying.folder = folder
    run_state_machine_as_test(
        Paying,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False, phases=[Phase.generate],
        ),
    )  # fmt: skip


@pytest.mark.sqlite_file
def test_payments_in_any_order(tmp_path: Path) -> None:
    explore(tmp_path, 12, 16)


@pytest.mark.slow
def test_payments_in_any_order_for_longer(tmp_path: Path, engine: str) -> None:
    explore(tmp_path, {"sqlite": 40, "postgres": 10}[engine], 20)
