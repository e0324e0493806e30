"""Whatever is given, spent, revoked and switched in whatever order: a grant lets through what is left of it, no more.

A plain list says what each grant has left; the machine predicts of each call whether it starts, and under which grant.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from hitl_graph.grants import Budget, Grant
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import effects, requests
from hitl_graph.ledger.effects import Asked, Authority, Begun, Finished, Stopped
from hitl_graph.model import Action, Request, approve, request_id
from hitl_graph.terms import Stage, Terms
from hitl_graph.testing import FakeClock
from tests.databases import open_ledger

GRANT = st.builds(
    Grant,
    tool=st.sampled_from(["pay", "pa?", "mail"]),
    thread_id=st.sampled_from([None, None, "t0"]),
    args=st.sampled_from([None, None, {"to": "shop"}]),
    expires_in=st.sampled_from([None, timedelta(minutes=1), timedelta(hours=1)]),
    uses=st.sampled_from([None, 1, 2]),
    budget=st.sampled_from(
        [None, Budget(arg="eur", limit=Decimal(10)), Budget(arg="eur", limit=Decimal(10), per=timedelta(minutes=10))]
    ),
)
CALL: Any = st.builds(dict, eur=st.sampled_from([1, 4, 6, 11]), to=st.sampled_from(["shop", "bank"]))
SCOPE = st.sampled_from(["all", "tool:pay", "tool:m*", "graph:g", "graph:other"])


@dataclass
class Given:
    """A grant, as it has to be."""

    id: str
    grant: Grant
    ends_ms: int | None
    revoked: bool = False
    let_through: list[tuple[int, int]] = field(default_factory=list)
    """When, and how much."""

    def lets(self, now_ms: int, thread: str, args: dict[str, Any]) -> bool:
        grant, budget = self.grant, self.grant.budget
        covers = grant.tool in ("pay", "pa?") and grant.thread_id in (None, thread)
        covers = covers and (grant.args is None or args["to"] == "shop")
        if not covers or self.revoked or (self.ends_ms is not None and now_ms >= self.ends_ms):
            return False
        if grant.uses is not None and len(self.let_through) >= grant.uses:
            return False
        if budget is None:
            return True
        since = 0 if budget.per is None else now_ms - round(budget.per.total_seconds() * 1000)
        spent: int = sum(eur for at, eur in self.let_through if at > since)
        return bool(spent + args["eur"] <= budget.limit)


class Granting(RuleBasedStateMachine):
    folder: Path
    number = count()

    def __init__(self) -> None:
        super().__init__()
        path = self.folder / f"grants-{next(self.number)}.db"
        self.clock, self.turn, self.key = FakeClock(), count(), count()
        self.ledgers = [open_ledger(path), open_ledger(path)]
        for ledger in self.ledgers:
            ledger.clock = self.clock
        self.given, self.switches, self.ran = list[Given](), dict[str, str](), dict[str, str | None]()
        self.anchor = self.ledgers[0].verify_audit().head

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()

    @property
    def inbox(self) -> Inbox:
        return Inbox(self.ledgers[next(self.turn) % 2])

    def is_switched(self, outcome: str) -> bool:
        return any(self.switches.get(scope) == outcome for scope in ("all", "tool:pay", "graph:g"))

    def note(self, own: str, grant: Grant) -> None:
        now_ms, lasts = self.ledgers[0].now_ms(), grant.expires_in
        self.given.append(Given(own, grant, None if lasts is None else now_ms + round(lasts.total_seconds() * 1000)))

    @precondition(lambda self: len(self.given) < 5)
    @rule(grant=GRANT)
    def give(self, grant: Grant) -> None:
        self.note(self.inbox.grant(grant, reviewer="alice").id, grant)

    @precondition(lambda self: len(self.given) < 5)
    @rule(grant=GRANT, quorum=st.integers(1, 2), rest=st.booleans())
    def give_in_a_decision(self, grant: Grant, quorum: int, rest: bool) -> None:
        """It counts from when enough people have agreed to it."""
        inbox, number = self.inbox, next(self.key)
        interrupt = f"{number:032x}"
        request = Request(
            id=request_id("t0", interrupt), kind="approval", thread_id="t0", interrupt_id=interrupt,
            action=Action(name="pay", args={"eur": 4, "to": "shop"}), action_key=f"asked {number}",
            terms=Terms(stages=(Stage(quorum=quorum),)),
        )  # fmt: skip
        now_ms, given = inbox.ledger.now_ms(), grant.model_copy(update={"tool": None})
        inbox.ledger.write(requests.open_request, now_ms, request, checkpoint_id="c", task_id="k", parked=1)
        for name in ["alice", "bob"][: quorum if rest else quorum - 1]:
            inbox.decide(request.id, approve(grant=given), reviewer=name)
        if rest:
            new = {own.id for own in inbox.grants()} - {known.id for known in self.given}
            self.note(new.pop(), grant.model_copy(update={"tool": "pay"}))

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def revoke(self, data: Any) -> None:
        given = data.draw(st.sampled_from(range(len(self.given))))
        self.inbox.revoke(self.given[given].id, reviewer="bob", reason="enough")
        self.given[given].revoked = True

    @rule(scope=SCOPE, outcome=st.sampled_from(["ask", "deny"]))
    def switch(self, scope: str, outcome: Any) -> None:
        self.inbox.switch(scope, outcome, reviewer="alice", reason="alarm")
        self.switches[scope] = outcome

    @precondition(lambda self: self.switches)
    @rule(data=st.data())
    def lift(self, data: Any) -> None:
        scope = data.draw(st.sampled_from(sorted(self.switches)))
        self.inbox.lift(scope, reviewer="alice", reason="over")
        del self.switches[scope]

    @rule(by=st.sampled_from([1, 59_999, 60_000, 600_000, 3_600_000]))
    def wait(self, by: int) -> None:
        self.clock.advance(timedelta(milliseconds=by))

    @precondition(lambda self: self.given)
    @rule(args=CALL, thread=st.sampled_from(["t0", "t1"]), data=st.data())
    def spend(self, args: dict[str, Any], thread: str, data: Any) -> None:
        """A new call, or once more one that ran, with the grants in any order, also those that do not cover it."""
        again = data.draw(st.sampled_from([None, None, None, *self.ran]), "again")
        offered = data.draw(st.permutations(self.given), "offered")
        ledger, key = self.inbox.ledger, again or f"{thread} {next(self.key)}"
        action = Action(name="pay", args=args)
        authority = Authority("a standing permission", grants=tuple(given.id for given in offered))
        now_ms, place = ledger.now_ms(), key.partition(" ")[0]
        begun = ledger.write(effects.start, now_ms, key, 1, place, action, authority, graph="g")
        lets = next((given for given in offered if given.lets(now_ms, place, args)), None)
        if again:
            assert isinstance(begun, Finished)
        elif self.is_switched("deny"):
            assert isinstance(begun, Stopped)
        elif self.is_switched("ask") or lets is None:
            assert isinstance(begun, Asked)
        else:
            assert isinstance(begun, Begun)
            ledger.write(effects.settle, now_ms, begun.permit_id, "done", type_="msgpack", result=b"x")
            lets.let_through.append((now_ms, args["eur"]))
            self.ran[key] = lets.id

    @invariant()
    def what_each_let_through_is_on_record(self) -> None:
        inbox = self.inbox
        report = inbox.ledger.verify_audit(self.anchor)
        assert report.ok, report.problem
        self.anchor = report.head
        known, now_ms = {given.id: given for given in inbox.grants()}, inbox.ledger.now_ms()
        assert known.keys() == {given.id for given in self.given}
        for given in self.given:
            assert len(inbox.uses(given.id)) == known[given.id].used == len(given.let_through)
            assert list(self.ran.values()).count(given.id) == len(given.let_through)
            ended = given.ends_ms is not None and now_ms >= given.ends_ms
            used_up = given.grant.uses is not None and len(given.let_through) >= given.grant.uses
            status = "revoked" if given.revoked else "expired" if ended else "used up" if used_up else "live"
            assert known[given.id].status == status
        assert {switch.scope: switch.outcome for switch in inbox.switches()} == self.switches


def explore(folder: Path, examples: int, steps: int) -> None:
    Granting.folder = folder
    run_state_machine_as_test(
        Granting,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False, phases=[Phase.generate],
        ),
    )  # fmt: skip


@pytest.mark.sqlite_file
def test_grants_in_any_order(tmp_path: Path) -> None:
    explore(tmp_path, 15, 25)


@pytest.mark.slow
def test_grants_in_any_order_for_longer(tmp_path: Path, engine: str) -> None:
    explore(tmp_path, {"sqlite": 60, "postgres": 8}[engine], 30)
