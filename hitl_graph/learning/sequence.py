"""Which thresholds are tested, in which order and at which level, so that all tests together err no more than promised.

The fallback procedure (Wiens 2003) over nested sets of the surest labels, tested with the exact binomial tail. The
level `1 - confidence` is divided among a few starts. From a start the sets grow, each tested at the level that has
been gathered since the last test that failed; a test that passes hands all of it on to the next set. So a score whose
first labels are nearly all right is tested at almost the full level, as in fixed-sequence testing, and one that needs
many labels to be told from a bad one finds a later start. Sizes are counts of labels and depend on nothing that
people said.
"""

import bisect
from functools import cache
from itertools import accumulate

from scipy.special import bdtr

__all__ = ["allowed", "least", "sequence"]

_STARTS = (1, 5, 20, 80)  # errors that a start allows
_FIRST = 0.5  # of the level, for the first start; the others share the rest


@cache
def least(errors: int, error: float, level: float) -> int:
    """The smallest number of labels with so many errors that shows an error below `error`, at this level."""
    high = errors + 1
    while bdtr(errors, high, error) > level:
        high *= 2
    return bisect.bisect_left(range(high + 1), True, key=lambda n: n > errors and bool(bdtr(errors, n, error) <= level))


@cache
def allowed(labels: int, error: float, level: float) -> int:
    """The greatest number of errors among so many labels that still shows it; -1 if not even none does."""
    errors = -1
    while least(errors + 1, error, level) <= labels:
        errors += 1
    return errors


@cache
def sequence(labels: int, error: float, level: float) -> tuple[tuple[int, float], ...]:
    """What is tested: sizes of the set of surest labels, growing, each with the part of the level that starts there.

    Empty if so few labels cannot show anything.
    """
    starts = dict(_starts(labels, error, level))
    if not starts:
        return ()
    tests: list[tuple[int, float]] = []
    size, gathered = min(starts), 0.0
    while size < labels:
        tests.append((size, starts.get(size, 0.0)))
        gathered = min(gathered + starts.get(size, 0.0), level)
        # the next size that allows one error more: every size between only adds a chance to fail
        following = least(allowed(size, error, gathered) + 1, error, gathered)
        size = min([max(following, size + 1), *(start for start in starts if start > size)])
    return (*tests, (labels, starts.get(labels, 0.0)))


def _starts(labels: int, error: float, level: float) -> list[tuple[int, float]]:
    for count in range(len(_STARTS), 0, -1):
        parts = [level] if count == 1 else [level * _FIRST] + [level * (1 - _FIRST) / (count - 1)] * (count - 1)
        sizes = [least(errors, error, part) for errors, part in zip(_STARTS, parts, strict=False)]
        if sizes[-1] <= labels:
            # a later start may come no later than an earlier one, which has more of the level
            return list(zip(accumulate(sizes, lambda before, size: max(size, before + 1)), parts, strict=True))
    first = least(0, error, level)
    return [(first, level)] if first <= labels else []
