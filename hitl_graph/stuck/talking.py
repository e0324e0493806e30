"""Talk without progress: a monologue that does not act, a dialogue that turns in a circle."""

import re
from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, Kind, key_of
from hitl_graph.stuck.reading import Acted, Event, Heard, Said, Step
from hitl_graph.stuck.telling import SUGGESTIONS, different
from hitl_graph.stuck.words import clip, gist, prose, similarity

__all__ = ["DialogueStall", "Monologue"]

_KEPT = 8
_SAME = 0.6  # so many words in common make a reply a restatement
_TOPIC = 0.1  # of two refusals it is enough that they speak of the same thing
_PLAN = 0.3
_REFUSAL = re.compile(
    r"\b(?:unfortunately|unable|cannot|can(?:['\u2019]t| not)|not (?:able|possible|allowed|permitted)|impossible|sorry"
    r"|regret|apologi[sz]e|won['\u2019]t be able|(?:do|does)(?: not|n['\u2019]t) (?:have|allow|permit)"
    r"|lamento|lo siento|no (?:puedo|es posible)|leider|nicht möglich|désolée?|não posso|infelizmente)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class DialogueStall:
    """Replies without an action between them that say the same again: a refusal, a question.

    Sentences are the same if most of their words are, anything shorter if it is the same to the letter; refusals
    already if they are about the same thing, since nobody refuses twice in the same words.

    Args:
        times: So many it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 4

    def __post_init__(self) -> None:
        at_least(self, 2, "times")

    def start(self) -> "_Dialogue":
        """A fold that has seen nothing."""
        return _Dialogue(self)


class _Dialogue:
    def __init__(self, options: DialogueStall) -> None:
        self._times = options.times
        self._recent: deque[tuple[Said, bool, int]] = deque(maxlen=_KEPT)

    def see(self, event: Event) -> Evidence | None:
        if isinstance(event, Acted):
            self._recent.clear()
        if not isinstance(event, Said) or not event.text.strip():
            return None
        refusal = _REFUSAL.search(clip(event.text)) is not None
        alike = [one for one in self._recent if _alike(one[0], event, refusal and one[1])]
        count = max(len(alike), alike[-1][2] if alike else 0) + 1
        self._recent.append((event, refusal, count))
        shown = [*(one[0] for one in alike), event]
        if count < 2:
            return None
        what = "refused the same thing" if refusal else "said the same"
        return _evidence(
            "dialogue_stall", shown, count, self._times, f"The agent {what} {count} times and did nothing in between."
        )


def _alike(one: Said, other: Said, refusals: bool) -> bool:
    if refusals:
        return similarity(one.words, other.words) >= _TOPIC
    return one.text == other.text or (prose(other.text) and similarity(one.words, other.words) >= _SAME)


@dataclass(frozen=True)
class Monologue:
    """Messages of the model in a row that restate a plan; it neither acts, nor does anybody answer.

    Args:
        times: So many it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 3

    def __post_init__(self) -> None:
        at_least(self, 2, "times")

    def start(self) -> "_Monologue":
        """A fold that has seen nothing."""
        return _Monologue(self)


class _Monologue:
    def __init__(self, options: Monologue) -> None:
        self._times = options.times
        self._recent: deque[Said] = deque(maxlen=_KEPT)
        self._count = 0

    def see(self, event: Event) -> Evidence | None:
        if isinstance(event, Acted | Step | Heard):
            self._recent.clear()
            self._count = 0
        if not isinstance(event, Said) or not event.text.strip():
            return None
        restated = any(similarity(one.words, event.words) >= _PLAN for one in self._recent)
        self._count = self._count + 1 if restated else 1
        self._recent.append(event)
        if self._count < 2:
            return None
        sentence = f"The agent has talked {self._count} times in a row about what it wants to do, and done nothing."
        return _evidence("monologue", [*self._recent][-self._count :], self._count, self._times, sentence)


def _evidence(kind: Kind, shown: list[Said], count: int, times: int, sentence: str) -> Evidence:
    return Evidence(
        kind=kind,
        indices=tuple(said.index for said in shown),
        sentence=sentence,
        strength=count / times,
        count=count,
        key=key_of(kind, *gist([said.words for said in shown])),
        tried=different(said.text for said in shown),
        suggestions=SUGGESTIONS[kind],
    )
