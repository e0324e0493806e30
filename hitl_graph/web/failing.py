"""What went wrong is for those who run the inbox: strangers are told that it did, not how."""

import logging
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hitl_graph.web.csrf import SAFE
from hitl_graph.web.refusing import refusal

__all__ = ["Failing"]

log = logging.getLogger(__name__)


class Failing:
    """Logs what nobody has handled, and answers 500 with a number by which it is found in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        has_started = False

        async def sent(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as exc:
            if isinstance(exc, RecursionError) and not has_started and scope["method"] not in SAFE:
                # Brackets within brackets within brackets: JSON that nobody means.
                log.warning("%s %s: nested too deeply", scope["method"], _place(scope))
                why = "What was sent is nested too deeply; nothing was recorded."
                return await refusal(scope, 400, why)(scope, receive, send)
            number = secrets.token_hex(4)
            log.exception("%s %s failed (%s)", scope["method"], _place(scope), number)
            if has_started:
                raise
            why = f"Something went wrong here. Whoever runs the inbox finds it in the log under {number}."
            await refusal(scope, 500, why)(scope, receive, send)


def _place(scope: Scope) -> str:
    """The path, without the secret of a login link."""
    head, login, secret = str(scope["path"]).partition("/login/")
    return f"{head}{login}..." if secret else head
