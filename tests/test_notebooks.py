"""The notebooks run from top to bottom, in an empty folder, and print what is stored in them."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_prints_what_is_stored_in_it(path: Path, tmp_path: Path) -> None:
    if "adapters.autogen" in path.read_text():
        pytest.importorskip("autogen_agentchat")  # not in `all`
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    stored = _printed(notebook)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    assert _printed(notebook) == stored, f"run it again: jupyter nbconvert --to notebook --execute --inplace {path}"
    assert any("the log is intact: True" in text for text in stored)


def _printed(notebook: Any) -> list[str]:
    """The outputs of each cell, without ids."""
    return [
        re.sub(r"\b(call_)?[0-9a-f]{12,}\b", "<id>", "".join(output.get("text", "") for output in cell.outputs))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
