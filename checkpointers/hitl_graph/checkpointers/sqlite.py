"""LangGraph's checkpointer on one SQLite file.

Each method is written once, as a generator that asks for transactions; `_run` and `_arun` serve it with threads or
asyncio.
"""

import json
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from hitl_graph.checkpointers import rows, segments, upkeep
from hitl_graph.checkpointers.codec import Codec, array
from hitl_graph.checkpointers.history import Link, Snapshot, compare, fresh
from hitl_graph.checkpointers.recent import Kept, Key, Recent, State
from hitl_graph.ledger import Ledger, parking
from hitl_graph.storage import Transaction
from hitl_graph.storage.sqlite import SqliteDatabase, Synchronous

__all__ = ["SqliteCheckpointer"]
