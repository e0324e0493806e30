"""Whatever people, clocks and sweepers do in whatever order: a request stands as the rules for people say (I1 to I9).

`people_oracle` predicts of each operation whether it is accepted and how the request stands then. What ran is
counted once more from the tables and the log alone.
"""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
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
from pydantic import JsonValue

from hitl_graph.errors import HitlError, PermitError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import effects, requests, schedule
from hitl_graph.ledger.effects import Authority, Begun, Busy, Finished
from hitl_graph.model import WORDS, Action, Decision, Request, approve, edit, reject, request_id, respond
from hitl_graph.terms import Stage, Terms, Turn
from hitl_graph.testing import FakeClock
from tests.databases import open_ledger
from tests.invariants.people_oracle import DIRECTORY, EVERYBODY, MEANS, Asked, Desk, known, proposed, refuses
from tests.invariants.people_recount import recount

SHOWN: dict[str, JsonValue] = {"eur": 5}
SPELLINGS: tuple[Callable[[str], str], ...] = (str, str, str.upper, str.title, lambda name: f" {name}\t")
MANY = sorted(selector for selector, people in MEANS.items() if len(people) > 1)
SELECTORS = st.lists(st.sampled_from([*MEANS, *MANY, *MANY]), min_size=1, max_size=3, unique=True)
PERSON = st.sampled_from(EVERYBODY)
ABSENT = st.sampled_from(["alice", "bob", "carol", "mia", "fay"])
SPELT = st.builds(lambda name, spell: spell(name), PERSON, st.sampled_from(SPELLINGS))
ANSWER = st.sampled_from(
    [approve(), approve("fine"), approve(), edit({"eur": 4}), edit({"eur": 9}), reject("no"), respond("later")]
)
ALLOWED: Any = st.sampled_from([WORDS, WORDS, WORDS, ("approve", "reject"), ("edit", "respond", "reject")])
MOMENT = st.sampled_from([1, 400, 60_000, 60_000, 600_000, 3_600_000])


@st.composite
def stages(draw: Any) -> Stage:
    reviewers = tuple(draw(SELECTORS)) if draw(st.integers(0, 3)) else ()
    quorum = draw(st.sampled_from([1, 2, 2, 3]))
    distinct = len(reviewers) >= quorum and draw(st.booleans())
    return Stage(reviewers=reviewers, quorum=quorum, distinct_roles=distinct)


TERMS = st.builds(
    Terms,
    stages=st.lists(stages(), min_size=1, max_size=3).map(tuple),
    excluded=st.lists(SPELT, max_size=1).map(tuple),
    veto=st.sampled_from([(), (), ("role:security",), ("alice",)]),
    rejects=st.sampled_from([1, 1, 2]),
    delegates=st.sampled_from([("*",), ("*",), ("*",), ("role:legal", "user:erin"), ()]),
)
TURNS = st.lists(
    st.tuples(
        st.integers(1, 12), st.sampled_from([0, 1, 500]),
        st.sampled_from(["remind", "escalate", "escalate", "escalate", "reject", "approve"]), SELECTORS,
    ),
    max_size=3,
)  # fmt: skip


class People(RuleBasedStateMachine):
    """People, sweepers and a checkpointer at work through two ledgers on one database."""

    folder: Path
    number = count()

    def __init__(self) -> None:
        super().__init__()
        path = self.folder / f"people-{next(self.number)}.db"
        self.clock, self.desk = FakeClock(), Desk()
        self.ledgers = [open_ledger(path), open_ledger(path)]
        for ledger in self.ledgers:
            ledger.clock, ledger.directory = self.clock, DIRECTORY
        self.ledger, self.turn = self.ledgers[0], count()
        self.anchor, self.decided = self.ledger.verify_audit().head, dict[str, Decision]()

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()

    @property
    def inbox(self) -> Inbox:
        """Of either ledger in turn."""
        self.ledger = self.ledgers[next(self.turn) % 2]
        self.desk.now_ms = self.ledger.now_ms()
        return Inbox(self.ledger)

    def pick(self, data: Any, wanted: Callable[[Asked], Any] = lambda asked: asked.state == "pending") -> Asked:
        """One that is wanted, if there is any."""
        asked = self.desk.asked
        found = [key for key, a in asked.items() if wanted(a)] or list(asked)
        return asked[data.draw(st.sampled_from(found), "request")]

    def attempt(self, predicted: Any, call: Callable[[], Any]) -> Any:
        """Do it; it has to be refused for one of the predicted reasons, if there are any."""
        refused: HitlError | None = None
        try:
            done = call()
        except HitlError as exc:
            refused, done = exc, None
        assert isinstance(refused, tuple(predicted or {type(None)})), (
            f"predicted was {predicted}, and it came to {refused!r}"
        )
        return done

    # --- asking ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.desk.asked) < 4)
    @rule(terms=TERMS, turns=TURNS, allowed=ALLOWED, plain=st.integers(0, 9))
    def ask(self, terms: Terms, turns: Any, allowed: Any, plain: int) -> None:
        self.put(terms, turns, allowed, plain)

    @initialize(terms=TERMS, turns=TURNS, away=st.lists(st.tuples(ABSENT, PERSON), max_size=2))
    def ask_at_first(self, terms: Terms, turns: Any, away: list[tuple[str, str]]) -> None:
        self.put(terms, turns, WORDS, 1)
        for who, deputy in away:
            self.leave_for(who, deputy, self.clock(), timedelta(days=1))

    def put(self, terms: Terms, turns: Any, allowed: Any, plain: int) -> None:
        number, start = len(self.desk.asked), self.clock()
        planned = [
            Turn(at=at, then=then, to=tuple(to), until=at + timedelta(hours=ms) if ms else None)
            for after, ms, then, to in sorted(turns, key=lambda turn: turn[:2])
            for at in [start + timedelta(minutes=10 * after, milliseconds=ms)]
        ]
        interrupt, thread = f"{number:032x}", f"t{number % 2}"
        request = Request(
            id=request_id(thread, interrupt), kind="approval", thread_id=thread, interrupt_id=interrupt,
            action=Action(name="pay", args=dict(SHOWN)), action_key=f"key {number}", allowed=allowed,
            terms=terms.model_copy(update={"schedule": tuple(planned)}) if plain else None,
        )  # fmt: skip
        self.inbox.ledger.write(
            requests.open_request, self.ledger.now_ms(), request, checkpoint_id="c", task_id="k", parked=1
        )
        self.desk.asked[request.id] = Asked(request)

    # --- answering -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.desk.asked)
    @rule(data=st.data(), who=SPELT, decision=ANSWER, shown=st.sampled_from([None, "right", "right", "wrong"]))
    def decide(self, data: Any, who: str, decision: Decision, shown: str | None) -> None:
        self.answer(self.pick(data, lambda asked: True), who, decision, shown)

    @precondition(lambda self: any(a.state == "pending" for a in self.desk.asked.values()))
    @rule(data=st.data(), spell=st.sampled_from(SPELLINGS), decision=ANSWER, proxies=st.booleans())
    def agree(self, data: Any, spell: Callable[[str], str], decision: Decision, proxies: bool) -> None:
        """Some who may, one after the other, mostly with what the others want; `proxies`: for others if they can."""
        asked = self.pick(data)
        for _ in range(data.draw(st.integers(1, 4), "people")):
            self.desk.now_ms = self.ledger.now_ms()
            who = [name for name in EVERYBODY if self.desk.open_to(asked, name)]
            for_others = [name for name in who if (self.desk.right(asked, name) or (name,))[0] != name]
            if who := (proxies and for_others) or who:
                yes = [v.decision for v in asked.votes.values() if not refuses(v.decision)] + [decision]
                wanted = [d for d in yes if asked.agreed in (None, proposed(d))] or yes
                name, answer = data.draw(st.sampled_from(who), "who"), data.draw(st.sampled_from(wanted), "answer")
                self.answer(asked, spell(name), answer, None)

    @precondition(lambda self: any(a.state == "pending" for a in self.desk.asked.values()))
    @rule(data=st.data(), decision=st.sampled_from([approve(), edit({"eur": 4})]))
    def carry_through(self, data: Any, decision: Decision) -> None:
        """To its end, as far as people get; then run it."""
        self.push(data, decision, proxies=False)

    @precondition(lambda self: any(a.state == "pending" for a in self.desk.asked.values()))
    @rule(data=st.data(), decision=st.sampled_from([approve(), edit({"eur": 4})]))
    def carry_through_by_others(self, data: Any, decision: Decision) -> None:
        """The same, by deputies and delegates wherever there are any."""
        self.push(data, decision, proxies=True)

    def push(self, data: Any, decision: Decision, *, proxies: bool) -> None:
        asked = self.pick(data)
        wanted = next((v.decision for v in asked.votes.values() if proposed(v.decision) == asked.agreed), decision)
        dissent = asked.agreed is None and data.draw(st.booleans(), "one wants something else")
        for number in range(8):
            self.desk.now_ms = self.ledger.now_ms()
            who = [name for name in EVERYBODY if self.desk.right(asked, name) and self.desk.open_to(asked, name)]
            if not who:
                break
            for_others = [name for name in who if (self.desk.right(asked, name) or (name,))[0] != name]
            name = data.draw(st.sampled_from((proxies and for_others) or who), "who")
            if proxies:
                to = data.draw(st.sampled_from(["dave", "erin", "mia", "carol"]), "to")
                if self.hand_on(asked, name, to):
                    name = to
            self.answer(asked, name, edit({"eur": 9}) if dissent and not number else wanted, None)
        if asked.state == "decided":
            self.start(asked, "decided")

    @precondition(lambda self: any(a.votes for a in self.desk.asked.values()))
    @rule(data=st.data(), decision=ANSWER)
    def think_again(self, data: Any, decision: Decision) -> None:
        asked = self.pick(data, lambda asked: asked.votes)
        self.answer(asked, data.draw(st.sampled_from(sorted(asked.votes))), decision, None)

    def answer(self, asked: Asked, who: str, decision: Decision, shown: str | None) -> None:
        inbox, request = self.inbox, asked.request
        before = asked.state
        refused = self.desk.decide(asked, known(who), decision, stale=shown == "wrong")
        digest = {"right": request.digest, "wrong": "0" * 64, None: None}[shown]
        done = self.attempt(
            refused, lambda: inbox.decide(request.id, decision, reviewer=who, digest=digest, channel="test")
        )
        if done is not None:
            assert before == "pending"
            assert done.state == asked.state

    # --- taking it in hand -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.desk.asked)
    @rule(data=st.data(), who=SPELT, lease=MOMENT)
    def claim(self, data: Any, who: str, lease: int) -> None:
        asked, inbox = self.pick(data), self.inbox
        refused = self.desk.claim(asked, known(who), self.desk.now_ms + lease)
        self.attempt(refused, lambda: inbox.claim(asked.request.id, reviewer=who, lease=timedelta(milliseconds=lease)))

    @precondition(lambda self: self.desk.asked)
    @rule(data=st.data(), who=SPELT, to=SPELT, entitled=st.booleans())
    def delegate(self, data: Any, who: str, to: str, entitled: bool) -> None:
        asked = self.pick(data)
        if entitled and (having := [name for name in EVERYBODY if self.desk.right(asked, name)]):
            who = data.draw(st.sampled_from(having))
        if self.hand_on(asked, who, to) and data.draw(st.booleans(), "and they vote"):
            self.answer(asked, to, data.draw(ANSWER), None)

    def hand_on(self, asked: Asked, who: str, to: str) -> bool:
        inbox = self.inbox
        refused = self.desk.delegate(asked, known(who), known(to))
        self.attempt(refused, lambda: inbox.delegate(asked.request.id, to, reviewer=who))
        return not refused

    @precondition(lambda self: any(a.gifts or a.claims for a in self.desk.asked.values()))
    @rule(data=st.data(), who=SPELT, stranger=st.integers(0, 4), back=st.booleans())
    def undo(self, data: Any, who: str, stranger: int, back: bool) -> None:
        """Hand back what one was given, or take back what one gave."""
        asked, inbox = self.pick(data, lambda a: a.gifts or a.claims), self.inbox
        gifts = asked.standing_gifts()
        having = {g.by for g in gifts} if back else {*asked.claims, *(g.to for g in gifts)}
        if stranger and having:
            who = data.draw(st.sampled_from(sorted(having)))
        move, predict = (inbox.take_back, self.desk.take_back) if back else (inbox.hand_back, self.desk.hand_back)
        self.attempt(predict(asked, known(who)), lambda: move(asked.request.id, reviewer=who))

    @rule(
        who=ABSENT, deputy=SPELT,
        since=st.sampled_from([0, 0, 1, 60_000]), lasts=MOMENT,
    )  # fmt: skip
    def leave(self, who: str, deputy: str, since: int, lasts: int) -> None:
        self.leave_for(who, deputy, self.clock() + timedelta(milliseconds=since), timedelta(milliseconds=lasts))

    def leave_for(self, who: str, deputy: str, from_: Any, lasts: timedelta) -> None:
        if known(deputy) in (who, "anonymous"):
            return
        self.inbox.leave(reviewer=who, deputy=deputy, start=from_, until=from_ + lasts)
        self.desk.leave(who, known(deputy), from_, from_ + lasts)

    @precondition(lambda self: self.desk.absences)
    @rule(data=st.data())
    def returned(self, data: Any) -> None:
        inbox = self.inbox
        who = data.draw(st.sampled_from(sorted({absence[0] for absence in self.desk.absences})))
        assert inbox.returned(reviewer=who.title()) == self.desk.returned(who)

    # --- time ------------------------------------------------------------------------------------------------------

    @rule(by=MOMENT)
    def wait(self, by: int) -> None:
        self.clock.advance(timedelta(milliseconds=by))

    @rule(data=st.data(), early=st.sampled_from([0, 0, 1]))
    def wait_for_the_next_turn(self, data: Any, early: int) -> None:
        """Exactly until then, or a millisecond less."""
        due = [a.terms.schedule[a.fired].at for a in self.desk.asked.values() if a.fired < len(a.terms.schedule)]
        if due:
            until = data.draw(st.sampled_from(due)) - timedelta(milliseconds=early)
            self.clock.advance(max(timedelta(0), until - self.clock()))

    @rule()
    def sweep(self) -> None:
        ledger = self.inbox.ledger
        came = ledger.write(schedule.sweep, ledger.now_ms())
        assert [(c.request.id, c.turn.then) for c in came] == self.desk.sweep()
        assert ledger.write(schedule.sweep, ledger.now_ms()) == []

    # --- what the graph does ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.desk.asked)
    @rule(data=st.data(), end=st.sampled_from(["delivered", "delivered", "superseded", "cancelled"]))
    def close(self, data: Any, end: Any) -> None:
        asked = self.pick(data, lambda asked: True)
        if end == "delivered" and asked.state != "decided":
            return
        self.inbox.ledger.write(requests.close, self.ledger.now_ms(), asked.request, end, "test")
        asked.state = end if asked.state in ("pending", "decided") else asked.state

    @precondition(lambda self: any(a.decision for a in self.desk.asked.values()))
    @rule(data=st.data(), wanted=st.sampled_from(["decided", "decided", "shown", "other"]))
    def run_it(self, data: Any, wanted: str) -> None:
        self.start(self.pick(data, lambda asked: asked.decision), wanted)

    @precondition(lambda self: self.desk.asked)
    @rule(data=st.data())
    def run_what_waits(self, data: Any) -> None:
        self.start(self.pick(data), "shown")

    def start(self, asked: Asked, wanted: str) -> None:
        ledger, decision = self.inbox.ledger, asked.decision
        meant_args = {"approve": SHOWN, "edit": decision.args}.get(decision.type) if decision else None
        args: Any = {"decided": meant_args or SHOWN, "shown": SHOWN, "other": {"eur": 4}}[wanted]
        action = Action(name="pay", args=args)
        key, thread = str(asked.request.action_key), asked.request.thread_id
        may = asked.state in ("decided", "delivered") and meant_args is not None and args == meant_args
        authority = Authority("test", asked.request.id)
        try:
            begun = ledger.write(effects.start, ledger.now_ms(), key, 1, thread, action, authority)
        except PermitError:
            assert not may or asked.permit == "redacted"
            return
        if asked.permit is not None:
            assert isinstance(begun, {"reserved": Busy, "done": Finished}[asked.permit])
            return
        assert may
        assert isinstance(begun, Begun)
        asked.permit = "reserved"
        recount(self.ledger, asked.request.id, action)

    @precondition(lambda self: any(a.permit == "reserved" for a in self.desk.asked.values()))
    @rule()
    def finish(self) -> None:
        asked = next(a for a in self.desk.asked.values() if a.permit == "reserved")
        ledger, permit = self.inbox.ledger, f"{asked.request.action_key}#1"
        ledger.write(effects.settle, ledger.now_ms(), permit, "done", type_="msgpack", result=b"x")
        asked.permit = "done"

    @precondition(lambda self: any(a.permit == "done" or a.state == "decided" for a in self.desk.asked.values()))
    @rule(thread=st.sampled_from(["t0", "t1"]), really=st.integers(0, 3))
    def redact(self, thread: str, really: int) -> None:
        of_it = [a for a in self.desk.asked.values() if a.request.thread_id == thread]
        if really or any(a.permit == "reserved" for a in of_it):
            return
        self.inbox.ledger.redact(thread, actor="admin", reason="asked for")
        for asked in of_it:
            asked.state = "cancelled" if asked.state in ("pending", "decided") else asked.state
            asked.decision, asked.redacted, asked.request = None, True, asked.request.model_copy(update={"terms": None})
            asked.votes, asked.gifts, asked.claims = {}, [], {}
            asked.permit = asked.permit and "redacted"
            self.decided.pop(asked.request.id, None)

    # --- after each step -------------------------------------------------------------------------------------------

    @invariant()
    def the_log_agrees(self) -> None:
        report = self.ledger.verify_audit(self.anchor)
        assert report.ok, report.problem
        self.anchor = report.head

    @invariant()
    def all_stands_as_it_has_to(self) -> None:
        inbox = self.inbox
        for key, asked in self.desk.asked.items():
            request = inbox.get(key)
            assert (request.state, request.decision) == (asked.state, asked.decision)
            if request.decision is not None:
                assert self.decided.setdefault(key, request.decision) == request.decision
                assert {known(name) for name in str(request.reviewer).split(", ")} == asked.by
            if asked.redacted:
                continue
            assert (request.stage, request.fired) == (asked.stage, asked.fired)
            self.standing_is_right(inbox, asked)
            assert self.desk.turns.get(key, []) == [turn.then for turn in asked.terms.schedule[: asked.fired]]

    def standing_is_right(self, inbox: Inbox, asked: Asked) -> None:
        standing = inbox.standing(asked.request.id)
        assert set(standing.reviewers) == set(asked.selectors())
        votes = [
            (known(v.reviewer), known(v.behalf or v.reviewer), v.stage, proposed(v.decision), sorted(v.rights))
            for v in standing.votes
        ]
        assert sorted(votes) == sorted(
            (name, v.whose, v.stage, proposed(v.decision), sorted(v.roles)) for name, v in asked.votes.items()
        )
        given = [d for d in standing.delegations if not d.back and d.stage == asked.stage]
        assert [(known(d.by), known(d.to)) for d in given] == [(g.by, g.to) for g in asked.standing_gifts()]
        if asked.state == "pending":
            left = asked.terms.stages[asked.stage].quorum - asked.best()
            assert standing.missing.startswith(f"{left} of ")
            holding = {known(claim.reviewer) for claim in standing.claims}
            assert holding == {name for name, until in asked.claims.items() if until > self.desk.now_ms}
            assert standing.upcoming == asked.terms.schedule[asked.fired :]
        else:
            assert (standing.missing, standing.claims, standing.upcoming) == ("", (), ())

    @invariant()
    def everybody_sees_what_they_may_decide(self) -> None:
        inbox = self.inbox
        for number, name in enumerate(EVERYBODY):
            spelt = SPELLINGS[number % len(SPELLINGS)](name)
            seen = {request.id for request in inbox.pending(reviewer=spelt, limit=2 + number % 2)}
            if len(seen) == 2 + number % 2:
                seen |= {r.id for r in inbox.pending(reviewer=spelt)}
            assert seen == {key for key, asked in self.desk.asked.items() if self.desk.open_to(asked, name)}, name


def explore(folder: Path, examples: int, steps: int) -> None:
    People.folder = folder
    run_state_machine_as_test(
        People,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
            phases=[Phase.explicit, Phase.generate],
        ),
    )  # fmt: skip


def test_people_in_any_order(tmp_path: Path, engine: str) -> None:
    explore(tmp_path, {"sqlite": 30, "postgres": 8}[engine], 25)


@pytest.mark.slow
def test_people_in_any_order_for_longer(tmp_path: Path, engine: str) -> None:
    explore(tmp_path, {"sqlite": 70, "postgres": 15}[engine], 35)
