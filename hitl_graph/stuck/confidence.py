"""A model that is not sure: by its logprobs, by its own word, or because its samples disagree."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage

from hitl_graph.errors import WatchError
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Spoke, text_of
from hitl_graph.stuck.telling import SUGGESTIONS, different
from hitl_graph.stuck.words import similarity, words

__all__ = ["LowConfidence", "agreement", "confidence"]

_SAME = 0.6


@dataclass(frozen=True)
class LowConfidence:
    """A message that the model itself is not sure of.

    Looks at what there is: a number in the field (of `additional_kwargs`, `response_metadata`, or a JSON answer), else
    the geometric mean of the token probabilities (`response_metadata["logprobs"]`, as OpenAI gives them). Samples are
    passed to `watch.see(..., samples=[...])`.

    Args:
        below: From 0 to 1; less confidence than this is low.
        field: Where the model says how sure it is, from 0 to 1 or from 0 to 100.

    Raises:
        WatchError: An option is out of range.
    """

    below: float = 0.5
    field: str = "confidence"

    def __post_init__(self) -> None:
        if isinstance(self.below, bool) or not isinstance(self.below, int | float) or not 0 < self.below <= 1:
            raise WatchError(f"LowConfidence(below=...) takes a number above 0, up to 1, not {self.below!r:.80}")
        if not isinstance(self.field, str) or not self.field:
            raise WatchError(f"LowConfidence(field=...) takes the name of a field, not {self.field!r:.80}")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)

    def samples(self, answers: Sequence[str], index: int) -> Evidence | None:
        """What is wrong with several answers to one question, after the message of this index."""
        if len(answers) < 2 or (share := agreement(answers)) >= self.below:
            return None
        return _evidence(
            f"Asked {len(answers)} times, the model agrees with itself in {share:.0%}.", 1, (index,), answers
        )


class _Fold:
    def __init__(self, options: LowConfidence) -> None:
        self._options = options
        self._count = 0

    def see(self, event: Event) -> Evidence | None:
        if not isinstance(event, Spoke):
            return None
        sure = confidence(event.message, self._options.field)
        if sure is None or sure >= self._options.below:
            self._count = 0
            return None
        self._count += 1
        text = text_of(event.message)
        return _evidence(f"The model is only {sure:.0%} sure of what it says.", self._count, (event.index,), [text])


def confidence(message: AIMessage, field: str = "confidence") -> float | None:
    """How sure the model is of a message, from 0 to 1; None if nothing says so."""
    for place in (message.additional_kwargs, message.response_metadata, _answer(message)):
        if (found := _share(place.get(field))) is not None:
            return found
    logprobs = message.response_metadata.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    if not isinstance(tokens, Sequence) or isinstance(tokens, str):
        return None
    values = [token.get("logprob") for token in tokens if isinstance(token, Mapping)]
    numbers = [max(float(value), -100.0) for value in values if isinstance(value, int | float)]
    return math.exp(sum(numbers) / len(numbers)) if numbers else None


def agreement(answers: Sequence[str]) -> float:
    """The share of the answers that say the same as the most popular one."""
    said = [(" ".join(answer.lower().split()), words(answer)) for answer in answers]
    return max(
        sum(one == other or similarity(one_words, other_words) >= _SAME for other, other_words in said)
        for one, one_words in said
    ) / len(said)


def _answer(message: AIMessage) -> Mapping[str, Any]:
    text = text_of(message).strip()
    if not text.startswith("{") or len(text) > 20_000:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return value / 100 if value > 1 else float(value)


def _evidence(sentence: str, count: int, indices: tuple[int, ...], said: Sequence[str]) -> Evidence:
    return Evidence(
        kind="low_confidence",
        indices=indices,
        sentence=sentence,
        strength=float(count),
        count=count,
        key=key_of("low_confidence"),
        tried=different(said),
        suggestions=SUGGESTIONS["low_confidence"],
    )
