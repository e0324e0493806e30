"""Which way a call goes: without asking, without asking and audited, or to people because nothing says it is sure.

It is settled once for each call, in one transaction with the audit that it may lead to; whoever looks again gets the
same. Before anything goes without asking, audits that came in since are looked at: a certificate that they speak
against is taken back first.
"""

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from numbers import Real
from typing import Any, cast

from pydantic import JsonValue

from hitl_graph.learning.audit import draw
from hitl_graph.learning.certificate import Guarantee
from hitl_graph.learning.drift import ErrorDrift
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import Ledger, certificates, requests, routing
from hitl_graph.ledger.certificates import Issued
from hitl_graph.ledger.routing import Routed, Source
from hitl_graph.model import Action, Request, canonical, from_ms
from hitl_graph.policy import Call
from hitl_graph.steps import Steps, blocking, calling
from hitl_graph.storage import Transaction
from hitl_graph.terms import Stage, Terms

__all__ = ["TWO", "Subject", "Way", "audited", "audits_under", "route", "scored"]

TWO = Terms(stages=(Stage(quorum=2),), rejects=2)
"""Two have to agree; where they differ, a third decides."""

_EVERY, _RECENT = 100, 200  # how often scores are compared with those of the certificate, and how many of them
_NOTHING_SEEN: dict[str, Any] = {"after": 0, "ahead": [], "audits": 0, "wrong": 0, "evidence": []}
_LEVEL = 1e-6  # of a warning that scores have shifted; one looks often


@dataclass(frozen=True)
class Subject:
    """What is routed: a tool call, or a draft.

    Attributes:
        key: Names it for the ledger.
        tool: Name of the tool; `deliver` for a draft.
        output: What the model proposed: arguments, or the draft.
        input: What it had to go by, where `Unsure` does not say.
        model: Digest of the model; empty where it does not say what it is.
        schema: JSON Schema of the output.
    """

    key: str
    thread_id: str
    tool: str
    output: JsonValue
    input: JsonValue = None
    model: str = ""
    schema: dict[str, JsonValue] | None = None
    action: Action | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True)
class Way:
    """Which way it goes.

    Attributes:
        why: In words, for people.
        double: It is asked of two people.
    """

    routed: Routed
    why: str
    double: bool

    @property
    def is_automatic(self) -> bool:
        """Whether it goes without asking."""
        return self.routed.route != "unsure"


def route(unsure: Unsure, ledger: Ledger, subject: Subject, call: Call) -> Steps[Way]:
    """Settles which way a call goes, or tells how it was settled.

    Args:
        call: As the score sees it.
    """
    known: Routed | None = yield blocking(ledger.read, routing.find, subject.key)
    problem: str | None
    if known is None:
        score, problem = yield from scored(unsure, call)
        group, given, failed, missed = "", subject.input, None, None
        if unsure.group is not None:
            group, failed = yield from _told_by("group", unsure.group, call)
        if unsure.input is not None:
            told, missed = yield from _told_by("input", unsure.input, call)
            given = json.loads(told)
        if failed or missed:
            score, problem = None, failed or missed
        settle = partial(_settled, unsure=unsure, subject=replace(subject, input=given), score=score, group=group)
        known = yield blocking(ledger.note, settle, ledger.now_ms())
    elif not (yield blocking(ledger.read, _still, unsure, known)):
        known, problem = replace(known, route="unsure"), "it was routed by a rule with another prompt, score or promise"
    else:
        problem = None
    routed = cast(Routed, known)
    why, double = yield blocking(ledger.read, _told, unsure, routed)
    return Way(routed, problem or why, double)


def scored(unsure: Unsure, call: Call) -> Steps[tuple[float | None, str | None]]:
    """How sure the model is; None, and why it is not known, where that is no finite number."""
    try:
        given = yield calling(unsure.score, _own(call), in_thread=True)
        if isinstance(given, Real) and not isinstance(given, bool) and math.isfinite(number := float(given)):
            return number, None
    except Exception as exc:
        return None, f"the score is not known: {exc!r:.200}"
    return None, f"the score is no number: {given!r:.80}"


def _told_by(name: str, function: Callable[[Call], Any], call: Call) -> Steps[tuple[str, str | None]]:
    """What it says of the call, as canonical JSON; and why people are asked, if it says nothing of use."""
    try:
        return canonical((yield calling(function, _own(call)))), None
    except Exception as exc:
        return canonical(None), f"{name}= of the rule's Unsure failed, so people are asked: {exc!r:.200}"


def audited(tx: Transaction, now_ms: int, unsure: Unsure, issued: Issued) -> ErrorDrift:
    """How far the evidence of the audits goes; takes the certificate back where it is enough.

    Audits count as soon as they are answered; those nobody answered in time count as wrong. So do those of certificates
    in whose place it came: a new one does not make what was found forgotten.
    """
    name = f"drift:{issued.id}"
    state: dict[str, Any] = routing.learned(tx, name) or _NOTHING_SEEN
    guarantee = Guarantee(issued.body["error"], issued.body["confidence"])
    watch = ErrorDrift(guarantee.error, audits=state["audits"], evidence=tuple(state["evidence"]))
    late = now_ms - int(unsure.patience.total_seconds() * 1000)
    over = (
        "(at_ms <= ? OR EXISTS (SELECT 1 FROM hitl_requests q WHERE q.id = hitl_routed.request_id"
        " AND (q.decided_ms IS NOT NULL OR q.state NOT IN ('pending', 'decided'))))"
    )
    of, values = audits_under(issued)
    given = [state["after"], *values, late]
    ended = tx.execute(f"SELECT id FROM hitl_routed WHERE id > ? AND {of} AND {over} ORDER BY id", given).fetchall()
    known = set(state["ahead"])
    fresh = [number for (number,) in ended if number not in known]
    if not fresh:
        return watch
    wrong = state["wrong"]
    for label in routing.numbered(tx, fresh):
        if label.routed.is_redacted:
            continue
        watch = watch.after(label.wrong is not False)
        wrong += label.wrong is not False
    waiting = tx.execute(f"SELECT min(id) FROM hitl_routed WHERE id > ? AND {of} AND NOT {over}", given).fetchone()[0]
    after = max(*known, *fresh, 0) if waiting is None else waiting - 1
    routing.remember(
        tx, name,
        {
            "after": after, "ahead": sorted(number for number in {*known, *fresh} if number > after),
            "audits": watch.audits, "wrong": wrong, "evidence": list(watch.evidence),
        },
    )  # fmt: skip
    if watch.alarm:
        why = (
            f"audits find too many mistakes: {wrong} of {watch.audits}, and {guarantee.error:.1%} was promised."
            " Everything is asked again, until there is a new certificate"
        )
        certificates.end(tx, now_ms, issued, "suspended", why)
    return watch


def audits_under(issued: Issued) -> tuple[str, list[Any]]:
    """A WHERE clause of the audits that speak for or against a certificate, and its values."""
    line, values = certificates.line(issued)
    return f"route = 'audit' AND score >= ? AND certificate IN ({line})", [issued.threshold, *values]


def _settled(tx: Transaction, now_ms: int, unsure: Unsure, subject: Subject, score: float | None, group: str) -> Routed:
    if (known := routing.find(tx, subject.key)) is not None:
        return known
    source = Source(unsure.name, unsure.binding, subject.model, group)
    issued = _in_force(tx, now_ms, unsure, source)
    secret = unsure.secret or routing.secret(tx)
    drawn, least = draw(secret, subject.key), unsure.audit_rate if issued else 1.0
    is_sure = issued is not None and unsure.is_sure(score, issued.threshold)
    routed = Routed(
        subject.key, subject.thread_id, source, subject.tool, subject.input, subject.output, score,
        route="unsure" if not is_sure else "audit" if drawn < least else "auto",
        propensity=least if is_sure else 1.0,
        least=least,
        drawn=drawn,
        certificate=issued.id if issued else None,
        request_id=None,
        at=from_ms(now_ms),
    )  # fmt: skip
    if routed.route == "audit":
        request = _audit(unsure, subject, routed, double=_is_double(secret, unsure, subject.key))
        requests.open_request(tx, now_ms, request, checkpoint_id=None, task_id=None, parked=1)
        routed = replace(routed, request_id=request.id)
    stored = routing.record(tx, routed)
    if issued is not None and _is_time(tx, stored):
        _compare(tx, now_ms, issued)
    return stored


def _in_force(tx: Transaction, now_ms: int, unsure: Unsure, source: Source) -> Issued | None:
    issued = certificates.valid(tx, source)
    if issued is None or not _promises(issued, cast(Guarantee, unsure.guarantee)):
        return None
    return None if audited(tx, now_ms, unsure, issued).alarm else issued


def _still(tx: Transaction, unsure: Unsure, routed: Routed) -> bool:
    """Whether what was settled, before a crash perhaps, is what the rule as it is now could have settled."""
    if routed.route == "unsure":
        return True
    issued = certificates.find(tx, routed.certificate) if routed.certificate else None
    same = (routed.source.name, routed.source.binding) == (unsure.name, unsure.binding)
    return same and issued is not None and _promises(issued, cast(Guarantee, unsure.guarantee))


def _promises(issued: Issued, wanted: Guarantee) -> bool:
    """Whether a certificate promises at least what the rule wants by now."""
    return bool(issued.body["error"] <= wanted.error and issued.body["confidence"] >= wanted.confidence)


def _is_time(tx: Transaction, routed: Routed) -> bool:
    """Whether it is the first of its source in a new hundred of calls."""
    where, values = routed.source.where()
    query = f"SELECT max(id) FROM hitl_routed WHERE {where} AND id < ?"
    before = tx.execute(query, [*values, routed.number]).fetchone()[0] or 0
    return bool(routed.number // _EVERY > before // _EVERY)


def _compare(tx: Transaction, now_ms: int, issued: Issued) -> None:
    """Take a certificate back if scores do not look any more as they did when it was issued."""
    where, values = issued.source.where()
    rows = tx.execute(
        f"SELECT score FROM hitl_routed WHERE {where} AND certificate IS NOT NULL AND score IS NOT NULL"
        " ORDER BY id DESC LIMIT ?",
        [*values, _RECENT],
    ).fetchall()
    if len(rows) < _RECENT // 2 or not issued.body.get("scores") or not find_spec("scipy"):
        return
    from hitl_graph.learning.drift import shift  # scipy

    found = shift(issued.body["scores"], [row[0] for row in rows], level=_LEVEL)
    if found.shifted:
        why = (
            f"the last {len(rows)} scores do not look like those of the certificate (Kolmogorov-Smirnov"
            f" {found.distance:.2f}, p {found.p:.0e}). Everything is asked again, until there is a new certificate"
        )
        certificates.end(tx, now_ms, issued, "suspended", why)


def _audit(unsure: Unsure, subject: Subject, routed: Routed, *, double: bool) -> Request:
    terms = TWO if double else None
    if unsure.reviewers:
        stages = (Stage(reviewers=unsure.reviewers, quorum=2 if double else 1),)
        terms = Terms(stages=stages, rejects=2 if double else 1)
    return Request(
        id=sha256(f"audit\0{subject.key}".encode()).hexdigest()[:20],
        kind="review",
        thread_id=subject.thread_id,
        interrupt_id="audit",
        action=subject.action,
        draft=None if subject.action else subject.output,
        allowed=("approve", "edit", "reject"),
        labels={"approve": "it was right", "edit": "it should have been this", "reject": "it was wrong"},
        answer_schema=subject.schema,
        answer_shape="audit",
        description="This was decided automatically. Was it right? What you say keeps the promise honest.",
        reason=f"audit: decided automatically with a score of {routed.score:g}; nothing waits for your answer",
        tool_call_id=subject.tool_call_id,
        score=routed.score,
        model_digest=subject.model or None,
        route="audit",
        propensity=routed.propensity,
        reference=_reference(double),
        terms=terms,
    )


def _reference(double: bool) -> str:
    return "two who agree" if double else "one reviewer"


def _is_double(secret: bytes, unsure: Unsure, key: str) -> bool:
    return draw(secret, f"{key}\0double") < unsure.double_rate


def _told(tx: Transaction, unsure: Unsure, routed: Routed) -> tuple[str, bool]:
    """Why it goes this way, in words, and whether it is asked of two people."""
    secret = unsure.secret or (routing.secret(tx) if routing.learned(tx, "secret") else None)  # it is only read here
    double = bool(unsure.double_rate) and (secret is None or _is_double(secret, unsure, routed.key))
    shown = "none" if routed.score is None else f"{routed.score:g}"
    by_id = certificates.find(tx, routed.certificate) if routed.certificate else None
    if by_id is not None:
        then = "and that" if routed.route != "unsure" else "and only that"
        return f"the score is {shown}, {then} from {by_id.threshold:g} on is decided without asking", double
    latest = certificates.latest(tx, routed.source)
    if latest is not None and latest.state == "suspended":
        return f"nothing is decided without asking since {latest.ended_at:%Y-%m-%d %H:%M}: {latest.why}", double
    if latest is not None:
        return f"the certificate promises less than {unsure.guarantee} by now; calibrate again", double
    others = [one for one in certificates.listed(tx, unsure.name) if one.state == "valid"]
    if others:
        changed = "the model" if others[0].source.binding == unsure.binding else "the prompt or the score"
        return f"{changed} is another one than that of the certificate, so everything is asked again", double
    return f"nothing is decided without asking yet: there is no certificate (the score is {shown})", double


def _own(call: Call) -> Call:
    return replace(call, args=deepcopy(call.args))
