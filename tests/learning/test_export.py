"""Files: whole or not there, never in place of another one, a few rows in memory at a time."""

import json
import os
import resource
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitl_graph.errors import LearningError
from hitl_graph.learning.examples import Example
from hitl_graph.learning.export import Exported, export
from hitl_graph.learning.formats import FORMATS
from tests.learning.made import call, draft, every_kind


def read(path: Path) -> list[Any]:
    text = path.read_text()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"parquet"}))
def test_a_file_has_what_was_counted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    exported = export(every_kind(), name, path)
    assert len(read(path)) == exported.written > 0
    assert exported.written + sum(exported.skipped.values()) == len(every_kind())
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"parquet"}))
def test_nothing_to_write_is_an_empty_file(name: str, tmp_path: Path) -> None:
    assert export([], name, tmp_path / "out") == Exported(0, {})
    assert read(tmp_path / "out") == []


def test_a_split_is_chosen(tmp_path: Path) -> None:
    for split, ids in (("audit", {"a3"}), (None, {"a1", "a2", "a3", "e1", "e2", "s2"})):
        export(every_kind(), "openai-evals", tmp_path / "out", split=split, overwrite=True)  # type: ignore[arg-type]
        assert {row["id"] for row in read(tmp_path / "out")} == ids
    export(every_kind(), "trl-sft", tmp_path / "sft", split="audit")
    assert [row["id"] for row in read(tmp_path / "sft")] == ["a3"]


def test_another_file_is_not_replaced_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(LearningError, match=r"exists; pass overwrite=True"):
        export(every_kind(), "jsonl", path)
    assert path.read_text() == "mine"
    assert export(every_kind(), "jsonl", path, overwrite=True).written
    with pytest.raises(LearningError, match=r"cannot be written: No such file"):
        export([], "jsonl", tmp_path / "nowhere" / "out")


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("mine")

    def breaks() -> Iterator[Example]:
        yield from every_kind()
        raise ConnectionError("the database is gone")

    for name in FORMATS:
        with pytest.raises(ConnectionError):
            export(breaks(), name, path, overwrite=True)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_is_full_is_told_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(LearningError, match=r"out cannot be written: File too large"):
            export([call("1", input="x" * 100_000)], "jsonl", path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out", "mine")]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\n", "\r"])
def test_a_line_is_a_line_for_every_reader(end: str, tmp_path: Path) -> None:
    export([draft("1", output=f"a{end}b")], "jsonl", tmp_path / "out")
    [line] = (tmp_path / "out").read_text().splitlines()
    assert json.loads(line)["output"] == f"a{end}b"


@pytest.mark.parametrize("name", ["jsonl", "trl-sft", "label-studio", "parquet"])
def test_memory_does_not_grow_with_the_log(name: str, tmp_path: Path) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")

    def many(count: int) -> int:
        tracemalloc.start()
        export((call(str(i), input="x" * 1000) for i in range(count)), name, tmp_path / "out", overwrite=True)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    many(10)  # what is imported and made once
    assert many(4000) < many(2000) + 500_000  # 4,000 examples are more than 4 MB


def test_progress_is_told(tmp_path: Path) -> None:
    told = list[int]()
    export(every_kind(), "jsonl", tmp_path / "out", progress=told.append)
    assert told == list(range(1, len(every_kind()) + 1))


def test_without_pyarrow_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(LearningError, match=r"hitl-graph\[parquet\]"):
        export(every_kind(), "parquet", tmp_path / "out")
    assert not list(tmp_path.iterdir())
