"""Asks the human about one request, and records what the human says. Nothing else ever is."""

import secrets
from typing import Literal

import anyio
from mcp.types import ElicitResult

from hitl_graph.card import done, version
from hitl_graph.errors import NotEntitledError
from hitl_graph.mcp import telling
from hitl_graph.mcp.asking import Asking, CannotAskError, Talk
from hitl_graph.mcp.desk import CHANNEL, Desk
from hitl_graph.mcp.forms import Chosen, First, Second, made
from hitl_graph.mcp.shapes import Outcome, Proposal
from hitl_graph.model import Decision, Request
from hitl_graph.reviewers import Reviewer, same
from hitl_graph.visible import visible
from hitl_graph.voting import Standing

__all__ = ["Deciding"]

_LONG = 4000  # characters; more is read better on a page
_GLANCE = 0.5  # seconds between two looks at what became of an opened page
_Came = Literal["decided", "voted", "waiting", "declined", "cancelled", "unanswered", "opened", "elsewhere"]


class Deciding:
    """One call of the tool.

    Args:
        request: As it is shown; an answer counts for nothing else.
        who: Is asked, and decides.
        proposal: What the model would answer; only shown.
    """

    def __init__(
        self, desk: Desk, talk: Talk, request: Request, standing: Standing, who: Reviewer, proposal: Proposal | None
    ) -> None:
        self._desk, self._talk, self._asking = desk, talk, Asking(talk, desk.patience)
        self._request, self._standing, self._who, self._proposal = request, standing, who, proposal
        self._version, self._link = version(request, standing), desk.link(request)

    async def outcome(self) -> Outcome:
        """Ask in the way that the client and the request allow.

        Raises:
            HitlError: The answer does not count; nothing was recorded.
        """
        modes, page_is_better = self._asking.modes, self._desk.mode == "url" or self._is_long()
        try:
            if self._link is not None and "url" in modes and (page_is_better or "form" not in modes):
                return await self._on_the_page(self._link)
            if "form" in modes and self._desk.mode == "form":
                return await self._in_forms()
        except CannotAskError as exc:
            return self._elsewhere(f"This client could not ask its human ({visible(str(exc))}).")
        return self._elsewhere("This client cannot ask its human.")

    async def _in_forms(self) -> Outcome:
        request = self._request
        first = First(request, self._proposal, f"{secrets.randbelow(10_000):04}" if self._much_depends() else None)
        await self._desk.inbox.aseen(request, reviewer=self._who, channel=CHANNEL)
        result = await self._asking.form(self._question(), first.schema)
        if result is None or result.action != "accept":
            return self._no_answer(result)
        chosen = first.read(result.content)
        if chosen.answer is None:
            return self._came("waiting", "The human left it waiting. Nothing was recorded.")
        if not Second.needed(chosen):
            return await self._record(made(request, chosen))
        return await self._in_a_second_form(chosen)

    async def _in_a_second_form(self, chosen: Chosen) -> Outcome:
        second = Second(self._request, chosen, self._proposal)
        result = await self._asking.form(self._question(twice=True), second.schema)
        if result is None or result.action != "accept":
            return self._no_answer(result)
        return await self._record(second.read(result.content))

    async def _record(self, decision: Decision) -> Outcome:
        request = self._request
        who = await self._desk.who(self._talk, "decide")  # the human took their time
        if not same(who.name, self._who.name):
            raise NotEntitledError(request.id, f"{self._who.name} was asked, and {who.name} answers")
        decided = await self._desk.inbox.adecide(
            request.id, decision, reviewer=who, digest=request.digest, version=self._version, channel=CHANNEL
        )
        if decided.state == "pending":
            missing = (await self._desk.inbox.astanding(request.id)).missing
            return self._came("voted", f"Recorded as a vote of {visible(who.name)}. Still needed: {missing}.", decided)
        told = done(decided, decided.decision or decision)
        return self._came("decided", f"Recorded: {told} by {visible(decided.reviewer or who.name)}.", decided)

    async def _on_the_page(self, link: str) -> Outcome:
        elicitation = secrets.token_hex(16)
        result = await self._asking.open(f"Decide request {self._request.id} in the inbox.", link, elicitation)
        if result is None or result.action != "accept":
            return self._no_answer(result)
        now, then = await self._desk.look(self._request.id)
        with anyio.move_on_after(self._desk.linger.total_seconds()):
            while version(now, then) == self._version:
                await anyio.sleep(_GLANCE)
                now, then = await self._desk.look(self._request.id)
        if version(now, then) == self._version:
            text = "The human opened the inbox and has not decided yet, so nothing was recorded. Look later with show."
            return self._came("opened", text, now)
        await self._asking.opened_is_done(elicitation)
        if now.decision is not None:
            return self._came(
                "decided", f"In the inbox: {done(now, now.decision)} by {visible(str(now.reviewer))}.", now
            )
        if any(same(vote.reviewer, self._who.name) for vote in then.votes):
            return self._came("voted", f"Recorded as a vote in the inbox. Still needed: {then.missing}.", now)
        return self._came("opened", f"Nothing was recorded of this human; the request is {now.state} now.", now)

    def _is_long(self) -> bool:
        return self._request.draft is not None or len(self._question()) > _LONG

    def _much_depends(self) -> bool:
        request = self._request
        return request.risk == "high" or (request.terms is not None and request.terms.names_people)

    def _question(self, *, twice: bool = False) -> str:
        now = self._desk.ledger.clock()
        return telling.question(self._request, self._standing, now, self._who.name, self._proposal, twice=twice)

    def _no_answer(self, result: ElicitResult | None) -> Outcome:
        if result is None:
            return self._came("unanswered", "Nobody answered in time. Nothing was recorded.")
        if result.action == "decline":
            return self._came("declined", "The human declined to decide. Nothing was recorded.")
        return self._came("cancelled", "The human closed the question. Nothing was recorded.")

    def _elsewhere(self, why: str) -> Outcome:
        command = None if self._link else self._desk.command.format(id=self._request.id)
        where = "at this address:" if self._link else "at the command line:"
        outcome = self._came("elsewhere", f"{why} Nothing was recorded. A person decides {where}")
        return outcome.model_copy(update={"command": command})

    def _came(self, outcome: _Came, message: str, request: Request | None = None) -> Outcome:
        on_page = outcome in ("opened", "elsewhere") or self._desk.mode == "url"
        return Outcome(
            request_id=self._request.id, recorded=outcome in ("decided", "voted"), outcome=outcome,
            state=(request or self._request).state, message=message, link=self._link if on_page else None,
        )  # fmt: skip
