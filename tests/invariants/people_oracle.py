"""What the documentation of rules for people comes to, told a second time and in another way than the library does.

Everything here is a plain loop over plain dicts. People stand for their right and nothing else; who is meant by a
selector is a table; how many count for roles of their own is tried out. `Desk` predicts what an operation comes to:
the errors of which one has to be raised, or none, and then how the request stands.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

from hitl_graph.errors import (
    AlreadyDecidedError,
    ClaimedError,
    HitlError,
    InvalidDecisionError,
    NotEntitledError,
    StaleRequestError,
)
from hitl_graph.model import Decision, Request
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.terms import Terms

__all__ = ["DIRECTORY", "EVERYBODY", "MEANS", "Asked", "Desk", "Gift", "Vote", "known"]

STAFF: dict[str, tuple[list[str], list[str]]] = {
    "alice": (["finance"], []),
    "bob": (["finance", "legal"], ["oncall"]),
    "carol": (["legal"], []),
    "mia": (["manager"], []),
    "sam": (["security"], []),
    "fay": (["finance", "security"], []),
    "dave": ([], []),
}
DIRECTORY = StaticDirectory([Reviewer(name, *what) for name, what in STAFF.items()])
EVERYBODY = (*STAFF, "erin", "anonymous")
"""Erin is authenticated, and not in the directory."""
MEANS: dict[str, set[str]] = {
    "alice": {"alice"},
    "user:erin": {"erin"},
    "role:finance": {"alice", "bob", "fay"},
    "role:legal": {"bob", "carol"},
    "role:manager": {"mia"},
    "role:security": {"sam", "fay"},
    "group:oncall": {"bob"},
    "role:finance and not group:oncall": {"alice", "fay"},
    "(role:manager or role:legal) and not bob": {"carol", "mia"},
    "*": {*EVERYBODY},
}
Refusals = set[type[HitlError]]


def known(name: str) -> str:
    """Whom a spelling means."""
    return name.strip().lower()


def meant(selectors: Any) -> set[str]:
    return set[str]().union(*(MEANS[selector] for selector in selectors))


def proposed(decision: Decision) -> str:
    """What two answers have to share to be the same."""
    told = decision.message if decision.type == "respond" else ""
    return f"{decision.type} {decision.args} {told}"


def refuses(decision: Decision) -> bool:
    return decision.type in ("reject", "respond")


@dataclass
class Vote:
    """An answer that counts: whose right it used, and of which of the stage's selectors it is."""

    decision: Decision
    stage: int
    whose: str
    roles: set[str]


@dataclass
class Gift:
    """A vote in somebody else's hands."""

    whose: str
    by: str
    to: str
    stage: int
    roles: set[str]
    back: bool = False


@dataclass
class Asked:
    """A request as it has to be."""

    request: Request
    state: str = "pending"
    stage: int = 0
    fired: int = 0
    decision: Decision | None = None
    by: set[str] = field(default_factory=set)
    votes: dict[str, Vote] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    gifts: list[Gift] = field(default_factory=list)
    agreed: str | None = None
    """What the stages before have agreed on."""
    permit: str | None = None
    """None, or the state of its effect."""
    redacted: bool = False

    @property
    def terms(self) -> Terms:
        return self.request.terms or Terms()

    @property
    def excluded(self) -> set[str]:
        return {known(name) for name in self.terms.excluded}

    @property
    def free_for_all(self) -> bool:
        """No rule says anything of people."""
        terms = self.terms
        [first, *more] = terms.stages
        plain = not first.reviewers and first.quorum == 1 and not first.distinct_roles and not more
        return plain and not terms.excluded and not terms.veto and terms.rejects == 1 and terms.delegates == ("*",)

    def selectors(self) -> list[str]:
        named = list(self.terms.stages[self.stage].reviewers)
        if not named:
            return ["*"]
        for turn in self.terms.schedule[: self.fired]:
            named += turn.to if turn.then == "escalate" else ()
        return sorted({*named})

    def roles(self, name: str) -> set[str]:
        return {selector for selector in self.selectors() if name in MEANS[selector]}

    def standing_gifts(self) -> list[Gift]:
        return [gift for gift in self.gifts if gift.stage == self.stage and not gift.back]

    def gave(self, name: str) -> bool:
        return any(gift.by == name for gift in self.standing_gifts())

    def holds(self, name: str) -> Gift | None:
        """A gift that has come to this person and not been given on."""
        for gift in self.standing_gifts():
            if gift.to == name and not self.gave(name):
                return gift
        return None

    def used_by(self, whose: str) -> set[str]:
        return {name for name, vote in self.votes.items() if vote.whose == whose}

    def best(self) -> int:
        """How many votes the leading proposal of this stage has."""
        yes = {proposed(v.decision) for v in self.votes.values() if v.stage == self.stage and not refuses(v.decision)}
        return max((self.counted(proposal) for proposal in yes), default=0)

    def counted(self, proposal: str) -> int:
        stage = self.terms.stages[self.stage]
        votes = [v for v in self.votes.values() if v.stage == self.stage and proposed(v.decision) == proposal]
        if not stage.distinct_roles:
            return len(votes)
        places = self.selectors() + ["none"] * len(votes)
        ways = (
            sum(place in vote.roles for vote, place in zip(votes, order, strict=False))
            for order in set(permutations(places, len(votes)))
        )
        return max(ways, default=0)


class Desk:
    """All requests, and who is away."""

    def __init__(self) -> None:
        self.asked: dict[str, Asked] = {}
        self.absences: list[tuple[str, str, int, int]] = []
        self.now_ms = 0
        self.turns: dict[str, list[str]] = {}

    # --- who may ---------------------------------------------------------------------------------------------------

    def right(self, asked: Asked, name: str, *, deputises: bool = True) -> tuple[str, set[str]] | None:
        """Whose right a vote of this person uses, and as what it counts; None: they have none to use."""
        if asked.free_for_all:
            return name, {"*"}
        if name == "anonymous" or name in asked.excluded:
            return None
        if not asked.gave(name):
            if roles := asked.roles(name):
                return name, roles
            if gift := asked.holds(name):
                return gift.whose, gift.roles
        if not deputises:
            return None
        for away in self.away_for(name):
            free = not asked.gave(away) and away not in asked.excluded and asked.used_by(away) <= {name}
            if (roles := asked.roles(away)) and free and name in meant(asked.terms.delegates):
                return away, roles
        return None

    def has_veto(self, asked: Asked, name: str) -> bool:
        stranger = name == "anonymous" or name in asked.excluded
        return not asked.free_for_all and not stranger and name in meant(asked.terms.veto)

    def away_for(self, deputy: str) -> list[str]:
        return [who for who, by, since, until in self.absences if by == deputy and since <= self.now_ms < until]

    def at_it(self, asked: Asked, name: str) -> list[str]:
        """The others whose claim holds."""
        return [
            other
            for other, until in asked.claims.items()
            if until > self.now_ms and other != name and other not in asked.votes
        ]

    def is_busy(self, asked: Asked, name: str) -> bool:
        left = asked.terms.stages[asked.stage].quorum - asked.best()
        if name in asked.votes and asked.votes[name].stage == asked.stage:
            return False
        return 0 < len(self.at_it(asked, name)) >= left

    def open_to(self, asked: Asked, name: str) -> bool:
        """Whether it belongs into this person's inbox."""
        if asked.state != "pending" or name in asked.votes or asked.used_by(name) or self.is_busy(asked, name):
            return False
        return self.has_veto(asked, name) or self.right(asked, name) is not None

    # --- what comes by itself --------------------------------------------------------------------------------------

    def due(self, asked: Asked) -> bool:
        schedule = asked.terms.schedule
        waits = asked.state == "pending" and asked.fired < len(schedule)
        return waits and schedule[asked.fired].at_ms <= self.now_ms

    def take(self, asked: Asked) -> str:
        """The next turn."""
        turn = asked.terms.schedule[asked.fired]
        asked.fired += 1
        if turn.then == "escalate":
            asked.claims = {}
        self.turns.setdefault(asked.request.id, []).append(turn.then)
        until = turn.until or turn.at + timedelta(minutes=1)
        in_time = self.now_ms <= round(until.timestamp() * 1000)
        agreed = all(vote.decision.type == "approve" for vote in asked.votes.values())
        if turn.then == "reject" or (
            turn.then == "approve" and in_time and agreed and "approve" in asked.request.allowed
        ):
            asked.state, asked.by = "decided", {"deadline"}
            nobody = "Not enough people agreed" if asked.votes else "Nobody decided"
            asked.decision = Decision(type=turn.then, message=f"{nobody} by {turn.at:%Y-%m-%d %H:%M} UTC.")
        return turn.then

    def sweep(self) -> list[tuple[str, str]]:
        came = []
        while due := [a for a in self.asked.values() if self.due(a)]:
            first = min(due, key=lambda a: (a.terms.schedule[a.fired].at_ms, a.request.id))
            came.append((first.request.id, self.take(first)))
        return came

    def looked_at(self, asked: Asked) -> Refusals:
        """Somebody acts on it: what is due comes first. Why they are too late, if they are."""
        if asked.state == "pending":
            while self.due(asked):
                self.take(asked)
        if asked.state == "pending":
            return set()
        return {StaleRequestError} if asked.decision is None else {AlreadyDecidedError}

    # --- what people do --------------------------------------------------------------------------------------------

    def decide(self, asked: Asked, name: str, decision: Decision, *, stale: bool) -> Refusals:
        if stale or asked.redacted:
            return {StaleRequestError}
        if refused := self.looked_at(asked):
            return refused
        if decision.type not in asked.request.allowed:
            refused.add(InvalidDecisionError)
        right, veto = self.right(asked, name), self.has_veto(asked, name)
        if veto and refuses(decision):
            if not refused:
                whose, roles = self.right(asked, name, deputises=False) or (name, set())
                asked.votes[name] = Vote(decision, asked.stage, whose, roles)
                self.end(asked, decision)
            return refused
        if right is None:
            return refused | {InvalidDecisionError if veto else NotEntitledError}
        mine = asked.votes.get(name)
        again = mine is not None and (mine.stage < asked.stage or proposed(mine.decision) == proposed(decision))
        if again or asked.used_by(right[0]) - {name}:
            refused.add(AlreadyDecidedError)
        if not refuses(decision) and asked.agreed not in (None, proposed(decision)):
            refused.add(InvalidDecisionError)
        if self.is_busy(asked, name):
            refused.add(ClaimedError)
        if not refused:
            asked.votes[name] = Vote(decision, asked.stage, *right)
            asked.claims.pop(name, None)
            self.count(asked, decision)
        return refused

    def count(self, asked: Asked, decision: Decision) -> None:
        if refuses(decision):
            if sum(refuses(vote.decision) for vote in asked.votes.values()) >= asked.terms.rejects:
                self.end(asked, decision)
        elif asked.counted(proposed(decision)) >= asked.terms.stages[asked.stage].quorum:
            asked.agreed = proposed(decision)
            if asked.stage + 1 == len(asked.terms.stages):
                self.end(asked, decision)
            else:
                asked.stage, asked.claims = asked.stage + 1, {}

    def end(self, asked: Asked, decision: Decision) -> None:
        same = refuses if refuses(decision) else lambda other: proposed(other) == proposed(decision)
        asked.state, asked.decision = "decided", decision
        asked.by = {name for name, vote in asked.votes.items() if same(vote.decision)}

    def claim(self, asked: Asked, name: str, until_ms: int) -> Refusals:
        if refused := self.looked_at(asked):
            return refused
        if self.right(asked, name) is None or name == "anonymous":
            refused.add(NotEntitledError)
        if self.is_busy(asked, name):
            refused.add(ClaimedError)
        if not refused:
            asked.claims[name] = until_ms
        return refused

    def hand_back(self, asked: Asked, name: str) -> Refusals:
        if refused := self.looked_at(asked):
            return refused
        claimed = asked.claims.get(name, 0) > self.now_ms
        got = [gift for gift in asked.standing_gifts() if gift.to == name and not asked.used_by(gift.whose)]
        if not (claimed or got) or (got and asked.gave(name)):
            return {StaleRequestError}
        asked.claims.pop(name, None)
        for gift in got:
            gift.back = True
        return set()

    def take_back(self, asked: Asked, name: str) -> Refusals:
        if refused := self.looked_at(asked):
            return refused
        given = [g for g in asked.standing_gifts() if g.by == name]
        if not given or asked.used_by(given[0].whose):
            return {StaleRequestError}
        came_of_it = asked.standing_gifts()[asked.standing_gifts().index(given[0]) :]
        for gift in came_of_it:
            if gift.whose == given[0].whose:
                gift.back = True
                asked.claims.pop(gift.to, None)
        return set()

    def delegate(self, asked: Asked, name: str, to: str) -> Refusals:
        if refused := self.looked_at(asked):
            return refused
        right = self.right(asked, name, deputises=False)
        if right is None:
            return {NotEntitledError}
        if {name, to} & {*asked.votes} or asked.used_by(name) or asked.used_by(to):
            refused.add(StaleRequestError)
        if to == "anonymous" or to in asked.excluded or to not in meant(asked.terms.delegates):
            refused.add(NotEntitledError)
        if to == name or any(to in (g.by, g.to) for g in asked.standing_gifts()):
            refused.add(StaleRequestError)
        if not refused:
            asked.claims.pop(name, None)
            got = asked.holds(name)  # goes before one's own
            whose, roles = (got.whose, got.roles) if got else right
            asked.gifts.append(Gift(whose, name, to, asked.stage, roles))
        return refused

    def leave(self, name: str, deputy: str, since: datetime, until: datetime) -> None:
        self.absences.append((name, deputy, round(since.timestamp() * 1000), round(until.timestamp() * 1000)))

    def returned(self, name: str) -> int:
        ended = [a for a in self.absences if a[0] == name and a[3] > self.now_ms]
        self.absences = [(*a[:2], min(a[2], self.now_ms), self.now_ms) if a in ended else a for a in self.absences]
        return len(ended)
