"""How far people agree with each other, beyond what chance would do.

Votes are one row an item, one column a reviewer; `None` is a vote that is missing. 1 is full agreement, 0 is chance,
and `nan` stands where there is nothing to tell by: nobody shares an item, or there was only one answer ever.

Cohen (1960) is for two reviewers, Fleiss (1971) for a fixed number of votes an item, Krippendorff's alpha (2011,
nominal) for any number of them.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hitl_graph.errors import LearningError

__all__ = ["Agreement", "Codes", "Votes", "cohen", "disagreement", "dissent", "fleiss", "interval", "krippendorff"]

Votes = Sequence[Sequence[Hashable | None]]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its bootstrap interval.

    Attributes:
        value: Of all items.
        low: Lower end.
        high: Upper end.
        confidence: Of the interval.
        items: How many items it is of.
    """

    value: float
    low: float
    high: float
    confidence: float
    items: int


def cohen(votes: Votes) -> float:
    """Cohen's kappa of two reviewers, over the items that both voted on.

    Raises:
        LearningError: A row has not two columns.
    """
    if any(len(row) != 2 for row in votes):
        raise LearningError("Cohen's kappa is of two reviewers: pass two votes an item, or use krippendorff")
    return _cohen(_coded(votes))


def fleiss(votes: Votes) -> float:
    """Fleiss' kappa: the same number of votes on each item, by whomever.

    Raises:
        LearningError: Some items have more votes than others, or only one.
    """
    coded = _coded(votes)
    sizes = {int(size) for size in (coded >= 0).sum(axis=1)}
    if len(sizes) > 1 or sizes & {0, 1}:
        raise LearningError(
            f"Fleiss' kappa needs two or more votes, as many on each item; here {sorted(sizes)}: use krippendorff"
        )
    return _fleiss(coded)


def krippendorff(votes: Votes) -> float:
    """Krippendorff's alpha for names (no order among the answers). Items with less than two votes tell nothing."""
    return _krippendorff(_coded(votes))


def disagreement(votes: Votes) -> float:
    """How often two people who voted on the same item differ: the share of such pairs."""
    return _disagreement(_coded(votes))


def dissent(votes: Votes) -> float:
    """How often one person differs from the majority of their item: the share of votes.

    Items with one vote tell nothing. No automaton can be shown to err less than this against a single person's word.
    """
    return _dissent(_coded(votes))


def interval(
    votes: Votes,
    coefficient: Callable[[Votes], float] = krippendorff,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """A coefficient with a percentile bootstrap interval, by drawing items again.

    Args:
        votes: One row an item.
        coefficient: `cohen`, `fleiss`, `krippendorff`, `disagreement` or `dissent`.
        confidence: Of the interval.
        resamples: How often items are drawn again; draws in which the coefficient is not defined are left out.
        seed: The same seed, the same interval.

    Raises:
        LearningError: Settings that make no sense, or votes that the coefficient cannot be taken of.
    """
    if not 0 < confidence < 1 or resamples < 1 or coefficient not in _OF_CODES:
        raise LearningError(
            f"an interval is of a coefficient of this module, with a confidence between 0 and 1 ({confidence}) and one"
            f" or more resamples ({resamples})"
        )
    value, coded, of = coefficient(votes), _coded(votes), _OF_CODES[coefficient]
    rng, n = np.random.default_rng(seed), len(votes)
    drawn = [of(coded[rng.integers(0, n, n)]) for _ in range(resamples)] if n else []
    kept = [one for one in drawn if not np.isnan(one)]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = (float(end) for end in np.quantile(kept, tails)) if kept else (float("nan"), float("nan"))
    return Agreement(value, low, high, confidence, n)


def _coded(votes: Votes) -> Codes:
    """Answers as numbers from 0, one column a reviewer; -1 where a vote is missing."""
    numbers = {label: i for i, label in enumerate(dict.fromkeys(v for row in votes for v in row if v is not None))}
    coded = np.full((len(votes), max((len(row) for row in votes), default=0)), -1)
    for i, row in enumerate(votes):
        coded[i, : len(row)] = [-1 if vote is None else numbers[vote] for vote in row]
    return coded


def _counts(coded: Codes) -> NDArray[np.float64]:
    """How often each answer was given to each item."""
    labels = int(coded.max()) + 1 if coded.size else 0
    rows, columns = np.nonzero(coded >= 0)
    flat = np.bincount(rows * labels + coded[rows, columns], minlength=len(coded) * labels)
    return flat.reshape(len(coded), labels).astype(float)


def _cohen(coded: Codes) -> float:
    both = coded[(coded >= 0).all(axis=1)]
    if not both.size:
        return float("nan")
    labels = int(both.max()) + 1
    first, second = (np.bincount(both[:, side], minlength=labels) / len(both) for side in (0, 1))
    return _beyond_chance(float((both[:, 0] != both[:, 1]).mean()), 1 - float(first @ second))


def _fleiss(coded: Codes) -> float:
    counts = _counts(coded)
    if not counts.size:
        return float("nan")
    share = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(_within(counts), 1 - float(share @ share))


def _krippendorff(coded: Codes) -> float:
    counts = _counts(coded)
    paired = counts[counts.sum(axis=1) > 1]
    if not paired.size:
        return float("nan")
    total, each = float(paired.sum()), paired.sum(axis=0)
    return _beyond_chance(_within(paired), (total * total - float(each @ each)) / (total * (total - 1)))


def _disagreement(coded: Codes) -> float:
    counts = _counts(coded)
    size = counts.sum(axis=1)
    pairs = float((size * (size - 1)).sum())
    return (pairs - float((counts * (counts - 1)).sum())) / pairs if pairs else float("nan")


def _dissent(coded: Codes) -> float:
    counts = _counts(coded)
    counts = counts[counts.sum(axis=1) > 1]
    return 1 - float(counts.max(axis=1).sum() / counts.sum()) if counts.size else float("nan")


def _within(counts: NDArray[np.float64]) -> float:
    """Disagreement within items, each item weighing as many votes as it has."""
    size = counts.sum(axis=1)
    differing = size * size - (counts * counts).sum(axis=1)
    return float((differing / (size - 1)).sum() / size.sum())


def _beyond_chance(observed: float, expected: float) -> float:
    return 1 - observed / expected if expected > 1e-12 else float("nan")


_OF_CODES: dict[Callable[[Votes], float], Callable[[Codes], float]] = {
    cohen: _cohen,
    fleiss: _fleiss,
    krippendorff: _krippendorff,
    disagreement: _disagreement,
    dissent: _dissent,
}
