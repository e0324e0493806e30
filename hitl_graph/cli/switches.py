"""`hitl switch`: make everything ask, or stop it, at once."""

import shlex
from typing import Annotated

import typer

from hitl_graph.cli import views
from hitl_graph.cli.app import (
    USAGE,
    As,
    Command,
    Db,
    Failure,
    Json,
    Listing,
    app,
    emit,
    note,
    open_ledger,
    reviewer_name,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger.switches import Setting

__all__: list[str] = []

_All = Annotated[bool, typer.Option("--all", help="Every call of every agent.")]
_Graph = Annotated[
    str | None,
    typer.Option("--graph", metavar="NAME", help="Every call of ApprovalNode(..., graph=NAME)."),
]
_Thread = Annotated[
    str | None, typer.Option("--thread", metavar="ID", help="Every call of this thread; a conversation ends, too.")
]
_Tool = Annotated[str | None, typer.Option("--tool", metavar="GLOB", help="Every call of these tools.")]
_Why = Annotated[str, typer.Option("-m", "--message", help="Why. Agents and people are told.")]

group = typer.Typer(cls=Listing, help="Switches: stop agents, or make them ask, whatever their policy says.")
app.add_typer(group, name="switch")


@group.command("list", cls=Command)
def list_switches(db: Db = "agent.db", as_json: Json = False) -> None:
    """The switches that are on."""
    with open_ledger(db) as ledger:
        found = Inbox(ledger).switches()
    if as_json:
        for one in found:
            at = one.at.isoformat().replace("+00:00", "Z")
            emit({"scope": one.scope, "outcome": one.outcome, "reason": one.reason, "by": one.by, "at": at})
        return
    if not found:
        note("No switch is on.")
        return
    out = views.console()
    rows = [
        (views.visible(one.scope), one.outcome, views.clock(one.at), views.visible(one.by), views.visible(one.reason))
        for one in found
    ]
    views.show(out, [views.table(out, ("SWITCH", "SET TO", "SINCE", "BY", "WHY"), rows, whole=(0, 1, 2), main=4)])


@group.command("deny", cls=Command)
def deny(
    message: _Why, everything: _All = False, graph: _Graph = None, thread: _Thread = None, tool: _Tool = None,
    reviewer: As = None, db: Db = "agent.db",
) -> None:  # fmt: skip
    """Stop it: nothing that this is about starts any more, also where people approved it."""
    _put("deny", _scope(everything, graph, thread, tool), message, reviewer, db)


@group.command("ask", cls=Command)
def ask(
    message: _Why, everything: _All = False, graph: _Graph = None, thread: _Thread = None, tool: _Tool = None,
    reviewer: As = None, db: Db = "agent.db",
) -> None:  # fmt: skip
    """Make it ask: what a policy or a standing permission allows. What people approved runs."""
    _put("ask", _scope(everything, graph, thread, tool), message, reviewer, db)


@group.command("off", cls=Command)
def off(
    message: Annotated[str, typer.Option("-m", "--message", help="Why.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="The switch for everything; others stay on.")] = False,
    graph: _Graph = None,
    thread: _Thread = None,
    tool: _Tool = None,
    reviewer: As = None,
    db: Db = "agent.db",
) -> None:
    """Turn a switch off."""
    scope, who = _scope(everything, graph, thread, tool), reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        Inbox(ledger).lift(scope, reviewer=who, reason=message)
        left = Inbox(ledger).switches()
    print(f"Off, as {views.visible(who)}: {views.visible(scope)}.")
    if left:
        note(f"Still on: {', '.join(views.visible(one.scope) for one in left)}.")


def _scope(everything: bool, graph: str | None, thread: str | None, tool: str | None) -> str:
    named = {"graph": graph, "thread": thread, "tool": tool}
    scopes = ["all"] * everything + [f"{kind}:{name}" for kind, name in named.items() if name is not None]
    if len(scopes) != 1:
        options = "one of --all, --graph NAME, --thread ID and --tool GLOB"
        raise Failure(USAGE, f"say what it is about: {options}; nothing was changed")
    return scopes[0]


def _put(outcome: Setting, scope: str, message: str, reviewer: str | None, db: str) -> None:
    who = reviewer_name(reviewer)
    with open_ledger(db) as ledger:
        Inbox(ledger).switch(scope, outcome, reviewer=who, reason=message)
    kind, _, name = scope.partition(":")
    seen = views.visible(name)
    what = {"all": "", "graph": f" in graph {seen}", "thread": f" in thread {seen}", "tool": f" of {seen}"}[kind]
    if outcome == "deny":
        print(f"As {views.visible(who)}: no call{what} starts any more.")
    else:
        print(f"As {views.visible(who)}: each call{what} is asked about, unless people approved it.")
    option = "--all" if kind == "all" else f"--{kind} {shlex.quote(name)}"
    note(f"`hitl switch off {option}` ends it. What has started goes on.")
