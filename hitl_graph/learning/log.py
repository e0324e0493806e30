"""`DecisionLog`: what people decided, as examples; what follows from it for what is decided automatically.

Labels are read in the order of routing, and only those of the uniform sample certify: everything that was asked while
nothing was automatic, and the audits since. What people decided before a certificate was suspended does not count
for the next one.
"""

import hashlib
import hmac
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from pydantic import JsonValue

from hitl_graph.errors import LearningError
from hitl_graph.learning.agreement import Agreement, dissent, interval
from hitl_graph.learning.certificate import Certificate, Guarantee, NotEnough
from hitl_graph.learning.certifying import certify
from hitl_graph.learning.drift import ErrorDrift, Shift, shift
from hitl_graph.learning.examples import Example, Split
from hitl_graph.learning.export import Exported, export
from hitl_graph.learning.labelling import Candidate, picked, question
from hitl_graph.learning.online import Online
from hitl_graph.learning.reading import examples
from hitl_graph.learning.report.standing import Overview, overview
from hitl_graph.learning.routing import audited
from hitl_graph.learning.sample import Sample, by_order, is_late, of, said, sample, since, source_of
from hitl_graph.learning.sequence import least
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import Ledger, certificates, requests, routing
from hitl_graph.ledger.certificates import Issued, Standing
from hitl_graph.ledger.routing import Routed, Source
from hitl_graph.model import Request, from_ms, to_ms
from hitl_graph.steps import arun, blocking
from hitl_graph.storage import Transaction

__all__ = ["DecisionLog", "Health"]

T = TypeVar("T")
Found = Certificate | NotEnough

_FIRST = 0.7  # of what may go wrong, for the first try; each later one has half of what is left
_REFERENCE = 500  # scores that are kept with a certificate
_SCOUTED = 100  # scores that say between which thresholds to look, after every label
_RECENT = 200


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


class DecisionLog:
    """Every decision of a ledger, and what is concluded from it.

    Args:
        ledger: Of the checkpointer, or the one that was given to the nodes.
        checkpointer: Of the threads, to read the messages before a call as the input of examples.
    """

    def __init__(self, ledger: Ledger, *, checkpointer: BaseCheckpointSaver[Any] | None = None) -> None:
        self.ledger = ledger
        self.checkpointer = checkpointer

    def examples(self, *, thread_id: str | None = None) -> Iterator[Example]:
        """Every approval and every review, and every automatic decision, oldest first.

        Args:
            thread_id: Only of this thread.
        """
        return examples(self.ledger, self.checkpointer, thread_id=thread_id)

    def export(
        self, format: str, path: str | os.PathLike[str], *, split: Split | None = None, overwrite: bool = False
    ) -> Exported:
        """Write what was decided into a file to train, evaluate or label with; see `hitl_graph.learning.export`.

        Raises:
            LearningError: There is no such format, its package is missing, or the file exists.
        """
        return export(self.examples(), format, path, split=split, overwrite=overwrite)

    def calibrate(self, unsure: Unsure) -> Found:
        """Looks for the lowest score from which on nobody has to be asked, and puts the certificate in force.

        May be tried again with more labels: all tries together mislead no more often than was promised, the first one
        having the largest part of it.

        Raises:
            LearningError: The promise is for each group: see `calibrate_each`. Or it has a fixed limit.
        """
        _check(unsure, grouped=False)
        return self._write(_calibrated, unsure)

    async def acalibrate(self, unsure: Unsure) -> Found:
        """As `calibrate`."""
        _check(unsure, grouped=False)
        return await self._awrite(_calibrated, unsure)

    def calibrate_each(self, unsure: Unsure) -> Mapping[str, Found]:
        """As `calibrate`, for each group of `Unsure(group=...)` that was met: by canonical JSON of the group.

        The confidence is of all groups at once.

        Raises:
            LearningError: There are no groups.
        """
        _check(unsure, grouped=True)
        return self._write(_calibrated_each, unsure)

    async def acalibrate_each(self, unsure: Unsure) -> Mapping[str, Found]:
        """As `calibrate_each`."""
        _check(unsure, grouped=True)
        return await self._awrite(_calibrated_each, unsure)

    def update(self, unsure: Unsure) -> Found:
        """Takes in what people have decided since, in the order of routing; may be called after every decision.

        The promise is about all of the time together, however often one looks. Use this or `calibrate`: each promises
        for itself.

        Raises:
            LearningError: The promise is for each group, or it has a fixed limit.
        """
        _check(unsure, grouped=False)
        return self._write(_updated, unsure)

    async def aupdate(self, unsure: Unsure) -> Found:
        """As `update`."""
        _check(unsure, grouped=False)
        return await self._awrite(_updated, unsure)

    def health(self, unsure: Unsure) -> Health:
        """How it goes; first takes the certificate back if the audits speak against it.

        Raises:
            LearningError: The promise is for each group, or it has a fixed limit.
        """
        _check(unsure, grouped=False)
        return self._write(_health, unsure)[""]

    async def ahealth(self, unsure: Unsure) -> Health:
        """As `health`."""
        _check(unsure, grouped=False)
        return (await self._awrite(_health, unsure))[""]

    def health_each(self, unsure: Unsure) -> Mapping[str, Health]:
        """As `health`, for each group that was met: by canonical JSON of the group.

        Raises:
            LearningError: There are no groups.
        """
        _check(unsure, grouped=True)
        return self._write(_health, unsure)

    async def ahealth_each(self, unsure: Unsure) -> Mapping[str, Health]:
        """As `health_each`."""
        _check(unsure, grouped=True)
        return await self._awrite(_health, unsure)

    def overview(self, name: str | None = None) -> list[Overview]:
        """How it goes with all that was routed, as far as the database tells without the rules. Changes nothing.

        Args:
            name: Only of the `Unsure` of this name.
        """
        return self.ledger.read(overview, name)

    async def aoverview(self, name: str | None = None) -> list[Overview]:
        """As `overview`."""

        def steps() -> Any:
            return (yield blocking(self.overview, name))

        found: list[Overview] = await arun(steps())
        return found

    def suspend(self, unsure: Unsure | str, *, reason: str, by: str) -> int:
        """Takes its certificates back by hand: everything is asked again. Returns how many were valid.

        Args:
            unsure: The `Unsure`, or its name.

        Raises:
            LearningError: It is not said why, or by whom.
        """
        if not reason.strip() or not by.strip():
            raise LearningError("say why, and who does it: reviewers are told; nothing was suspended")
        name = unsure if isinstance(unsure, str) else unsure.name

        def work(tx: Transaction) -> int:
            valid = [one for one in certificates.listed(tx, name) if one.state == "valid"]
            why = f"{by}: {reason}"
            return sum(certificates.end(tx, self.ledger.now_ms(), one, "suspended", why, actor=by) for one in valid)

        return self.ledger.write(work)

    def choose(
        self,
        pool: Sequence[Candidate],
        budget: int,
        *,
        topic: str = "labels",
        uniform: float = 0.2,
        reviewers: Sequence[str] = (),
        schema: dict[str, JsonValue] | None = None,
        unsure: Unsure | None = None,
        model: str | None = None,
    ) -> list[Request]:
        """Asks people about some items of a pool: most of them where the model is unsure, some at random.

        The requests are in the inbox; nothing waits for them. The same topic and pool give the same choice.

        Args:
            pool: Items without labels.
            budget: How many people look at.
            topic: What it is about, for people; another topic is another choice.
            uniform: The share of the budget that is drawn at random. Only these may certify.
            reviewers: Selectors of who is asked; anybody unless given.
            schema: JSON Schema of the outputs, for edits.
            unsure: Where the pool is a random sample of what its rule will decide: the random part then counts for its
                certificate.
            model: Name of the model, as it gives it in its messages.

        Raises:
            LearningError: Names that are not unique, or numbers that make no sense.
        """

        def work(tx: Transaction) -> list[Request]:
            now_ms, asked = self.ledger.now_ms(), list[Request]()
            secret = (unsure.secret if unsure else None) or routing.secret(tx)
            for candidate, chosen in picked(pool, budget, hmac.digest(secret, topic.encode(), "sha256"), uniform):
                request = question(topic, candidate, chosen, reviewers=reviewers, schema=schema)
                requests.open_request(tx, now_ms, request, checkpoint_id=None, task_id=None, parked=1)
                if unsure is not None and chosen.propensity is not None:
                    routing.record(tx, _sampled(unsure, candidate, request, chosen.propensity, model, now_ms))
                asked.append(request)
            return asked

        return self.ledger.write(work)

    def agreement(self) -> Agreement:
        """Krippendorff's alpha of all who were asked about the same, with a bootstrap interval.

        Approving is one answer, each different edit one of its own, and a rejection another.
        """
        votes = [_answers(one) for one in self.examples() if len(one.votes) > 1]
        return interval(votes)

    def _write(self, work: Callable[[Transaction, int, Unsure], T], unsure: Unsure) -> T:
        return self.ledger.write(work, self.ledger.now_ms(), unsure)

    async def _awrite(self, work: Callable[[Transaction, int, Unsure], T], unsure: Unsure) -> T:
        def steps() -> Any:
            return (yield blocking(partial(self._write, work, unsure)))

        found: T = await arun(steps())
        return found


def _sampled(
    unsure: Unsure, candidate: Candidate, request: Request, propensity: float, model: str | None, now_ms: int
) -> Routed:
    score = candidate.score
    return Routed(
        hashlib.sha256(f"label\0{request.id}".encode()).hexdigest()[:32], request.thread_id,
        Source(unsure.name, unsure.binding, "" if model is None else hashlib.sha256(model.encode()).hexdigest()),
        "label", candidate.input, candidate.output, score if math.isfinite(score) else None,
        route="audit", propensity=propensity, least=propensity, drawn=0.0, certificate=None, request_id=request.id,
        at=from_ms(now_ms),
    )  # fmt: skip


def _check(unsure: Unsure, *, grouped: bool) -> None:
    if unsure.guarantee is None:
        raise LearningError(f"{unsure.told} has a fixed limit, below={unsure.below}: give it a guarantee= instead")
    if not grouped and unsure.group is not None:
        raise LearningError(f"{unsure.told} promises something for each group: use calibrate_each, health_each")
    if grouped and unsure.group is None:
        raise LearningError(f"{unsure.told} has no groups: give it group=, or use calibrate")


def _calibrated(tx: Transaction, now_ms: int, unsure: Unsure) -> Found:
    sources = source_of(tx, unsure)
    if not sources:
        return _nothing_yet(unsure)
    return _tried(tx, now_ms, unsure, sources[0], _promised(unsure))


def _calibrated_each(tx: Transaction, now_ms: int, unsure: Unsure) -> dict[str, Found]:
    sources, asked = source_of(tx, unsure), _promised(unsure)
    each = Guarantee(asked.error, 1 - (1 - asked.confidence) / max(1, len(sources)))
    return {one.group: _tried(tx, now_ms, unsure, one, each) for one in sources}


def _promised(unsure: Unsure) -> Guarantee:
    assert unsure.guarantee is not None
    return unsure.guarantee


def _nothing_yet(unsure: Unsure) -> NotEnough:
    asked = _promised(unsure)
    needed = least(1, asked.error, (1 - asked.confidence) / 2)
    why = "no call was routed yet by this rule with this prompt and score: let the agent run, and people decide"
    return NotEnough(needed, why, asked, 0)


def _tried(tx: Transaction, now_ms: int, unsure: Unsure, source: Source, asked: Guarantee) -> Found:
    """One try, at its part of the level. With the labels of the last one it is the same try."""
    found = sample(tx, now_ms, unsure, source)
    name = f"tries:{_name(tx, source)}"
    before = routing.learned(tx, name) or {"tries": 0, "labels": 0}
    tries = before["tries"] + (len(found.scores) > before["labels"])
    part = _FIRST if tries <= 1 else (1 - _FIRST) * 0.5 ** (tries - 1)
    level = (1 - asked.confidence) * part
    if len(found.scores) < least(0, asked.error, level):  # nothing could be concluded, so nothing was looked at
        result = certify(found.scores, [False] * len(found.scores), Guarantee(asked.error, 1 - level))
    else:
        votes = found.votes if any(len(row) > 1 for row in found.votes) else None
        result = certify(found.scores, found.wrong, Guarantee(asked.error, 1 - level), votes=votes)
        routing.remember(tx, name, {"tries": tries, "labels": len(found.scores)})
    if isinstance(result, NotEnough):
        waiting = f"; {found.open} questions still wait for people" if found.open else ""
        return replace(result, guarantee=asked, why=f"{result.why}{waiting}")
    result = replace(result, guarantee=asked)
    _issue(tx, now_ms, source, result, "calibrate", found.scores)
    return result


def _issue(
    tx: Transaction, now_ms: int, source: Source, certificate: Certificate, method: str, scores: list[float]
) -> None:
    finite = sorted(score for score in scores if math.isfinite(score))
    kept: list[JsonValue] = [finite[i * len(finite) // _REFERENCE] for i in range(_REFERENCE)] if finite else []
    body: dict[str, JsonValue] = {
        "method": method, "error": certificate.guarantee.error, "confidence": certificate.guarantee.confidence,
        "labels": certificate.labels, "accepted": certificate.accepted, "errors": certificate.errors,
        "scores": kept if len(finite) > _REFERENCE else list(finite),
    }  # fmt: skip
    valid = certificates.valid(tx, source)
    if valid is None or (valid.threshold, valid.body) != (certificate.threshold, body):
        certificates.issue(tx, now_ms, source, certificate.threshold, body)


def _name(tx: Transaction, source: Source) -> str:
    """Of a source, since its last suspension."""
    begun = since(tx, source)
    since_ms = 0 if begun is None else to_ms(begun)
    return "|".join([source.name, source.binding, source.model, source.group, str(since_ms)])


def _updated(tx: Transaction, now_ms: int, unsure: Unsure) -> Found:
    sources, asked = source_of(tx, unsure), _promised(unsure)
    if not sources:
        return _nothing_yet(unsure)
    source = sources[0]
    if (valid := certificates.valid(tx, source)) is not None:
        audited(tx, now_ms, unsure, valid)
    name = f"online:{_name(tx, source)}|{asked.error}|{asked.confidence}"
    state: dict[str, Any] | None = routing.learned(tx, name)
    if state is None:
        scouted = [label.routed.score for label in by_order(tx, source, limit=_SCOUTED)]
        scores = [score for score in scouted if score is not None]
        if len(scouted) < _SCOUTED or not scores:
            why = f"{len(scouted)} calls were routed: after {_SCOUTED} it is known between which scores to look"
            return NotEnough(max(_SCOUTED, least(1, asked.error, (1 - asked.confidence) / 2)), why, asked, 0)
        state = {"after": 0, "stream": Online(scores, asked, rate=unsure.audit_rate).state()}
    stream, after = Online.restored(state["stream"]), state["after"]
    for label in by_order(tx, source, after=after):
        if label.routed.route != "auto":
            if label.wrong is None and not is_late(label, now_ms, unsure):
                break
            score = -math.inf if label.routed.score is None else label.routed.score
            stream.update(score, label.wrong is not False, label.routed.propensity, least=label.routed.least)
        after = label.routed.number
    routing.remember(tx, name, {**state, "after": after, "stream": stream.state()})
    if stream.threshold is None:
        why = f"{stream.labels} labels do not show an error of {asked.error:.1%} yet; people are asked"
        return NotEnough(None, why, asked, stream.labels)
    seen = sample(tx, now_ms, unsure, source)
    above = [wrong for score, wrong in zip(seen.scores, seen.wrong, strict=True) if score >= stream.threshold]
    certificate = Certificate(stream.threshold, asked, len(seen.scores), len(above), sum(above))
    valid = certificates.valid(tx, source)
    if valid is None or valid.body["method"] != "update" or valid.threshold != stream.threshold:
        _issue(tx, now_ms, source, certificate, "update", seen.scores)
    return certificate


def _health(tx: Transaction, now_ms: int, unsure: Unsure) -> dict[str, Health]:
    found = {source.group: _of_source(tx, now_ms, unsure, source) for source in source_of(tx, unsure)}
    if found or unsure.group is not None:
        return found
    return {"": Health(unsure.name, "", "none", _nothing_yet(unsure).why, _promised(unsure))}


def _of_source(tx: Transaction, now_ms: int, unsure: Unsure, source: Source) -> Health:
    before = certificates.latest(tx, source)
    drift = ErrorDrift(_promised(unsure).error) if before is None else audited(tx, now_ms, unsure, before)
    issued, seen = certificates.latest(tx, source), sample(tx, now_ms, unsure, source)
    where, values = of(source)
    routes = dict(
        tx.execute(f"SELECT route, count(*) FROM hitl_routed WHERE {where} GROUP BY route", values).fetchall()
    )
    found = Health(
        source.name, source.group, "none" if issued is None else issued.state,
        _why(unsure, issued, seen), _promised(unsure),
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
        error_at_most=_at_most(sum(answered), len(answered), _promised(unsure).confidence),
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


def _answers(example: Example) -> list[str]:
    return [said(example.output, vote.decision) for vote in example.votes]
