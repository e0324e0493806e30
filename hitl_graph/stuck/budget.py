"""Limits on what a run may spend before somebody is asked."""

from dataclasses import dataclass

from hitl_graph.errors import WatchError
from hitl_graph.stuck.checks import positive
from hitl_graph.stuck.evidence import SURE, Evidence, Spent, key_of
from hitl_graph.stuck.reading import Event, Spoke
from hitl_graph.stuck.telling import SUGGESTIONS

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """What a run may spend before somebody is asked. An answer grants the same again; patience makes no difference.

    Args:
        steps: Messages of the model.
        tokens: As the messages report them (`usage_metadata`).
        cost: In your currency; compared with what is passed as `watch.see(..., now=Spent(cost=...))`.
        wall_time: Seconds; compared with what is passed as `watch.see(..., now=Spent(wall_time=...))`.

    Raises:
        WatchError: No limit is given, or one is out of range.
    """

    steps: int | None = None
    tokens: int | None = None
    cost: float | None = None
    wall_time: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "cost", "wall_time"):
            positive(self, name)
        if not any((self.steps, self.tokens, self.cost, self.wall_time)):
            raise WatchError("Budget() limits nothing; give steps=, tokens=, cost= or wall_time=")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)

    def now(self, spent: Spent) -> Evidence | None:
        """What is wrong with the cost and the time that were spent until now."""
        for name, limit, used in (("cost", self.cost, spent.cost), ("wall_time", self.wall_time, spent.wall_time)):
            if limit is not None and used is not None and used >= limit:
                label = f"{used:g}" if name == "cost" else f"{used:g} seconds"
                return _evidence(name, label, f"{limit:g}", (), str(int(used / limit)))
        return None


class _Fold:
    def __init__(self, options: Budget) -> None:
        self._options = options
        self._first: int | None = None
        self._steps = self._tokens = 0

    def see(self, event: Event) -> Evidence | None:
        if not isinstance(event, Spoke):
            return None
        if self._first is None:
            self._first = event.index
        self._steps += 1
        if event.message.usage_metadata:
            self._tokens += event.message.usage_metadata["total_tokens"]
        for name, limit, used in (
            ("steps", self._options.steps, self._steps),
            ("tokens", self._options.tokens, self._tokens),
        ):
            if limit is not None and used >= limit:
                part = f"{self._first}+{used // limit}"
                return _evidence(name, f"{used} {name}", f"{limit}", (self._first, event.index), part)
        return None


def _evidence(name: str, used: str, limit: str, indices: tuple[int, ...], part: str) -> Evidence:
    return Evidence(
        kind="budget",
        indices=indices,
        sentence=f"The run has spent {used}; its budget is {limit}.",
        strength=SURE,
        key=key_of("budget", name, limit, part),
        suggestions=SUGGESTIONS["budget"],
    )
