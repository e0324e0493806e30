"""`hitl mcp`."""

import os
import shlex
from datetime import timedelta
from typing import Annotated, Any

import typer

from hitl_graph.cli.app import FAILED, USAGE, As, Command, Db, Failure, app, note, open_ledger, reviewer_name
from hitl_graph.storage.urls import is_postgres

__all__: list[str] = []


@app.command("mcp", cls=Command)
def serve_mcp(
    ctx: typer.Context,
    db: Db = "agent.db",
    reviewer: As = None,
    http: Annotated[bool, typer.Option("--http", help="Serve on a port; each call carries an API token.")] = False,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="With --http: where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="With --http; 0: any that is free.")] = 8765,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME", help="With --http: a name by which clients call it; may be given again."
        ),
    ] = None,
    inbox_url: Annotated[
        str | None,
        typer.Option(
            "--inbox-url", envvar="HITL_INBOX_URL", metavar="URL", help="Address of the web inbox, if one runs."
        ),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode", metavar="MODE", help="form: the client asks its human. url: always on the web inbox's page."
        ),
    ] = "form",
    patience: Annotated[
        int, typer.Option("--patience", min=1, metavar="MINUTES", help="How long a human may take to answer.")
    ] = 60,
) -> None:
    """The inbox for MCP clients, such as Claude Desktop: they show what waits and ask you before anything is recorded.

    Without --http it serves the program that started it, on standard input and output; you are --as.
    """
    try:
        from hitl_graph.mcp import running
        from hitl_graph.mcp.identity import ApiTokens
        from hitl_graph.mcp.server import create_server
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("hitl_graph"):
            raise
        raise Failure(
            FAILED, f"hitl mcp needs {exc.name}, which is not installed: pip install 'hitl-graph[cli,mcp]'"
        ) from exc
    if mode not in ("form", "url"):
        raise Failure(USAGE, f"--mode is form or url, not {mode!r}")
    if mode == "url" and not inbox_url:
        raise Failure(USAGE, "--mode url needs the address of the web inbox: --inbox-url URL or HITL_INBOX_URL")
    source = ctx.get_parameter_source("reviewer")
    if http and reviewer is not None and source is not None and source.name == "COMMANDLINE":
        raise Failure(USAGE, "--as is for one's own client; with --http each call carries a token that says who it is")
    shared: dict[str, Any] = {
        "url": inbox_url or None,
        "mode": mode,
        "command": f"hitl show {{id}}{_where(db)}",
        "patience": timedelta(minutes=patience),
    }
    who = None if http else reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        try:
            if who is not None:
                running.run_stdio(create_server(ledger, reviewer=who, **shared), ledger.close)
                return
            hosts = [*(allow_host or ()), *([host] if host not in ("0.0.0.0", "::") else [])]
            server = create_server(ledger, tokens=ApiTokens(ledger), hosts=hosts, **shared)
        except ValueError as exc:
            raise Failure(USAGE, str(exc)) from exc
        try:
            listening = running.listen(host, port)
        except OSError as exc:
            raise Failure(FAILED, f"{host}:{port} cannot be listened on: {exc.strerror or exc}") from exc
        with listening:
            place = f"[{host}]" if ":" in host else host
            note(f"MCP at http://{place}:{listening.getsockname()[1]}/mcp, for whoever has a token; Ctrl-C ends it")
            running.run_http(server, listening)


def _where(db: str) -> str:
    """What to add to a command so that it finds the same database; of a server nothing, as it may hold a password."""
    return "" if is_postgres(db) else f" --db {shlex.quote(os.path.abspath(db)).replace('{', '{{').replace('}', '}}')}"
