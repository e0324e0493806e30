"""Pages from templates."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hitl_graph.web.door import door_of
from hitl_graph.web.visitors import Visitor

__all__ = ["render"]


def render(
    request: Request, template: str, /, *, status_code: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Response:
    """A page.

    The template also has `request`, `door`, `now` (of the ledger's clock), `visitor` (None where nobody was let in
    yet), and `csrf`, which each of its forms sends back.
    """
    door, visitor = door_of(request), request.scope.get("hitl.visitor")
    csrf = visitor.csrf if isinstance(visitor, Visitor) else None
    shared = {"door": door, "visitor": visitor, "csrf": csrf or "", "now": door.ledger.clock()}
    return door.templates.TemplateResponse(
        request,
        template,
        shared | context,
        status_code=status_code,
        headers=headers,
    )
