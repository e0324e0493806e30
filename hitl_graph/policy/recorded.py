"""Judge calls that are on record: with what is on record of them, and no more.

A predicate that looks at anything else (the graph's state, the tool's metadata, arguments that were redacted) cannot be
asked again. That is noticed, whatever the predicate makes of it, and never counts as "yes".
"""

import inspect
from collections.abc import Awaitable, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn

from hitl_graph.policy.policy import Policy
from hitl_graph.policy.rules import Rule
from hitl_graph.policy.verdict import Call, Outcome, Predicate, Verdict
from hitl_graph.steps import Steps
from hitl_graph.terms import Origin, Terms

__all__ = ["Judge", "Judged", "Recorded", "Then"]

Then = Literal["ran", "denied", "approve", "edit", "reject", "respond", "open"]
_NONE: Mapping[str, Any] = {}
_NAMES = 10_000  # of tools, as agents make names up


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call, and what became of it.

    Attributes:
        args: As the agent wanted them; None: not on record (redacted, or run by an older version).
        then: `ran`: without asking. `denied`: without asking. Else people were asked, and this was the answer; `open`:
            there was none, or it is not on record.
        edited: The arguments as people changed them.
        granted: It ran by a standing grant, where the policy would have asked.
        why: What the reviewer said, or why it ran or was denied.
        last_id: Of the last question, where it was asked about several times.
        silent: Nobody answered in time, and the deadline decided. What it rejected is `open`.
        terms: Who had to agree, when people were asked first.
        decided: And when they decided.
        voters: Names of those who agreed.
        draft: It is not a tool call but a draft to be delivered.
    """

    tool: str
    args: Mapping[str, Any] | None
    then: Then
    at: datetime
    thread_id: str
    request_id: str | None = None
    call_id: str | None = None
    edited: Mapping[str, Any] | None = None
    granted: bool = False
    reviewer: str | None = None
    why: str = ""
    silent: bool = False
    last_id: str | None = None
    terms: Terms | None = None
    decided: Terms | None = None
    origin: Origin | None = None
    voters: tuple[str, ...] = ()
    draft: bool = False


@dataclass(slots=True)
class Judged:
    """What a policy says of a call on record.

    Attributes:
        outcome: `ask` where it cannot be told.
        told: Whether what is on record was enough.
        matched: Numbers of the rules that match, from 0.
        unseen: Number of a rule to what its predicate looked at that is not on record.
        failed: Number of a rule to how its predicate failed.
    """

    verdict: Verdict
    outcome: Outcome
    told: bool = True
    matched: list[int] = field(default_factory=list)
    unseen: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


class Judge:
    """A policy, for calls on record. Judges one call at a time."""

    def __init__(self, policy: Policy) -> None:
        self.rules = policy.rules
        self._now = Judged(Verdict("ask", ""), "ask")
        self._missing = set[str]()
        self._watched = [self._watch(number, rule) for number, rule in enumerate(policy.rules)]
        self._tools: dict[str, tuple[Policy, list[int]]] = {}

    def steps(self, tool: str, args: Mapping[str, Any] | None, call_id: str | None = None) -> Steps[Judged]:
        """What the policy says of one call.

        Args:
            args: None: not on record.
        """
        self._missing = {"state", "metadata"}
        if args is None:
            self._missing.add("args")
        if call_id is None:
            self._missing.add("id")
        policy, always = self._of(tool)
        now = self._now = Judged(Verdict("ask", ""), "ask", matched=list(always))
        verdict = yield from policy.steps(Call(tool, _NONE if args is None else args, call_id))
        now.verdict, now.outcome, now.told = verdict, verdict.outcome, self._is_told(now)
        if not now.told:
            now.outcome = "ask"
        return now

    def _of(self, tool: str) -> tuple[Policy, list[int]]:
        """The rules that speak of a tool of this name, and the numbers of those that match whatever its arguments."""
        if tool not in self._tools:
            if len(self._tools) >= _NAMES:
                self._tools.clear()
            numbers = [number for number, rule in enumerate(self.rules) if rule.matches(tool)]
            policy = Policy(self._watched[number] for number in numbers)
            self._tools[tool] = policy, [number for number in numbers if self.rules[number].when is None]
        return self._tools[tool]

    def _is_told(self, now: Judged) -> bool:
        """Whether the outcome is the same whatever the rules that could not be judged would have said."""
        unseen = {self.rules[number].outcome for number in now.unseen}
        known = {self.rules[number].outcome for number in now.matched} | ({"ask"} if now.failed else set())
        if not unseen or "deny" in known:
            return True
        return "deny" not in unseen and ("ask" in known or (not known and "allow" not in unseen))

    def _watch(self, number: int, rule: Rule) -> Rule:
        when: Any = rule.when
        if when is None:
            return rule
        watched = copy(rule)  # not `replace`, which would check again what has been worked out already
        object.__setattr__(watched, "when", _Watched(self, number, when))
        return watched


class _Watched:
    """A predicate, and what it looks at."""

    def __init__(self, judge: Judge, number: int, when: Predicate) -> None:
        self.judge, self.number, self.when = judge, number, when

    def __call__(self, call: Call) -> bool | Awaitable[bool]:
        seen = _Seen(call, self.judge._missing)
        try:
            answer = self.when(seen)
            return self._finish(seen, answer) if inspect.isawaitable(answer) else self._checked(seen, answer)
        except Exception as exc:
            self._failed(seen, exc)

    async def _finish(self, seen: "_Seen", answer: Awaitable[bool]) -> bool:
        try:
            return self._checked(seen, await answer)
        except Exception as exc:
            self._failed(seen, exc)

    def _checked(self, seen: "_Seen", answer: bool) -> bool:
        if looked := object.__getattribute__(seen, "looked"):
            raise _UnrecordedError(looked[0])
        if not isinstance(answer, bool):
            raise TypeError(f"gave {answer!r:.80}, no bool")
        if answer:
            self.judge._now.matched.append(self.number)
        return answer

    def _failed(self, seen: "_Seen", exc: Exception) -> NoReturn:
        if looked := object.__getattribute__(seen, "looked"):
            self.judge._now.unseen[self.number] = looked[0]
            raise _UnrecordedError(looked[0]) from exc
        self.judge._now.failed[self.number] = f"{type(exc).__name__}: {exc}"[:200]
        raise exc


class _UnrecordedError(LookupError):
    def __init__(self, name: str) -> None:
        super().__init__(f"call.{name} is not on record")


class _Seen(Call):
    """A call that notices who looks at what is not on record."""

    def __init__(self, call: Call, missing: set[str]) -> None:
        super().__init__(call.name, call.args, call.id)
        object.__setattr__(self, "missing", missing)
        object.__setattr__(self, "looked", list[str]())

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "missing"):
            object.__getattribute__(self, "looked").append(name)
            raise _UnrecordedError(name)
        return object.__getattribute__(self, name)
