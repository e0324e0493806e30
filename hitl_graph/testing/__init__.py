"""Stand-ins for the model, the reviewer and the clock; everything else of a test runs for real."""

from hitl_graph.testing.clock import FakeClock
from hitl_graph.testing.model import Reply, ScriptedChatModel, tool_call
from hitl_graph.testing.openai_server import FakeOpenAI
from hitl_graph.testing.reviewer import ScriptedReviewer

__all__ = ["FakeClock", "FakeOpenAI", "Reply", "ScriptedChatModel", "ScriptedReviewer", "tool_call"]
