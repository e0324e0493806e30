"""Asks the human at the other end of a connection, for as long as it takes."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Literal

import anyio
from mcp.server.fastmcp import Context
from mcp.shared.exceptions import McpError
from mcp.types import ElicitResult

__all__ = ["Asking", "CannotAskError", "Mode", "Talk"]

Talk = Context[Any, Any, Any]
Mode = Literal["form", "url"]
_HEARTBEAT = 10.0  # seconds; clients give up on a call that says nothing, many of them after a minute


class CannotAskError(Exception):
    """The client said that it asks, and does not."""


class Asking:
    """The human at the other end of one call.

    Args:
        patience: After this long without an answer there is none.
    """

    def __init__(self, talk: Talk, patience: timedelta) -> None:
        self._talk, self._patience = talk, patience.total_seconds()

    @property
    def modes(self) -> frozenset[Mode]:
        """How the client can ask. One that says no more than that it can, can draw forms."""
        params = self._talk.session.client_params
        can = params.capabilities.elicitation if params is not None else None
        if can is None:
            return frozenset()
        form = can.form is not None or can.url is None
        return frozenset[Mode]((*(("form",) if form else ()), *(("url",) if can.url is not None else ())))

    async def form(self, message: str, schema: dict[str, Any]) -> ElicitResult | None:
        """What the human answers; None: nothing, for all our patience.

        Raises:
            CannotAskError: The client refuses to ask.
        """
        session, call = self._talk.session, self._talk.request_id
        return await self._patiently(lambda: session.elicit_form(message, schema, related_request_id=call))

    async def open(self, message: str, url: str, elicitation: str) -> ElicitResult | None:
        """Whether the human opens an address; None: no answer. What they do there is not said.

        Raises:
            CannotAskError: The client refuses to ask.
        """
        session, call = self._talk.session, self._talk.request_id
        return await self._patiently(lambda: session.elicit_url(message, url, elicitation, related_request_id=call))

    async def opened_is_done(self, elicitation: str) -> None:
        """Tell the client that what was to be done at an address is done."""
        await self._talk.session.send_elicit_complete(elicitation, related_request_id=self._talk.request_id)

    async def _patiently(self, ask: Callable[[], Awaitable[ElicitResult]]) -> ElicitResult | None:
        result, refused = None, None
        with anyio.move_on_after(self._patience):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_alive)
                try:
                    result = await ask()
                except McpError as exc:
                    refused = exc
                tasks.cancel_scope.cancel()
        if refused is not None:
            raise CannotAskError(refused.error.message) from refused
        return result

    async def _keep_alive(self) -> None:
        beats = 0
        while True:
            await anyio.sleep(_HEARTBEAT)
            beats += 1
            await self._talk.report_progress(beats, message="waiting for the human")
