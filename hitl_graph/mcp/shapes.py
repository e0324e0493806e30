"""What the tools take and give, as the client's model sees it.

Whatever an agent or a person wrote stands under `untrusted`, so that nothing there is mistaken for ours.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hitl_graph.model import Kind, State, Word

__all__ = ["Choice", "Outcome", "Page", "Proposal", "Row", "Shown"]


class Proposal(BaseModel):
    """What a model would answer. It is shown to the human; what is recorded is what the human then says."""

    model_config = ConfigDict(extra="forbid")

    answer: Word | None = Field(None, description="Which answer you would give. The human chooses for themselves.")
    arguments: dict[str, Any] | None = Field(
        None, description="For edit: only what you would change, by name. For respond: the fields of the answer."
    )
    text: str | None = Field(None, max_length=4000, description="For reject: why. For respond: what the agent is told.")
    why: str | None = Field(None, max_length=500, description="Why you would answer so, in a sentence, for the human.")


class Row(BaseModel):
    """One request of a list.

    Attributes:
        sort: Its kind; or `audit`, `label`: the human says whether something is right, and nothing waits for it.
        who: Who may decide now.
        votes: How many have agreed; empty where one answer is enough.
        next: What comes if nobody decides; empty where nothing does.
    """

    id: str
    kind: Kind
    sort: str
    asked_at: datetime | None
    answers: list[Word]
    who: str
    votes: str
    next: str
    untrusted: dict[str, str]


class Page(BaseModel):
    """Requests that wait, oldest first.

    Attributes:
        after: Give it as `after` for those that follow; None: these were the last.
    """

    requests: list[Row]
    after: str | None
    notice: str


class Choice(BaseModel):
    """One answer that a request takes."""

    word: Word
    meaning: str


class Shown(BaseModel):
    """One request in full."""

    id: str
    kind: Kind
    sort: str
    state: State
    asked_at: datetime | None
    answers: list[Choice]
    who: str
    missing: str
    you_may_decide: bool
    link: str | None
    notice: str
    untrusted: dict[str, Any]


class Outcome(BaseModel):
    """What came of asking the human.

    Attributes:
        recorded: Whether an answer of the human is on record now. False: nothing was recorded.
        outcome: `decided`; `voted`: it waits for others; `waiting`: the human left it so; `declined`, `cancelled`,
            `unanswered`: the human gave no answer; `opened`: they were sent to the inbox and have not decided yet;
            `elsewhere`: this client cannot ask, a person decides at `link` or by `command`; `refused`: see `message`.
    """

    request_id: str
    recorded: bool
    outcome: Literal[
        "decided", "voted", "waiting", "declined", "cancelled", "unanswered", "opened", "elsewhere", "refused"
    ]
    state: State | None
    message: str
    link: str | None = None
    command: str | None = None
