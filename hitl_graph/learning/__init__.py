"""Learning from decisions: ask less, with a guarantee. Extra `learning`.

`Unsure` in a rule lets calls go without asking, under a certificate; `DecisionLog` reads what people decided and issues
it. Beneath are functions over scores and labels, which read no database: `certify` says from which score on decisions
may be automatic, `Online` the same after every label; `ErrorDrift` and `shift` say when to stop, `choose` what to ask
about, `is_audited` what to look at all the same, `agreement` how far people agree.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hitl_graph.learning.audit import draw, is_audited
    from hitl_graph.learning.certificate import Certificate, Guarantee, NotEnough
    from hitl_graph.learning.certifying import certify, certify_each
    from hitl_graph.learning.choosing import Chosen, choose
    from hitl_graph.learning.drift import ErrorDrift, Shift, shift
    from hitl_graph.learning.examples import Example
    from hitl_graph.learning.health import Health
    from hitl_graph.learning.labelling import Candidate
    from hitl_graph.learning.log import DecisionLog
    from hitl_graph.learning.online import Online
    from hitl_graph.learning.unsure import Unsure

__all__ = [
    "Candidate",
    "Certificate",
    "Chosen",
    "DecisionLog",
    "ErrorDrift",
    "Example",
    "Guarantee",
    "Health",
    "NotEnough",
    "Online",
    "Shift",
    "Unsure",
    "certify",
    "certify_each",
    "choose",
    "draw",
    "is_audited",
    "shift",
]

_PLACES = {
    "Candidate": "labelling", "Certificate": "certificate", "Chosen": "choosing", "DecisionLog": "log",
    "ErrorDrift": "drift", "Example": "examples", "Guarantee": "certificate", "Health": "health",
    "NotEnough": "certificate", "Online": "online", "Shift": "drift", "Unsure": "unsure", "certify": "certifying",
    "certify_each": "certifying", "choose": "choosing", "draw": "audit", "is_audited": "audit", "shift": "drift",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """What is asked for is imported then: a rule needs no numpy until something is certified."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    except ModuleNotFoundError as exc:
        if exc.name not in ("numpy", "scipy"):
            raise
        raise ImportError(f'{name} needs an extra: pip install "hitl-graph[learning]"') from exc
    globals()[name] = found
    return found
