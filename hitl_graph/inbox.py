"""Look at what waits for people, and decide. Every door (command line, notebook, web) goes through here."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar, Unpack

from hitl_graph.errors import GrantError, SwitchError
from hitl_graph.grants import Grant
from hitl_graph.handling import Absence
from hitl_graph.ledger import Ledger, deciding, events, grants, handling, requests, switches, viewers, waiting, words
from hitl_graph.ledger.events import Event
from hitl_graph.ledger.grants import Given, Use
from hitl_graph.ledger.switches import Setting, Switch
from hitl_graph.ledger.viewers import Viewer
from hitl_graph.ledger.waiting import Facets, Filters, Mine
from hitl_graph.model import Decision, Request
from hitl_graph.reviewers import Reviewer, person, same
from hitl_graph.storage import Transaction
from hitl_graph.voting import Standing, standing

__all__ = ["Inbox"]

P = ParamSpec("P")
T = TypeVar("T")

LEASE, LONGEST = timedelta(minutes=15), timedelta(days=1)


class Inbox:
    """Pending requests over all threads of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def pending(
        self,
        *,
        reviewer: str | Reviewer | None = None,
        newest_first: bool = False,
        limit: int = 50,
        after: str | None = None,
        **wanted: Unpack[Filters],
    ) -> list[Request]:
        """What waits, oldest first.

        The page before one: `after=` its first request, in the other order, and then turned around.

        Args:
            reviewer: Only what this person may decide now, also as a deputy or by delegation. What they have answered
                already, and what others have claimed, is left out.
            newest_first: In the other order.
            limit: Rows a page.
            after: Id of the last request of the page before; it need not wait any more.
            wanted: `kind`, `thread_id`, `tool`, `risk`, `assignee`, `since`, `before`, `search`: all that is given has
                to be so (see `hitl_graph.ledger.waiting.Filters`).

        Raises:
            UnknownRequestError: `after` names no request.
        """
        self._index(wanted)
        return self.ledger.read(
            waiting.page, self.ledger.clock(), wanted, self._mine(reviewer), newest_first=newest_first, limit=limit,
            after=after,
        )  # fmt: skip

    def count(
        self, *, reviewer: str | Reviewer | None = None, limit: int | None = None, **wanted: Unpack[Filters]
    ) -> int:
        """How many there are of what `pending` lists, `limit` at most.

        Args:
            limit: None: 10,000; with `reviewer` or `assignee`, where each request has to be looked at, 1,000.
        """
        self._index(wanted)
        most = limit or (1000 if reviewer is not None or wanted.get("assignee") else 10_000)
        return self.ledger.read(waiting.count, self.ledger.clock(), wanted, self._mine(reviewer), limit=most)

    def facets(self, *, reviewer: str | Reviewer | None = None, limit: int = 10_000) -> Facets:
        """What there is to filter by: the kinds, tools and risks of what waits, each with how many there are.

        Args:
            reviewer: Only of what is asked of this person, among the oldest `limit`.
            limit: How far to count.
        """
        return self.ledger.read(waiting.facets, self._mine(reviewer), limit=limit)

    def get(self, request_id: str) -> Request:
        """One request, by its id or an unambiguous beginning of it.

        Raises:
            UnknownRequestError: None begins so, or several do.
        """
        return self.ledger.read(requests.find, request_id)

    def standing(self, request_id: str) -> Standing:
        """How far a request is: its votes, who is still needed, who has it in hand, what comes when."""
        return self.ledger.read(_standing, self.ledger.now_ms(), request_id)

    def seen(self, request: Request, *, reviewer: str | Reviewer, channel: str) -> None:
        """Note in the log that a request is shown to somebody: once a person, channel and digest.

        Nothing is noted of who was not authenticated.

        Args:
            request: What they are shown.
            channel: The door.

        Raises:
            UnknownRequestError: There is no such request.
        """
        who = person(reviewer, self.ledger.directory)
        if who.is_anonymous:
            return
        look = {"reviewer": who.name, "channel": channel}
        if not self.ledger.read(viewers.has_seen, request.id, request.digest, **look):
            self.ledger.note(viewers.note, self.ledger.now_ms(), request, request.digest, **look)

    def viewers(self, request_id: str) -> list[Viewer]:
        """To whom a request was shown, in the order in which they first looked (see `seen`).

        Raises:
            UnknownRequestError: There is no such request.
        """
        return self.ledger.read(_viewers, request_id)

    def events(self, after: int | None = None, *, limit: int = 1000) -> list[Event]:
        """What became of requests, in the order in which it happened: opened, decided, claimed, delivered ...

        That somebody looked at one is not among it.

        Args:
            after: `Event.seq` of the last one that is known, or what `last_event` gave; None: from the beginning.
            limit: How many at most; there may be more where there are so many.
        """
        return self.ledger.read(events.since, after or 0, limit=limit)

    def last_event(self) -> int:
        """The position after all that has happened: `events(after=...)` gives what comes then."""
        return self.ledger.read(events.last)

    def decide(
        self,
        request_id: str,
        decision: Decision,
        *,
        reviewer: str | Reviewer,
        digest: str | None = None,
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
        return self.ledger.decide(request_id, decision, reviewer=reviewer, channel=channel, digest=digest)

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

    def grants(self) -> list[Given]:
        """The standing permissions, the newest first, also those that have ended."""
        return self.ledger.read(grants.listed, self.ledger.now_ms())

    def uses(self, grant_id: str, *, limit: int = 50) -> list[Use]:
        """What a standing permission let through, the newest first.

        Raises:
            UnknownGrantError: No such one.
        """
        given = self.ledger.read(grants.find, self.ledger.now_ms(), grant_id)
        return self.ledger.read(grants.uses, given.id, limit=limit)

    def grant(self, grant: Grant, *, reviewer: str | Reviewer, reason: str | None = None) -> Given:
        """Give a standing permission without being asked. It is worth what this person's own answer would be.

        So it does not reach calls about which others have to be asked, or more people.

        Raises:
            GrantError: It names no tool, has ended already, or nobody was authenticated.
        """
        who = self._known(reviewer, GrantError)

        def give(tx: Transaction) -> Given:
            now_ms = self.ledger.now_ms()
            return grants.find(tx, now_ms, grants.give(tx, now_ms, grant, by=who, people=[who], note=reason))

        return self.ledger.write(give)

    def revoke(self, grant_id: str, *, reviewer: str | Reviewer, reason: str) -> Given:
        """End a standing permission, at once and everywhere. What has started under it has started.

        Raises:
            UnknownGrantError: No such one.
            GrantError: Nobody was authenticated.
        """
        who = self._known(reviewer, GrantError)
        return self.ledger.write(grants.revoke, self.ledger.now_ms(), grant_id, by=who, why=reason)

    def switches(self) -> list[Switch]:
        """The switches that are on."""
        return self.ledger.read(switches.listed)

    def switch(self, scope: str, outcome: Setting, *, reviewer: str | Reviewer, reason: str) -> Switch:
        """Turn a switch on: from now on, whatever policies say and people approved, in every process.

        Args:
            scope: `all`, `graph:NAME` or `tool:GLOB`.
            outcome: `deny`: nothing that it concerns starts. `ask`: what a policy or a standing permission lets run is
                asked about; what people approved runs.
            reason: Agents and people are told.

        Raises:
            SwitchError: Something makes no sense, or nobody was authenticated.
        """
        who = self._known(reviewer, SwitchError)
        return self.ledger.write(switches.put, self.ledger.now_ms(), scope, outcome, reason=reason, by=who)

    def lift(self, scope: str, *, reviewer: str | Reviewer, reason: str = "") -> None:
        """Turn a switch off.

        Raises:
            SwitchError: It is not on, or nobody was authenticated.
        """
        who = self._known(reviewer, SwitchError)
        self.ledger.write(switches.lift, self.ledger.now_ms(), scope, reason=reason, by=who)

    def _index(self, wanted: Filters) -> None:
        """Before the first search: what was asked by a version that had none."""
        if wanted.get("search") and self.ledger.read(words.is_behind):
            while self.ledger.write(requests.index_older):
                pass

    def _mine(self, reviewer: str | Reviewer | None) -> Mine | None:
        if reviewer is None:
            return None
        who = person(reviewer, self.ledger.directory)
        names = self.ledger.read(handling.deputised, self.ledger.now_ms(), who.name)
        return Mine(who, [person(name, self.ledger.directory) for name in names])

    def _known(self, reviewer: str | Reviewer, error: type[GrantError | SwitchError]) -> str:
        who = person(reviewer, self.ledger.directory)
        if not who.name or who.is_anonymous:
            raise error("it takes somebody who was authenticated; nothing was recorded")
        return who.name

    async def apending(
        self,
        *,
        reviewer: str | Reviewer | None = None,
        newest_first: bool = False,
        limit: int = 50,
        after: str | None = None,
        **wanted: Unpack[Filters],
    ) -> list[Request]:
        """As `pending`."""
        return await asyncio.to_thread(
            self.pending, reviewer=reviewer, newest_first=newest_first, limit=limit, after=after, **wanted
        )

    async def acount(
        self, *, reviewer: str | Reviewer | None = None, limit: int | None = None, **wanted: Unpack[Filters]
    ) -> int:
        """As `count`."""
        return await asyncio.to_thread(self.count, reviewer=reviewer, limit=limit, **wanted)

    async def afacets(self, *, reviewer: str | Reviewer | None = None, limit: int = 10_000) -> Facets:
        """As `facets`."""
        return await asyncio.to_thread(self.facets, reviewer=reviewer, limit=limit)

    async def aseen(self, request: Request, *, reviewer: str | Reviewer, channel: str) -> None:
        """As `seen`."""
        await _to_the_end(self.seen, request, reviewer=reviewer, channel=channel)

    async def aviewers(self, request_id: str) -> list[Viewer]:
        """As `viewers`."""
        return await asyncio.to_thread(self.viewers, request_id)

    async def aevents(self, after: int | None = None, *, limit: int = 1000) -> list[Event]:
        """As `events`."""
        return await asyncio.to_thread(self.events, after, limit=limit)

    async def alast_event(self) -> int:
        """As `last_event`."""
        return await asyncio.to_thread(self.last_event)

    async def aget(self, request_id: str) -> Request:
        """As `get`."""
        return await asyncio.to_thread(self.get, request_id)

    async def astanding(self, request_id: str) -> Standing:
        """As `standing`."""
        return await asyncio.to_thread(self.standing, request_id)

    async def adecide(
        self,
        request_id: str,
        decision: Decision,
        *,
        reviewer: str | Reviewer,
        digest: str | None = None,
        channel: str = "api",
    ) -> Request:
        """As `decide`. If the caller is cancelled, the decision is still recorded before the cancellation is raised."""
        return await _to_the_end(self.decide, request_id, decision, reviewer=reviewer, digest=digest, channel=channel)

    async def aclaim(self, request_id: str, *, reviewer: str | Reviewer, lease: timedelta = LEASE) -> Request:
        """As `claim`."""
        return await _to_the_end(self.claim, request_id, reviewer=reviewer, lease=lease)

    async def ahand_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """As `hand_back`."""
        return await _to_the_end(self.hand_back, request_id, reviewer=reviewer)

    async def adelegate(
        self, request_id: str, to: str | Reviewer, *, reviewer: str | Reviewer, comment: str | None = None
    ) -> Request:
        """As `delegate`."""
        return await _to_the_end(self.delegate, request_id, to, reviewer=reviewer, comment=comment)

    async def atake_back(self, request_id: str, *, reviewer: str | Reviewer) -> Request:
        """As `take_back`."""
        return await _to_the_end(self.take_back, request_id, reviewer=reviewer)

    async def aleave(
        self, *, reviewer: str | Reviewer, deputy: str | Reviewer, until: datetime, start: datetime | None = None
    ) -> Absence:
        """As `leave`."""
        return await _to_the_end(self.leave, reviewer=reviewer, deputy=deputy, until=until, start=start)

    async def areturned(self, *, reviewer: str | Reviewer) -> int:
        """As `returned`."""
        return await _to_the_end(self.returned, reviewer=reviewer)

    async def aabsences(self) -> list[Absence]:
        """As `absences`."""
        return await asyncio.to_thread(self.absences)

    async def agrants(self) -> list[Given]:
        """As `grants`."""
        return await asyncio.to_thread(self.grants)

    async def auses(self, grant_id: str, *, limit: int = 50) -> list[Use]:
        """As `uses`."""
        return await asyncio.to_thread(self.uses, grant_id, limit=limit)

    async def agrant(self, grant: Grant, *, reviewer: str | Reviewer, reason: str | None = None) -> Given:
        """As `grant`."""
        return await _to_the_end(self.grant, grant, reviewer=reviewer, reason=reason)

    async def arevoke(self, grant_id: str, *, reviewer: str | Reviewer, reason: str) -> Given:
        """As `revoke`."""
        return await _to_the_end(self.revoke, grant_id, reviewer=reviewer, reason=reason)

    async def aswitches(self) -> list[Switch]:
        """As `switches`."""
        return await asyncio.to_thread(self.switches)

    async def aswitch(self, scope: str, outcome: Setting, *, reviewer: str | Reviewer, reason: str) -> Switch:
        """As `switch`."""
        return await _to_the_end(self.switch, scope, outcome, reviewer=reviewer, reason=reason)

    async def alift(self, scope: str, *, reviewer: str | Reviewer, reason: str = "") -> None:
        """As `lift`."""
        return await _to_the_end(self.lift, scope, reviewer=reviewer, reason=reason)


def _standing(tx: Transaction, now_ms: int, request_id: str) -> Standing:
    request = requests.find(tx, request_id)
    return standing(request, deciding.votes(tx, request.id), now_ms)


def _viewers(tx: Transaction, request_id: str) -> list[Viewer]:
    return viewers.viewers(tx, requests.find(tx, request_id).id)


async def _to_the_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    running = asyncio.ensure_future(asyncio.to_thread(partial(work, *args, **kwargs)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
