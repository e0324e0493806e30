"""How it goes with what a rule decides without asking: does the promise hold, and what speaks against it?"""

from dataclasses import dataclass, field, fields
from typing import Any

from hitl_graph.learning.agreement import Agreement, dissent, interval
from hitl_graph.learning.certificate import Guarantee
from hitl_graph.learning.concluding import nothing_yet, promised
from hitl_graph.learning.drift import Shift, shift
from hitl_graph.learning.routing import audited
from hitl_graph.learning.sample import Sample, sample, source_of
from hitl_graph.learning.standing import Overview, overview
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import certificates
from hitl_graph.ledger.certificates import Issued
from hitl_graph.ledger.routing import Source
from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["Health", "health"]

_RECENT = 200  # scores that are compared with those of the certificate


@dataclass(frozen=True)
class Health(Overview):
    """An overview, and what else a rule's `Unsure` knows; `why` is in words whatever the standing is.

    Attributes:
        guarantee: What the rule promises now.
        shift: The latest scores beside those of the certificate; None where there are none.
        agreement: Krippendorff's alpha of those who were asked about the same; None where nobody was.
        dissent: How often one of them differs from the majority; None where nobody was asked with others.
    """

    guarantee: Guarantee = field(default_factory=Guarantee)
    shift: Shift | None = None
    agreement: Agreement | None = None
    dissent: float | None = None


def health(tx: Transaction, now_ms: int, unsure: Unsure) -> dict[str, Health]:
    """See `DecisionLog.health_each`; without groups, the only one has an empty name."""
    sources = source_of(tx, unsure)
    for source in sources:
        if (valid := certificates.valid(tx, source)) is not None:
            audited(tx, now_ms, unsure, valid)
    known = {one.source: one for one in overview(tx, unsure.name)}
    if sources or unsure.group is not None:
        return {source.group: _of(tx, unsure, known[source]) for source in sources}
    now, why = from_ms(now_ms), nothing_yet(unsure).why
    source = Source(unsure.name, unsure.binding)
    return {"": Health(source, True, "none", why, now, now, 0, 0, 0, guarantee=promised(unsure))}


def _of(tx: Transaction, unsure: Unsure, seen: Overview) -> Health:
    issued, labels = certificates.latest(tx, seen.source), sample(tx, seen.source)
    several = [row for row in labels.votes if len(row) > 1]
    told: dict[str, Any] = {one.name: getattr(seen, one.name) for one in fields(seen)}
    told["why"] = _why(issued, labels)
    return Health(
        **told,
        guarantee=promised(unsure),
        shift=_shifted(tx, issued) if issued is not None else None,
        agreement=interval(several) if several else None,
        dissent=dissent(several) if several else None,
    )


def _why(issued: Issued | None, labels: Sample) -> str:
    if issued is None:
        answered = len(labels.scores) - labels.open
        return f"no certificate yet: {answered} labels, {labels.open} questions wait; run calibrate or update"
    if issued.state == "valid":
        return f"scores from {issued.threshold:g} on are decided without asking"
    return issued.why or ""


def _shifted(tx: Transaction, issued: Issued) -> Shift | None:
    where, values = issued.source.where()
    rows = tx.execute(
        f"SELECT score FROM hitl_routed WHERE {where} AND certificate = ? AND score IS NOT NULL ORDER BY id DESC"
        " LIMIT ?",
        [*values, issued.id, _RECENT],
    ).fetchall()
    return shift(issued.body["scores"], [row[0] for row in rows]) if rows and issued.body["scores"] else None
