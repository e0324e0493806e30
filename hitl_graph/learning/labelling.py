"""Asking people about items of a pool: which ones, and the requests that they find in the inbox. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from pydantic import JsonValue

from hitl_graph.learning.choosing import Chosen, choose
from hitl_graph.model import Request
from hitl_graph.terms import Stage, Terms

__all__ = ["Candidate", "picked", "question"]


@dataclass(frozen=True)
class Candidate:
    """An item of a pool: what a model made of it, not yet looked at by anybody.

    Attributes:
        name: Each once in its pool.
        output: What the model proposes: a text, or JSON.
        input: What it had to go by; people are shown it.
        sureness: One number, higher is surer; or one probability an answer.
        features: Numbers that are alike for items that are alike, such as an embedding.
    """

    name: str
    output: JsonValue
    input: JsonValue = None
    sureness: float | Sequence[float] = 0.0
    features: Sequence[float] | None = None

    @property
    def score(self) -> float:
        """The sureness as one number."""
        return max(self.sureness, default=0.0) if isinstance(self.sureness, Sequence) else self.sureness


def picked(pool: Sequence[Candidate], budget: int, secret: bytes, uniform: float) -> list[tuple[Candidate, Chosen]]:
    """Those to ask about; see `choose`."""
    features = None if any(one.features is None for one in pool) else [list(one.features or ()) for one in pool]
    sureness = [one.sureness for one in pool]
    chosen = choose(
        [one.name for one in pool], budget, secret=secret, probabilities=sureness, features=features, uniform=uniform
    )
    return [(pool[one.index], one) for one in chosen]


def question(
    topic: str, candidate: Candidate, chosen: Chosen, *, reviewers: Sequence[str], schema: dict[str, JsonValue] | None
) -> Request:
    """The request about an item; the same item of a topic is the same request."""
    shown = candidate.input if isinstance(candidate.input, str) else None
    why = "it is one of a random sample" if chosen.how == "uniform" else "the model is unsure of it"
    return Request(
        id=sha256(f"label\0{topic}\0{candidate.name}".encode()).hexdigest()[:20],
        kind="review",
        thread_id=f"labels:{topic}",
        interrupt_id="label",
        question=None if shown is not None else candidate.input,
        draft=candidate.output,
        allowed=("approve", "edit", "reject"),
        labels={"approve": "it is right", "edit": "it should be this", "reject": "it is wrong"},
        answer_schema=schema,
        answer_shape="audit",
        description=f"Is this right?\n\n{shown}" if shown else "Is this right?",
        reason=f"a label is wanted for {topic}: {why}; nothing waits for your answer",
        score=candidate.score,
        route="audit" if chosen.how == "uniform" else "query",
        propensity=1.0 if chosen.propensity is None else chosen.propensity,
        reference="one reviewer",
        terms=Terms(stages=(Stage(reviewers=tuple(reviewers)),)) if reviewers else None,
    )
