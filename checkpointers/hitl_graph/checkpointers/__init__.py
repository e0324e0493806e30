"""Checkpointers: LangGraph's persistence, with the ledger in the same database."""

from typing import TYPE_CHECKING, Any

from hitl_graph.checkpointers.retention import Retained, Retention
from hitl_graph.checkpointers.sqlite import SqliteCheckpointer

if TYPE_CHECKING:
    from hitl_graph.checkpointers.postgres import PostgresCheckpointer

__all__ = ["PostgresCheckpointer", "Retained", "Retention", "SqliteCheckpointer"]


def __getattr__(name: str) -> Any:
    if name == "PostgresCheckpointer":  # needs psycopg, which comes with an extra
        from hitl_graph.checkpointers.postgres import PostgresCheckpointer

        return PostgresCheckpointer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
