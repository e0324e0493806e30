"""For people who have agents of ag2 1.x: their questions and tool calls, in our ledger and inbox.

What ag2 holds in the process (a hook that waits, `approval_required`) is on record here: it has a deadline and people
who may answer, is found again after a crash, and a call that was approved runs at most once.
"""

import asyncio
import copy
import json
import os
from typing import Any

try:
    from ag2 import Context
    from ag2.events import HumanInputRequest, ToolApprovalRequest, ToolCallEvent, ToolErrorEvent, ToolResultEvent
    from ag2.exceptions import HumanInputTimeoutError
    from ag2.middleware.base import ToolExecution, ToolResultType
except ImportError as exc:
    raise ImportError("ag2 is not installed: pip install 'hitl-graph[ag2]'") from exc
from langchain_core.messages import ToolMessage

from hitl_graph.adapters.outside import Outside
from hitl_graph.errors import UnansweredError
from hitl_graph.ledger import Ledger, requests, schedule
from hitl_graph.model import Action
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import Step, arun, calling

__all__ = ["People"]


class People:
    """Puts the questions of ag2's agents, and their calls of risky tools, into the ledger and its inbox.

    One for each conversation: `Agent(..., hitl_hook=people.hook)`, `@tool(middleware=[people.approval])`.

    Args:
        ledger: Or the file or URL of its database.
        thread_id: Names the conversation. A process that goes on with it gives the same, and finds what is open in it.
        policy: Which tool calls are allowed, asked about or denied. Without one, every call is asked about.
        rule: Who answers questions, and by when: `Rule("*", "ask", reviewers=["role:support"], deadline=...)`.
        requester: On whose behalf the agents run, for rules that exclude them.
        graph, version: Of the agents, as grants and switches name them.

    Raises:
        PolicyError: `rule` says something else than who answers, and by when.
    """

    def __init__(
        self,
        ledger: Ledger | str | os.PathLike[str],
        thread_id: str,
        *,
        policy: Policy | None = None,
        rule: Rule | None = None,
        requester: str | None = None,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        self.outside = Outside(
            ledger, thread_id, policy=policy, rule=rule, requester=requester, graph=graph, version=version
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "People":
        return self  # ag2 copies tools with their middleware; the ledger is one

    @property
    def ledger(self) -> Ledger:
        """Where it is on record."""
        return self.outside.ledger

    async def hook(self, event: HumanInputRequest) -> str:
        """Ask people; for `hitl_hook=`. A `timeout` of the question, or the end of the turn, cancels it.

        What ag2's own `approval_required` asks is approved or rejected, never "always": a grant does that.

        Raises:
            HumanInputTimeoutError: Nobody answered by the rule's deadline.
            UnansweredError: Somebody declined; ag2 makes a `HumanInputFailedError` of it.
        """
        if isinstance(event, ToolApprovalRequest):
            return await self._yes_or_no(event)
        try:
            return await arun(self.outside.question(event.content, correlation=event.id))
        except UnansweredError as exc:
            request = await asyncio.to_thread(self.ledger.read, requests.get, exc.request_id)
            if request is None or request.channel != schedule.CHANNEL or not request.created_at:
                raise
            waited = (request.decided_at or request.created_at) - request.created_at
            raise HumanInputTimeoutError(waited.total_seconds()) from exc

    async def _yes_or_no(self, event: ToolApprovalRequest) -> str:
        released: list[Action] = []
        told = await arun(
            self.outside.call(
                "approval_required",
                {"question": event.content},
                lambda action: Step(lambda: released.append(action) or ToolMessage("y", tool_call_id="")),  # type: ignore[func-returns-value]
                editable=False,
            )
        )
        return "y" if released and told.status == "success" else "n"

    async def approval(self, call_next: ToolExecution, event: ToolCallEvent, context: Context) -> ToolResultType:
        """Let a call run only as policy and people let it; for the `middleware=` of a tool.

        The model is told why a call did not run, and what people changed.
        """
        try:
            args = json.loads(event.arguments or "{}")
        except ValueError:
            args = None
        if not isinstance(args, dict):
            return ToolResultEvent.from_call(event, result="The arguments are no JSON object; it did not run.")
        live: list[ToolResultType] = []

        def execute(action: Action) -> Step:
            async def awaited() -> ToolMessage:
                wanted = copy.copy(event)
                wanted.arguments, wanted.serialized_arguments = json.dumps(action.args), dict(action.args)
                result = await call_next(wanted, context)
                if action.args == args:
                    live.append(result)
                status: Any = "error" if isinstance(result, ToolErrorEvent) else "success"
                return ToolMessage(_text(result), name=event.name, tool_call_id=event.id, status=status)

            return Step(calling(awaited).sync, awaited)

        told = await arun(
            self.outside.call(event.name, args, execute, call_id=event.id, source=event.source or event.name)
        )
        return live[-1] if live else ToolResultEvent.from_call(event, result=told.text)


def _text(result: ToolResultType) -> str:
    """What the model is told, for the record."""
    parts = result.result.parts if isinstance(result, ToolResultEvent) else []
    return "\n".join(str(getattr(part, "content", part)) for part in parts)
