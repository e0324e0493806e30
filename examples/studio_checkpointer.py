"""The checkpointer for `langgraph dev`: langgraph.json names it, the server opens it once."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hitl_graph.checkpointers import SqliteCheckpointer


@asynccontextmanager
async def checkpointer() -> AsyncIterator[SqliteCheckpointer]:
    saver = await asyncio.to_thread(SqliteCheckpointer, os.environ.get("HITL_DB", "agent.db"))
    try:
        yield saver
    finally:
        await asyncio.to_thread(saver.close)
