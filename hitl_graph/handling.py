"""Who has taken a waiting request in hand. Plain data, moves while the request waits."""

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from hitl_graph.reviewers import same

__all__ = ["Absence", "Claim", "Delegation", "Handling"]


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
        rights: As which of the stage's reviewers it counts: what whoever gave it first was at that time.
        back: It was handed back, or taken back.
    """

    by: str
    to: str
    at: AwareDatetime
    stage: int
    rights: tuple[str, ...] = ()
    comment: str | None = None
    back: bool = False


class Absence(_Frozen):
    """A reviewer is out of office from `start` to `until`; the deputy may do what they may."""

    reviewer: str
    deputy: str
    start: AwareDatetime
    until: AwareDatetime


class Handling(_Frozen):
    """Claims and delegations of one request."""

    claims: tuple[Claim, ...] = ()
    delegations: tuple[Delegation, ...] = ()

    def claimed(self, now: datetime) -> tuple[Claim, ...]:
        """The claims that have not run out."""
        return tuple(claim for claim in self.claims if claim.until > now)

    def without_claim(self, name: str) -> "Handling":
        """The same, but this person is not at it any more."""
        return self.model_copy(update={"claims": tuple(c for c in self.claims if not same(c.reviewer, name))})

    def given(self, stage: int) -> tuple[Delegation, ...]:
        """The delegations of a stage that stand."""
        return tuple(given for given in self.delegations if given.stage == stage and not given.back)

    def gave_away(self, name: str, stage: int) -> bool:
        """Whether this person gave their vote to somebody else."""
        return any(same(given.by, name) for given in self.given(stage))

    def principal(self, name: str, stage: int) -> Delegation | None:
        """By which delegation this person holds a vote: the first one of the chain, by whom it is; None if nobody's."""
        found, holder = None, name
        given = self.given(stage)
        while before := next((step for step in given if same(step.to, holder)), None):
            found, holder = before, before.by
        return found
