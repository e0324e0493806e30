"""LangGraph's checkpointer, on any database.

What each method does is written once, in `engine`; here it gets its two colours.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from hitl_graph.checkpointers.codec import Codec
from hitl_graph.checkpointers.engine import Engine
from hitl_graph.checkpointers.query import Query
from hitl_graph.checkpointers.retention import Retained, Retention
from hitl_graph.checkpointers.runs import running
from hitl_graph.checkpointers.states import checkpoint_tuple
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Request
from hitl_graph.reviewers import Directory
from hitl_graph.steps import arun, run
from hitl_graph.storage import Database

__all__ = ["Checkpointer"]

_PAGE = 32


class Checkpointer(BaseCheckpointSaver[str]):
    """Stores the threads of LangGraph graphs, and everything about their pauses, in one database.

    For sync and async graphs alike, from any number of threads, event loops and processes. Lists such as `messages`
    are stored as what each step adds to them. A pause is stored together with its row in the inbox. Deserialisation is
    strict: besides messages and LangGraph's own types, only types named in a graph's schema are built again.

    Use it in `with`, in `async with`, or call `close()`.
    """

    def __init__(
        self, database: Database, serde: SerializerProtocol | None = None, directory: Directory | None = None
    ) -> None:
        super().__init__(serde=serde or JsonPlusSerializer(allowed_msgpack_modules=None))
        self._database = database
        self._ledger = Ledger(database, directory=directory)
        self._engine = Engine(database)
        self._last_codec = Codec(self.serde)

    @property
    def ledger(self) -> Ledger:
        """The ledger in the same database."""
        return self._ledger

    def setup(self) -> None:
        """Nothing to do: opening creates and migrates. Here for code that calls it on any checkpointer."""

    def close(self) -> None:
        """Finish running writes and close the database. May be called twice."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pending_interrupts(self, *, limit: int | None = 50, after: str | None = None) -> Sequence[Request]:
        """A page of the inbox: what waits for an answer, over all threads, oldest first.

        Args:
            limit: Rows a page; None for all.
            after: Id of the last row of the page before.
        """
        return self._ledger.read(requests.pending, limit=limit, after=after)

    def get_next_version(self, current: int | str | None, channel: None) -> str:
        """The next version of a channel, as LangGraph's own checkpointers and its server write it: text that sorts.

        The server brings a numbering of its own, whatever the checkpointer's; with another one, a thread that it began
        could not go on elsewhere, nor one begun elsewhere there.
        """
        number = int(current.split(".")[0]) if isinstance(current, str) else current or 0
        return f"{number + 1:032}"

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """A checkpoint with its pending writes; the latest one if `config` has no `checkpoint_id`."""
        return run(self._engine.get_tuple(self._codec, config, running()))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await arun(self._engine.get_tuple(self._codec, config, running()))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest first. Streams; the loop may use the checkpointer.

        Args:
            config: Restricts to its thread, and to its namespace and checkpoint if it names them; None means all.
            filter: Metadata that must be equal, as JSON.
            before: Only checkpoints older than this one.
            limit: At most so many.
        """
        query = Query(config, filter, before, limit)
        rowids = self._database.read(query.search)
        for start in range(0, len(rowids), _PAGE):
            for found in self._database.read(query.page(rowids[start : start + _PAGE])):
                if not query.take():
                    return
                yield checkpoint_tuple(found, self._codec)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        query = Query(config, filter, before, limit)
        rowids = await self._database.aread(query.search)
        for start in range(0, len(rowids), _PAGE):
            for found in await self._database.aread(query.page(rowids[start : start + _PAGE])):
                if not query.take():
                    return
                yield checkpoint_tuple(found, self._codec)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """From what delta channels are rebuilt: the last value before a checkpoint, and what was written since."""
        return run(self._engine.delta_history(self._codec, config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await arun(self._engine.delta_history(self._codec, config, channels))

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; when this returns, it is durable.

        Raises:
            DatabaseWriteError: Nothing was stored; the message says why and what to do.
        """
        return run(self._engine.put(self._codec, config, checkpoint, metadata))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        return await arun(self._engine.put(self._codec, config, checkpoint, metadata))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote. Its questions go to the inbox in the same transaction."""
        run(self._engine.put_writes(self._codec, config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await arun(self._engine.put_writes(self._codec, config, writes, task_id, task_path))

    # Upkeep

    def delete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints and writes of a thread; its open requests are cancelled."""
        run(self._engine.delete_threads([thread_id]))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await arun(self._engine.delete_threads([thread_id]))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these runs made, with their writes."""
        run(self._engine.delete_for_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await arun(self._engine.delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread. Requests are not copied: they were asked about the source."""
        run(self._engine.copy_thread(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await arun(self._engine.copy_thread(source_thread_id, target_thread_id))

    def prune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", older_than: timedelta | None = None
    ) -> None:
        """Delete checkpoints. What people are asked about, and what its resume needs, stays.

        Args:
            thread_ids: The threads to prune.
            strategy: `keep_latest` keeps the latest checkpoint of each namespace, and the ancestors from which a
                `DeltaChannel` is rebuilt; `older_than` keeps the younger ones too; `delete` deletes the threads.
            older_than: For that strategy: the age from which on a checkpoint goes.
        """
        run(self._engine.prune(thread_ids, strategy, older_than))

    async def aprune(
        self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", older_than: timedelta | None = None
    ) -> None:
        """As `prune`."""
        await arun(self._engine.prune(thread_ids, strategy, older_than))

    def retain(self, retention: Retention, *, progress: Callable[[Retained], object] | None = None) -> Retained:
        """Delete what may go by a policy, thread by thread; safe beside running agents and beside itself.

        Args:
            retention: What may go, and when.
            progress: Told from time to time what was done.
        """
        return run(self._engine.retain(retention, progress))

    async def aretain(self, retention: Retention, *, progress: Callable[[Retained], object] | None = None) -> Retained:
        """As `retain`."""
        return await arun(self._engine.retain(retention, progress))

    @property
    def _codec(self) -> Codec:
        if self._last_codec.serde is not self.serde:  # `with_allowlist` gave this copy another one
            self._last_codec = Codec(self.serde)
        return self._last_codec
