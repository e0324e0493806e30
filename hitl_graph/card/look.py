"""The card of a request: all that a person needs to decide, in the order in which it is needed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from hitl_graph import voting
from hitl_graph.card.answers import Answer, answers_of
from hitl_graph.card.contents import (
    Draft,
    Evidence,
    Field,
    Question,
    draft_of,
    evidence_of,
    fields_of,
    kind,
    question_of,
)
from hitl_graph.card.people import Mine, People, Said, mine_of, people_of
from hitl_graph.card.precedents import Precedents, precedents_of
from hitl_graph.card.words import did, done, happened, heading, sort, what
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer
from hitl_graph.visible import visible
from hitl_graph.voting import Standing

__all__ = ["Card", "Event", "Outcome", "Ran", "card", "news", "version"]


@dataclass(frozen=True)
class Event:
    """What happened to a request, as the log has it.

    Attributes:
        seq: Its number in the log.
        name: Such as `voted`, `claimed`, `seen`, `reminded`.
        by: Who brought it on; empty where nobody did.
        text: Details in words; may be empty.
    """

    seq: int
    at: datetime
    name: str
    by: str
    text: str

    @classmethod
    def of(cls, seq: int, at: datetime, name: str, actor: str, body: Mapping[str, Any]) -> "Event":
        """A row of the log in words."""
        plain = name.removeprefix("request.").replace("_", " ")
        return cls(seq, at, plain, "" if actor == "graph" else actor, happened(name, body))


@dataclass(frozen=True)
class Ran:
    """One execution that came of the decision: `state` is reserved, done, failed, unknown ..."""

    tool: str
    state: str
    started: datetime
    ms: int | None
    error: str


@dataclass(frozen=True)
class Outcome:
    """The decision.

    Attributes:
        done: In words: `approved`, `edited`, `rejected`, `answered`, `sent back`.
        did: The same after a name: `approved it`, `sent it back`.
        label: What the word meant for this request, where it was not obvious.
    """

    done: str
    did: str
    label: str
    said: Said


@dataclass(frozen=True)
class Card:
    """One request for people. Texts are as they came: escape them, and show hidden characters.

    Attributes:
        sort: Its kind, for people: also `audit` and `label`.
        is_audit: People only say what they think of it; nothing waits.
        version: Of its moving half; another one means that it changed (see `version`).
        heading: What will happen, or is asked, in one sentence.
        summary: The same with the arguments, in one line.
        description: What the agent or the tool says about it; Markdown that nobody has checked.
        fields: The arguments of the call.
        shown: What a question without a form of its own shows, as JSON.
        facts: Read when people were asked, and again before the action runs.
        changed: What changed about them since people were asked before, as a diff.
        reason: Why people are asked.
        risk: How risky it is, where the policy says so.
        note: Why it was superseded, or is asked again.
        origin: On whose behalf and by what, each as a name and a text.
        mine: What the person who looks can do; None where nobody is known.
        answers: None once it is decided or closed.
        outcome: The decision, if there is one.
        precedents: What people decided about requests like it; None if nothing.
    """

    id: str
    kind: str
    sort: str
    is_audit: bool
    state: str
    thread: str
    digest: str
    version: str
    heading: str
    summary: str
    description: str
    fields: tuple[Field, ...]
    shown: JsonValue
    draft: Draft | None
    evidence: Evidence | None
    question: Question | None
    facts: tuple[Field, ...]
    changed: str | None
    reason: str
    risk: str | None
    note: str
    origin: tuple[tuple[str, str], ...]
    created_at: datetime | None
    decided_at: datetime | None
    people: People
    mine: Mine | None
    answers: tuple[Answer, ...]
    outcome: Outcome | None
    ran: tuple[Ran, ...]
    history: tuple[Event, ...]
    precedents: Precedents | None


def card(
    request: Request,
    standing: Standing,
    *,
    now: datetime,
    reviewer: Reviewer | None = None,
    away: Iterable[Reviewer] = (),
    ran: Sequence[Ran] = (),
    history: Sequence[Event] = (),
    precedents: Sequence[Request] = (),
) -> Card:
    """The card of a request.

    Args:
        now: Aware.
        reviewer: Who looks at it: what they may do is on it, too.
        away: Whose deputy they are now.
        ran: What came of the decision.
        history: What happened to it.
        precedents: What people decided about requests like it, the most alike first.
    """
    facts, question, evidence = request.fresh, question_of(request), evidence_of(request)
    told = request.action is not None or request.kind == "review" or question is not None or evidence is not None
    shown = None if told else request.question if request.question is not None else request.draft
    if request.is_audit and request.draft is not None:
        shown = request.question  # what the model had to go by
    describes = evidence is None and question is None and (request.kind != "review" or request.is_audit)  # else: twice
    decision = request.decision
    outcome = None
    if decision is not None:
        means = request.labels.get(decision.type, "") if request.kind != "review" else ""
        said = Said(
            request.reviewer or "?", decision.type, request.decided_at, request.channel or "?",
            message=decision.message or "", value=decision.value, args=decision.args, draft=decision.draft,
            comments=decision.comments, lasting=decision.grant is not None,
        )  # fmt: skip
        outcome = Outcome(done(request, decision), did(request, decision), means, said)
    return Card(
        id=request.id,
        kind=request.kind,
        sort=sort(request),
        is_audit=request.is_audit,
        state=request.state,
        thread=request.thread_id,
        digest=request.digest,
        version=version(request, standing),
        heading=heading(request),
        summary=what(request),
        description=request.description if describes else "",
        fields=fields_of(request),
        shown=shown,
        draft=draft_of(request),
        evidence=evidence,
        question=question,
        facts=tuple(Field(name, value, kind(value)) for name, value in (facts.facts if facts else {}).items()),
        changed=facts.changed if facts else None,
        reason=request.reason,
        risk=getattr(request, "risk", None),
        note=request.note or "",
        origin=_origin(request),
        created_at=request.created_at,
        decided_at=request.decided_at,
        people=people_of(request, standing, now),
        mine=None if reviewer is None else mine_of(request, standing, reviewer, now, away),
        answers=answers_of(request) if request.state == "pending" else (),
        outcome=outcome,
        ran=tuple(ran),
        history=tuple(history),
        precedents=precedents_of(request, precedents),
    )


def _origin(request: Request) -> tuple[tuple[str, str], ...]:
    if (origin := request.origin) is None:
        return ()
    graph = " ".join(filter(None, (origin.graph, origin.version)))
    rows = (("for", origin.requester), ("author", origin.author), ("graph", graph))
    return tuple((name, text) for name, text in rows if text)


def news(card: Card) -> str:
    """What somebody did last, in a sentence: for those who looked at it before."""
    if (outcome := card.outcome) is not None:
        return f"{visible(outcome.said.by)} {outcome.did}"
    if card.state != "pending":
        return f"it is {card.state}" + (f" ({visible(card.note)})" if card.note else "")
    if said := card.people.said:
        return f"{visible(said[-1].by)} voted to {said[-1].word} it"
    return f"it is asked again ({visible(card.note)})" if card.note else "it is asked again"


def version(request: Request, standing: Standing) -> str:
    """A short token of what moves (see `hitl_graph.voting.version`)."""
    return voting.version(request, standing.votes)
