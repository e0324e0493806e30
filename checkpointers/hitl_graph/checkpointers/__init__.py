"""Checkpointers: LangGraph's persistence, with the ledger in the same database.

What is here is loaded when it is first asked for: it takes a database driver and the ledger.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hitl_graph.checkpointers.strict import derive_allow_lists

if TYPE_CHECKING:
    from hitl_graph.checkpointers.postgres import PostgresCheckpointer
    from hitl_graph.checkpointers.retention import Retained, Retention
    from hitl_graph.checkpointers.sqlite import SqliteCheckpointer

__all__ = ["PostgresCheckpointer", "Retained", "Retention", "SqliteCheckpointer"]

_MODULES = {
    "PostgresCheckpointer": "postgres",
    "Retained": "retention",
    "Retention": "retention",
    "SqliteCheckpointer": "sqlite",
}

derive_allow_lists()  # at import: a graph may be compiled before the first checkpointer is opened


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
