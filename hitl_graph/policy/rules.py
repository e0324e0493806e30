"""Which calls run, which are asked about, which never run. Ordered rules, no I/O.

Several rules match: deny > ask > allow. None matches: ask. A predicate that fails, or gives anything but a
bool, counts as "ask". The order of the rules only chooses whose reason is shown (of those that name people, if any
do): who has to agree, and on which answers, is what all the rules that ask want together.
"""

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from os import PathLike
from typing import Any, Literal, Self, cast, get_args

from pydantic import JsonValue, ValidationError

from hitl_graph.errors import PolicyError
from hitl_graph.model import WORDS, Word
from hitl_graph.policy.combining import both, earlier, rejecting
from hitl_graph.policy.conditions import Condition
from hitl_graph.policy.deadline import Deadline, Earliest, End
from hitl_graph.policy.modes import Mode, check_mode, combined, under
from hitl_graph.steps import Steps, arun, calling, run
from hitl_graph.terms import Stage, Terms

__all__ = ["Call", "Considered", "Fact", "Layer", "Outcome", "Party", "Policy", "Predicate", "Rule", "Verdict"]

Outcome = Literal["allow", "ask", "deny"]
_REMEMBERED = 1000
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
Party = Literal["requester", "author"]
Layer = Literal["managed", "project", "user"]


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
        source: Where the rule stands, such as `policy.toml:12`; told with the reason.
        layer: Whose rule it is; see `Policy.layered`.
        optional: It may name a tool that there is not; `Policy.check` passes it over.

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
    source: str | None = None
    layer: Layer | None = None
    optional: bool = False
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
        if self.outcome != "ask" and (self.terms or self.deadline or self.facts):
            raise wrong("only a rule that asks has people, deadlines and facts")

    def matches(self, name: str) -> bool:
        """Whether the rule speaks of a tool of this name."""
        return fnmatchcase(name, self.tool)

    @property
    def place(self) -> str:
        """Layer and source, to be told; empty if it has none."""
        return ": ".join(filter(None, (self.layer, self.source)))

    def verdict(self, outcome: Outcome, reason: str) -> "Verdict":
        """What the rule says of a call that it matches, if that is the outcome."""
        return Verdict(
            outcome, reason, self.allowed, self.editable, self.terms, cast("tuple[Party, ...]", self.exclude),
            cast("Deadline | None", self.deadline), self.facts, self.grants,
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
class Verdict:
    """What a policy says of one call, and why.

    Attributes:
        terms: Who has to agree; None: one answer of anybody. `exclude` is not in it yet, as names are not known.
        facts: What to read again before it runs.
        grants: Whether a standing permission may take the place of asking.
        mode: The mode that made something else of what the rules say.
        rules: What they say, in that case.
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


class Policy:
    """Rules, checked once and judged for each call.

    Args:
        mode: `default`, `plan`, `dont-ask` or `shadow` (see `hitl_graph.policy.modes`).
        max_denials: After so many denied calls in a row, in which no call of the thread ran, people are asked what now.

    Raises:
        PolicyError: Something in the list is no rule, or an option makes no sense.
    """

    def __init__(self, rules: Iterable[Rule] = (), *, mode: Mode = "default", max_denials: int | None = None) -> None:
        self.rules = tuple(rules)
        self.mode: Mode = check_mode(mode)
        if max_denials is not None and (type(max_denials) is not int or max_denials < 1):
            raise PolicyError(f"max_denials= takes a number from 1, not {max_denials!r:.80}")
        self.max_denials = max_denials
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise PolicyError(f"a policy takes Rule(...), not {rule!r}")
        self._matching: dict[str, tuple[Rule, ...]] = {}

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """Read `policy.toml`, YAML, or the permissions of a `settings.json` of Claude Code.

        Args:
            path: Its ending says what it is.
            facts: What the file's `facts` name.
            predicates: What a `when` of the file may name in place of a condition.

        Raises:
            PolicyFileError: It cannot be read, or has mistakes: all of them, each with its line.
        """
        from hitl_graph.policy.file import from_file

        return cls(**from_file(path, {} if facts is None else facts, {} if predicates is None else predicates))

    @classmethod
    def load(
        cls,
        text: str,
        name: str = "policy.toml",
        *,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """As `from_file`, for a text; the ending of `name` says what it is.

        Raises:
            PolicyFileError: It has mistakes.
        """
        from hitl_graph.policy.file import load

        return cls(**load(text, name, {} if facts is None else facts, {} if predicates is None else predicates))

    @classmethod
    def from_permissions(
        cls, permissions: Mapping[str, Any] | str | PathLike[str], *, root: str | PathLike[str] | None = None
    ) -> Self:
        """Rules in Claude Code's form: `{"allow": [...], "ask": [...], "deny": [...]}` of `Tool(specifier)`.

        Args:
            permissions: These lists, the contents of a `settings.json` that has them, or its path.
            root: Where relative paths lie; the current folder unless given.

        Raises:
            PolicyError: An entry makes no sense.
        """
        from hitl_graph.policy.file import from_permissions

        return cls(**from_permissions(permissions, root))

    @classmethod
    def layered(
        cls,
        *,
        managed: "Policy | str | PathLike[str] | None" = None,
        project: "Policy | str | PathLike[str] | None" = None,
        user: "Policy | str | PathLike[str] | None" = None,
        facts: Mapping[str, Fact] | None = None,
        predicates: Mapping[str, Predicate] | None = None,
    ) -> Self:
        """One policy of several layers: all their rules count, and a lower layer can only make a verdict stricter.

        Args:
            managed: The organisation's. A file that is not there is no layer; one that cannot be read is an error.
            project: The agent's own. A file has to be there.
            user: Of who runs it. A file that is not there is no layer.
            facts: See `from_file`.
            predicates: See `from_file`.

        Raises:
            PolicyFileError: A file cannot be read, or has mistakes.
            PolicyError: A lower layer sets something that is less strict than a higher one has it.
        """
        from hitl_graph.policy.layers import layered

        return cls(
            **layered(managed, project, user, lambda path: cls.from_file(path, facts=facts, predicates=predicates))
        )

    def check(self, tools: Iterable[str]) -> None:
        """Refuse rules that name none of the tools: a misspelt rule must not fail open.

        Raises:
            PolicyError: Names the rule and the tool that was probably meant.
        """
        names = sorted(tools)
        for rule in self.rules:
            if rule.tool != "*" and not rule.optional and not any(map(rule.matches, names)):
                close = difflib.get_close_matches(rule.tool, names, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the tools are {', '.join(names)}"
                raise PolicyError(f"Rule({rule.tool!r}, {rule.outcome!r}) matches no tool; {hint}")

    def _matches(self, name: str) -> tuple[Rule, ...]:
        """The rules that speak of a tool. Remembered, as there are few tools and there may be hundreds of rules."""
        if (found := self._matching.get(name)) is None:
            found = tuple(rule for rule in self.rules if rule.matches(name))
            if len(self._matching) < _REMEMBERED:  # a model may invent any number of names
                self._matching[name] = found
        return found

    def judge(self, call: Call, *, mode: Any = None) -> Verdict:
        """The verdict on one call. An async predicate is run to its end in a thread of its own.

        Args:
            mode: What the run wants (`plan` or `dont-ask`), on top of the policy's own.
        """
        return run(self.steps(call, mode=mode))

    async def ajudge(self, call: Call, *, mode: Any = None) -> Verdict:
        """As `judge`."""
        return await arun(self.steps(call, mode=mode))

    def modes(self, run: Any = None) -> tuple[Mode, ...]:
        """The modes that hold in a run which wants this one.

        Raises:
            PolicyError: It wants what is not stricter.
        """
        return combined(self.mode, run)

    def steps(self, call: Call, *, mode: Any = None) -> Steps[Verdict]:
        """The judgement itself: yields each predicate that must be asked."""
        verdict = yield from self.by_rules(call)
        return under(self.modes(mode), verdict, call)

    def by_rules(self, call: Call) -> Steps[Verdict]:
        """What the rules say, whatever the mode."""
        best: dict[Layer | None, Verdict] = {}
        for rule in self._matches(call.name):
            verdict = (yield from _considered(rule, call)).verdict
            if verdict is not None:
                known = best.get(rule.layer)
                best[rule.layer] = verdict if known is None else known.stricter(verdict)
        return _layered(best) or Verdict("ask", "no rule matches")

    def considered(self, call: Call) -> list[Considered]:
        """What each rule says of one call, for people who wonder why."""
        return [
            run(_considered(rule, call))
            if rule.matches(call.name)
            else Considered(rule, None, f"is about {rule.tool!r}")
            for rule in self.rules
        ]


def _layered(best: Mapping[Layer | None, Verdict]) -> Verdict | None:
    found: Verdict | None = None
    for layer in (None, *get_args(Layer)):
        if (verdict := best.get(layer)) is not None:
            found = verdict if found is None else found.over(verdict)
    return found


def _considered(rule: Rule, call: Call) -> Steps[Considered]:
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
