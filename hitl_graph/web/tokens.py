"""API tokens: how programs come in."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from hitl_graph.ledger import Ledger, credentials
from hitl_graph.web.visitors import RECHECKED, Visitor

__all__ = ["ApiTokens"]


class ApiTokens:
    """Knows whose token a request has in its header `Authorization: Bearer hitl_...`. A wrong one is refused.

    Args:
        ledger: Has the tokens, and knows roles and groups of those whose token does not say them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def __call__(self, connection: HTTPConnection, /) -> Visitor | None:
        given = connection.headers.getlist("authorization")
        kinds = [value.partition(" ")[0].lower() for value in given]
        if "bearer" not in kinds:
            return None
        secret = given[0].partition(" ")[2].strip()
        found = None
        if len(given) == 1:
            found = await asyncio.to_thread(self._visitor, secret, RECHECKED in connection.scope)
        if found is None:
            raise HTTPException(
                401,
                "This API token is unknown, expired or revoked. `hitl token list` has those that count.",
                {"www-authenticate": 'Bearer realm="hitl", error="invalid_token"'},
            )
        return found

    def _visitor(self, secret: str, is_rechecked: bool) -> Visitor | None:
        ledger = self._ledger
        found = ledger.read(credentials.look_up, ledger.now_ms(), "token", secret)
        if found is None:
            return None
        if not is_rechecked and credentials.is_due(found, ledger.clock()):
            ledger.note(credentials.see, ledger.now_ms(), found)
        who = found.identity.reviewer(ledger.directory)
        return Visitor(who, found.identity.scopes, how="token", credential=found.id)
