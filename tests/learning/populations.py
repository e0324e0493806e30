"""Worlds of which the truth is known: scores, and whether the model is wrong, drawn from again and again."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIZE = 20_000


def steep(seed: int = 0) -> tuple[Floats, Floats]:
    """A good model: nearly always right where it is sure, wrong in a tenth in all."""
    rng = np.random.default_rng(seed)
    score = rng.random(SIZE)
    return score, (rng.random(SIZE) < 0.5 * (1 - score) ** 4).astype(float)


def flat(seed: int = 0) -> tuple[Floats, Floats]:
    """A model that is hardly better where it is sure, as where people themselves differ."""
    rng = np.random.default_rng(seed)
    score = rng.random(SIZE)
    return score, (rng.random(SIZE) < np.where(score > 0.35, 0.034, 0.25)).astype(float)


def overconfident(seed: int = 0) -> tuple[Floats, Floats]:
    """The surest answers are the worst ones."""
    rng = np.random.default_rng(seed)
    score = rng.random(SIZE)
    return score, (rng.random(SIZE) < np.where(score > 0.95, 0.6, 0.03)).astype(float)


def edge(at: int, error: float = 0.05, levels: int = 80) -> tuple[Floats, Floats]:
    """The hardest to tell: well below the promise for so many levels of the score, and from there on just above it."""
    level = np.repeat(np.arange(levels), SIZE // levels)
    above = SIZE // levels * np.arange(1, levels + 1)
    errors = np.where(np.arange(levels) < at, np.floor(0.6 * error * above), np.floor(error * above) + 1)
    each = np.diff(errors, prepend=0.0)
    return -level.astype(float), (np.tile(np.arange(SIZE // levels), levels) < each[level]).astype(float)


def risks(score: Floats, wrong: Floats) -> Callable[[float], tuple[float, float]]:
    """For a threshold: the true share of what is at or above, and how much of it is wrong."""
    order = np.argsort(-score)
    above, errors = score[order], np.cumsum(wrong[order])

    def at(threshold: float) -> tuple[float, float]:
        count = int(np.searchsorted(-above, -threshold, side="right"))
        return count / len(score), float(errors[count - 1] / count) if count else 0.0

    return at


def coarse(score: Floats) -> Floats:
    """Five levels, as a model says of itself."""
    return np.floor(score * 5)


def noise(score: Floats) -> Floats:
    """A score that has nothing to do with the answer."""
    return np.random.default_rng(9).random(len(score))
