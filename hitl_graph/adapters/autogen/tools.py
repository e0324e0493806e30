"""Tools of AutoGen whose calls are approved, and how LangGraph's side sees them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, ToolSchema
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool as LangChainTool
from pydantic import BaseModel

from hitl_graph.errors import RejectedError
from hitl_graph.model import Action
from hitl_graph.steps import Step, calling

__all__ = ["ApprovedTool", "Bridge", "linked", "running"]

Gated = Callable[["Bridge", Mapping[str, Any], str | None], Awaitable[ToolMessage]]


class Bridge(LangChainTool):
    """A tool of AutoGen as the gate, and a node, see it. Running it runs the tool, ungated."""

    inner: Any

    @classmethod
    def to(cls, tool: BaseTool[Any, Any], metadata: Mapping[str, Any]) -> "Bridge":
        """The other side of a tool."""
        return cls(
            name=tool.name,
            description=tool.description,
            args_schema=tool.args_type(),
            metadata=dict(metadata),
            inner=tool,
        )

    @property
    def func(self) -> Any:
        """Its code, to which grants are bound."""
        return getattr(self.inner, "_func", type(self.inner).run)

    async def run_json(self, args: Mapping[str, Any]) -> str:
        """What the model is told of one execution."""
        token = CancellationToken()
        try:
            return str(self.inner.return_value_as_string(await self.inner.run_json(args, token)))
        except asyncio.CancelledError:
            token.cancel()
            raise

    def _run(self, **kwargs: Any) -> Any:
        return calling(self.run_json, kwargs).sync()

    async def _arun(self, **kwargs: Any) -> str:
        return await self.run_json(kwargs)


class ApprovedTool(BaseTool[BaseModel, Any]):
    """A tool whose calls pass policy, people and permit before they run. Made by `People.approved`.

    What people refuse is an error that the model reads; a call that they edited says so in its result.
    """

    def __init__(self, bridge: Bridge, gated: Gated) -> None:
        inner: BaseTool[BaseModel, Any] = bridge.inner
        super().__init__(inner.args_type(), str, inner.name, inner.description)
        self.inner = inner
        self._bridge, self._gated = bridge, gated

    @property
    def schema(self) -> ToolSchema:
        """As the model sees the tool."""
        return self.inner.schema

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> Any:
        """As `run_json`, without a name for the call."""
        return await self.run_json(args.model_dump(mode="json"), cancellation_token)

    async def run_json(
        self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None
    ) -> str:
        """Run the call, if it may.

        Raises:
            RejectedError: It was denied, rejected, or cancelled while it waited; the message is for the model.
        """
        told: ToolMessage | None = await linked(self._gated(self._bridge, args, call_id), cancellation_token)
        if told is None:  # AutoGen waits for ever where a tool is cancelled (0.7.5), but not where it fails
            raise RejectedError(f"{self.name} was cancelled.")
        if told.status == "error":
            raise RejectedError(told.text)
        return str(told.text)

    async def save_state_json(self) -> Mapping[str, Any]:
        """The tool's own."""
        return await self.inner.save_state_json()

    async def load_state_json(self, state: Mapping[str, Any]) -> None:
        """The tool's own."""
        await self.inner.load_state_json(state)


async def linked(work: Awaitable[Any], token: CancellationToken | None) -> Any:
    """Await something that the token cancels; None if it did."""
    task = asyncio.ensure_future(work)
    if token is not None:
        token.link_future(task)
    try:
        return await task
    except asyncio.CancelledError:
        if token is None or not token.is_cancelled():
            raise
        return None


def running(bridge: Bridge, action: Action) -> Step:
    """The step that runs a tool; what goes wrong in it is told to the model, as AutoGen does."""

    async def awaited() -> ToolMessage:
        try:
            return ToolMessage(await bridge.run_json(action.args), name=bridge.name, tool_call_id="")
        except Exception as exc:
            return ToolMessage(str(exc) or repr(exc), name=bridge.name, tool_call_id="", status="error")

    return Step(calling(awaited).sync, awaited)
