"""Filters of the inbox that somebody has given a name: each person has their own."""

from dataclasses import dataclass
from datetime import datetime

from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["MOST", "View", "delete", "listed", "rename", "save"]

MOST = 30
"""How many views somebody may have."""
_NAME, _QUERY = 60, 1000  # characters


@dataclass(frozen=True)
class View:
    """A saved view.

    Attributes:
        query: As in the address of the page.
    """

    name: str
    query: str
    created_at: datetime


def listed(tx: Transaction, owner: str) -> list[View]:
    """What somebody has saved, in the order in which they did."""
    rows = tx.execute(
        "SELECT name, query, created_ms FROM hitl_views WHERE owner = ? ORDER BY created_ms, name", (owner,)
    )
    return [View(row[0], row[1], from_ms(row[2])) for row in rows]


def save(tx: Transaction, now_ms: int, owner: str, name: str, query: str) -> View:
    """Save a view; one of the same name is replaced, and keeps its place.

    Raises:
        ValueError: It has no usable name, or there are too many.
    """
    name = _named(name)
    if len(query) > _QUERY:
        raise ValueError(f"the filters are too long to be saved ({_QUERY} characters at most)")
    known = {view.name for view in listed(tx, owner)}
    if name not in known and len(known) >= MOST:
        raise ValueError(f"you have {MOST} views already; delete one first")
    tx.execute(
        "INSERT INTO hitl_views (owner, name, query, created_ms) VALUES (?,?,?,?)"
        " ON CONFLICT (owner, name) DO UPDATE SET query = excluded.query",
        (owner, name, query, now_ms),
    )
    return next(view for view in listed(tx, owner) if view.name == name)


def rename(tx: Transaction, owner: str, name: str, new: str) -> None:
    """Give a view another name.

    Raises:
        LookupError: There is no such view.
        ValueError: The name cannot be used, or another view has it.
    """
    new = _named(new)
    if new != name and any(view.name == new for view in listed(tx, owner)):
        raise ValueError(f"you have another view that is called {new!r}")
    if tx.execute("UPDATE hitl_views SET name = ? WHERE owner = ? AND name = ?", (new, owner, name)).rowcount != 1:
        raise LookupError(f"you have no view that is called {name!r}")


def delete(tx: Transaction, owner: str, name: str) -> bool:
    """Delete a view. Returns whether there was one."""
    return tx.execute("DELETE FROM hitl_views WHERE owner = ? AND name = ?", (owner, name)).rowcount == 1


def _named(name: str) -> str:
    name = " ".join(name.replace("\0", "").split())
    if not name or len(name) > _NAME:
        raise ValueError(f"a view needs a name of {_NAME} characters at most")
    return name
