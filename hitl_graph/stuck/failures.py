"""One class of failure after the other, whatever the arguments."""

from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Heard, Step
from hitl_graph.stuck.telling import SUGGESTIONS, different, excerpt
from hitl_graph.stuck.words import similarity

__all__ = ["RepeatedFailure"]

_SAME = 0.6  # so many words in common, of those that say what is wrong, make one class
_KEPT = 12


@dataclass(frozen=True)
class RepeatedFailure:
    """Varied guesses that fail in the same way, with no success between.

    Two failures are of one class if their messages agree in what is left without names, quotes, numbers, paths and the
    words of the call. A step that brings something ends the streak; one that brings nothing at all (a note, an
    edit without output) neither ends it nor counts. A look-up that answers `False` or `[]` counts as a failed guess,
    unless somebody spoke before it. In a dialogue, where each failure has to be told to somebody, all failures count.

    Args:
        times: So many in a row it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 4

    def __post_init__(self) -> None:
        at_least(self, 2, "times")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


@dataclass(frozen=True)
class _Failed:
    step: Step
    words: frozenset[str]
    heard: int
    count: int


class _Fold:
    def __init__(self, options: RepeatedFailure) -> None:
        self._times = options.times
        self._streak: deque[_Failed] = deque(maxlen=_KEPT)
        self._length = self._heard = 0

    def see(self, event: Event) -> Evidence | None:
        if isinstance(event, Heard):
            self._heard += 1
        if not isinstance(event, Step):
            return None
        words = event.failure
        if words is None and event.says_no and not (self._streak and self._streak[-1].heard != self._heard):
            words = frozenset({"nothing"})
        if words is None:
            if not event.nothing:
                self._streak.clear()
                self._length = 0
            return None
        alike = [one for one in self._streak if similarity(one.words, words) >= _SAME]
        self._streak.append(_Failed(event, words, self._heard, alike[-1].count + 1 if alike else 1))
        self._length += 1
        dialogue = self._streak[0].heard != self._heard
        shown = [*self._streak] if dialogue else [*alike, self._streak[-1]]
        count = self._length if dialogue else self._streak[-1].count
        return self._evidence(shown, count) if count >= 2 else None

    def _evidence(self, shown: list[_Failed], count: int) -> Evidence:
        common = frozenset.intersection(*(one.words for one in shown)) or shown[-1].words
        return Evidence(
            kind="repeated_failure",
            indices=tuple(index for one in shown for index in (one.step.call.index, one.step.index)),
            sentence=f"{count} attempts in a row failed{'' if len(common) < 2 else ' in the same way'}; the last one"
            f" with: {excerpt(shown[-1].step.result, 160) or 'nothing'}",
            strength=count / self._times,
            count=count,
            key=key_of("repeated_failure", *sorted(common)),
            tried=different(one.step.call.shown for one in shown),
            came_back=different(one.step.result or "(nothing)" for one in shown),
            suggestions=SUGGESTIONS["repeated_failure"],
        )
