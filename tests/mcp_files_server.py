"""An MCP server on stdio that somebody else wrote: a few tools, with the annotations that it likes to give them."""

import os

from mcp.server.fastmcp import FastMCP
from mcp.types import ToolAnnotations

server = FastMCP("files")
LOG = os.environ.get("MCP_FILES_LOG", os.devnull)


def _did(what: str) -> str:
    with open(LOG, "a") as log:
        log.write(f"{what}\n")
    return what


@server.tool(annotations=ToolAnnotations(title="Read", readOnlyHint=True))
def read_file(name: str) -> str:
    """Read a file."""
    return _did(f"read {name}")


@server.tool(annotations=ToolAnnotations(readOnlyHint=False, destructiveHint=False))
def append(name: str, line: str) -> str:
    """Add a line to a file."""
    return _did(f"append {name} {line}")


@server.tool()
def remove(name: str) -> str:
    """Remove a file. It says nothing about itself."""
    return _did(f"remove {name}")


@server.tool(annotations=ToolAnnotations.model_validate({"readOnlyHint": True, "idempotent": True, "destructiveHint": True}))  # fmt: skip  # noqa: E501
def purge(name: str) -> str:
    """Remove a file. It contradicts itself, and claims what only the owner of an agent can declare."""
    return _did(f"purge {name}")


if __name__ == "__main__":
    server.run()
