"""Why labels are not enough for a certificate: how many will do, or why no number will."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from hitl_graph.learning.agreement import Votes, dissent
from hitl_graph.learning.certificate import Guarantee, NotEnough
from hitl_graph.learning.sequence import least

__all__ = ["shortfall"]

_LOOKED_AT = 40  # sizes
_TELLING = 20  # labels that say something about a rate
_MOST_ERRORS = 2000  # what takes more labels than this many errors is told as "at least"


def shortfall(
    asked: Guarantee, labels: int, accepted: NDArray[np.int64], errors: NDArray[np.int64], votes: Votes | None
) -> NotEnough:
    """Explains a certificate that was not given.

    Args:
        asked: What was to be promised.
        labels: How many labels there are in all.
        accepted: Sizes of the sets of surest items, growing.
        errors: How many of each set were wrong.
        votes: Of the items with a score, the surest first, where several people voted.
    """
    level, promise = 1 - asked.confidence, f"{asked.error:.1%}"
    smallest, first = least(0, asked.error, level), least(1, asked.error, level / 2)
    known = int(accepted[-1]) if accepted.size else 0
    if labels >= smallest > known:
        why = (
            f"only {known} of {labels} scores are numbers, and {smallest} are the least that show an error of {promise}"
        )
        return NotEnough(-(-labels * first // known) if known else None, why, asked, labels)
    looked_at = np.flatnonzero(accepted >= min(smallest, _TELLING))
    if looked_at.size:
        looked_at = looked_at[np.unique(np.linspace(0, looked_at.size - 1, _LOOKED_AT).astype(int))]
    n, k = accepted[looked_at], errors[looked_at]
    large = n >= smallest
    if large.any() and (k >= n * asked.error)[large].all():  # not one set looks good enough
        size, surest = min(zip(n[large], k[large], strict=True), key=lambda set_: set_[1] / set_[0])
        own = _people(votes, n[large], asked.error)
        if own or float(betaincinv(k[large], n[large] - k[large] + 1, level).min()) > asked.error:
            where = f"the model is wrong in {surest / size:.1%} even where it is surest ({size} of {labels} labels)"
            then = own or "; use a better model or score, or promise less"
            why = f"{where}, and {promise} is to be promised: no number of labels will do{then}"
            return NotEnough(None, why, asked, labels)
    estimate = _enough(n / labels, (k + 0.5) / (n + 1), asked.error, level / 2)
    needed = max(first, labels + 1, estimate or (2 * labels if large.any() else 0))
    told = f"; about {needed} may, if the next are like these"
    if labels < smallest:
        told = f": it takes {smallest} without a mistake; about {needed} may do"
    return NotEnough(needed, f"{labels} labels do not show an error of {promise}{told}", asked, labels)


def _people(votes: Votes | None, sizes: NDArray[np.int64], error: float) -> str:
    """That people differ among themselves by more than is to be promised, wherever the model is sure; else nothing."""
    own = [dissent(votes[: int(size)]) for size in sizes] if votes is not None else []
    if not own or not min(own) > error:
        return ""
    return f", and people differ among themselves on {min(own):.1%} there; clear up what answers mean, or promise less"


def _enough(shares: NDArray[np.float64], rates: NDArray[np.float64], error: float, level: float) -> int | None:
    """The fewest labels of which a set with its present share and rate of errors passes its test."""
    found = [
        labels / share
        for share, rate in zip(shares, rates, strict=True)
        if rate < error and (labels := _passing(float(rate), error, level)) is not None
    ]
    return int(np.ceil(min(found))) if found else None


def _passing(rate: float, error: float, level: float) -> int | None:
    low, high = 0, 1
    while rate * least(high, error, level) > high:
        low, high = high, 2 * high
        if high > _MOST_ERRORS:
            return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if rate * least(middle, error, level) > middle else (low, middle)
    return least(high, error, level)
