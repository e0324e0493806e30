"""Errors about an answer go to whoever gave it: LangGraph's error handlers and retry policies do not get hold of them.

LangGraph would take a node whose answer was refused for failed: its handler would run in its place, and the question,
which somebody may have decided meanwhile, could not be answered any more. What bubbles up is left alone, and nothing
of it is stored.
"""

from typing import Any

from langgraph.errors import GraphBubbleUp

from hitl_graph.errors import (
    AlreadyDecidedError,
    AlreadyVotedError,
    ClaimedError,
    HitlError,
    InvalidDecisionError,
    NotEntitledError,
    QuorumMissingError,
    StaleRequestError,
)

__all__ = ["past_handlers"]


def _plainly(self: HitlError) -> tuple[Any, ...]:
    """Pickled, it is the error that it is for everybody else."""
    plain: Any = type(self).__mro__[1]
    return plain, *plain.__reduce__(self)[1:]


_PAST: dict[type[HitlError], Any] = {
    plain: type(plain.__name__, (plain, GraphBubbleUp), {"__reduce__": _plainly, "__module__": plain.__module__})
    for plain in (
        AlreadyDecidedError,
        AlreadyVotedError,
        ClaimedError,
        InvalidDecisionError,
        NotEntitledError,
        QuorumMissingError,
        StaleRequestError,
    )
}


def past_handlers(error: HitlError) -> None:
    """Let this error pass all handlers."""
    if type(error) in _PAST:
        error.__class__ = _PAST[type(error)]
