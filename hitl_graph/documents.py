"""A request as JSON for programs: what `hitl show --json` prints and what the REST API answers. No I/O."""

from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from hitl_graph.handling import Claim, Delegation
from hitl_graph.model import Action, Decision, Kind, Request, Review, Risk, Route, State, Word
from hitl_graph.terms import Fresh, Origin, Terms, Turn
from hitl_graph.voting import Standing

__all__ = ["RequestDocument", "StandingDocument", "SummaryDocument", "VoteDocument"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class VoteDocument(_Document):
    """One person's answer to a request."""

    reviewer: str
    behalf: str | None = Field(description="Whose right was used, where it is not the reviewer's own.")
    decision: Decision
    channel: str = Field(description="The door that it came through.")
    at: AwareDatetime
    stage: int = Field(description="In which stage it was given, from 0.")


class StandingDocument(_Document):
    """How far a request is."""

    reviewers: tuple[str, ...] = Field(description="Selectors of who may decide now; `*`: anybody.")
    missing: str = Field(description="Who is still needed, in words; empty once it is decided.")
    quorum: int = Field(description="How many have to agree in the present stage.")
    left: int = Field(description="How many of these are still needed.")
    stage: int = Field(description="From 0.")
    stages: int
    votes: tuple[VoteDocument, ...]
    claims: tuple[Claim, ...] = Field(description="Who is at it, until when.")
    delegations: tuple[Delegation, ...] = Field(description="Who gave their vote to whom, the oldest first.")
    upcoming: tuple[Turn, ...] = Field(description="What comes when, if nobody decides.")


class RequestDocument(_Document):
    """One question to people, and what became of it; the same keys for every request."""

    id: str = Field(description="20 hex digits.")
    kind: Kind
    thread_id: str
    state: State
    action: Action | None = Field(description="The call that is asked about.")
    question: JsonValue = Field(description="What a plain `interrupt()` showed, or the facts of a question.")
    draft: JsonValue = Field(description="What a review is about.")
    allowed: tuple[Word, ...] = Field(description="The answers that it takes.")
    labels: dict[Word, str] = Field(description="What a word means here, where it is not obvious.")
    editable: tuple[str, ...] | None = Field(description="What an edit may change; null: everything.")
    review: Review | None
    reason: str = Field(description="Why people are asked.")
    description: str
    digest: str = Field(description="SHA-256 over what is shown and may be answered; a decision has to name it.")
    created_at: AwareDatetime | None
    decided_at: AwareDatetime | None
    decision: Decision | None
    reviewer: str | None = Field(description="Who decided.")
    channel: str | None = Field(description="The door that the decision came through.")
    note: str | None = Field(description="Why it was superseded or could not be delivered.")
    interrupt_id: str
    tool_call_id: str | None
    answer_schema: dict[str, JsonValue] | None = Field(
        description="JSON Schema of the action's arguments, of the draft, or of the answer to a question."
    )
    checkpoint_id: str | None
    standing: StandingDocument
    terms: Terms | None = Field(description="Who has to agree, and by when; null: one answer of anybody.")
    origin: Origin | None = Field(description="On whose behalf, and by which version of what.")
    fresh: Fresh | None = Field(description="Facts that are read again before the action runs.")
    risk: Risk | None = Field(description="How much harm a wrong answer may do, as the rule says.")
    route: Route = Field(
        description="How it came to people; `audit`: it was decided automatically, nothing waits for it."
    )

    @classmethod
    def of(cls, request: Request, standing: Standing, **more: object) -> Self:
        """The document of a request.

        Args:
            more: Fields that a subclass adds.
        """
        own = {name: getattr(request, name) for name in cls.model_fields if name != "standing" and name not in more}
        return cls.model_validate({**own, "standing": StandingDocument.model_validate(standing), **more})


class SummaryDocument(_Document):
    """A request in a list: enough to choose it, without its contents. Those are seen by opening it."""

    id: str = Field(description="20 hex digits.")
    kind: Kind
    thread_id: str
    state: State
    tool: str | None = Field(description="Name of the call that is asked about.")
    risk: Risk | None = Field(description="How much harm a wrong answer may do, as the rule says.")
    route: Route = Field(
        description="How it came to people; `audit`: it was decided automatically, nothing waits for it."
    )
    allowed: tuple[Word, ...] = Field(description="The answers that it takes.")
    reason: str = Field(description="Why people are asked.")
    created_at: AwareDatetime | None
    reviewers: tuple[str, ...] = Field(description="Selectors of who may decide now; `*`: anybody.")
    missing: str = Field(description="Who is still needed, in words.")
    quorum: int = Field(description="How many have to agree in the present stage.")
    left: int = Field(description="How many of these are still needed.")
    claims: tuple[Claim, ...] = Field(description="Who is at it, until when.")
    next: Turn | None = Field(description="What comes next, if nobody decides.")

    @classmethod
    def of(cls, request: Request, standing: Standing) -> Self:
        """The summary of a request."""
        return cls(
            id=request.id,
            kind=request.kind,
            thread_id=request.thread_id,
            state=request.state,
            tool=request.action.name if request.action else None,
            risk=request.risk,
            route=request.route,
            allowed=request.allowed,
            reason=request.reason,
            created_at=request.created_at,
            reviewers=standing.reviewers,
            missing=standing.missing,
            quorum=standing.quorum,
            left=standing.left,
            claims=standing.claims,
            next=standing.upcoming[0] if standing.upcoming else None,
        )
