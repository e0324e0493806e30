"""How it goes with what is decided without asking: does the promise hold, and what speaks against it?"""

from dataclasses import dataclass, replace
from datetime import datetime

from hitl_graph.learning.agreement import Agreement, dissent, interval
from hitl_graph.learning.certificate import Guarantee
from hitl_graph.learning.concluding import nothing_yet, promised
from hitl_graph.learning.drift import ErrorDrift, Shift, shift
from hitl_graph.learning.routing import audited
from hitl_graph.learning.sample import Sample, of, sample, source_of
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import certificates, routing
from hitl_graph.ledger.certificates import Issued, Standing
from hitl_graph.ledger.routing import Source
from hitl_graph.storage import Transaction

__all__ = ["Health", "health"]

_RECENT = 200  # scores that are compared with those of the certificate


@dataclass(frozen=True)
class Health:
    """How it goes with what one `Unsure` decides.

    Attributes:
        name: Of the `Unsure`.
        group: Canonical JSON of the group; empty where one promise is for all.
        standing: `none`: there is no certificate, or not for this model, prompt and score. `suspended`: it was taken
            back. Only under a `valid` one anything goes without asking.
        why: The same in words.
        threshold: From which score on nobody is asked, if the certificate is valid.
        labels, accepted, errors: Of the certificate.
        issued_at: When it was issued.
        calls: How many were routed in all.
        saved: How many of them nobody was asked about.
        audits: How many automatic decisions were drawn for an audit under this certificate.
        answered: How many of those were looked at.
        mistakes: How many of those were wrong.
        error_at_most: With the confidence of the guarantee, the error of what is automatic is at most this, by the
            audits alone; 1 without any.
        drift: Evidence against the certificate, from 0; at 1 it is taken back.
        shift: The latest scores beside those of the certificate; None where there are too few.
        agreement: Krippendorff's alpha of those who were asked about the same; None where nobody was.
        dissent: How often one of them differs from the majority; None where nobody was asked with others.
        open: Questions that wait for people.
    """

    name: str
    group: str
    standing: Standing | str
    why: str
    guarantee: Guarantee
    threshold: float | None = None
    labels: int = 0
    accepted: int = 0
    errors: int = 0
    issued_at: datetime | None = None
    calls: int = 0
    saved: int = 0
    audits: int = 0
    answered: int = 0
    mistakes: int = 0
    error_at_most: float = 1.0
    drift: float = 0.0
    shift: Shift | None = None
    agreement: Agreement | None = None
    dissent: float | None = None
    open: int = 0


def health(tx: Transaction, now_ms: int, unsure: Unsure) -> dict[str, Health]:
    """See `DecisionLog.health_each`; without groups, the only one has an empty name."""
    found = {source.group: _of_source(tx, now_ms, unsure, source) for source in source_of(tx, unsure)}
    if found or unsure.group is not None:
        return found
    return {"": Health(unsure.name, "", "none", nothing_yet(unsure).why, promised(unsure))}


def _of_source(tx: Transaction, now_ms: int, unsure: Unsure, source: Source) -> Health:
    before = certificates.latest(tx, source)
    drift = ErrorDrift(promised(unsure).error) if before is None else audited(tx, now_ms, unsure, before)
    issued, seen = certificates.latest(tx, source), sample(tx, source)
    where, values = of(source)
    routes = dict(
        tx.execute(f"SELECT route, count(*) FROM hitl_routed WHERE {where} GROUP BY route", values).fetchall()
    )
    found = Health(
        source.name, source.group, "none" if issued is None else issued.state,
        _why(unsure, issued, seen), promised(unsure),
        calls=sum(routes.values()), saved=routes.get("auto", 0), open=seen.open,
    )  # fmt: skip
    several = [row for row in seen.votes if len(row) > 1]
    if several:
        found = replace(found, agreement=interval(several), dissent=dissent(several))
    if issued is None:
        return found
    audits = routing.labels(tx, "certificate = ? AND route = 'audit'", (issued.id,), limit=100_000)
    answered = [label.wrong for label in audits if label.wrong is not None]
    body = issued.body
    return replace(
        found, threshold=issued.threshold, labels=body["labels"], accepted=body["accepted"], errors=body["errors"],
        issued_at=issued.issued_at, audits=len(audits), answered=len(answered), mistakes=sum(answered),
        error_at_most=_at_most(sum(answered), len(answered), promised(unsure).confidence),
        drift=min(1.0, sum(drift.evidence) / len(drift.evidence) / drift.patience), shift=_shifted(tx, issued),
    )  # fmt: skip


def _why(unsure: Unsure, issued: Issued | None, seen: Sample) -> str:
    if issued is None:
        return f"no certificate yet: {len(seen.scores)} labels, {seen.open} questions wait; run calibrate or update"
    if issued.state == "valid":
        return f"scores from {issued.threshold:g} on are decided without asking"
    return issued.why or ""


def _at_most(mistakes: int, answered: int, confidence: float) -> float:
    """The upper end of a one-sided Clopper-Pearson interval."""
    if mistakes >= answered:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(mistakes + 1, answered - mistakes, confidence))


def _shifted(tx: Transaction, issued: Issued) -> Shift | None:
    where, values = of(issued.source)
    rows = tx.execute(
        f"SELECT score FROM hitl_routed WHERE {where} AND certificate = ? AND score IS NOT NULL ORDER BY id DESC"
        " LIMIT ?",
        [*values, issued.id, _RECENT],
    ).fetchall()
    return shift(issued.body["scores"], [row[0] for row in rows]) if rows and issued.body["scores"] else None
