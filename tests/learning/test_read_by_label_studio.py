"""Label Studio's own SDK checks the interface and each task, and converts what comes back.

Skipped where it is not installed, as it wants an older numpy than we have: `pip install label-studio-sdk`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("label_studio_sdk")

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface

from hitl_graph.learning.export import export, export_waiting
from hitl_graph.learning.formats.label_studio import CONFIG
from hitl_graph.model import Action, Request
from tests.learning.made import call, every_kind

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def interface() -> Any:
    found = LabelInterface(CONFIG)
    found.validate()
    assert found.is_valid
    return found


def test_the_interface_takes_each_task_prediction_and_annotation(interface: Any, tmp_path: Path) -> None:
    scores = [call(str(score), score=score) for score in (-3.5, 0.0, 0.25, 1.0, 40.0)]
    export([*every_kind(), *scores], "label-studio", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 14
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
        for annotation in task["annotations"]:
            assert interface.validate_annotation(annotation)


def test_what_waits_is_a_task_without_a_decision(interface: Any, tmp_path: Path) -> None:
    request = Request(
        id="ab", kind="approval", thread_id="t", interrupt_id="i", action=Action(name="pay", args={"eur": 5}), score=0.5
    )
    export_waiting([request], "label-studio", tmp_path / "tasks.json")
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    assert interface.validate_task({"data": task["data"]})
    assert "annotations" not in task
    [prediction] = task["predictions"]
    assert interface.validate_prediction(prediction, return_errors=True) == []
    assert [region["from_name"] for region in prediction["result"]] == ["edited"]


def test_its_converter_reads_what_was_decided(tmp_path: Path) -> None:
    export(every_kind(), "label-studio", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    (tmp_path / "back.json").write_text(json.dumps([{"id": number, **task} for number, task in enumerate(tasks)]))
    rows = [*Converter(CONFIG, None).iter_from_json_file(str(tmp_path / "back.json"))]
    chosen = {row["input"]["request_id"]: row["output"]["decision"][0]["choices"] for row in rows}
    assert chosen["e1"] == ["edit"]
    assert chosen["r1"] == ["reject"]
    edited = {row["input"]["request_id"]: row["output"].get("edited") for row in rows}
    assert json.loads(edited["e1"][0]["text"][0]) == {"eur": 4, "to": "bob"}
