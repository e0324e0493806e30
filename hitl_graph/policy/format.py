"""The form of a policy file, which is what editors are told of it, too. Names are those of `Rule` and `Deadline`."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.json_schema import GenerateJsonSchema, WithJsonSchema

from hitl_graph.model import Risk, Word
from hitl_graph.policy.deadline import End
from hitl_graph.policy.verdict import Mode, Outcome, Party
from hitl_graph.reviewers import check_selector

__all__ = [
    "DeadlineTable",
    "EscalateTable",
    "HintsTable",
    "PermissionsTable",
    "PolicyDocument",
    "RuleTable",
    "StageTable",
    "schema",
]

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION = r"^\s*(?:\d{1,6}\s*[wdhms]\s*)+$"


def _duration(given: Any) -> timedelta:
    if not isinstance(given, str) or not re.match(_DURATION, given):
        raise ValueError('a duration is a text such as "4h", "2d 30m" or "90s" (w, d, h, m, s)')
    parts = re.findall(r"(\d+)\s*([wdhms])", given)
    if len({unit for _, unit in parts}) < len(parts):
        raise ValueError(f"{given!r} has a unit twice")
    found = timedelta(**{_UNITS[unit]: int(number) for number, unit in parts})
    if not found:
        raise ValueError(f"{given!r} is no time at all")
    return found


def _selector(given: str) -> str:
    check_selector(given)
    return given


def _shape(given: Any) -> str:
    return "<table>" if isinstance(given, dict | BaseModel) else "<other>"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["4h", "2d 30m"]}),
]
Selector = Annotated[str, AfterValidator(_selector), Field(description="alice, role:finance, group:oncall, *, or these joined by and, or, not")]  # fmt: skip  # noqa: E501
Selectors = Annotated[list[Selector], Field(min_length=1)]
Names = Annotated[list[str], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class StageTable(_Table):
    """One round of votes."""

    reviewers: Selectors | None = None
    """Who may vote. Left out: anybody."""
    quorum: Annotated[int, Field(ge=1)] = 1
    """How many different people have to agree."""
    distinct_roles: bool = False
    """Each of them has to count as another one of the reviewers."""


class EscalateTable(_Table):
    """After so long, these people may decide, too."""

    after: Duration
    """Counted from when the question is asked."""
    to: Selectors
    """Who."""


class DeadlineTable(_Table):
    """When waiting ends, and what comes on the way."""

    after: Duration
    """Counted from when the question is asked."""
    then: End = "reject"
    """How it ends. `escalate`: those of `to` may decide, too, and it waits on."""
    remind: list[Duration] = []
    """When those who may decide are told again."""
    escalate: list[EscalateTable] = []
    """Who may decide, too, after how long."""
    to: Selectors | None = None
    """For `then = "escalate"`."""
    hours: str | None = None
    """Only these count, as OpenStreetMap writes them: `Mo-Fr 09:00-17:00; PH off`."""
    time_zone: str | None = None
    """Of these hours, such as `Europe/Berlin`."""
    country: str | None = None
    """Whose public holidays `PH` are, such as `DE`."""


Stages = Annotated[
    list[
        Annotated[Annotated[StageTable, Tag("<table>")] | Annotated[Selectors, Tag("<other>")], Discriminator(_shape)]
    ],
    Field(min_length=1),
]
Waiting = Annotated[
    Annotated[DeadlineTable, Tag("<table>")] | Annotated[Duration, Tag("<other>")], Discriminator(_shape)
]


class HintsTable(_Table):
    """What a tool says of itself, in MCP's terms. To allow, it has to be said; else it is enough that it may be so."""

    readOnlyHint: bool | None = None
    """It changes nothing. Not said: it does."""
    destructiveHint: bool | None = None
    """It may take something away. Not said: it may."""
    idempotentHint: bool | None = None
    """Twice is no more than once. Not said: it is more."""
    openWorldHint: bool | None = None
    """It deals with what is outside. Not said: it does."""


class RuleTable(_Table):
    """One rule."""

    tool: Annotated[str, Field(min_length=1)]
    """Name of a tool, or a glob such as `send_*`."""
    outcome: Outcome
    """Several rules match: deny > ask > allow. None matches: ask."""
    when: Annotated[str, Field(min_length=1)] | None = None
    """Only for calls of which this is true: a condition in CEL over `args`, `name` and `metadata`, or the name of a
    predicate that Python gives."""
    hints: HintsTable | None = None
    """Only for tools that say this of themselves."""
    reason: str | None = None
    """Shown to the reviewer, or to the model when denied."""
    allowed: Annotated[list[Word], Field(min_length=1)] | None = None
    """The answers that a reviewer may give."""
    editable: list[str] | None = None
    """The arguments that an edit may change; left out: all of them."""
    reviewers: Selectors | None = None
    """Who may decide."""
    quorum: Annotated[int, Field(ge=1)] | None = None
    """How many different people have to agree."""
    distinct_roles: bool = False
    """Each of them has to count as another one of the reviewers."""
    stages: Stages | None = None
    """In place of the three above, rounds of votes one after the other."""
    exclude: Annotated[list[Party], Field(min_length=1)] | None = None
    """Who may not decide."""
    veto: Selectors | None = None
    """Whose single reject ends it."""
    rejects: Annotated[int, Field(ge=1)] | None = None
    """How many different people have to reject it to end it."""
    delegates: Selectors | None = None
    """To whom reviewers may delegate their vote."""
    deadline: Waiting | None = None
    """When waiting ends."""
    on_deadline: Literal["reject", "approve"] | None = None
    """What a deadline that is just a duration ends in."""
    facts: Names | None = None
    """What is read when people are asked and again before it runs, by the names that Python gives."""
    grants: bool = True
    """Whether a standing permission may take the place of asking."""
    risk: Risk | None = None
    """How much harm a wrong answer may do. Several rules ask: the highest counts."""


class PermissionsTable(_Table):
    """Rules in Claude Code's form: `Tool` or `Tool(specifier)`."""

    allow: list[str] = []
    """What runs without asking."""
    ask: list[str] = []
    """What people are asked about."""
    deny: list[str] = []
    """What never runs."""


class PolicyDocument(_Table):
    """Which calls run, which are asked about and of whom, which never run."""

    schema_: Annotated[str | None, Field(alias="$schema")] = None
    """For editors."""
    mode: Mode | None = None
    """`plan`: nothing with effects runs. `dont-ask`: what would be asked about is denied. `shadow`: nobody is asked,
    what would have been is recorded."""
    max_denials: Annotated[int, Field(ge=1)] | None = None
    """After so many denials in a row the agent is paused."""
    rules: list[RuleTable] = []
    """In any order; the first of those that are equally strict gives the reason."""
    permissions: PermissionsTable | None = None
    """Rules in Claude Code's form."""


class _Editors(GenerateJsonSchema):
    def nullable_schema(self, schema: Any) -> Any:
        """What may be left out cannot be null: TOML has none."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> Any:
        """Nor is null the default of anything."""
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        return found


def schema() -> dict[str, Any]:
    """JSON Schema of a policy file, for editors."""
    found = PolicyDocument.model_json_schema(by_alias=True, schema_generator=_Editors)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "hitl-graph policy"}
