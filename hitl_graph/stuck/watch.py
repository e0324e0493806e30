"""The detectors together: one score, raised once, let go when the run moves on, silent about what was answered."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from langchain_core.messages import AIMessage, BaseMessage

from hitl_graph.errors import WatchError
from hitl_graph.stuck.default import default_detectors
from hitl_graph.stuck.detector import Detector, Fold
from hitl_graph.stuck.evidence import Alarm, Answered, Evidence, Spent
from hitl_graph.stuck.reading import Event, Reader, text_of

__all__ = ["Patience", "Watch", "spent"]

Patience = Literal["low", "normal", "high"]
_PATIENCE: dict[Patience, float] = {"low": 0.75, "normal": 1.0, "high": 1.5}
_RELEASE = 0.5  # an alarm is let go when the score falls to this part of the threshold
_AGAIN = 3.0  # answered evidence is new evidence when it has grown to so many times what was needed


class Watch:
    """Watches one history. Everything it knows follows from the messages and the memory, so it may be thrown away.

    Args:
        patience: `low`, `normal` or `high`; or a number: how much evidence an alarm takes (1.0 is normal).
        detectors: What to look for; `default_detectors()` if not given. Add a budget with
            `detectors=[*default_detectors(), Budget(steps=50)]`.
        memory: What has been answered, as `watch.memory` gives it (models, or their plain dicts out of JSON).

    Raises:
        WatchError: An option makes no sense.
    """

    def __init__(
        self,
        patience: Patience | float = "normal",
        *,
        detectors: Iterable[Detector] | None = None,
        memory: Iterable[Answered | dict[str, object]] = (),
    ) -> None:
        self.threshold = _threshold(patience)
        self.detectors = tuple(default_detectors() if detectors is None else detectors)
        for detector in self.detectors:
            if not isinstance(detector, Detector):
                raise WatchError(f"detectors= takes detectors, such as Budget(steps=50), not {detector!r:.80}")
        self._memory = sorted((Answered.model_validate(one) for one in memory), key=lambda one: one.index)
        self._begin()

    @property
    def memory(self) -> tuple[Answered, ...]:
        """What has been answered; `[one.model_dump() for one in watch.memory]` is plain JSON."""
        return tuple(self._memory)

    def see(
        self,
        messages: Sequence[BaseMessage],
        *,
        error: BaseException | None = None,
        now: Spent | None = None,
        samples: Sequence[str] = (),
    ) -> Alarm | None:
        """Take in the messages that were not seen yet; the alarm that stands at the end of them, or None.

        Args:
            messages: The whole history so far. If an older message was changed or removed, all of it is read anew.
            error: What a node raised just now.
            now: What the run has spent until now, for budgets on cost and wall time.
            samples: Several answers of the model to the same question; if they disagree, it is not sure.
        """
        raise NotImplementedError

    def answered(self, alarm: Alarm) -> Answered:
        """A person has answered: patience is restored, counting begins afresh, and this evidence is not told again.

        Keep what is returned (or the whole of `memory`) with the run.
        """
        raise NotImplementedError

    def _begin(self) -> None:
        self._seen: list[BaseMessage] = []
        self._alarm: Alarm | None = None


def spent(messages: Sequence[BaseMessage]) -> Spent:
    """What these messages have cost, as far as they say."""
    models = [message for message in messages if isinstance(message, AIMessage)]
    tokens = [message.usage_metadata["total_tokens"] for message in models if message.usage_metadata]
    return Spent(steps=len(models), tokens=sum(tokens) if tokens else None)


def _threshold(patience: object) -> float:
    if isinstance(patience, str) and patience in _PATIENCE:
        return _PATIENCE[patience]
    if isinstance(patience, int | float) and not isinstance(patience, bool) and 0 < patience < float("inf"):
        return float(patience)
    raise WatchError(f"patience= is {', '.join(map(repr, get_args(Patience)))} or a number above 0, not {patience!r:.80}")
