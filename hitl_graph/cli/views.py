"""How requests look to a person: everything shown, nothing that could pretend to be something else.

What an agent wrote is not trusted: characters that a terminal obeys or hides are shown as escapes, and long texts stand
behind a bar, so that no line of theirs looks like one of ours.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from hitl_graph.drafts import files
from hitl_graph.facts import Situation, facts_of
from hitl_graph.model import Request, Word, from_ms

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

DONE: dict[Word, str] = {"approve": "approved", "edit": "edited", "reject": "rejected", "respond": "answered"}
_LONG = 60  # a text longer than this, or with several lines, is shown as a block
_DRAFT = 100  # a draft in a one-line summary
_SHORT = 40  # a value in a one-line summary
_NARROWEST = 6
_TAB = "\t"
_HIDING = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}  # control, format (bidi, zero width), private, surrogates, separators


def console() -> Console:
    """Standard output. Only what is one counts as a terminal, whatever FORCE_COLOR says."""
    return Console(highlight=False, markup=False, emoji=False, force_terminal=sys.stdout.isatty())


def visible(text: str, keep: str = "") -> str:
    r"""The text with everything that a terminal would obey or not show as an escape, such as `\x1b` or `\u202e`."""
    return "".join(
        c if c in keep or not _hides(c) else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )


def _hides(c: str) -> bool:
    return unicodedata.category(c) in _HIDING or "\ufe00" <= c <= "\ufe0e" or "\U000e0000" <= c <= "\U000e0fff"


def one_line(value: Any) -> str:
    """A JSON value on one line."""
    return visible(json.dumps(value, ensure_ascii=False))


def call(name: str, args: dict[str, Any]) -> str:
    """A call in short: `pay(eur=1, to="bob")`, with long values cut."""
    parts = []
    for key, value in args.items():
        text = one_line(value)
        if len(text) > _SHORT:
            text = text[: _SHORT - 2] + ('…"' if isinstance(value, str) else "…")
        parts.append(f"{visible(key)}={text}")
    return f"{visible(name)}({', '.join(parts)})"


def arguments(request: Request, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """The arguments of a request's action, in the order in which the tool requires them; stored JSON has none.

    Args:
        changed: Other arguments, to be put into the same order.
    """
    args: dict[str, Any] = changed if changed is not None else dict(request.action.args) if request.action else {}
    required = (request.answer_schema or {}).get("required")
    first = [name for name in required if name in args] if isinstance(required, list) else []
    return {name: args[name] for name in (*first, *args)}


def what(request: Request, changed: dict[str, Any] | None = None) -> str:
    """What a request is about, in one line; with the arguments that an edit gave it."""
    if request.action is not None:
        text = call(request.action.name, arguments(request, changed))
        return f"did {text} happen?" if request.kind == "question" else text
    if (facts := facts_of(request)) is not None:
        return visible(facts.sentence if isinstance(facts, Situation) else facts.question)
    if request.kind == "review" and request.draft is not None:
        return _draft_in_short(request)
    question = request.question
    if isinstance(question, dict) and isinstance(actions := question.get("action_requests"), list):
        calls = [
            call(str(a.get("name")), cast("dict[str, Any]", a.get("args") or {}))
            for a in actions
            if isinstance(a, dict)
        ]
        return f"{len(calls)} calls: {'; '.join(calls)}"
    shown = question if question is not None else request.draft
    if shown is None:
        return visible(request.description) or "(nothing is shown)"
    return visible(shown) if isinstance(shown, str) else one_line(shown)


def _draft_in_short(request: Request) -> str:
    number = f" {request.review.revision}" if request.review is not None and request.review.revision > 1 else ""
    if paths := files(request.draft):
        text = ", ".join(map(visible, paths))
    elif isinstance(request.draft, str):
        text = visible(" ".join(request.draft.split()))
    else:
        text = one_line(arguments(request, request.draft) if isinstance(request.draft, dict) else request.draft)
    return f"draft{number}: {text if len(text) <= _DRAFT else f'{text[: _DRAFT - 1]}…'}"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago: `12s`, `4m`, `3h`, `2d`."""
    if since is None:
        return "-"
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


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
