"""Which items to ask people about, when they cannot look at all: most where the model is unsure, some at random.

The sure way to be wrong about a model is to judge it by the items it was unsure of. So a share of the budget is drawn
uniformly; only that share may certify anything, or say how often the model errs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hitl_graph.errors import LearningError
from hitl_graph.learning.audit import draw

__all__ = ["Chosen", "choose"]

_UNSURE = 0.4  # margins below this make candidates, of which the clusters are made: many while the model knows little
_FEWEST, _MOST = 4, 25  # candidates a query
_USUAL = 10  # where the model's answers are not told, so that a margin has no scale
_ANSWERS = 2.0  # how much the model's answers count beside the features, when items are told to be alike


@dataclass(frozen=True)
class Chosen:
    """An item that people are asked about.

    Attributes:
        index: Its place in the pool.
        name: Its name.
        how: `uniform` may certify, `query` never does: it was chosen because the model is bad at it.
        propensity: How probable it was to be drawn uniformly, which is the same for each item of the pool; None for a
            query.
    """

    index: int
    name: str
    how: Literal["query", "uniform"]
    propensity: float | None


def choose(
    names: Sequence[str],
    budget: int,
    *,
    secret: bytes,
    probabilities: ArrayLike,
    features: ArrayLike | None = None,
    uniform: float = 0.2,
) -> list[Chosen]:
    """Chooses from a pool, repeatably: the same pool, secret and budget give the same choice in every process.

    Queries are unsure (a small margin between the two most probable answers) and unlike each other (one of each
    cluster), as in Zhdanov 2019, "Diverse mini-batch active learning". Items are alike if their features are, and the
    answers between which the model wavers.

    Args:
        names: Of the items, each once; ids of requests, for instance.
        budget: How many to choose; the whole pool, if it is no larger.
        secret: At least 16 random bytes, for the uniform part.
        probabilities: One row an item, one column an answer; or one number an item, higher where the model is surer.
        features: One row of numbers an item, alike for items that are alike, such as embeddings. Without, only the
            margin counts.
        uniform: The share of the budget that is drawn uniformly, rounded up.

    Raises:
        LearningError: Names that are not unique, arguments of unlike lengths, or numbers that make no sense.
    """
    n = len(names)
    given, points = np.asarray(probabilities, float), None if features is None else np.asarray(features, float)
    margins = _margins(given)
    if len(set(names)) != n or len(margins) != n or (points is not None and (points.ndim != 2 or len(points) != n)):
        raise LearningError(
            f"{n} names ask for as many different ones, as many probabilities and as many rows of features"
        )
    answers, points = given.ndim == 2 and given.shape[1] > 1, None if points is None else _scaled(points)
    if answers and points is not None:
        points = np.hstack([points, _ANSWERS * _scaled(np.sqrt(np.maximum(given, 0.0)))])
    if budget < 0 or not 0 <= uniform <= 1:
        raise LearningError(f"a budget of {budget} is at least 0, and a uniform share of {uniform} from 0 to 1")
    budget = min(budget, n)
    at_random = min(budget, int(np.ceil(round(budget * uniform, 9))))
    by_draw = sorted(range(n), key=lambda i: (draw(secret, names[i]), names[i]))
    drawn, rest = by_draw[:at_random], np.array(sorted(by_draw[at_random:]), int)
    left = None if points is None else points[rest]
    queries = _queries(margins[rest], left, budget - at_random, _seed(secret), told=answers)
    at = [str(name) for name in names]
    return [Chosen(i, at[i], "uniform", at_random / n) for i in drawn] + [
        Chosen(int(i), at[i], "query", None) for i in rest[queries]
    ]


def _seed(secret: bytes) -> int:
    return int(draw(secret, "clusters") * 2**53)


def _scaled(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """With rows of length 1, on average. What is no finite number is 0."""
    points = np.where(np.isfinite(points), points, 0.0)
    length = float(np.sqrt((points * points).sum(axis=1).mean())) if len(points) else 0.0
    return points / length if length > 0 else points


def _margins(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """How sure the model is of each item. What is no number is as unsure as can be."""
    if given.ndim == 2 and given.shape[1] > 1:
        two = np.partition(np.nan_to_num(given, nan=0.0), -2, axis=1)[:, -2:]
        given = np.where(np.isfinite(given).all(axis=1), two[:, 1] - two[:, 0], -np.inf)
    return np.where(np.isnan(given.ravel()), -np.inf, given.ravel())


def _queries(
    margins: NDArray[np.float64], points: NDArray[np.float64] | None, budget: int, seed: int, *, told: bool
) -> NDArray[np.int64]:
    unsure = int((margins < _UNSURE).sum()) if told else _USUAL * budget
    shortlist = np.argsort(margins, kind="stable")[: min(max(unsure, _FEWEST * budget), _MOST * budget)]
    if points is None or budget < 2 or len(shortlist) <= budget:
        return shortlist[:budget]
    near = points[shortlist]
    ranks = np.arange(len(shortlist)) / len(shortlist)
    cluster, distance = _clusters(near, 1 - ranks, budget, np.random.default_rng(seed))
    # the item nearest to the middle of its cluster; a cluster that ran empty leaves its place to the least sure
    first = [shortlist[members[np.argmin(distance[members])]] for members in _members(cluster, budget) if members.size]
    more = [i for i in shortlist if i not in set(first)][: budget - len(first)]
    return np.array([*first, *more], int)


def _members(cluster: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(cluster == c) for c in range(count)]


def _clusters(
    points: NDArray[np.float64], weights: NDArray[np.float64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Weighted k-means: the cluster of each point, and its squared distance to the middle."""
    squares = (points * points).sum(axis=1)

    def to(centres: NDArray[np.float64]) -> NDArray[np.float64]:
        apart: NDArray[np.float64] = squares[:, None] - 2 * points @ centres.T + (centres * centres).sum(axis=1)
        return np.maximum(apart, 0)

    chosen = [int(rng.choice(len(points), p=weights / weights.sum()))]  # k-means++
    nearest = to(points[chosen])[:, 0]
    for _ in range(count - 1):
        odds = nearest * weights
        odds = odds if odds.sum() > 0 else weights
        chosen.append(int(rng.choice(len(points), p=odds / odds.sum())))
        nearest = np.minimum(nearest, to(points[chosen[-1:]])[:, 0])
    centres = points[chosen]
    for _ in range(10):
        cluster = to(centres).argmin(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, points * weights[:, None])
        size = np.bincount(cluster, weights=weights, minlength=count)
        centres = np.where(size[:, None] > 0, sums / np.maximum(size, 1e-12)[:, None], centres)
    distances = to(centres)
    return distances.argmin(axis=1), distances.min(axis=1)
