"""A-B-A-B, or a longer cycle, with nothing new in it."""

from collections import deque
from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Heard, Step
from hitl_graph.stuck.telling import SUGGESTIONS, different

__all__ = ["Oscillation"]


@dataclass(frozen=True)
class Oscillation:
    """A cycle of actions whose results do not change.

    Args:
        rounds: So many whole rounds it takes, at normal patience.
        longest: The longest cycle it looks for, in steps.

    Raises:
        WatchError: An option is out of range.
    """

    rounds: int = 2
    longest: int = 6

    def __post_init__(self) -> None:
        at_least(self, 2, "rounds")
        at_least(self, 2, "longest")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


class _Fold:
    def __init__(self, options: Oscillation) -> None:
        self._rounds, self._longest = options.rounds, options.longest
        self._recent: deque[Step] = deque(maxlen=options.longest)
        self._equal = [0] * (options.longest + 1)  # for each period: steps in a row that equal the one a period before

    def see(self, event: Event) -> Evidence | None:
        if isinstance(event, Heard):  # what a user asks for again is no cycle of the agent
            self._recent.clear()
            self._equal = [0] * len(self._equal)
        if not isinstance(event, Step):
            return None
        for period in range(2, len(self._equal)):
            before = self._recent[-period] if len(self._recent) >= period else None
            same = before is not None and before.call.key == event.call.key and before.outcome == event.outcome
            self._equal[period] = self._equal[period] + 1 if same else 0
        self._recent.append(event)
        for period in range(2, len(self._equal)):
            rounds = self._equal[period] / period + 1
            cycle = list(self._recent)[-period:]
            if rounds >= 2 and len({step.call.key for step in cycle}) > 1:
                return self._evidence(cycle, rounds)
        return None

    def _evidence(self, cycle: list[Step], rounds: float) -> Evidence:
        return Evidence(
            kind="oscillation",
            indices=tuple(index for step in cycle for index in (step.call.index, step.index)),
            sentence=f"The agent goes round in a circle of {len(cycle)} actions and is in round {int(rounds)};"
            " nothing that comes back is new.",
            strength=rounds / self._rounds,
            count=int(rounds),
            key=key_of("oscillation", *sorted(f"{step.call.key}\0{step.outcome}" for step in cycle)),
            tried=different(step.call.shown for step in cycle),
            came_back=different(step.result or "(nothing)" for step in cycle),
            suggestions=SUGGESTIONS["oscillation"],
        )
