"""How it goes with everything that may be decided without asking, as far as the database alone tells. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hitl_graph.learning.drift import ErrorDrift
from hitl_graph.learning.routing import audits_under
from hitl_graph.ledger import certificates, routing
from hitl_graph.ledger.certificates import Issued, Standing
from hitl_graph.ledger.routing import Label, Source
from hitl_graph.model import from_ms
from hitl_graph.storage import Transaction

__all__ = ["Overview", "at_most", "overview", "paged"]

_PAGE = 500
_KEY = "r.name, r.binding, r.model_digest, r.class"
_ROUTE = "CASE WHEN r.route = 'audit' AND r.certificate IS NULL THEN 'query' ELSE r.route END"  # of a pool
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Overview:
    """How it goes with one source: one `Unsure`, one prompt and score, one model, one group.

    What only the rule knows is not in it: how long an audit may wait, and whether more is promised by now than the
    certificate does.

    Attributes:
        current: Whether it has the prompt, score and model that its `Unsure` was last met with.
        standing: `none`: there never was a certificate. Only under a `valid` one anything goes without asking.
        why: Why the certificate is not valid any more.
        threshold: From which score on nobody is asked; of the latest certificate, whatever became of it.
        error, confidence: What it promises.
        labels, accepted, errors: What it stands on.
        method: How it was made: `calibrate` or `update`.
        first_at, last_at: When the first and the last call were routed.
        calls: How many calls were routed in all.
        automatic: How many of these went without waiting for anybody; audits are among them.
        saved: How many of these nobody was asked about, not even afterwards.
        pooled: How many items of a pool people were asked about besides, so that there are labels.
        under: How many were routed under this certificate.
        let: How many of those went without waiting for anybody.
        audits: How many automatic decisions were drawn for an audit under this certificate, or one that it replaced.
        answered: How many of those people looked at.
        waiting: How many of those still wait.
        mistakes: How many of the answered ones were wrong.
        error_at_most: With the confidence of the certificate, the error of what is automatic is at most this, by the
            audits alone; 1 without any.
        drift: Evidence of the audits against the certificate, from 0; at 1 it is taken back before the next call.
        open: Questions that wait for people, audits among them.
        oldest: Since when the oldest of these waits.
    """

    source: Source
    current: bool
    standing: Standing | str
    why: str | None
    first_at: datetime
    last_at: datetime
    calls: int
    automatic: int
    saved: int
    pooled: int = 0
    threshold: float | None = None
    error: float | None = None
    confidence: float | None = None
    labels: int = 0
    accepted: int = 0
    errors: int = 0
    method: str | None = None
    issued_at: datetime | None = None
    ended_at: datetime | None = None
    under: int = 0
    let: int = 0
    audits: int = 0
    answered: int = 0
    waiting: int = 0
    mistakes: int = 0
    error_at_most: float = 1.0
    drift: float = 0.0
    open: int = 0
    oldest: datetime | None = None

    @property
    def share(self) -> float:
        """Which share of all calls went without waiting for anybody."""
        return self.automatic / max(1, self.calls)


def overview(tx: Transaction, name: str | None = None) -> list[Overview]:
    """Of all sources, the one that was met last first.

    Args:
        name: Only those of the `Unsure` of this name.
    """
    calls, waits = _calls(tx), _waits(tx)
    found: list[Overview] = []
    met: dict[str, Source] = {}
    for source in routing.sources(tx):
        last = met.setdefault(source.name, source)
        if name is None or source.name == name:
            current = (source.binding, source.model) == (last.binding, last.model)
            found.append(_of(tx, source, current, calls[_key(source)], waits.get(_key(source), {})))
    return found


def paged(tx: Transaction, where: str, parameters: tuple[Any, ...]) -> Iterator[Label]:
    """All labels of a WHERE clause (fixed text only), in the order of routing, some at a time."""
    after = 0
    while rows := routing.labels(tx, where, parameters, after=after, limit=_PAGE):
        yield from rows
        after = rows[-1].routed.number


def at_most(mistakes: int, labels: int, confidence: float) -> float:
    """The upper end of a one-sided Clopper-Pearson interval; 1 without labels."""
    if mistakes >= labels:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(mistakes + 1, labels - mistakes, confidence))


def _of(
    tx: Transaction, source: Source, current: bool, calls: dict[str, Any], waits: dict[str, tuple[int, int]]
) -> Overview:
    routes: dict[str, int] = dict(calls["routes"])
    pooled = routes.pop("query", 0)
    common: dict[str, Any] = {
        "source": source, "current": current, "first_at": calls["first"], "last_at": calls["last"],
        "calls": sum(routes.values()), "saved": routes.get("auto", 0),
        "automatic": routes.get("auto", 0) + routes.get("audit", 0),
        "pooled": pooled,
        "open": sum(count for count, _ in waits.values()),
        "oldest": from_ms(min(since for _, since in waits.values())) if waits else None,
    }  # fmt: skip
    issued = certificates.latest(tx, source)
    if issued is None:
        return Overview(**common, standing="none", why=None)
    where, values = audits_under(issued)
    body, audits = issued.body, list(paged(tx, where, tuple(values)))
    said = [label.wrong for label in audits if label.wrong is not None]
    under = _under(tx, issued)
    return Overview(
        **common, standing=issued.state, why=issued.why, threshold=issued.threshold,
        error=body["error"], confidence=body["confidence"], labels=body["labels"], accepted=body["accepted"],
        errors=body["errors"], method=body["method"], issued_at=issued.issued_at, ended_at=issued.ended_at,
        under=sum(under.values()), let=under.get("auto", 0) + under.get("audit", 0),
        audits=len(audits), answered=len(said), mistakes=sum(said),
        waiting=sum(label.wrong is None and not label.is_over for label in audits),
        error_at_most=at_most(sum(said), len(said), body["confidence"]), drift=_drift(tx, issued, audits),
    )  # fmt: skip


def _drift(tx: Transaction, issued: Issued, audits: list[Label]) -> float:
    """What was remembered before the last automatic decision, and what people said since."""
    state: Any = routing.learned(tx, f"drift:{issued.id}") or {"after": 0, "ahead": [], "audits": 0, "evidence": []}
    watch = ErrorDrift(issued.body["error"], audits=state["audits"], evidence=tuple(state["evidence"]))
    for label in audits:
        number = label.routed.number
        is_fresh = number > state["after"] and number not in state["ahead"]
        if is_fresh and not label.routed.is_redacted and (label.wrong is not None or label.is_over):
            watch = watch.after(label.wrong is not False)
    return 1.0 if watch.alarm else sum(watch.evidence) / len(watch.evidence) / watch.patience


def _under(tx: Transaction, issued: Issued) -> dict[str, int]:
    where, values = issued.source.where()
    rows = tx.execute(
        f"SELECT route, count(*) FROM hitl_routed WHERE {where} AND certificate = ? GROUP BY route",
        [*values, issued.id],
    )
    return dict(rows.fetchall())


def _key(source: Source) -> _Key:
    return source.name, source.binding, source.model, source.group


def _calls(tx: Transaction) -> dict[_Key, dict[str, Any]]:
    rows = tx.execute(
        f"SELECT {_KEY}, {_ROUTE}, count(*), min(r.at_ms), max(r.at_ms) FROM hitl_routed r GROUP BY {_KEY}, {_ROUTE}"
    ).fetchall()
    found: dict[_Key, dict[str, Any]] = {}
    for *key, route, count, first, last in rows:
        one = found.setdefault(_four(key), {"routes": {}, "first": from_ms(first), "last": from_ms(last)})
        one["routes"][route] = count
        one["first"], one["last"] = min(one["first"], from_ms(first)), max(one["last"], from_ms(last))
    return found


def _waits(tx: Transaction) -> dict[_Key, dict[str, tuple[int, int]]]:
    """How many questions wait, and since when, by route."""
    found: dict[_Key, dict[str, tuple[int, int]]] = {}
    for route, joined in (("unsure", "q.action_key = r.action_key"), ("audit", "q.id = r.request_id")):
        rows = tx.execute(
            f"SELECT {_KEY}, count(*), min(q.created_ms) FROM hitl_requests q JOIN hitl_routed r ON {joined}"
            f" WHERE q.state = 'pending' AND q.kind IN ('approval', 'review') AND r.route = ? GROUP BY {_KEY}",
            (route,),
        ).fetchall()
        for *key, count, since in rows:
            found.setdefault(_four(key), {})[route] = (count, since)
    return found


def _four(key: list[Any]) -> _Key:
    name, binding, model, group = key
    return name, binding, model, group
