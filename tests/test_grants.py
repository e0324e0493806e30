"""Standing permissions: what they cover, who gives them, and that none lets through more than it may."""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hitl_graph.errors import GrantError, InvalidDecisionError, NotEntitledError, PermitError, UnknownGrantError
from hitl_graph.grants import Budget, Grant, amount_of, covers
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, effects, grants
from hitl_graph.ledger.effects import Asked, Authority, Begun
from hitl_graph.model import Action, Decision, Request, approve, edit, respond
from hitl_graph.nodes import permitting
from hitl_graph.policy import Policy, Rule
from hitl_graph.reviewers import ANONYMOUS, Reviewer, StaticDirectory
from hitl_graph.terms import Origin
from hitl_graph.testing import FakeClock
from hitl_graph.voting import proposal
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import build, config_of, pay_call, ran, said, start, tool_messages
from tests.invariants.processes import Barrier, race

both = pytest.mark.both_databases
PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("eve", [])])


# --- what a grant covers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grant", "args", "is_covered"),
    [
        (Grant(tool="pay"), {"eur": 5}, True),
        (Grant(tool="p*"), {}, True),
        (Grant(tool="Pay"), {}, False),
        (Grant(), {}, False),
        (Grant(tool="pay", args={"to": "*@corp.example"}), {"to": "bob@corp.example", "eur": 1}, True),
        (Grant(tool="pay", args={"to": "*@corp.example"}), {"to": "bob@evil.example"}, False),
        (Grant(tool="pay", args={"to": "*"}), {"to": 5}, False),
        (Grant(tool="pay", args={"to": "*"}), {}, False),
        (Grant(tool="pay", args={"eur": 1}), {"eur": True}, False),
        (Grant(tool="pay", args={"eur": 1}), {"eur": 1.0}, False),
        (Grant(tool="pay", args={"to": {"b": [1], "a": None}}), {"to": {"a": None, "b": [1]}}, True),
        (Grant(tool="pay", args={"eur": 1}, only=True), {"eur": 1, "cc": "x"}, False),
        (Grant(tool="pay").exactly({"to": "a*b"}), {"to": "a*b"}, True),
        (Grant(tool="pay").exactly({"to": "a*b"}), {"to": "aXb"}, False),
        (Grant(tool="pay").exactly({"to": "a"}), {"to": "a", "cc": "b"}, False),
        (Grant(tool="pay", thread_id="other"), {}, False),
        (Grant(tool="pay", requester="bob"), {}, False),
        (Grant(tool="pay", requester="ann"), {}, True),
        (Grant(tool="pay", version="2"), {}, False),
    ],
)
def test_a_grant_covers_what_it_says_and_nothing_else(grant: Grant, args: dict[str, Any], is_covered: bool) -> None:
    assert covers(grant, Action(name="pay", args=args), "t", Origin(requester="ann", version="1")) is is_covered


@pytest.mark.parametrize("amount", [None, True, "5", -1, float("nan"), float("inf"), [5], {}])
def test_what_is_no_amount_passes_no_budget(amount: Any) -> None:
    budget = Budget(arg="eur", limit=Decimal(500))
    assert amount_of(budget, {"eur": amount}) is None
    assert amount_of(budget, {}) is None


def test_amounts_are_added_as_they_are_written() -> None:
    budget = Budget(arg="eur", limit=Decimal("0.3"))
    tenth = amount_of(budget, {"eur": 0.1})
    assert tenth is not None
    assert 3 * tenth == Fraction(budget.limit)


@pytest.mark.parametrize(
    "wrong",
    [{"expires_in": timedelta(0)}, {"uses": 0}, {"budget": {"arg": "eur", "limit": 0}}, {"only": True}, {"tool": ""}],
)
def test_a_grant_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Grant(**wrong)


def test_only_a_yes_carries_a_grant_and_others_have_to_agree_to_it() -> None:
    with pytest.raises(ValidationError, match="only approve and edit"):
        Decision(type="reject", message="no", grant=Grant())
    assert len({proposal(approve()), proposal(approve(grant=Grant())), proposal(approve(grant=Grant(uses=1)))}) == 3
    assert proposal(approve("fine", grant=Grant())) == proposal(approve(grant=Grant()))


# --- given with a decision -------------------------------------------------------------------------------------------


class Office:
    """An agent that pays, the people who are asked, and a clock."""

    def __init__(self, db_path: str, tmp_path: Path) -> None:
        self.clock = FakeClock()
        self.saver = open_checkpointer(db_path, directory=PEOPLE)
        self.effects = tmp_path / "effects"
        self.ledger: Ledger = self.saver.ledger
        self.ledger.clock = self.clock
        self.inbox = Inbox(self.ledger)
        self.use(Policy())
        self.threads = 0

    def use(self, policy: Policy, **options: Any) -> None:
        self.graph = build(self.saver, self.effects, policy=policy, **options)

    def pay(self, *amounts: int, to: str = "bob") -> list[Request]:
        """Let the agent of a new thread pay; gives what is asked."""
        self.threads += 1
        start(self.graph, f"t{self.threads}", [pay_call(eur, to) for eur in amounts])
        return self.inbox.pending(thread_id=f"t{self.threads}")

    def decide(self, request: Request, decision: Decision, *people: str) -> None:
        for reviewer in people or ("alice",):
            self.inbox.decide(request.id, decision, reviewer=reviewer)
        assert [done.status for done in Worker(self.graph, self.ledger).run_once()] == ["finished"]

    @property
    def paid(self) -> int:
        return len(ran(self.effects))


@pytest.fixture
def office(db_path: str, tmp_path: Path) -> Iterator[Office]:
    made = Office(db_path, tmp_path)
    yield made
    report = made.ledger.verify_audit()
    assert report.problem is None
    made.saver.close()


@both
def test_what_was_allowed_for_good_is_not_asked_again(office: Office) -> None:
    [request] = office.pay(5)
    office.decide(request, approve("routine", grant=Grant.of(request, uses=2, args={"to": "b*"})))
    assert office.paid == 1
    assert office.pay(6, 7) == []
    assert office.paid == 3
    [asked] = office.pay(8)
    assert asked.action == Action(name="pay", args={"eur": 8, "to": "bob"})
    [given] = office.inbox.grants()
    assert (given.status, given.used, given.people, given.note) == ("used up", 2, ("alice",), "routine")
    used = office.inbox.uses(given.id[:6])
    assert {(use.thread_id, str(use.args), use.state) for use in used} == {
        ("t2", "{'eur': 6, 'to': 'bob'}", "done"),
        ("t2", "{'eur': 7, 'to': 'bob'}", "done"),
    }
    assert office.ledger.executed("t2")[0]["reason"] == f"standing permission {given.id} by alice"
    office.ledger.redact("t2", actor="dpo", reason="asked for")
    assert [use.args for use in office.inbox.uses(given.id)] == [None, None]
    assert office.ledger.read(grants.find, office.ledger.now_ms(), given.id).used == 2


@both
@pytest.mark.parametrize(
    ("grant", "why"),
    [
        (Grant(tool="search"), "speaks of search"),
        (Grant(tool="*"), "speaks of"),
        (Grant(args={"to": "carol"}), "does not cover the very arguments"),
        (Grant(thread_id="other"), "its thread_id"),
        (Grant(requester="ann"), "its requester"),
        (Grant(budget=Budget(arg="usd", limit=Decimal(5))), "does not cover"),
        (Grant(expires_in=None, expires_at=FakeClock()()), "ended at"),
    ],
)
def test_a_grant_that_reaches_further_than_what_was_asked_is_refused(office: Office, grant: Grant, why: str) -> None:
    [request] = office.pay(5)
    with pytest.raises(InvalidDecisionError, match=why):
        office.inbox.decide(request.id, approve(grant=grant), reviewer="alice")
    with pytest.raises(NotEntitledError, match="authenticated"):
        office.inbox.decide(request.id, approve(grant=Grant()), reviewer=ANONYMOUS)
    assert office.inbox.grants() == []
    assert office.inbox.get(request.id).state == "pending"


@both
def test_the_grant_of_an_edit_is_about_the_edited_call(office: Office) -> None:
    [request] = office.pay(500)
    new: dict[str, Any] = {"eur": 5, "to": "bob"}
    with pytest.raises(InvalidDecisionError, match="very arguments"):
        office.inbox.decide(request.id, edit(new, grant=Grant.of(request, same_args=True)), reviewer="alice")
    office.decide(request, edit(new, grant=Grant.of(request).exactly(new)))
    assert office.pay(5) == []
    assert len(office.pay(500)) == 1


@both
def test_rules_may_refuse_grants_and_other_questions_have_none(office: Office) -> None:
    for rule in (Rule("pay", "ask", grants=False), Rule("pay", "ask", facts={"rate": lambda call: 1})):
        office.use(Policy([rule]))
        [request] = office.pay(5)
        with pytest.raises(InvalidDecisionError, match="no standing permission"):
            office.inbox.decide(request.id, approve(grant=Grant()), reviewer="alice")
        office.inbox.grant(Grant(tool="pay"), reviewer="alice")
        assert len(office.pay(5)) == 1
    office.use(Policy([Rule("pay", "deny")]))
    assert office.pay(5) == []
    assert office.paid == 0


@both
def test_a_grant_is_worth_what_its_givers_own_answer_is_worth(office: Office) -> None:
    [request] = office.pay(5)
    office.decide(request, approve(grant=Grant()), "eve")
    office.use(Policy([Rule("pay", "ask", reviewers=["role:finance"])]))
    [request] = office.pay(5)  # eve may not decide this any more
    office.decide(request, approve(grant=Grant()), "alice")
    assert office.pay(5) == []
    office.use(Policy([Rule("pay", "ask", reviewers=["role:finance"], quorum=2)]))
    [request] = office.pay(5)  # nor is alice alone enough
    office.inbox.decide(request.id, approve(grant=Grant(uses=9)), reviewer="alice")
    assert office.inbox.decide(request.id, approve(), reviewer="bob").state == "pending"  # that is another answer
    assert len(office.inbox.grants()) == 2  # nothing is given before all have agreed
    office.inbox.decide(request.id, approve(grant=Grant(uses=9)), reviewer="bob")
    Worker(office.graph, office.ledger).run_once()
    assert office.pay(5) == []
    assert ("alice", "bob") in [given.people for given in office.inbox.grants()]


@both
def test_an_operator_gives_and_takes(office: Office) -> None:
    with pytest.raises(GrantError, match="authenticated"):
        office.inbox.grant(Grant(tool="pay"), reviewer=ANONYMOUS)
    with pytest.raises(GrantError, match="name a tool"):
        office.inbox.grant(Grant(), reviewer="alice")
    budget = Budget(arg="eur", limit=Decimal(500), per=timedelta(days=1))
    day = office.inbox.grant(Grant(tool="p*", budget=budget, expires_in=timedelta(days=2)), reviewer="alice")
    assert (office.pay(300), office.pay(200)) == ([], [])
    assert len(office.pay(1)) == 1
    office.clock.advance(timedelta(days=1))
    assert office.pay(500) == []
    office.clock.advance(timedelta(days=1))
    assert len(office.pay(1)) == 1
    assert office.inbox.grants()[0].status == "expired"
    other = office.inbox.grant(Grant(tool="pay"), reviewer="alice", reason="audit week")
    assert office.inbox.revoke(other.id[:8], reviewer="bob", reason="over").revoked_by == "bob"
    assert office.inbox.revoke(other.id, reviewer="eve", reason="me too").revoked_by == "bob"
    assert len(office.pay(1)) == 1
    with pytest.raises(UnknownGrantError):
        office.inbox.revoke("ffffffff", reviewer="bob", reason="?")
    assert day.id != other.id


@both
async def test_grants_in_the_other_colour(office: Office) -> None:
    given = await office.inbox.agrant(Grant(tool="pay", uses=1), reviewer="alice")
    await office.graph.ainvoke(said([pay_call(1), pay_call(2)]), config_of("a"), durability="sync")
    assert (office.paid, len(await office.inbox.apending())) == (1, 1)
    assert [use.state for use in await office.inbox.auses(given.id)] == ["done"]
    await office.inbox.arevoke(given.id, reviewer="alice", reason="done")
    assert [given.status for given in await office.inbox.agrants()] == ["revoked"]


@both
def test_a_call_that_was_judged_under_a_grant_and_not_started_is_asked(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = office.inbox.grant(Grant(tool="pay"), reviewer="alice")
    look = permitting.look

    def then_revoked(*args: Any) -> Any:
        found = look(*args)
        assert found[0] is not None
        office.inbox.revoke(given.id, reviewer="bob", reason="stop")
        return found

    monkeypatch.setattr(permitting, "look", then_revoked)
    [request] = office.pay(5)
    monkeypatch.undo()
    assert office.paid == 0
    office.decide(request, respond("not now"))
    assert (office.paid, tool_messages(office.graph, "t1")) == (0, ["not now"])


@both
def test_a_thread_bound_grant_goes_with_the_thread(office: Office) -> None:
    [request] = office.pay(5)
    office.decide(request, approve(grant=Grant.of(request, same_thread=True)))
    assert len(office.pay(5)) == 1
    office.ledger.redact("t1", actor="dpo", reason="asked for")
    [given] = office.inbox.grants()
    assert (given.status, given.grant) == ("revoked", Grant(tool="pay"))


@both
def test_another_attempt_is_no_second_use_and_needs_the_grant_all_the_same(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        inbox, action = Inbox(ledger), Action(name="pay", args={"eur": 2})
        one = inbox.grant(Grant(tool="pay", uses=1, budget=Budget(arg="eur", limit=Decimal(2))), reviewer="alice")
        authority = Authority("", grants=(one.id,))

        def begin(key: str, attempt: int, **more: Any) -> Any:
            wanted = Authority("", grants=(one.id,), **more)
            return ledger.write(effects.start, ledger.now_ms(), key, attempt, "t", action, wanted)

        first = begin("k", 1)
        assert isinstance(first, Begun)
        ledger.write(effects.settle, ledger.now_ms(), first.permit_id, "failed", error="oops")
        assert isinstance(begin("other", 1), Asked)
        with pytest.raises(PermitError, match="only a person"):
            begin("k", 2)
        second = begin("k", 2, retry=True)
        assert isinstance(second, Begun)
        assert inbox.grants()[0].used == 1
        ledger.write(effects.settle, ledger.now_ms(), second.permit_id, "failed", error="oops")
        inbox.revoke(one.id, reviewer="bob", reason="enough")
        assert isinstance(begin("k", 3, retry=True), Asked)
        assert authority.grants == (one.id,)
        assert ledger.verify_audit().ok


def test_a_forged_grant_is_found(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        given = Inbox(ledger).grant(Grant(tool="pay", uses=1), reviewer="alice")
        for change in (
            "UPDATE hitl_grants SET scope = replace(scope, '\"uses\":1', '\"uses\":9')",
            "UPDATE hitl_grants SET id = id || '0'",
            "DELETE FROM hitl_grants",
        ):
            with sqlite3.connect(db_path) as direct:
                direct.execute(change)
                direct.commit()
                problem = ledger.verify_audit().problem
                assert problem is not None
                assert given.id in problem
            direct.close()


# --- races and random lives ------------------------------------------------------------------------------------------

PROCESSES = 8


def spend_all(index: int, barrier: Barrier, path: str, once: str, budget: str, revoked: str) -> list[int]:
    """How often this process gets through under each of three grants. One process revokes the third on its way."""
    with open_ledger(path) as ledger:
        action, through = Action(name="pay", args={"eur": 100}), [0, 0, 0]
        barrier.wait(60)
        for number in range(4):
            for which, grant_id in enumerate((once, budget, revoked)):
                key = f"{index} {number} {which}"
                authority = Authority("", grants=("gone", grant_id))
                begun = ledger.write(effects.start, ledger.now_ms(), key, 1, key, action, authority)
                assert isinstance(begun, Begun | Asked)
                through[which] += isinstance(begun, Begun)
            if index == 0 and number == 1:
                Inbox(ledger).revoke(revoked, reviewer="ops", reason="race")
        return through


@both
def test_of_eight_processes_as_many_get_through_as_there_is_left(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        inbox, limit = Inbox(ledger), Budget(arg="eur", limit=Decimal(399), per=timedelta(days=1))
        wanted = Grant(tool="pay", uses=1), Grant(tool="pay", budget=limit), Grant(tool="pay")
        once, budget, revoked = (inbox.grant(grant, reviewer="alice").id for grant in wanted)
        results = race(PROCESSES, spend_all, db_path, once, budget, revoked)
        by_grant = [sum(column) for column in zip(*results, strict=True)]
        assert by_grant[:2] == [1, 3]
        assert {given.id: given.used for given in inbox.grants()} == dict(
            zip((once, budget, revoked), by_grant, strict=True)
        )
        log = ledger.read(lambda tx: tx.execute("SELECT event, body FROM hitl_audit ORDER BY seq").fetchall())
        end = [event for event, _ in log].index("grant.revoked")
        assert not [body for _, body in log[end:] if f'"grant":"{revoked}"' in body], "it let through what came later"
        assert ledger.verify_audit().ok


def pay_once(index: int, barrier: Barrier, path: str, effects_file: str) -> int:
    with open_checkpointer(path) as saver:
        graph = build(saver, effects_file, policy=Policy())
        barrier.wait(60)
        start(graph, f"p{index}", [pay_call(5)])
        return len(Inbox(saver.ledger).pending(thread_id=f"p{index}"))


@pytest.mark.slow
@both
def test_the_last_use_runs_one_agent_and_the_others_are_asked(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as saver:
        Inbox(saver.ledger).grant(Grant(tool="pay", uses=1), reviewer="alice")
        assert sum(race(PROCESSES, pay_once, db_path, str(tmp_path / "effects"))) == PROCESSES - 1
        assert len(ran(tmp_path / "effects")) == 1
        assert saver.ledger.verify_audit().ok


HOURS = st.integers(0, 30)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("spend"), st.sampled_from([0, 1, 0.1, 2, 5])), st.tuples(st.just("wait"), HOURS),
              st.tuples(st.sampled_from(["revoke", "retry"]), st.just(0))),
    max_size=12,
)  # fmt: skip


def _hours(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(hours=count)


@pytest.fixture(scope="module")
def random_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, FakeClock]]:
    clock = FakeClock()
    with Ledger.open(tmp_path_factory.mktemp("grants") / "agent.db", clock=clock) as ledger:
        yield ledger, clock
        assert ledger.verify_audit().ok


@settings(max_examples=60)
@given(
    uses=st.none() | st.integers(1, 4),
    limit=st.none() | st.sampled_from([Decimal("0.3"), Decimal(3), Decimal(7)]),
    per=st.none() | st.integers(1, 30),
    lasts=st.none() | st.integers(1, 60),
    steps=STEPS,
)
def test_no_life_of_a_grant_lets_through_too_much(
    random_ledger: tuple[Ledger, FakeClock], uses: int | None, limit: Decimal | None, per: int | None,
    lasts: int | None, steps: list[tuple[str, Any]],
) -> None:  # fmt: skip
    ledger, clock = random_ledger
    inbox = Inbox(ledger)
    budget = None if limit is None else Budget(arg="eur", limit=limit, per=_hours(per))
    grant = Grant(tool="pay", uses=uses, budget=budget, expires_in=_hours(lasts))
    begin, revoked, spent = clock(), False, list[tuple[Any, Fraction]]()
    given = inbox.grant(grant, reviewer="alice")
    last: tuple[str, int, Any] | None = None
    for number, (step, value) in enumerate(steps):
        if step == "wait":
            clock.advance(timedelta(hours=value))
        elif step == "revoke":
            inbox.revoke(given.id, reviewer="bob", reason="test")
            revoked = True
        else:
            key, attempt, eur = f"{given.id} {number}", 1, value
            if step == "retry":
                if last is None:
                    continue
                key, attempt, eur = last[0], last[1] + 1, last[2]
            action, authority = Action(name="pay", args={"eur": eur}), Authority("", grants=(given.id,), retry=True)
            now = clock()
            begun = ledger.write(effects.start, ledger.now_ms(), key, attempt, "t", action, authority)
            lives = not revoked and (lasts is None or now < begin + timedelta(hours=lasts))
            amount = Fraction(str(eur))
            window = [a for at, a in spent if per is None or at > now - timedelta(hours=per)]
            left = (uses is None or len(spent) < uses) and (limit is None or sum(window) + amount <= Fraction(limit))
            assert isinstance(begun, Begun) == (lives and (left or step == "retry"))
            if isinstance(begun, Begun):
                ledger.write(effects.settle, ledger.now_ms(), begun.permit_id, "failed", error="-")
                last = key, attempt, eur
                if step == "spend":
                    spent.append((now, amount))
    assert inbox.ledger.read(grants.find, ledger.now_ms(), given.id).used == len(spent)
