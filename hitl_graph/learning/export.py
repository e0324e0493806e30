"""Decisions as files: to train with, to evaluate with, or to be labelled elsewhere."""

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import JsonValue

from hitl_graph.errors import LearningError
from hitl_graph.learning import formats
from hitl_graph.learning.examples import Example, Split
from hitl_graph.learning.writing import write
from hitl_graph.model import Request

__all__ = ["Exported", "export", "export_waiting"]

T = TypeVar("T")
Progress = Callable[[int], object]

_OURS = {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}
"""What goes wrong with the file; any other error is of whatever gives the examples."""


@dataclass(frozen=True)
class Exported:
    """What became of a file.

    Attributes:
        written: Rows in it.
        skipped: How many have no row in it, by the reason.
    """

    written: int
    skipped: dict[str, int] = field(default_factory=dict[str, int])


def export(
    examples: Iterable[Example],
    format: str,
    path: str | os.PathLike[str],
    *,
    split: Split | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write decisions into a file that is there only when it is whole, a few at a time.

    Args:
        examples: As `DecisionLog.examples` gives them.
        format: `jsonl`, `parquet`, `trl-sft`, `trl-dpo`, `trl-kto`, `label-studio`, `argilla`, `langsmith` or
            `openai-evals`.
        split: Only rows of this one. Audits are drawn to measure: a format to train with has none of them, unless they
            are asked for.
        overwrite: Replace the file if it exists.
        progress: Told now and then how many examples are done.

    Raises:
        LearningError: There is no such format, its package is missing, or the file exists.
    """
    chosen = formats.find(format)
    return _write(chosen.file, path, overwrite, lambda out: formats.rows(_told(examples, progress), chosen, split, out))


def export_waiting(
    requests: Iterable[Request],
    format: str,
    path: str | os.PathLike[str],
    *,
    input_of: Callable[[str], JsonValue] = lambda _: None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write what waits for people into a file, to be labelled elsewhere and read by `import_labels`.

    Each row has the digest of what is shown, so that no label is taken for another question.

    Args:
        requests: As `Inbox.pending` gives them. Escalations and questions are left out: they propose nothing.
        format: `label-studio`, `argilla` or `jsonl`.
        input_of: What the model had to go by, by the id of the request; None where it is not known.
        overwrite: Replace the file if it exists.
        progress: Told now and then how many requests are done.

    Raises:
        LearningError: There is no such format, or the file exists.
    """
    chosen = formats.find(format, waiting=True)
    return _write(
        chosen.file, path, overwrite,
        lambda out: formats.waiting_rows(_told(requests, progress), chosen, input_of, out),
    )  # fmt: skip


def _write(
    file: formats.File, path: str | os.PathLike[str], overwrite: bool,
    rows: Callable[[Counter[str]], Iterator[dict[str, Any]]],
) -> Exported:  # fmt: skip
    target, skipped = Path(path), Counter[str]()
    if target.exists() and not overwrite:
        raise LearningError(f"{target} exists; pass overwrite=True, or another name. Nothing was written")
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as exc:
        raise LearningError(f"{target} cannot be written: {exc.strerror}") from exc
    try:
        with open(handle, "wb") as out:
            written = write(file, out, rows(skipped))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException as exc:
        Path(name).unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in _OURS:
            raise LearningError(f"{target} cannot be written: {exc.strerror}") from exc
        raise
    return Exported(written, dict(skipped))


def _told(items: Iterable[T], progress: Progress | None) -> Iterator[T]:
    for number, one in enumerate(items, 1):
        yield one
        if progress is not None:
            progress(number)
