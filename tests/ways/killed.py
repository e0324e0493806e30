"""One process that has a thread of every way at a certain point, and is killed there with `kill -9`."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool

from hitl_graph.model import approve
from tests.databases import NOTE
from tests.invariants.agents import Durability, pay_call, ran, write_effect
from tests.invariants.processes import Report, child
from tests.ways.builders import WAYS, Way
from tests.ways.places import Place, WayScene

__all__ = ["MODES", "decided_thread", "folder_of", "killed", "paying", "running_thread"]

MODES: tuple[Durability, ...] = ("sync", "async", "exit")


def folder_of(root: Path, way: Way) -> Path:
    """Where the agent of this way lives: its own database, its own effects."""
    return root / f"way{WAYS.index(way)}"


def decided_thread(way: Way, mode: Durability) -> str:
    """A thread that waits for the worker: its request was approved when the process died."""
    return f"decided {mode} {way.name}"


def running_thread(way: Way) -> str:
    """A thread whose tool had its effect already when the process died, and had not come back."""
    return f"running {way.name}"


def paying(effects_file: str | os.PathLike[str]) -> BaseTool:
    """`pay`; while there is a file `effects.hold`, it does not come back after its effect."""

    def pay(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Send money."""
        write_effect(effects_file, f"{config['configurable']['thread_id']} | {tool_call_id} pay {eur} {to}")
        while Path(f"{os.fspath(effects_file)}.hold").exists():
            time.sleep(0.05)
        return f"paid {eur} to {to}"

    return StructuredTool.from_function(pay)


@contextmanager
def killed(root: Path, place: Place, note: str | None) -> Iterator[Path]:
    """Live, and die in the middle of an effect of every way."""
    for way in WAYS:
        folder = folder_of(root, way)
        folder.mkdir()
        (folder / "effects.hold").touch()
        if note is not None:
            (folder / NOTE).write_text(note)
    with child(_live, str(root), place) as process:
        for _ in WAYS:
            process.hear("decided")
        process.kill()
    for way in WAYS:
        (folder_of(root, way) / "effects.hold").unlink()
    yield root


def _live(report: Report, root: str, place: Place) -> None:
    with ThreadPoolExecutor(len(WAYS)) as pool:
        for future in [pool.submit(_live_as, report, Path(root), way, place) for way in WAYS]:
            future.result()


def _live_as(report: Report, root: Path, way: Way, place: Place) -> None:
    scene = WayScene(folder_of(root, way), way, place)
    graph = scene.agent(tools=[paying(scene.effects)])
    threads = [*((decided_thread(way, mode), mode) for mode in MODES), (running_thread(way), MODES[0])]
    for thread, mode in threads:
        scene.start(graph, [pay_call(1)], thread, durability=mode)
    [running] = [request for request in scene.asked() if request.thread_id == running_thread(way)]
    scene.decide(running, approve())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(scene.work, graph)  # until the end
        until = time.monotonic() + 60
        while not ran(scene.effects):
            assert time.monotonic() < until
            time.sleep(0.05)
        for request in scene.asked():
            scene.decide(request, approve())
        report("decided", way.name)
