"""`hitl learn`: what is decided without asking, whether it keeps its promise, and leave to do so."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from hitl_graph.cli import views
from hitl_graph.cli.app import (
    FAILED,
    UNKNOWN,
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    app,
    emit,
    note,
    open_ledger,
    reviewer_name,
)
from hitl_graph.cli.database import moment_of
from hitl_graph.cli.files import writing
from hitl_graph.cli.progress import counted
from hitl_graph.cli.unsures import opened
from hitl_graph.ledger import Ledger
from hitl_graph.model import from_ms

if TYPE_CHECKING:
    from hitl_graph.learning import Certificate, NotEnough, Unsure
    from hitl_graph.learning.report import Overview

__all__: list[str] = []

learn = typer.Typer(help="What is decided without asking, and whether it keeps its promise.", no_args_is_help=True)
app.add_typer(learn, name="learn")

_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only Unsure(name=NAME).")]
_FEW = 3  # sources that are told of in words
_STYLES = {"holds": "green", "open": "", "watch": "yellow", "gone": "red", "none": "dim"}
_STANDINGS = {
    "none": "no certificate: everything is asked",
    "valid": "valid",
    "suspended": "SUSPENDED: everything is asked",
    "replaced": "replaced",
}


@learn.command(cls=Command)
def status(name: _Name = None, db: Db = "agent.db", as_json: Json = False) -> None:
    """How it goes with each rule that may go without asking: its promise, its audits, and how much waits."""
    _need_the_extra()
    with open_ledger(db) as ledger:
        found, now = _overviews(ledger, name), ledger.clock()
    if as_json:
        for one in found:
            emit(_as_json(one))
        return
    if not found:
        note("No call was routed by a rule with Unsure(guarantee=...) in this database yet.")
        return
    out = views.console()
    if name is not None or len(found) <= _FEW:
        for number, one in enumerate(found):
            views.show(out, [*([""] if number else []), *_told(one, now)])
        return
    views.show(out, [_table(out, found)])
    note("`hitl learn status --name NAME` tells of one in words.")


@learn.command(cls=Command)
def calibrate(
    ctx: typer.Context,
    unsure: Annotated[
        str,
        typer.Argument(metavar="MODULE:OBJECT", help="An Unsure, or a policy, node or graph whose rules have some."),
    ],
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="AGE", help="Only calls before that: 12h, or 2026-11-01; what is open counts as wrong."
        ),
    ] = None,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """From which score on may calls go without asking? Puts a certificate in force if people's decisions allow one.

    Exit code 1 if they do not for each of them: it then says why, and how many labels it takes. May be run again with
    more labels; all tries together mislead no more often than was promised.
    """
    _need_the_extra()
    end = None if before is None else moment_of(before)
    source = ctx.get_parameter_source("db")
    is_typed = source is not None and source.name == "COMMANDLINE"
    named = db if is_typed or (source is not None and source.name == "ENVIRONMENT") else None
    with opened(unsure, db, named, explicit=is_typed) as (found, ledger):
        done = [result for one in found for result in _calibrated(ledger, one, end, as_json)]
    if not all(done):
        raise typer.Exit(FAILED)


@learn.command(cls=Command)
def suspend(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the Unsure, as `hitl learn status` shows it.")],
    reason: Annotated[str, typer.Option("-m", "--message", "--reason", help="Why. Reviewers are told.")],
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Take its certificates back: everything is asked again, until there is a new one.

    What people said until now does not count for the next one.
    """
    _need_the_extra()
    who = reviewer_name(reviewer)
    if not reason.strip():
        raise Failure(USAGE, "say why: -m TEXT; nothing was suspended")
    from hitl_graph.learning import DecisionLog

    with open_ledger(db) as ledger:
        _overviews(ledger, name)
        count = DecisionLog(ledger).suspend(name, reason=reason, by=who)
    shown = views.visible(name)
    if not count:
        print(f"{shown} has no certificate in force; it asks about everything already, and nothing was changed.")
        return
    print(f"Suspended as {views.visible(who)}: {_certificates(count)} of {shown}. Everything is asked again.")
    note("What is running goes on. `hitl learn calibrate` issues a new one from what people say from now on.")


@learn.command(cls=Command)
def report(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; - for stdout. Replaces what is there.")
    ] = Path("report.html"),
    name: _Name = None,
    db: Db = "agent.db",
) -> None:
    """One HTML file with plots: is it right where it is sure, how much could go unasked, what audits find, who agrees.

    It needs no network. It holds names of reviewers, but nothing of what agents proposed.
    """
    _need_the_extra()
    from hitl_graph.learning.report import page, read

    with open_ledger(db) as ledger, counted("reading", "calls") as tick:
        _overviews(ledger, name)
        records, now = read(ledger, name, progress=tick), from_ms(ledger.now_ms())
    with writing(out) as write:
        write(page(records, now))
    if str(out) != "-":
        calls = sum(record.overview.calls for record in records)
        print(f"Written to {out}: {calls:,} calls of {len(records):,} {'kind' if len(records) == 1 else 'kinds'}.")


def _need_the_extra() -> None:
    if find_spec("numpy") is None or find_spec("scipy") is None:
        raise Failure(FAILED, 'hitl learn needs an extra: pip install "hitl-graph[learning]"')


def _overviews(ledger: Ledger, name: str | None) -> "list[Overview]":
    from hitl_graph.learning import DecisionLog

    found = DecisionLog(ledger).overview(name)
    if name is not None and not found:
        known = dict.fromkeys(one.source.name for one in DecisionLog(ledger).overview())
        there = f"; there are {', '.join(map(views.visible, known))}" if known else ", nor any other"
        raise Failure(UNKNOWN, f"no call was routed by an Unsure(name={name!r}) in this database{there}")
    return found


def _told(one: "Overview", now: datetime) -> Iterator[Text | str]:
    from hitl_graph.learning.report import words

    told = words.verdict(one)
    where = [
        f"model {words.model(one.source)}" if one.source.model else "",
        "" if one.current else "not in use any more",
    ]
    yield Text.assemble(
        (views.visible(words.title(one.source)), "bold"), *(f"  {views.visible(text)}" for text in where if text)
    )
    rows = [("standing", _STANDINGS[one.standing])]
    if one.threshold is not None and one.error is not None and one.confidence is not None and one.issued_at is not None:
        was = "on nobody is asked" if one.standing == "valid" else "on nobody was asked"
        ago = f"issued {views.clock(one.issued_at)} ({views.age(one.issued_at, now)} ago)"
        rows += [("from", f"a score of {words.score(one.threshold)} {was}; {ago}")]
        rows += [("promise" if one.standing == "valid" else "promised", words.promise(one.error, one.confidence))]
        labels = f"{words.count(one.labels, 'label')}, {words.count(one.errors, 'mistake')} in {one.accepted:,}"
        rows += [("made of", labels)]
    if one.ended_at is not None:
        rows += [("ended", views.clock(one.ended_at))]
    rows += [("holds?" if one.standing == "valid" else "why", views.visible(told.sentence))]
    routed = f"{one.calls:,} routed, {one.automatic:,} decided without asking ({words.percent(one.share)})"
    if one.under:
        routed += f"; {one.let:,} of {one.under:,} ({words.percent(one.let / one.under)}) under this certificate"
    rows += [("calls", routed)]
    if one.issued_at is not None:
        most = f"; at most {words.percent(one.error_at_most)} is wrong by these alone" if one.answered else ""
        audits = f"{one.answered:,} answered, {one.waiting:,} wait; {words.count(one.mistakes, 'mistake')}{most}"
        rows += [("audits", audits), ("drift", f"{words.percent(one.drift)} of the evidence that takes it back")]
    since = f", the oldest for {views.age(one.oldest, now)}" if one.oldest else ""
    rows += [("waiting", f"{words.count(one.open, 'question')}{since}")]
    yield from views.pairs(rows)


def _table(out: Console, found: "Sequence[Overview]") -> Text:
    from hitl_graph.learning.report import words

    rows = [
        (
            views.visible(one.source.name),
            views.visible(words.model(one.source) or "-"),
            views.visible(one.source.group or "-"),
            words.verdict(one).short,
            "-" if one.threshold is None else words.score(one.threshold),
            "-" if one.error is None else words.percent(one.error),
            f"{one.calls:,}",
            f"{one.automatic:,} ({words.percent(one.share)})",
            f"{one.mistakes} in {one.answered}",
            words.percent(one.error_at_most) if one.answered else "-",
            words.percent(one.drift),
            f"{one.open:,}",
        )
        for one in found
    ]
    head = (
        "NAME", "MODEL", "GROUP", "STANDING", "FROM", "PROMISED", "CALLS", "UNASKED", "WRONG", "AT MOST", "DRIFT",
        "WAIT",
    )  # fmt: skip
    return views.table(out, head, rows, whole=(4, 5, 6, 7, 8, 9, 10, 11), main=3)


def _as_json(one: "Overview") -> dict[str, Any]:
    from hitl_graph.learning.report import words

    row = {key: value for key, value in asdict(one).items() if key != "source"}
    for key, value in row.items():
        if isinstance(value, datetime):
            row[key] = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**asdict(one.source), **row, "verdict": words.verdict(one).kind, "told": words.verdict(one).sentence}


def _calibrated(ledger: Ledger, unsure: "Unsure", before: datetime | None, as_json: bool) -> list[bool]:
    """Whether there is a certificate, for each group."""
    from hitl_graph.learning import Certificate, DecisionLog, NotEnough

    log = DecisionLog(ledger)
    if unsure.group is None:
        found = {"": log.calibrate(unsure, before=before)}
    else:
        found = dict(log.calibrate_each(unsure, before=before))
    if not found and unsure.guarantee is not None:
        why = "no call was routed yet by this rule with this prompt and score: let the agent run, and people decide"
        found = {"": NotEnough(None, why, unsure.guarantee, 0)}
    in_force = {
        one.source.group: one.threshold
        for one in log.overview(unsure.name)
        if one.source.binding == unsure.binding and one.current and one.standing == "valid"
    }
    for group, result in found.items():
        _print(unsure, group, result, in_force.get(group), as_json)
    return [isinstance(result, Certificate) for result in found.values()]


def _print(
    unsure: "Unsure", group: str, result: "Certificate | NotEnough", in_force: float | None, as_json: bool
) -> None:
    from hitl_graph.learning import Certificate
    from hitl_graph.learning.report import words

    is_given = isinstance(result, Certificate)
    if as_json:
        row = {"name": unsure.name, "group": group, "certificate": is_given, **asdict(result.guarantee)}
        row |= {key: value for key, value in asdict(result).items() if key != "guarantee"}
        emit(row | ({"share": result.share} if isinstance(result, Certificate) else {}) | {"in_force": in_force})
        return
    told = words.certified(result) if isinstance(result, Certificate) else words.refused(result, in_force)
    source = views.visible(f"{unsure.name}, {group}" if group else unsure.name)
    views.show(views.console(), [Text.assemble((f"{source}: ", "bold"), views.visible(told))])


def _certificates(count: int) -> str:
    return f"{count:,} certificate{'' if count == 1 else 's'}"
