"""On which terms people decide a request: who, how many, by when. Plain data, fixed when the question is asked."""

from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from hitl_graph.reviewers import check_selector

__all__ = ["Fresh", "Origin", "Stage", "Terms", "Turn"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Frozen):
    """One round of votes.

    Args:
        reviewers: Who may vote: any whom one of these selectors means (see `hitl_graph.reviewers`). None: anybody.
        quorum: How many different people have to agree on the same answer.
        distinct_roles: Each of them has to count as another one of `reviewers`.
    """

    reviewers: tuple[str, ...] = ()
    quorum: int = Field(default=1, ge=1)
    distinct_roles: bool = False

    @field_validator("reviewers")
    @classmethod
    def _selectors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for selector in value:
            check_selector(selector)
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.distinct_roles and len(self.reviewers) < self.quorum:
            raise ValueError(
                f"distinct_roles with a quorum of {self.quorum} needs as many reviewers=, each for another role"
            )
        return self


class Turn(_Frozen):
    """What happens at an instant if the request still waits.

    Args:
        at: When.
        then: `remind`: who may decide is told again. `escalate`: `to` may decide, too. `reject`, `approve`: decided so;
            but nothing is approved that anybody wanted otherwise or could not have approved; it waits on.
        to: Selectors. Of a reminder, whom to tell beside those who may decide.
        until: Of an approval: if nobody came to take the turn by then (the machine slept), it approves nothing, and
            the request waits on. None: a minute after `at`.
    """

    at: AwareDatetime
    then: Literal["remind", "escalate", "reject", "approve"]
    to: tuple[str, ...] = ()
    until: AwareDatetime | None = None

    @property
    def at_ms(self) -> int:
        """Milliseconds since 1970 (UTC)."""
        return _ms(self.at)

    def lapsed(self, now_ms: int) -> bool:
        """Whether it is too late for it to approve."""
        return self.then == "approve" and now_ms > _ms(self.until or self.at + timedelta(minutes=1))


class Terms(_Frozen):
    """Who has to agree before a request is decided, and what happens if they do not.

    Args:
        stages: One after the other; nobody counts in two of them.
        excluded: Names of those who may not decide: the requester, the author.
        veto: Selectors of those whose single reject ends it, whichever stage it is in.
        rejects: How many different people have to reject it (or respond) to end it; a veto needs no other.
        delegates: Selectors of those who may have somebody else's vote: by delegation, or as a deputy.
        schedule: In the order of time.
    """

    stages: tuple[Stage, ...] = Field(default=(Stage(),), min_length=1)
    excluded: tuple[str, ...] = ()
    veto: tuple[str, ...] = ()
    rejects: int = Field(default=1, ge=1)
    delegates: tuple[str, ...] = ("*",)
    schedule: tuple[Turn, ...] = ()

    @field_validator("veto", "delegates")
    @classmethod
    def _selectors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for selector in value:
            check_selector(selector)
        return value

    @property
    def names_people(self) -> bool:
        """Whether it matters who decides, so that somebody has to be known."""
        return self.unscheduled != Terms()

    @property
    def unscheduled(self) -> "Terms":
        """The same without what comes when nobody decides."""
        return self.model_copy(update={"schedule": ()})

    def due_ms(self, fired: int) -> int | None:
        """When the next turn comes, after so many have come; in milliseconds since 1970 (UTC)."""
        return self.schedule[fired].at_ms if 0 <= fired < len(self.schedule) else None


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


class Origin(_Frozen):
    """Where a request comes from: what separation of duties and grants look at.

    Attributes:
        requester: On whose behalf the agent runs.
        author: Who wrote what is to be approved.
        graph: Name of the graph.
        version: Of the graph.
        implementation: SHA-256 over the tool's code.
    """

    requester: str | None = None
    author: str | None = None
    graph: str | None = None
    version: str | None = None
    implementation: str | None = None


class Fresh(_Frozen):
    """Facts that a reviewer was shown, to be read again before the action runs.

    Attributes:
        facts: Name to value. One that could not be read says so.
        changed: What changed since people were asked before, where they are asked again.
    """

    facts: dict[str, JsonValue]
    changed: str | None = None
