"""`hitl stuck`: the detectors over recorded histories."""

import gzip
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import TextColumn

from hitl_graph.cli.app import UNKNOWN, USAGE, Command, Failure, app, note
from hitl_graph.cli.files import writing
from hitl_graph.cli.progress import shown
from hitl_graph.stuck import Alarm, Watch
from hitl_graph.stuck.recorded import Recording, read_lines

__all__: list[str] = []

stuck = typer.Typer(help="Would somebody have been called? The detectors over recorded runs.", no_args_is_help=True)
app.add_typer(stuck, name="stuck")

Traces = Annotated[Path, typer.Argument(metavar="TRACES.jsonl[.gz]", help="One run a line: its id and its messages.")]


@stuck.command(cls=Command)
def replay(
    traces: Traces,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write; - for stdout.")] = Path("-"),
    patience: Annotated[
        Literal["low", "normal", "high"], typer.Option(help="How long to look on before somebody is called.")
    ] = "normal",
    why: Annotated[bool, typer.Option("--why", help="Also write what was found, and the evidence.")] = False,
) -> None:
    """The first message of each run at which somebody would have been called.

    Runs are replayed message by message; what comes later is never seen. A line is
    {"id": ..., "messages": [{"role", "content", "tool_calls"?, "tool_call_id"?}, ...]}, OpenAI-style; other keys are
    passed over. Written is {"id": ..., "index": ...} for each, with null for a run that needed nobody.
    """
    if str(out) != "-" and out.exists() and traces.exists() and out.samefile(traces):
        raise Failure(USAGE, f"--out {out} is what is read; nothing was written")
    runs = alarms = 0
    with _opened(traces) as lines, writing(out) as write, shown(TextColumn("replaying: {task.description}")) as tick:
        for recording in _recordings(traces, lines):
            alarm = _first(recording, Watch(patience))
            write(json.dumps(_row(recording.id, alarm, why), ensure_ascii=False) + "\n")
            runs, alarms = runs + 1, alarms + (alarm is not None)
            tick(description=f"{runs:,} runs, {alarms:,} alarms")
    if not runs:
        note(f"{traces} has no runs.")
    elif str(out) != "-":
        print(f"{alarms:,} of {runs:,} runs would have called somebody; written to {out}.")


def _first(recording: Recording, watch: Watch) -> Alarm | None:
    for end in range(1, len(recording.messages) + 1):
        alarm = watch.see(recording.messages[:end])
        if alarm is not None:
            return alarm
    return None


def _row(id_: str, alarm: Alarm | None, why: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"id": id_, "index": alarm.index if alarm else None}
    if why and alarm:
        row |= {"kind": alarm.kind, "sentence": alarm.sentence, "score": round(alarm.score, 3)}
        row["evidence"] = [one.model_dump(mode="json") for one in alarm.evidence]
    return row


@contextmanager
def _opened(path: Path) -> Generator[Iterable[str]]:
    try:
        file = path.open("rb")
    except FileNotFoundError as exc:
        raise Failure(UNKNOWN, f"there is no file {path}") from exc
    except OSError as exc:
        raise Failure(USAGE, f"{path} cannot be read: {exc.strerror}") from exc
    with file, TextIOWrapper(_plain(file), encoding="utf-8") as lines:
        yield lines


def _plain(file: BufferedReader) -> BufferedReader:
    """Unpacked, if it is packed; whatever its name says."""
    return gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file  # type: ignore[return-value]


def _recordings(path: Path, lines: Iterable[str]) -> Iterator[Recording]:
    try:
        yield from read_lines(lines)
    except (gzip.BadGzipFile, EOFError) as exc:
        raise Failure(USAGE, f"{path}: damaged gzip file: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise Failure(USAGE, f"{path}: not UTF-8: {exc}") from exc
    except ValueError as exc:
        raise Failure(USAGE, f"{path}, {exc}") from exc
