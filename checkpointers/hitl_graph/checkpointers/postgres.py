"""LangGraph's checkpointer on PostgreSQL."""

from typing import Literal

from langgraph.checkpoint.serde.base import SerializerProtocol

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.reviewers import Directory
from hitl_graph.storage.postgres import PostgresDatabase

__all__ = ["PostgresCheckpointer"]


class PostgresCheckpointer(Checkpointer):
    """Stores the threads of LangGraph graphs, and everything about their pauses, in one PostgreSQL database.

    For any number of machines. Needs `pip install 'hitl-graph[postgres]'` and PostgreSQL 13 or later.

    Args:
        conninfo: As libpq takes it: `postgresql://...` or `host=... dbname=...`. The tables are made, or brought up to
            date, if need be; their names begin with `hitl_`.
        serde: Another serializer, for example one that encrypts. The default is a strict `JsonPlusSerializer`.
        schema: Where the tables are; it is created if need be. Without it: the first schema of the search path.
        max_connections: How many connections this process has in use at once (two more may listen and send batches).
        synchronous_commit: `off` trades the last moments before a crash of the server for speed.
        prepare: Whether to use prepared statements. `False` behind a pooler that cannot keep them.
        directory: Knows the roles and groups of the people who decide; see `hitl_graph.reviewers`.

    Raises:
        StorageError: The server cannot be reached, refuses us, or is older than PostgreSQL 13.
        DatabaseCorruptError: There are tables with our names that are not ours.
        DatabaseTooNewError: A newer hitl-graph made them.
        DatabaseWriteError: They have to be made or brought up to date, and we may not.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        serde: SerializerProtocol | None = None,
        schema: str | None = None,
        max_connections: int = 16,
        synchronous_commit: Literal["on", "off"] = "on",
        prepare: bool = True,
        directory: Directory | None = None,
    ) -> None:
        database = PostgresDatabase.open(
            conninfo,
            schema=schema,
            max_connections=max_connections,
            synchronous_commit=synchronous_commit,
            prepare=prepare,
        )
        super().__init__(database, serde, directory)
