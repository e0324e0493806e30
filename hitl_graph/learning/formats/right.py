"""What an example is good for: whether a person said what is right, and what that is. No I/O."""

import math

from pydantic import JsonValue

from hitl_graph.learning.examples import Example
from hitl_graph.learning.formats.chat import Unusable
from hitl_graph.model import Decision

__all__ = ["best", "decided", "finite"]


def decided(example: Example) -> Decision:
    """What a person decided.

    Raises:
        Unusable: Nobody did, or it was redacted.
    """
    if example.output is None:
        raise Unusable("redacted")
    if example.decision is None:
        if example.state is None:
            raise Unusable("nobody was asked")
        raise Unusable("not decided yet" if example.state == "pending" else "closed without a decision")
    if not example.by_people:
        raise Unusable("not decided by a person")
    return example.decision


def best(example: Example) -> JsonValue:
    """What people said is right: what they approved, what they made of it, or what they approved in its place later.

    Raises:
        Unusable: They did not say.
    """
    decided(example)
    found = example.better if example.right is None else example.right
    if found is None:
        raise Unusable("nothing right is known")
    return found


def finite(score: float | None) -> float | None:
    """A score as JSON has it; None where it is no finite number."""
    return score if score is not None and math.isfinite(score) else None
