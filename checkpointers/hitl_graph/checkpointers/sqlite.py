"""LangGraph's checkpointer on one SQLite file."""

import os

from langgraph.checkpoint.serde.base import SerializerProtocol

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.reviewers import Directory
from hitl_graph.storage.sqlite import SqliteDatabase, Synchronous

__all__ = ["SqliteCheckpointer"]


class SqliteCheckpointer(Checkpointer):
    """Stores the threads of LangGraph graphs, and everything about their pauses, in one SQLite file.

    Args:
        path: The file; it is created, or brought up to date, if need be.
        serde: Another serializer, for example one that encrypts. The default is a strict `JsonPlusSerializer`.
        synchronous: `FULL` survives loss of power; `NORMAL` is faster and survives the end of the process only.
        directory: Knows the roles and groups of the people who decide; see `hitl_graph.reviewers`.

    Raises:
        DatabaseCorruptError: The file belongs to another program, or is damaged.
        DatabaseTooNewError: A newer hitl-graph wrote it.
        DatabaseWriteError: It cannot be opened, or has to be created or brought up to date and is read-only.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        synchronous: Synchronous = "FULL",
        directory: Directory | None = None,
    ) -> None:
        super().__init__(SqliteDatabase.open(path, synchronous=synchronous), serde, directory)
