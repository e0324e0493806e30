"""What somebody is told who is not let through: a page, or problem details (RFC 9457) for scripts."""

from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

__all__ = ["is_for_a_script", "refusal", "under_mount"]


def under_mount(scope: Scope) -> str:
    """The path below that under which the application is mounted; begins with a slash."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def is_for_a_script(scope: Scope) -> bool:
    """Whether no person reads the answer."""
    if under_mount(scope).startswith("/api/"):
        return True
    accepted = HTTPConnection(scope).headers.get("accept", "")
    return "json" in accepted and "html" not in accepted


def refusal(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Say why not.

    Args:
        detail: What happened, and what to do; nothing that a stranger must not know.
    """
    title = HTTPStatus(status).phrase
    if is_for_a_script(scope):
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        return JSONResponse(problem, status, headers, media_type="application/problem+json")
    root = escape(quote(str(scope.get("root_path", "")).rstrip("/")))
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="{root}/static/inbox.css"></head>'
        f"<body><main><h1>{title}</h1><p>{escape(detail)}</p>"
        f'<p><a href="{root}/">To the inbox</a></p></main></body></html>'
    )
    return Response(text, status, headers, media_type="text/html; charset=utf-8")
