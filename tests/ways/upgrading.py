"""Threads that a release leaves behind, and how each of them has to end under a later one.

`scripts/record_upgrade.py` runs `record` with the code of a release, also with that of the first one: so this module
and what it imports use only what that release had.
"""

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve
from tests.invariants.agents import AnyGraph, Calls, config_of, pay_call, said, search_call, write_effect
from tests.ways.builders import WAYS, Parts, Way, way_named
from tests.ways.scripted import chat_model

__all__ = ["FIRST", "LANGCHAINS_OWN", "Left", "agent_of", "dump", "leave", "record", "restore"]

FIRST = "0.1.0"
_NODES = ["ApprovalNode", "subgraph, two deep", "graph run by a node", "Send", "parallel subagents"]
_NODES += ["create_react_agent", "supervisor"]


def _own(mode: Any) -> Callable[[Parts, BaseCheckpointSaver[Any]], AnyGraph]:
    def assemble(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> Any:
        from langchain.agents import create_agent
        from langchain.agents.middleware import HumanInTheLoopMiddleware

        asks: Any = HumanInTheLoopMiddleware({"pay": True}, interrupt_mode=mode)
        model, tools = chat_model(parts.effects_file), list(parts.tools)
        return create_agent(model, tools, middleware=[asks], checkpointer=checkpointer)

    return assemble


def _own_deep(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> Any:
    from deepagents import create_deep_agent

    model, tools = chat_model(parts.effects_file), list(parts.tools)
    return create_deep_agent(model, tools, interrupt_on={"pay": True}, checkpointer=checkpointer)


def _plain(parts: Parts, checkpointer: BaseCheckpointSaver[Any]) -> AnyGraph:
    """A node that asks with `interrupt()` itself."""

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"the answer was {interrupt('Which city?')}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=checkpointer)


LANGCHAINS_OWN = [
    Way("HumanInTheLoopMiddleware, batched", _own("batched")),
    Way("HumanInTheLoopMiddleware, per call", _own("per_call")),
    Way("deepagents, interrupt_on", _own_deep),
]
PLAIN = Way("plain interrupt()", _plain)


@dataclass(frozen=True)
class Left:
    """A thread that was left behind.

    Args:
        thread: Its id.
        way: How its agent is built.
        how: `asked`: nobody answered; `decided`: approved, not carried out; `unknown`: cut off in its effect, and asked
            about; `done`: at its end.
    """

    thread: str
    way: Way
    how: str

    @property
    def calls(self) -> Calls:
        return [search_call("x"), pay_call(1)] if self.how == "asked" else [pay_call(1)]


def leave(version: str) -> list[Left]:
    """The threads of a release."""
    ways = [way_named(name) for name in _NODES] if version == FIRST else WAYS
    asked = [Left(way.name, way, "asked") for way in [*ways, *LANGCHAINS_OWN, PLAIN]]
    return [*asked, *(Left(how, way_named("ApprovalNode"), how) for how in ("decided", "unknown", "done"))]


def agent_of(left: Left, checkpointer: BaseCheckpointSaver[Any], effects_file: str | os.PathLike[str]) -> AnyGraph:
    """The agent of the thread."""
    return left.way.build(checkpointer, effects_file, tools=_tools(effects_file))


def _tools(effects_file: str | os.PathLike[str]) -> list[BaseTool]:
    def pay(eur: int, to: str, tool_call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Send money."""
        thread = config["configurable"]["thread_id"]
        write_effect(effects_file, f"{thread} | pay {eur} {to}")
        if thread == "unknown" and Path(f"{os.fspath(effects_file)}.recording").exists():
            raise ConnectionError("the line went dead")
        return f"paid {eur} to {to}"

    def search(q: str) -> str:
        """Search the web."""
        return f"found {q}"

    return [StructuredTool.from_function(pay), StructuredTool.from_function(search)]


def record(database: str, version: str) -> None:
    """Leave the threads of a release behind in a new database."""
    effects = f"{database}.effects"
    Path(f"{effects}.recording").touch()
    with SqliteCheckpointer(database) as checkpointer:
        for left in leave(version):
            graph, inbox = agent_of(left, checkpointer, effects), Inbox(checkpointer.ledger)
            graph.invoke(said(left.calls), config_of(left.thread), durability="sync")
            if left.how == "asked":
                continue
            [request] = inbox.pending(thread_id=left.thread)
            inbox.decide(request.id, approve(), reviewer="alice")
            if left.how != "decided":
                with suppress(ConnectionError):
                    graph.invoke(_resume(request), config_of(left.thread), durability="sync")
            if left.how == "unknown":
                graph.invoke(None, config_of(left.thread), durability="sync")


def _resume(request: Any) -> Any:
    from langgraph.types import Command

    return Command(resume={request.interrupt_id: {"request_id": request.id, "digest": request.digest}})


_SHADOW = re.compile(r"""(INSERT INTO|CREATE TABLE) ["']hitl_words(_(config|content|data|docsize|idx))?["']""")
_VIRTUAL = re.compile(r"INSERT INTO sqlite_master.*'hitl_words',0,'(CREATE VIRTUAL TABLE .*)'\);", re.DOTALL)


def dump(database: str) -> str:
    """The database as SQL; the words of requests are due again, as SQL cannot say what is in a table of FTS5."""
    with closing(sqlite3.connect(database)) as connection:
        lines = [
            f"PRAGMA {name}={connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        for line in connection.iterdump():
            if virtual := _VIRTUAL.match(line):
                lines += [virtual[1].replace("''", "'") + ";"]
            elif not _SHADOW.match(line) and not line.startswith("PRAGMA writable_schema"):
                lines.append(line)
        if any("hitl_words_due" in line for line in lines):
            lines[-1:] = ["INSERT OR IGNORE INTO hitl_words_due SELECT id FROM hitl_requests WHERE state = 'pending';"]
            lines.append("COMMIT;")
        return "\n".join([*lines, ""])


def restore(sql: str, database: str | os.PathLike[str]) -> None:
    """A database from its SQL."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)
        connection.commit()
