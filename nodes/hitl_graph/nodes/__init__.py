"""Graph nodes that ask people, and what goes with them."""

from hitl_graph.nodes.approval import ApprovalNode
from hitl_graph.nodes.checking import Judge
from hitl_graph.nodes.review import OutputReviewNode
from hitl_graph.nodes.revisions import Revision, released
from hitl_graph.nodes.verdicts import Sampled, Unsure
from hitl_graph.nodes.withholding import withheld

__all__ = [
    "ApprovalNode",
    "Judge",
    "OutputReviewNode",
    "Revision",
    "Sampled",
    "Unsure",
    "released",
    "withheld",
]
