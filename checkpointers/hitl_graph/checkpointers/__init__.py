"""Checkpointers: LangGraph's persistence, with the ledger in the same database."""

from hitl_graph.checkpointers.sqlite import SqliteCheckpointer

__all__ = ["SqliteCheckpointer"]
