"""Rows into an open file, a few at a time: JSON lines, a JSON array, or parquet."""

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

from hitl_graph.errors import LearningError
from hitl_graph.learning.formats import File

__all__ = ["write"]

_GROUP = 1000  # rows of a parquet file that are in memory at once
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""What some readers take for the end of a line."""
_COLUMNS = {
    "id": "string", "thread_id": "string", "kind": "string", "tool": "string", "input": "string", "output": "string",
    "at": "timestamp", "score": "float64", "model": "string", "group": "string", "route": "string",
    "propensity": "float64", "split": "string", "state": "string", "decision": "string", "message": "string",
    "reviewer": "string", "by_people": "bool_", "seconds": "float64", "reference": "string", "votes": "string",
    "better": "string", "right": "string", "wrong": "bool_",
}  # fmt: skip


def write(file: File, out: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows; returns how many.

    Raises:
        LearningError: What writes parquet is not installed.
    """
    if file == "parquet":
        return _parquet(out, rows)
    between, count = (b",\n", 0) if file == "array" else (b"\n", 0)
    out.write(b"[" if file == "array" else b"")
    for row in rows:
        out.write(between if count else b"")
        out.write(_encode(row).translate(_ENDS).encode())
        count += 1
    out.write(b"]\n" if file == "array" else b"\n" if count else b"")
    return count


def _parquet(out: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as exc:
        raise LearningError('parquet needs pyarrow: pip install "hitl-graph[parquet]". Nothing was written') from exc
    types = {"timestamp": arrow.timestamp("us", tz="UTC")}
    schema = arrow.schema([(name, types.get(kind) or getattr(arrow, kind)()) for name, kind in _COLUMNS.items()])
    count, left = 0, iter(rows)
    with parquet.ParquetWriter(out, schema) as writer:
        while group := list(islice(left, _GROUP)):
            writer.write_table(_table(arrow, schema, group))
            count += len(group)
    return count


def _table(arrow: Any, schema: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    return arrow.Table.from_pylist([{name: row[name] for name in _COLUMNS} for row in rows], schema=schema)
