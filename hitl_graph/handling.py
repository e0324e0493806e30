"""Who has taken a waiting request in hand. Plain data, moves while the request waits."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from hitl_graph.reviewers import same

__all__ = ["Claim", "Delegation", "Handling"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(_Frozen):
    """A reviewer is at it, until then."""

    reviewer: str
    until: AwareDatetime


class Delegation(_Frozen):
    """A reviewer gave their vote in one stage to somebody else. Only the last one of a chain counts.

    Attributes:
        by: Who gave it; may have got it from somebody else (then that delegation is in the chain, too).
        back: It was handed back, or taken back.
    """

    by: str
    to: str
    at: AwareDatetime
    stage: int
    comment: str | None = None
    back: bool = False


class Handling(_Frozen):
    """Claims and delegations of one request."""

    claims: tuple[Claim, ...] = ()
    delegations: tuple[Delegation, ...] = ()

    def claimed(self, now: datetime) -> tuple[Claim, ...]:
        """The claims that have not run out."""
        return tuple(claim for claim in self.claims if claim.until > now)

    def given(self, stage: int) -> tuple[Delegation, ...]:
        """The delegations of a stage that stand."""
        return tuple(given for given in self.delegations if given.stage == stage and not given.back)

    def gave_away(self, name: str, stage: int) -> bool:
        """Whether this person gave their vote to somebody else."""
        return any(same(given.by, name) for given in self.given(stage))

    def principal(self, name: str, stage: int) -> str | None:
        """Whose vote this person was given, through however many hands; None if nobody's."""
        found, holder = None, name
        given = self.given(stage)
        while before := next((step for step in given if same(step.to, holder)), None):
            found = holder = before.by
        return found
