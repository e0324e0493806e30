"""Which items and namespaces an operation of a LangGraph store means. Pure functions.

As `InMemoryStore` and the official stores have it; a value that cannot be compared does not fit.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

from hitl_graph.errors import LearningError

__all__ = ["matches", "named"]

_EQUAL: dict[str, Callable[[Any, Any], bool]] = {"$eq": operator.eq, "$ne": operator.ne}
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip


def matches(value: Any, wanted: Any) -> bool:
    """Whether a value fits a filter: the same, or what an operator such as `$ne` says; objects name by name.

    Raises:
        LearningError: There is no such operator.
    """
    if isinstance(wanted, Mapping):
        if any(str(name).startswith("$") for name in wanted):
            return all(_holds(value, name, other) for name, other in wanted.items())
        return isinstance(value, Mapping) and all(matches(value.get(name), one) for name, one in wanted.items())
    if isinstance(wanted, list | tuple):
        is_list = isinstance(value, list | tuple) and len(value) == len(wanted)
        return is_list and all(matches(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _holds(value: Any, name: str, other: Any) -> bool:
    if name in _EQUAL:
        return _EQUAL[name](value, other)
    if name not in _ORDERED:
        raise LearningError(f"{name} is no operator of a filter; there are {', '.join((*_EQUAL, *_ORDERED))}")
    try:
        return _ORDERED[name](float(value), float(other))
    except (TypeError, ValueError):
        return False


def named(namespaces: Iterable[tuple[str, ...]], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """The page of namespaces that is wanted, each once, in order."""
    fitting = {one[: op.max_depth] for one in namespaces if all(_fits(one, c) for c in op.match_conditions or ())}
    return sorted(fitting)[op.offset : op.offset + op.limit]


def _fits(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path, own = condition.path, namespace
    if condition.match_type == "suffix":
        path, own = path[::-1], own[::-1]
    return len(own) >= len(path) and all(
        wanted in ("*", part) for wanted, part in zip(path, own, strict=False)
    )  # fmt: skip
