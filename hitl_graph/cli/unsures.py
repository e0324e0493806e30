"""The `Unsure` objects that a name on the command line stands for, and the ledger that their decisions are in."""

import inspect
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from hitl_graph.cli.app import FAILED, USAGE, Failure, note, open_ledger
from hitl_graph.cli.working import attached, imported, where
from hitl_graph.learning.unsure import Unsure
from hitl_graph.ledger import Ledger
from hitl_graph.policy import Policy
from hitl_graph.policy.hints import Hinted

__all__ = ["opened"]

_WANTED = "an Unsure is needed, or a policy, a node or a compiled graph whose rules have some"


@contextmanager
def opened(spec: str, db: str, named: str | None, *, explicit: bool) -> Generator[tuple[list[Unsure], Ledger]]:
    """What `pkg.mod:name` names, and the ledger: that of the graph, if it is one with a checkpointer.

    Args:
        db: The database, where the graph does not say.
        named: The same, if `--db` or `HITL_DB` named it.
        explicit: It stood on the command line.

    Raises:
        Failure: Nothing of that name can be imported, or nothing in it promises anything.
    """
    from langgraph.pregel import Pregel

    found = _object(spec)
    unsures = _promising(spec, list(_unsures(found)))
    if isinstance(found, Pregel) and (found.checkpointer or named is not None):
        with attached(found, named, explicit=explicit) as (_, ledger):
            yield unsures, ledger
    else:
        with open_ledger(db) as ledger:
            yield unsures, ledger


def _object(spec: str) -> Any:
    found = imported(spec, Unsure, "Unsure objects", "my_agent:unsure or my_agent:graph")
    if not inspect.isfunction(found):
        return found
    try:
        found = found()
    except Exception as exc:
        raise Failure(FAILED, f"{spec}() failed: {where(exc)}") from exc
    if inspect.iscoroutine(found):
        found.close()
        raise Failure(USAGE, f"{spec} is an async function; {_WANTED}, or a function without arguments that gives one")
    return found


def _promising(spec: str, found: list[Unsure]) -> list[Unsure]:
    """Those with a guarantee, each once."""
    kept = list({(one.name, one.binding): one for one in found if one.guarantee is not None}.values())
    for one in found:
        if one.guarantee is None and kept:
            note(f"{one.told} has a fixed limit, below={one.below}, and is passed over: that promises nothing.")
    if kept:
        return kept
    if found:
        raise Failure(USAGE, f"{found[0].told} has a fixed limit, below={found[0].below}: give it a guarantee= instead")
    raise Failure(USAGE, f"{spec} has no rule with when=Unsure(...); {_WANTED}")


def _unsures(thing: Any) -> Iterator[Unsure]:
    if isinstance(thing, Unsure):
        yield thing
    for policy in _policies(thing):
        for rule in policy.rules:
            when = rule.when.then if isinstance(rule.when, Hinted) else rule.when
            if isinstance(when, Unsure):
                yield when


def _policies(thing: Any) -> Iterator[Policy]:
    """Its own, or those of its nodes, of middleware behind them, and of subgraphs."""
    if isinstance(thing, Policy):
        yield thing
        return
    if isinstance(policy := getattr(thing, "policy", None), Policy):
        yield policy
    for part in vars(thing).values() if hasattr(thing, "__dict__") else ():
        if isinstance(policy := getattr(part, "policy", None), Policy):
            yield policy
    if hasattr(thing, "get_subgraphs"):
        for graph in (thing, *(inner for _, inner in thing.get_subgraphs(recurse=True))):
            for node in getattr(graph, "nodes", {}).values():  # a remote graph has none
                bound = getattr(node, "bound", None)
                for part in (
                    bound,
                    *(getattr(getattr(bound, name, None), "__self__", None) for name in ("func", "afunc")),
                ):
                    if part is not None and part is not graph and not hasattr(part, "get_subgraphs"):
                        yield from _policies(part)
