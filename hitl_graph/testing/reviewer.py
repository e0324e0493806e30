"""A reviewer who answers by a script."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, Request

__all__ = ["ScriptedReviewer"]

Answer = Decision | Callable[[Request], Decision | None]


class ScriptedReviewer:
    """Decides pending requests through the inbox, as a person would.

    Args:
        inbox: Where the requests are.
        answers: From a glob on the tool's name (or on the kind, for requests without an action) to a decision, or to
            a function of the request that gives one; None leaves the request alone. The first match counts.
        name: Who the decisions are by.
    """

    def __init__(self, inbox: Inbox, answers: Mapping[str, Answer], *, name: str = "scripted reviewer") -> None:
        self.inbox = inbox
        self.answers = dict(answers)
        self.name = name

    def review_once(self) -> list[Request]:
        """Answer everything that is pending and that the script speaks of; returns the decided requests."""
        decided, after = [], None
        while page := self.inbox.pending(after=after):
            after = page[-1].id
            for request in page:
                if (decision := self._decision(request)) is not None:
                    decided.append(
                        self.inbox.decide(
                            request.id, decision, reviewer=self.name, digest=request.digest, channel="script"
                        )
                    )
        return decided

    async def areview_once(self) -> list[Request]:
        """As `review_once`."""
        decided, after = [], None
        while page := await self.inbox.apending(after=after):
            after = page[-1].id
            for request in page:
                if (decision := self._decision(request)) is not None:
                    decided.append(
                        await self.inbox.adecide(
                            request.id, decision, reviewer=self.name, digest=request.digest, channel="script"
                        )
                    )
        return decided

    def _decision(self, request: Request) -> Decision | None:
        subject = request.action.name if request.action is not None else request.kind
        for glob, answer in self.answers.items():
            if fnmatchcase(subject, glob):
                return answer if isinstance(answer, Decision) else answer(request)
        return None
