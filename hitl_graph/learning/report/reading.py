"""What a report is made of, read from the database some rows at a time: each call, who said what, each certificate."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hitl_graph.learning.examples import Route
from hitl_graph.learning.sample import said
from hitl_graph.learning.standing import Overview, overview
from hitl_graph.ledger import Ledger, certificates, deciding, routing
from hitl_graph.ledger.certificates import Issued
from hitl_graph.ledger.routing import Label
from hitl_graph.storage import Transaction
from hitl_graph.voting import Vote

__all__ = ["Opinion", "Point", "Record", "read"]

_PAGE = 500
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Point:
    """A routed call, or an item of a pool.

    Attributes:
        route: `query`: it is no call, but an item of a pool that people were asked about.
        wrong: Whether the model was wrong; None if nobody said.
        over: Nobody will say any more.
        is_sample: It is one of a uniform sample of all calls, so that estimates may be made of it.
    """

    at: datetime
    score: float | None
    route: Route
    is_sample: bool
    wrong: bool | None
    over: bool


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody thinks is right about a call."""

    reviewer: str
    answer: str


@dataclass
class Record:
    """All there is about one source.

    Attributes:
        overview: How it goes.
        points: Its calls, in the order of routing.
        opinions: Of each call that people were asked about: who said what.
        certificates: Of this source, the latest first.
    """

    overview: Overview
    points: list[Point] = field(default_factory=list)
    opinions: list[list[Opinion]] = field(default_factory=list)
    certificates: list[Issued] = field(default_factory=list)


def read(ledger: Ledger, name: str | None = None, progress: Progress | None = None) -> list[Record]:
    """A record for each source, the one that was met last first.

    Args:
        name: Only those of the `Unsure` of this name.
        progress: Called now and then with how many calls are read, and of how many.
    """
    records = [Record(one) for one in ledger.read(overview, name)]
    total, done = sum(one.overview.calls + one.overview.pooled for one in records), 0
    for record in records:
        record.certificates = [
            one
            for one in ledger.read(certificates.listed, record.overview.source.name)
            if one.source == record.overview.source
        ]
        after = 0
        while rows := ledger.read(_page, record.overview, after):
            for label, votes in rows:
                record.points.append(_point(label))
                if opinions := [
                    Opinion(vote.reviewer, said(label.routed.output, vote.decision))
                    for vote in votes
                    if vote.channel != "deadline"
                ]:
                    record.opinions.append(opinions)
            after = rows[-1][0].routed.number
            done += len(rows)
            if progress is not None:
                progress(done, max(done, total))
    return records


def _page(tx: Transaction, one: Overview, after: int) -> list[tuple[Label, tuple[Vote, ...]]]:
    where, values = one.source.where()
    labels = routing.labels(tx, where, values, after=after, limit=_PAGE)
    asked = [label.request.id for label in labels if label.request is not None]
    votes = deciding.votes_on(tx, asked) if asked else {}
    return [(label, votes[label.request.id] if label.request is not None else ()) for label in labels]


def _point(label: Label) -> Point:
    one = label.routed
    route: Route = "query" if one.route == "audit" and one.certificate is None else one.route
    return Point(one.at, one.score, route, one.is_sample, label.wrong, label.is_over)
