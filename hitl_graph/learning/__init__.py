"""Learning from decisions: ask less, with a guarantee. Extra `learning`; pure functions, no database and no model call.

`certify` says from which score on decisions may be automatic, from labels of a random sample; `Online` does the same
after every label. `ErrorDrift` and `shift` say when to stop; `choose` what to ask about; `is_audited` what to look at
all the same; `agreement` how far people agree. Audits, certificates and `ErrorDrift` work without the extra.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from hitl_graph.learning.audit import draw, is_audited
from hitl_graph.learning.certificate import Certificate, Guarantee, NotEnough
from hitl_graph.learning.drift import ErrorDrift, Shift, shift

if TYPE_CHECKING or (find_spec("numpy") and find_spec("scipy")):
    from hitl_graph.learning.certify import certify, certify_each
    from hitl_graph.learning.choose import Chosen, choose
    from hitl_graph.learning.online import Online
else:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise ImportError(f'{name} needs an extra: pip install "hitl-graph[learning]"')


__all__ = [
    "Certificate",
    "Chosen",
    "ErrorDrift",
    "Guarantee",
    "NotEnough",
    "Online",
    "Shift",
    "certify",
    "certify_each",
    "choose",
    "draw",
    "is_audited",
    "shift",
]
