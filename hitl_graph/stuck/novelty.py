"""Steps that bring nothing new."""

from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Step
from hitl_graph.stuck.telling import SUGGESTIONS, different
from hitl_graph.stuck.words import new_share

__all__ = ["NoNewInformation"]


@dataclass(frozen=True)
class NoNewInformation:
    """Steps in a row in which neither the action nor its result has a word that the steps before it had not.

    A new name in an action is work on something else; a result that was not there before is a step forward, even if
    it consists of old words.

    Args:
        steps: So many in a row it takes, at normal patience.
        within: So many steps back something is known.

    Raises:
        WatchError: An option is out of range.
    """

    steps: int = 6
    within: int = 24

    def __post_init__(self) -> None:
        at_least(self, 2, "steps")
        at_least(self, self.steps, "within")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


class _Fold:
    def __init__(self, options: NoNewInformation) -> None:
        self._steps = options.steps
        self._recent: deque[Step] = deque(maxlen=options.within)
        self._stale = 0

    def see(self, event: Event) -> Evidence | None:
        if not isinstance(event, Step):
            return None
        self._stale = self._stale + 1 if self._old(event) else 0
        self._recent.append(event)
        if self._stale < 2:
            return None
        shown = list(self._recent)[-min(self._stale, self._steps) :]
        return Evidence(
            kind="no_new_information",
            indices=tuple(index for step in shown for index in (step.call.index, step.index)),
            sentence=f"The last {self._stale} steps brought nothing that was not known before.",
            strength=self._stale / self._steps,
            count=self._stale,
            key=key_of("no_new_information", *sorted({step.call.key for step in shown})),
            tried=different(step.call.shown for step in shown),
            came_back=different(step.result or "(nothing)" for step in shown),
            suggestions=SUGGESTIONS["no_new_information"],
        )

    def _old(self, step: Step) -> bool:
        if not any(one.outcome == step.outcome for one in self._recent):
            return False
        known = [words for one in self._recent for words in (one.words, one.call.words)]
        return not new_share(step.call.words, known)
