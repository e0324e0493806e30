"""What a detector is: frozen options that make folds; a fold takes one step of the history at a time."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from langchain_core.messages import BaseMessage

from hitl_graph.stuck.evidence import Evidence
from hitl_graph.stuck.reading import Event, Reader

__all__ = ["Detector", "Fold", "detect"]


class Fold(Protocol):
    """A detector at work on one history. Its memory is bounded, and so is its work per event."""

    def see(self, event: Event) -> Evidence | None:
        """Take in the next event; what it makes evident, or None."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Options, checked when made. Two folds of one detector that see the same events say the same."""

    def start(self) -> Fold:
        """A fold that has seen nothing."""
        ...


def detect(detector: Detector, messages: Sequence[BaseMessage]) -> Evidence | None:
    """What one detector says of the last message of a history: a pure function, from the beginning."""
    fold, reader = detector.start(), Reader()
    said: list[Evidence] = []
    for index, message in enumerate(messages):
        said = [one for event in reader.read(index, message) if (one := fold.see(event)) is not None]
    return said[-1] if said else None
