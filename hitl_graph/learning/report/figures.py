"""The numbers behind each plot. Pure functions of what was read.

Where an error is estimated, only the uniform sample counts: what was asked because the model was unsure says nothing
about where it is sure. What nobody answered, and nobody will, counts as wrong, as it does for a certificate.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import TypeVar

from scipy.special import betaincinv

from hitl_graph.learning.agreement import Agreement, dissent, interval
from hitl_graph.learning.report.reading import Opinion, Point, Record
from hitl_graph.learning.standing import at_most

__all__ = [
    "Bin",
    "People",
    "Period",
    "Reviewer",
    "Sampled",
    "Step",
    "Threshold",
    "bins",
    "growth",
    "people",
    "periods",
    "sampled",
    "thresholds",
]

T = TypeVar("T")

_TELLING = 20  # labels since a suspension that tell more than those before it
_PER_BIN, _BINS = 15, 10
_DRAWN = 150  # points of a line
_PERIODS = 20
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Sampled:
    """Labels of the uniform sample: scores (`-inf` where there was none), and whether the model was wrong.

    Attributes:
        waiting: Questions of the sample that are not answered yet, and do not count.
        before: When a certificate was suspended, if these are from before that: since then there are too few.
        since: When, if these are from after that.
    """

    labels: tuple[tuple[float, bool], ...]
    waiting: int
    before: datetime | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Bin:
    """Labels of about the same score, and the share that was right, with a 95 % Clopper-Pearson interval."""

    low: float
    high: float
    labels: int
    right: int
    at_least: float
    at_most: float


@dataclass(frozen=True)
class Threshold:
    """What would be if nobody was asked from this score on.

    Attributes:
        share: Which share of calls would go without asking.
        error: Which share of those was wrong.
        error_at_most: With the confidence of the certificate, for this threshold by itself.
    """

    score: float
    accepted: int
    errors: int
    share: float
    error: float
    error_at_most: float


@dataclass(frozen=True)
class Step:
    """Until then so many calls came, and about so many of them people were asked, before or after."""

    at: datetime
    calls: int
    asked: int


@dataclass(frozen=True)
class Period:
    """Audits of the calls that were routed in a span of time."""

    start: datetime
    end: datetime
    right: int
    wrong: int
    waiting: int


@dataclass(frozen=True)
class Reviewer:
    """What somebody said, and how often it was what most people said who were asked about the same.

    Attributes:
        answers: How many calls they looked at.
        shared: At how many of these others looked too, and most of all said the same.
        agreed: How often theirs was that answer.
        at_least, at_most: A 95 % Clopper-Pearson interval of the share.
    """

    name: str
    answers: int
    shared: int
    agreed: int
    at_least: float
    at_most: float


@dataclass(frozen=True)
class People:
    """How far people agree.

    Attributes:
        shared: How many calls several people looked at.
        alpha: Krippendorff's; None where nothing was shared.
        dissent: How often one of them differs from the rest.
    """

    reviewers: tuple[Reviewer, ...]
    shared: int
    alpha: Agreement | None
    dissent: float | None


def sampled(record: Record) -> Sampled:
    """The labels that estimates are made of: those since the last suspension, or before it as long as these are few."""
    ended = max(
        (one.ended_at for one in record.certificates if one.state == "suspended" and one.ended_at), default=None
    )
    if ended is None:
        return _sampled(record.points)
    since = _sampled([point for point in record.points if point.at > ended])
    if len(since.labels) >= _TELLING:
        return Sampled(since.labels, since.waiting, since=ended)
    before = _sampled([point for point in record.points if point.at <= ended])
    return Sampled(before.labels, since.waiting, before=ended)


def bins(labels: Sequence[tuple[float, bool]]) -> list[Bin]:
    """Bins of about as many labels each, the lowest score first; equal scores stay together."""
    known = sorted((score, wrong) for score, wrong in labels if isfinite(score))
    if not known:
        return []
    count = max(1, min(_BINS, len(known) // _PER_BIN))
    found, start = [], 0
    for number in range(1, count + 1):
        end = max(start, len(known) * number // count)
        while 0 < end < len(known) and known[end][0] == known[end - 1][0]:
            end += 1
        if end > start:
            found.append(_bin(known[start:end]))
        start = end
    return found


def thresholds(labels: Sequence[tuple[float, bool]], confidence: float) -> list[Threshold]:
    """From the strictest threshold to the loosest: each score that occurs, or evenly some of them."""
    ordered, found, errors = sorted(labels, reverse=True), list[Threshold](), 0
    for accepted, (score, wrong) in enumerate(ordered, 1):
        errors += wrong
        is_last = accepted == len(ordered) or ordered[accepted][0] != score
        if is_last and isfinite(score):
            share, bound = accepted / len(ordered), at_most(errors, accepted, confidence)
            found.append(Threshold(score, accepted, errors, share, errors / accepted, bound))
    return _some(found)


def growth(points: Sequence[Point]) -> list[Step]:
    """How many calls came, and about how many of them people were asked, as time goes on."""
    found, asked = list[Step](), 0
    for calls, point in enumerate((point for point in points if point.route != "query"), 1):
        asked += point.route != "auto"
        found.append(Step(point.at, calls, asked))
    return _some(found)


def periods(points: Sequence[Point]) -> list[Period]:
    """Audits by when their calls were routed, in spans of the same length, the first one first."""
    audits = [point for point in points if point.route == "audit"]
    if not audits:
        return []
    start, end = audits[0].at, max(audits[-1].at, audits[0].at + timedelta(seconds=1))
    count = max(1, min(_PERIODS, len(audits) // 3))
    span, tally = (end - start) / count, [[0, 0, 0] for _ in range(count)]
    for point in audits:
        which = 2 if point.wrong is None and not point.over else 0 if point.wrong is False else 1
        tally[min(count - 1, int((point.at - start) / span))][which] += 1
    return [Period(start + i * span, start + (i + 1) * span, *three) for i, three in enumerate(tally)]


def people(opinions: Sequence[Sequence[Opinion]]) -> People:
    """Each reviewer beside the majority of all who were asked about the same; with no majority, it does not count."""
    answers, shared, agreed = Counter[str](), Counter[str](), Counter[str]()
    for row in opinions:
        answers.update(one.reviewer for one in row)
        if len(row) > 1 and (majority := _majority(row)) is not None:
            shared.update(one.reviewer for one in row)
            agreed.update(one.reviewer for one in row if one.answer == majority)
    found = [
        Reviewer(name, count, shared[name], agreed[name], *_interval(agreed[name], shared[name]))
        for name, count in sorted(answers.items(), key=lambda item: (-item[1], item[0]))
    ]
    votes = [[one.answer for one in row] for row in opinions if len(row) > 1]
    if not votes:
        return People(tuple(found), 0, None, None)
    return People(tuple(found), len(votes), interval(votes), dissent(votes))


def _sampled(points: Sequence[Point]) -> Sampled:
    rows = [point for point in points if point.is_sample and point.route != "auto"]
    kept = [point for point in rows if point.wrong is not None or point.over]
    labels = tuple((-inf if p.score is None else p.score, p.wrong is not False) for p in kept)
    return Sampled(labels, len(rows) - len(kept))


def _bin(labels: Sequence[tuple[float, bool]]) -> Bin:
    right = sum(not wrong for _, wrong in labels)
    return Bin(labels[0][0], labels[-1][0], len(labels), right, *_interval(right, len(labels)))


def _interval(right: int, labels: int) -> tuple[float, float]:
    tail = (1 - _CONFIDENCE) / 2
    low = float(betaincinv(right, labels - right + 1, tail)) if right else 0.0
    return low, at_most(right, labels, 1 - tail)


def _majority(row: Sequence[Opinion]) -> str | None:
    first, *rest = Counter(one.answer for one in row).most_common(2)
    return first[0] if not rest or first[1] > rest[0][1] else None


def _some(rows: list[T]) -> list[T]:
    """Evenly chosen, with the first and the last."""
    if len(rows) <= _DRAWN:
        return rows
    return [rows[i * (len(rows) - 1) // (_DRAWN - 1)] for i in range(_DRAWN)]
