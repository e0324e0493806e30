"""What another policy would have made of the calls on record: counts, and the calls for which it makes a difference."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import count
from typing import Literal, get_args

from hitl_graph.policy.policy import Policy
from hitl_graph.policy.recorded import Judge, Judged, Recorded
from hitl_graph.policy.shares import at_most
from hitl_graph.policy.verdict import Outcome, Verdict
from hitl_graph.reviewers import Reviewer
from hitl_graph.steps import Steps
from hitl_graph.terms import Terms
from hitl_graph.voting import satisfied

__all__ = ["OUTCOMES", "WAS", "Change", "Changes", "Kind", "Replay", "RuleTally", "Tally", "Was"]

Was = Literal["asked", "allowed", "denied"]
Kind = Literal["let_through", "unedited", "denied", "asked", "opened", "people", "saved"]
WAS: tuple[Was, ...] = ("asked", "allowed", "denied")
OUTCOMES: tuple[Outcome, ...] = ("ask", "allow", "deny")
"""In the order of `WAS`."""
_NO = ("reject", "respond")


@dataclass(frozen=True, slots=True)
class Change:
    """A call for which it makes a difference.

    Attributes:
        outcome: What would have come of it.
        reason: Why.
        enough: Where other people are needed: whether those who agreed would have been enough.
    """

    recorded: Recorded
    outcome: Outcome
    reason: str
    enough: bool | None = None


class Changes:
    """How many there are, and the newest of them. Iterated from the oldest."""

    def __init__(self, keep: int) -> None:
        self.count = 0
        self._keep, self._newest, self._number = keep, list[tuple[datetime, int, Change]](), count()

    def add(self, change: Change) -> None:
        """One more."""
        self.count += 1
        entry = (change.recorded.at, next(self._number), change)
        if len(self._newest) < self._keep:
            heapq.heappush(self._newest, entry)
        elif self._newest:
            heapq.heappushpop(self._newest, entry)

    def __len__(self) -> int:
        return len(self._newest)

    def __iter__(self) -> Iterator[Change]:
        return (change for _, _, change in sorted(self._newest, key=lambda entry: entry[:2]))


@dataclass
class Tally:
    """Of how many calls of a tool what became, and what would.

    Attributes:
        before: `asked`, `allowed` or `denied` to how many.
        after: `ask`, `allow` or `deny` to how many; what cannot be told counts as `ask`, and in `untold`.
    """

    calls: int = 0
    untold: int = 0
    let_through: int = 0
    before: Counter[Was] = field(default_factory=Counter)
    after: Counter[Outcome] = field(default_factory=Counter)


@dataclass
class RuleTally:
    """What one rule of the policy did.

    Attributes:
        matched: To how many calls it applied.
        decided: Of how many of them its outcome is what came of them.
        untold: For how many its predicate looked at what is not on record.
        unseen: At what it looked.
        failed: How often its predicate failed.
        failure: How it failed, the first time.
    """

    rule: str
    reason: str = ""
    matched: int = 0
    decided: int = 0
    untold: int = 0
    unseen: str = ""
    failed: int = 0
    failure: str = ""


class Replay:
    """What a policy would have made of the calls on record. `str()` of it says so in a few sentences.

    Attributes:
        calls: How many were judged, tool calls and drafts.
        table: From what was and what would have been, such as (`asked`, `allow`), to how many.
        untold: From `asked`, `allowed`, `denied` to how many of them it cannot be told; in `table` they count as `ask`.
        untold_people: Of how many it cannot be told who would have had to agree.
        answered: From the answers to how many of those who were asked gave them.
        silent: How many of those were decided by a deadline, since nobody answered.
        unasked: Of what people answered and this would not ask about: how many, and how many they refused.
        changes: By kind. `let_through`: people refused it, and it would have run. `unedited`: people edited it, and it
            would have run as it was. `denied`: it ran, and would not have. `asked`: it ran unasked, and people would
            have been asked. `opened`: it was denied, and would not have been. `people`: other people would have had to
            agree. `saved`: people approved it, and would not have been asked.
        skipped: Why calls were left out, to how many.
    """

    def __init__(self, policy: Policy, *, tool: str = "*", drafts: str = "review", keep: int = 1000) -> None:
        self._judge, self._tool, self._drafts = Judge(policy), tool, drafts
        self._takes_drafts = any(rule.tool != "*" and rule.matches(drafts) for rule in policy.rules)
        self.since: datetime | None = None
        self.until: datetime | None = None
        self.calls = 0
        self.table: Counter[tuple[Was, Outcome]] = Counter()
        self.untold: Counter[Was] = Counter()
        self.untold_people = 0
        self.answered: Counter[str] = Counter()
        self.silent = 0
        self.unasked, self.unasked_refused = 0, 0
        self.changes: dict[Kind, Changes] = {kind: Changes(keep) for kind in get_args(Kind)}
        self.tools: dict[str, Tally] = {}
        self.rules = [
            RuleTally(f"{n}. {rule.tool} {rule.outcome}", ": ".join(filter(None, (rule.place, rule.reason))))
            for n, rule in enumerate(policy.rules, 1)
        ]
        self.unmatched = 0
        self.skipped: Counter[str] = Counter()
        self.people: dict[str, Reviewer] = {}
        """Who the voters are; a name that is not in it has no roles."""

    @property
    def refused(self) -> int:
        """How many calls people refused: rejected, or answered in place of the tool."""
        return sum(self.answered[word] for word in _NO)

    @property
    def at_most(self) -> float | None:
        """Of what it would not ask about, people would refuse at most this share (95 % sure); None: no idea."""
        return at_most(self.unasked_refused, self.unasked) if self.unasked else None

    def steps(self, one: Recorded) -> Steps[None]:
        """Judge one more call."""
        name = self._drafts if one.draft else one.tool
        if not fnmatchcase(name, self._tool):
            return
        if one.draft and not self._takes_drafts:
            self.skipped[f"drafts, since no rule names {self._drafts!r}"] += 1
            return
        judged = yield from self._judge.steps(name, one.args, one.call_id)
        edited = None
        if one.edited is not None and judged.outcome == "ask":
            edited = yield from self._judge.steps(name, one.edited, one.call_id)
        self._count(name, one, judged)
        if judged.told:
            self._compare(one, judged, edited)

    def _count(self, name: str, one: Recorded, judged: Judged) -> None:
        was: Was = "allowed" if one.then == "ran" else "denied" if one.then == "denied" else "asked"
        outcome = self._outcome(one, judged)
        tally = self.tools.setdefault(name, Tally())
        self.calls, tally.calls = self.calls + 1, tally.calls + 1
        tally.before[was] += 1
        tally.after[outcome] += 1
        self.table[was, outcome] += 1
        if not judged.told:
            self.untold[was] += 1
            tally.untold += 1
        if was == "asked":
            self.answered[one.then] += 1
            self.silent += one.silent
            if outcome == "allow":
                tally.let_through += one.then in _NO
                if one.then != "open" and not one.silent:
                    self.unasked += 1
                    self.unasked_refused += one.then in _NO
        for number in judged.matched:
            self.rules[number].matched += 1
            self.rules[number].decided += judged.told and self._judge.rules[number].outcome == judged.outcome
        self.unmatched += not (judged.matched or judged.unseen or judged.failed)
        for number, what in judged.unseen.items():
            self.rules[number].untold += 1
            self.rules[number].unseen = self.rules[number].unseen or f"call.{what}"
        for number, how in judged.failed.items():
            self.rules[number].failed += 1
            self.rules[number].failure = self.rules[number].failure or how

    @staticmethod
    def _outcome(one: Recorded, judged: Judged) -> Outcome:
        """What would have come of it: a grant that let it run takes the place of asking, unless a rule says no."""
        return (
            "allow"
            if one.granted and judged.told and judged.outcome == "ask" and judged.verdict.grants
            else judged.outcome
        )

    def _compare(self, one: Recorded, judged: Judged, edited: Judged | None) -> None:
        outcome, verdict = self._outcome(one, judged), judged.verdict
        ran = one.then in ("ran", "approve", "edit")

        def note(kind: Kind, verdict: Verdict = verdict, enough: bool | None = None) -> None:
            self.changes[kind].add(Change(one, verdict.outcome, verdict.reason, enough))

        if outcome == "allow":
            if one.then in _NO:
                note("let_through")
            elif one.then == "edit":
                note("unedited")
            elif one.then == "approve":
                note("saved")
        elif outcome == "deny":
            if ran:
                note("denied")
        elif one.then == "ran":
            note("asked")
        elif edited is not None and edited.told and edited.outcome == "deny":
            note("denied", edited.verdict)
        elif one.then != "denied":
            if any(self._judge.rules[number].terms for number in (*judged.unseen, *(edited.unseen if edited else ()))):
                self.untold_people += 1
            else:
                self._compare_people(one, verdict, edited)
        if one.then == "denied" and outcome != "deny":
            note("opened")

    def _compare_people(self, one: Recorded, verdict: Verdict, edited: Judged | None) -> None:
        wanted = _terms(one, verdict)
        if wanted is None or wanted != (one.terms or Terms()).unscheduled:
            enough = self._enough(wanted, one)
        elif edited is not None and edited.told and edited.outcome == "ask":
            verdict, wanted, enough = edited.verdict, _terms(one, edited.verdict), False
            if self._enough(wanted, one):
                return  # who agreed to the edit may
        else:
            return
        ran = one.then in ("approve", "edit")
        self.changes["people"].add(Change(one, "ask", verdict.reason, enough if ran else None))

    def _enough(self, wanted: Terms | None, one: Recorded) -> bool:
        people = [(name, self.people.get(name) or Reviewer(name)) for name in one.voters]
        return wanted is not None and satisfied(wanted, one.decided, people)

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> list[str]:
        """What matters, the most important first."""
        if not self.calls:
            return ["No calls are on record for this time.", *self._left_out()]
        after: Counter[Outcome] = Counter()
        before: Counter[Was] = Counter()
        for (was, outcome), number in self.table.items():
            before[was] += number
            after[outcome] += number
        told = [
            f"{_calls(self.calls)}: it would have asked about {_instead(after['ask'], before['asked'])},"
            f" allowed {_instead(after['allow'], before['allowed'])}"
            f" and denied {_instead(after['deny'], before['denied'])}."
        ]
        if self.refused:
            through = self.changes["let_through"].count
            told.append(f"It would have let through {_number(through)} of {self.refused:,} that people refused.")
        if unedited := self.changes["unedited"].count:
            told.append(f"It would have run {_calls(unedited)} as proposed that people edited first.")
        if (bound := self.at_most) is not None:
            told.append(
                f"Of the {self.unasked:,} answered calls that it would not ask about any more, people refused"
                f" {_number(self.unasked_refused)}. If the future is like the past, they would refuse at most"
                f" {_percent(bound)} of such calls (95 % sure)."
            )
        if denied := self.changes["denied"].count:
            told.append(f"It would have denied {_calls(denied)} that ran.")
        if people := self.changes["people"]:
            told.append(f"It would have asked other people, or more of them, about {_calls(people.count)}.")
        if untold := self.untold.total():
            looked = ", ".join(sorted({tally.unseen for tally in self.rules if tally.unseen}))
            told.append(
                f"It cannot be told for {_calls(untold)}, counted as asked: rules look at {looked}, not on record."
            )
        if self.untold_people:
            told.append(f"Who would have had to agree cannot be told for {_calls(self.untold_people)}.")
        if failed := [tally for tally in self.rules if tally.failed]:
            told.append(
                f"Predicates failed, which means ask: {'; '.join(f'{t.rule}, {_times(t.failed)}' for t in failed)}."
            )
        return told + self._left_out()

    def _left_out(self) -> list[str]:
        return [f"Left out: {number:,} {why}." for why, number in self.skipped.items()]


def _terms(one: Recorded, verdict: Verdict) -> Terms | None:
    """Who would have had to agree; None: not known, as it is not on record whose the call is."""
    excluded = tuple(getattr(one.origin, party, None) for party in verdict.exclude)
    if None in excluded:
        return None
    return (verdict.terms or Terms()).model_copy(update={"excluded": excluded})


def _calls(number: int) -> str:
    return f"{number:,} call{'' if number == 1 else 's'}"


def _number(number: int) -> str:
    return f"{number:,}" if number else "none"


def _instead(after: int, before: int) -> str:
    return f"{_number(after)} as before" if after == before else f"{_number(after)} instead of {_number(before)}"


def _times(number: int) -> str:
    return f"{number:,} time{'' if number == 1 else 's'}"


def _percent(rate: float) -> str:
    """Rounded up, since it is a bound."""
    for digits in (1, 2, 3, 4):
        shown = -(-rate * 100 * 10**digits // 1) / 10**digits
        if rate >= 0.1 ** (digits + 1):
            break
    return f"{min(shown, 100):.{digits}f} %"
