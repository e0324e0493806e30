"""The same action with the same result, again and again."""

from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Heard, Step
from hitl_graph.stuck.telling import SUGGESTIONS, different, excerpt
from hitl_graph.stuck.words import LIMIT, similarity

__all__ = ["RepeatedAction"]

_ALMOST = 0.8  # so many words in common make two failing calls the same guess
_SHOWN = 20
_ASKED = 0.5  # a look-up repeated after somebody spoke may have been asked for


@dataclass(frozen=True)
class RepeatedAction:
    """The same action with the same useless result.

    Actions are the same if they differ in spelling only, or hardly and without a new word; results if they differ in
    times, ids and order only. Of failing actions it is enough that they differ hardly. A result that changes makes no
    repetition: polling, reading again after an edit. Nor do different targets. Repeating a look-up after the user spoke
    counts half.

    Args:
        times: So often it takes, at normal patience.
        within: So many steps back it looks.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 3
    within: int = 12

    def __post_init__(self) -> None:
        at_least(self, 2, "times")
        at_least(self, self.times - 1, "within")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


@dataclass(frozen=True)
class _Run:
    """A step, and what it repeats."""

    step: Step
    heard: int
    times: int
    count: float
    """The times, where what may have been asked for counts half."""
    key: str
    indices: tuple[int, ...]


class _Fold:
    def __init__(self, options: RepeatedAction) -> None:
        self._times = options.times
        self._recent: deque[_Run] = deque(maxlen=options.within)
        self._heard = 0

    def see(self, event: Event) -> Evidence | None:
        spoken = isinstance(event, Heard)
        if isinstance(event, Heard):
            self._heard += 1
            event = event.exchange or event
        if not isinstance(event, Step):
            return None
        spoken_of = frozenset[str]().union(*(run.step.call.words for run in self._recent))
        alike = [run for run in self._recent if _same(run.step, event, spoken_of)]
        before = alike[-1] if alike else None
        count, last = 1.0, self._heard
        for run in reversed(alike):
            count += 1.0 if run.heard == last or spoken or event.failure is not None else _ASKED
            last = run.heard
        if before is not None and count >= self._times:  # dense enough to be one story, however long it gets
            count = max(count, before.count + 1.0)
        indices = (*(before.indices if before else ()), event.call.index, event.index)
        if len(indices) > _SHOWN:
            indices = indices[:2] + indices[2 - _SHOWN :]
        key = before.key if before else key_of("repeated_action", event.call.key, event.outcome)
        times = before.times + 1 if before else 1
        run = _Run(event, self._heard, times, count, key, indices)
        self._recent.append(run)
        if before is None:
            return None
        return Evidence(
            kind="repeated_action",
            indices=run.indices,
            sentence=f"The agent did the same {times} times, {excerpt(event.call.shown, 120)}, and each time the same"
            f" came back: {excerpt(event.result, 120) or 'nothing'}.",
            strength=run.count / self._times,
            count=times,
            key=run.key,
            tried=different([before.step.call.shown, event.call.shown]),
            came_back=different([event.result or "(nothing)"]),
            suggestions=SUGGESTIONS["repeated_action"],
        )


def _same(one: Step, other: Step, spoken_of: frozenset[str]) -> bool:
    """Whether two steps are the same. `spoken_of` are the words of all calls lately."""
    if one.call.name != other.call.name or (one.outcome != other.outcome and one.parts != other.parts):
        return False
    if one.call.key == other.call.key:
        return True
    # Hardly another action: of a failing one a small change is no other, of a working one a new word is a new target.
    known = other.failure is not None or (len(other.call.args) <= LIMIT and other.call.words <= spoken_of)
    return known and not other.nothing and similarity(one.call.words, other.call.words) >= _ALMOST
