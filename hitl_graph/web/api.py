"""The REST API: list, open, decide, claim. It has no rules of its own: `Inbox` decides what may be done."""

import asyncio
from datetime import timedelta
from importlib.metadata import version as version_of
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hitl_graph import model
from hitl_graph.card import version
from hitl_graph.documents import RequestDocument, SummaryDocument
from hitl_graph.errors import AlreadyDecidedError, InvalidDecisionError, UnknownRequestError
from hitl_graph.ledger import deciding, requests
from hitl_graph.ledger import events as events_of
from hitl_graph.model import Decision, Kind, Risk, Route
from hitl_graph.reviewers import same
from hitl_graph.storage import Transaction
from hitl_graph.voting import Standing, standing
from hitl_graph.web.answers import ANSWER, CLAIM, DELEGATE, NOTHING, Answer, decision_in
from hitl_graph.web.bodies import Flag, Instant, Line, Number, Query, read_body, read_query
from hitl_graph.web.door import Door, door_of
from hitl_graph.web.errors import ProblemError, Wrong
from hitl_graph.web.openapi import Operation, document
from hitl_graph.web.openapi import routes as routes_of
from hitl_graph.web.seeing import may_see, visible
from hitl_graph.web.stream import EventsQuery, events
from hitl_graph.web.visitors import Scope, Visitor, visitor_of
from hitl_graph.wire import validate

__all__ = [
    "OPERATIONS",
    "DetailDocument",
    "ListDocument",
    "ListQuery",
    "MeDocument",
    "RunDocument",
    "described",
    "routes",
]

CHANNEL = "api"
_ROUNDS = 10
"""Pages of the ledger that are looked through for one page of somebody who does not see everything."""


class ListQuery(Query):
    """Which requests are listed: those of which all that is given is so."""

    kind: Kind | None = None
    thread_id: Line | None = None
    tool: Line | None = Field(default=None, description="Name of the tool.")
    risk: Risk | None = None
    route: Route | None = Field(
        default=None, description="How it came to people; `audit`: it was decided automatically."
    )
    assignee: Line | None = Field(
        default=None, description="Whose it is now, literally: a name, `role:finance`, `group:oncall`."
    )
    mine: Flag = Field(default=False, description="Only what you may decide now.")
    search: Line | None = Field(default=None, description="Words, or beginnings of them, that all occur.")
    since: Instant | None = Field(default=None, description="Asked then or later.")
    before: Instant | None = Field(default=None, description="Asked before then.")
    newest_first: Flag = False
    limit: Number = Field(default=50, ge=1, le=200, description="Rows a page.")
    after: str | None = Field(default=None, pattern=r"^[0-9a-f]{20}$", description="`next` of the page before.")


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ListDocument(_Document):
    """A page of what waits for people, without contents."""

    requests: tuple[SummaryDocument, ...]
    seq: int = Field(description="The position of the events before this was read: listen with `?after=` it.")
    next: str | None = Field(description="`after` of the next page; null: this is the last one.")


class RunDocument(_Document):
    """One execution of the action."""

    tool: str
    state: str
    started_ms: int
    ended_ms: int | None
    error: str | None
    reason: str | None
    permit_id: str
    request_id: str | None


class DetailDocument(RequestDocument):
    """A request with all that there is to know before it is decided."""

    version: str = Field(description="Another one when somebody did something to it; also its `ETag`.")
    executed: tuple[RunDocument, ...] = Field(description="What ran of it.")


class MeDocument(_Document):
    """Who you are here."""

    name: str
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    scopes: tuple[Scope, ...] = Field(description="What your token or session may do.")
    how: str = Field(description="By what you were authenticated.")
    sees: str = Field(description="`all` requests, or only yours (`mine`).")


_LIST, _DETAIL, _ME = TypeAdapter(ListDocument), TypeAdapter(DetailDocument), TypeAdapter(MeDocument)


async def _list(request: Request) -> Response:
    """GET /requests."""
    wanted = read_query(request, ListQuery)
    found = await asyncio.to_thread(_page, door_of(request), visitor_of(request), wanted)
    headers = {"cache-control": "no-store"}
    if found.next is not None:
        url = request.url.include_query_params(after=found.next)
        headers["link"] = f'<{url.path}?{url.query}>; rel="next"'
    return _json(_LIST.dump_json(found), headers)


def _page(door: Door, visitor: Visitor, wanted: ListQuery) -> ListDocument:
    inbox, limit, after = door.inbox, wanted.limit, wanted.after
    position = door.ledger.read(events_of.last)
    filters = wanted.model_dump(exclude={"mine", "limit", "after"}, exclude_none=True)
    seen, rounds, more = list[model.Request](), 0, True
    while more and len(seen) <= limit and rounds < _ROUNDS:
        rounds += 1
        try:
            page = inbox.pending(
                reviewer=visitor.reviewer if wanted.mine else None, limit=limit + 1, after=after, **filters
            )
        except UnknownRequestError as exc:
            place = Wrong(place="query.after", message="names no request; begin without it")
            raise ProblemError(422, "invalid", "What was sent does not fit", str(exc), errors=(place,)) from exc
        more, after = len(page) > limit, page[-1].id if page else after
        seen += visible(door, visitor, page)
    shown = seen[:limit]
    following = shown[-1].id if len(seen) > limit else after if more else None
    return ListDocument(requests=_summaries(door, shown), seq=position, next=following)


def _summaries(door: Door, shown: list[model.Request]) -> tuple[SummaryDocument, ...]:
    voted_on, now_ms = [request.id for request in shown if request.terms is not None], door.ledger.now_ms()
    votes = door.ledger.read(_votes, voted_on) if voted_on else {}
    return tuple(SummaryDocument.of(one, standing(one, votes.get(one.id, ()), now_ms)) for one in shown)


def _votes(tx: Transaction, ids: list[str]) -> dict[str, tuple[Any, ...]]:
    return deciding.votes_on(tx, ids)


async def _show(request: Request) -> Response:
    """GET /requests/{id}."""
    return await asyncio.to_thread(_opened, door_of(request), visitor_of(request), request.path_params["id"])


def _opened(door: Door, visitor: Visitor, request_id: str) -> Response:
    found, far = _open(door, visitor, request_id)
    door.inbox.seen(found, reviewer=visitor.reviewer, channel=CHANNEL)
    return _detail(door, found, far)


def _open(door: Door, visitor: Visitor, request_id: str) -> tuple[model.Request, Standing]:
    """A request and how far it is.

    Raises:
        UnknownRequestError: There is none, or this visitor does not see it: nobody learns which.
    """

    def work(tx: Transaction) -> tuple[model.Request, tuple[Any, ...]] | None:
        found = requests.get(tx, request_id) if _is_id(request_id) else None
        return None if found is None else (found, deciding.votes(tx, found.id))

    if (found := door.ledger.read(work)) is None or not may_see(door, visitor, found[0]):
        raise UnknownRequestError(request_id[:80], "there is no such request, or it is not for you to see")
    return found[0], standing(found[0], found[1], door.ledger.now_ms())


def _is_id(text: str) -> bool:
    return len(text) == 20 and set(text) <= set("0123456789abcdef")


def _detail(door: Door, request: model.Request, far: Standing, *, again: bool = False) -> Response:
    ran = [row for row in door.ledger.executed(request.thread_id) if row["request_id"] == request.id]
    token = version(request, far)
    told = DetailDocument.of(request, far, version=token, executed=ran)
    headers = {"etag": f'"{token}"', "cache-control": "no-store"}
    if again:
        headers["idempotent-replayed"] = "true"
    return _json(_DETAIL.dump_json(told), headers)


async def _decide(request: Request) -> Response:
    """POST /requests/{id}/decision."""
    answer = await read_body(request, ANSWER)
    door, visitor, request_id = door_of(request), visitor_of(request), request.path_params["id"]
    decision = decision_in(answer)
    if (
        before := await asyncio.to_thread(_before, door, visitor, request_id, answer, decision, _tags(request))
    ) is not None:
        return before
    try:
        await door.inbox.adecide(
            request_id, decision, reviewer=visitor.reviewer, digest=answer.digest, version=answer.version,
            channel=CHANNEL,
        )  # fmt: skip
    except AlreadyDecidedError:
        before = await asyncio.to_thread(_recorded, door, visitor, request_id, answer, decision)
        if before is None:
            raise
        return before
    return await asyncio.to_thread(_now, door, visitor, request_id)


def _now(door: Door, visitor: Visitor, request_id: str) -> Response:
    return _detail(door, *_open(door, visitor, request_id))


def _before(
    door: Door, visitor: Visitor, request_id: str, answer: Answer, decision: Decision, tags: list[str] | None
) -> Response | None:
    """What there is to say before anything is recorded: that it is already, or that it is not what was looked at."""
    if (recorded := _recorded(door, visitor, request_id, answer, decision)) is not None:
        return recorded
    found, far = _open(door, visitor, request_id)
    token = version(found, far)
    changed = "somebody did something to it since you read it. Nothing was recorded; read it again and decide then"
    if tags is not None and token not in tags and "*" not in tags:
        raise ProblemError(412, "changed", "It changed while you looked", changed, found.id)
    if answer.version is not None and answer.version != token:
        raise ProblemError(409, "changed", "It changed while you looked", changed, found.id)
    return None


def _recorded(door: Door, visitor: Visitor, request_id: str, answer: Answer, decision: Decision) -> Response | None:
    """The request, if this very answer of this person is recorded: they sent it again, not knowing that it arrived."""
    found, far = _open(door, visitor, request_id)
    own = [vote for vote in far.votes if same(vote.reviewer, visitor.reviewer.name)]
    if not own or visitor.reviewer.is_anonymous or found.digest != answer.digest:
        return None
    try:
        fitted = requests.decision_text(validate(decision, found))
    except InvalidDecisionError:
        return None
    if all(requests.decision_text(vote.decision) != fitted for vote in own):
        return None
    return _detail(door, found, far, again=True)


def _tags(request: Request) -> list[str] | None:
    given = request.headers.get("if-match")
    return None if given is None else [tag.strip().strip('"') for tag in given.split(",") if not tag.startswith("W/")]


async def _claim(request: Request) -> Response:
    """POST /requests/{id}/claim."""
    body = await read_body(request, CLAIM, default=b"{}")
    return await _acted(request, "aclaim", lease=timedelta(seconds=body.lease_seconds))


async def _hand_back(request: Request) -> Response:
    """POST /requests/{id}/hand-back, DELETE /requests/{id}/claim."""
    if request.method == "POST":
        await read_body(request, NOTHING, default=b"{}")
    return await _acted(request, "ahand_back")


async def _delegate(request: Request) -> Response:
    """POST /requests/{id}/delegate."""
    body = await read_body(request, DELEGATE)
    return await _acted(request, "adelegate", body.to, comment=body.comment)


async def _take_back(request: Request) -> Response:
    """POST /requests/{id}/take-back."""
    await read_body(request, NOTHING, default=b"{}")
    return await _acted(request, "atake_back")


async def _acted(request: Request, what: str, *args: Any, **how: Any) -> Response:
    door, visitor, request_id = door_of(request), visitor_of(request), request.path_params["id"]
    await asyncio.to_thread(_open, door, visitor, request_id)
    await getattr(door.inbox, what)(request_id, *args, reviewer=visitor.reviewer, **how)
    return await asyncio.to_thread(_now, door, visitor, request_id)


async def _me(request: Request) -> Response:
    """GET /me."""
    visitor, who = visitor_of(request), visitor_of(request).reviewer
    told = MeDocument(
        name=who.name, roles=tuple(sorted(who.roles)), groups=tuple(sorted(who.groups)),
        scopes=tuple(sorted(visitor.scopes)), how=visitor.how, sees=door_of(request).sees,
    )  # fmt: skip
    return _json(_ME.dump_json(told), {"cache-control": "no-store"})


async def _health(request: Request) -> Response:
    """GET /health: the process answers; no more is said to strangers."""
    del request
    return Response(status_code=204, headers={"cache-control": "no-store"})


async def _openapi(request: Request) -> Response:
    """GET /api/openapi.json."""
    root = str(request.scope.get("root_path", ""))
    return JSONResponse(described(title=f"{door_of(request).title} (hitl-graph)", address=root))


def described(*, title: str = "hitl-graph", address: str = "") -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        address: Under which the application is mounted.
    """
    return document(
        OPERATIONS, title=title, version=version_of("hitl-graph"), address=address,
        description="What waits for people, and their answers. The rules of the inbox decide who may do what.",
    )  # fmt: skip


def _json(content: bytes, headers: dict[str, str]) -> Response:
    return Response(content, headers=headers, media_type="application/json")


_CHANGING = (404, 409)
_STREAM = {
    "responses": {
        "200": {
            "description": "A stream that does not end: `id` is the event's `seq`, `event` is `request`, `data` is an"
            " EventDocument. The event `resync` says that your position is unknown here: read the list again.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        }
    },
    "parameters": [
        {
            "name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
            "description": "As `after`; what browsers send when they come again.",
        }
    ],
}  # fmt: skip
_IF_MATCH = {
    "parameters": [
        {
            "name": "If-Match", "in": "header", "schema": {"type": "string"},
            "description": "The `ETag` with which it was read: refused with 412 if somebody did something since.",
        }
    ]
}  # fmt: skip
_ONE = "/api/v1/requests/{id}"
OPERATIONS = [
    Operation(
        "GET", "/api/v1/requests", "api-list", "What waits for people", _list, _LIST, query=ListQuery, errors=[422]
    ),
    Operation("GET", _ONE, "api-get", "One request in full", _show, _DETAIL, errors=[404]),
    Operation(
        "POST", f"{_ONE}/decision", "api-decide", "Decide it", _decide, _DETAIL, ANSWER, errors=[*_CHANGING, 412],
        extra=_IF_MATCH,
    ),
    Operation(
        "POST", f"{_ONE}/claim", "api-claim", "Take it in hand", _claim, _DETAIL, CLAIM, default=True, errors=_CHANGING
    ),
    Operation("DELETE", f"{_ONE}/claim", "api-unclaim", "Give it back", _hand_back, _DETAIL, errors=_CHANGING),
    Operation(
        "POST", f"{_ONE}/hand-back", "api-hand-back", "Give back a claim or a delegated vote", _hand_back, _DETAIL,
        NOTHING, default=True, errors=_CHANGING,
    ),
    Operation(
        "POST", f"{_ONE}/delegate", "api-delegate", "Give your vote to somebody else", _delegate, _DETAIL, DELEGATE,
        errors=_CHANGING,
    ),
    Operation(
        "POST", f"{_ONE}/take-back", "api-take-back", "Take back a delegated vote", _take_back, _DETAIL, NOTHING,
        default=True, errors=_CHANGING,
    ),
    Operation(
        "GET", "/api/v1/events", "events", "What becomes of requests, as it happens", events, query=EventsQuery,
        errors=[422], extra=_STREAM,
    ),
    Operation("GET", "/api/v1/me", "api-me", "Who you are here", _me, _ME),
    Operation("GET", "/api/v1/health", "api-health", "Whether the process answers", _health, status=204, is_open=True),
]  # fmt: skip
routes = [*routes_of(OPERATIONS), *routes_of([Operation("GET", "/api/openapi.json", "openapi", "", _openapi)])]
