"""The page of one request, on which people decide: what will happen, what is to be known, and the answers."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request as Visit
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hitl_graph.card import Card, Event, Ran, answers_of, card, done, news
from hitl_graph.errors import HitlError, InvalidDecisionError, UnknownRequestError
from hitl_graph.ledger import handling
from hitl_graph.ledger.course import course
from hitl_graph.model import Decision, Request, from_ms
from hitl_graph.reviewers import person, same
from hitl_graph.web.conversation import conversation
from hitl_graph.web.diffs import words
from hitl_graph.web.door import Door, door_of
from hitl_graph.web.errors import problem_of
from hitl_graph.web.markdown import Reader
from hitl_graph.web.pages.answering import LASTING, VALUE, Typed, typed
from hitl_graph.web.rendering import render
from hitl_graph.web.seeing import may_see, visible
from hitl_graph.web.templating import link
from hitl_graph.web.visitors import Visitor, visitor_of

__all__ = ["routes"]

_UNKNOWN = "There is no such request, or it is not for you to see: nobody learns which."
Did = Literal["claim", "hand_back", "delegate", "take_back"]
_FIELDS = 2000
_NAME, _TEXT = 500, 20_000  # characters, as the API takes them
_KEPT_AS = {"text": "text"}


@dataclass(frozen=True)
class _Shown:
    """A request as this visitor sees it now."""

    request: Request
    card: Card


@dataclass(frozen=True)
class _Said:
    """A notice above the card: `ok`, `note`, `warn` or `bad`."""

    kind: str
    text: str


class _Instead(Exception):
    """Nothing was recorded, and this page is shown."""

    def __init__(self, status: int, shown: _Shown, said: _Said, kept: Typed, *, preview: bool = False) -> None:
        super().__init__(said.text)
        self.status, self.shown, self.said, self.kept, self.preview = status, shown, said, kept, preview


# --- looking ---------------------------------------------------------------------------------------------------------


async def _show(visit: Visit) -> Response:
    """The page of a request; an unambiguous beginning of its id leads to it."""
    door, visitor, asked = door_of(visit), visitor_of(visit), visit.path_params["request_id"]
    shown = await asyncio.to_thread(partial(_look, door, visitor, asked, whole=True))
    if shown.request.id != asked:
        query = f"?{visit.url.query}" if visit.url.query else ""
        return RedirectResponse(link(visit, "card", request_id=shown.request.id) + query, status_code=303)
    await door.inbox.aseen(shown.request, reviewer=visitor.reviewer, channel="web")
    said = _after(shown.card, visitor) if "done" in visit.query_params else None
    following = await asyncio.to_thread(_next, door, visitor, shown.request) if said is not None else None
    return await asyncio.to_thread(_page, visit, shown, said=said, following=following)


def _look(door: Door, visitor: Visitor, asked: str, *, whole: bool = False) -> _Shown:
    """A request as this visitor sees it.

    Args:
        whole: With what was decided before about requests like it, of which they see those that they may see.
    """
    ledger, inbox = door.ledger, door.inbox
    try:
        request = inbox.get(asked)
    except UnknownRequestError as exc:
        raise HTTPException(404, str(exc.args[1]) if door.sees == "all" else _UNKNOWN) from exc
    if not may_see(door, visitor, request):
        raise HTTPException(404, _UNKNOWN)
    absent = ledger.read(handling.deputised, ledger.now_ms(), visitor.reviewer.name)
    ran = [_ran(row) for row in ledger.executed(request.thread_id) if row["request_id"] == request.id]
    steps = ledger.read(course, request.id)
    before = visible(door, visitor, inbox.precedents(request)) if whole and request.state == "pending" else ()
    seen = card(
        request,
        inbox.standing(request.id),
        now=ledger.clock(),
        reviewer=visitor.reviewer,
        away=[person(name, ledger.directory) for name in absent],
        ran=ran,
        history=[Event.of(step.seq, step.at, step.name, step.actor, step.body) for step in steps],
        precedents=before,
    )
    return _Shown(request, seen)


def _ran(row: Mapping[str, Any]) -> Ran:
    took = row["ended_ms"] - row["started_ms"] if row["ended_ms"] else None
    return Ran(row["tool"], row["state"], from_ms(row["started_ms"]), took, row["error"] or "")


def _after(seen: Card, visitor: Visitor) -> _Said | None:
    """What is said to somebody who has just answered; None where they have not."""
    name = visitor.reviewer.name
    outcome, mine = seen.outcome, seen.mine
    if outcome is not None and any(same(name, one) for one in outcome.said.by.split(", ")):
        then = "A worker carries it out." if seen.state == "decided" else "It was carried out."
        then = "It is kept for learning; nothing waited for it." if seen.is_audit else then
        return _Said("ok", f"You {outcome.did}. {then}")
    if mine is not None and mine.voted is not None:
        return _Said("ok", f"Your vote to {mine.voted} it is recorded. Still needed: {seen.people.missing}.")
    return None


def _next(door: Door, visitor: Visitor, request: Request) -> str | None:
    """The id of what this visitor could decide next."""
    for after in (request.id, None):
        for other in door.inbox.pending(reviewer=visitor.reviewer, limit=2, after=after):
            if other.id != request.id:
                return other.id
    return None


def _page(
    visit: Visit,
    shown: _Shown,
    *,
    status: int = 200,
    said: _Said | None = None,
    following: str | None = None,
    kept: Typed | None = None,
    preview: bool = False,
) -> Response:
    given = kept.given if kept is not None else {}
    return render(
        visit,
        "card.html",
        status_code=status,
        card=shown.card,
        request_=shown.request,
        said=said,
        following=following,
        kept=kept,
        kept_word=given.get("answer", ""),
        kept_texts=_kept(shown.request, given),
        preview=preview,
        can_decide="decide" in visitor_of(visit).scopes,
        news=news(shown.card),
        markdown=Reader(),
        words=words,
        done=done,
        pretty=_pretty,
        compact=partial(json.dumps, ensure_ascii=False),
        VALUE=VALUE,
        LASTING=LASTING,
    )


def _kept(request: Request, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """What somebody typed, for when there is no form left to keep it in."""
    answer = next((one for one in answers_of(request) if one.word == given.get("answer")), None)
    form = answer.form if answer is not None else None
    shown = {f"{VALUE}{field.key}": field for field in (form.fields if form is not None else ())}
    kept: list[tuple[str, str]] = []
    for name, text in given.items():
        typed_anew = name in shown and text.replace("\r\n", "\n") != shown[name].text
        if text and (typed_anew or name == "text" or name.startswith(("remark", "where"))):
            kept.append((".".join(shown[name].path) or "value" if name in shown else _KEPT_AS.get(name, name), text))
    return kept


def _pretty(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


async def _talk(visit: Visit) -> Response:
    """The conversation so far."""
    door, visitor = door_of(visit), visitor_of(visit)
    shown = await asyncio.to_thread(_look, door, visitor, visit.path_params["request_id"])
    found = await asyncio.to_thread(conversation, door.ledger, shown.request.thread_id)
    query = visit.query_params.get("q", "").strip()
    wanted = query.casefold()
    turns = [
        turn for turn in found.turns
        if wanted in f"{turn.text}\n{turn.name}\n{''.join(c.name + c.args for c in turn.calls)}".casefold()
    ]  # fmt: skip
    return await asyncio.to_thread(
        render, visit, "conversation.html", card=shown.card, found=found, turns=turns, query=query, markdown=Reader()
    )  # long texts take long


# --- answering -------------------------------------------------------------------------------------------------------


async def _answer(visit: Visit) -> Response:
    """Record an answer, or say why not and keep what was typed."""
    door, visitor = door_of(visit), visitor_of(visit)
    _may_act(visitor)
    asked, given = visit.path_params["request_id"], await _given(visit)
    try:
        request = await asyncio.shield(asyncio.to_thread(_decide, door, visitor, asked, given))
    except _Instead as exc:
        return await asyncio.to_thread(
            _page, visit, exc.shown, status=exc.status, said=exc.said, kept=exc.kept, preview=exc.preview
        )
    return RedirectResponse(f"{link(visit, 'card', request_id=request.id)}?done=1", status_code=303)


def _decide(door: Door, visitor: Visitor, asked: str, given: dict[str, str]) -> Request:
    shown, kept = _look(door, visitor, asked), Typed(given)
    seen = shown.card
    if seen.digest != given.get("digest") or seen.version != given.get("version"):
        raise _Instead(409, shown, _Said("warn", f"It changed while you looked: {news(seen)}. {_NOTHING}"), kept)
    answer = next((one for one in seen.answers if one.word == given.get("answer")), None)
    if answer is None:
        offered = ", ".join(one.word for one in seen.answers) or "nothing any more"
        raise _Instead(422, shown, _Said("bad", f"It takes {offered}. {_NOTHING}"), kept)
    read = typed(shown.request, answer, given)
    if read.decision is None:
        raise _Instead(422, shown, _Said("bad", f"This does not fit yet; see below. {_NOTHING}"), read)
    if given.get("do") == "preview":
        raise _Instead(
            200, shown, _Said("note", "This is what would change. Nothing is recorded yet."), read, preview=True
        )
    return _recorded(door, visitor, shown, read, read.decision)


_NOTHING = "Nothing of yours was recorded."


def _recorded(door: Door, visitor: Visitor, shown: _Shown, read: Typed, decision: Decision) -> Request:
    try:
        return door.inbox.decide(
            shown.request.id,
            decision,
            reviewer=visitor.reviewer,
            digest=shown.request.digest,
            version=shown.card.version,
            channel="web",
        )
    except InvalidDecisionError as exc:
        wrong = Typed(read.given, None, {"": str(exc.args[1])}, read.changes)
        said = _Said("bad", f"This does not fit yet; see below. {_NOTHING}")
        raise _Instead(422, _look(door, visitor, shown.request.id), said, wrong) from exc
    except HitlError as exc:
        told = problem_of(exc)
        if told.status >= 500:
            raise
        text = str(exc.args[1]) if len(exc.args) > 1 else told.detail
        text = text.removesuffix(". Nothing was recorded").removesuffix("; nothing was recorded")
        said = _Said("warn" if told.status == 409 else "bad", f"{told.title}: {text}. {_NOTHING}")
        raise _Instead(told.status, _look(door, visitor, shown.request.id), said, read) from exc


def _acting(did: Did) -> Callable[[Visit], Any]:
    async def act(visit: Visit) -> Response:
        door, visitor, asked = door_of(visit), visitor_of(visit), visit.path_params["request_id"]
        _may_act(visitor)
        given = await _given(visit)
        shown = await asyncio.to_thread(_look, door, visitor, asked)
        try:
            await asyncio.shield(asyncio.to_thread(_act, door, visitor, did, shown.request.id, given))
        except (HitlError, ValueError) as exc:
            told = problem_of(exc) if isinstance(exc, HitlError) else None
            if told is not None and told.status >= 500:
                raise
            now = await asyncio.to_thread(_look, door, visitor, shown.request.id)
            text = str(exc.args[1]) if len(exc.args) > 1 else str(exc)
            return _page(visit, now, status=told.status if told is not None else 422, said=_Said("warn", text))
        return RedirectResponse(link(visit, "card", request_id=shown.request.id), status_code=303)

    return act


def _act(door: Door, visitor: Visitor, did: Did, own: str, given: Mapping[str, str]) -> None:
    who = visitor.reviewer
    match did:
        case "claim":
            door.inbox.claim(own, reviewer=who)
        case "hand_back":
            door.inbox.hand_back(own, reviewer=who)
        case "take_back":
            door.inbox.take_back(own, reviewer=who)
        case "delegate":
            to, comment = given.get("to", "").strip(), given.get("comment", "").strip()
            if not to or len(to) > _NAME or len(comment) > _TEXT:
                raise ValueError(
                    f"Say to whom it shall be given, in {_NAME} characters at most, with a comment of {_TEXT:,};"
                    " nothing was recorded."
                )
            door.inbox.delegate(own, to, reviewer=who, comment=comment or None)


def _may_act(visitor: Visitor) -> None:
    if "decide" not in visitor.scopes:
        raise HTTPException(403, "You may look here, and not decide; nothing was recorded.")


async def _given(visit: Visit) -> dict[str, str]:
    async with visit.form(max_files=0, max_fields=_FIELDS) as form:
        given: dict[str, str] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):  # what was ticked is a line each
                given[name] = f"{given[name]}\n{value}" if name in given and name.endswith("[]") else value
        return given


routes = [
    Route("/requests/{request_id}", _show, name="card"),
    Route("/requests/{request_id}/conversation", _talk, name="conversation"),
    Route("/requests/{request_id}/decide", _answer, name="decide", methods=["POST"]),
    Route("/requests/{request_id}/claim", _acting("claim"), name="claim", methods=["POST"]),
    Route("/requests/{request_id}/hand_back", _acting("hand_back"), name="hand_back", methods=["POST"]),
    Route("/requests/{request_id}/delegate", _acting("delegate"), name="delegate", methods=["POST"]),
    Route("/requests/{request_id}/take_back", _acting("take_back"), name="take_back", methods=["POST"]),
]
"""The page, and what its forms lead to."""
