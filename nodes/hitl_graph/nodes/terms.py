"""On which terms a node asks: what the policy wants, for this thread and at this time."""

import asyncio
import hashlib
import inspect
import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple

from hitl_graph.errors import HitlError, PolicyError
from hitl_graph.ledger import requests
from hitl_graph.model import WORDS, Request
from hitl_graph.nodes.asking import Asker
from hitl_graph.policy import Rule, Verdict
from hitl_graph.policy.combining import both
from hitl_graph.reviewers import person
from hitl_graph.terms import Fresh, Origin, Terms, Turn

__all__ = ["graph_of", "implementation", "on_terms", "origin_of", "terms_of", "verdict_of"]

log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds
_RESUMING, _CHECKPOINTER = "__pregel_resuming", "__pregel_checkpointer"  # langgraph._internal._constants


def terms_of(verdict: Verdict, origin: Origin | None, now: datetime) -> Terms | None:
    """Who has to agree, and by when, if the question is asked now.

    Raises:
        PolicyError: A rule excludes somebody, and the run does not say who that is.
    """
    excluded = []
    for party in verdict.exclude:
        name = getattr(origin, party, None)
        if name is None:
            key = "user_id" if party == "requester" else "author"
            raise PolicyError(
                f"a rule ({verdict.reason}) says that the {party} may not decide, and this run does not say who that"
                f" is; invoke with {{'configurable': {{{key!r}: ...}}}}. Nothing was asked and nothing ran"
            )
        excluded.append(name)
    if verdict.terms is None and verdict.deadline is None and not excluded:
        return None
    schedule = verdict.deadline.schedule(now) if verdict.deadline else ()
    return (verdict.terms or Terms()).model_copy(update={"excluded": tuple(excluded), "schedule": schedule})


def verdict_of(rule: Rule | None, reason: str, error: type[HitlError]) -> Verdict:
    """Who decides where there is no policy, and by when.

    Raises:
        error: The rule says something that does not count here, so that nobody believes that it does.
    """
    if rule is None:
        return Verdict("ask", reason)
    if not isinstance(rule, Rule) or rule.outcome != "ask" or rule.when is not None or rule.facts:
        raise error("rule= takes Rule('*', 'ask', ...) with people and a deadline, without when= and facts=")
    if rule.allowed != WORDS or rule.editable is not None:
        raise error("rule= says who answers and by when; which answers there are is not up to it")
    return rule.verdict("ask", rule.reason or reason)


def on_terms(
    described: Callable[[str, str], Request],
    asker: Asker,
    verdict: Verdict,
    origin: Callable[[], Origin | None],
    fresh: Fresh | None = None,
    least: Terms | None = None,
) -> Callable[[str, str], Request]:
    """A question with the terms on which it is asked; they count from when it is asked first.

    Args:
        origin: Where it comes from; asked for only when the question is new.
        least: Terms on which it was asked before: it does not become easier by being asked again.
    """

    def complete(request_id: str, interrupt_id: str) -> Request:
        known = origin()
        terms = terms_of(verdict, known, asker.ledger.clock())
        if least is not None and least.names_people:
            schedule = terms.schedule if terms else ()
            together = both(least.unscheduled, terms and terms.unscheduled) or Terms()
            terms = together.model_copy(update={"schedule": schedule})
        request = described(request_id, interrupt_id)
        if terms is not None and "approve" not in request.allowed:
            terms = terms.model_copy(update={"schedule": tuple(map(_no_approval, terms.schedule))})
        return request.model_copy(update={"terms": terms, "origin": known, "fresh": fresh, "risk": verdict.risk})

    return complete


def _no_approval(turn: Turn) -> Turn:
    """Silence is no answer that people themselves could not give."""
    return turn.model_copy(update={"then": "reject"}) if turn.then == "approve" else turn


def origin_of(asker: Asker, *, graph: str | None, version: str | None, tool: BaseTool | None = None) -> Origin | None:
    """Where a question comes from.

    The requester is who gave the graph its last input: as the server authenticated them, else `configurable.user_id`.
    Who answers a question since then, and so lets the run go on, is not the requester of what comes after it.
    """
    configurable: dict[str, Any] = asker.config.get("configurable", {})
    requester, author = (str(configurable.get(key) or "").strip() or None for key in ("user_id", "author"))
    if not asker.person.is_anonymous:
        requester = asker.reviewer
    if (before := _asked_before(asker)) is not None:
        since = _since_the_last_input(asker, before)
        if since and before.origin is not None:
            requester, author = before.origin.requester, author or before.origin.author
        elif since is None and before.origin is not None and before.origin.requester != requester:
            requester = None  # it cannot be told whose this is, and a guess could let people decide on their own
    known = Origin(
        requester=None if requester is None else person(requester, asker.ledger.directory).name,
        author=None if author is None else person(author, asker.ledger.directory).name,
        graph=graph_of(asker.config, graph),
        version=version,
        implementation=implementation(tool),
    )
    return None if known == Origin() else known


def _asked_before(asker: Asker) -> Request | None:
    """The last question of this thread of which it is known where it came from."""
    last = "thread_id = ? ORDER BY created_ms DESC, id LIMIT 10"
    asked: list[Request] = asker.ledger.read(requests.select, last, (asker.thread_id,))
    return next((request for request in asked if request.origin is not None), None)


def _since_the_last_input(asker: Asker, before: Request) -> bool | None:
    """Whether a question was asked after the graph got its last input; None where that cannot be told."""
    if (given := _last_input(asker)) is None:  # LangGraph itself knows, but only in the first step after a pause
        return True if asker.config.get("configurable", {}).get(_RESUMING) else None
    if before.checkpoint_id is not None:  # their ids are in the order of time
        return before.checkpoint_id >= given["id"]
    return before.created_at is not None and before.created_at >= datetime.fromisoformat(given["ts"])


def _last_input(asker: Asker) -> Checkpoint | None:
    """The checkpoint of what the graph was last called with; None where the checkpointer does not tell."""
    saver = asker.config.get("configurable", {}).get(_CHECKPOINTER)
    if not isinstance(saver, BaseCheckpointSaver):
        return None
    where: RunnableConfig = {"configurable": {"thread_id": asker.thread_id, "checkpoint_ns": ""}}
    inputs: Any = {"filter": {"source": "input"}, "limit": 1}

    async def awaited() -> CheckpointTuple | None:
        async with aclosing(cast(Any, saver.alist(where, **inputs))) as listed:  # or it is closed in any thread
            return cast(CheckpointTuple | None, await anext(listed, None))

    try:
        if asker.loop is None or _is_running():
            listed = [*saver.list(where, **inputs)]  # to its end: what is left open is closed in any thread
            found = listed[0] if listed else None
        else:  # in a thread of an async run: LangGraph Server's checkpointers are only async
            found = asyncio.run_coroutine_threadsafe(awaited(), asker.loop).result(_PATIENCE)
    except Exception:
        log.warning("thread %s: it cannot be told who gave it its last input", asker.thread_id, exc_info=True)
        return None
    return found.checkpoint if found is not None else None


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def graph_of(config: RunnableConfig, given: str | None) -> str | None:
    """The graph's name: as the node was given it, else the server's."""
    found = given or config.get("metadata", {}).get("graph_id") or config.get("configurable", {}).get("graph_id")
    return str(found) if found else None


def implementation(tool: BaseTool | None) -> str | None:
    """SHA-256 over a tool's source code; None where Python does not have it."""
    if tool is None:
        return None
    return _digest(getattr(tool, "func", None) or getattr(tool, "coroutine", None) or type(tool))


@lru_cache(maxsize=1024)
def _digest(code: Any) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()
    except (OSError, TypeError):
        return None
