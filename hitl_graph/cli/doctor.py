"""`hitl doctor`: what is wrong here, and what to do about it."""

import os
import platform
import shutil
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated, Any

import typer
from rich.text import Text

from hitl_graph.cli import views
from hitl_graph.cli.app import (
    DATABASE,
    FAILED,
    TAMPERED,
    Command,
    Db,
    Failure,
    Json,
    app,
    check_database,
    directory,
    emit,
    told,
)
from hitl_graph.cli.progress import counted
from hitl_graph.cli.waiting import Finding, claims, stuck_effects, stuck_requests, undecidable
from hitl_graph.cli.working import attached, load_graph
from hitl_graph.errors import HitlError
from hitl_graph.ledger import Ledger
from hitl_graph.storage import Transaction
from hitl_graph.storage.sqlite_file import migrations

__all__: list[str] = []

_NEEDED = ("langgraph", "langchain-core", "pydantic")
_LOW_DISK, _LONG_LOG = 200 * 2**20, 256 * 2**20
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}


@app.command("doctor", cls=Command)
def examine(
    graph: Annotated[str | None, typer.Argument(metavar="[MODULE:GRAPH]", help="Look at this graph too.")] = None,
    minutes: Annotated[float, typer.Option(min=0, help="From when on something counts as stuck.")] = 10.0,
    db: Db = "agent.db",
    as_json: Json = False,
) -> None:
    """Look for what is wrong: versions, the database, the log, what is stuck, how the graph is built."""
    findings: list[Finding] = []
    out = views.console()
    for finding in _all(db, graph, timedelta(minutes=minutes)):
        findings.append(finding)
        if as_json:
            emit(vars(finding) | {"code": finding.code if finding.level == "problem" else 0})
        else:
            _print(out, finding)
    problems = [finding for finding in findings if finding.level == "problem"]
    if not as_json:
        print(f"{len(problems)} to mend." if problems else "All is well.")
    codes = {finding.code for finding in problems}
    if worst := next((code for code in (DATABASE, TAMPERED, FAILED) if code in codes), 0):
        raise typer.Exit(worst)


def _print(out: Any, finding: Finding) -> None:
    style = {"ok": "green", "note": "yellow", "problem": "bold red"}[finding.level]
    lines: list[Text | str] = [
        Text.assemble((f"{finding.level:<8} ", style), f"{finding.check}: {views.visible(finding.text)}")
    ]
    if finding.advice:
        lines.append(f"         -> {views.visible(finding.advice)}")
    views.show(out, lines)


def _all(db: str, graph: str | None, stuck: timedelta) -> Iterator[Finding]:
    yield from _versions()
    try:
        check_database(db)
        yield from _file(db)
        with Ledger.open(db, directory=directory()) as ledger:
            yield from _database(ledger)
            yield from _log(ledger)
            yield from stuck_requests(ledger, stuck)
            yield from undecidable(ledger)
            yield from stuck_effects(ledger)
            yield from claims(ledger)
    except Exception as exc:
        code, message = told(exc)
        yield Finding("database", "problem", message, code=code)
    if graph is not None:
        yield from _graph(graph, db)


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding(
        "python",
        "ok" if _new_enough() else "problem",
        platform.python_version(),
        "hitl-graph needs 3.11 or later" if not _new_enough() else "",
    )
    try:
        needed = {r.name: r for r in map(Requirement, requires("hitl-graph") or ()) if not r.marker}
    except PackageNotFoundError:
        needed = {}
    for name in _NEEDED:
        found = version(name)
        if name in needed and not needed[name].specifier.contains(found, prereleases=True):
            yield Finding(
                name,
                "problem",
                f"{found}, but hitl-graph is made for {needed[name].specifier}",
                f"pip install '{needed[name]}'",
            )
        else:
            yield Finding(name, "ok", found)


def _new_enough() -> bool:
    return tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 11)


def _file(path: str) -> Iterator[Finding]:
    size, log = os.path.getsize(path), _size(path + "-wal")
    yield Finding(
        "file",
        "ok",
        f"{os.path.abspath(path)}, {_mega(size)}" + (f" and {_mega(log)} of write-ahead log" if log else ""),
    )
    if not os.access(path, os.W_OK) or not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        yield Finding(
            "writing", "problem", "this user may not write the file or its folder: looking works, deciding does not",
            f"decide as the user who owns it (uid {os.stat(path).st_uid}), or give yourself the right", DATABASE,
        )  # fmt: skip
    if log > _LONG_LOG:
        yield Finding(
            "write-ahead log", "note", f"{_mega(log)}", "a reader holds it open; end programs that look at the file"
        )
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if free < _LOW_DISK:
        yield Finding(
            "disk", "problem", f"only {_mega(free)} are free", "make room: a full disk stops every agent", DATABASE
        )
    if (kind := _filesystem(path)) in _REMOTE:
        yield Finding(
            "file system", "problem", f"{kind}: SQLite's locks and shared memory do not work over a network",
            "put it on a local disk", DATABASE,
        )  # fmt: skip


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _mega(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size / 2**10:.0f} KB"


def _filesystem(path: str) -> str:
    """The kind of the file system, as Linux names it; empty where that cannot be told."""
    real, best, kind = os.path.realpath(path), "", ""
    try:
        with open("/proc/mounts", encoding="utf-8") as mounts:
            for line in mounts:
                _, point, name, *_ = line.split(" ")
                inside = real == point or real.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, name
    except OSError:
        pass
    return kind


def _database(ledger: Ledger) -> Iterator[Finding]:
    def pragmas(tx: Transaction) -> tuple[int, str, list[str]]:
        broken = [row[0] for row in tx.execute("PRAGMA integrity_check(5)").fetchall()]
        journal = tx.execute("PRAGMA journal_mode").fetchone()[0]
        return tx.execute("PRAGMA user_version").fetchone()[0], journal, broken

    number, journal, broken = ledger.read(pragmas)
    yield Finding("version", "ok", f"{number} (this hitl-graph knows up to {len(migrations())})")
    if broken == ["ok"]:
        yield Finding("integrity", "ok", "every page and index is in order")
    else:
        yield Finding(
            "integrity", "problem", "; ".join(broken),
            "stop all agents and workers, restore a backup, or try `sqlite3 FILE .recover`", DATABASE,
        )  # fmt: skip
    if journal != "wal":
        yield Finding(
            "journal", "note", f"{journal}, not wal: readers wait for writers",
            "another program changed it: `sqlite3 FILE 'PRAGMA journal_mode=wal'`",
        )  # fmt: skip


def _log(ledger: Ledger) -> Iterator[Finding]:
    with counted("audit log", "rows") as tick:
        report = ledger.verify_audit(progress=tick)
    if report.ok:
        yield Finding("audit log", "ok", f"{report.rows} rows, head {report.head[:16]}")
    else:
        yield Finding(
            "audit log",
            "problem",
            str(report.problem),
            "keep this file as it is, and compare it with a backup",
            TAMPERED,
        )


def _graph(spec: str, db: str) -> Iterator[Finding]:
    from langgraph.prebuilt import ToolNode

    from hitl_graph.nodes import ApprovalNode, EscalationNode

    try:
        graph = load_graph(spec)
    except Failure as exc:
        yield Finding("graph", "problem", str(exc))
        return
    yield Finding("graph", "ok", f"{spec} is a {type(graph).__name__}")
    try:
        with attached(graph, db if os.path.exists(db) else None, explicit=True) as (_, ledger):
            if graph.checkpointer:
                yield Finding(
                    "checkpointer", "ok", f"{type(graph.checkpointer).__name__}; ledger {ledger.database.url}"
                )
            else:
                yield Finding("checkpointer", "note", "none compiled in", f"hitl worker {spec} --db {db} gives it one")
    except (Failure, HitlError) as exc:
        yield Finding("checkpointer", "problem", str(exc))
    guarded, nodes = list[str](), list(_nodes(graph))
    gates = {_folder(name): _middleware(node) for name, node in nodes if _middleware(node) == "ApprovalMiddleware"}
    for name, node in nodes:
        if asks := _middleware(node):
            guarded.append(name)
            if asks != "ApprovalMiddleware":
                yield Finding("middleware", "ok", f"{name} asks people")
        elif isinstance(node, ApprovalNode):
            guarded.append(name)
            rules = len(node.policy.rules)
            yield Finding(
                "node", "ok", f"{name} is an ApprovalNode: {rules} rules, tools {', '.join(node.tools_by_name)}"
            )
        elif isinstance(node, EscalationNode):
            guarded.append(name)
            shown = name.replace("__error_handler__", "the error handler of ")
            yield Finding("node", "ok", f"{shown} is an EscalationNode; it goes on at {node.resume}")
        elif isinstance(node, ToolNode) and (gate := gates.get(_folder(name))):
            yield Finding("node", "ok", f"{name} has the {gate}: tools {', '.join(node.tools_by_name)}")
        elif isinstance(node, ToolNode):
            yield Finding(
                "node", "problem", f"{name} is a plain ToolNode: nobody is asked about {', '.join(node.tools_by_name)}",
                "ApprovalNode(tools, policy=...) takes its place; in create_agent, ApprovalMiddleware",
            )  # fmt: skip
    if not guarded:
        without = "no node and no middleware of hitl-graph is in it"
        yield Finding("node", "note", without, "only its own interrupts pause it: docs/approval.md")


def _folder(name: str) -> str:
    """The (sub)graph of a node, by the names on the way; hooks of middleware have a dot in their own name."""
    return name.removesuffix(".after_model").rpartition(".")[0]


def _middleware(node: Any) -> str | None:
    """The name of our middleware of which a node is a hook, if it is of one."""
    owner = type(getattr(getattr(node, "func", None), "__self__", None))
    return owner.__name__ if owner.__module__.startswith("hitl_graph.adapters.langchain") else None


def _nodes(graph: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """What stands at each node, in subgraphs too."""
    for name, node in graph.nodes.items():
        bound = node.bound
        yield prefix + name, bound
        if hasattr(bound, "nodes") and depth < 5:
            yield from _nodes(bound, f"{prefix}{name}.", depth + 1)
