"""Has the world changed since the certificate? By the errors that audits find, and, without labels, by the scores.

A certificate speaks of items like those it was made of. Whoever is told of a drift stops deciding automatically and
asks. `ErrorDrift` takes nothing but Python: it is looked at before each automatic decision.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from hitl_graph.errors import LearningError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ErrorDrift", "Shift", "first_alarm", "ratios", "shift"]

_SUSPECTED = (1.5, 2.5, 4.0, 8.0)  # times the promised error: what the error may have become
_MOST = 1e300  # evidence beyond this tells nothing more


@dataclass(frozen=True)
class ErrorDrift:
    """Watches the audits in the order in which they were drawn; `after` each, `alarm` says whether to stop.

    A Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2022) over a mixture of bets. As long as the error stays at
    or below the promise, an alarm comes once in `patience` audits at most, on average; well below it, hardly ever. An
    audit that was not answered in time counts as wrong.

    Attributes:
        error: The promised error, as in `Guarantee`.
        patience: How many audits lie between false alarms, at least and on average, if the error is exactly as
            promised.
        audits: How many were seen.
        evidence: One number a bet, kept between audits.

    The attributes are the state: `ErrorDrift(**json.loads(stored))` goes on where `json.dumps(asdict(watch))` was.

    Raises:
        LearningError: An error, a patience or a state that makes no sense.
    """

    error: float
    patience: float = 2000.0
    audits: int = 0
    evidence: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not 0 < self.error < 1 or not self.patience > 1:
            raise LearningError(f"error {self.error} is between 0 and 1, and patience {self.patience} above 1 audit")
        evidence = tuple(float(one) for one in self.evidence) or (0.0,) * len(_SUSPECTED)
        if len(evidence) != len(_SUSPECTED) or min(evidence) < 0:
            raise LearningError(
                f"evidence {evidence} is not that of {len(_SUSPECTED)} bets, each 0 or above; leave it out"
            )
        object.__setattr__(self, "evidence", evidence)

    def after(self, wrong: bool) -> "ErrorDrift":
        """One audit later."""
        pairs = zip(self.evidence, ratios(self.error, bool(wrong)), strict=True)
        grown = tuple(min((one + 1) * ratio, _MOST) for one, ratio in pairs)
        return ErrorDrift(self.error, self.patience, self.audits + 1, grown)

    @property
    def alarm(self) -> bool:
        """Whether the error has probably risen above the promise. What cannot be told is an alarm."""
        return not sum(self.evidence) / len(self.evidence) < self.patience


@cache
def ratios(error: float, wrong: bool) -> tuple[float, ...]:
    """How much likelier such an audit is under each suspected error than under the promised one."""
    suspected = [min(times * error, (1 + error) / 2) for times in _SUSPECTED]
    return tuple(one / error if wrong else (1 - one) / (1 - error) for one in suspected)


def first_alarm(wrong: Iterable[bool], error: float, patience: float = 2000.0) -> int | None:
    """After how many audits, from 1, the alarm came; None if it did not."""
    watch = ErrorDrift(error, patience)
    for one in wrong:
        watch = watch.after(one)
        if watch.alarm:
            return watch.audits
    return None


@dataclass(frozen=True)
class Shift:
    """Whether recent scores look like those of the certificate.

    Attributes:
        distance: Kolmogorov-Smirnov's: the greatest difference of the two distributions, from 0 to 1.
        p: How probable a distance as great is without any change.
        shifted: p is below the level; so is whatever cannot be told, such as scores that are no numbers.
    """

    distance: float
    p: float
    shifted: bool


def shift(reference: "ArrayLike", recent: "ArrayLike", *, level: float = 1e-4) -> Shift:
    """Compares recent scores with those at calibration: an early warning that needs no labels. It guarantees nothing.

    Args:
        reference: Scores of the calibration.
        recent: Scores since; about 200 tell well.
        level: How probable a false warning may be, each time one looks.

    Raises:
        LearningError: One of them is empty.
    """
    import numpy as np
    from scipy.stats import ks_2samp  # a quarter of a second, which who has no drift to look for need not wait

    before, after = np.asarray(reference, float).ravel(), np.asarray(recent, float).ravel()
    if not before.size or not after.size:
        raise LearningError("there are no scores to compare: pass those of the calibration, and those since")
    if np.isnan(before).any() or np.isnan(after).any():
        return Shift(math.nan, math.nan, True)
    found: Any = ks_2samp(before, after)
    return Shift(float(found.statistic), float(found.pvalue), bool(found.pvalue < level))
