"""One look of a request for all doors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hitl_graph.card import Event, answers_of, card, news, version
from hitl_graph.facts import Finding as Found
from hitl_graph.facts import Inquiry, Situation
from hitl_graph.form import MISSING
from hitl_graph.handling import Claim, Delegation, Handling
from hitl_graph.model import Action, Comment, Finding, Request, Review, approve, edit, reject, respond
from hitl_graph.reviewers import Reviewer
from hitl_graph.terms import Fresh, Origin, Stage, Terms, Turn
from hitl_graph.voting import Standing, Vote, standing

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "body": {"type": "string"},
        "to": {"type": "string", "description": "Who"},
        "cc": {"type": "string"},
    },
    "required": ["to", "body"],
}


def asked(**more: Any) -> Request:
    base = {
        "id": "1" * 20, "kind": "approval", "thread_id": "t", "interrupt_id": "i", "created_at": NOW,
        "action": Action(name="send", args={"body": "hello", "to": "bob"}), "answer_schema": SCHEMA,
    }  # fmt: skip
    return Request.model_validate({**base, **more})


def how_far(request: Request, *votes: Vote) -> Standing:
    return standing(request, votes, round(NOW.timestamp() * 1000))


def look(request: Request, *votes: Vote, **more: Any) -> Any:
    return card(request, how_far(request, *votes), now=NOW, **more)


def vote(name: str, decision: Any = None, stage: int = 0) -> Vote:
    return Vote(name, decision or approve(), "web", NOW, stage)


def test_a_call_is_told_in_words_with_its_arguments_in_the_tool_s_order() -> None:
    seen = look(asked(editable=("to",), reason="always", origin=Origin(requester="eve", graph="g", version="2")))
    assert seen.heading == "The agent of thread t wants to call send"
    assert seen.summary == 'send(to="bob", body="hello")'
    assert [(f.name, f.value, f.kind, f.editable, f.given) for f in seen.fields] == [
        ("to", "bob", "text", True, True),
        ("body", "hello", "text", False, True),
        ("cc", None, "nothing", False, False),
    ]
    assert seen.fields[0].hint == "Who"
    assert seen.origin == (("for", "eve"), ("graph", "g 2"))
    assert (seen.shown, seen.draft, seen.question, seen.evidence, seen.outcome) == (None,) * 5


def test_the_answers_say_what_they_mean_and_take() -> None:
    approval = {answer.word: answer for answer in answers_of(asked(editable=("to",)))}
    assert approval["approve"].means == "send runs once, exactly as shown"
    assert approval["approve"].grant
    assert approval["edit"].means.endswith("Only these may change: to")
    assert approval["edit"].form is not None
    assert [(f.key, f.locked) for f in approval["edit"].form.fields] == [("/to", False), ("/body", True), ("/cc", True)]
    assert approval["respond"].text == "must"
    assert not answers_of(asked(grantable=False))[0].grant
    labelled = asked(labels={"reject": "the \u202eworld ends"}, allowed=("reject",))
    assert answers_of(labelled)[0].means == r"the \u202eworld ends"


def test_a_review_an_escalation_and_questions_take_what_they_need() -> None:
    def words(**more: Any) -> dict[str, Any]:
        base = {"action": None, "answer_schema": None}
        return {answer.word: answer for answer in answers_of(asked(**{**base, **more}))}

    review = words(kind="review", draft="a draft")
    assert (review["respond"].comments, review["respond"].label) == (True, "Send back")
    assert review["edit"].form.value == "a draft"
    stuck = Situation(findings=(Found(kind="x", sentence="s"),), state={"n": 1}).model_dump(mode="json")
    state = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "string"}}}
    escalation = words(kind="escalation", question=stuck, answer_schema=state)
    assert escalation["edit"].changes
    assert [(f.key, f.value) for f in escalation["edit"].form.fields] == [("/n", 1), ("/m", MISSING)]
    options = Inquiry(question="q", options=("a", "b")).model_dump(mode="json")
    asks = {"kind": "question", "allowed": ("reject", "respond")}
    chosen = words(**asks, question=options, answer_schema={"enum": ["a", "b"]})
    assert list(chosen) == ["respond", "reject"]
    assert (chosen["respond"].options, chosen["respond"].text) == (("a", "b"), "no")
    plain = words(**asks, question=Inquiry(question="q").model_dump(mode="json"), answer_schema={"type": "string"})
    assert (plain["respond"].text, plain["respond"].form) == ("must", None)
    raw = words(kind="question", allowed=("respond",), question={"n": 1}, answer_shape="raw")
    assert (raw["respond"].text, raw["respond"].form.value) == ("may", MISSING)


def test_a_draft_has_its_findings_and_why_the_one_before_was_sent_back() -> None:
    review = Review(
        revision=2, findings=(Finding(text="a promise", span=(0, 4), check="polite"),), previous="then",
        feedback="no", comments=(Comment(text="softer", line=1),), sent_back_by="bob", diff="-then\n+soon",
    )  # fmt: skip
    draft = look(asked(kind="review", action=None, draft="soon\nx", review=review)).draft
    assert (draft.kind, draft.revision) == ("text", 2)
    assert (draft.findings[0].where, draft.findings[0].quote, draft.findings[0].check) == (
        "characters 0-4",
        "soon",
        "polite",
    )
    assert (draft.feedback.by, draft.feedback.remarks[0].quote, draft.feedback.diff) == ("bob", "then", "-then\n+soon")
    files = look(asked(kind="review", action=None, draft=[{"path": "a.py", "content": "x"}])).draft
    assert (files.kind, [(file.path, file.text) for file in files.files]) == ("files", [("a.py", "x")])


def test_facts_and_what_changed_about_them() -> None:
    seen = look(asked(fresh=Fresh(facts={"balance": 3}, changed="-4\n+3")))
    assert [(fact.name, fact.value, fact.kind) for fact in seen.facts] == [("balance", 3, "number")]
    assert seen.changed == "-4\n+3"


FINANCE = Terms(
    stages=(Stage(reviewers=("role:finance",), quorum=2), Stage(reviewers=("boss",))), excluded=("eve",),
    veto=("legal",),
    schedule=(Turn(at=NOW + timedelta(hours=3), then="reject"),),
)  # fmt: skip


def test_who_decides_who_has_and_who_is_missing() -> None:
    people = look(asked(terms=FINANCE), vote("alice")).people
    assert people.missing == "1 of role:finance, then 1 of boss"
    assert people.votes == "1 of 2, stage 1/2"
    assert people.rules == (("stage", "1 of 2"), ("not", "eve: it is their own"), ("veto", "legal can reject it alone"))
    assert [(said.by, said.word) for said in people.said] == [("alice", "approve")]
    assert [(turn.short, turn.text) for turn in people.coming] == [
        ("rejected in 3h", "if nobody has decided, it is rejected")
    ]
    assert look(asked()).people.votes == ""


@pytest.mark.parametrize(
    ("who", "may", "says"),
    [
        (Reviewer("alice", ["finance"]), True, ""),
        (Reviewer("carol"), False, "carol may not decide it"),
        (Reviewer("eve", ["finance"]), False, "it is their own"),
        (Reviewer("anonymous"), False, "nobody was authenticated"),
    ],
)
def test_what_somebody_can_do_about_it(who: Reviewer, may: bool, says: str) -> None:
    mine = look(asked(terms=FINANCE), reviewer=who).mine
    assert (mine.may, mine.can_claim, mine.can_delegate) == (may, may, may)
    assert says in mine.why_not


def test_claims_delegations_votes_and_vetoes_of_the_one_who_looks() -> None:
    alice, bob, legal = Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("legal")
    one = Terms(stages=(Stage(reviewers=("role:finance",)),))
    claimed = asked(terms=one, handling=Handling(claims=(Claim(reviewer="alice", until=NOW + timedelta(minutes=5)),)))
    assert (look(claimed, reviewer=alice).mine.claimed, look(claimed, reviewer=alice).mine.can_hand_back) == (
        True,
        True,
    )
    assert (look(claimed, reviewer=bob).mine.held_by, look(claimed, reviewer=bob).mine.can_claim) == ("alice", False)
    step = Delegation(by="alice", to="carol", at=NOW, stage=0, rights=("role:finance",))
    given = asked(terms=one, handling=Handling(delegations=(step,)))
    assert look(given, reviewer=alice).mine.can_take_back
    assert look(given, reviewer=Reviewer("carol")).mine.behalf == "alice"
    assert look(asked(terms=FINANCE), vote("alice"), reviewer=alice).mine.voted == "approve"
    assert look(asked(terms=FINANCE), reviewer=legal).mine.only_reject
    away = look(asked(terms=one), reviewer=Reviewer("dora"), away=[alice]).mine
    assert (away.may, away.behalf, away.can_delegate) == (True, "alice", False)


def test_the_decision_and_the_news_of_it() -> None:
    decided = asked(state="decided", decision=edit({"to": "x", "body": "y"}, "fine"), reviewer="bob", channel="web")
    seen = look(decided)
    assert (seen.heading, seen.answers) == ("The agent of thread t wanted to call send", ())
    assert (seen.outcome.done, seen.outcome.said.args, seen.outcome.said.message) == (
        "edited",
        {"to": "x", "body": "y"},
        "fine",
    )
    assert news(seen) == "bob edited it"
    back = asked(kind="review", action=None, draft="d", state="decided", decision=respond("no"), reviewer="bob")
    assert news(look(back)) == "bob sent it back"
    assert news(look(asked(terms=FINANCE), vote("alice", reject("no")))) == "alice voted to reject it"
    assert news(look(asked(state="superseded", note="the run went on"))) == "it is superseded (the run went on)"


def test_another_version_means_that_somebody_did_something() -> None:
    first = asked(terms=FINANCE)
    tokens = [
        version(first, how_far(first)),
        version(first, how_far(first, vote("alice"))),
        version(first, how_far(first, vote("alice", reject()))),
        version(asked(terms=FINANCE, stage=1), how_far(first, vote("alice"))),
        version(asked(terms=FINANCE, state="superseded"), how_far(first)),
        version(asked(terms=FINANCE, note="asked again"), how_far(first)),
    ]
    assert len(set(tokens)) == len(tokens)
    claim = Handling(claims=(Claim(reviewer="bob", until=NOW + timedelta(minutes=5)),))
    held = asked(terms=FINANCE, handling=claim)
    assert version(held, how_far(held)) == tokens[0]


def test_what_happened_is_told_in_words() -> None:
    told = [
        Event.of(1, NOW, "request.opened", "graph", {}),
        Event.of(2, NOW, "request.voted", "bob", {"vote": '{"type": "reject", "message": "no"}'}),
        Event.of(3, NOW, "request.handed_back", "bob", {}),
        Event.of(4, NOW, "request.seen", "bob", {"channel": "web"}),
    ]
    assert [(one.name, one.by, one.text) for one in told] == [
        ("opened", "", ""), ("voted", "bob", 'reject: "no"'), ("handed back", "bob", ""),
        ("seen", "bob", "through web"),
    ]  # fmt: skip
