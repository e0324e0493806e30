"""How far something is, on a terminal, from when it has taken two seconds."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["counted", "shown"]

_SLOW = 2.0


@contextmanager
def shown(*columns: ProgressColumn, total: float | None = None) -> Generator[Callable[..., None]]:
    """Gives what to call now and then, with `completed=` or `description=`, as `rich.progress.Progress.update`."""
    start = monotonic()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("", total=total)

    def tick(**how: Any) -> None:
        if not bar.live.is_started and monotonic() - start > _SLOW:
            bar.start()
        bar.update(task, **how)

    try:
        yield tick
    finally:
        if bar.live.is_started:  # rich before 14 ends even a bar that was never shown with an empty line
            bar.stop()


@contextmanager
def counted(what: str, unit: str) -> Generator[Callable[[int, int], None]]:
    """Gives what to call now and then with how many are done, and of how many."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with shown(*columns) as tick:
        yield lambda done, total: tick(completed=done, total=total)
