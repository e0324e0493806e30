"""On which terms a node asks: what the policy wants, for this thread and at this time."""

import hashlib
import inspect
from datetime import datetime
from functools import lru_cache
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from hitl_graph.errors import PolicyError
from hitl_graph.ledger import requests
from hitl_graph.nodes.asking import Asker
from hitl_graph.policy import Verdict
from hitl_graph.reviewers import Directory, same
from hitl_graph.terms import Origin, Terms

__all__ = ["graph_of", "implementation", "origin_of", "terms_of"]

_RESUMING = "__pregel_resuming"  # langgraph._internal._constants


def terms_of(verdict: Verdict, origin: Origin | None, now: datetime) -> Terms | None:
    """Who has to agree, and by when, if the question is asked now.

    Raises:
        PolicyError: A rule excludes somebody, and the run does not say who that is.
    """
    excluded = list(verdict.terms.excluded) if verdict.terms else []
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


def origin_of(asker: Asker, *, graph: str | None, version: str | None, tool: BaseTool | None = None) -> Origin | None:
    """Where a question comes from.

    The requester is who started the run: as the server authenticated them, else `configurable.user_id`. A run that
    goes on after a pause was started by whoever was asked for then, not by who answered.
    """
    configurable: dict[str, Any] = asker.config.get("configurable", {})
    requester, author = None if asker.person.is_anonymous else asker.reviewer, configurable.get("author")
    requester = requester or configurable.get("user_id")
    if configurable.get(_RESUMING):
        asked = asker.ledger.read(
            requests.select, "thread_id = ? ORDER BY created_ms DESC, id LIMIT 50", (asker.thread_id,)
        )
        if before := next((request.origin for request in asked if request.origin is not None), None):
            requester, author = before.requester, author or before.author
    known = Origin(
        requester=_named(requester, asker.ledger.directory),
        author=_named(author, asker.ledger.directory),
        graph=graph_of(asker.config, graph),
        version=version,
        implementation=implementation(tool),
    )
    return None if known == Origin() else known


def _named(who: object, directory: Directory | None) -> str | None:
    """As the directory calls them: who has two names may not decide under the other one."""
    if who is None:
        return None
    found = directory(str(who)) if directory is not None else None
    return str(who) if found is None or same(found.name, str(who)) else found.name


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
