"""`hitl policy replay`: what a changed policy would have asked, allowed and denied."""

import inspect
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from hitl_graph.cli import queries, views
from hitl_graph.cli.app import FAILED, UNKNOWN, USAGE, Command, Db, Failure, Json, emit, note, open_ledger
from hitl_graph.cli.database import age_of
from hitl_graph.cli.policy import Names, Python, policy
from hitl_graph.cli.progress import shown
from hitl_graph.cli.working import imported, where
from hitl_graph.errors import PolicyError
from hitl_graph.ledger import Ledger
from hitl_graph.policy import Policy
from hitl_graph.policy.replay import OUTCOMES, WAS, Change, Kind, Replay, RuleTally, Tally, Was
from hitl_graph.replay import Progress
from hitl_graph.replay import replay as replay_policy

__all__ = ["load_policy"]

_FILES = (".toml", ".yaml", ".yml", ".json")
_TITLES: dict[Kind, str] = {
    "let_through": "People refused these; it would have let them through:",
    "unedited": "People edited these first; it would have run them as proposed:",
    "denied": "These were let run; it would have denied them:",
    "asked": "These ran unasked; it would have asked:",
    "opened": "These were denied; it would have asked about them or allowed them:",
    "people": "Of these it would have asked other people, or more of them:",
    "saved": "People approved these; it would not have asked:",
}
_SHOWN: dict[str, tuple[Kind, ...]] = {
    "rejects": ("let_through",),
    "changes": ("let_through", "unedited", "denied", "asked", "opened", "people"),
    "all": tuple(_TITLES),
}
_ENOUGH = {True: "those who agreed are enough", False: "those who agreed are not enough", None: ""}


def load_policy(spec: str, names: Names) -> Policy:
    """The policy in a file, or the one that `pkg.mod:name` names: a policy, a node with one, a function that gives one.

    Args:
        names: What a file may name in place of conditions.

    Raises:
        Failure: There is none, or the file makes no sense.
    """
    if spec.lower().endswith(_FILES) or os.path.exists(spec):
        if not os.path.isfile(spec):
            raise Failure(UNKNOWN, f"there is no file {spec}")
        return _from_file(Path(spec), names)
    found = imported(spec, Policy, "policies", "my_agent:policy (or a file, such as policy.toml)")
    if inspect.isfunction(found):
        try:
            found = found()
        except Exception as exc:
            raise Failure(FAILED, f"{spec}() failed: {where(exc)}") from exc
    found = getattr(found, "policy", found)
    if not isinstance(found, Policy):
        raise Failure(USAGE, f"{spec} is a {type(found).__name__}; a Policy is needed, or a function that gives one")
    return found


def _from_file(path: Path, names: Names) -> Policy:
    try:
        return Policy.from_file(path, facts=names, predicates=names)
    except PolicyError as exc:
        raise Failure(USAGE, str(exc)) from exc


@policy.command(cls=Command)
def replay(
    rules: Annotated[
        str, typer.Argument(metavar="POLICY", help="A file, or MODULE:POLICY: what would have been said by this one?")
    ],
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", help="Only from then on: 30d, 12h, or 2026-11-01.")
    ] = None,
    thread: Annotated[str | None, typer.Option("--thread", help="Only of this thread.")] = None,
    tool: Annotated[str, typer.Option("--tool", metavar="GLOB", help="Only calls of these tools.")] = "*",
    drafts: Annotated[
        str, typer.Option("--drafts", metavar="NAME", help="What the policy calls a draft to be reviewed.")
    ] = "review",
    show: Annotated[
        Literal["rejects", "changes", "all"],
        typer.Option("--show", help="Which calls to list: refused ones, all that make a difference, also saved work."),
    ] = "rejects",
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many of each kind, the newest.")] = 20,
    fail_on_rejects: Annotated[
        bool, typer.Option("--fail-on-rejects", help="Exit code 1 if it would let through what people refused.")
    ] = False,
    python: Python = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """What this policy would have asked, allowed and denied of the calls on record. Changes nothing, runs nothing.

    Judged is what is on record: a rule that looks at the graph's state or at a tool's metadata cannot be, and its calls
    count as asked.
    """
    chosen, start = load_policy(rules, Names(python)), _start(since)
    with open_ledger(db) as ledger:
        if thread is not None and queries.thread(ledger, thread) != thread:
            raise Failure(UNKNOWN, f"nothing was ever asked or run in a thread {thread!r} (its whole name is needed)")
        with _progress() as progress:
            result = replay_policy(
                ledger, chosen, since=start, thread_id=thread, tool=tool, drafts=drafts, keep=limit, progress=progress
            )
        if as_json:
            for row in _rows(result, show):
                emit(row)
        else:
            _print(ledger, result, show)
    through = result.changes["let_through"].count
    if through and fail_on_rejects:
        note(f"hitl: it would let through {through:,} that people refused")
        raise typer.Exit(FAILED)


def _start(since: str | None) -> datetime | timedelta | None:
    if since is None:
        return None
    try:
        at = datetime.fromisoformat(since.strip())
    except ValueError:
        return age_of(since)
    return at.astimezone()


@contextmanager
def _progress() -> Generator[Progress]:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeRemainingColumn())
    with shown(*columns) as tick:
        yield lambda read, total: tick(completed=read, total=total)


# --- for people ------------------------------------------------------------------------------------------------------


def _print(ledger: Ledger, result: Replay, show: str) -> None:
    out = views.console()
    start = f"Since {views.clock(result.since)}" if result.since else "In all that is on record"
    first, *rest = result.sentences()
    views.show(out, [f"{start}, {first}" if result.calls else first, *rest])
    for kind in _SHOWN[show]:
        _list(out, ledger, result, kind)
    if not result.calls:
        return
    cells = [_was(result, was) for was in WAS]
    views.show(out, ["", _numbers(out, ("WAS", "CALLS", "NOW ASKED", "ALLOWED", "DENIED", "CANNOT TELL"), cells)])
    tools = sorted(result.tools.items(), key=lambda entry: (-_moved(entry[1]), -entry[1].calls, entry[0]))
    if len(tools) > 1:
        columns = ("TOOL", "CALLS", "ASKED", "ALLOWED", "DENIED", "REFUSED, LET THROUGH", "CANNOT TELL")
        views.show(out, ["", _numbers(out, columns, [_tool(name, tally) for name, tally in tools[:_TOOLS]])])
        if len(tools) > _TOOLS:
            views.show(out, [f"... and {len(tools) - _TOOLS:,} tools more; --json has all"])
    rules = [_rule(tally) for tally in result.rules]
    if result.unmatched:
        rules.append(("no rule matches: ask", f"{result.unmatched:,}", f"{result.unmatched:,}", "-", "-", ""))
    headers = ("RULE", "MATCHED", "DECIDED", "CANNOT TELL", "FAILED", "")
    views.show(out, ["", _numbers(out, headers, rules, text=(0, 5))])


_TOOLS = 20


def _was(result: Replay, was: Was) -> tuple[str, ...]:
    row = [result.table[was, outcome] for outcome in OUTCOMES]
    return (was, f"{sum(row):,}", *(f"{number:,}" if number else "-" for number in (*row, result.untold[was])))


def _moved(tally: Tally) -> int:
    return sum(abs(tally.before[was] - tally.after[now]) for was, now in zip(WAS, OUTCOMES, strict=True))


def _tool(name: str, tally: Tally) -> tuple[str, ...]:
    def step(before: int, after: int) -> str:
        return f"{before:,}" if before == after else f"{before:,} -> {after:,}"

    return (
        views.visible(name),
        f"{tally.calls:,}",
        step(tally.before["asked"], tally.after["ask"]),
        step(tally.before["allowed"], tally.after["allow"]),
        step(tally.before["denied"], tally.after["deny"]),
        f"{tally.let_through:,}" if tally.let_through else "-",
        f"{tally.untold:,}" if tally.untold else "-",
    )


def _rule(tally: RuleTally) -> tuple[str, ...]:
    remarks = [views.visible(tally.reason)] if tally.reason else []
    if not (tally.matched or tally.untold or tally.failed):
        remarks.append("never matched")
    if tally.unseen:
        remarks.append(f"looks at {tally.unseen}, which is not on record")
    if tally.failure:
        remarks.append(views.visible(tally.failure))
    numbers = (tally.matched, tally.decided, tally.untold, tally.failed)
    return (views.visible(tally.rule), *(f"{number:,}" if number else "-" for number in numbers), "; ".join(remarks))


def _numbers(out: Console, headers: tuple[str, ...], rows: list[tuple[str, ...]], text: tuple[int, ...] = (0,)) -> Any:
    """A table whose columns of numbers are flush right."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]

    def flush(row: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cell if i in text else cell.rjust(widths[i]) for i, cell in enumerate(row))

    numbers = [i for i in range(len(headers)) if i not in text]
    return views.table(out, flush(headers), [flush(row) for row in rows], whole=numbers, main=0)


def _list(out: Console, ledger: Ledger, result: Replay, kind: Kind) -> None:
    changes = result.changes[kind]
    if not changes.count:
        return
    listed = list(changes)
    ids = queries.short_ids(ledger, [c.recorded.request_id for c in listed if c.recorded.request_id])
    cells = [
        (
            ids.get(change.recorded.request_id or "", "-"),
            views.clock(change.recorded.at),
            views.visible(change.recorded.reviewer or "-"),
            _what(change, result),
            f'"{views.visible(change.recorded.why)}"' if change.recorded.reviewer and change.recorded.why else "-",
            ": ".join(filter(None, (change.outcome, views.visible(change.reason), _ENOUGH[change.enough]))),
        )
        for change in listed
    ]
    lines: list[Any] = ["", _TITLES[kind]]
    if cells:
        lines.append(views.table(out, ("ID", "TIME", "BY", "CALL", "SAID", "NOW"), cells, whole=(0, 1), main=3))
    if changes.count > len(listed):
        lines.append(f"... and {changes.count - len(listed):,} before them; --limit shows more")
    views.show(out, lines)


def _what(change: Change, result: Replay) -> str:
    one = change.recorded
    name = "draft" if one.draft else one.tool
    if one.args is None:
        return f"{views.visible(name)}(not on record)"
    text = views.call(name, dict(one.args))
    return f"{text} -> {views.call(name, dict(one.edited))}" if one.edited is not None else text


# --- for scripts -----------------------------------------------------------------------------------------------------


def _rows(result: Replay, show: str) -> Iterable[dict[str, Any]]:
    """A line of what it comes to, then the tools, the rules and the calls."""
    at = {name: at and at.astimezone(UTC).isoformat().replace("+00:00", "Z") for name, at in
          (("since", result.since), ("until", result.until))}  # fmt: skip
    yield {
        "what": "summary",
        **at,
        "calls": result.calls,
        "sentences": result.sentences(),
        "table": {was: _counts(result, was) for was in WAS},
        "answered": dict(result.answered),
        "refused": result.refused,
        **{kind: changes.count for kind, changes in result.changes.items()},
        "unasked": {"answered": result.unasked, "refused": result.unasked_refused, "at_most": result.at_most},
        "skipped": dict(result.skipped),
    }  # fmt: skip
    for name, tally in result.tools.items():
        yield {"what": "tool", "tool": name, **_plain(tally)}
    for rule in result.rules:
        yield {"what": "rule", **_plain(rule)}
    for kind in _SHOWN[show]:
        for change in result.changes[kind]:
            one = change.recorded
            yield {
                "what": kind, "request_id": one.request_id, "thread_id": one.thread_id, "tool": one.tool,
                "args": one.args, "edited": one.edited, "at": one.at.isoformat().replace("+00:00", "Z"),
                "then": one.then, "reviewer": one.reviewer, "said": one.why,
                "outcome": change.outcome, "reason": change.reason, "enough": change.enough,
            }  # fmt: skip


def _counts(result: Replay, was: Was) -> dict[str, int]:
    return {**{now: result.table[was, now] for now in OUTCOMES}, "untold": result.untold[was]}


def _plain(tally: Tally | RuleTally) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(tally).items()}
