"""Formats of training, evaluation and labelling data: which there are, and their rows. No I/O.

Each is a function of one example. What it has no row for is counted by the reason, never made up.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import JsonValue

from hitl_graph.errors import LearningError
from hitl_graph.learning.examples import Example, Split
from hitl_graph.learning.formats import argilla, evaluation, label_studio, plain, questions, tasks, trl
from hitl_graph.learning.formats.chat import Unusable
from hitl_graph.learning.formats.labels import Label, Refused, Unclear, entries, mapping
from hitl_graph.model import Request

__all__ = ["FORMATS", "File", "Format", "Labels", "find", "labels", "rows", "waiting_rows"]

Row = dict[str, Any]
File = Literal["lines", "array", "parquet"]


@dataclass(frozen=True)
class Labels:
    """How labels that were made elsewhere are read.

    Attributes:
        parts: Of an entry: what of it is one person's answer, and where in it that stands; raises `Unclear`.
        label: Of a part: what it says, None if nothing yet; raises `Unclear`.
    """

    parts: Callable[[Mapping[str, Any]], list[tuple[str, Any]]]
    label: Callable[[Any], Label | None]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        row: Of an example; raises `Unusable`.
        file: JSON `lines`, one JSON `array`, or `parquet`.
        trains: Whether a model is trained with it: then it takes no audits, unless they are asked for.
        waiting: Of a request that waits, and of the model's input: what is labelled elsewhere. None: it is no format
            for that.
        labels: How they come back.
    """

    row: Callable[[Example], Row]
    file: File = "lines"
    trains: bool = False
    waiting: Callable[[Request, JsonValue], Row] | None = None
    labels: Labels | None = None


FORMATS = MappingProxyType(
    {
        "jsonl": Format(plain.row, waiting=questions.row, labels=Labels(questions.parts, questions.label)),
        "parquet": Format(plain.columns, "parquet"),
        "trl-sft": Format(trl.sft, trains=True),
        "trl-dpo": Format(trl.dpo, trains=True),
        "trl-kto": Format(trl.kto, trains=True),
        "label-studio": Format(
            lambda example: label_studio.row(tasks.of_example(example)), "array",
            waiting=lambda request, input: label_studio.row(tasks.of_request(request, input)),
            labels=Labels(label_studio.parts, label_studio.label),
        ),
        "argilla": Format(
            lambda example: argilla.row(tasks.of_example(example)), "array",
            waiting=lambda request, input: argilla.row(tasks.of_request(request, input)),
            labels=Labels(argilla.parts, argilla.label),
        ),
        "langsmith": Format(evaluation.langsmith),
        "openai-evals": Format(evaluation.openai_evals),
    }
)  # fmt: skip
"""All of them, by their names."""


def find(name: str, *, waiting: bool = False) -> Format:
    """The format of this name.

    Args:
        waiting: One in which what waits can be labelled elsewhere.

    Raises:
        LearningError: There is none.
    """
    known = [own for own, one in FORMATS.items() if one.waiting is not None or not waiting]
    if name not in known:
        purpose = " to label in" if waiting else ""
        raise LearningError(f"there is no format {name!r}{purpose}; there are {', '.join(known)}")
    return FORMATS[name]


def rows(examples: Iterable[Example], format: Format, split: Split | None, skipped: Counter[str]) -> Iterator[Row]:
    """The rows of examples, in their order.

    Args:
        split: Only of this one; None: of all, but not audits where a model is trained.
        skipped: Is told how many were left out, by the reason.
    """
    wanted = "train" if split is None and format.trains else split
    for example in examples:
        if wanted is not None and example.split != wanted:
            skipped[f"of the split {example.split}"] += 1
            continue
        try:
            yield format.row(example)
        except Unusable as why:
            skipped[str(why)] += 1


def waiting_rows(
    requests: Iterable[Request], format: Format, input_of: Callable[[str], JsonValue], skipped: Counter[str]
) -> Iterator[Row]:
    """As `rows`, of requests that wait.

    Args:
        input_of: What the model had to go by, by the id of the request; None where it is not known.
    """
    assert format.waiting is not None
    for request in requests:
        try:
            yield format.waiting(request, input_of(request.id))
        except Unusable as why:
            skipped[str(why)] += 1


def labels(data: bytes, format: Format) -> Iterator[tuple[str, Label | Refused | None]]:
    """The labels of a file: where each stands, and what it says; None where nobody answered yet."""
    assert format.labels is not None
    for where, entry in entries(data):
        try:
            if isinstance(entry, Unclear):
                raise entry
            parts = format.labels.parts(mapping(entry, "it is no object"))
        except Unclear as why:
            yield where, Refused(where, None, str(why))
            continue
        if not parts:
            yield where, None
        for inside, part in parts:
            try:
                yield where + inside, format.labels.label(part)
            except Unclear as why:
                yield where + inside, Refused(where + inside, None, str(why))
