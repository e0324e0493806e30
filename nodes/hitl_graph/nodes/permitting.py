"""What takes the place of asking: a standing permission. The one that is spent is chosen when the permit is taken."""

from collections.abc import Callable

from hitl_graph.ledger import grants
from hitl_graph.ledger.effects import Authority
from hitl_graph.ledger.grants import Given
from hitl_graph.model import Action
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.terms import terms_of
from hitl_graph.policy import Verdict
from hitl_graph.reviewers import person
from hitl_graph.storage import Transaction
from hitl_graph.terms import Origin, Terms
from hitl_graph.voting import satisfied

__all__ = ["look", "takes_grants"]


def takes_grants(verdict: Verdict) -> bool:
    """Whether a standing permission may take the place of asking. Facts are for people to look at, each time."""
    return verdict.grants and not verdict.facts and "approve" in verdict.allowed


def look(
    asker: Asker, verdict: Verdict, action: Action, key: str, where: Callable[[], Origin | None]
) -> tuple[Authority | None, Terms | None]:
    """The standing permissions that let an action run about which this verdict would ask, if there are any.

    Those are left out that were given by fewer people, or by others, than it takes now.

    Args:
        where: Tells where the call comes from.

    Returns:
        The authority, and on which terms people are asked what became of it.

    Raises:
        PolicyError: A rule excludes somebody, and the run does not say who that is.
    """
    if not takes_grants(verdict):
        return None, None
    origin = where()
    terms = terms_of(verdict, origin, asker.ledger.clock())
    now_ms = asker.ledger.now_ms()

    def read(tx: Transaction) -> tuple[list[Given], str | None]:
        return grants.live(tx, now_ms, action, asker.thread_id, origin), grants.under(tx, key)

    found, before = asker.ledger.read(read)
    enough = tuple(given.id for given in found if _enough(asker, given, terms))
    if before is not None:  # it began under this one: what became of it is found by it, whatever became of the grant
        enough = (before,) if before in enough else ()
    elif not enough:
        return None, None
    return Authority("a standing permission", grants=enough, origin=origin), terms


def _enough(asker: Asker, given: Given, terms: Terms | None) -> bool:
    people = [(name, person(name, asker.ledger.directory)) for name in given.people]
    return satisfied(terms, given.terms, people)
