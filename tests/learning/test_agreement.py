"""Agreement, as the reference implementations have it."""

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from hitl_graph.errors import LearningError
from hitl_graph.learning.agreement import Votes, cohen, disagreement, dissent, fleiss, interval, krippendorff

LABELS = ["hate", "offensive", "neither"]
FULL = st.integers(2, 5).flatmap(
    lambda people: st.lists(
        st.lists(st.sampled_from(LABELS), min_size=people, max_size=people), min_size=2, max_size=40
    )
)
HOLES = st.lists(st.lists(st.sampled_from([*LABELS, None]), min_size=4, max_size=4), min_size=1, max_size=40)
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, missing data; alpha .743
KRIPPENDORFF: Votes = [
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
]  # fmt: skip


@given(votes=FULL)
@settings(deadline=None)
def test_fleiss_and_cohen_equal_statsmodels_and_scikit_learn(votes: list[list[str]]) -> None:
    numbers = np.array([[LABELS.index(vote) for vote in row] for row in votes])
    if len(np.unique(numbers)) == 1:
        assert math.isnan(fleiss(votes))
        return
    assert fleiss(votes) == pytest.approx(fleiss_kappa(aggregate_raters(numbers)[0]), abs=1e-9)
    pair = numbers[:, :2]
    if len(np.unique(pair)) > 1:
        table = np.zeros((3, 3))
        np.add.at(table, (pair[:, 0], pair[:, 1]), 1)
        mine = cohen([row[:2] for row in votes])
        assert mine == pytest.approx(cohen_kappa_score(pair[:, 0], pair[:, 1]), abs=1e-9)
        with np.errstate(invalid="ignore", divide="ignore"):  # statsmodels' test of it, which we do not look at
            assert mine == pytest.approx(cohens_kappa(table).kappa, abs=1e-9)


def test_alpha_is_krippendorff_s_own_example() -> None:
    assert krippendorff(KRIPPENDORFF) == pytest.approx(0.743, abs=5e-4)


@given(votes=HOLES)
@settings(deadline=None)
def test_alpha_is_its_definition_over_pairs(votes: Votes) -> None:
    """Written once more, pair by pair, as Krippendorff defines it."""
    kept = [row for row in ([v for v in row if v is not None] for row in votes) if len(row) > 1]
    values = [value for row in kept for value in row]
    within = sum(sum(a != b for a, b in permutations(row, 2)) / (len(row) - 1) for row in kept)
    between = sum(a != b for a, b in permutations(values, 2))
    if not between:
        assert math.isnan(krippendorff(votes))
        return
    expected = 1 - (within / len(values)) / (between / (len(values) * (len(values) - 1)))
    assert krippendorff(votes) == pytest.approx(expected, abs=1e-9)


@given(votes=HOLES, seed=st.integers(0, 99))
@settings(deadline=None)
def test_neither_the_order_nor_the_names_of_anything_matter(votes: list[list[str | None]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    renamed: Votes = [
        [None if v is None else v.upper() for v in np.array(row, object)[rng.permutation(4)]] for row in votes
    ]
    again: Votes = [renamed[i] for i in rng.permutation(len(votes))]
    for of in (krippendorff, disagreement, dissent):
        assert of(again) == pytest.approx(of(votes), abs=1e-9, nan_ok=True)


def test_disagreement_and_dissent_are_shares() -> None:
    votes: Votes = [["a", "a", "b"], ["a", "a", "a"], ["a", None, None]]
    assert disagreement(votes) == pytest.approx(2 / 6)
    assert dissent(votes) == pytest.approx(1 / 6)


@pytest.mark.parametrize("of", [cohen, fleiss, krippendorff, disagreement, dissent])
def test_nothing_to_tell_by_is_no_number(of: Callable[[Votes], float]) -> None:
    assert math.isnan(of([]))
    assert math.isnan(interval([], of, resamples=3).value)


def test_cohen_leaves_out_what_one_did_not_vote_on() -> None:
    votes: Votes = [["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"], ["a", None]]
    assert cohen(votes) == pytest.approx(cohen(votes[:4])) == pytest.approx(0)


@pytest.mark.parametrize(
    ("of", "votes"), [(cohen, [["a", "b", "c"]]), (fleiss, [["a", "b"], ["a", None]]), (fleiss, [["a"], ["b"]])]
)
def test_votes_that_do_not_fit_are_refused(of: Callable[[Votes], float], votes: Votes) -> None:
    with pytest.raises(LearningError):
        of(votes)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(1), 0
    truth = krippendorff(_votes(rng, 20_000))
    for seed in range(60):
        found = interval(_votes(rng, 60), confidence=0.9, resamples=100, seed=seed)
        covered += found.low <= truth <= found.high
    assert 45 <= covered <= 59
    assert interval(_votes(rng, 60), seed=3).items == 60


def test_the_same_seed_gives_the_same_interval() -> None:
    assert interval(KRIPPENDORFF, resamples=50) == interval(KRIPPENDORFF, resamples=50)
    with pytest.raises(LearningError):
        interval(KRIPPENDORFF, confidence=1.0)


def _votes(rng: np.random.Generator, items: int) -> Votes:
    truth = rng.integers(0, 3, items)
    votes = np.where(rng.random((items, 3)) < 0.8, truth[:, None], rng.integers(0, 3, (items, 3)))
    rows: list[list[int]] = votes.tolist()
    return rows
