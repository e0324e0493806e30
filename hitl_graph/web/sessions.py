"""Sessions of browsers: opened by a login link or by an identity provider, ended by a logout, by time, or by hand."""

import asyncio
import base64
import hmac
from datetime import timedelta

from starlette.requests import HTTPConnection
from starlette.responses import Response

from hitl_graph.ledger import Ledger, credentials
from hitl_graph.ledger.credentials import IDLE, SESSION, Credential, Identity
from hitl_graph.web.cookies import cookie, set_cookie
from hitl_graph.web.visitors import RECHECKED, Visitor

__all__ = ["Sessions"]

_COOKIE = "session"


class Sessions:
    """Knows who logged in with this browser.

    Args:
        ledger: Has the sessions, and knows roles and groups of those whose login did not say them.
        lifetime: After which a session ends, whatever is done in it.
        idle: After which a session ends in which nothing is done.
    """

    def __init__(self, ledger: Ledger, *, lifetime: timedelta = SESSION, idle: timedelta = IDLE) -> None:
        self._ledger, self._lifetime, self._idle = ledger, lifetime, idle

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        secret = cookie(connection, _COOKIE)
        if not secret:
            return None
        return await asyncio.to_thread(self._visitor, secret, RECHECKED in connection.scope)

    def _visitor(self, secret: str, is_rechecked: bool) -> Visitor | None:
        ledger = self._ledger
        found = ledger.read(credentials.look_up, ledger.now_ms(), "session", secret, idle=self._idle)
        if found is None:
            return None
        if not is_rechecked and credentials.is_due(found, ledger.clock()):
            ledger.note(credentials.see, ledger.now_ms(), found)
        csrf = hmac.digest(secret.encode(), b"csrf", "sha256")
        return Visitor(
            found.identity.reviewer(ledger.directory),
            found.identity.scopes,
            how="session",
            csrf=base64.urlsafe_b64encode(csrf).decode().rstrip("="),
            credential=found.id,
        )

    async def link(self, secret: str) -> Credential | None:
        """The login link with this secret, if it can be used."""
        return await asyncio.to_thread(
            self._ledger.read, credentials.look_up, self._ledger.now_ms(), "link", secret
        )  # fmt: skip

    async def log_in(self, connection: HTTPConnection, response: Response, secret: str) -> None:
        """Use up a login link: the response opens a session.

        Raises:
            CredentialError: The link does not exist, was used or is too old.
        """
        opened, _ = await asyncio.to_thread(
            self._ledger.write, credentials.log_in, self._ledger.now_ms(), secret, lifetime=self._lifetime,
            instead_of=cookie(connection, _COOKIE),
        )  # fmt: skip
        self._set(connection, response, opened)

    async def open(self, connection: HTTPConnection, response: Response, identity: Identity) -> None:
        """Open a session for somebody who was authenticated elsewhere.

        Raises:
            CredentialError: That is nobody who can be let in.
        """
        opened, _ = await asyncio.to_thread(
            self._ledger.write, credentials.open_session, self._ledger.now_ms(), identity, lifetime=self._lifetime,
            instead_of=cookie(connection, _COOKIE),
        )  # fmt: skip
        self._set(connection, response, opened)

    async def log_out(self, connection: HTTPConnection, response: Response) -> None:
        """End the session of this browser."""
        secret, ledger = cookie(connection, _COOKIE), self._ledger
        if secret:
            await asyncio.to_thread(ledger.write, credentials.log_out, ledger.now_ms(), secret)
        set_cookie(response, connection, _COOKIE, None, 0)

    def _set(self, connection: HTTPConnection, response: Response, secret: str) -> None:
        set_cookie(response, connection, _COOKIE, secret, int(self._lifetime.total_seconds()))
