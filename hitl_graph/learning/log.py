"""`DecisionLog`: what people decided, as examples; what follows from it for what is decided automatically."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from hitl_graph.learning.examples import Example
from hitl_graph.ledger import Ledger

__all__ = ["DecisionLog", "Health"]


@dataclass(frozen=True)
class Health:
    """How a rule's `Unsure` does."""


class DecisionLog:
    """Every decision of a ledger, as a labelled example."""

    def __init__(self, ledger: Ledger, *, checkpointer: BaseCheckpointSaver[Any] | None = None) -> None:
        self.ledger = ledger
        self.checkpointer = checkpointer

    def examples(self) -> Iterator[Example]:
        """Every request that is an approval or a review, and every automatic decision, oldest first."""
        raise NotImplementedError
