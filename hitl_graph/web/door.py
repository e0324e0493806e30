"""What every part of the application shares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from starlette.requests import HTTPConnection
from starlette.templating import Jinja2Templates

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.web.templating import environment

__all__ = ["HERE", "Door", "door_of"]

HERE = Path(__file__).parent
"""Where templates and static files are."""


@dataclass(frozen=True)
class Door:
    """What the parts of the application share: `door_of(request)` has it.

    Attributes:
        sees: `all`: whoever is let in sees every request. `mine`: only those that they may decide or have voted on.
    """

    ledger: Ledger
    title: str = "Inbox"
    sees: Literal["all", "mine"] = "all"
    templates: Jinja2Templates = field(default_factory=lambda: Jinja2Templates(env=environment(HERE / "templates")))

    @property
    def inbox(self) -> Inbox:
        """The one way to look and to decide."""
        return Inbox(self.ledger)


def door_of(connection: HTTPConnection) -> Door:
    """What the parts of the application share."""
    found = connection.app.state.door
    assert isinstance(found, Door)
    return found
