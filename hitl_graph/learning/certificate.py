"""A promise about automatic decisions, and what labels say to it: a certificate, or that they are not enough."""

import math
from dataclasses import dataclass

from hitl_graph.errors import LearningError

__all__ = ["Certificate", "Guarantee", "NotEnough"]


@dataclass(frozen=True)
class Guarantee:
    """What is promised about automatic decisions.

    Attributes:
        error: At most this share of them is wrong ...
        confidence: ... and the labels mislead into a certificate that breaks this with a probability of 1 - confidence
            at most.

    Raises:
        LearningError: A share or a confidence that is not between 0 and 1.
    """

    error: float = 0.05
    confidence: float = 0.90

    def __post_init__(self) -> None:
        if not (0 < self.error < 1 and 0 < self.confidence < 1):
            raise LearningError(f"error {self.error} and confidence {self.confidence} are shares between 0 and 1")


@dataclass(frozen=True)
class Certificate:
    """Leave to decide automatically from a score on.

    Attributes:
        threshold: The lowest score that is automatic.
        guarantee: What is promised.
        labels: How many labels it is made of.
        accepted: How many of those have a score that is automatic.
        errors: How many of these were wrong.
    """

    threshold: float
    guarantee: Guarantee
    labels: int
    accepted: int
    errors: int

    @property
    def share(self) -> float:
        """Which share is decided automatically, as far as the labels tell."""
        return self.accepted / self.labels

    def allows(self, score: float) -> bool:
        """Whether a decision with this score is automatic. What is no number never is."""
        return math.isfinite(score) and score >= self.threshold


@dataclass(frozen=True)
class NotEnough:
    """No certificate; everything is asked.

    Attributes:
        needed: About how many labels in all will do, if the next are like these; None if no number will.
        why: The same in words, for people.
        guarantee: What was asked for.
        labels: How many there were.
    """

    needed: int | None
    why: str
    guarantee: Guarantee
    labels: int

    def allows(self, score: float) -> bool:
        """Never."""
        return False
