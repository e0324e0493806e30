"""Which calls run, which are asked about, which never run. Ordered rules, no I/O.

Several rules match: deny > ask > allow. None matches: ask. A predicate that fails, or gives anything but a
bool, counts as "ask". The order of the rules only chooses whose reason is shown.
"""

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from hitl_graph.errors import PolicyError
from hitl_graph.model import WORDS, Word
from hitl_graph.steps import Steps, arun, calling, run

__all__ = ["Call", "Outcome", "Policy", "Predicate", "Rule", "Verdict"]

Outcome = Literal["allow", "ask", "deny"]
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


@dataclass(frozen=True)
class Rule:
    """One line of a policy.

    Args:
        tool: Name of a tool, or a glob (`send_*`, `*`). Case counts.
        outcome: `allow`, `ask` or `deny`.
        when: Only for calls of which this is true; sync or async.
        reason: Shown to the reviewer, or to the model when denied.
        allowed: The answers that a reviewer may give.
        editable: The arguments that an edit may change; None means all of them.

    Raises:
        PolicyError: The rule makes no sense, or asks for what this version does not do.
    """

    tool: str
    outcome: Outcome
    when: Predicate | None = None
    reason: str | None = None
    allowed: tuple[Word, ...] = WORDS
    editable: tuple[str, ...] | None = None
    reviewers: Iterable[str] | None = None
    quorum: int | None = None
    deadline: timedelta | None = None
    on_deadline: str | None = None

    def __post_init__(self) -> None:
        def wrong(what: str) -> PolicyError:
            return PolicyError(f"Rule({self.tool!r}, {self.outcome!r}): {what}")

        if not isinstance(self.tool, str) or not self.tool:
            raise wrong("the first argument is the name of a tool or a glob, such as 'send_*'")
        if self.outcome not in get_args(Outcome):
            raise wrong("the second argument is 'allow', 'ask' or 'deny'")
        if self.when is not None and not callable(self.when):
            raise wrong("when= takes a function of the call")
        for name in ("reviewers", "quorum", "deadline", "on_deadline"):
            if getattr(self, name) is not None:
                raise wrong(f"{name}= is not supported yet; remove it, it would not be enforced")
        for name in ("allowed", "editable"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise wrong(f"{name}= takes a tuple of words, not one string")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if unknown := sorted(set(self.allowed) - set(WORDS)):
            raise wrong(f"allowed= knows {', '.join(WORDS)}, not {', '.join(map(repr, unknown))}")
        if not self.allowed:
            raise wrong("allowed= is empty, so that nobody could answer")

    def matches(self, name: str) -> bool:
        """Whether the rule speaks of a tool of this name."""
        return fnmatchcase(name, self.tool)


@dataclass(frozen=True)
class Verdict:
    """What a policy says of one call, and why."""

    outcome: Outcome
    reason: str
    allowed: tuple[Word, ...] = WORDS
    editable: tuple[str, ...] | None = None

    def stricter(self, other: "Verdict") -> "Verdict":
        """The stricter of two verdicts; this one if they are alike."""
        return other if _STRENGTH[other.outcome] > _STRENGTH[self.outcome] else self


class Policy:
    """Rules, checked once and judged for each call.

    Raises:
        PolicyError: Something in the list is no rule.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise PolicyError(f"a policy takes Rule(...), not {rule!r}")

    def check(self, tools: Iterable[str]) -> None:
        """Refuse rules that name none of the tools: a misspelt rule must not fail open.

        Raises:
            PolicyError: Names the rule and the tool that was probably meant.
        """
        names = sorted(tools)
        for rule in self.rules:
            if rule.tool != "*" and not any(map(rule.matches, names)):
                close = difflib.get_close_matches(rule.tool, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the tools are {', '.join(names)}"
                raise PolicyError(f"Rule({rule.tool!r}, {rule.outcome!r}) matches no tool; {hint}")

    def judge(self, call: Call) -> Verdict:
        """The verdict on one call. An async predicate is run to its end in a thread of its own."""
        return run(self.steps(call))

    async def ajudge(self, call: Call) -> Verdict:
        """The verdict on one call."""
        return await arun(self.steps(call))

    def steps(self, call: Call) -> Steps[Verdict]:
        """The judgement itself: yields each predicate that must be asked."""
        best: Verdict | None = None
        for rule in self.rules:
            if not rule.matches(call.name):
                continue
            outcome: Outcome = rule.outcome
            reason = rule.reason or f"rule {rule.tool!r} says {rule.outcome}"
            if rule.when is not None:
                try:
                    answer = yield calling(rule.when, replace(call, args=deepcopy(call.args)))
                    problem = None if isinstance(answer, bool) else f"gave {answer!r:.80}, no bool"
                except Exception as exc:
                    answer, problem = None, f"failed: {exc!r}"
                if problem:
                    outcome, reason = "ask", f"the predicate of rule {rule.tool!r} {problem}"
                elif not answer:
                    continue
            verdict = Verdict(outcome, reason, rule.allowed, rule.editable)
            best = verdict if best is None else best.stricter(verdict)
        return best or Verdict("ask", "no rule matches")
