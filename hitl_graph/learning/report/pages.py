"""The report as one HTML file: what is promised and whether it holds, in words; then the plots; then the record.

It loads nothing and runs nothing. What comes from the database is escaped.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from re import sub

from hitl_graph.learning.report import charts, figures
from hitl_graph.learning.report.charts import Chart
from hitl_graph.learning.report.reading import Record
from hitl_graph.learning.report.svg import escape
from hitl_graph.learning.report.words import count, model, percent, promise, score, title, verdict
from hitl_graph.learning.standing import Overview
from hitl_graph.ledger.certificates import Issued

__all__ = ["page"]

_AT = "%Y-%m-%d %H:%M"
_KINDS = ("watch", "gone", "open", "holds", "none")
_OPEN = 3  # sources whose plots are seen at once
_CONFIDENCE = 0.90
_SAMPLES = {
    "dot": "circle",
    "stamp": "circle",
    "stamp ended": "circle",
    "wrong": "rect",
    "right": "rect",
    "waits": "rect",
    "fill": "rect",
}
_NOTES = (
    "What is estimated is estimated from a uniform sample of calls: all of them while nothing was automatic, and since"
    " then the audits and an equal share of the other calls. What was asked because the model was unsure says nothing"
    " about where it is sure, and is left out.",
    "A promise is about calls like those that were labelled. It ends by itself when audits or scores speak against it,"
    " and with another model, prompt or score; then everything is asked.",
)
_STATES = {"valid": "in force", "suspended": "taken back", "replaced": "replaced"}


def page(records: Sequence[Record], at: datetime) -> str:
    """The file.

    Args:
        records: One for each source.
        at: When it was made.
    """
    records = sorted(records, key=_urgency)
    body = "".join(_source(number, record) for number, record in enumerate(records))
    calls = sum(record.overview.calls for record in records)
    automatic = sum(record.overview.automatic for record in records)
    told = (
        f"{count(calls, 'call')}, {automatic:,} of them decided without asking ({percent(automatic / max(1, calls))})"
    )
    if not records:
        told, body = "No call was routed by a rule with Unsure(guarantee=...) yet", ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>What is decided without asking</title>\n<style>\n{_css()}</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>What is decided without asking</h1><p class="muted">{told}. As of {at:{_AT}} UTC.</p></header>\n'
        f"{_contents(records)}{body}{_notes()}</main>\n</body>\n</html>\n"
    )


def _urgency(record: Record) -> tuple[bool, int]:
    """What is in use comes first, and of that what somebody has to look at."""
    return not record.overview.current, _KINDS.index(verdict(record.overview).kind)


def _contents(records: Sequence[Record]) -> str:
    if len(records) < 2:
        return ""
    rows = [
        (
            f'<a href="#s{number}">{escape(title(one.source))}</a>', _badge(one), f"{one.calls:,}",
            percent(one.share), escape(model(one.source) or "-"), f"{one.last_at:{_AT}}",
        )
        for number, one in enumerate(record.overview for record in records)
    ]  # fmt: skip
    return (
        '<nav class="source" aria-label="All">'
        + _table("All", ("name", "standing", "calls", "without asking", "model", "last call (UTC)"), rows)
        + "</nav>\n"
    )


def _source(number: int, record: Record) -> str:
    one, plots = record.overview, _plots(record, f"p{number}")
    drawn = f'<div class="plots">{"".join(map(_figure, plots))}</div>{_certificates(record.certificates)}'
    if number >= _OPEN:
        drawn = f"<details><summary>Plots and certificates</summary>{drawn}</details>"
    return (
        f'<section class="source" id="s{number}" aria-labelledby="h{number}">'
        f'<div class="head"><h2 id="h{number}">{escape(title(one.source))}</h2>{_badge(one)}</div>'
        f"{_lead(one)}{_facts(one)}{_of(one)}{drawn}</section>\n"
    )


def _badge(one: Overview) -> str:
    told = verdict(one)
    return f'<span class="badge {told.kind}">{escape(told.short)}</span>'


def _lead(one: Overview) -> str:
    lines = [verdict(one).sentence]
    if one.threshold is not None and one.error is not None and one.confidence is not None:
        start = f"From a score of {score(one.threshold)} on nobody {'is' if one.standing == 'valid' else 'was'} asked"
        until = "" if one.ended_at is None else f", until {one.ended_at:{_AT}} UTC"
        told = "" if one.standing == "valid" else "the promise was "
        lines.insert(0, f"{start}{until}; {told}{promise(one.error, one.confidence)}.")
    return "".join(f'<p class="lead">{_coded(line)}</p>' for line in lines)


def _coded(text: str) -> str:
    return sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _facts(one: Overview) -> str:
    shown = [
        (percent(one.let / max(1, one.under)), f"of {count(one.under, 'call')} since went without asking"),
        (f"{one.mistakes:,}", f"{'mistake' if one.mistakes == 1 else 'mistakes'} in {count(one.answered, 'audit')}"),
        (percent(one.drift), "drift; at 100 % it is taken back"),
        (f"{one.open:,}", f"{'question waits' if one.open == 1 else 'questions wait'} for people"),
    ]
    if one.issued_at is None:
        shown = [(f"{one.calls:,}", "calls, each asked about"), shown[3]]
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{escape(dt)}</dt><dd>{escape(dd)}</dd></div>" for dd, dt in shown)
        + "</dl>"
    )


def _of(one: Overview) -> str:
    told = [
        f"Model {model(one.source)}" if one.source.model else "Model not named",
        f"prompt and score {one.source.binding}",
    ]
    told += [f"{count(one.pooled, 'label')} of a pool besides"] if one.pooled else []
    told += [] if one.current else ["not in use any more: calls come with another model, prompt or score by now"]
    span = f"calls from {one.first_at:{_AT}} to {one.last_at:{_AT}} UTC"
    return f'<p class="muted small of">{escape("; ".join([*told, span]))}.</p>'


def _plots(record: Record, id_: str) -> list[Chart]:
    one, sample = record.overview, figures.sampled(record)
    curve = figures.thresholds(sample.labels, one.confidence or _CONFIDENCE)
    return [
        charts.coverage(one, curve, sample, f"{id_}c"),
        charts.reliability(one, figures.bins(sample.labels), sample, f"{id_}r"),
        charts.saved(figures.growth(record.points), record.certificates, f"{id_}s"),
        charts.audits(figures.periods(record.points), record.certificates, f"{id_}a"),
        charts.agreement(figures.people(record.opinions), f"{id_}p"),
    ]


def _figure(chart: Chart) -> str:
    keys = "".join(f"<li>{_sample(look)}{escape(text)}</li>" for look, text in chart.keys)
    keys = f'<ul class="keys">{keys}</ul>' if keys and chart.svg else ""
    table = (
        _table(chart.title, chart.head, [[escape(cell) for cell in row] for row in chart.rows]) if chart.rows else ""
    )
    if table and chart.svg:
        table = f"<details><summary>As a table</summary>{table}</details>"
    how = f'<p class="how">{escape(chart.how)}</p>' if chart.how else ""
    return (
        f"<figure><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.told)}</p></figcaption>"
        f"{chart.svg}{keys}{how}{table}</figure>"
    )


def _sample(look: str) -> str:
    """A mark as it is in the plot, for the key."""
    kind = _SAMPLES.get(look)
    shape = f'<path class="{look}" d="M1,6 H23"/>'
    if kind == "circle":
        shape = f'<circle class="{look}" cx="12" cy="6" r="5"/>'
    elif kind == "rect":
        shape = f'<rect class="{look}" x="3" y="1" width="18" height="10"/>'
    return f'<svg viewBox="0 0 24 12" aria-hidden="true">{shape}</svg>'


def _certificates(found: Sequence[Issued]) -> str:
    if not found:
        return ""
    rows = [
        (
            f"{one.issued_at:{_AT}}", escape(score(one.threshold)),
            f"{percent(one.body['error'])}, {percent(one.body['confidence'])} sure",
            f"{one.body['errors']:,} wrong in {one.body['accepted']:,}; {count(one.body['labels'], 'label')}",
            _STATES[one.state], f"{one.ended_at:{_AT}}" if one.ended_at else "-", escape(one.why or "-"),
        )
        for one in found
    ]  # fmt: skip
    head = ("issued (UTC)", "from a score of", "promised", "on labels", "now", "ended (UTC)", "why")
    return f'<div class="certificates"><h3>Certificates</h3>{_table("Certificates", head, rows, why=6)}</div>'


def _table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, why: int = -1) -> str:
    """A table that scrolls by itself where it is too wide. Cells are HTML."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        "<tr>"
        + "".join(f'<td class="why">{c}</td>' if i == why else f"<td>{c}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">{table}</div>'


def _notes() -> str:
    return "".join(['<footer class="notes">', *(f"<p>{text}</p>" for text in _NOTES), "</footer>\n"])


@cache
def _css() -> str:
    return files("hitl_graph.learning.report").joinpath("report.css").read_text("utf-8")
