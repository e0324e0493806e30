"""The same request to a helper, in other words, again and again."""

import json
import re
from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Acted, Call, Event, Said
from hitl_graph.stuck.telling import SUGGESTIONS, different, excerpt
from hitl_graph.stuck.words import clip, gist, new_share, prose, similarity, words

__all__ = ["DelegationStall"]

_KEPT = 8
_LIKE = 0.3  # a request restates if it has so much in common with the two nearest before it
_NEW = 2.0  # each share of new words takes twice as much away
_FADES = 0.9
_EACH = 0.55  # what a restatement is worth on average; requests are never quite the same
# What a request may be about: a capital or a digit within a sentence, an address, something quoted.
_NAME = re.compile(r"""(?<![.!?:]\s)(?<!^)\b(?:[A-Z][\w-]+|\w*\d\w*)\b|https?://\S+|'[^']{3,60}'|"[^"]{3,60}\"""")


@dataclass(frozen=True)
class DelegationStall:
    """Requests in plain words to the same tool or agent that only restate what was asked before.

    Each request counts as much as it has in common with the two nearest of the last eight, less what is new in it; a
    name that none of them had makes it a request about something else. What restates nothing lets the count fall, and
    so does a new plan.

    Args:
        times: So many restatements it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 4

    def __post_init__(self) -> None:
        at_least(self, 1, "times")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


class _Fold:
    def __init__(self, options: DelegationStall) -> None:
        self._times = options.times
        self._recent: deque[tuple[Call, frozenset[str]]] = deque(maxlen=_KEPT)
        self._weight = 0.0

    def see(self, event: Event) -> Evidence | None:
        if isinstance(event, Said):  # a new plan is a new beginning, by half
            self._weight /= 2
        if not isinstance(event, Acted):
            return None
        text = clip(_request(event.call))
        if not prose(text):
            return None
        said = words(text)
        same = [(call, one) for call, one in self._recent if call.name == event.call.name]
        self._recent.append((event.call, said))
        near = sorted(
            ((similarity(one, said), call, one) for call, one in same), key=lambda each: each[0], reverse=True
        )
        known = [one for _, one in same]
        degree = sum(each[0] for each in near[:2]) / 2 * max(0.0, 1 - _NEW * new_share(said, known))
        if degree < _LIKE or _names_another(text, known):
            self._weight = max(0.0, self._weight * _FADES - 0.5)
            return None
        self._weight = self._weight * _FADES + degree
        shown = sorted((each for each in near if each[0] >= _LIKE), key=lambda each: each[1].index)
        texts = [*(_request(each[1]) for each in shown), text]
        return Evidence(
            kind="delegation_stall",
            indices=(*(each[1].index for each in shown), event.index),
            sentence=f"The agent has asked {event.call.name or 'its helper'} for the same {len(texts)} times in other"
            f" words, without a useful answer: {excerpt(text, 120)}",
            strength=self._weight / (self._times * _EACH),
            count=len(texts),
            key=key_of("delegation_stall", event.call.name, *gist([*(each[2] for each in shown), said])),
            tried=different(texts),
            suggestions=SUGGESTIONS["delegation_stall"],
        )


def _names_another(text: str, known: list[frozenset[str]]) -> bool:
    """Whether a request names something that none of the known ones spoke of."""
    if not known:
        return True
    spoken = frozenset[str]().union(*known)
    return any(not words(name) <= spoken for name in _NAME.findall(text))


def _request(call: Call) -> str:
    """The longest text among the arguments."""
    try:
        args = json.loads(call.args)
    except ValueError:
        return call.args
    texts = [value for value in args.values() if isinstance(value, str)] if isinstance(args, dict) else []
    return max(texts, key=len, default="")
