"""`hitl policy`."""

import typer

from hitl_graph.cli.app import app

__all__ = ["policy"]

policy = typer.Typer(help="What a policy says, and would have said.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(policy, name="policy")
