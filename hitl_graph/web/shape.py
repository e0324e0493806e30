"""What a request may look like: what no browser and no honest program sends gets no further."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hitl_graph.web.refusing import refusal

__all__ = ["Bodies", "Shape"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LINE, _HEADERS, _HEADER_BYTES = 8192, 100, 32_768
_ODD = re.compile(r"[\x00-\x1f\x7f\\\ufffd]|//|/\.{1,2}(?=/|$)")
_ENCODED = re.compile(rb"%(?:2f|5c|00)", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)


class Shape:
    """Refuses other methods, odd paths, too many headers, and names that are not ours.

    Args:
        hosts: Names by which the inbox may be called, without the port; `*`: by any. A page of somebody else, whose
            name was made to point here, calls it by that name (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, frozenset(host.strip("[]").lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (found := self._wrong(scope)) is not None:
            headers = {"allow": ", ".join(sorted(_METHODS))} if found[0] == 405 else None
            return await refusal(scope, *found, headers)(scope, receive, send)
        await self._app(scope, receive, send)

    def _wrong(self, scope: Scope) -> tuple[int, str] | None:
        headers, path = Headers(scope=scope), str(scope["path"])
        raw: bytes = scope.get("raw_path") or path.encode()
        if scope["method"] not in _METHODS:
            return 405, "There is nothing here for this method."
        if len(raw) + len(scope.get("query_string", b"")) > _LINE:
            return 414, f"An address has {_LINE} bytes at most."
        if len(scope["headers"]) > _HEADERS or sum(len(k) + len(v) for k, v in scope["headers"]) > _HEADER_BYTES:
            return 431, f"A request has {_HEADERS} headers and {_HEADER_BYTES} bytes of them at most."
        hosts = headers.getlist("host")
        host = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            return 400, "A request names one host."
        if "*" not in self._hosts and host[1].strip("[]").lower() not in self._hosts:
            return 400, (
                f"This inbox does not go by the name {host[1]!r}. Whoever runs it can add that name:"
                " create_app(..., security=Security(hosts=[...]))."
            )
        if _ODD.search(path) or _ENCODED.search(raw.partition(b"?")[0]):
            return 404, "There is nothing at such an address."
        return None


class Bodies:
    """Refuses what is too long, also when it did not say so.

    Args:
        limit: In bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        why = f"A request has {self._limit} bytes at most; nothing was recorded."
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal():
            return await refusal(scope, 400, "Content-Length is no number.")(scope, receive, send)
        if int(announced) > self._limit:
            return await refusal(scope, 413, why, {"connection": "close"})(scope, receive, send)
        came, has_started = 0, False

        async def received() -> Message:
            nonlocal came
            message = await receive()
            if message["type"] == "http.request":
                came += len(message.get("body", b""))
                if came > self._limit:
                    raise HTTPException(413, why, {"connection": "close"})
            return message

        async def sent(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, received, sent)
        except HTTPException as exc:
            if has_started:
                raise
            await refusal(scope, exc.status_code, exc.detail, exc.headers)(scope, receive, send)
