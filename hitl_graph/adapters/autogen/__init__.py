"""For people who have AutoGen agents (`autogen-agentchat` 0.7): what they ask and do, in our ledger and inbox.

`People` gives an input function, approved tools, an approval of code and an intervention handler to agents that run by
themselves. `team_node` runs a team inside a LangGraph graph, which pauses instead of waiting.
"""

from importlib.util import find_spec

if find_spec("autogen_agentchat") is None:
    raise ImportError("AutoGen is not installed: pip install 'hitl-graph[autogen]'")

from hitl_graph.adapters.autogen.intervention import ApprovalIntervention
from hitl_graph.adapters.autogen.people import People
from hitl_graph.adapters.autogen.team import team_node
from hitl_graph.adapters.autogen.tools import ApprovedTool

__all__ = ["ApprovalIntervention", "ApprovedTool", "People", "team_node"]
