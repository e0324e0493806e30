"""The bodies of the API's writing calls."""

from typing import Annotated, Literal

from pydantic import AfterValidator, FailFast, Field, JsonValue, TypeAdapter, ValidationError

from hitl_graph.grants import Grant
from hitl_graph.model import Comment, Decision
from hitl_graph.reviewers import Reviewer
from hitl_graph.web.bodies import Body, Line, wrong

__all__ = [
    "ANSWER",
    "CLAIM",
    "DELEGATE",
    "NOTHING",
    "Answer",
    "ApproveBody",
    "ClaimBody",
    "DelegateBody",
    "EditBody",
    "EmptyBody",
    "RejectBody",
    "RespondBody",
    "decision_in",
]

Text = Annotated[str, Field(max_length=20_000)]


class _Answer(Body):
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="`digest` of the request as it was read.")
    version: str | None = Field(
        default=None,
        max_length=64,
        description="`version` of it; if given, it is refused where somebody did something.",
    )


class ApproveBody(_Answer):
    """Go ahead exactly as shown."""

    type: Literal["approve"]
    message: Text | None = Field(default=None, description="A comment for the record.")
    grant: Grant | None = Field(default=None, description="From now on, calls like this one are not asked about.")


class EditBody(_Answer):
    """Go ahead with this instead: either `args` or `draft`."""

    type: Literal["edit"]
    args: dict[str, JsonValue] | None = Field(default=None, description="All arguments that the action shall have.")
    draft: JsonValue = Field(default=None, description="The whole new draft of a review.")
    message: Text | None = Field(default=None, description="A comment for the record.")
    grant: Grant | None = Field(default=None, description="From now on, calls like this one are not asked about.")


class RejectBody(_Answer):
    """Do not do it."""

    type: Literal["reject"]
    message: Text | None = Field(default=None, description="Why; the agent is told.")


class RespondBody(_Answer):
    """Do not do it; answer this instead: `message`, or `value`, or `comments`, also with a message."""

    type: Literal["respond"]
    message: Text | None = Field(default=None, description="What the agent is told; to a review, feedback.")
    value: JsonValue = Field(default=None, description="A structured answer, where the question asks for one.")
    comments: Annotated[tuple[Comment, ...], FailFast()] = Field(
        default=(), max_length=500, description="Remarks about places of a draft."
    )


Answer = Annotated[ApproveBody | EditBody | RejectBody | RespondBody, Field(discriminator="type")]
"""One person's answer, and what it answers."""


class ClaimBody(Body):
    """Take a request in hand."""

    lease_seconds: int = Field(default=900, ge=1, le=86_400, description="For how long.")


class DelegateBody(Body):
    """Give one's vote to somebody else."""

    to: Annotated[Line, AfterValidator(lambda name: Reviewer(name).name)] = Field(description="Their name.")
    comment: Text | None = None


class EmptyBody(Body):
    """Nothing has to be said."""


ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
CLAIM, DELEGATE, NOTHING = TypeAdapter(ClaimBody), TypeAdapter(DelegateBody), TypeAdapter(EmptyBody)


def decision_in(answer: Answer) -> Decision:
    """The decision that was sent.

    Raises:
        ProblemError: 422: its parts do not go together.
    """
    given = {name: getattr(answer, name) for name in type(answer).model_fields if name not in ("digest", "version")}
    if answer.type == "reject" and answer.message is None:
        given["message"] = ""
    try:
        return Decision(**given)
    except ValidationError as exc:
        raise wrong(exc) from exc
