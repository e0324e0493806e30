"""Tool calls that go as messages through AutoGen's core runtime, approved on their way."""

import json
from collections.abc import Callable
from typing import Any

from autogen_core import AgentId, DefaultInterventionHandler, DropMessage, FunctionCall, MessageContext

from hitl_graph.adapters.autogen.people import People

__all__ = ["ApprovalIntervention"]


class ApprovalIntervention(DefaultInterventionHandler):
    """Lets a `FunctionCall` that is sent to an agent through only if policy and people let it run.

    For agents of the core: `SingleThreadedAgentRuntime(intervention_handlers=[ApprovalIntervention(people)])`. One that
    is refused is dropped, which its sender is told; one that was edited goes on as it was edited.

    Args:
        on_refused: Told of each call that was refused, and why.
    """

    def __init__(self, people: People, *, on_refused: Callable[[FunctionCall, str], object] | None = None) -> None:
        self._people, self._on_refused = people, on_refused

    async def on_send(
        self, message: Any, *, message_context: MessageContext, recipient: AgentId
    ) -> Any | type[DropMessage]:
        """Called by the runtime."""
        if not isinstance(message, FunctionCall):
            return message
        try:
            args = json.loads(message.arguments)
            assert isinstance(args, dict)
        except (ValueError, AssertionError):
            return self._refused(message, "its arguments are no JSON object")
        action, why = await self._people.released(message.name, args, message.id)
        if action is None:
            return self._refused(message, why)
        if action.args == args:
            return message
        return FunctionCall(id=message.id, name=message.name, arguments=json.dumps(action.args))

    def _refused(self, call: FunctionCall, why: str) -> type[DropMessage]:
        if self._on_refused is not None:
            self._on_refused(call, why)
        return DropMessage
