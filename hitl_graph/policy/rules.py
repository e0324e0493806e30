"""Rules: of which calls they speak, and what they want of people. No I/O.

A predicate that fails, or gives anything but a bool, counts as "ask".
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import cast, get_args

from pydantic import ValidationError

from hitl_graph.errors import PolicyError
from hitl_graph.model import WORDS, Risk, Word
from hitl_graph.policy.conditions import Condition
from hitl_graph.policy.deadline import Deadline, End
from hitl_graph.policy.hints import Hint, Hinted, check_hints
from hitl_graph.policy.verdict import Call, Fact, Layer, Outcome, Party, Predicate, Verdict
from hitl_graph.steps import Steps, calling
from hitl_graph.terms import Stage, Terms

__all__ = ["Considered", "Rule", "consider"]


@dataclass(frozen=True)
class Rule:
    """One line of a policy.

    Args:
        tool: Name of a tool, or a glob (`send_*`, `*`). Case counts.
        outcome: `allow`, `ask` or `deny`.
        when: Only for calls of which this is true: a function of the call, sync or async, or a condition in CEL, such
            as `"args.amount > 10000"` (see `hitl_graph.policy.conditions`).
        reason: Shown to the reviewer, or to the model when denied.
        allowed: The answers that a reviewer may give.
        editable: The arguments that an edit may change; None means all of them.
        reviewers: Who may decide: names, `role:finance`, `group:oncall`, or an expression of them. None: anybody.
        quorum: How many different people have to agree.
        distinct_roles: Each of them has to count as another one of `reviewers`.
        stages: In place of the three above, rounds of votes one after the other: `Stage(...)` or lists of reviewers.
        exclude: Who may not decide: `requester`, `author`.
        veto: Whose single reject ends it, whoever else has to agree.
        rejects: How many different people have to reject it (or respond) to end it; 1 unless given.
        delegates: To whom reviewers may delegate their vote, and who may be their deputy. None: anybody who is not
            excluded.
        deadline: When waiting ends: a duration, or a `Deadline` with reminders and an escalation chain.
        on_deadline: What a duration ends in: `reject` (unless given) or `approve`.
        facts: What to read when people are asked and again before it runs (balance, version of a record, hash of a
            file): if it has changed by then, people are asked again.
        grants: Whether a standing permission may take the place of asking.
        risk: How much harm a wrong answer may do: `low`, `medium` or `high`. It is shown, and the inbox is filtered by
            it; of several rules that ask, the highest counts.
        source: Where the rule stands, such as `policy.toml:12`; told with the reason.
        layer: Whose rule it is; see `Policy.layered`.
        optional: It may name a tool that there is not; `Policy.check` passes it over.
        hints: Only for tools that say this of themselves, in MCP's terms: `{"readOnlyHint": True}`. To allow, it has to
            be said; to ask or deny it is enough that it may be so (see `hitl_graph.policy.hints`).

    Raises:
        PolicyError: The rule makes no sense.
    """

    tool: str
    outcome: Outcome
    when: Predicate | str | None = None
    reason: str | None = None
    allowed: tuple[Word, ...] = WORDS
    editable: tuple[str, ...] | None = None
    reviewers: Iterable[str] | None = None
    quorum: int | None = None
    distinct_roles: bool = False
    stages: Iterable[Stage | Iterable[str]] | None = None
    exclude: Iterable[Party] = ()
    veto: Iterable[str] = ()
    rejects: int | None = None
    delegates: Iterable[str] | None = None
    deadline: timedelta | Deadline | None = None
    on_deadline: End | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)
    grants: bool = True
    risk: Risk | None = None
    source: str | None = None
    layer: Layer | None = None
    optional: bool = False
    hints: Mapping[Hint, bool] | None = None
    terms: Terms | None = field(init=False, default=None)
    """What the above comes to; None: one answer of anybody."""

    def __post_init__(self) -> None:
        def wrong(what: str) -> PolicyError:
            return PolicyError(f"Rule({self.tool!r}, {self.outcome!r}): {what}")

        if not isinstance(self.tool, str) or not self.tool:
            raise wrong("the first argument is the name of a tool or a glob, such as 'send_*'")
        if self.outcome not in get_args(Outcome):
            raise wrong("the second argument is 'allow', 'ask' or 'deny'")
        if isinstance(self.when, str):
            try:
                object.__setattr__(self, "when", Condition(self.when))
            except PolicyError as exc:
                raise wrong(f"when= {exc}") from exc
        if self.when is not None and not callable(self.when):
            raise wrong("when= takes a function of the call, or a condition as text")
        only = getattr(self.when, "outcome", None)
        if only in get_args(Outcome) and only != self.outcome:
            raise wrong(f"when= {type(self.when).__name__} goes with {only!r}")
        if self.hints is not None:
            then = self.when.then if isinstance(self.when, Hinted) else self.when  # a rule that is copied has both
            try:
                object.__setattr__(self, "when", Hinted(check_hints(self.hints), self.outcome == "allow", then))
            except ValueError as exc:
                raise wrong(str(exc)) from exc
        if self.layer is not None and self.layer not in get_args(Layer):
            raise wrong(f"layer= is managed, project or user, not {self.layer!r}")
        for name in ("allowed", "editable", "reviewers", "stages", "exclude", "veto", "delegates"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable | None):
                raise wrong(f"{name}= takes a list of words, not {value!r}")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if unknown := sorted(set(self.allowed) - set(WORDS)):
            raise wrong(f"allowed= knows {', '.join(WORDS)}, not {', '.join(map(repr, unknown))}")
        if not self.allowed:
            raise wrong("allowed= is empty, so that nobody could answer")
        if strangers := [party for party in self.exclude if party not in get_args(Party)]:
            raise wrong(f"exclude= knows requester and author, not {', '.join(map(repr, strangers))}")
        if self.risk is not None and self.risk not in get_args(Risk):
            raise wrong(f"risk= is low, medium or high, not {self.risk!r}")
        if not isinstance(self.facts, Mapping) or not all(map(callable, self.facts.values())):
            raise wrong("facts= takes a dict from names to functions of the call")
        try:
            object.__setattr__(self, "deadline", _deadline(self.deadline, self.on_deadline))
            object.__setattr__(self, "terms", _terms(self))
        except ValidationError as exc:
            error = exc.errors(include_url=False)[0]
            raise wrong(f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}") from exc
        except (ValueError, TypeError) as exc:
            raise wrong(str(exc)) from exc
        if isinstance(self.deadline, Deadline) and self.deadline.then == "approve" and "approve" not in self.allowed:
            raise wrong("the deadline approves, and allowed= does not")
        if self.outcome != "ask" and (self.terms or self.deadline or self.facts or self.risk):
            raise wrong("only a rule that asks has people, deadlines, facts and a risk")

    def matches(self, name: str) -> bool:
        """Whether the rule speaks of a tool of this name."""
        return fnmatchcase(name, self.tool)

    @property
    def place(self) -> str:
        """Layer and source, to be told; empty if it has none."""
        return ": ".join(filter(None, (self.layer, self.source)))

    def verdict(self, outcome: Outcome, reason: str) -> Verdict:
        """What the rule says of a call that it matches, if that is the outcome."""
        return Verdict(
            outcome, reason, self.allowed, self.editable, self.terms, cast("tuple[Party, ...]", self.exclude),
            cast("Deadline | None", self.deadline), self.facts, self.grants, risk=self.risk,
        )  # fmt: skip


def _deadline(given: timedelta | Deadline | None, end: End | None) -> Deadline | None:
    if given is None or isinstance(given, Deadline):
        if end is not None and (given is None or end != given.then):  # the same: a rule that is copied
            raise ValueError("on_deadline= needs a duration as deadline=; a Deadline says by itself what then= comes")
        return given
    if end == "escalate":
        raise ValueError("on_deadline='escalate' does not say to whom; deadline=Deadline(..., then=..., to=[...]) does")
    return Deadline(given, end or "reject")


def _terms(rule: Rule) -> Terms | None:
    if rule.stages is not None:
        if rule.reviewers is not None or rule.quorum is not None or rule.distinct_roles:
            raise ValueError("stages= takes the place of reviewers=, quorum= and distinct_roles=")
        stages = tuple(s if isinstance(s, Stage) else Stage(reviewers=_listed(s)) for s in rule.stages)
    else:
        if rule.reviewers is not None and not rule.reviewers:
            raise ValueError("reviewers= is empty, so that nobody could decide")
        quorum = 1 if rule.quorum is None else rule.quorum
        stages = (
            Stage(reviewers=cast("tuple[str, ...]", rule.reviewers or ()), quorum=quorum,
                  distinct_roles=rule.distinct_roles),
        )  # fmt: skip
    terms = Terms(
        stages=stages,
        veto=cast("tuple[str, ...]", rule.veto),
        rejects=1 if rule.rejects is None else rule.rejects,
        delegates=("*",) if rule.delegates is None else cast("tuple[str, ...]", rule.delegates),
    )
    return None if terms == Terms() and not rule.exclude else terms


def _listed(stage: Iterable[str]) -> tuple[str, ...]:
    if isinstance(stage, str) or not (reviewers := tuple(stage)):
        raise ValueError("each of stages= is Stage(...) or a list of reviewers")
    return reviewers


@dataclass(frozen=True)
class Considered:
    """What one rule says of one call.

    Attributes:
        verdict: None: the rule does not match.
        why: In words.
    """

    rule: Rule
    verdict: Verdict | None
    why: str


def consider(rule: Rule, call: Call) -> Steps[Considered]:
    """What a rule says of a call of a tool that it is about."""
    outcome: Outcome = rule.outcome
    reason, why = rule.reason or f"rule {rule.tool!r} says {rule.outcome}", "matches"
    if rule.when is not None:
        try:
            answer = yield calling(cast(Predicate, rule.when), replace(call, args=deepcopy(call.args)))
            problem = None if isinstance(answer, bool) else f"gave {answer!r:.80}, no bool"
        except Exception as exc:
            answer, problem = None, f"failed: {exc!r:.500}"
        told = getattr(rule.when, "told", "its predicate")
        if problem:
            outcome, reason = "ask", f"the predicate of rule {rule.tool!r} {problem}"
            why = f"{told} {problem}, which counts as ask"
        elif not answer:
            return Considered(rule, None, f"{told} is false")
        else:
            why = f"{told} is true"
    if rule.place:
        reason = f"{reason} ({rule.place})"
    return Considered(rule, rule.verdict(outcome, reason), why)
