"""Files that a command writes."""

import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from hitl_graph.cli.app import FAILED, Failure

__all__ = ["writing"]


@contextmanager
def writing(out: Path) -> Generator[Callable[[str], object]]:
    """Into a file that is there only when it is whole."""
    if str(out) == "-":
        yield sys.stdout.write
        return
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    except OSError as exc:
        raise Failure(FAILED, f"{out} cannot be written: {exc.strerror}") from exc
    try:
        with open(handle, "w", encoding="utf-8") as file:
            yield file.write
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, out)
    except BaseException as exc:
        Path(name).unlink(missing_ok=True)
        if isinstance(exc, OSError):  # a full disk
            raise Failure(FAILED, f"{out} cannot be written: {exc.strerror}") from exc
        raise
