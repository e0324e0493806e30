"""Child processes of the demo. None outlives it, however it ends."""

import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from typing import Any

__all__ = ["ended_by_signals", "run_child"]


def run_child(arguments: list[str], say: Callable[[str], None], *, kill_when: Event | None = None) -> int:
    """Run `python -m hitl_graph.demo.child ...` to its end; returns its exit code, negative for a signal.

    Args:
        arguments: What comes after the module's name.
        say: Gets each line that the process prints.
        kill_when: Kill it with SIGKILL as soon as this is set.
    """
    command = [sys.executable, "-m", "hitl_graph.demo.child", *arguments]
    # A session of its own: a Ctrl-C in the terminal is for the director, who ends the child.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            say(f"(process {process.pid} starts)")
            if kill_when is not None:
                while process.poll() is None and not kill_when.wait(0.05):
                    pass
                if kill_when.is_set():
                    process.kill()
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip("\n"))
            return process.wait()
        finally:
            process.kill()


@contextmanager
def ended_by_signals() -> Generator[None]:
    """In here SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that what was started is ended."""

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
