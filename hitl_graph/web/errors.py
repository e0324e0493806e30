"""What an error means over HTTP: one table for pages and API, and its JSON form (RFC 9457, problem details)."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hitl_graph.errors import (
    AlreadyDecidedError,
    AlreadyVotedError,
    ClaimedError,
    GrantError,
    HitlError,
    InvalidDecisionError,
    NotEntitledError,
    QuorumMissingError,
    RequestError,
    StaleRequestError,
    StorageError,
    UnknownGrantError,
    UnknownRequestError,
)
from hitl_graph.web.refusing import is_for_a_script, refusal

__all__ = ["HANDLERS", "ProblemDocument", "ProblemError", "Wrong", "answer_error", "problem_of"]

_log = logging.getLogger(__name__)
_KINDS: dict[type[HitlError], tuple[int, str, str]] = {
    UnknownRequestError: (404, "unknown-request", "No such request"),
    AlreadyVotedError: (409, "already-voted", "You have answered it already"),
    AlreadyDecidedError: (409, "already-decided", "Somebody decided first"),
    StaleRequestError: (409, "stale-request", "It is not asked any more, or is not what you were shown"),
    ClaimedError: (409, "claimed", "Somebody else is at it"),
    QuorumMissingError: (409, "quorum-missing", "It waits for others"),
    NotEntitledError: (403, "not-entitled", "You may not do this"),
    InvalidDecisionError: (422, "invalid-decision", "It does not take this answer"),
    GrantError: (422, "invalid-grant", "This standing permission cannot be given"),
    UnknownGrantError: (404, "unknown-grant", "No such standing permission"),
    StorageError: (503, "storage", "The database cannot be used"),
    HitlError: (500, "internal", "Something went wrong"),
}
_HIDDEN = "It was logged where this server runs. What was acknowledged before is recorded; look again, and try again."


class Wrong(BaseModel):
    """One mistake in what was sent."""

    model_config = ConfigDict(extra="forbid")

    place: str = Field(description="Such as `args.to`, `query.limit` or `line 1, column 7`.")
    message: str


class ProblemDocument(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description="`urn:hitl-graph:` and the kind of problem: what a program looks at.")
    title: str
    status: int
    detail: str = Field(description="What happened, and what to do.")
    request_id: str | None = Field(default=None, description="The request that it is about.")
    decided_by: str | None = Field(default=None, description="Who was first.")
    word: str | None = Field(default=None, description="What they said.")
    errors: tuple[Wrong, ...] = Field(default=(), description="Each mistake in what was sent.")


@dataclass
class ProblemError(Exception):
    """Ends a request with a problem that is none of the ledger's."""

    status: int
    name: str
    title: str
    detail: str
    request_id: str | None = None
    errors: tuple[Wrong, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: Exception) -> ProblemDocument:
    """An error as problem details. What is wrong with the server is logged, and not told."""
    match error:
        case ProblemError():
            return ProblemDocument(
                type=_type(error.name), title=error.title, status=error.status, detail=error.detail,
                request_id=error.request_id, errors=error.errors,
            )  # fmt: skip
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            name = phrase.lower().replace(" ", "-")
            return ProblemDocument(type=_type(name), title=phrase, status=error.status_code, detail=error.detail)
        case HitlError():
            status, name, title = _kind(error)
            if status >= 500:
                _log.error("%s: %s", name, error, exc_info=error)
            first = error if isinstance(error, AlreadyDecidedError) else None
            return ProblemDocument(
                type=_type(name), title=title, status=status, detail=_HIDDEN if status >= 500 else str(error),
                request_id=error.request_id if isinstance(error, RequestError) else None,
                decided_by=first.decided_by if first else None, word=first.word if first else None,
            )  # fmt: skip
        case _:
            raise error


async def answer_error(request: Request, error: Exception) -> Response:
    """The handler of all errors: problem details for scripts, a plain page for people."""
    told = problem_of(error)
    headers = dict(getattr(error, "headers", None) or {})
    if told.status == 503:
        headers.setdefault("retry-after", "2")
    if not is_for_a_script(request.scope):
        return refusal(request.scope, told.status, told.detail, headers)
    content = told.model_dump_json(exclude_defaults=True)
    return Response(content, told.status, headers, media_type="application/problem+json")


def _kind(error: HitlError) -> tuple[int, str, str]:
    return next(_KINDS[base] for base in type(error).__mro__ if base in _KINDS)


def _type(name: str) -> str:
    return f"urn:hitl-graph:{name}"


HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    kind: answer_error for kind in (HitlError, ProblemError, HTTPException)
}
"""For `Starlette(exception_handlers=...)`; what nobody expected is for `failing`."""
