"""Who sees which request: everybody all of them, or each only what concerns them (`Door.sees`)."""

from collections.abc import Sequence

from hitl_graph.ledger import deciding, handling
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer, person, same
from hitl_graph.storage import Transaction
from hitl_graph.voting import Vote, right
from hitl_graph.web.door import Door
from hitl_graph.web.visitors import Visitor

__all__ = ["may_see", "visible"]


def may_see(door: Door, visitor: Visitor, request: Request) -> bool:
    """Whether this visitor may look at a request. Reads the ledger: not on the event loop."""
    return bool(visible(door, visitor, [request]))


def visible(door: Door, visitor: Visitor, requests: Sequence[Request]) -> list[Request]:
    """Those of these requests that this visitor may look at, in one look at the ledger.

    Where people see only what concerns them, that is what they may decide (in their own right, as a deputy, by a
    delegation or a veto), what they gave away, and what they or somebody in their place has voted on.
    """
    if door.sees == "all" or not requests:
        return list(requests)
    who, ledger = visitor.reviewer, door.ledger
    away = [person(name, ledger.directory) for name in ledger.read(handling.deputised, ledger.now_ms(), who.name)]
    votes = ledger.read(_votes, [request.id for request in requests])
    return [request for request in requests if _concerns(request, who, away, votes[request.id])]


def _votes(tx: Transaction, ids: list[str]) -> dict[str, tuple[Vote, ...]]:
    return deciding.votes_on(tx, ids)


def _concerns(request: Request, who: Reviewer, away: Sequence[Reviewer], votes: Sequence[Vote]) -> bool:
    if right(request, who, away, votes) is not None:
        return True
    if who.is_anonymous:
        return False
    names = [name for vote in votes for name in (vote.reviewer, vote.behalf)]
    if request.handling is not None:
        names += [name for given in request.handling.delegations for name in (given.by, given.to)]
    return any(name is not None and same(name, who.name) for name in names)
