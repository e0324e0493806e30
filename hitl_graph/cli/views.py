"""How requests look to a person: everything shown, nothing that could pretend to be something else.

What an agent wrote is not trusted: characters that a terminal obeys or hides are shown as escapes, and long texts stand
behind a bar, so that no line of theirs looks like one of ours.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hitl_graph.card.words import DONE, age, arguments, call, one_line, what
from hitl_graph.model import from_ms
from hitl_graph.visible import visible

__all__ = [
    "DONE",
    "age",
    "arguments",
    "block",
    "call",
    "clock",
    "console",
    "lines_of",
    "one_line",
    "pairs",
    "quoted",
    "show",
    "table",
    "value_lines",
    "visible",
    "what",
]

_LONG = 60  # a text longer than this, or with several lines, is shown as a block
_NARROWEST = 6
_TAB = "\t"


def console() -> Console:
    """Standard output. Only what is one counts as a terminal, whatever FORCE_COLOR says."""
    return Console(highlight=False, markup=False, emoji=False, force_terminal=sys.stdout.isatty())


def clock(at: datetime | int | None) -> str:
    """Local time, to the second; takes milliseconds too."""
    if at is None:
        return "-"
    moment = from_ms(at) if isinstance(at, int) else at
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def table(
    out: Console, headers: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Sequence[int] = (), main: int
) -> Text:
    """Rows in columns: cut to the terminal, or in full and aligned by spaces where there is none.

    Args:
        whole: Columns that are never cut.
        main: The column that is cut last.
    """
    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    if out.is_terminal:
        cuttable = [i for i in range(len(widths)) if i not in whole]
        while sum(widths) + 2 * (len(widths) - 1) > out.width:
            widest = max(cuttable, key=lambda i: widths[i] / (3 if i == main else 1))
            if widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
    lines = []
    for number, row in enumerate([headers, *rows]):
        line = Text(style="bold" if number == 0 else "")
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            text = Text(cell, style="cyan" if index == 0 and number else "")
            text.truncate(width, overflow="ellipsis", pad=index < len(widths) - 1)
            line.append_text(text).append("  ")
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


def pairs(rows: Iterable[tuple[str, str]]) -> list[Text]:
    """Lines of a name and what it is."""
    return [Text.assemble((f"{name:<9} ", "dim"), text) for name, text in rows]


def block(text: str) -> list[str]:
    """A text line by line, behind a bar."""
    return [f"| {visible(line, keep=_TAB)}" for line in text.split("\n")]


def value_lines(value: Any) -> list[str]:
    """A JSON value in full. A long text is given line by line behind a bar."""
    if isinstance(value, str) and ("\n" in value or len(value) > _LONG):
        return block(value)
    if isinstance(value, dict | list) and len(json.dumps(value)) > _LONG:
        return [visible(line) for line in json.dumps(value, ensure_ascii=False, indent=2).split("\n")]
    return [one_line(value)]


def lines_of(args: dict[str, Any]) -> list[str]:
    """All arguments in full, for a comparison line by line."""
    lines: list[str] = []
    for name, value in args.items():
        first, *rest = value_lines(value)
        if rest or first.startswith("| "):
            lines += [f"{visible(name)}:", *(f"  {line}" for line in (first, *rest))]
        else:
            lines.append(f"{visible(name)}: {first}")
    return lines


def quoted(out: Console, lines: Sequence[str], indent: str) -> list[Text]:
    """Lines with an indent (and their bar) that stays when the terminal is too narrow for one of them."""
    shown: list[Text] = []
    for line in lines:
        bar = "| " if line.startswith("| ") else ""
        body = Text(line[len(bar) :])
        room = max(20, out.width - len(indent) - len(bar))
        for part in body.wrap(out, room) if out.is_terminal and body.cell_len > room else [body]:
            shown.append(Text.assemble(indent, (bar, "dim"), part))
    return shown


def show(out: Console, lines: Iterable[Text | str]) -> None:
    """Print lines; on a terminal they are wrapped, never cut."""
    for line in lines:
        if out.is_terminal:
            out.print(Text(line) if isinstance(line, str) else line)
        else:  # without rich, which would wrap
            print(line)
    sys.stdout.flush()
