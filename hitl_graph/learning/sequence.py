"""Which thresholds are tested, in which order and at which level, so that all tests together err no more than promised.

The fallback procedure (Wiens 2003) over nested sets of the surest labels, tested with the exact binomial tail. The
level `1 - confidence` is divided between two starts: the smallest set that can pass with one error, and half of the
labels. From a start the sets grow, each tested at the level that was gathered since the last test that failed; a test
that passes hands all of it on to the next set. So a score whose surest labels are nearly all right is tested at the
full level in the end, as in fixed-sequence testing, and one that needs many labels to be told from a bad one is
tested where there are many. Sizes are counts of labels, and depend on nothing that people said.
"""

import bisect
from functools import cache

from scipy.special import bdtr

__all__ = ["allowed", "least", "sequence"]

_FIRST = 0.4  # of the level, for the first start


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
    return bisect.bisect_left(range(labels), True, key=lambda errors: bool(bdtr(errors, labels, error) > level)) - 1


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
    first, late = least(1, error, level * _FIRST), level * (1 - _FIRST)
    errors = allowed(labels // 2, error, late)
    if errors > 1 and least(errors, error, late) > first:
        return [(first, level * _FIRST), (least(errors, error, late), late)]
    alone = [least(errors, error, level) for errors in (1, 0)]
    return [(size, level) for size in alone if size <= labels][:1]
