"""What waits for people, by the page: filters, order, counts.

A filter that reads no row but an index leaves out what does not fit (see `migrations`), so that a page costs about as
much in a list of a hundred thousand as in one of a hundred.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from hitl_graph.ledger import deciding, requests, words
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer, same, selects
from hitl_graph.storage import Transaction
from hitl_graph.voting import in_hand, right

__all__ = ["Filters", "Mine", "count", "page"]

_OPEN = "state = 'pending' AND parked = 1"
_AT_ONCE = 1000  # rows that are read before it is seen whether they are enough


class Filters(TypedDict, total=False):
    """What requests have to be to be listed; all that is given has to be so, and None is as if it were not given.

    Attributes:
        kind: `approval`, `review`, `escalation` or `question`.
        thread_id: Of this thread.
        tool: The name of the tool.
        risk: `low`, `medium` or `high`.
        assignee: Whose it is now: of a person who has claimed it or to whom a vote was delegated, or of whom (a name,
            `role:finance`, `group:oncall`) the rule names, literally.
        since: Asked then or later (aware).
        before: Asked before then (aware).
        search: Words that all occur in its tool, arguments, question, draft, reason, description or thread, whatever
            their case and accents; or the beginnings of such words, or of its id.
    """

    kind: str | None
    thread_id: str | None
    tool: str | None
    risk: str | None
    assignee: str | None
    since: datetime | None
    before: datetime | None
    search: str | None


@dataclass(frozen=True)
class Mine:
    """Only what somebody may decide now.

    Attributes:
        away: Those out of office whose deputy they are.
    """

    who: Reviewer
    away: Sequence[Reviewer] = ()


def page(
    tx: Transaction,
    now: datetime,
    wanted: Filters,
    mine: Mine | None = None,
    *,
    newest_first: bool = False,
    limit: int = 50,
    after: str | None = None,
) -> list[Request]:
    """A page, in the order in which they were asked; `after` is the id of the last request of the page before.

    Raises:
        UnknownRequestError: `after` names no request.
    """
    found: list[Request] = []
    for request in _each(tx, now, wanted, mine, newest_first=newest_first, size=limit, after=after):
        found.append(request)
        if len(found) == limit:
            break
    return found


def count(tx: Transaction, now: datetime, wanted: Filters, mine: Mine | None = None, *, limit: int) -> int:
    """How many there are, `limit` at most."""
    if mine is None and not wanted.get("assignee") and not wanted.get("search"):
        where, parameters = _where(tx, wanted, None)
        rows = tx.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM hitl_requests WHERE {where} LIMIT ?) AS found", (*parameters, limit)
        )
        return int(rows.fetchone()[0])
    return len(page(tx, now, wanted, mine, limit=limit))


def _each(
    tx: Transaction, now: datetime, wanted: Filters, mine: Mine | None, *, newest_first: bool, size: int,
    after: str | None,
) -> Iterator[Request]:  # fmt: skip
    tests = list(_tests(tx, now, wanted, mine))
    where, parameters = _where(tx, wanted, mine)
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    size = min(size, _AT_ONCE)
    place: Sequence[Any] | None = requests.place(tx, after) if after is not None else None
    while True:
        further, cursor = (f" AND (created_ms, id) {beyond} (?, ?)", place) if place else ("", ())
        rows = tx.execute(
            f"SELECT created_ms, id FROM hitl_requests WHERE {where}{further}"
            f" ORDER BY created_ms {order}, id {order} LIMIT ?",
            (*parameters, *cursor, size),
        ).fetchall()
        if rows:
            found = _in_order(tx, [row[1] for row in rows])
            for test in tests:
                found = test(found)
            yield from found
            place = rows[-1]
        if len(rows) < size:
            return
        size = min(2 * size, _AT_ONCE)


def _in_order(tx: Transaction, ids: Sequence[str]) -> list[Request]:
    found = {request.id: request for request in requests.select(tx, f"id IN ({','.join('?' * len(ids))})", ids)}
    return [found[own] for own in ids]


def _where(tx: Transaction, wanted: Filters, mine: Mine | None) -> tuple[str, list[Any]]:
    """What the database itself can tell: never too little, and what is too much is left out by `_tests`."""
    parts, parameters = [_OPEN], list[Any]()
    for name in ("kind", "thread_id", "tool", "risk"):
        if (value := wanted.get(name)) is not None:
            parts.append(f"{name} = ?")
            parameters.append(value)
    for at, sign in ((wanted.get("since"), ">="), (wanted.get("before"), "<")):
        if at is not None:
            parts.append(f"created_ms {sign} ?")
            parameters.append(_ms(at))
    if mine is not None:
        people = (mine.who, *mine.away)
        named = requests.asked_of(tx, lambda selector: any(selects(selector, human) for human in people))
        parts.append(f"(reviewers IS NULL OR reviewers IN ({_marks(named)}) OR handling LIKE '%\"to\":%')")
        parameters += named
    if assignee := wanted.get("assignee"):
        named = requests.asked_of(tx, lambda selector: _is_named(assignee, selector))
        parts.append(f"(reviewers IN ({_marks(named)}) OR handling IS NOT NULL)")
        parameters += named
    return " AND ".join(parts), parameters


def _tests(
    tx: Transaction, now: datetime, wanted: Filters, mine: Mine | None
) -> Iterator[Callable[[list[Request]], list[Request]]]:
    """What it takes to read the requests to know."""
    if assignee := wanted.get("assignee"):
        yield lambda found: [request for request in found if _is_assigned(request, assignee, now)]
    if search := wanted.get("search"):
        looked_for = words.of(search)
        yield lambda found: [request for request in found if words.fits(looked_for, words.in_request(request))]
    if mine is not None:
        yield lambda found: _open_to(tx, mine, now, found)


def _open_to(tx: Transaction, mine: Mine, now: datetime, found: Sequence[Request]) -> list[Request]:
    who, votes = mine.who, deciding.votes_on(tx, [request.id for request in found]) if found else {}
    left: list[Request] = []
    for request in found:
        given = votes[request.id]
        voted = any(same(name, who.name) for v in given for name in (v.reviewer, v.behalf or v.reviewer))
        if not voted and right(request, who, mine.away, given) and not in_hand(request, given, who.name, now):
            left.append(request)
    return left


def _is_assigned(request: Request, assignee: str, now: datetime) -> bool:
    if handling := request.handling:
        claims = [claim.reviewer for claim in handling.claimed(now)]
        holders = [step.to for step in handling.given(request.stage)]
        holders = [name for name in holders if not handling.gave_away(name, request.stage)]
        if any(same(assignee, name) for name in (*claims, *holders)):
            return True
    return any(_is_named(assignee, selector) for selector in requests.asked(request))


def _is_named(assignee: str, selector: str) -> bool:
    return assignee == selector or same(assignee, selector.removeprefix("user:"))


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values)) or "NULL"


def _ms(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone; since= and before= need one")
    return round(at.timestamp() * 1000)
