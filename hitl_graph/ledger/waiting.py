"""What waits for people, by the page: filters, order, counts.

A filter that reads no row but an index leaves out what does not fit (see `migrations`), so that a page costs about as
much in a list of a hundred thousand as in one of a hundred.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any, TypedDict

from hitl_graph.ledger import deciding, requests, words
from hitl_graph.model import Request, to_ms
from hitl_graph.reviewers import Reviewer, same, selects
from hitl_graph.storage import Transaction
from hitl_graph.voting import in_hand, right

__all__ = ["Facets", "Filters", "Mine", "count", "facets", "page"]

_OPEN = "state = 'pending' AND parked = 1"
_HANDLED = "handling IS NOT NULL"
_HANDLED_ROWS = "hitl_requests INDEXED BY hitl_requests_handled"  # SQLite believes one index as good as the other
_RARE = "id IN (SELECT request FROM hitl_words WHERE words @@ CAST(? AS tsquery) OFFSET 0)"
_COMMON = "(SELECT words @@ CAST(? AS tsquery) FROM hitl_words WHERE request = id)"  # asked of one row after the other
_FARTHEST = (2**63 - 1) >> words.TIES  # milliseconds whose place in the index is still an integer of SQLite
_AT_ONCE = 1000  # rows that are read before it is seen whether they are enough


class Filters(TypedDict, total=False):
    """What requests have to be to be listed; all that is given has to be so, and None is as if it were not given.

    Attributes:
        kind: `approval`, `review`, `escalation` or `question`.
        thread_id: Of this thread.
        tool: The name of the tool.
        risk: `low`, `medium` or `high`.
        route: How it came to people: `policy`, a rule says so; `unsure`, the model was; `audit`, it was decided
            automatically; `query`, people are to teach the model.
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
    route: str | None
    assignee: str | None
    since: datetime | None
    before: datetime | None
    search: str | None


@dataclass(frozen=True)
class Facets:
    """What there is to filter by: kinds, tools and risks of what waits, each with how many there are."""

    kinds: dict[str, int]
    tools: dict[str, int]
    risks: dict[str, int]


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
    if mine is None and not wanted.get("assignee"):
        found = _query(tx, wanted, None, newest_first=False, after=None)
        sql, parameters = found.sql(limit, "1")
        return int(tx.execute(f"SELECT count(*) FROM ({sql}) AS found", parameters).fetchone()[0])
    return len(page(tx, now, wanted, mine, limit=limit))


def facets(tx: Transaction, mine: Mine | None = None, *, limit: int) -> Facets:
    """What kinds, tools and risks there are of what waits.

    Args:
        limit: Of what is asked of somebody, how many are looked at; of all, there is an index.
    """
    sql, parameters = f"SELECT kind, tool, risk FROM hitl_requests WHERE {_OPEN}", list[Any]()
    if mine is not None:
        query = _query(tx, {}, mine, newest_first=False, after=None)
        sql, parameters = query.sql(limit, "created_ms, id, kind, tool, risk")
    kinds, tools, risks = dict[str, int](), dict[str, int](), dict[str, int]()
    for kind, tool, risk, number in tx.execute(
        f"SELECT kind, tool, risk, count(*) FROM ({sql}) AS found GROUP BY kind, risk, tool", parameters
    ):
        for found, name in ((kinds, kind), (tools, tool), (risks, risk)):
            if name is not None:
                found[name] = found.get(name, 0) + number
    return Facets(*(dict(sorted(found.items())) for found in (kinds, tools, risks)))


def _each(
    tx: Transaction, now: datetime, wanted: Filters, mine: Mine | None, *, newest_first: bool, size: int,
    after: str | None,
) -> Iterator[Request]:  # fmt: skip
    size = min(size, _AT_ONCE)
    place: Sequence[Any] | None = requests.place(tx, after) if after is not None else None
    while True:
        sql, parameters = _query(tx, wanted, mine, newest_first=newest_first, after=place).sql(size)
        rows = tx.execute(sql, parameters).fetchall()
        if rows:
            found = _in_order(tx, [row[1] for row in rows])
            if assignee := wanted.get("assignee"):
                found = [request for request in found if _is_assigned(request, assignee, now)]
            yield from found if mine is None else _open_to(tx, mine, now, found)
            place = rows[-1]
        if len(rows) < size:
            return
        size = min(2 * size, _AT_ONCE)


def _in_order(tx: Transaction, ids: Sequence[str]) -> list[Request]:
    found = {request.id: request for request in requests.select(tx, f"id IN ({','.join('?' * len(ids))})", ids)}
    return [found[own] for own in ids]


@dataclass
class _Query:
    """Where the requests are, as far as the database itself can tell: never too few of them.

    Attributes:
        where: Conditions that all hold.
        either: Groups of conditions of which one each holds.
        source, order: Tables, and columns by which the rows are in the order of the list.
    """

    where: list[str]
    parameters: list[Any]
    order: str
    source: str = "hitl_requests"
    is_sqlite: bool = False
    either: list[list[tuple[str, list[Any]]]] = field(default_factory=list)

    def sql(self, limit: int, columns: str = "created_ms, id") -> tuple[str, list[Any]]:
        """One query a choice, each along an index, and what they give as one list."""
        if self.source != "hitl_requests":  # one index leads already
            return self._one(limit, columns)
        queries, parameters = list[str](), list[Any]()
        order = f" ORDER BY {self.order}"
        for choice in product(*self.either):
            where = " AND ".join([*self.where, *(condition for condition, _ in choice)])
            along = _HANDLED_ROWS if self.is_sqlite and _HANDLED in where else self.source
            queries.append(f"SELECT {columns} FROM {along} WHERE {where}{order} LIMIT ?")
            parameters += [*self.parameters, *(value for _, values in choice for value in values), limit]
        if len(queries) == 1:
            return queries[0], parameters
        union = " UNION ".join(f"SELECT * FROM ({query}) AS q{number}" for number, query in enumerate(queries))
        return f"{union}{order} LIMIT ?", [*parameters, limit]

    def _one(self, limit: int, columns: str) -> tuple[str, list[Any]]:
        parts, parameters = [*self.where], [*self.parameters]
        for group in self.either:
            parts.append(f"({' OR '.join(condition for condition, _ in group)})")
            parameters += [value for _, values in group for value in values]
        where = f"{' AND '.join(parts)} ORDER BY {self.order}"
        return f"SELECT {columns} FROM {self.source} WHERE {where} LIMIT ?", [*parameters, limit]


def _query(
    tx: Transaction, wanted: Filters, mine: Mine | None, *, newest_first: bool, after: Sequence[Any] | None
) -> _Query:
    way, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    query = _Query([_OPEN], [], f"created_ms {way}, id {way}", is_sqlite=tx.dialect == "sqlite")
    walk = "+" if tx.dialect == "sqlite" else ""  # along the list: not by another index, to sort what it gives
    for name, column in (
        ("kind", f"{walk}kind"), ("thread_id",) * 2, ("tool", f"{walk}tool"), ("risk", f"{walk}risk"),
        ("route", f"{walk}route"),
    ):  # fmt: skip
        if (value := wanted.get(name)) is not None:
            query.where.append(f"{column} = ?")
            query.parameters.append(value)
    for at, sign in ((wanted.get("since"), ">="), (wanted.get("before"), "<")):
        if at is not None:
            query.where.append(f"created_ms {sign} ?")
            query.parameters.append(_ms(at))
    if mine is not None:
        people = (mine.who, *mine.away)
        named = requests.asked_of(tx, lambda selector: any(selects(selector, human) for human in people))
        given = (f"{_HANDLED} AND handling LIKE '%\"to\":%'", list[Any]())
        query.either.append([(f"({walk}reviewers IS NULL OR {walk}reviewers IN ({_marks(named)}))", [*named]), given])
    if assignee := wanted.get("assignee"):
        named = requests.asked_of(tx, lambda selector: _is_named(assignee, selector))
        query.either.append([(f"{walk}reviewers IN ({_marks(named)})", [*named]), (_HANDLED, [])])
    search = wanted.get("search") or ""
    if (looked_for := words.of(search)) and tx.dialect == "sqlite":
        _lead(tx, query, wanted, looked_for, beyond, way, after)
        return query
    if after is not None:
        query.where.append(f"(created_ms, id) {beyond} (?, ?)")
        query.parameters += after
    if looked_for:
        asked = words.query(tx, looked_for)
        query.where.append(_COMMON if words.are_common(tx, asked) else _RARE)
        query.parameters.append(asked)
    elif search.strip():
        query.where.append("1 = 0")
    return query


def _lead(
    tx: Transaction, query: _Query, wanted: Filters, looked_for: Sequence[str], beyond: str, way: str,
    after: Sequence[Any] | None,
) -> None:  # fmt: skip
    """Let the index of words lead, which on SQLite is in the order of the list."""
    query.source, query.order = "hitl_words CROSS JOIN hitl_requests ON id = request", f"hitl_words.rowid {way}"
    query.where.append("hitl_words MATCH ?")
    marks = words.marks(wanted.get("kind"), wanted.get("tool"), wanted.get("risk"), wanted.get("thread_id"))
    query.parameters.append(words.query(tx, looked_for, marks))
    bounds = [
        (at and max(-_FARTHEST, min(to_ms(at), _FARTHEST)) << words.TIES, sign)
        for at, sign in ((wanted.get("since"), ">="), (wanted.get("before"), "<"))
    ]
    for place, sign in (*bounds, (after and words.place(tx, *after), beyond)):
        if place is not None:
            query.where.append(f"hitl_words.rowid {sign} ?")
            query.parameters.append(place)


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
    return to_ms(at)
