"""Draw the graphs of langgraph.json into docs/graphs/*.png: `python scripts/draw_graphs.py` with a Chromium at hand.

LangGraph's own `draw_mermaid_png` asks a server on the network. Here npm gives mermaid once (`npm pack`, not kept), and
the browser draws with it.
"""

import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.browser import ARGUMENTS, CHROMIUM

ROOT = Path(__file__).parent.parent
MERMAID = "mermaid@11"
LOOK: dict[str, Any] = {"startOnLoad": False, "theme": "neutral", "flowchart": {"htmlLabels": False, "curve": "basis"}}


def mermaid(folder: Path) -> str:
    """The library as a script."""
    command = ["npm", "pack", MERMAID, "--pack-destination", str(folder), "--silent"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    [archive] = folder.glob("mermaid-*.tgz")
    with tarfile.open(archive) as opened:
        found = opened.extractfile("package/dist/mermaid.min.js")
        assert found is not None
        return found.read().decode()


def drawing(spec: str) -> str:
    """The text of a graph's drawing."""
    path, _, name = spec.partition(":")
    file = ROOT / path
    found = importlib.util.spec_from_file_location(file.stem, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[file.stem] = module
    found.loader.exec_module(module)
    graph = getattr(module, name)
    compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    return str(compiled.get_graph().draw_mermaid())


def main() -> None:
    graphs: dict[str, str] = json.loads((ROOT / "langgraph.json").read_text())["graphs"]
    folder = ROOT / "docs" / "graphs"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        library = mermaid(Path(scratch))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(device_scale_factor=2)
        page.set_content(
            "<body style='margin:0;background:white'><div id='place' style='display:inline-block;padding:16px'></div>"
        )
        page.add_script_tag(content=library)
        for name, spec in graphs.items():
            draw = "async ([look, text]) => { mermaid.initialize(look); const drawn = await mermaid.render('g', text);"
            page.evaluate(f"{draw} document.getElementById('place').innerHTML = drawn.svg; }}", [LOOK, drawing(spec)])
            page.locator("#place").screenshot(path=folder / f"{name}.png")
            print(folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
