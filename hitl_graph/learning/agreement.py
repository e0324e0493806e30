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

__all__ = ["Agreement", "Votes", "cohen", "disagreement", "dissent", "fleiss", "interval", "krippendorff"]

Votes = Sequence[Sequence[Hashable | None]]


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
    both = [row for row in votes if row[0] is not None and row[1] is not None]
    if not both:
        return float("nan")
    labels = _numbered(both)
    first, second = (
        np.bincount([labels[row[side]] for row in both], minlength=len(labels)) / len(both) for side in (0, 1)
    )
    observed = sum(row[0] == row[1] for row in both) / len(both)
    return _beyond_chance(1 - observed, 1 - float(first @ second))


def fleiss(votes: Votes) -> float:
    """Fleiss' kappa: the same number of votes on each item, by whomever.

    Raises:
        LearningError: Some items have more votes than others, or only one.
    """
    counts = _counts(votes)
    sizes = {int(size) for size in counts.sum(axis=1)}
    if not sizes:
        return float("nan")
    if len(sizes) > 1 or min(sizes) < 2:
        raise LearningError(
            f"Fleiss' kappa needs two or more votes, as many on each item; here {sorted(sizes)}: use krippendorff"
        )
    share = counts.sum(axis=0) / counts.sum()
    return _beyond_chance(_observed(counts), 1 - float(share @ share))


def krippendorff(votes: Votes) -> float:
    """Krippendorff's alpha for names (no order among the answers). Items with less than two votes tell nothing."""
    return _alpha(_counts(votes))


def disagreement(votes: Votes) -> float:
    """How often two people who voted on the same item differ: the share of such pairs."""
    counts = _counts(votes)
    size = counts.sum(axis=1)
    pairs = float((size * (size - 1)).sum())
    return float(pairs - (counts * (counts - 1)).sum()) / pairs if pairs else float("nan")


def dissent(votes: Votes) -> float:
    """How often one person differs from the majority of their item: the share of votes.

    Items with one vote tell nothing. No automaton can be shown to err less than this against a single person's word.
    """
    counts = _counts(votes)
    counts = counts[counts.sum(axis=1) > 1]
    return float(1 - counts.max(axis=1).sum() / counts.sum()) if counts.size else float("nan")


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
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise LearningError(f"confidence {confidence} is between 0 and 1, and {resamples} resamples are at least 1")
    rng = np.random.default_rng(seed)
    rows, n = list(votes), len(votes)
    drawn = [coefficient([rows[i] for i in rng.integers(0, n, n)]) for _ in range(resamples)] if n else []
    kept = [value for value in drawn if not np.isnan(value)]
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = (float(end) for end in np.quantile(kept, tails)) if kept else (float("nan"), float("nan"))
    return Agreement(coefficient(rows), low, high, confidence, n)


def _numbered(votes: Votes) -> dict[Hashable, int]:
    return {label: i for i, label in enumerate(dict.fromkeys(v for row in votes for v in row if v is not None))}


def _counts(votes: Votes) -> NDArray[np.float64]:
    """How often each answer was given to each item."""
    labels = _numbered(votes)
    counts = np.zeros((len(votes), len(labels)))
    for i, row in enumerate(votes):
        for vote in row:
            if vote is not None:
                counts[i, labels[vote]] += 1
    return counts


def _observed(counts: NDArray[np.float64]) -> float:
    """Disagreement within items, each item weighing as many votes as it has."""
    size = counts.sum(axis=1)
    differing = size * size - (counts * counts).sum(axis=1)
    return float((differing / (size - 1)).sum() / size.sum())


def _alpha(counts: NDArray[np.float64]) -> float:
    paired = counts[counts.sum(axis=1) > 1]
    if not paired.size:
        return float("nan")
    total, each = float(paired.sum()), paired.sum(axis=0)
    expected = (total * total - float(each @ each)) / (total * (total - 1))
    return _beyond_chance(_observed(paired), expected)


def _beyond_chance(observed: float, expected: float) -> float:
    return 1 - observed / expected if expected > 0 else float("nan")
