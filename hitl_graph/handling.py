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
    """A vote in one stage was given to somebody else. Only the last one of a chain counts.

    Attributes:
        by: Who gave it; may have got it from somebody else (then that delegation is in the chain, too).
        whose: Whose vote it is: `by`'s own, or whose it was when they got it, also as a deputy.
        rights: What of the stage's reviewers that person is.
        back: It was handed back, or taken back.
    """

    by: str
    to: str
    whose: str
    rights: tuple[str, ...]
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
        """Whether this person's vote, or one that they had, is in somebody else's hands."""
        return any(same(name, one) for given in self.given(stage) for one in (given.by, given.whose))

    def held(self, name: str, stage: int) -> Delegation | None:
        """How this person got the vote that was given to them, and that they did not give on."""
        given = self.given(stage)
        if any(same(step.by, name) for step in given):
            return None
        return next((step for step in given if same(step.to, name)), None)
