"""What is concluded from people's decisions: a certificate, or how many labels are missing. Transactions."""

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from hitl_graph.learning.certificate import Certificate, Guarantee, NotEnough
from hitl_graph.learning.certifying import certify
from hitl_graph.learning.online import Online
from hitl_graph.learning.routing import audited
from hitl_graph.learning.sample import by_order, is_late, sample, source_of
from hitl_graph.learning.sequence import least
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import certificates, routing
from hitl_graph.ledger.routing import Source
from hitl_graph.model import to_ms
from hitl_graph.storage import Transaction

__all__ = ["Found", "calibrated", "calibrated_each", "nothing_yet", "promised", "updated"]

Found = Certificate | NotEnough

_FIRST = 0.7  # of what may go wrong, for the first try; each later one has half of what is left
_REFERENCE = 500  # scores that are kept with a certificate
_SCOUTED = 100  # scores that say between which thresholds to look, after every label


def calibrated(tx: Transaction, now_ms: int, unsure: Unsure, before: datetime | None = None) -> Found:
    """See `DecisionLog.calibrate`."""
    sources = source_of(tx, unsure)
    if not sources:
        return nothing_yet(unsure)
    return _tried(tx, now_ms, sources[0], promised(unsure), before)


def calibrated_each(tx: Transaction, now_ms: int, unsure: Unsure, before: datetime | None = None) -> dict[str, Found]:
    """See `DecisionLog.calibrate_each`."""
    sources, asked = source_of(tx, unsure), promised(unsure)
    level, parts = 1 - asked.confidence, _parts(tx, unsure, sources, asked)
    return {
        one.group: _tried(tx, now_ms, one, Guarantee(asked.error, 1 - level * parts[one.group]), before)
        for one in sources
    }


def _parts(tx: Transaction, unsure: Unsure, sources: list[Source], asked: Guarantee) -> dict[str, float]:
    """Which part of what may go wrong each group has. It keeps it, whatever groups come later.

    The first that have calls enough to show anything share nine tenths; those that have later share half of what is
    left, each time. What the others are told to need is of as large a part as they would get now.
    """
    if not sources:
        return {}
    name = "|".join(["groups", unsure.name, unsure.binding, sources[0].model])
    parts: dict[str, float] = routing.learned(tx, name) or {}
    fewest = least(0, asked.error, 1 - asked.confidence)
    fresh = [one.group for one in sources if one.group not in parts]
    ready = [one.group for one in sources if one.group in fresh and _calls(tx, one) >= fewest]
    share = (0.5 if parts else 0.9) * (1 - sum(parts.values()))
    if ready:
        parts |= dict.fromkeys(ready, share / len(ready))
        routing.remember(tx, name, dict(parts))
    return {one: share / len(fresh) for one in fresh} | parts


def _calls(tx: Transaction, source: Source) -> int:
    where, values = source.where()
    return int(tx.execute(f"SELECT count(*) FROM hitl_routed WHERE {where}", values).fetchone()[0])


def promised(unsure: Unsure) -> Guarantee:
    """The guarantee of one that has no fixed limit."""
    assert unsure.guarantee is not None
    return unsure.guarantee


def nothing_yet(unsure: Unsure) -> NotEnough:
    """The answer where nothing was routed yet."""
    asked = promised(unsure)
    needed = least(1, asked.error, (1 - asked.confidence) / 2)
    why = "no call was routed yet by this rule with this prompt and score: let the agent run, and people decide"
    return NotEnough(needed, why, asked, 0)


def _tried(tx: Transaction, now_ms: int, source: Source, asked: Guarantee, before: datetime | None) -> Found:
    """One try, at its part of the level. With as many calls as another, and as many redacted, it is the same."""
    found = sample(tx, source, before=before)
    name, size = f"tries:{_name(tx, source)}", len(found.scores)
    tries: list[JsonValue] = routing.learned(tx, name) or []
    this = f"{size}, {found.redacted}"
    number = tries.index(this) if this in tries else len(tries)
    part = _FIRST if number == 0 else (1 - _FIRST) * 0.5**number
    level = (1 - asked.confidence) * part
    if size < least(0, asked.error, level):  # nothing could be concluded, so nothing was looked at
        result = certify(found.scores, [False] * size, Guarantee(asked.error, 1 - level))
    else:
        votes = found.votes if any(len(row) > 1 for row in found.votes) else None
        result = certify(found.scores, found.wrong, Guarantee(asked.error, 1 - level), votes=votes)
        routing.remember(tx, name, [*tries[:number], this, *tries[number + 1 :]])
    if isinstance(result, NotEnough):
        waiting = f"; {found.open} questions wait for people, and count as wrong until then" if found.open else ""
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
    begun = certificates.suspended_at(tx, source)
    since_ms = 0 if begun is None else to_ms(begun)
    return "|".join([source.name, source.binding, source.model, source.group, str(since_ms)])


def updated(tx: Transaction, now_ms: int, unsure: Unsure) -> Found:
    """See `DecisionLog.update`."""
    sources, asked = source_of(tx, unsure), promised(unsure)
    if not sources:
        return nothing_yet(unsure)
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
        if label.routed.route != "auto" and not label.routed.is_redacted:
            if label.wrong is None and not is_late(label, now_ms, unsure):
                break
            score = -math.inf if label.routed.score is None else label.routed.score
            stream.update(score, label.wrong is not False, label.routed.propensity, least=label.routed.least)
        after = label.routed.number
    routing.remember(tx, name, {**state, "after": after, "stream": stream.state()})
    if stream.threshold is None:
        why = f"{stream.labels} labels do not show an error of {asked.error:.1%} yet; people are asked"
        return NotEnough(None, why, asked, stream.labels)
    valid = certificates.valid(tx, source)
    if valid is not None and valid.body["method"] == "update" and valid.threshold == stream.threshold:
        body = valid.body
        return Certificate(stream.threshold, asked, body["labels"], body["accepted"], body["errors"])
    seen = sample(tx, source)
    above = [wrong for score, wrong in zip(seen.scores, seen.wrong, strict=True) if score >= stream.threshold]
    certificate = Certificate(stream.threshold, asked, len(seen.scores), len(above), sum(above))
    _issue(tx, now_ms, source, certificate, "update", seen.scores)
    return certificate
