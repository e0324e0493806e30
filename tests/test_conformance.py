"""The official conformance suite, for the async methods and, over a bridge, for the sync ones."""

import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES, Capability

from hitl_graph.checkpointers.base import Checkpointer
from tests.databases import open_checkpointer


class SyncBridge(BaseCheckpointSaver[str]):
    """A checkpointer whose async methods call the sync methods of another one."""

    def __init__(self, saver: Checkpointer) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    async def aget_tuple(self, *args: Any, **kwargs: Any) -> CheckpointTuple | None:
        return self.saver.get_tuple(*args, **kwargs)

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[CheckpointTuple]:
        for item in self.saver.list(*args, **kwargs):
            yield item

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        return self.saver.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.saver.put_writes(*args, **kwargs)

    async def adelete_thread(self, *args: Any, **kwargs: Any) -> None:
        self.saver.delete_thread(*args, **kwargs)

    async def adelete_for_runs(self, *args: Any, **kwargs: Any) -> None:
        self.saver.delete_for_runs(*args, **kwargs)

    async def acopy_thread(self, *args: Any, **kwargs: Any) -> None:
        self.saver.copy_thread(*args, **kwargs)

    async def aprune(self, *args: Any, **kwargs: Any) -> None:
        self.saver.prune(*args, **kwargs)


@pytest.mark.both_databases
@pytest.mark.parametrize("methods", ["sync", "async"])
async def test_all_eight_capabilities_are_there_and_pass(tmp_path: Path, methods: str) -> None:
    numbers = itertools.count()

    @checkpointer_test(name=f"{methods} methods")
    async def registered() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        async with open_checkpointer(tmp_path / f"{next(numbers)}.db") as saver:
            yield saver if methods == "async" else SyncBridge(saver)

    report = await validate(registered)
    assert set(report.results) == {capability.value for capability in ALL_CAPABILITIES}
    for capability in Capability:
        result = report.results[capability.value]
        assert result.detected, capability
        assert result.passed, f"{capability.value}: {result.failures}"
        assert result.tests_passed > 0
        assert result.tests_failed == 0
