"""`hitl demo`."""

from pathlib import Path
from typing import Annotated

import typer

from hitl_graph.cli.app import FAILED, Command, Failure, app

__all__: list[str] = []


@app.command(cls=Command)
def demo(
    mailbox: Annotated[Path | None, typer.Option(help="An mbox file, or a folder of .eml files.")] = None,
    db: Annotated[Path | None, typer.Option(help="Where to keep it. Default: a new temporary file.")] = None,
    script: Annotated[
        bool | None, typer.Option("--script/--interactive", help="Who answers. Default: you, if this is a terminal.")
    ] = None,
) -> None:
    """An e-mail assistant that asks before it sends; its worker is killed in the middle of a send."""
    try:
        from hitl_graph.demo import director
    except ModuleNotFoundError as exc:
        raise Failure(
            FAILED, f"the demo needs {exc.name}, which is not installed: pip install 'hitl-graph[demo]'"
        ) from exc
    code = director.run(mailbox, db, script)
    if code:
        raise typer.Exit(code)
