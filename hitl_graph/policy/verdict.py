"""A tool call, and what a policy says of it. Plain data; what two rules say together is never less than either."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import JsonValue

from hitl_graph.model import WORDS, Risk, Word
from hitl_graph.policy.combining import both, earlier, rejecting, riskier
from hitl_graph.policy.deadline import Deadline, Earliest
from hitl_graph.terms import Terms

__all__ = ["Call", "Fact", "Layer", "Mode", "Outcome", "Party", "Predicate", "Verdict"]

Outcome = Literal["allow", "ask", "deny"]
Mode = Literal["default", "plan", "dont-ask", "shadow"]
"""`default`: as the rules say. `plan`: nothing that has effects runs. `dont-ask`: what people would be asked about is
denied. `shadow`: everything runs, and what would have been asked about or denied is on record."""
Party = Literal["requester", "author"]
Layer = Literal["managed", "project", "user"]
_STRENGTH: dict[Outcome, int] = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True)
class Call:
    """What a predicate sees of a tool call. The arguments are its own copy; the state is not, and only to read."""

    name: str
    args: Mapping[str, Any]
    id: str | None = None
    state: Any = None
    """The graph's state as the node sees it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The tool's own `metadata`."""


Predicate = Callable[[Call], bool | Awaitable[bool]]
Fact = Callable[[Call], JsonValue | Awaitable[JsonValue]]


@dataclass(frozen=True)
class Verdict:
    """What a policy says of one call, and why.

    Attributes:
        terms: Who has to agree; None: one answer of anybody. `exclude` is not in it yet, as names are not known.
        facts: What to read again before it runs.
        grants: Whether a standing permission may take the place of asking.
        mode: The mode that made something else of what the rules say.
        rules: What they say, in that case.
        risk: How much harm a wrong answer may do; None where no rule says.
    """

    outcome: Outcome
    reason: str
    allowed: tuple[Word, ...] = WORDS
    editable: tuple[str, ...] | None = None
    terms: Terms | None = None
    exclude: tuple[Party, ...] = ()
    deadline: Deadline | Earliest | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    grants: bool = True
    mode: Mode | None = None
    rules: "Verdict | None" = None
    risk: Risk | None = None

    @property
    def asking(self) -> "Verdict | None":
        """The verdict by which people are asked, or would be if the mode were not `dont-ask`; None if none does."""
        if self.outcome == "ask":
            return self
        return self.rules if self.mode == "dont-ask" else None

    def stricter(self, other: "Verdict") -> "Verdict":
        """The stricter of two verdicts; where both ask, what both want together, for the first reason with people."""
        if self.outcome != other.outcome or self.outcome != "ask":
            return other if _STRENGTH[other.outcome] > _STRENGTH[self.outcome] else self
        common = tuple(word for word in self.allowed if word in other.allowed)
        narrow = [names for names in (self.editable, other.editable) if names is not None]
        return replace(
            self,
            reason=other.reason if other.terms and not self.terms else self.reason,
            allowed=common or ("reject",),
            editable=tuple(name for name in narrow[0] if name in narrow[-1]) if narrow else None,
            terms=both(self.terms, other.terms),
            exclude=tuple(dict.fromkeys((*self.exclude, *other.exclude))),
            deadline=earlier(self._silence(other), other._silence(self)),
            facts={**other.facts, **self.facts},
            grants=self.grants and other.grants,
            risk=riskier(self.risk, other.risk),
        )

    def over(self, lower: "Verdict") -> "Verdict":
        """The verdict of this layer and of one below it, which may only make it stricter.

        Where this one asks, silence and an escalation chain of the one below let nobody else decide.
        """
        if self.outcome == "ask" and lower.outcome == "ask":
            lower = replace(lower, deadline=rejecting(lower.deadline))
        return self.stricter(lower)

    def _silence(self, other: "Verdict") -> Deadline | Earliest | None:
        """The deadline; it does not approve where a rule that names people does not say so, too."""
        if self.deadline is None or self.deadline.then != "approve" or other.deadline is not None or not other.terms:
            return self.deadline
        return self.deadline.instead("reject")
