"""The cookies of the inbox: out of reach of scripts and of other sites, and one inbox's apart from another's."""

import hashlib
import re
import secrets

from starlette.requests import HTTPConnection
from starlette.responses import Response

__all__ = ["CSRF", "cookie", "double_submit", "is_https", "name_of", "set_cookie"]

CSRF = "csrf"
"""The cookie that has the CSRF token of visitors without a session."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def is_https(connection: HTTPConnection) -> bool:
    """Whether the visitor came by TLS, as the server or a trusted proxy says."""
    return bool(connection.scope.get("scheme") == "https")


def name_of(connection: HTTPConnection, what: str) -> str:
    """A cookie's name.

    Browsers share cookies between the ports of a host, so port and mount are in it. By https it has the prefix
    `__Host-`, with which no other host of the domain can set it; that takes the path `/`.
    """
    port = connection.headers.get("host", "").rpartition(":")[2]
    root = str(connection.scope.get("root_path", "")).strip("/")
    mount = hashlib.sha256(root.encode()).hexdigest()[:8] if root else ""
    parts = ["hitl", what, port if port.isdecimal() else "", mount]
    return ("__Host-" if is_https(connection) else "") + "_".join(filter(None, parts))


def cookie(connection: HTTPConnection, what: str) -> str | None:
    """What a cookie says."""
    return connection.cookies.get(name_of(connection, what))


def set_cookie(response: Response, connection: HTTPConnection, what: str, value: str | None, seconds: int) -> None:
    """Set a cookie; None: have it forgotten."""
    secure = is_https(connection)
    path = "/" if secure else str(connection.scope.get("root_path", "")).rstrip("/") + "/"
    response.set_cookie(
        name_of(connection, what), value or "", max_age=seconds if value else 0, path=path, secure=secure,
        httponly=True, samesite="lax",
    )  # fmt: skip


def double_submit(connection: HTTPConnection) -> str:
    """The CSRF token of a visitor without a session: that of the cookie, else a new one, which becomes the cookie."""
    found = cookie(connection, CSRF)
    return found if found is not None and _TOKEN.fullmatch(found) else secrets.token_urlsafe(32)
