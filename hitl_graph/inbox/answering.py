"""What people do with a request: decide it, take it in hand, give it on; and be away meanwhile."""

import asyncio
from datetime import datetime, timedelta

from hitl_graph.handling import Absence
from hitl_graph.inbox.desk import Desk, to_the_end
from hitl_graph.ledger import handling
from hitl_graph.model import Decision, Request
from hitl_graph.reviewers import Reviewer, person, same

__all__ = ["LEASE", "LONGEST", "Answering"]

LEASE, LONGEST = timedelta(minutes=15), timedelta(days=1)
"""How long a claim lasts unless it is said, and at most."""


class Answering(Desk):
    """Of an `Inbox`: answers, claims, delegations and absences."""

    def decide(
        self,
        request_id: str,
        decision: Decision,
        *,
        reviewer: str | Reviewer,
        digest: str | None = None,
        version: str | None = None,
        channel: str = "api",
    ) -> Request:
        """Record an answer. When this returns, it cannot be lost.

        Where a rule wants several people to agree, it is a vote, and the request that is returned is `pending` until
        enough of them do. Then it is the decision, and a worker carries it out. A vote may be changed until then.

        Args:
            request_id: Id or an unambiguous beginning of it.
            decision: `approve()`, `edit(...)`, `reject(...)` or `respond(...)`.
            reviewer: Who decides, as the authentication of the door says; a name is looked up in the directory.
            digest: `Request.digest` of what the reviewer looked at; refused if something else is asked now.
            version: `hitl_graph.card.version` of it then; refused if somebody voted, or it moved on, since.
            channel: The door.

        Raises:
            UnknownRequestError: No such request.
            AlreadyDecidedError: Another answer came first; this one is not recorded.
            AlreadyVotedError: This person has answered, and it waits for others.
            StaleRequestError: It is not asked any more, or is not what was shown.
            NotEntitledError: This person may not decide it.
            ClaimedError: Somebody else is at it.
            InvalidDecisionError: The word is not offered, the edit does not fit, the grant reaches too far. It can be
                answered again.
        """
        if not isinstance(decision, Decision):
            raise TypeError(f"decide() takes approve(), edit(...), reject(...) or respond(...), not {decision!r:.80}")
        if not reviewer:
            raise ValueError("decide() needs the name of the reviewer")
        return self.ledger.decide(
            request_id, decision, reviewer=reviewer, channel=channel, digest=digest, version=version
        )

    def claim(self, request_id: str, *, reviewer: str | Reviewer, lease: timedelta = LEASE) -> Request:
        """Take a request in hand for a while: nobody else can decide it unless more people are needed than are at it.

        Claiming it again makes it last longer. It ends with the stage, and when the request is escalated; a veto is
        not held up by it.

        Args:
            lease: For how long; a day at most, so that nobody who is gone keeps others from it.

        Raises:
            NotEntitledError: This person may not decide it.
            ClaimedError: Somebody else is at it.
        """
        if not timedelta(0) < lease <= LONGEST:
            raise ValueError(f"a claim lasts for some time, {LONGEST} at most; it can be claimed again")
        until = self.ledger.clock() + lease
        return self.ledger.acting(handling.claim, request_id, until, reviewer=reviewer)

    def hand_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """Give up one's claim, and a vote that was delegated to one: it goes back to whom it came from.

        Raises:
            StaleRequestError: There is neither, or the vote was used or given on.
        """
        return self.ledger.acting(handling.hand_back, request_id, reviewer=reviewer)

    def delegate(
        self, request_id: str, to: str | Reviewer, *, reviewer: str | Reviewer, comment: str | None = None
    ) -> Request:
        """Give one's vote to somebody else, who may give it on. Who gave it to whom is kept.

        It counts as what its giver was when it was given. A veto, and the vote of somebody who is away, stay where they
        are.

        Raises:
            NotEntitledError: This person may not decide it, or the rule does not let `to` have it.
            StaleRequestError: One of the two has voted already.
        """
        receiver = person(to, self.ledger.directory)
        return self.ledger.acting(handling.delegate, request_id, receiver, comment, reviewer=reviewer)

    def take_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """Take back a vote that one delegated and that was not used."""
        return self.ledger.acting(handling.take_back, request_id, reviewer=reviewer)

    def leave(
        self, *, reviewer: str | Reviewer, deputy: str | Reviewer, until: datetime, start: datetime | None = None
    ) -> Absence:
        """Be out of office. Meanwhile the deputy may decide what this person may, in their place.

        Everybody notes only their own absence: `reviewer` is whom the door authenticated. A deputy's vote is the vote
        of whoever is away, who may still use it first; a rule that says to whom votes may be delegated binds deputies,
        too; a deputy has no deputy.

        Args:
            until: Aware; the first instant at which they are back.
            start: Aware; now, unless given.

        Raises:
            ValueError: It ends before it begins, or the deputy is the same person.
        """
        now = self.ledger.clock()
        who, instead = (person(name, self.ledger.directory) for name in (reviewer, deputy))
        since = start or now
        for at in (since, until):
            if at.tzinfo is None:
                raise ValueError(f"{at} has no time zone")
        if until <= max(since, now):
            raise ValueError(f"an absence ends after it begins, and after now; {until:%Y-%m-%d %H:%M} does not")
        if who.is_anonymous or instead.is_anonymous or same(who.name, instead.name):
            raise ValueError(f"{who.name} needs somebody else as a deputy, not {instead.name}")
        found = Absence(reviewer=who.name, deputy=instead.name, start=since, until=until)
        self.ledger.write(handling.leave, self.ledger.now_ms(), found, actor=who.name)
        return found

    def returned(self, *, reviewer: str | Reviewer) -> int:
        """Be back: ends all absences of this person, also those that have not begun. Returns how many there were."""
        name = person(reviewer, self.ledger.directory).name
        return self.ledger.write(handling.returned, self.ledger.now_ms(), name, actor=name)

    def absences(self) -> list[Absence]:
        """Who is or will be out of office, in the order in which they leave."""
        return self.ledger.read(handling.absences, self.ledger.now_ms())

    async def adecide(
        self,
        request_id: str,
        decision: Decision,
        *,
        reviewer: str | Reviewer,
        digest: str | None = None,
        version: str | None = None,
        channel: str = "api",
    ) -> Request:
        """As `decide`. If the caller is cancelled, the decision is still recorded before the cancellation is raised."""
        return await to_the_end(
            self.decide, request_id, decision, reviewer=reviewer, digest=digest, version=version, channel=channel
        )

    async def aclaim(self, request_id: str, *, reviewer: str | Reviewer, lease: timedelta = LEASE) -> Request:
        """As `claim`."""
        return await to_the_end(self.claim, request_id, reviewer=reviewer, lease=lease)

    async def ahand_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """As `hand_back`."""
        return await to_the_end(self.hand_back, request_id, reviewer=reviewer)

    async def adelegate(
        self, request_id: str, to: str | Reviewer, *, reviewer: str | Reviewer, comment: str | None = None
    ) -> Request:
        """As `delegate`."""
        return await to_the_end(self.delegate, request_id, to, reviewer=reviewer, comment=comment)

    async def atake_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """As `take_back`."""
        return await to_the_end(self.take_back, request_id, reviewer=reviewer)

    async def aleave(
        self, *, reviewer: str | Reviewer, deputy: str | Reviewer, until: datetime, start: datetime | None = None
    ) -> Absence:
        """As `leave`."""
        return await to_the_end(self.leave, reviewer=reviewer, deputy=deputy, until=until, start=start)

    async def areturned(self, *, reviewer: str | Reviewer) -> int:
        """As `returned`."""
        return await to_the_end(self.returned, reviewer=reviewer)

    async def aabsences(self) -> list[Absence]:
        """As `absences`."""
        return await asyncio.to_thread(self.absences)
