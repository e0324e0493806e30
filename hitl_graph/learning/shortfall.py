"""Why labels are not enough for a certificate: how many will do, or why no number will."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from hitl_graph.learning.agreement import Votes, dissent
from hitl_graph.learning.certificate import Guarantee, NotEnough
from hitl_graph.learning.sequence import least

__all__ = ["shortfall"]

_LOOKED_AT = 40  # sizes
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
    if labels < smallest:
        why = f"{labels} labels cannot show an error of {promise}: it takes {smallest} if none is wrong, {first} if one is"
        return NotEnough(first, why, asked, labels)
    large = np.flatnonzero(accepted >= smallest)
    if not large.size:
        known = int(accepted[-1]) if accepted.size else 0
        why = (
            f"only {known} of {labels} scores are numbers, and {smallest} are the least that show an error of {promise}"
        )
        return NotEnough(-(-labels * first // known) if known else None, why, asked, labels)
    large = large[np.unique(np.linspace(0, len(large) - 1, _LOOKED_AT).astype(int))]
    n, k = accepted[large], errors[large]
    if (k >= n * asked.error).all():  # not one set looks good enough
        surest = float((k / n).min())
        if float(betaincinv(np.maximum(k, 1), n - k + 1, level / len(n)).min()) > asked.error:
            why = (
                f"the model is wrong in {surest:.1%} or more however sure it is, and {promise} is to be promised:"
                " no number of labels will do; promise less, or use a better model or score"
            )
            return NotEnough(None, why + _people(votes, n, asked.error), asked, labels)
        if own := _people(votes, n, asked.error):
            return NotEnough(None, f"no number of labels will show an error of {promise}{own}", asked, labels)
    needed = max(_enough(n / labels, (k + 0.5) / (n + 1), asked.error, level / 2) or 2 * labels, labels + 1)
    why = f"{labels} labels do not show an error of {promise} yet; about {needed} may, if the next are like these"
    return NotEnough(needed, why, asked, labels)


def _people(votes: Votes | None, sizes: NDArray[np.int64], error: float) -> str:
    """That people differ among themselves by more than is to be promised, wherever the model is sure; else nothing."""
    own = [dissent(votes[: int(size)]) for size in sizes] if votes is not None else []
    if not own or not min(own) > error:
        return ""
    return f": people differ among themselves on {min(own):.1%} even there; promise less, or clear up what answers mean"


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
