"""Graph nodes that ask people, and what goes with them."""

from hitl_graph.learning.unsure import Unsure
from hitl_graph.nodes.approval import ApprovalNode
from hitl_graph.nodes.checking import Judge
from hitl_graph.nodes.code import CodeBlocksNode, CodeResult, code_tool
from hitl_graph.nodes.escalation import EscalationNode
from hitl_graph.nodes.human import ask_human
from hitl_graph.nodes.questionnaire import ask_human_questions
from hitl_graph.nodes.review import OutputReviewNode
from hitl_graph.nodes.revisions import Revision, released
from hitl_graph.nodes.user_proxy import UserProxyNode
from hitl_graph.nodes.verdicts import Sampled
from hitl_graph.nodes.withholding import withheld

__all__ = [
    "ApprovalNode",
    "CodeBlocksNode",
    "CodeResult",
    "EscalationNode",
    "Judge",
    "OutputReviewNode",
    "Revision",
    "Sampled",
    "Unsure",
    "UserProxyNode",
    "ask_human",
    "ask_human_questions",
    "code_tool",
    "released",
    "withheld",
]
