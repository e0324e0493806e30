"""What is exported is read by the libraries that it is for."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("datasets")
pytest.importorskip("argilla")

import argilla as rg
import datasets
from langsmith import schemas

from hitl_graph.learning.export import export, export_waiting
from hitl_graph.learning.formats import FORMATS
from hitl_graph.model import Action, Request
from tests.learning.made import ASKED, CALL, call, every_kind


def load(kind: str, path: Path, tmp_path: Path) -> Any:
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_datasets_reads_every_format_and_changes_nothing(name: str, tmp_path: Path) -> None:
    exported = export(every_kind(), name, tmp_path / "out")
    found = load("parquet" if name == "parquet" else "json", tmp_path / "out", tmp_path)
    assert len(found) == exported.written
    if name == "parquet":
        return
    text = (tmp_path / "out").read_text()
    rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    assert [_known(row) for row in found] == [_known(row) for row in rows]


def _known(value: Any) -> Any:
    """Without nulls, of which a table has some where a row has no such key; times, of which it knows, as texts."""
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items() if one is not None}
    if hasattr(value, "isoformat"):
        return value.isoformat() + "Z"
    return [_known(one) for one in value] if isinstance(value, list) else value


def test_calls_of_several_tools_keep_their_own_arguments(tmp_path: Path) -> None:
    """A column of one struct would give each call the arguments of all others, as nulls."""
    others = [call("2", tool="search", output={"q": "x", "eur": "5"}), call("3", tool="stop", output={})]
    export([call("1"), *others], "trl-sft", tmp_path / "out")
    found = [row["completion"][0]["tool_calls"][0]["function"] for row in load("json", tmp_path / "out", tmp_path)]
    assert [one["arguments"] for one in found] == [CALL, {"q": "x", "eur": "5"}, {}]


def test_parquet_has_columns_of_one_type(tmp_path: Path) -> None:
    export(every_kind(), "parquet", tmp_path / "out")
    rows = {row["id"]: row for row in load("parquet", tmp_path / "out", tmp_path)}
    assert json.loads(rows["e1"]["output"]) == CALL
    assert json.loads(rows["e1"]["right"]) == {"eur": 4, "to": "bob"}
    assert json.loads(rows["a1"]["input"]) == ASKED
    assert (rows["e1"]["decision"], rows["e1"]["wrong"], rows["e1"]["score"]) == ("edit", True, 0.5)
    assert rows["o1"]["decision"] is rows["o1"]["wrong"] is None
    assert rows["a3"]["at"].isoformat() == "2026-11-01T12:00:00+00:00"
    assert json.loads(rows["a1"]["votes"])[0]["reviewer"] == "alice"


def test_argilla_reads_records_with_suggestions(tmp_path: Path) -> None:
    export(every_kind(), "argilla", tmp_path / "out")
    records = {one["id"]: rg.Record.from_dict(one) for one in json.loads((tmp_path / "out").read_text())}
    assert len(records) == 9
    edit = records["e1"]
    assert edit.suggestions["decision"].value == "edit"
    assert edit.suggestions["decision"].agent == "alice"
    assert json.loads(edit.suggestions["edited"].value) == {"eur": 4, "to": "bob"}
    assert "user: Pay Bob 5 euros" in edit.fields["input"]
    assert edit.metadata["score"] == 0.5
    for record in records.values():
        record.api_model()  # what would be sent to a server


def test_argilla_gets_what_waits_without_a_decision(tmp_path: Path) -> None:
    request = Request(id="ab", kind="approval", thread_id="t", interrupt_id="i", action=Action(name="pay", args={}))
    export_waiting([request], "argilla", tmp_path / "out")
    [found] = json.loads((tmp_path / "out").read_text())
    record = rg.Record.from_dict(found)
    assert [one.question_name for one in record.suggestions] == ["edited"]
    assert record.metadata["digest"] == request.digest
    record.api_model()


def test_langsmith_takes_each_row_as_an_example(tmp_path: Path) -> None:
    export(every_kind(), "langsmith", tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    make: Any = schemas.ExampleCreate
    made = [
        make(reference_outputs=row["outputs"], **{key: row[key] for key in row if key != "outputs"}) for row in rows
    ]
    assert [one.split for one in made].count("audit") == 1
    assert made[0].inputs == {"messages": ASKED}
    assert made[0].reference_outputs is not None
    assert all(one.inputs and one.metadata for one in made)
