"""After every label: the promise holds at all times together, and what is certified stays so."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from hitl_graph.errors import LearningError
from hitl_graph.learning import Guarantee, Online
from hitl_graph.learning.online import BETS, certified, fallback, most, wager
from tests.learning.populations import Floats, edge, noise, risks, steep

STREAMS, ITEMS = 150, 1500
TOO_MANY = int(binom.ppf(0.999, STREAMS, 0.10))


def run(score: Floats, wrong: Floats, error: float = 0.05, rate: float = 0.1) -> tuple[int, float]:
    """Streams side by side, looked at after every item: how many ever broke the promise, and the share in the end."""
    at, shape, rng = risks(score, wrong), Online(score, Guarantee(error), rate=rate), np.random.default_rng(1)
    truth = np.array([at(float(threshold)) for threshold in shape.thresholds])
    parts = fallback(truth[:, 0], 0.10)
    wealth, best = np.zeros((STREAMS, len(truth), len(BETS))), np.zeros((STREAMS, len(truth)))
    found, broken = np.full(STREAMS, -1), np.zeros(STREAMS, bool)
    for _ in range(ITEMS):
        i = rng.integers(0, len(score), STREAMS)
        above = score[i][:, None] >= shape.thresholds
        propensity = np.where((found >= 0) & above[np.arange(STREAMS), found], rate, 1.0)
        asked = np.flatnonzero(rng.random(STREAMS) < propensity)
        smallest = np.where(found < 0, 1.0, rate)
        wealth[asked] = wager(
            wealth[asked], above[asked], wrong[i][asked] > 0, propensity[asked], smallest[asked], error
        )
        best[asked] = most(best[asked], wealth[asked])
        found = certified(best, parts)
        broken |= (found >= 0) & (truth[found, 1] > error)
    return int(broken.sum()), float(np.where(found >= 0, truth[found, 0], 0).mean())


def test_the_promise_is_kept_however_often_one_looks_and_much_is_automatic() -> None:
    broken, share = run(*steep())
    assert broken <= TOO_MANY
    assert share >= 0.5


def test_a_score_that_tells_nothing_costs_automation_and_not_the_promise() -> None:
    score, wrong = steep()
    broken, share = run(noise(score), wrong)
    assert broken <= TOO_MANY
    assert share <= 0.02


@pytest.mark.parametrize("levels", [1, 5, 80])
def test_errors_just_above_the_promise_everywhere_do_not_pass(levels: int) -> None:
    assert run(*edge(0, levels=levels))[0] <= TOO_MANY


@pytest.mark.parametrize("at", [12, 40])
def test_errors_that_rise_just_above_the_promise_where_a_test_starts_do_not_pass(at: int) -> None:
    broken, share = run(*edge(at), rate=0.5)
    assert broken <= TOO_MANY
    assert share <= at / 80


@given(seed=st.integers(0, 50), rate=st.sampled_from([0.05, 0.3, 1.0]))
@settings(deadline=None, max_examples=5)
def test_one_stream_is_as_many_side_by_side(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    score, wrong = rng.random(600), rng.random(600) < 0.005
    one = Online(score, rate=rate)
    wealth, best = np.zeros((1, len(one.thresholds), len(BETS))), np.zeros((1, len(one.thresholds)))
    parts = fallback((score[:, None] >= one.thresholds).mean(axis=0), 0.10)
    for value, bad in zip(score, wrong, strict=True):
        propensity, none = one.propensity(value), one.threshold is None
        if rng.random() < propensity:
            before = one.threshold
            one.update(value, bool(bad), propensity)
            smallest = np.array([1.0 if none else rate])
            above = (value >= one.thresholds)[None]
            wealth = wager(wealth, above, np.array([bad]), np.array([propensity]), smallest, 0.05)
            best = most(best, wealth)
            found = int(certified(best, parts)[0])
            assert one.threshold == (one.thresholds[found] if found >= 0 else None)
            assert before is None or (one.threshold is not None and one.threshold <= before)  # it only grows


@given(
    best=st.lists(st.floats(0, 5), min_size=4, max_size=30),
    starts=st.dictionaries(st.integers(0, 29), st.floats(0.001, 0.1), min_size=1, max_size=4),
)
def test_a_level_is_handed_on_by_what_passes_only(best: list[float], starts: dict[int, float]) -> None:
    """The fallback procedure as it is written down, threshold by threshold."""
    parts = np.zeros(len(best))
    for at, part in starts.items():
        parts[min(at, len(best) - 1)] += part
    found, gathered = -1, 0.0
    for i, part in enumerate(parts):
        gathered += part
        found, gathered = (i, gathered) if gathered and best[i] >= -math.log(gathered) else (found, 0.0)
    assert certified(np.array([best, best]), parts).tolist() == [found, found]


@given(error=st.floats(0.001, 0.5), rate=st.floats(0.01, 1), audited=st.booleans())
@settings(deadline=None)
def test_a_bet_against_a_promise_that_is_just_broken_wins_nothing_on_average(
    error: float, rate: float, audited: bool
) -> None:
    """Nor can it be ruined: what it rests on, exactly, with every outcome of the label and of the draw."""
    propensity, start = (rate if audited else 1.0), np.zeros((1, len(BETS)))
    right, bad = (
        np.exp(wager(start, np.array([True]), np.array(w), np.array(propensity), np.array(rate), error))
        for w in (False, True)
    )
    assert (bad > 0).all()
    mean = propensity * ((1 - error) * right + error * bad) + (1 - propensity) * 1
    assert mean == pytest.approx(np.ones_like(mean))


def test_everything_is_asked_at_first_and_audits_go_on() -> None:
    stream = Online(np.linspace(0, 1, 200))
    assert (stream.threshold, stream.propensity(1.0), stream.allows(1.0)) == (None, 1.0, False)
    for i in range(1200):
        score = i % 400 / 400
        stream.update(score, False, stream.propensity(score))
    assert stream.threshold is not None
    assert stream.propensity(1.0) == 0.05
    for bad in (math.nan, math.inf, -math.inf):
        assert (stream.propensity(bad), stream.allows(bad)) == (1.0, False)


def test_very_many_labels_are_no_problem() -> None:
    stream = Online([1.0, 2.0])
    for wrong in (False, True):
        for _ in range(20_000 if not wrong else 2_000):
            stream.update(2.0, wrong, 1.0)
    assert stream.threshold is not None


def test_a_label_that_was_not_routed_here_is_refused() -> None:
    stream = Online([1.0, 2.0], rate=0.2)
    for propensity in (0.05, 0.0, math.nan, 2.0):
        with pytest.raises(LearningError):
            stream.update(1.0, False, propensity)
    assert stream.labels == 0


def fed(stream: Online, labels: list[tuple[float, bool]]) -> Online:
    for score, wrong in labels:
        stream.update(score, wrong, stream.propensity(score))
    return stream


LABELS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([False] * 30 + [True])), max_size=150)


@given(first=LABELS, then=LABELS, scores=st.lists(st.floats(-1, 2), min_size=1, max_size=50))
@settings(deadline=None, max_examples=30)
def test_a_stream_that_was_stored_goes_on_as_if_it_had_not_been(
    first: list[tuple[float, bool]], then: list[tuple[float, bool]], scores: list[float]
) -> None:
    stream = fed(Online(scores, Guarantee(0.2, 0.8), rate=0.3), first)
    again = Online.restored(json.loads(json.dumps(stream.state(), allow_nan=False)))
    assert (again.threshold, again.labels, again.rate) == (stream.threshold, stream.labels, stream.rate)
    assert again.guarantee == stream.guarantee
    assert fed(again, then).state() == fed(stream, then).state()
    assert again.threshold == stream.threshold


@pytest.mark.parametrize(
    "change",
    [
        {"wealth": [[0.0]]},
        {"thresholds": [2.0, math.nan]},
        {"thresholds": 2.0},
        {"thresholds": []},
        {"best": [math.nan, 0.0]},
        {"parts": "much"},
        {"labels": None},
        {"rate": 0},
        {"error": 2},
    ],
)
def test_a_state_that_is_none_is_refused(change: dict[str, Any]) -> None:
    state = Online([1.0, 2.0]).state()
    assert Online.restored(state).state() == state
    with pytest.raises(LearningError):
        Online.restored(state | change)
    for name in state:
        with pytest.raises(LearningError):
            Online.restored({key: value for key, value in state.items() if key != name})


def test_what_another_threshold_routed_is_taken_as_it_was_routed() -> None:
    """A label of a time when nothing was certified may come in later, and one of a time when something was, before."""
    label = (1.0, False, 1.0)
    open_, audits = Online([1.0, 2.0]).update(*label, least=1.0), Online([1.0, 2.0]).update(*label, least=0.05)
    assert open_.state() == Online([1.0, 2.0]).update(*label).state()
    assert (open_._wealth > audits._wealth)[-1].all()
    stream = fed(Online([1.0, 2.0]), [(2.0, False)] * 300)
    assert stream.threshold is not None
    assert stream.update(*label).state() != Online.restored(stream.state()).update(*label, least=1.0).state()
    for propensity, least in ((0.05, 1.0), (2.0, 1.0), (1.0, math.nan), (1.0, 0.0)):
        with pytest.raises(LearningError):
            stream.update(1.0, False, propensity, least=least)


@pytest.mark.parametrize(("scores", "rate"), [([1.0], 0.0), ([1.0], 1.1), ([], 0.1), ([math.nan], 0.1)])
def test_streams_that_make_no_sense_are_refused(scores: list[float], rate: float) -> None:
    with pytest.raises(LearningError):
        Online(scores, rate=rate)
