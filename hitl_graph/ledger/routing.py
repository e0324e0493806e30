"""Which calls were decided automatically, which were not because the model was unsure, and what people said of them.

A call is routed once. Rows are in the order of routing, which is the order in which labels count.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import JsonValue

from hitl_graph.ledger import audit, requests
from hitl_graph.model import Request, canonical, from_ms, is_wrong, to_ms
from hitl_graph.storage import Transaction

__all__ = [
    "Label",
    "Route",
    "Routed",
    "Source",
    "find",
    "labels",
    "learned",
    "numbered",
    "of_requests",
    "record",
    "redact",
    "remember",
    "secret",
    "sources",
]

Route = Literal["auto", "audit", "unsure"]
_AT_ONCE = 500  # ids that are looked up with one query
_COLUMNS = (
    "action_key, thread_id, name, binding, model_digest, class, tool, input, output, score, route, propensity, least,"
    " drawn, certificate, request_id, at_ms, id"
)


@dataclass(frozen=True)
class Source:
    """Of whose sureness a row, or a certificate, speaks.

    Attributes:
        name: Of the rule's `Unsure`.
        binding: Digest of its prompt and its score.
        model: Digest of the model that proposed; empty where it does not say what it is.
        group: To which group it belongs, as canonical JSON; empty where one promise is for all.
    """

    name: str
    binding: str
    model: str = ""
    group: str = ""

    def where(self) -> tuple[str, list[Any]]:
        """A WHERE clause of its rows and its certificates, and its values."""
        clause = "name = ? AND binding = ? AND model_digest = ? AND class = ?"
        return clause, [self.name, self.binding, self.model, self.group]


@dataclass(frozen=True)
class Routed:
    """A call, and the way it took.

    Attributes:
        key: Names the call, as in permits and effects.
        tool: Its name; of a draft: `deliver`.
        input: What the model had to go by; None once redacted.
        output: What it proposed: arguments, or a draft.
        score: How sure it was; None: it gave no finite number.
        route: `auto`: nobody was asked. `audit`: it ran, and people look at it all the same. `unsure`: people were
            asked.
        propensity: How probable it was that people would be asked.
        least: The smallest such probability that any call could have had then: 1 where nothing was automatic.
        drawn: From 0 to 1. Below `least`, it is one of a uniform sample of all calls.
        certificate: Id of the certificate that was in force.
        request_id: Of the audit.
        number: Where it stands in the order of routing.
        is_redacted: What it was about was removed, and so was what people said of it: it counts neither way.
    """

    key: str
    thread_id: str
    source: Source
    tool: str
    input: JsonValue
    output: JsonValue
    score: float | None
    route: Route
    propensity: float
    least: float
    drawn: float
    certificate: str | None
    request_id: str | None
    at: datetime
    number: int = 0
    is_redacted: bool = False

    @property
    def is_sample(self) -> bool:
        """Whether it was drawn uniformly of all calls, so that what people say of it may certify."""
        return self.drawn < self.least


@dataclass(frozen=True)
class Label:
    """A routed call, and the request in which people said what they think of it; None: they were not asked."""

    routed: Routed
    request: Request | None

    @property
    def is_answered(self) -> bool:
        """Whether a person decided it: a deadline does not know what is right."""
        request = self.request
        return request is not None and request.decision is not None and request.channel != "deadline"

    @property
    def wrong(self) -> bool | None:
        """Whether the model was wrong; None if nobody said."""
        decision = self.request.decision if self.request and self.is_answered else None
        return None if decision is None else is_wrong(decision, self.routed.output)

    @property
    def is_over(self) -> bool:
        """Whether nobody will say any more."""
        return self.request is not None and self.request.state not in ("pending", "decided")


def record(tx: Transaction, routed: Routed) -> Routed:
    """Store which way a call took; of two that try, the first counts. Returns what is stored."""
    source = routed.source
    inserted = tx.execute(
        "INSERT INTO hitl_routed (action_key, thread_id, name, binding, model_digest, class, tool, input, output,"
        " score, route, propensity, least, drawn, certificate, request_id, at_ms)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (action_key) DO NOTHING",
        (
            routed.key, routed.thread_id, source.name, source.binding, source.model, source.group, routed.tool,
            canonical(routed.input), canonical(routed.output), routed.score, routed.route, routed.propensity,
            routed.least, routed.drawn, routed.certificate, routed.request_id, to_ms(routed.at),
        ),
    )  # fmt: skip
    if inserted.rowcount == 1:
        body = {"name": source.name, "score": routed.score, "propensity": routed.propensity}
        event = f"routed.{routed.route}"
        audit.append(tx, to_ms(routed.at), event, routed.key, body, thread_id=routed.thread_id, actor="graph")
    return cast(Routed, find(tx, routed.key))


def find(tx: Transaction, key: str) -> Routed | None:
    """Which way a call took; None if it was not routed."""
    row = tx.execute(f"SELECT {_COLUMNS} FROM hitl_routed WHERE action_key = ?", (key,)).fetchone()
    return _routed(row) if row else None


def labels(
    tx: Transaction, where: str, parameters: Sequence[Any] = (), *, after: int = 0, limit: int = 1000
) -> list[Label]:
    """Routed calls of a WHERE clause (fixed text only), in the order of routing, with what people said of them."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_routed WHERE id > ? AND ({where}) ORDER BY id LIMIT ?",
        [after, *parameters, limit],
    ).fetchall()
    found = [_routed(row) for row in rows]
    return [label for i in range(0, len(found), _AT_ONCE) for label in _labelled(tx, found[i : i + _AT_ONCE])]


def numbered(tx: Transaction, numbers: Sequence[int]) -> list[Label]:
    """Those with these numbers, in the order of routing."""
    found = list[Label]()
    for i in range(0, len(numbers), _AT_ONCE):
        some = sorted(numbers)[i : i + _AT_ONCE]
        found += labels(tx, f"id IN ({','.join('?' * len(some))})", some)
    return found


def _labelled(tx: Transaction, found: Sequence[Routed]) -> list[Label]:
    keys = [one.key for one in found if one.route == "unsure"]
    asked = requests.for_actions(tx, keys) if keys else {}
    named = [one.request_id for one in found if one.request_id is not None]
    audits = {request.id: request for request in _by_id(tx, named)}
    return [Label(one, audits.get(one.request_id or "") or _first(asked.get(one.key, ()))) for one in found]


def of_requests(tx: Transaction, asked: Sequence[Request]) -> dict[str, Routed]:
    """The routed call that each request is about, by its id; those of which no rule wanted to know are not there."""
    keys = {request.action_key: request.id for request in asked if request.action_key is not None}
    ids = [request.id for request in asked if request.answer_shape == "audit"]
    if not keys and not ids:
        return {}
    marks = (",".join("?" * len(keys)) or "NULL", ",".join("?" * len(ids)) or "NULL")
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM hitl_routed WHERE action_key IN ({marks[0]}) OR request_id IN ({marks[1]})",
        [*keys, *ids],
    ).fetchall()
    found = [_routed(row) for row in rows]
    return {keys.get(one.key) or one.request_id or "": one for one in found}


def sources(tx: Transaction) -> list[Source]:
    """All whose sureness was asked for, the latest first."""
    rows = tx.execute(
        "SELECT name, binding, model_digest, class FROM hitl_routed GROUP BY name, binding, model_digest, class"
        " ORDER BY max(id) DESC"
    ).fetchall()
    return [Source(*row) for row in rows]


def redact(tx: Transaction, thread_id: str) -> None:
    """Remove what a thread's routed calls said."""
    tx.execute("UPDATE hitl_routed SET input = NULL, output = NULL WHERE thread_id = ?", (thread_id,))


def learned(tx: Transaction, name: str) -> Any:
    """A state that was remembered, as JSON; None if there is none."""
    row = tx.execute("SELECT value FROM hitl_learned WHERE name = ?", (name,)).fetchone()
    return json.loads(row[0]) if row else None


def remember(tx: Transaction, name: str, state: JsonValue) -> None:
    """Remember what could be computed again from the rest, or what is to stay the same."""
    tx.execute(
        "INSERT INTO hitl_learned (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, canonical(state)),
    )


def secret(tx: Transaction) -> bytes:
    """What the draws are keyed with, in this database: made when it is first needed."""
    known = learned(tx, "secret")
    if known is None:
        known = secrets.token_hex(32)
        remember(tx, "secret", known)
    return bytes.fromhex(known)


def _by_id(tx: Transaction, ids: Sequence[str]) -> list[Request]:
    return requests.select(tx, f"id IN ({','.join('?' * len(ids))})", ids) if ids else []


def _first(asked: Sequence[Request]) -> Request | None:
    """The request that a person decided, else the first: it may have been asked again."""
    asked = [request for request in asked if request.kind in ("approval", "review")]
    decided = [request for request in asked if request.decision is not None]
    return next(iter([*decided, *asked]), None)


def _routed(row: Sequence[Any]) -> Routed:
    key, thread_id, name, binding, model, group, tool, given, output, *rest, at_ms, number = row
    score, route, propensity, least, drawn, certificate, request_id = rest
    return Routed(
        key, thread_id, Source(name, binding, model, group), tool, json.loads(given) if given else None,
        json.loads(output) if output else None, score, route, propensity, least, drawn, certificate, request_id,
        from_ms(at_ms), number, output is None,
    )  # fmt: skip
