"""An example: what a model proposed, and what people decided about it. Plain data, no I/O."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from hitl_graph.model import Decision, Kind, edited, is_wrong
from hitl_graph.voting import Vote

__all__ = ["Example", "Route", "Split"]

Route = Literal["auto", "audit", "unsure", "query", "policy"]
Split = Literal["train", "audit"]


@dataclass(frozen=True)
class Example:
    """One decision as a labelled example; or one that was made automatically, without a label.

    Attributes:
        id: Of the request; of the call (its action key), where nobody was asked.
        kind: `approval` of a tool call, or `review` of a draft.
        tool: Name of the tool; None for a draft.
        input: What the model had to go by: messages as `{"role", "content"}`, as far as they are known, or what
            `Unsure(input=...)` gave; None where nothing is known.
        output: What it proposed: arguments of the call, or the draft. None once redacted.
        score: How sure the model was, where it was asked for.
        model: Digest of the model, where it says what it is.
        group: Canonical JSON of the group that `Unsure(group=...)` gave; empty without one.
        route: How it came to people, or did not.
        propensity: How probable it was that people were asked.
        split: `audit`: it was drawn to measure, and is not to be trained on.
        state: Of the request; None where nobody was asked.
        decision: The one that counted; None as long as there is none.
        reviewer: Whose it was; several names where several agreed.
        by_people: Whether a person decided, not a deadline.
        seconds: From question to decision.
        reference: Whose word counts as right: `one reviewer`, or how many had to agree.
        votes: Of everybody who was asked, in order.
        better: What people approved in its place later, after they had sent it back: the next revision of a draft.
        at: When it was asked, or routed.
    """

    id: str
    thread_id: str
    kind: Kind
    tool: str | None
    input: JsonValue
    output: JsonValue
    at: datetime
    score: float | None = None
    model: str | None = None
    group: str = ""
    route: Route = "policy"
    propensity: float = 1.0
    split: Split = "train"
    state: str | None = None
    decision: Decision | None = None
    reviewer: str | None = None
    by_people: bool = False
    seconds: float | None = None
    reference: str | None = None
    votes: tuple[Vote, ...] = ()
    better: JsonValue = None

    @property
    def is_labelled(self) -> bool:
        """Whether a person said whether it was right."""
        return self.by_people and self.decision is not None

    @property
    def wrong(self) -> bool | None:
        """Whether the model was wrong; None without a label."""
        return is_wrong(self.decision, self.output) if self.is_labelled and self.decision else None

    @property
    def right(self) -> JsonValue:
        """What would have been right: what was approved, or what it was edited to; None where people did not say."""
        if not self.is_labelled or self.decision is None:
            return None
        return self.output if self.decision.type == "approve" else edited(self.decision)
