"""Keep `wrap_tool_call` within the permit: a wrapper runs the call that was permitted, or does not run it.

It may answer itself, work on the result, and bring the tool for a name that the node does not know. It may run a tool
again only if that is declared idempotent: a failed attempt may have had its effect.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.prebuilt.tool_node import ToolCallRequest

from hitl_graph.effects import is_idempotent
from hitl_graph.errors import PermitError
from hitl_graph.model import canonical

__all__ = ["abound", "bound"]

Execute = Callable[[ToolCallRequest], Any]


def bound(wrap: Callable[[ToolCallRequest, Execute], Any]) -> Callable[[ToolCallRequest, Execute], Any]:
    """A sync wrapper within its permit."""

    def within(request: ToolCallRequest, execute: Execute) -> Any:
        check = _Check(request)

        def run(wanted: ToolCallRequest) -> Any:
            check(wanted)
            return execute(wanted)

        return wrap(request, run)

    return within


def abound(
    wrap: Callable[[ToolCallRequest, Execute], Awaitable[Any]],
) -> Callable[[ToolCallRequest, Execute], Awaitable[Any]]:
    """An async wrapper within its permit."""

    async def within(request: ToolCallRequest, execute: Execute) -> Any:
        check = _Check(request)

        async def run(wanted: ToolCallRequest) -> Any:
            check(wanted)
            return await execute(wanted)

        return await wrap(request, run)

    return within


class _Check:
    def __init__(self, permitted: ToolCallRequest) -> None:
        self._name, self._tool, self._runs = permitted.tool_call["name"], permitted.tool, 0
        self._args = canonical(permitted.tool_call["args"])  # as text, because a wrapper can change the dict

    def __call__(self, wanted: ToolCallRequest) -> None:
        name, args = wanted.tool_call["name"], wanted.tool_call["args"]
        if name != self._name or (self._tool is not None and wanted.tool is not self._tool):
            raise PermitError(f"wrap_tool_call put another tool in place of {self._name}; nothing ran")
        if canonical(args) != self._args:
            raise PermitError(
                f"wrap_tool_call changed the arguments of {name} after they were permitted; it did not run. Change them"
                " in a node before this one"
            )
        if self._runs and not is_idempotent(wanted.tool):
            raise PermitError(
                f"wrap_tool_call wanted to run {name} a second time, and the first may have had its effect; declare the"
                " tool idempotent if that does no harm"
            )
        self._runs += 1
