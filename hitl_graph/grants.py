"""Standing permissions ("always allow"): which calls one covers. Plain data, no I/O.

A grant takes the place of asking where a policy asks. It never reaches what a policy denies, and never further than the
answer of whoever gave it would have.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from glob import escape
from math import isfinite
from typing import Any, Protocol, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from hitl_graph.terms import Origin

__all__ = ["Budget", "Grant", "Named", "amount_of", "covers", "fits", "lasting", "unfit"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Named(Protocol):
    """The name and the arguments of a call."""

    @property
    def name(self) -> str: ...
    @property
    def args(self) -> Mapping[str, Any]: ...


class _Asked(Protocol):
    """What a grant takes from a request."""

    @property
    def action(self) -> Named | None: ...
    @property
    def thread_id(self) -> str: ...
    @property
    def origin(self) -> Origin | None: ...


class Budget(_Frozen):
    """How much of something a grant lets through.

    Args:
        arg: The argument that is added up. A call in which it is missing, or is no number from 0, is not covered.
        limit: The sum that is not exceeded. Numbers are added exactly as they are written.
        per: Within any stretch of time of this length; None: ever.
    """

    arg: str
    limit: Decimal = Field(gt=0, allow_inf_nan=False)
    per: timedelta | None = None

    @field_validator("per")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        return _duration("per", value)


class Grant(_Frozen):
    """A standing permission. What is None does not narrow it.

    Args:
        tool: Name of a tool, or a glob. None: the tool of the request in whose decision it is given.
        args: What these arguments have to be: a text is a glob, anything else has to be equal. Others may be anything.
        only: There may be no other arguments than those in `args`.
        thread_id: Only in this thread.
        requester: Only on behalf of this person.
        graph: Only in the graph of this name.
        version: Only in this version of the graph.
        implementation: Only while the tool's code has this SHA-256.
        expires_in: For how long, counted from when it is given.
        expires_at: Until when.
        uses: For how many calls.
        budget: Up to which sum.

    Raises:
        ValidationError: It makes no sense.
    """

    tool: str | None = Field(default=None, min_length=1)
    args: dict[str, JsonValue] | None = None
    only: bool = False
    thread_id: str | None = None
    requester: str | None = None
    graph: str | None = None
    version: str | None = None
    implementation: str | None = None
    expires_in: timedelta | None = None
    expires_at: AwareDatetime | None = None
    uses: int | None = Field(default=None, ge=1)
    budget: Budget | None = None

    @field_validator("expires_in")
    @classmethod
    def _positive(cls, value: timedelta | None) -> timedelta | None:
        return _duration("expires_in", value)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.expires_in is not None and self.expires_at is not None:
            raise ValueError("expires_in= or expires_at=, not both")
        if self.only and self.args is None:
            raise ValueError("only= needs args=")
        return self

    @classmethod
    def of(
        cls,
        request: _Asked,
        *,
        same_args: bool = False,
        same_thread: bool = False,
        same_requester: bool = False,
        same_graph: bool = False,
        same_version: bool = False,
        same_implementation: bool = False,
        **more: Any,
    ) -> "Grant":
        """A grant for calls like the one of a request.

        Args:
            same_args: With exactly these arguments. For an edit, use `exactly` with the edited ones.
            more: The other fields of a grant.

        Raises:
            ValueError: It shall be the same of something that the request does not tell.
        """
        origin, wanted = request.origin or Origin(), dict[str, Any](more)
        for field, same, value in (
            ("thread_id", same_thread, request.thread_id),
            ("requester", same_requester, origin.requester),
            ("graph", same_graph, origin.graph),
            ("version", same_version, origin.version),
            ("implementation", same_implementation, origin.implementation),
        ):
            if same:
                if value is None:
                    raise ValueError(f"the request does not tell its {field}, so that it could not be the same")
                wanted[field] = value
        if request.action is not None:
            wanted.setdefault("tool", escape(request.action.name))
        grant = cls(**wanted)
        if not same_args:
            return grant
        if request.action is None:
            raise ValueError("the request is not about a call of a tool")
        return grant.exactly(request.action.args)

    def exactly(self, args: Mapping[str, JsonValue]) -> "Grant":
        """The same for exactly these arguments."""
        literal = {name: escape(value) if isinstance(value, str) else value for name, value in args.items()}
        return Grant.model_validate({**self.model_dump(), "args": literal, "only": True})

    def ends(self, given: datetime) -> datetime | None:
        """When it ends, if it was given then."""
        return self.expires_at if self.expires_in is None else given + self.expires_in


def covers(grant: Grant, call: Named, thread_id: str, origin: Origin | None) -> bool:
    """Whether a grant speaks of a call. Whether it still lives and has anything left is known to the ledger."""
    where = origin or Origin()
    return (
        grant.tool is not None
        and fnmatchcase(call.name, grant.tool)
        and fits(grant, call.args)
        and grant.thread_id in (None, thread_id)
        and grant.requester in (None, where.requester)
        and grant.graph in (None, where.graph)
        and grant.version in (None, where.version)
        and grant.implementation in (None, where.implementation)
    )


def fits(grant: Grant, args: Mapping[str, Any]) -> bool:
    """Whether a call's arguments are such as a grant wants."""
    if grant.budget is not None and amount_of(grant.budget, args) is None:
        return False
    wanted = grant.args or {}
    if grant.only and args.keys() != wanted.keys():
        return False
    return all(name in args and _is(args[name], pattern) for name, pattern in wanted.items())


def _is(value: Any, pattern: JsonValue) -> bool:
    if isinstance(pattern, str):
        return isinstance(value, str) and fnmatchcase(value, pattern)
    try:  # for Python 1, 1.0 and True are the same
        return json.dumps(value, sort_keys=True, allow_nan=False) == json.dumps(pattern, sort_keys=True)
    except (TypeError, ValueError):
        return False


def amount_of(budget: Budget, args: Mapping[str, Any]) -> Fraction | None:
    """What a call takes of a budget, exactly as it is written; None where that is no number from 0."""
    value = args.get(budget.arg)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        return None
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def unfit(grant: Grant, request: _Asked, args: Mapping[str, Any]) -> str | None:
    """Why a grant cannot be given in a decision of this request: it would reach further than what people looked at.

    Args:
        args: With which the decision lets the call run.
    """
    if request.action is None:
        return "it is not about a call of a tool"
    if grant.tool not in (None, request.action.name, escape(request.action.name)):
        return f"it speaks of {grant.tool}, and people were asked about {request.action.name}"
    if not fits(grant, args):
        return "it does not cover the very arguments that this decision lets run"
    origin = request.origin or Origin()
    for field, value in (("thread_id", request.thread_id), *origin):
        wanted = getattr(grant, field, None)
        if wanted not in (None, value):
            return f"its {field} is {wanted!r}, and the one of the request is {value!r}"
    return None


def _duration(name: str, value: timedelta | None) -> timedelta | None:
    if value is not None and value <= timedelta(0):
        raise ValueError(f"{name}= is a positive duration")
    return value


def lasting(grant: Grant, tool: str, now: datetime) -> Grant:
    """The grant as it stands once it is given: with the name of its tool and its end."""
    update = {"tool": grant.tool or escape(tool), "expires_in": None, "expires_at": _utc(grant.ends(now))}
    return grant.model_copy(update=update)


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
