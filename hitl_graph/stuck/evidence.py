"""What a detector found, and what a watch makes of it. Plain data that a card can show and JSON can carry."""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

__all__ = ["SURE", "Alarm", "Answered", "Evidence", "Kind", "Spent", "key_of"]

Kind = Literal[
    "repeated_action",
    "oscillation",
    "repeated_failure",
    "no_new_information",
    "monologue",
    "dialogue_stall",
    "delegation_stall",
    "malformed_output",
    "error",
    "budget",
    "low_confidence",
]

SURE = 1000.0
"""The strength of what no patience makes wait."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def key_of(kind: Kind, *about: str) -> str:
    """The stable name of what a piece of evidence is about (16 hex digits); the same in every process."""
    return hashlib.sha256("\0".join((kind, *about)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Evidence(_Frozen):
    """One reason to call a person.

    Attributes:
        kind: Which detector speaks.
        indices: The messages that show it, oldest first.
        sentence: What happened, for a person.
        strength: 1.0 is enough by itself at normal patience.
        count: How often it happened.
        tried: What the agent did, shortened; different ones only, oldest first.
        came_back: What it got, shortened; different ones only, oldest first.
        suggestions: What could be done next, likeliest first.
        key: Names what it is about. Evidence with the key of an answered one is not new.
    """

    kind: Kind
    indices: tuple[int, ...]
    sentence: str
    strength: float
    key: str
    count: int = 1
    tried: tuple[str, ...] = ()
    came_back: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()

    @field_validator("indices")
    @classmethod
    def _in_order(cls, indices: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(indices)))


class Spent(_Frozen):
    """What a stretch of a run has cost. None: nobody said."""

    steps: int = 0
    """Messages of the model."""
    tokens: int | None = None
    cost: float | None = None
    wall_time: float | None = None
    """Seconds."""


class Alarm(_Frozen):
    """A watch asks for a person.

    Attributes:
        index: The message at which it was raised.
        score: How sure it was then; at least the watch's threshold.
        evidence: What spoke for it, of each kind the strongest, strongest first. Never empty.
        keys: All that was noticed lately, the weak too: what an answer to this alarm answers.
        spent: What was spent from the first message of the evidence until the alarm.
    """

    index: int
    score: float
    evidence: tuple[Evidence, ...]
    keys: tuple[str, ...]
    spent: Spent = Spent()

    @property
    def kind(self) -> Kind:
        """The kind of the strongest evidence."""
        return self.evidence[0].kind

    @property
    def sentence(self) -> str:
        """The sentence of the strongest evidence."""
        return self.evidence[0].sentence

    @property
    def since(self) -> int:
        """The first message that belongs to it."""
        return min((index for one in self.evidence for index in one.indices), default=self.index)

    @property
    def suggestions(self) -> tuple[str, ...]:
        """What could be done next, each once, likeliest first."""
        return tuple(dict.fromkeys(each for one in self.evidence for each in one.suggestions))


class Answered(_Frozen):
    """A person has answered an alarm: the small memory from which a watch can be rebuilt anywhere.

    Attributes:
        index: The last message that had been seen when the answer was taken in. Counting begins afresh after it.
        keys: The evidence that was answered.
        message: Names that last message, so that it is found again when the history was trimmed.
    """

    index: int
    keys: tuple[str, ...]
    message: str = ""
