"""From people's decisions to fewer questions: certificates of a ledger, what they let through, when they end."""

import asyncio
import hashlib
import random
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from hitl_graph.errors import LearningError, NotEntitledError
from hitl_graph.learning import Candidate, Certificate, DecisionLog, Guarantee, NotEnough, Unsure
from hitl_graph.learning.routing import Subject, route
from hitl_graph.ledger import Ledger, certificates
from hitl_graph.model import approve, reject
from hitl_graph.policy import Call
from hitl_graph.reviewers import Reviewer
from hitl_graph.steps import run
from tests.databases import open_ledger
from tests.learning.moderating import Feed, confidence, fed, sure_is_right

pytestmark = pytest.mark.both_databases

SECRET = b"a secret of the tests"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(db_path: str, clock: Clock) -> Iterator[Ledger]:
    with open_ledger(db_path) as ledger:
        ledger.clock = clock
        yield ledger
        assert ledger.verify_audit().ok


def unsure(**options: Any) -> Unsure:
    return Unsure(confidence, guarantee=Guarantee(0.05, 0.9), secret=SECRET, version="1", **options)


def key_of(post: str) -> str:
    return hashlib.sha256(post.encode()).hexdigest()[:32]


def test_without_a_certificate_everything_is_asked(ledger: Ledger) -> None:
    feed = fed(ledger, unsure(), 5)
    assert {way.routed.route for way in feed.ways} == {"unsure"}
    assert {way.routed.propensity for way in feed.ways} == {1.0}
    assert "there is no certificate" in feed.ways[0].why


def test_under_a_certificate_what_is_sure_goes_without_asking_and_a_share_is_audited(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=0.2), DecisionLog(ledger)
    fed(ledger, when, 200)
    certificate = log.calibrate(when)
    assert isinstance(certificate, Certificate)
    assert certificate.guarantee == when.guarantee
    assert certificate.labels == 200
    assert 0.4 < certificate.threshold < 0.65
    feed = fed(ledger, when, 300, seed=1)
    for way in feed.ways:
        assert way.is_automatic == (way.routed.score is not None and way.routed.score >= certificate.threshold)
    routes = [way.routed.route for way in feed.ways]
    automatic = len(routes) - routes.count("unsure")
    assert 0.1 < routes.count("audit") / automatic < 0.3
    assert {way.routed.propensity for way in feed.ways if way.is_automatic} == {0.2}
    health = log.health(when)
    assert (health.standing, health.calls, health.saved) == ("valid", 500, routes.count("auto"))
    assert (health.audits, health.answered, health.mistakes) == (routes.count("audit"),) * 2 + (0,)
    assert health.error_at_most < 0.1
    assert health.drift < 1


def test_a_call_is_routed_once_whatever_comes_later(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed = fed(ledger, when, 200)
    assert isinstance(log.calibrate(when), Certificate)
    assert feed.post("0-0", 0.99, answer=False).routed == feed.ways[0].routed
    other = Feed(ledger, when, sure_is_right)
    sure = other.post("new", 0.99)
    log.suspend(when, reason="I do not like it", by="alice")
    again = Feed(ledger, when, sure_is_right).post("new", 0.99, answer=False)
    assert again.routed == sure.routed


def test_what_another_rule_let_through_before_a_crash_is_asked(ledger: Ledger) -> None:
    when = unsure()
    fed(ledger, when, 200)
    assert isinstance(DecisionLog(ledger).calibrate(when), Certificate)
    assert Feed(ledger, when, sure_is_right).post("x", 0.99, answer=False).is_automatic
    for other in (
        unsure(prompt="You moderate well."), unsure(name="other"),
        Unsure(confidence, guarantee=Guarantee(0.01), secret=SECRET, version="1"),
    ):  # fmt: skip
        way = run(route(other, ledger, Subject(key_of("x"), "thread-x", "moderate", {}), Call("moderate", {})))
        assert (way.is_automatic, "another prompt, score or promise" in way.why) == (False, True)
    assert Feed(ledger, when, sure_is_right).post("x", 0.99, answer=False).is_automatic


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), "0.99", True])
def test_what_is_no_number_is_asked(ledger: Ledger, score: Any) -> None:
    when = unsure()
    fed(ledger, when, 200)
    assert isinstance(DecisionLog(ledger).calibrate(when), Certificate)
    odd = Unsure(lambda call: score, guarantee=when.guarantee, secret=SECRET, version="1")
    way = Feed(ledger, odd, sure_is_right).post("odd", 0.99)
    assert (way.routed.route, way.routed.score) == ("unsure", None)


@pytest.mark.parametrize(
    ("score", "known"), [(np.float32(0.5), 0.5), (np.int64(1), 1.0), (Fraction(1, 4), 0.25), (10**400, None)]
)
def test_numbers_of_other_libraries_are_numbers(ledger: Ledger, score: Any, known: float | None) -> None:
    when = Unsure(lambda call: score, secret=SECRET, version="1")
    assert Feed(ledger, when, sure_is_right).post("x", 0.0).routed.score == known


@pytest.mark.parametrize("given", [KeyError("no"), {1, 2}, float("nan")])
@pytest.mark.parametrize("name", ["group", "input"])
def test_a_group_or_an_input_that_fails_is_asked_about(ledger: Ledger, name: str, given: Any) -> None:
    def fails(call: Call) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    when = unsure(**{name: fails})
    way = Feed(ledger, when, sure_is_right).post("x", 0.99)
    assert (way.routed.route, way.routed.score) == ("unsure", None)
    assert f"{name}= of the rule's Unsure failed" in way.why


def test_another_model_prompt_or_score_is_asked_about(ledger: Ledger) -> None:
    when = unsure(prompt="You moderate.")
    fed(ledger, when, 200)
    assert isinstance(DecisionLog(ledger).calibrate(when), Certificate)
    assert Feed(ledger, when, sure_is_right).post("same", 0.99).is_automatic
    model = Feed(ledger, when, sure_is_right, model="n").post("model", 0.99)
    assert (model.is_automatic, "the model is another one" in model.why) == (False, True)
    for other in (
        unsure(prompt="You moderate well."),
        Unsure(confidence, secret=SECRET, version="2", prompt="You moderate."),
    ):
        way = Feed(ledger, other, sure_is_right).post(other.binding, 0.99)
        assert (way.is_automatic, "the prompt or the score is another one" in way.why) == (False, True)
    stricter = Unsure(confidence, guarantee=Guarantee(0.01, 0.9), secret=SECRET, version="1", prompt="You moderate.")
    assert not Feed(ledger, stricter, sure_is_right).post("stricter", 0.99).is_automatic


def test_a_score_is_another_one_if_it_was_made_with_something_else() -> None:
    def sure(call: Call, temperature: float = 0.0, *, of: str = "a") -> float:
        return temperature

    def asking(name: str) -> Callable[[Call], float]:
        return lambda call: len(name)

    def asked(ask: Callable[[Call], float]) -> Callable[[Call], float]:
        def again(call: Call) -> float:
            return ask(call) or again(call)

        return again

    class Checker:
        def __call__(self, call: Call) -> float:
            return 0.0

        def score(self, call: Call) -> float:
            return 1.0

    scores: list[Callable[[Call], Any]] = [
        sure, partial(sure, temperature=1.0), partial(sure, temperature=0.5), partial(confidence), asking("a"),
        asking("b"), asked(confidence), asked(sure), Checker(), Checker().score, partial(Checker()),
    ]  # fmt: skip
    bindings = [Unsure(score).binding for score in scores]
    assert len(set(bindings)) == len(scores)
    assert bindings == [Unsure(score).binding for score in scores]
    assert Unsure(asking("a")).binding == bindings[4]
    assert Unsure(Checker()).binding == bindings[8]


def test_audits_that_find_mistakes_take_the_certificate_back_before_the_next_call(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=0.5), DecisionLog(ledger)
    fed(ledger, when, 200)
    assert isinstance(log.calibrate(when), Certificate)
    feed = fed(ledger, when, 300, seed=1, is_wrong=lambda post, score: random.Random(post).random() < 0.4)
    routes = [way.routed.route for way in feed.ways]
    last = max(number for number, way in enumerate(feed.ways) if way.is_automatic)
    assert last < 150
    assert routes[last + 1 :] == ["unsure"] * (300 - last - 1)
    assert "audits find too many mistakes" in feed.ways[-1].why
    health = log.health(when)
    assert (health.standing, health.drift) == ("suspended", 1.0)
    refused = log.calibrate(when)  # of what was said since, in which the model is wrong everywhere
    assert isinstance(refused, NotEnough)
    assert refused.needed is None


def test_scores_that_look_different_take_the_certificate_back(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    fed(ledger, when, 200)
    assert isinstance(log.calibrate(when), Certificate)
    feed = Feed(ledger, when, lambda post, score: False)
    for number in range(320):
        feed.post(f"shift-{number}", 0.9 + number % 10 / 100)
    assert feed.ways[0].is_automatic
    assert not feed.ways[-1].is_automatic
    assert "do not look like those of the certificate" in feed.ways[-1].why


def test_scores_are_looked_at_beside_another_rule(ledger: Ledger) -> None:
    when, other = unsure(), unsure(name="other")
    fed(ledger, when, 200)
    assert isinstance(DecisionLog(ledger).calibrate(when), Certificate)
    feed, beside = Feed(ledger, when, lambda post, score: False), Feed(ledger, other, lambda post, score: False)
    for number in range(160):
        feed.post(f"shift-{number}", 0.9 + number % 10 / 100)
        beside.post(f"beside-{number}", 0.9, answer=False)
    assert {way.routed.number % 2 for way in feed.ways} == {1}
    assert not feed.ways[-1].is_automatic
    assert "do not look like those of the certificate" in feed.ways[-1].why


def test_a_new_certificate_does_not_make_mistakes_forgotten(ledger: Ledger) -> None:
    when = Unsure(confidence, guarantee=Guarantee(0.2), secret=SECRET, version="1", audit_rate=0.5)
    log = DecisionLog(ledger)
    fed(ledger, when, 400)
    assert isinstance(log.calibrate(when), Certificate)
    feed, rng = Feed(ledger, when, lambda post, score: random.Random(post).random() < 0.6), random.Random(1)
    for number in range(140):
        feed.post(str(number), round(rng.random(), 3), answer=False)
        if number % 5 == 4:  # people answer, and with what they say there is a new certificate
            for way in feed.ways[number - 4 :]:
                feed.answer(way)
            log.calibrate(when)
    assert len(ledger.read(certificates.listed)) > 3
    assert not feed.post("last", 0.99).is_automatic
    assert "audits find too many mistakes" in str(log.health(when).why)


def test_one_open_audit_does_not_hide_a_thousand_others(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=1.0), DecisionLog(ledger)
    feed = Feed(ledger, when, lambda post, score: False)
    for number in range(60):
        feed.post(f"first-{number}", 0.9)
    assert isinstance(log.calibrate(when), Certificate)
    feed.post("open", 0.9, answer=False)
    for number in range(1000):
        feed.post(str(number), 0.9)
    feed.is_wrong = lambda post, score: True
    for number in range(1000, 1040):
        feed.post(str(number), 0.9)
    assert not feed.ways[-1].is_automatic


def test_audits_nobody_answers_count_as_mistakes(ledger: Ledger, clock: Clock) -> None:
    when, log = unsure(audit_rate=1.0, patience=timedelta(days=2)), DecisionLog(ledger)
    fed(ledger, when, 200)
    assert isinstance(log.calibrate(when), Certificate)
    feed = Feed(ledger, when, sure_is_right)
    for number in range(40):
        feed.post(f"silent-{number}", 0.9, answer=False)
    assert feed.ways[-1].is_automatic
    clock.now += timedelta(days=3)
    assert not feed.post("later", 0.9).is_automatic


def test_too_few_labels_are_refused_with_a_number_and_cost_nothing(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    nothing = log.calibrate(when)
    assert isinstance(nothing, NotEnough)
    assert nothing.needed
    feed = fed(ledger, when, 30)
    few = log.calibrate(when)
    assert isinstance(few, NotEnough)
    assert few.needed is not None
    assert few.needed > 30
    for number in range(170):
        feed.post(f"more-{number}", 0.9)
    for _ in range(5):  # the same labels are the same try
        assert isinstance(log.calibrate(when), Certificate)


def test_what_nobody_has_answered_counts_as_wrong(ledger: Ledger, clock: Clock) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed = fed(ledger, when, 150)
    noon = clock()
    for number in range(30):
        feed.post(f"open-{number}", 0.95, answer=False)
    certificate = log.calibrate(when, before=noon)
    assert isinstance(certificate, Certificate)
    assert certificate.labels == 150
    refused = log.calibrate(when)
    assert isinstance(refused, NotEnough)
    assert "30 questions wait" in refused.why
    assert log.health(when).open == 30


@pytest.mark.parametrize("looks", [[90], [60, 90], [60, 60, 60, 90]])
def test_each_new_try_has_a_smaller_part_and_the_same_one_costs_nothing(ledger: Ledger, looks: list[int]) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed, found = Feed(ledger, when, lambda post, score: post == "0"), list[object]()
    for size in looks:
        for number in range(len(feed.ways), size):
            feed.post(str(number), 0.9)
        found.append(log.calibrate(when))
    assert all(isinstance(one, NotEnough) for one in found[:-1])
    assert isinstance(found[-1], Certificate if looks == [90] else NotEnough)  # one mistake in 90: 5.7 % by chance


def test_mistakes_that_people_take_their_time_over_are_not_left_out(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed = Feed(ledger, when, sure_is_right)
    for number in range(300):  # nobody has said yet that something is wrong: 1 in the first half, 20 in the second
        feed.post(str(number), 0.9, answer=number != 50 and (number < 150 or number % 7 > 0))
    found = log.calibrate(when)
    assert isinstance(found, NotEnough)
    assert found.labels == 300


def test_after_every_decision(ledger: Ledger) -> None:
    when = Unsure(confidence, guarantee=Guarantee(0.1), secret=SECRET, version="1", audit_rate=0.2)
    log = DecisionLog(ledger)
    feed, rng, found = Feed(ledger, when, sure_is_right), random.Random(3), []
    for number in range(400):
        feed.post(str(number), round(rng.random(), 3))
        if number % 20 == 0:
            found.append(log.update(when))
    assert isinstance(found[2], NotEnough)
    last = found[-1]
    assert isinstance(last, Certificate)
    assert 0.45 < last.threshold < 0.9
    thresholds = [one.threshold for one in found if isinstance(one, Certificate)]
    assert thresholds == sorted(thresholds, reverse=True)
    assert any(way.routed.route == "auto" for way in feed.ways)


def test_an_update_waits_for_whoever_is_asked_first(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed = Feed(ledger, when, sure_is_right)
    first = feed.post("first", 0.9, answer=False)
    for number in range(300):
        feed.post(str(number), 0.9)
    waiting = log.update(when)
    assert isinstance(waiting, NotEnough)
    assert waiting.labels == 0
    feed.answer(first)
    assert isinstance(log.update(when), Certificate)


def test_each_group_has_its_own_certificate(ledger: Ledger) -> None:
    when, log = unsure(group=lambda call: call.args["label"]), DecisionLog(ledger)
    feed = Feed(ledger, when, lambda post, score: post.startswith("hate"))
    for number in range(150):
        feed.post(f"ok-{number}", 0.5 + number / 1000)
        feed.post(f"hate-{number}", 0.5 + number / 1000, label="hate")
    found = log.calibrate_each(when)
    assert isinstance(found['"ok"'], Certificate)
    assert isinstance(found['"hate"'], NotEnough)
    assert feed.post("ok-new", 0.9).is_automatic
    assert not feed.post("hate-new", 0.9, label="hate").is_automatic
    with pytest.raises(LearningError, match="calibrate_each"):
        log.calibrate(when)
    with pytest.raises(LearningError, match="no groups"):
        log.calibrate_each(unsure())


def test_other_groups_are_asked_about(ledger: Ledger) -> None:
    when, other = (
        unsure(group=lambda call: call.args["label"] > "a"),
        unsure(group=lambda call: call.args["label"] > "z"),
    )
    feed = Feed(ledger, when, lambda post, score: False)
    for number in range(110):
        feed.post(str(number), 0.9)
    assert isinstance(DecisionLog(ledger).calibrate_each(when)["true"], Certificate)
    assert feed.post("same", 0.9).is_automatic
    assert not Feed(ledger, other, lambda post, score: False).post("other", 0.9, label="zz").is_automatic


def test_groups_that_come_later_take_nothing_from_the_promise_about_all(ledger: Ledger) -> None:
    when, log = unsure(group=lambda call: call.args["label"]), DecisionLog(ledger)
    feed = Feed(ledger, when, lambda post, score: False)
    for label in ("a", "b", "c"):
        feed.post(f"early-{label}", 0.9, label=label)
        log.calibrate_each(when)
    for label in ("a", "b", "c", "d"):
        for number in range(150 if label < "d" else 1):
            feed.post(f"{label}-{number}", 0.9, label=label)
        found = log.calibrate_each(when)
    assert [label for label, one in sorted(found.items()) if isinstance(one, Certificate)] == ['"a"', '"b"', '"c"']
    misled = [1 - one.guarantee.confidence for label, one in sorted(found.items()) if label != '"d"']
    assert misled == pytest.approx([0.09, 0.005, 0.0025])


def test_deadlines_do_not_know_what_is_right(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    feed = Feed(ledger, when, sure_is_right)
    for number in range(100):
        way = feed.post(str(number), 0.9, answer=False)
        ledger.decide(way.routed.key[:20], approve(), reviewer="deadline", channel="deadline")
    assert isinstance(log.calibrate(when), NotEnough)
    assert all(example.wrong is None for example in log.examples())


def test_examples_say_what_was_proposed_and_what_became_of_it(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=0.3), DecisionLog(ledger)
    fed(ledger, when, 200)
    log.calibrate(when)
    feed = fed(ledger, when, 60, seed=1)
    examples = list(log.examples())
    assert len(examples) == 260
    assert [example.at for example in examples] == sorted(example.at for example in examples)
    routes = [way.routed.route for way in feed.ways]
    for one in ("auto", "audit", "unsure"):
        assert [e.route for e in examples].count(one) == routes.count(one) + 200 * (one == "unsure")
    audit = next(example for example in examples if example.route == "audit")
    assert (audit.split, audit.kind, audit.tool, audit.reviewer) == ("audit", "review", "moderate", "alice")
    assert audit.input == f"post {audit.output['post']}"  # type: ignore[index, call-overload]
    assert audit.seconds is not None
    assert audit.seconds > 0
    automatic = next(example for example in examples if example.route == "auto")
    assert (automatic.decision, automatic.wrong, automatic.propensity) == (None, None, 0.3)
    edited = next(e for e in examples if e.decision and e.decision.type == "edit")
    assert (edited.wrong, edited.right) == (True, {**edited.output, "label": "hate"})  # type: ignore[dict-item]


def test_two_people_and_a_third_where_they_differ(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=1.0, double_rate=1.0), DecisionLog(ledger)
    fed(ledger, unsure(audit_rate=1.0), 200)
    assert isinstance(log.calibrate(when), Certificate)
    feed = Feed(ledger, when, sure_is_right)
    agreed, split = (feed.post(name, 0.9, answer=False) for name in ("agreed", "split"))
    feed.answer(agreed, "alice")
    assert log.health(when).answered == 0
    feed.answer(agreed, "bob")
    feed.answer(split, "alice")
    feed.is_wrong = lambda post, score: True
    feed.answer(split, "bob")
    assert log.health(when).answered == 1
    feed.is_wrong = sure_is_right
    feed.answer(split, "carol")
    health = log.health(when)
    assert (health.answered, health.mistakes) == (2, 0)
    assert health.dissent == pytest.approx(1 / 5)
    assert health.agreement is not None
    audit = next(example for example in log.examples() if example.reference == "two who agree")
    assert len(audit.votes) == 2


def test_redaction_removes_what_was_kept(ledger: Ledger) -> None:
    feed = fed(ledger, unsure(), 3)
    thread = feed.ways[0].routed.thread_id
    ledger.redact(thread, actor="alice", reason="asked to")
    assert ledger.verify_audit().ok
    redacted = next(example for example in DecisionLog(ledger).examples() if example.thread_id == thread)
    assert (redacted.input, redacted.output) == (None, None)


def test_what_was_redacted_counts_neither_as_right_nor_as_wrong(ledger: Ledger) -> None:
    when, log = unsure(audit_rate=0.5), DecisionLog(ledger)
    labelled = fed(ledger, when, 300)
    assert isinstance(log.calibrate(when), Certificate)
    audited = fed(ledger, when, 60, seed=1)
    for way in (*labelled.ways[:40], *audited.ways):
        ledger.redact(way.routed.thread_id, actor="alice", reason="they are old")
    found = log.calibrate(when)
    assert isinstance(found, Certificate)
    assert (found.labels, found.errors) == (260, 0)
    health = log.health(when)
    assert (health.standing, health.open, health.drift) == ("valid", 0, 0)
    for number in range(120):
        labelled.post(f"later-{number}", number / 120)
    assert isinstance(log.update(when), NotEnough | Certificate)
    assert log.health(when).standing == "valid"


def test_the_draws_are_kept_with_the_database(ledger: Ledger) -> None:
    when = Unsure(confidence, guarantee=Guarantee(0.05), version="1", audit_rate=0.5)
    fed(ledger, when, 200)
    assert isinstance(DecisionLog(ledger).calibrate(when), Certificate)
    feed = fed(ledger, when, 100, seed=1)
    drawn = {way.routed.drawn for way in feed.ways}
    assert len(drawn) == 100
    assert 0.3 < sum(drawn) / 100 < 0.7


async def test_in_both_colours(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    await asyncio.to_thread(fed, ledger, when, 200)
    assert isinstance(await log.acalibrate(when), Certificate)
    assert isinstance(await log.aupdate(when), NotEnough | Certificate)
    assert (await log.ahealth(when)).standing == "valid"


def test_people_are_asked_about_some_items_of_a_pool_and_the_random_ones_may_certify(ledger: Ledger) -> None:
    rng = random.Random(0)
    pool = [
        Candidate(f"item-{number}", "ok", f"text {number}", (score := rng.random()), [score, rng.random()])
        for number in range(400)
    ]
    when, log = unsure(), DecisionLog(ledger)
    asked = log.choose(pool, 100, topic="spring", uniform=0.6, unsure=when, reviewers=("role:labels",))
    assert [one.route for one in asked].count("audit") == 60
    assert statistics.median(one.score or 0 for one in asked if one.route == "query") < 0.45
    assert [one.id for one in asked] == [
        one.id for one in log.choose(pool, 100, topic="spring", uniform=0.6, unsure=when)
    ]
    assert asked != log.choose(pool, 100, topic="autumn", uniform=0.6)
    assert {one.thread_id for one in asked} == {"labels:spring"}
    reviewer = Reviewer("alice", roles=frozenset({"labels"}))
    with pytest.raises(NotEntitledError):
        ledger.decide(asked[0].id, approve(), reviewer="mallory", channel="test")
    for one in asked:
        ledger.decide(one.id, approve() if one.route == "audit" else reject(), reviewer=reviewer, channel="test")
    certificate = log.calibrate(when)
    assert isinstance(certificate, Certificate)
    assert (certificate.labels, certificate.errors) == (60, 0)
    queries = [one for one in log.examples() if one.route == "query" and one.thread_id == "labels:spring"]
    assert (len(queries), {one.split for one in queries}) == (40, {"train"})


def test_an_item_of_a_pool_is_one_label_however_often_it_is_asked_about(ledger: Ledger) -> None:
    when, log = unsure(), DecisionLog(ledger)
    pool = [Candidate(f"item-{number}", "ok", f"text {number}", number / 30) for number in range(30)]
    for topic in ("spring", "summer", "autumn"):
        for one in log.choose(pool, 30, topic=topic, uniform=1.0, unsure=when):
            ledger.decide(one.id, approve(), reviewer="alice", channel="test")
    found = log.calibrate(when)
    assert isinstance(found, NotEnough)
    assert found.labels == 30


def test_a_pool_says_whose_it_is(ledger: Ledger) -> None:
    when, log, pool = unsure(), DecisionLog(ledger), [Candidate("item", "ok", "text", 0.9)]
    fed(ledger, when, 3)
    with pytest.raises(LearningError, match="model= is missing"):
        log.choose(pool, 1, unsure=when)
    with pytest.raises(LearningError, match="for each group"):
        log.choose(pool, 1, unsure=unsure(group=confidence), model="m")
    assert log.choose(pool, 1, unsure=when, model="m")


@pytest.mark.parametrize("before", [datetime(2026, 1, 1), "2026-01-01"])  # noqa: DTZ001
def test_a_moment_has_a_time_zone(ledger: Ledger, before: Any) -> None:
    with pytest.raises(LearningError, match="time zone"):
        DecisionLog(ledger).calibrate(unsure(), before=before)


def test_settings_that_make_no_sense() -> None:
    for options in (
        {"below": 0.8, "guarantee": Guarantee()}, {"audit_rate": 0.0}, {"audit_rate": 1.1}, {"double_rate": 2.0},
        {"secret": b"short"}, {"name": ""}, {"patience": timedelta(0)}, {"reviewers": "alice"},
    ):  # fmt: skip
        with pytest.raises(LearningError):
            Unsure(confidence, **options)
    with pytest.raises(LearningError):
        Unsure(0.5)  # type: ignore[arg-type]
    assert Unsure(confidence).guarantee == Guarantee(0.05, 0.9)
