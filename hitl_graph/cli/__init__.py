"""The command `hitl`: look at what waits, decide, carry it out, check the record."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        from hitl_graph.cli.app import run
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(f"hitl needs {exc.name}, which is not installed: pip install 'hitl-graph[cli]'", file=sys.stderr)
        return 1
    return run(sys.argv[1:] if argv is None else argv)
