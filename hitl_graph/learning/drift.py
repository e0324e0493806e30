"""Has the world changed since the certificate? By the errors that audits find, and, without labels, by the scores.

A certificate speaks of items like those it was made of. Whoever is told of a drift stops deciding automatically and
asks.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hitl_graph.errors import LearningError

__all__ = ["ErrorDrift", "Shift", "first_alarm", "grow", "shift"]

_SUSPECTED = (1.5, 2.5, 4.0, 8.0)  # times the promised error: what the error may have become


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
        evidence: One number a bet, kept between audits. With it, the state can be stored and gone on with.
    """

    error: float
    patience: float = 2000.0
    audits: int = 0
    evidence: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        if not 0 < self.error < 1 or not self.patience > 1:
            raise LearningError(f"error {self.error} is between 0 and 1, and patience {self.patience} above 1 audit")
        if not self.evidence:
            object.__setattr__(self, "evidence", (0.0,) * len(_SUSPECTED))

    def after(self, wrong: bool) -> "ErrorDrift":
        """One audit later."""
        grown = grow(np.asarray(self.evidence), np.asarray(wrong), self.error)
        return ErrorDrift(self.error, self.patience, self.audits + 1, tuple(float(e) for e in grown))

    @property
    def alarm(self) -> bool:
        """Whether the error has probably risen above the promise. What cannot be told is an alarm."""
        return not sum(self.evidence) / len(self.evidence) < self.patience


def grow(evidence: NDArray[np.float64], wrong: NDArray[np.bool_], error: float) -> NDArray[np.float64]:
    """The evidence one audit later; any number of watches at once, the bets last."""
    suspected = np.minimum(np.asarray(_SUSPECTED) * error, (1 + error) / 2)
    ratio = np.where(wrong[..., None], suspected / error, (1 - suspected) / (1 - error))
    return np.minimum((evidence + 1) * ratio, 1e300)


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


def shift(reference: ArrayLike, recent: ArrayLike, *, level: float = 1e-4) -> Shift:
    """Compares recent scores with those at calibration: an early warning that needs no labels. It guarantees nothing.

    Args:
        reference: Scores of the calibration.
        recent: Scores since; about 200 tell well.
        level: How probable a false warning may be, each time one looks.

    Raises:
        LearningError: One of them is empty.
    """
    from scipy.stats import ks_2samp  # a quarter of a second, which who has no drift to look for need not wait

    before, after = np.asarray(reference, float).ravel(), np.asarray(recent, float).ravel()
    if not before.size or not after.size:
        raise LearningError("there are no scores to compare: pass those of the calibration, and those since")
    if np.isnan(before).any() or np.isnan(after).any():
        return Shift(math.nan, math.nan, True)
    found: Any = ks_2samp(before, after)
    return Shift(float(found.statistic), float(found.pvalue), bool(found.pvalue < level))
