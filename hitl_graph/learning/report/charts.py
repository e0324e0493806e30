"""The plots of a report, each with the table that says the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite

from hitl_graph.learning.agreement import Agreement
from hitl_graph.learning.report.figures import Bin, People, Period, Sampled, Step, Threshold
from hitl_graph.learning.report.svg import Axis, Plot, linear, times
from hitl_graph.learning.report.words import count, percent, score
from hitl_graph.learning.standing import Overview
from hitl_graph.ledger.certificates import Issued

__all__ = ["Chart", "agreement", "audits", "coverage", "reliability", "saved"]

_ROWS = 12
_DAY = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Chart:
    """A plot, what it says, and the same as a table; without a plot where there is nothing to draw yet.

    Attributes:
        told: What it says, in a sentence or two.
        how: How to read it.
        svg: The plot; empty where there is none.
        head, rows: The table.
        keys: What the marks mean: a class of `report.css` and words.
    """

    title: str
    told: str
    how: str = ""
    svg: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


def reliability(one: Overview, found: Sequence[Bin], sample: Sampled, id_: str) -> Chart:
    """Is the model right more often where it is surer?"""
    name = "Is it right where it is sure?"
    if not found:
        return Chart(name, f"No labels of a random sample yet{_waiting(sample)}.")
    low, high = found[0].low, found[-1].high
    floor = min(b.at_least for b in found)
    is_share = low >= 0 and high <= 1
    x = linear(0 if is_share and low < 0.35 else low, 1 if is_share else high, "score of the model")
    y = linear(0 if floor < 0.5 else 0.5 if floor < 0.75 else 0.7, 1, "share right", percent=True)
    surest, unsurest = (percent(b.right / b.labels) for b in (found[-1], found[0]))
    labels = count(sum(b.labels for b in found), "label")
    told = f"Where it is surest, {surest} are right; where it is least sure, {unsurest} ({labels})."
    plot = Plot(name, told, id_, x, y)
    if is_share:
        start = max(x.low, y.low)
        plot.line([(start, start), (1, 1)], "guide")
    _threshold(plot, one, x)
    for b in found:
        middle, right = (b.low + b.high) / 2, b.right / b.labels
        said = f"{_span(b.low, b.high)}: {b.right} of {b.labels} right ({percent(right)})"
        plot.line([(b.low, right), (b.high, right)], "reach")
        plot.line([(middle, b.at_least), (middle, b.at_most)], "whisker")
        plot.dot(middle, right, "dot", said)
    rows = tuple(
        (_span(b.low, b.high), str(b.labels), str(b.right), percent(b.right / b.labels),
         f"{percent(b.at_least)} to {percent(b.at_most)}")
        for b in found
    )  # fmt: skip
    keys = [("dot", "share right of a bin of scores, with its 95 % interval")]
    keys += [("guide", "where a score that is a probability would lie")] if is_share else []
    how = f"The further to the right, the higher it should lie.{_of_when(sample)}"
    return Chart(
        name, told, how, plot.svg, ("score", "labels", "right", "share", "95 % interval"),
        rows, tuple(keys),
    )  # fmt: skip


def coverage(one: Overview, found: Sequence[Threshold], sample: Sampled, id_: str) -> Chart:
    """What would go without asking at each threshold, and how much of it would be wrong?"""
    name = "How much could go without asking?"
    if not found:
        return Chart(name, f"No labels of a random sample yet{_waiting(sample)}.")
    error, confidence = one.error, one.confidence or 0.9
    last = found[-1]
    top = min(1.0, max(3 * (error or 0.05), 1.3 * last.error, 0.02))
    x = linear(0, 1, "share of calls without asking", percent=True)
    plot = Plot(name, "", id_, x, linear(0, top, "of these wrong", percent=True))
    bound, seen = [(t.share, t.error_at_most) for t in found], [(t.share, t.error) for t in found]
    plot.area(bound, seen, "band")
    plot.line(bound, "bound")
    plot.line(seen, "seen")
    told = (
        f"If nobody was asked about anything, {percent(last.error)} would be wrong ({count(last.accepted, 'label')})."
    )
    stamp = "stamp" if one.standing == "valid" else "stamp ended"
    if error is not None:
        plot.line([(0, error), (1, error)], "promise")
        plot.label(0, error, f"promised: {percent(error)} at most", "note", dx=30, dy=-6)
    if one.threshold is not None and error is not None and one.labels:
        share, mistakes = one.accepted / one.labels, one.errors / max(1, one.accepted)
        verb, was = ("lets", "were") if one.standing == "valid" else ("let", "had been")
        told += f" The certificate {verb} {percent(share)} of calls go, of which {percent(mistakes)} {was} wrong in its"
        told += f" labels; {percent(error)} is promised."
        ended = "" if one.standing == "valid" else " ended"
        plot.upright(share, f"limit{ended}", f"certificate: {percent(share)} of calls")
        plot.dot(
            share, mistakes, stamp, f"from {score(one.threshold)} on: {one.errors} of {one.accepted} wrong", size=6
        )
    plot.told = told
    shown = [found[i * (len(found) - 1) // (_ROWS - 1)] for i in range(_ROWS)] if len(found) > _ROWS else found
    rows = tuple(
        (score(t.score), percent(t.share), f"{t.errors} of {t.accepted}", percent(t.error), percent(t.error_at_most))
        for t in shown
    )
    keys = [
        ("seen", "what was wrong in the labels"),
        ("bound", f"what may be wrong at most, {percent(confidence)} sure"),
    ]
    keys += [(stamp, "the certificate, when it was issued")] if one.threshold is not None else []
    how = (
        "Each point of the lines is a threshold, the strictest on the left. The bound is of each threshold by itself; a"
        f" certificate looks at many, and asks for more.{_of_when(sample)}"
    )
    head = ("from a score of", "without asking", "wrong", "share wrong", "at most")
    return Chart(name, told, how, plot.svg, head, rows, tuple(keys))


def saved(found: Sequence[Step], events: Sequence[Issued], id_: str) -> Chart:
    """How many questions were not asked."""
    name = "How many questions were saved?"
    if not found:
        return Chart(name, "No call was routed yet.")
    first, last = found[0], found[-1]
    spared = last.calls - last.asked
    told = f"{count(last.calls, 'call')}, and people were asked about {last.asked:,} of them:"
    told += f" {spared:,} questions saved ({percent(spared / last.calls)})."
    x = times(first.at, last.at, "routed, UTC")
    plot = Plot(name, told, id_, x, linear(0, last.calls, "calls", count=4))
    calls = [(step.at.timestamp(), float(step.calls)) for step in found]
    asked = [(step.at.timestamp(), float(step.asked)) for step in found]
    plot.area(calls, asked, "fill")
    plot.line(calls, "seen quiet")
    plot.line(asked, "seen")
    _events(plot, events, x)
    late = next((step for step in found if x.place(step.at.timestamp()) >= 0.86), last)
    if late.calls - late.asked > 0.1 * last.calls:
        middle = (late.calls + late.asked) / 2
        plot.label(late.at.timestamp(), middle, f"{spared:,} saved", "strong", dy=5, anchor="middle")
    shown = [found[i * (len(found) - 1) // (_ROWS - 1)] for i in range(_ROWS)] if len(found) > _ROWS else found
    rows = tuple((s.at.strftime(_DAY), f"{s.calls:,}", f"{s.asked:,}", f"{s.calls - s.asked:,}") for s in shown)
    keys = (("seen quiet", "calls in all"), ("seen", "of these asked about, audits included"), ("fill", "saved"))
    return Chart(name, told, "", plot.svg, ("until (UTC)", "calls", "asked", "saved"), rows, keys)


def audits(found: Sequence[Period], events: Sequence[Issued], id_: str) -> Chart:
    """What audits found."""
    name = "What do audits find?"
    if not found:
        return Chart(name, "Nothing was drawn for an audit yet: audits begin with the first certificate.")
    wrong, right, waits = (sum(getattr(p, kind) for p in found) for kind in ("wrong", "right", "waiting"))
    told = f"{count(wrong + right, 'audit')} answered in all, {count(wrong, 'mistake')}; {waits:,} wait."
    tallest = max(p.right + p.wrong + p.waiting for p in found)
    x = times(found[0].start, found[-1].end, "routed, UTC")
    plot = Plot(name, told, id_, x, linear(0, tallest * 1.15, "audits", count=4))
    for p in found:
        gap = (p.end - p.start).total_seconds() * 0.09
        sides = (p.start.timestamp() + gap, p.end.timestamp() - gap)
        level = 0
        for number, look, what in (
            (p.wrong, "wrong", "wrong"),
            (p.right, "right", "right"),
            (p.waiting, "waits", "wait"),
        ):
            plot.bar(sides, (level, level + number), look, f"{p.start:{_DAY}} to {p.end:{_DAY}}: {number} {what}")
            level += number
    _events(plot, events, x)
    rows = tuple((p.start.strftime(_DAY), str(p.right), str(p.wrong), str(p.waiting)) for p in found)
    keys = (("wrong", "wrong, or never answered"), ("right", "right"), ("waits", "not answered yet"))
    how = "Automatic decisions that people looked at afterwards, by when they were made."
    return Chart(name, told, how, plot.svg, ("from (UTC)", "right", "wrong", "waiting"), rows, keys)


def agreement(found: People, id_: str) -> Chart:
    """How far reviewers agree with the majority."""
    name = "Do people agree?"
    if not found.reviewers:
        return Chart(name, "Nobody has answered yet.")
    head = ("reviewer", "answers", "with others", "agreed", "share", "95 % interval")
    rows = tuple(
        (r.name, f"{r.answers:,}", str(r.shared), str(r.agreed), percent(r.agreed / r.shared) if r.shared else "-",
         f"{percent(r.at_least)} to {percent(r.at_most)}" if r.shared else "-")
        for r in found.reviewers
    )  # fmt: skip
    compared = [r for r in found.reviewers if r.shared]
    if not compared or found.alpha is None:
        text = (
            "Nobody was asked about the same call as somebody else. Unsure(double_rate=...) asks two people about some."
        )
        return Chart(name, text, head=head, rows=rows)
    told = (
        f"{count(found.shared, 'call')} with several answers. {_alpha(found.alpha)}; an answer differs from what most"
    )
    told += f" say in {percent(found.dissent or 0)} of cases."
    floor = min(r.at_least for r in compared)
    names = tuple((float(len(compared) - i), _short(r.name)) for i, r in enumerate(compared[:_ROWS]))
    x = linear(0 if floor < 0.4 else 0.4 if floor < 0.7 else 0.7, 1, "share agreeing with the majority", percent=True)
    rows_y = Axis(len(compared) - len(names) + 0.4, len(compared) + 0.6, names, "")
    plot = Plot(name, told, id_, x, rows_y, height=76 + 26 * len(names), left=104)
    for (level, _), r in zip(names, compared, strict=False):
        share = r.agreed / r.shared
        plot.line([(r.at_least, level), (r.at_most, level)], "whisker")
        plot.dot(share, level, "dot", f"{r.name}: {r.agreed} of {r.shared} ({percent(share)})")
    how = "No model can be shown to err less often than people differ from each other."
    keys = (("dot", "share of answers that the majority gave too, with its 95 % interval"),)
    return Chart(name, told, how, plot.svg, head, rows, keys)


def _threshold(plot: Plot, one: Overview, x: Axis) -> None:
    if one.threshold is not None and x.low <= one.threshold <= x.high:
        says = "without asking" if one.standing == "valid" else "was without asking"
        plot.upright(
            one.threshold,
            "limit" if one.standing == "valid" else "limit ended",
            f"from {score(one.threshold)} on {says}",
            low=True,
        )


def _events(plot: Plot, events: Sequence[Issued], x: Axis) -> None:
    """When anything became automatic, and when it ended; certificates that only replaced others are left out."""
    was_on = False
    for at, is_on in sorted(_turns(events)):
        if is_on != was_on and x.low <= at.timestamp() <= x.high:
            plot.upright(at.timestamp(), "limit" if is_on else "limit ended", "certificate" if is_on else "suspended")
        was_on = is_on


def _turns(events: Sequence[Issued]) -> list[tuple[datetime, bool]]:
    begun = [(one.issued_at, True) for one in events]
    return begun + [(one.ended_at, False) for one in events if one.ended_at is not None and one.state == "suspended"]


def _alpha(found: Agreement) -> str:
    if not isfinite(found.value):
        return "All said the same"
    return f"Krippendorff's alpha is {found.value:.2f} ({found.low:.2f} to {found.high:.2f}; 0 is chance, 1 is full)"


def _span(low: float, high: float) -> str:
    return score(low) if low == high else f"{score(low)} to {score(high)}"


def _short(name: str) -> str:
    return name if len(name) <= 13 else f"{name[:12]}…"


def _waiting(sample: Sampled) -> str:
    return f"; {count(sample.waiting, 'question')} of it still {_verb(sample.waiting)}" if sample.waiting else ""


def _of_when(sample: Sampled) -> str:
    told = " Only a random sample of calls counts here"
    told += f", of which {count(sample.waiting, 'question')} still {_verb(sample.waiting)}." if sample.waiting else "."
    if sample.since is not None:
        told += f" Labels are those since the suspension of {sample.since:{_DAY}} UTC."
    if sample.before is not None:
        told += f" Labels are from before the suspension of {sample.before:{_DAY}} UTC: since then there are too few."
    return told


def _verb(number: int) -> str:
    return "waits" if number == 1 else "wait"
