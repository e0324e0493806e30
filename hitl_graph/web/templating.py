"""Templates: what they can say beside plain text. Everything that they are given is escaped."""

import json
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.routing import NoMatchFound

__all__ = ["age", "environment", "left", "link", "visible"]

_HIDING = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # control, format (bidi, zero width), private, surrogates, separators
_KEPT = "\n\t"


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
    filters.update(visible=visible, age=age, left=left)
    names: dict[str, Any] = made.globals
    names.update(url_for=_url_for, knows=_knows)
    return made


def link(request: Request, name: str, /, **parameters: Any) -> str:
    """The path of a route, wherever the application is mounted.

    Raises:
        NoMatchFound: There is no such route.
    """
    return str(request.scope.get("root_path", "")).rstrip("/") + str(request.app.url_path_for(name, **parameters))


def visible(value: object) -> str:
    r"""As text in which nothing is hidden: bidirectional controls, zero-width and control characters as `\u202e`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(
        c if c in _KEPT or not _hides(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def _hides(c: str) -> bool:
    return unicodedata.category(c) in _HIDING or "\ufe00" <= c <= "\ufe0e" or "\U000e0000" <= c <= "\U000e0fff"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago: `12s`, `4m`, `3h`, `2d`."""
    if since is None:
        return ""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def left(until: datetime, now: datetime) -> str:
    """How long there is until then: `3h 12m`, `45s`; `overdue` when it has passed."""
    seconds = int((until - now).total_seconds())
    if seconds < 0:
        return "overdue"
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d {hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{seconds}s"


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
