"""A certificate is a promise about errors: kept whatever the score, refused honestly where labels do not show it."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from hitl_graph.errors import LearningError
from hitl_graph.learning import Certificate, Guarantee, NotEnough, certify, certify_each
from hitl_graph.learning.sequence import allowed, least, sequence
from tests.learning.populations import Floats, coarse, flat, noise, overconfident, risks, steep

REPLAYS = 400
TOO_MANY = int(binom.ppf(0.999, REPLAYS, 0.10))  # violations that a kept promise shows once in a thousand tests
World = Callable[[], tuple[Floats, Floats]]


def replay(score: Floats, wrong: Floats, asked: Guarantee, labels: int, seed: int = 1) -> tuple[int, float]:
    """How often the truth breaks the promise, and the mean share of automatic decisions."""
    rng, at = np.random.default_rng(seed), risks(score, wrong)
    broken, shares = 0, 0.0
    for _ in range(REPLAYS):
        drawn = rng.integers(0, len(score), labels)
        certificate = certify(score[drawn], wrong[drawn], asked)
        if isinstance(certificate, Certificate):
            share, error = at(certificate.threshold)
            broken, shares = broken + (error > asked.error), shares + share
    return broken, shares / REPLAYS


@pytest.mark.parametrize("seen", [lambda score: score, coarse, noise], ids=["real", "coarse", "random"])
@pytest.mark.parametrize("world", [steep, flat, overconfident])
@pytest.mark.parametrize(("error", "labels"), [(0.05, 200), (0.05, 500), (0.02, 500)])
def test_the_promise_is_kept(world: World, seen: Callable[[Floats], Floats], error: float, labels: int) -> None:
    score, wrong = world()
    broken, _ = replay(seen(score), wrong, Guarantee(error), labels)
    assert broken <= TOO_MANY


def test_a_threshold_chosen_on_the_labels_breaks_it() -> None:
    """What the test above would find: the loosest threshold whose labels look good enough."""
    score, wrong = steep()
    rng, at, broken = np.random.default_rng(1), risks(score, wrong), 0
    for _ in range(REPLAYS):
        drawn = rng.integers(0, len(score), 500)
        order = drawn[np.argsort(-score[drawn])]
        good = np.flatnonzero(np.cumsum(wrong[order]) <= 0.05 * np.arange(1, 501))
        broken += at(score[order[good[-1]]])[1] > 0.05
    assert broken > TOO_MANY


@pytest.mark.parametrize(
    ("world", "labels", "possible", "reached"), [(steep, 500, 0.82, 0.85), (flat, 1000, 0.69, 0.33)]
)
def test_much_of_what_is_possible_is_automatic(world: World, labels: int, possible: float, reached: float) -> None:
    score, wrong = world()
    order = np.argsort(-score)
    risk = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    oracle = (np.flatnonzero(risk <= 0.05)[-1] + 1) / len(order)
    assert oracle >= possible - 0.02
    assert replay(score, wrong, Guarantee(), labels)[1] >= reached * oracle


@given(
    scores=st.lists(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 2.0, 1e308]), max_size=400),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_scores_that_are_no_numbers_are_never_automatic(scores: list[float], seed: int) -> None:
    wrong = np.random.default_rng(seed).random(len(scores)) < 0.01
    certificate = certify(scores, wrong)
    for score in (math.nan, math.inf, -math.inf):
        assert not certificate.allows(score)
    if isinstance(certificate, Certificate):
        assert certificate.threshold in scores
        accepted = [bool(bad) for score, bad in zip(scores, wrong, strict=True) if certificate.allows(score)]
        assert (certificate.accepted, certificate.errors) == (len(accepted), sum(accepted))
        assert binom.cdf(certificate.errors, certificate.accepted, 0.05) <= 0.10 + 1e-9


@given(seed=st.integers(0, 1000), n=st.integers(0, 600), levels=st.integers(1, 50), rate=st.floats(0, 0.3))
@settings(deadline=None, max_examples=60)
def test_only_the_order_of_scores_matters(seed: int, n: int, levels: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    score, wrong = rng.integers(0, levels, n).astype(float), rng.random(n) < rate
    first, second = certify(score, wrong), certify(np.exp(score / 10) - 3, wrong)
    shuffled = rng.permutation(n)
    assert certify(score[shuffled], wrong[shuffled]) == first
    if isinstance(first, Certificate):
        assert isinstance(second, Certificate)
        assert (first.accepted, first.errors) == (second.accepted, second.errors)
    else:
        assert isinstance(second, NotEnough)


@given(seed=st.integers(0, 1000), n=st.integers(50, 400))
@settings(deadline=None, max_examples=40)
def test_one_more_mistake_never_makes_more_automatic(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    score, wrong = rng.random(n), (rng.random(n) < 0.03).astype(float)
    before = certify(score, wrong)
    wrong[rng.integers(n)] = 1
    after = certify(score, wrong)
    if isinstance(after, Certificate):
        assert isinstance(before, Certificate)
        assert after.accepted <= before.accepted


def test_equal_scores_stay_together() -> None:
    wrong = np.zeros(1000)
    wrong[::12] = 1  # 8 % everywhere: the first labels of the level look better or worse by chance only
    assert isinstance(certify(np.ones(1000), wrong), NotEnough)
    assert certify(np.ones(1000), np.zeros(1000)) == Certificate(1.0, Guarantee(), 1000, 1000, 0)


def test_a_label_that_is_missing_counts_as_wrong() -> None:
    score, answered = np.ones(100), np.zeros(100)
    assert isinstance(certify(score, answered), Certificate)
    answered[:10] = np.nan
    assert isinstance(certify(score, answered), NotEnough)


def test_too_few_labels_say_how_many() -> None:
    nothing = certify([], [])
    few = certify(np.linspace(0, 1, 20), np.zeros(20))
    assert isinstance(nothing, NotEnough)
    assert isinstance(few, NotEnough)
    assert nothing.needed == least(1, 0.05, 0.05) == 93
    assert few.needed
    assert 93 <= few.needed < 500
    assert "20 labels do not show an error of 5.0%: it takes 45 without a mistake" in few.why


def test_as_many_labels_as_were_said_to_be_needed_are_enough() -> None:
    """Mostly: it is an estimate from the labels that there are."""
    score, wrong = steep()
    rng, enough = np.random.default_rng(0), []
    for _ in range(60):
        drawn = rng.integers(0, len(score), 100)
        first = certify(score[drawn], wrong[drawn], Guarantee(0.02))
        assert isinstance(first, NotEnough)
        if first.needed is not None:
            assert first.needed > 100
            more = rng.integers(0, len(score), first.needed)
            enough.append(isinstance(certify(score[more], wrong[more], Guarantee(0.02)), Certificate))
    assert len(enough) >= 50
    assert np.mean(enough) >= 0.5


def test_a_model_that_errs_more_however_sure_it_is_will_never_do() -> None:
    score, wrong = flat()
    refused = certify(score[:3000], wrong[:3000], Guarantee(0.01))
    assert isinstance(refused, NotEnough)
    assert refused.needed is None
    assert "even where it is surest" in refused.why


def test_people_who_differ_more_than_is_promised_are_named() -> None:
    rng = np.random.default_rng(3)
    score, wrong = rng.random(300), np.zeros(300)
    wrong[np.argsort(-score)[::40]] = 1  # 2.5 %: no set looks good enough, and so few labels do not show that none is
    votes = [["hate", "hate", "ok" if rng.random() < 0.3 else "hate"] for _ in range(300)]
    refused, silent = (certify(score, wrong, Guarantee(0.02), votes=given) for given in (votes, None))
    assert isinstance(refused, NotEnough)
    assert refused.needed is None
    assert "people differ among themselves on" in refused.why
    assert isinstance(silent, NotEnough)
    assert silent.needed


def test_each_group_has_the_promise_for_itself() -> None:
    rng = np.random.default_rng(4)
    score = rng.random(2000)
    group = np.where(rng.random(2000) < 0.5, "easy", "hard")
    wrong = rng.random(2000) < np.where(group == "easy", 0.005, 0.12)
    assert isinstance(certify(score, wrong, Guarantee(0.08)), Certificate)  # together they would do
    each = certify_each(score, wrong, list(group), Guarantee(0.08))
    assert isinstance(each["easy"], Certificate)
    assert isinstance(each["hard"], NotEnough)
    assert each["easy"].guarantee == Guarantee(0.08, 0.95)  # both at once
    assert certify_each(score, wrong, list(group), together=False)["easy"].guarantee == Guarantee()
    assert certify_each([], [], []) == {}


@pytest.mark.parametrize(
    ("scores", "wrong"), [([1.0], []), ([[1.0]], [[0]]), ([1.0], [2]), ([1.0], [0.5]), (["sure"], [0]), ([1.0], ["no"])]
)
def test_labels_that_make_no_sense_are_refused(scores: list[float], wrong: list[float]) -> None:
    with pytest.raises(LearningError):
        certify(scores, wrong)


@pytest.mark.parametrize("of", [{"error": 0.0}, {"error": 1.0}, {"confidence": 1.0}, {"confidence": math.nan}])
def test_a_guarantee_of_nothing_or_everything_is_refused(of: dict[str, float]) -> None:
    with pytest.raises(LearningError):
        Guarantee(**of)
    assert dataclasses.asdict(Guarantee()) == {"error": 0.05, "confidence": 0.90}


@given(n=st.integers(0, 3000), error=st.sampled_from([0.01, 0.02, 0.05, 0.2]), level=st.sampled_from([0.01, 0.1, 0.5]))
@settings(deadline=None, max_examples=60)
def test_the_tests_share_the_level_and_grow(n: int, error: float, level: float) -> None:
    tests = sequence(n, error, level)
    sizes = [size for size, _ in tests]
    assert sizes == sorted(set(sizes))
    assert all(0 < size <= n for size in sizes)
    assert sum(part for _, part in tests) <= level + 1e-12
    assert bool(tests) == (n >= least(0, error, level))


@given(errors=st.integers(0, 60), error=st.sampled_from([0.01, 0.05, 0.3]), level=st.sampled_from([0.001, 0.05, 0.5]))
@settings(deadline=None, max_examples=60)
def test_the_tests_are_exact(errors: int, error: float, level: float) -> None:
    n = least(errors, error, level)
    assert binom.cdf(errors, n, error) <= level + 1e-12
    assert n == errors + 1 or binom.cdf(errors, n - 1, error) > level - 1e-12
    assert allowed(n, error, level) == errors or binom.cdf(errors + 1, n, error) <= level + 1e-12
