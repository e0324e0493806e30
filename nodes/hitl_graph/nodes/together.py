"""What came of calls that ran side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from langgraph.errors import GraphInterrupt

__all__ = ["all_of", "at_once", "outcome"]


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gave, or how it failed."""
    try:
        return call()
    except BaseException as exc:
        return exc


def at_once(outcomes: Sequence[Any]) -> list[Any] | None:
    """The outputs of calls that ran at once. None: some need tasks of their own, the others have their results."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failed:
        if len(outcomes) == 1 or not isinstance(failure, GraphInterrupt):
            raise failure
    if failed or None in outcomes:  # LangGraph gives the answers to one task's questions in the order of asking
        return None
    return list(outcomes)


def all_of(outcomes: Sequence[Any]) -> list[Any]:
    """The outputs of all tasks; a failure first of all, else one pause for all that are paused."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, GraphInterrupt):
            raise outcome
    if paused := [outcome for outcome in outcomes if isinstance(outcome, GraphInterrupt)]:
        raise GraphInterrupt(tuple(interrupt for pause in paused for interrupt in pause.args[0]))
    return list(outcomes)
