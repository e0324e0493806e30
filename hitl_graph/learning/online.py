"""The same promise after every label: look at it as often as you like; automation only ever grows.

Everything is asked at first. Each label is a bet against "from this score on, more than `error` is wrong": by right
answers a bet wins, by wrong ones it loses. Whoever has made 1 / level out of 1 has shown that it is not so (Ville
1939; betting as in Waudby-Smith and Ramdas 2024). From the certified score on, only a share is audited, and each
audit stands for those that were not (inverse propensity weights). The thresholds share `1 - confidence` by the
fallback procedure, as in `sequence`.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hitl_graph.errors import LearningError
from hitl_graph.learning.certificate import Guarantee

__all__ = ["BETS", "Online", "certified", "fallback", "most", "wager"]

_THRESHOLDS = 80
# At which share of the items a start is, and its part of the level. What is automatic is only audited, so an early
# certificate of little makes every later one slow: most of the level starts at half of the items.
_STARTS = {0.15: 0.4, 0.5: 0.6}
# Shares of what may be put on one label without ruin. Where the error is r times the promised one, a bet of 1 - r tells
# it soonest (Kelly 1956); what takes labels is telling errors that are not far below the promise.
BETS = np.array([0.1, 0.28])
_MIX = np.array([0.3, 0.7])  # what of the stake goes to each


class Online:
    """Certifies as labels come in.

    Each item goes through `propensity` when it is routed; where people were asked, through `update` when the answer is
    there, in the order of routing. One that was not answered in time counts as wrong. Items that nobody was asked about
    change nothing.

    Attributes:
        guarantee: What is promised, at all times together.
        rate: Which share of automatic decisions is audited.
        thresholds: The scores that may be certified, falling.
        labels: How many labels were seen.
        threshold: The lowest score that is automatic, or None as long as none is.
    """

    def __init__(self, scores: ArrayLike, guarantee: Guarantee | None = None, *, rate: float = 0.05) -> None:
        """Starts with nothing certified.

        Args:
            scores: Some hundred scores, without labels: thresholds lie among them. They have to be fixed before labels
                are seen.
            guarantee: What to promise.
            rate: Which share of automatic decisions will be audited, above 0.

        Raises:
            LearningError: A rate of 0 or above 1, or no score that is a number.
        """
        if not 0 < rate <= 1:
            raise LearningError(
                f"a rate of {rate} is above 0 and up to 1: without audits nothing is known about what is automatic"
            )
        finite = np.asarray(scores, float).ravel()
        finite = finite[np.isfinite(finite)]
        if not finite.size:
            raise LearningError("no score is a finite number: pass scores as they will be met")
        self.guarantee, self.rate, self.labels = guarantee or Guarantee(), rate, 0
        self.threshold: float | None = None
        levels = 1 - np.arange(1, _THRESHOLDS + 1) / _THRESHOLDS
        self.thresholds: NDArray[np.float64] = np.unique(np.quantile(finite, levels, method="higher"))[::-1]
        shares = (finite[:, None] >= self.thresholds).mean(axis=0)
        self._parts = fallback(shares, 1 - self.guarantee.confidence)
        self._wealth = np.zeros((len(self.thresholds), len(BETS)))
        self._best = np.zeros(len(self.thresholds))

    def allows(self, score: float) -> bool:
        """Whether a decision with this score is automatic. What is no number never is."""
        return math.isfinite(score) and self.threshold is not None and score >= self.threshold

    def propensity(self, score: float) -> float:
        """How probable it is that people are asked: 1 where nothing is certified, else the rate of audits."""
        return self.rate if self.allows(score) else 1.0

    def update(self, score: float, wrong: bool, propensity: float, *, least: float | None = None) -> Self:
        """One label.

        Args:
            score: Of the item.
            wrong: Whether the model was wrong; true where nobody answered in time.
            propensity: What `propensity` said when the item was routed.
            least: The smallest propensity that any item could have had at that moment: 1 if nothing was certified yet,
                else the rate of audits. None if this object itself routed the item.

        Raises:
            LearningError: Propensities that such an object cannot have given.
        """
        if least is None and propensity not in (1.0, self.rate):
            raise LearningError(
                f"a propensity of {propensity} is neither 1 nor the rate of audits, {self.rate}: was it routed here?"
            )
        if least is not None and not 0 < least <= propensity <= 1:
            raise LearningError(
                f"a propensity of {propensity} and a least of {least} are shares, the least being the smaller one: both"
                " are told at routing"
            )
        above = np.asarray(math.isfinite(score) and score >= self.thresholds)
        smallest = least or (1.0 if self.threshold is None and propensity == 1.0 else self.rate)
        self._wealth = wager(
            self._wealth,
            np.broadcast_to(above, self.thresholds.shape),
            np.asarray(wrong),
            np.asarray(propensity),
            np.asarray(smallest),
            self.guarantee.error,
        )
        self._best = most(self._best, self._wealth)
        self.labels += 1
        return self._settled()

    def _settled(self) -> Self:
        loosest = int(certified(self._best, self._parts))
        self.threshold = float(self.thresholds[loosest]) if loosest >= 0 else None
        return self

    def state(self) -> dict[str, Any]:
        """All there is to it, as plain JSON; `restored` goes on from there, to the last bit."""
        return {
            "error": self.guarantee.error,
            "confidence": self.guarantee.confidence,
            "rate": self.rate,
            "labels": self.labels,
            "thresholds": self.thresholds.tolist(),
            "parts": self._parts.tolist(),
            "wealth": self._wealth.tolist(),
            "best": self._best.tolist(),
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Goes on from a `state`.

        Raises:
            LearningError: It is no state of such an object, or one of a version with other bets.
        """
        try:
            guarantee = Guarantee(float(state["error"]), float(state["confidence"]))
            stream = cls(state["thresholds"], guarantee, rate=float(state["rate"]))
            stream.labels = int(state["labels"])
            stream.thresholds, stream._parts, stream._wealth, stream._best = (
                np.asarray(state[name], float) for name in ("thresholds", "parts", "wealth", "best")
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise LearningError(f"this is not what `Online.state` gave: {exc!r}. Start anew; people are asked") from exc
        count = stream.thresholds.size
        arrays = (stream.thresholds, stream._parts, stream._best, stream._wealth)
        found = tuple(one.shape for one in arrays)
        if found != ((count,), (count,), (count,), (count, len(BETS))):
            raise LearningError(
                f"a state of shapes {found} is not of {count} thresholds and {len(BETS)} bets, which this version has: "
                "start anew; people are asked"
            )
        if not all(np.isfinite(one).all() for one in arrays):
            raise LearningError("a state with a number that is none: start anew; people are asked")
        return stream._settled()


def wager(
    wealth: NDArray[np.float64],
    above: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    propensity: NDArray[np.float64],
    smallest: NDArray[np.float64],
    error: float,
) -> NDArray[np.float64]:
    """The logarithm of what each bet has made, one label later. Any number of streams at once.

    Args:
        wealth: Shape (..., thresholds, bets).
        above: Whether the item is at or above each threshold; shape (..., thresholds).
        wrong: Whether the model was wrong; shape (...).
        propensity: Of this label.
        smallest: The smallest propensity that this label could have had, whatever its score: known before it is drawn.
        error: The promised error.
    """
    stake = BETS * (smallest / (1 - error))[..., None]
    made = np.log1p(stake * ((error - wrong) / propensity)[..., None])
    return wealth + above[..., None] * made[..., None, :]


def most(best: NDArray[np.float64], wealth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the most that the bets on each threshold ever had together; shape (..., thresholds)."""
    together: NDArray[np.float64] = np.log(np.maximum(np.exp(np.minimum(wealth, 700.0)) @ _MIX, 1.0))
    return np.maximum(best, together)


def fallback(shares: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Which part of the level starts at each threshold, given the share of items from it on; strictest first."""
    parts = np.zeros(len(shares))
    for share, part in _STARTS.items():
        parts[min(int(np.searchsorted(shares, share - 1e-9)), len(shares) - 1)] += part * level
    return parts


def certified(best: NDArray[np.float64], parts: NDArray[np.float64]) -> NDArray[np.int64]:
    """The loosest threshold that is certified, or -1, by what `most` says of each; shape (..., thresholds)."""
    found, gathered = np.full(best.shape[:-1], -1), np.zeros(best.shape[:-1])
    starts = np.flatnonzero(parts)
    for start, end in zip(starts, [*starts[1:], len(parts)], strict=True):
        gathered = gathered + parts[start]
        passed = best[..., start:end] >= -np.log(gathered)[..., None]
        run = np.where(passed.all(axis=-1), end - start, passed.argmin(axis=-1))
        found = np.where(run > 0, start + run - 1, found)
        gathered = np.where(run == end - start, gathered, 0.0)
    return found
