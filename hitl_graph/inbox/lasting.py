"""What holds beyond one request: standing permissions and switches."""

import asyncio

from hitl_graph.errors import GrantError, SwitchError
from hitl_graph.grants import Grant
from hitl_graph.inbox.desk import Desk, to_the_end
from hitl_graph.ledger import grants, switches
from hitl_graph.ledger.grants import Given, Use
from hitl_graph.ledger.switches import Setting, Switch
from hitl_graph.reviewers import Reviewer, person
from hitl_graph.storage import Transaction

__all__ = ["Lasting"]


class Lasting(Desk):
    """Of an `Inbox`: grants and switches."""

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

    def _known(self, reviewer: str | Reviewer, error: type[GrantError | SwitchError]) -> str:
        who = person(reviewer, self.ledger.directory)
        if not who.name or who.is_anonymous:
            raise error("it takes somebody who was authenticated; nothing was recorded")
        return who.name

    async def agrants(self) -> list[Given]:
        """As `grants`."""
        return await asyncio.to_thread(self.grants)

    async def auses(self, grant_id: str, *, limit: int = 50) -> list[Use]:
        """As `uses`."""
        return await asyncio.to_thread(self.uses, grant_id, limit=limit)

    async def agrant(self, grant: Grant, *, reviewer: str | Reviewer, reason: str | None = None) -> Given:
        """As `grant`."""
        return await to_the_end(self.grant, grant, reviewer=reviewer, reason=reason)

    async def arevoke(self, grant_id: str, *, reviewer: str | Reviewer, reason: str) -> Given:
        """As `revoke`."""
        return await to_the_end(self.revoke, grant_id, reviewer=reviewer, reason=reason)

    async def aswitches(self) -> list[Switch]:
        """As `switches`."""
        return await asyncio.to_thread(self.switches)

    async def aswitch(self, scope: str, outcome: Setting, *, reviewer: str | Reviewer, reason: str) -> Switch:
        """As `switch`."""
        return await to_the_end(self.switch, scope, outcome, reviewer=reviewer, reason=reason)

    async def alift(self, scope: str, *, reviewer: str | Reviewer, reason: str = "") -> None:
        """As `lift`."""
        return await to_the_end(self.lift, scope, reviewer=reviewer, reason=reason)
