"""Templates: what they can say beside plain text. Everything that they are given is escaped."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.routing import NoMatchFound

from hitl_graph.card import age, left
from hitl_graph.visible import visible

__all__ = ["environment", "link", "shown"]


def environment(folder: Path) -> Environment:
    """The templates of a folder.

    Filters: `visible`, `age`, `left`. Functions: `url_for(name, ...)`, a path that holds wherever the application is
    mounted; `knows(name)`, whether there is a route of this name.
    """
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = made.filters
    filters.update(visible=shown, age=age, left=left)
    names: dict[str, Any] = made.globals
    names.update(url_for=_url_for, knows=_knows)
    return made


def link(request: Request, name: str, /, **parameters: Any) -> str:
    """The path of a route, wherever the application is mounted.

    Raises:
        NoMatchFound: There is no such route.
    """
    return str(request.scope.get("root_path", "")).rstrip("/") + str(request.app.url_path_for(name, **parameters))


def shown(value: object) -> str:
    """A text or a JSON value as text in which nothing is hidden; lines stay lines."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(text, keep="\n\t")


@pass_context
def _url_for(context: Context, name: str, /, **parameters: Any) -> str:
    return link(context["request"], name, **parameters)


@pass_context
def _knows(context: Context, name: str, /, **parameters: Any) -> bool:
    try:
        link(context["request"], name, **parameters)
    except NoMatchFound:
        return False
    return True
