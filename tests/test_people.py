"""Who may decide, and how many of them have to: through the inbox, on both databases."""

from datetime import timedelta
from typing import Any

import pytest

from hitl_graph.card import version
from hitl_graph.errors import (
    AlreadyDecidedError,
    AlreadyVotedError,
    ClaimedError,
    InvalidDecisionError,
    NotEntitledError,
    PolicyError,
    StaleRequestError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, handling, requests, schedule
from hitl_graph.model import WORDS, Action, Request, Word, approve, edit, reject, request_id
from hitl_graph.policy import Call, Deadline, Escalate, Policy, Rule, Stage
from hitl_graph.reviewers import Reviewer, StaticDirectory, same, selects
from hitl_graph.terms import Terms
from hitl_graph.testing import FakeClock
from hitl_graph.voting import satisfied, supporting
from tests.databases import open_ledger

pytestmark = pytest.mark.both_databases

PEOPLE = StaticDirectory(
    [
        Reviewer("alice", ["finance"]),
        Reviewer("bob", ["finance", "legal"], ["oncall"]),
        Reviewer("carol", ["legal"]),
        Reviewer("mia", ["manager"]),
        Reviewer("sam", ["security"]),
    ]
)


class Desk:
    """A ledger with one request on given terms."""

    def __init__(self, db_path: str, clock: FakeClock) -> None:
        self.clock = clock
        self.ledger: Ledger = open_ledger(db_path)
        self.ledger.clock, self.ledger.directory = clock, PEOPLE
        self.inbox = Inbox(self.ledger)
        self.asked = 0

    def ask(self, rule: dict[str, Any], allowed: tuple[Word, ...] = WORDS, **terms: Any) -> Request:
        verdict = Policy([Rule("pay", "ask", **rule)]).judge(Call("pay", {}))
        on = verdict.terms or Terms()
        if verdict.deadline:
            terms["schedule"] = verdict.deadline.schedule(self.clock())
        self.asked += 1
        interrupt = f"{self.asked:032x}"
        request = Request(
            id=request_id("t", interrupt), kind="approval", thread_id="t", interrupt_id=interrupt,
            action=Action(name="pay", args={"eur": 5}), action_key=f"key {self.asked}", allowed=allowed,
            terms=on.model_copy(update=terms),
        )  # fmt: skip
        self.ledger.write(
            requests.open_request, self.ledger.now_ms(), request, checkpoint_id="c", task_id="k", parked=1
        )
        return request

    def away(self, who: str, deputy: str, for_: timedelta = timedelta(days=1)) -> None:
        self.inbox.leave(reviewer=who, deputy=deputy, until=self.clock() + for_)

    def sweep(self) -> list[str]:
        return [came.turn.then for came in self.ledger.write(schedule.sweep, self.ledger.now_ms())]


@pytest.fixture
def desk(db_path: str) -> Any:
    made = Desk(db_path, FakeClock())
    yield made
    assert made.ledger.verify_audit().problem is None
    made.ledger.close()


@pytest.mark.parametrize(
    ("selector", "means"),
    [
        ("alice", ["alice"]),
        ("ALICE", ["alice"]),
        ("user:alice", ["alice"]),
        ("role:finance", ["alice", "bob"]),
        ("group:oncall", ["bob"]),
        ("role:finance and not group:oncall", ["alice"]),
        ("role:finance and role:legal", ["bob"]),
        ("(role:manager or role:legal) and not bob", ["carol", "mia"]),
        ("*", ["alice", "bob", "carol", "mia", "sam"]),
        ("role:Finance", []),
    ],
)
def test_a_selector_means_these_people(selector: str, means: list[str]) -> None:
    names = ("alice", "bob", "carol", "mia", "sam")
    assert [name for name in names if selects(selector, PEOPLE(name) or Reviewer(name))] == means
    assert not selects("not bob", Reviewer("anonymous"))
    assert not selects("anonymous", Reviewer("anonymous"))


def test_only_those_whom_the_rule_names_decide(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"]})
    for name in ("carol", "stranger", "anonymous"):
        with pytest.raises(NotEntitledError, match=r"Needed: role:finance\. Nothing was recorded"):
            desk.inbox.decide(request.id, approve(), reviewer=name)
    assert desk.inbox.pending(reviewer="carol") == []
    assert [r.id for r in desk.inbox.pending(reviewer="alice")] == [request.id]
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "decided"


def test_a_quorum_takes_different_people_who_agree_on_the_same(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance", "role:legal"], "quorum": 2})
    assert desk.inbox.standing(request.id).missing == "2 of role:finance or role:legal"
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "pending"
    for same_person in ("alice", " Alice ", "ALICE"):
        with pytest.raises(AlreadyDecidedError):
            desk.inbox.decide(request.id, approve(), reviewer=same_person)
    assert desk.inbox.decide(request.id, edit({"eur": 4}), reviewer="bob").state == "pending"  # not the same
    assert desk.inbox.standing(request.id).missing == "1 of role:finance or role:legal"
    assert desk.inbox.decide(request.id, edit({"eur": 4}), reviewer="Alice").decision == edit({"eur": 4})
    assert desk.inbox.get(request.id).reviewer == "bob, alice"
    with pytest.raises(AlreadyDecidedError):
        desk.inbox.decide(request.id, edit({"eur": 4}), reviewer="carol")


def test_an_answer_to_what_has_moved_on_is_refused(desk: Desk) -> None:
    """A door that says how far the request was when it was shown is told of every vote that came between."""
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    shown = version(request, desk.inbox.standing(request.id))
    desk.inbox.decide(request.id, approve(), reviewer="bob", version=shown)
    with pytest.raises(StaleRequestError, match="since you looked"):
        desk.inbox.decide(request.id, approve(), reviewer="alice", digest=request.digest, version=shown)
    standing = desk.inbox.standing(request.id)
    assert [vote.reviewer for vote in standing.votes] == ["bob"]
    now = version(desk.inbox.get(request.id), standing)
    assert desk.inbox.decide(request.id, approve(), reviewer="alice", version=now).state == "decided"


def test_roles_can_have_to_be_distinct(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance", "role:legal"], "quorum": 2, "distinct_roles": True})
    desk.inbox.decide(request.id, approve(), reviewer="bob")  # either
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "decided"  # finance, so bob is legal
    request = desk.ask({"reviewers": ["role:finance", "role:manager"], "quorum": 2, "distinct_roles": True})
    desk.inbox.decide(request.id, approve(), reviewer="bob")
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "pending"  # both are finance
    assert desk.inbox.decide(request.id, approve(), reviewer="mia").state == "decided"


def test_stages_follow_one_another(desk: Desk) -> None:
    request = desk.ask({"stages": [["role:manager"], Stage(reviewers=("role:finance",), quorum=2)]})
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(request.id, approve(), reviewer="alice")
    assert desk.inbox.standing(request.id).missing == "1 of role:manager, then 2 of role:finance"
    assert desk.inbox.decide(request.id, approve(), reviewer="mia").stage == 1
    assert desk.inbox.pending(reviewer="mia") == []
    with pytest.raises(InvalidDecisionError, match="mia agreed to it as shown"):
        desk.inbox.decide(request.id, edit({"eur": 1}), reviewer="alice")
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer="bob").reviewer == "mia, alice, bob"


def test_nobody_decides_on_their_own_request(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"]}, excluded=("Alice",))
    with pytest.raises(NotEntitledError, match="as it is their own"):
        desk.inbox.decide(request.id, approve(), reviewer="alice")
    with pytest.raises(NotEntitledError, match="cannot be delegated to them"):
        desk.inbox.delegate(request.id, "alice", reviewer="bob")
    assert desk.inbox.decide(request.id, approve(), reviewer="bob").state == "decided"


def test_a_veto_ends_it_at_once(desk: Desk) -> None:
    rule = {"reviewers": ["role:finance"], "quorum": 2, "veto": ["role:security"], "rejects": 2}
    request = desk.ask(rule)
    assert desk.inbox.decide(request.id, reject("no"), reviewer="alice").state == "pending"
    with pytest.raises(InvalidDecisionError, match="sam may only reject it"):
        desk.inbox.decide(request.id, approve(), reviewer="sam")
    assert desk.inbox.decide(request.id, reject("never"), reviewer="sam").decision == reject("never")
    request = desk.ask(rule)
    desk.inbox.decide(request.id, reject("no"), reviewer="alice")
    desk.inbox.decide(request.id, approve(), reviewer="alice")  # she changed her mind
    assert desk.inbox.decide(request.id, reject("no"), reviewer="bob").state == "pending"
    assert desk.inbox.standing(request.id).missing == "1 of role:finance; or 1 more to reject it"


def test_a_claim_holds_for_its_lease(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"]})
    desk.inbox.claim(request.id, reviewer="alice", lease=timedelta(minutes=5))
    with pytest.raises(ClaimedError, match="alice has claimed it until"):
        desk.inbox.decide(request.id, approve(), reviewer="bob")
    with pytest.raises(NotEntitledError):
        desk.inbox.claim(request.id, reviewer="carol")
    desk.clock.advance(timedelta(minutes=5))
    desk.inbox.claim(request.id, reviewer="bob")
    assert [claim.reviewer for claim in desk.inbox.standing(request.id).claims] == ["bob"]
    desk.inbox.hand_back(request.id, reviewer="bob")
    with pytest.raises(StaleRequestError, match="neither claimed it nor been given"):
        desk.inbox.hand_back(request.id, reviewer="bob")
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "decided"


def test_a_delegated_vote_is_used_once_and_the_chain_is_kept(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.inbox.delegate(request.id, "dave", reviewer="alice", comment="on leave")
    desk.inbox.delegate(request.id, "erin", reviewer="dave")
    assert [r.id for r in desk.inbox.pending(reviewer="erin")] == [request.id]
    for gave in ("alice", "dave"):
        with pytest.raises(NotEntitledError, match="gave their vote to somebody else"):
            desk.inbox.decide(request.id, approve(), reviewer=gave)
    with pytest.raises(StaleRequestError, match="has given or got it already"):
        desk.inbox.delegate(request.id, "alice", reviewer="erin")
    assert desk.inbox.decide(request.id, approve(), reviewer="erin").state == "pending"
    with pytest.raises(StaleRequestError, match="erin has voted with it already"):
        desk.inbox.take_back(request.id, reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer="bob").state == "decided"
    chain = [(step.by, step.to, step.comment) for step in desk.inbox.standing(request.id).delegations]
    assert chain == [("alice", "dave", "on leave"), ("dave", "erin", None)]
    assert [(v.reviewer, v.behalf) for v in desk.inbox.standing(request.id).votes] == [("bob", None), ("erin", "alice")]


def test_a_delegated_vote_goes_back(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"]})
    desk.inbox.delegate(request.id, "dave", reviewer="alice")
    desk.inbox.hand_back(request.id, reviewer="dave")
    desk.inbox.delegate(request.id, "dave", reviewer="alice")
    desk.inbox.take_back(request.id, reviewer="alice")
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(request.id, approve(), reviewer="dave")
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "decided"


def test_one_name_is_one_person_however_it_is_written() -> None:
    for other in ("ALICE", " alice ", "ali\u200bce", "\uff21lice", "alice\ufe0f"):
        assert same("alice", other)
    assert same("Zo\u00eb  M\u00fcller", "zoe\u0308 mu\u0308ller")
    assert not same("alice", "\u0430lice")  # Cyrillic: another name, for which the authentication answers
    with pytest.raises(ValueError, match="needs a name"):
        Reviewer("\u200b")


def test_a_delegated_vote_counts_as_what_its_giver_was(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance", "role:legal"], "quorum": 2, "distinct_roles": True})
    desk.inbox.delegate(request.id, "dave", reviewer="alice")
    desk.inbox.delegate(request.id, "erin", reviewer="dave")
    desk.inbox.decide(request.id, approve(), reviewer="erin")
    assert desk.inbox.decide(request.id, approve(), reviewer=Reviewer("fred", ["finance"])).state == "pending"
    assert desk.inbox.decide(request.id, approve(), reviewer="carol").state == "decided"


def test_a_used_vote_is_neither_handed_nor_taken_nor_given_back(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.inbox.delegate(request.id, "dave", reviewer="alice")
    desk.inbox.delegate(request.id, "erin", reviewer="dave")
    desk.inbox.decide(request.id, approve(), reviewer="erin")
    for name in ("alice", "dave"):
        with pytest.raises(StaleRequestError, match="erin has voted with it already"):
            desk.inbox.take_back(request.id, reviewer=name)
    with pytest.raises(StaleRequestError):
        desk.inbox.hand_back(request.id, reviewer="erin")
    desk.inbox.decide(request.id, reject("no"), reviewer="erin")  # a change of mind is none of these
    assert desk.inbox.get(request.id).reviewer == "erin"


def test_whoever_votes_in_their_own_right_leaves_a_delegated_vote_unused(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.inbox.delegate(request.id, "bob", reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer="bob").state == "pending"
    with pytest.raises(AlreadyVotedError, match="nobody counts twice; it still waits"):
        desk.inbox.decide(request.id, approve(), reviewer="bob")
    desk.inbox.take_back(request.id, reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").reviewer == "bob, alice"


def test_a_veto_holds_whatever_else_somebody_is(desk: Desk) -> None:
    both = {"reviewers": ["role:finance", "role:security"], "quorum": 2, "veto": ["role:security"], "rejects": 3}
    request = desk.ask(both)
    desk.inbox.decide(request.id, approve(), reviewer="sam")  # may vote, too
    with pytest.raises(AlreadyVotedError):
        desk.inbox.decide(request.id, approve(), reviewer="sam")
    assert desk.inbox.decide(request.id, reject("wait"), reviewer="sam").state == "decided"
    staged = {"stages": [["role:security"], ["role:finance"]], "veto": ["role:security"]}
    request = desk.ask(staged)
    desk.inbox.decide(request.id, approve(), reviewer="sam")
    desk.inbox.claim(request.id, reviewer="alice")
    with pytest.raises(NotEntitledError, match="needs no claim"):
        desk.inbox.claim(request.id, reviewer="sam")
    assert desk.inbox.decide(request.id, reject("found something"), reviewer="sam").decision == reject(
        "found something"
    )
    request = desk.ask({"reviewers": ["role:finance"], "veto": ["role:security"]})
    with pytest.raises(NotEntitledError, match="cannot be delegated"):
        desk.inbox.delegate(request.id, "dave", reviewer="sam")


def test_a_claim_holds_nobody_up_for_good(desk: Desk) -> None:
    with pytest.raises(ValueError, match="1 day"):
        desk.inbox.claim("abcd", reviewer="alice", lease=timedelta(days=365))
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    desk.inbox.claim(request.id, reviewer="bob")
    assert desk.inbox.pending(reviewer=Reviewer("fred", ["finance"])) == []
    assert desk.inbox.decide(request.id, reject("my mistake"), reviewer="alice").state == "decided"
    deadline = Deadline(timedelta(hours=9), escalate=(Escalate(timedelta(hours=1), ("role:manager",)),))
    request = desk.ask({"reviewers": ["role:finance"], "deadline": deadline})
    desk.inbox.claim(request.id, reviewer="alice", lease=timedelta(hours=8))
    desk.clock.advance(timedelta(hours=1))
    assert desk.inbox.decide(request.id, approve(), reviewer="mia").state == "decided"
    request = desk.ask({})
    with pytest.raises(NotEntitledError, match="a claim has to be somebody's"):
        desk.inbox.claim(request.id, reviewer="anonymous")


def test_a_deputy_votes_for_whoever_is_away_once(desk: Desk) -> None:
    now = desk.clock()
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.inbox.leave(reviewer="alice", deputy="dave", start=now + timedelta(hours=1), until=now + timedelta(days=2))
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(request.id, approve(), reviewer="dave")
    desk.clock.advance(timedelta(hours=1))
    assert [r.id for r in desk.inbox.pending(reviewer="Dave")] == [request.id]
    with pytest.raises(NotEntitledError):
        desk.inbox.delegate(request.id, "erin", reviewer="dave")
    assert desk.inbox.decide(request.id, approve(), reviewer="dave").state == "pending"
    assert desk.inbox.pending(reviewer="dave") == desk.inbox.pending(reviewer="alice") == []
    with pytest.raises(AlreadyVotedError):
        desk.inbox.decide(request.id, approve(), reviewer="alice")
    with pytest.raises(StaleRequestError):
        desk.inbox.delegate(request.id, "erin", reviewer="alice")
    desk.inbox.decide(request.id, edit({"eur": 4}), reviewer="dave")  # a deputy may change their mind
    assert [(a.reviewer, a.deputy) for a in desk.inbox.absences()] == [("alice", "dave")]
    assert desk.inbox.returned(reviewer="ALICE") == 1
    assert desk.inbox.absences() == []
    assert desk.inbox.decide(request.id, edit({"eur": 4}), reviewer="bob").reviewer == "dave, bob"
    later = desk.ask({"reviewers": ["role:finance"]})
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(later.id, approve(), reviewer="dave")


def test_a_deputy_is_bound_by_the_rule_and_has_no_deputy(desk: Desk) -> None:
    until = desk.clock() + timedelta(days=2)
    desk.inbox.leave(reviewer="alice", deputy="mia", until=until)
    desk.inbox.leave(reviewer="mia", deputy="dave", until=until)
    request = desk.ask({"reviewers": ["role:finance"], "delegates": ["role:finance"]})
    for name in ("mia", "dave"):
        with pytest.raises(NotEntitledError):
            desk.inbox.decide(request.id, approve(), reviewer=name)
    own = desk.ask({"reviewers": ["role:finance"]}, excluded=("alice",))
    with pytest.raises(NotEntitledError):  # what alice may not do, nobody does for her
        desk.inbox.decide(own.id, approve(), reviewer="mia")
    faults: list[dict[str, Any]] = [
        {"deputy": "Alice"},
        {"deputy": "bob", "until": desk.clock()},
        {"deputy": "anonymous"},
    ]
    for wrong in faults:
        with pytest.raises(ValueError, match=r"somebody else as a deputy|ends after it begins"):
            desk.inbox.leave(**{"reviewer": "alice", "until": until, **wrong})


def test_only_those_who_agreed_count_for_stricter_terms(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance", "role:legal"], "quorum": 2, "rejects": 2})
    desk.inbox.decide(request.id, reject("no"), reviewer="carol")
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    decided = desk.inbox.decide(request.id, approve(), reviewer="bob")
    votes = supporting(decided, desk.inbox.standing(request.id).votes)
    assert sorted(vote.reviewer for vote in votes) == ["alice", "bob"]
    strict = Terms(stages=(Stage(quorum=1),), excluded=("dave",))
    assert not satisfied(strict, None, [("dave", PEOPLE("alice") or Reviewer("alice"))])  # he used her vote
    assert satisfied(strict, None, [("erin", PEOPLE("alice") or Reviewer("alice"))])


def test_asking_again_voids_votes_and_claims(desk: Desk) -> None:
    request = desk.ask({"stages": [["role:manager"], ["role:finance"]]})
    desk.inbox.decide(request.id, approve(), reviewer="mia")
    desk.inbox.claim(request.id, reviewer="alice", lease=timedelta(hours=2))
    decided = desk.inbox.decide(request.id, approve(), reviewer="alice")
    desk.ledger.write(requests.reopen, desk.ledger.now_ms(), decided, "it does not fit")
    again = desk.inbox.standing(request.id)
    assert (again.stage, again.votes, again.claims, again.missing) == (
        0, (), (), "1 of role:manager, then 1 of role:finance",
    )  # fmt: skip
    assert [r.id for r in desk.inbox.pending(reviewer="mia")] == [request.id]


def test_a_deadline_rejects_and_comes_before_a_late_answer(desk: Desk) -> None:
    deadline = Deadline(
        timedelta(hours=4), remind=(timedelta(hours=1),), escalate=(Escalate(timedelta(hours=2), ("role:manager",)),)
    )
    request = desk.ask({"reviewers": ["role:finance"], "deadline": deadline})
    assert desk.sweep() == []
    desk.clock.advance(timedelta(hours=1))
    assert desk.sweep() == ["remind"]
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(request.id, approve(), reviewer="mia")
    desk.clock.advance(timedelta(hours=1))  # no sweeper runs, and yet it is time
    assert [r.id for r in desk.inbox.pending(reviewer="mia")] == []
    desk.clock.advance(timedelta(hours=2))
    with pytest.raises(AlreadyDecidedError, match="reject by deadline"):
        desk.inbox.decide(request.id, approve(), reviewer="mia")
    assert desk.inbox.get(request.id).decision == reject("Nobody decided by 2030-01-01 13:00 UTC.")
    assert desk.sweep() == []


def test_an_escalation_lets_others_decide(desk: Desk) -> None:
    deadline = Deadline(timedelta(hours=2), then="escalate", to=("role:manager",))
    request = desk.ask({"reviewers": ["role:finance"], "deadline": deadline})
    desk.clock.advance(timedelta(days=9))
    assert desk.inbox.decide(request.id, approve(), reviewer="mia").state == "decided"


def test_rules_that_ask_want_together_never_less_than_each() -> None:
    policy = Policy(
        [
            Rule("*", "ask"),
            Rule("wire", "ask", reviewers=["role:finance"], exclude=["requester"], deadline=timedelta(hours=4)),
            Rule("wire", "ask", quorum=3, veto=["role:security"], editable=("eur",), allowed=("approve", "edit")),
            Rule("wire", "ask", deadline=timedelta(hours=1), on_deadline="approve"),
        ]
    )
    verdict = policy.judge(Call("wire", {}))
    assert verdict.terms == Terms(stages=(Stage(reviewers=("role:finance",)), Stage(quorum=2)), veto=("role:security",))
    assert verdict.exclude == ("requester",)
    assert verdict.deadline == Deadline(timedelta(hours=4), "reject")
    assert (verdict.allowed, verdict.editable) == (("approve", "edit"), ("eur",))
    assert Policy([Rule("wire", "deny"), Rule("wire", "ask", quorum=2)]).judge(Call("wire", {})).outcome == "deny"


def test_a_rule_that_does_not_ask_has_no_people() -> None:
    with pytest.raises(PolicyError, match="only a rule that asks has people"):
        Rule("pay", "allow", quorum=2)


def test_a_stage_confirms_what_the_stage_before_agreed_on_not_what_one_of_it_wanted(desk: Desk) -> None:
    frank = Reviewer("frank", ["finance"])
    request = desk.ask({"stages": [Stage(reviewers=("role:finance",), quorum=2), ["role:legal"]]})
    desk.inbox.decide(request.id, edit({"eur": 1_000_000}), reviewer="bob")
    desk.clock.advance(timedelta(minutes=1))
    desk.inbox.decide(request.id, approve(), reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer=frank).stage == 1
    with pytest.raises(InvalidDecisionError, match="alice agreed to it as shown"):
        desk.inbox.decide(request.id, edit({"eur": 1_000_000}), reviewer="carol")
    assert desk.inbox.decide(request.id, approve(), reviewer="carol").reviewer == "alice, frank, carol"


def test_a_veto_holds_for_reviewers_too_and_whatever_became_of_their_vote(desk: Desk) -> None:
    fay = Reviewer("fay", ["finance", "security"])
    rule = {"stages": [["role:finance"], ["role:legal"]], "veto": ["role:security"], "rejects": 2}
    request = desk.ask(rule)
    assert desk.inbox.decide(request.id, reject("no"), reviewer=fay).decision == reject("no")  # she alone
    request = desk.ask(rule)
    assert desk.inbox.decide(request.id, approve(), reviewer=fay).stage == 1
    with pytest.raises(AlreadyDecidedError):
        desk.inbox.decide(request.id, approve(), reviewer=fay)
    assert desk.inbox.decide(request.id, reject("after all"), reviewer=fay).reviewer == "fay"
    request = desk.ask(rule)
    desk.inbox.delegate(request.id, "dave", reviewer=fay)
    desk.inbox.claim(request.id, reviewer="dave")
    assert desk.inbox.decide(request.id, reject("no"), reviewer=fay).state == "decided"
    request = desk.ask(rule)
    desk.away("fay", "dave")
    desk.ledger.directory = lambda name: fay if name == "fay" else PEOPLE(name)
    desk.inbox.decide(request.id, approve(), reviewer="dave")
    assert desk.inbox.decide(request.id, reject("no"), reviewer=fay).state == "decided"


def test_whose_vote_was_used_has_nothing_left_to_decide(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"], "quorum": 2})
    desk.away("alice", "dave")
    desk.inbox.decide(request.id, approve(), reviewer="dave")
    assert desk.inbox.pending(reviewer="alice") == []
    with pytest.raises(AlreadyDecidedError):
        desk.inbox.decide(request.id, approve(), reviewer="alice")
    assert [r.id for r in desk.inbox.pending(reviewer="bob")] == [request.id]


def test_who_has_only_a_veto_can_be_a_deputy(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"], "veto": ["role:security"]})
    desk.away("alice", "sam")
    assert desk.inbox.decide(request.id, approve(), reviewer="sam").state == "decided"


def test_who_loses_a_vote_loses_their_claim(desk: Desk) -> None:
    request = desk.ask({"reviewers": ["role:finance"]})
    desk.inbox.delegate(request.id, "dave", reviewer="alice")
    desk.inbox.claim(request.id, reviewer="dave")
    desk.inbox.take_back(request.id, reviewer="alice")
    assert desk.inbox.decide(request.id, approve(), reviewer="alice").state == "decided"


def test_silence_approves_only_what_nobody_wanted_otherwise(desk: Desk) -> None:
    by_silence = Deadline(timedelta(hours=1), then="approve")
    rule = {"reviewers": ["role:finance"], "quorum": 2, "rejects": 2, "deadline": by_silence}
    unanswered, agreed, refused, edited = (desk.ask(rule) for _ in range(4))
    desk.inbox.decide(agreed.id, approve(), reviewer="alice")
    desk.inbox.decide(refused.id, reject("no"), reviewer="alice")
    desk.inbox.decide(edited.id, edit({"eur": 1}), reviewer="alice")
    never = desk.ask(rule, allowed=("edit", "reject"))
    desk.clock.advance(timedelta(hours=1))
    desk.sweep()
    came = [desk.inbox.get(r.id).decision for r in (unanswered, agreed, refused, edited, never)]
    assert [d and d.type for d in came] == ["approve", "approve", None, None, None]


@pytest.mark.parametrize("name", ["Erin", "Éric", "CORP\\erin", 'e"rin', "er_n%"])
def test_a_delegated_request_is_in_the_inbox_however_the_name_is_written(desk: Desk, name: str) -> None:
    request = desk.ask({"reviewers": ["role:finance"]})
    desk.inbox.delegate(request.id, name, reviewer="alice")
    for spelt in (name, name.upper(), f" {name.lower()} "):
        assert [r.id for r in desk.inbox.pending(reviewer=spelt)] == [request.id], spelt
    assert desk.inbox.pending(reviewer="frank") == []


FINANCE, LEGAL = Stage(reviewers=("role:finance",)), Stage(reviewers=("role:legal",))
EITHER: Any = {"reviewers": ["role:finance", "role:legal"]}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"stages": [FINANCE, Stage(quorum=2)]}, {"stages": [LEGAL]}, (FINANCE, LEGAL, Stage())),
        ({"stages": [FINANCE, FINANCE]}, {"stages": [LEGAL]}, (FINANCE, FINANCE, LEGAL)),
        ({"stages": [FINANCE, FINANCE]}, {"stages": [FINANCE]}, (FINANCE, FINANCE)),
        (
            {**EITHER, "quorum": 2, "distinct_roles": True},
            {**EITHER, "quorum": 3},
            (Stage(**EITHER, quorum=2, distinct_roles=True), Stage(**EITHER)),
        ),
    ],
)
def test_two_rules_that_ask_lose_nobody(one: Any, other: Any, together: Any) -> None:
    verdict = Policy([Rule("pay", "ask", **one), Rule("pay", "ask", **other)]).judge(Call("pay", {}))
    assert verdict.terms == Terms(stages=together)


def test_an_absence_that_ends_while_the_directory_is_asked_lets_nobody_decide(desk: Desk) -> None:
    def directory(name: str) -> Reviewer | None:
        if name == "alice":
            desk.ledger.write(handling.returned, desk.ledger.now_ms(), "alice", actor="alice")
        return PEOPLE(name)

    request = desk.ask({"reviewers": ["role:finance"]})
    desk.away("alice", "dave")
    desk.ledger.directory = directory
    with pytest.raises(NotEntitledError):
        desk.inbox.decide(request.id, approve(), reviewer="dave")
