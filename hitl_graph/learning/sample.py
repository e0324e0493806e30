"""Which labels of a source count, and as what: the uniform sample, in the order of routing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import certificates, deciding, routing
from hitl_graph.ledger.routing import Label, Source
from hitl_graph.model import Decision, canonical, edited, to_ms
from hitl_graph.storage import Transaction

__all__ = ["Sample", "by_order", "is_late", "said", "sample", "source_of", "votes_of"]


@dataclass(frozen=True)
class Sample:
    """Labels that may certify.

    Attributes:
        scores: How sure the model was; `-inf` where it gave no number.
        wrong: Whether it was wrong; one that nobody has answered counts as wrong.
        votes: What each person said about each item.
        open: How many of them still wait for people.
        redacted: How many were redacted, and count neither way.
    """

    scores: list[float]
    wrong: list[bool]
    votes: list[list[str]]
    open: int
    redacted: int


def source_of(tx: Transaction, unsure: Unsure) -> list[Source]:
    """The sources of a rule's `Unsure` as it is now, with the model that was met last: one for each group."""
    found = [one for one in routing.sources(tx) if (one.name, one.binding) == (unsure.name, unsure.binding)]
    return [one for one in found if one.model == found[0].model]


def by_order(tx: Transaction, source: Source, *, after: int = 0, limit: int = 100_000) -> list[Label]:
    """Its rows since the last suspension, in the order of routing."""
    where, values = source.where()
    if (begun := certificates.suspended_at(tx, source)) is not None:
        where, values = f"{where} AND at_ms > ?", [*values, to_ms(begun)]
    return routing.labels(tx, where, values, after=after, limit=limit)


def sample(tx: Transaction, source: Source, *, before: datetime | None = None) -> Sample:
    """The uniform sample of a source: whatever has no label counts as wrong.

    Which questions people come to late, or not at all, may have to do with what is hard: so nothing is left out for
    that. Only a moment that was chosen without looking at the labels can end it.

    Args:
        before: Only what was routed before.
    """
    asked = [label for label in by_order(tx, source) if label.routed.is_sample and label.routed.route != "auto"]
    asked = asked if before is None else [label for label in asked if label.routed.at < before]
    rows = [label for label in asked if not label.routed.is_redacted]
    return Sample(
        [float("-inf") if one.routed.score is None else one.routed.score for one in rows],
        [one.wrong is not False for one in rows],
        votes_of(tx, rows),
        sum(one.request is not None and one.request.state == "pending" for one in rows),
        len(asked) - len(rows),
    )


def is_late(label: Label, now_ms: int, unsure: Unsure) -> bool:
    """Whether nobody will say any more, or has not in time."""
    return label.is_over or to_ms(label.routed.at) + unsure.patience.total_seconds() * 1000 <= now_ms


def votes_of(tx: Transaction, labels: Sequence[Label]) -> list[list[str]]:
    """What each person said, as far as several were asked: which answers say the same, and which do not."""
    ids = [label.request.id for label in labels if label.request is not None and label.request.terms is not None]
    votes = {key: one for i in range(0, len(ids), 500) for key, one in deciding.votes_on(tx, ids[i : i + 500]).items()}
    found = []
    for label in labels:
        cast = votes.get(label.request.id, ()) if label.request is not None else ()
        found.append([said(label.routed.output, vote.decision) for vote in cast])
    return found


def said(output: JsonValue, decision: Decision) -> str:
    """What somebody thinks is right: what was proposed, what they make of it, or `no`."""
    if decision.type == "approve":
        return canonical(output)
    return canonical(edited(decision)) if decision.type == "edit" else "no"
