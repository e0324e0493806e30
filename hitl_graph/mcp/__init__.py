"""The inbox for any client of the Model Context Protocol: it lists, shows, and asks its human to decide."""

from hitl_graph.mcp.identity import ApiTokens, Guest, Tokens
from hitl_graph.mcp.server import create_server

__all__ = ["ApiTokens", "Guest", "Tokens", "create_server"]
