"""Tools of MCP servers under names that rules can gate by server: `mcp__github__create_issue`, as in Claude Code.

`langchain-mcp-adapters` names a tool as its server does, so that a server that is added later can offer a tool of any
name, also of one that a rule allows. The names here begin with what *you* call the server.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, get_args

from langchain_core.tools import BaseTool

from hitl_graph.errors import PolicyError
from hitl_graph.policy.hints import Hint

__all__ = ["SERVER", "aload_tools", "named"]

SERVER = "mcp_server"
"""Names in a tool's metadata the server that it comes from."""
_TOLD = {"title", "_meta", *get_args(Hint)}


class _Client(Protocol):
    """`langchain_mcp_adapters.client.MultiServerMCPClient`."""

    @property
    def connections(self) -> Mapping[str, Any]: ...

    async def get_tools(self, *, server_name: str | None = None) -> list[BaseTool]: ...


def named(tools: Iterable[BaseTool], server: str) -> list[BaseTool]:
    """The tools of one server, called `mcp__SERVER__TOOL`.

    Of what the server says of a tool, title and hints stay in its `metadata` (`_meta` as it is), beside `mcp_server`.

    Args:
        server: What rules call it: letters, digits, `-` and single `_`.

    Raises:
        PolicyError: The server cannot be called so, or offers a name twice.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*", server):
        raise PolicyError(f"an MCP server cannot be called {server!r} in rules: letters, digits, - and single _ only")
    found: dict[str, BaseTool] = {}
    for tool in tools:
        name = f"mcp__{server}__{tool.name}"
        if name in found:
            raise PolicyError(f"the MCP server {server!r} offers {tool.name!r:.80} twice; a rule could not tell which")
        told = {key: value for key, value in (tool.metadata or {}).items() if key in _TOLD and value is not None}
        found[name] = tool.model_copy(update={"name": name, "metadata": {**told, SERVER: server}})
    return list(found.values())


async def aload_tools(client: _Client) -> list[BaseTool]:
    """The tools of all servers of a `MultiServerMCPClient`, named by `named`.

    Raises:
        PolicyError: See `named`.
    """
    tools = list[BaseTool]()
    for server in client.connections:
        offered = await client.get_tools(server_name=server)
        if getattr(client, "tool_name_prefix", False):
            prefix = f"{server}_"
            offered = [tool.model_copy(update={"name": tool.name.removeprefix(prefix)}) for tool in offered]
        tools += named(offered, server)
    return tools
