"""What `list` looks for."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from hitl_graph.checkpointers import rows
from hitl_graph.checkpointers.rows import Found
from hitl_graph.storage import Transaction

__all__ = ["Query", "names"]


def names(config: RunnableConfig) -> tuple[str, str, str | None]:
    """thread_id, checkpoint_ns and checkpoint_id of a config."""
    configurable = config.get("configurable", {})
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns") or "", configurable.get("checkpoint_id")


class Query:
    """One call of `list`: first the rows that may match, then, page by page, those that do."""

    def __init__(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        wanted = config.get("configurable", {}) if config else {}
        self._thread_id = str(wanted["thread_id"]) if config else None
        self._checkpoint_ns: str | None = wanted.get("checkpoint_ns")
        self._checkpoint_id: str | None = wanted.get("checkpoint_id") or None
        self._before: str | None = before.get("configurable", {}).get("checkpoint_id") if before else None
        self._filter = {key: _canonical(value) for key, value in (filter or {}).items()}
        self._left = limit

    def search(self, tx: Transaction) -> list[int]:
        """The rows that may match, the newest first."""
        return rows.search(
            tx,
            thread_id=self._thread_id,
            checkpoint_ns=self._checkpoint_ns,
            checkpoint_id=self._checkpoint_id,
            before=self._before,
            limit=None if self._filter else self._left,
        )

    def page(self, rowids: Sequence[int]) -> Callable[[Transaction], list[Found]]:
        """Work that reads those of some rows that match."""

        def read(tx: Transaction) -> list[Found]:
            found = []
            for rowid in rowids:
                row = rows.by_rowid(tx, rowid)
                if row is not None and self._matches(row.metadata):
                    found.append(rows.load(tx, row))
            return found

        return read

    def take(self) -> bool:
        """Whether one more is wanted."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0

    def _matches(self, metadata: str) -> bool:
        if not self._filter:
            return True
        stored = json.loads(metadata)
        return all(_canonical(stored.get(key)) == value for key, value in self._filter.items())


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
