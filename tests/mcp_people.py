"""MCP clients with a human at them, and agents that wait for one, for tests."""

import contextlib
import inspect
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from langchain_core.messages import HumanMessage
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ElicitResult, TextContent

from hitl_graph.inbox import Inbox
from hitl_graph.mcp import Guest, create_server
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer
from hitl_graph.worker import Resumed, Worker
from tests import cli_agent
from tests.databases import open_checkpointer
from tests.web.conftest import serving

__all__ = ["CLOSE", "DECLINE", "MAIL", "Human", "Office", "Person", "accept", "over_http", "over_stdio", "text"]

WAIT = timedelta(seconds=60)  # a test that hangs says where
MAIL: dict[str, Any] = {"to": "bob@example.com", "subject": "Offer", "body": "Dear Bob,\n\nwe accept."}
DECLINE, CLOSE = ElicitResult(action="decline"), ElicitResult(action="cancel")


def accept(**content: Any) -> ElicitResult:
    return ElicitResult(action="accept", content=content or None)


class Human:
    """Answers what the client asks, in turn; a callable is called for the answer. `asked` is what was shown."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[Any]()

    def will(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []

    async def __call__(self, context: Any, params: Any) -> Any:
        self.asked.append(params)
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer()
        return await answer if inspect.isawaitable(answer) else answer


class Person:
    """Somebody with a token."""

    def __init__(self, name: str, *scopes: str, roles: Sequence[str] = ()) -> None:
        self.reviewer, self.scopes = Reviewer(name, roles), frozenset(scopes or ("read", "decide"))


class Office:
    """Agents over one database, in the folder of a test; `tokens` are those of its server on HTTP."""

    def __init__(self, path: str) -> None:
        self.path, self.checkpointer = path, open_checkpointer(path)
        self.ledger = self.checkpointer.ledger
        self.inbox = Inbox(self.ledger)
        self.tokens: dict[str, Guest] = {
            "alice's": Person("alice", roles=["finance"]),
            "bob's": Person("bob", roles=["finance"]),
            "eve's": Person("eve"),
            "guest's": Person("guest", "read"),
        }

    def pause(self, thread: str, tool: str, args: dict[str, Any], builder: Any = cli_agent.builder) -> Request:
        """An agent that wants to call a tool, and waits."""
        graph = builder.compile(checkpointer=self.checkpointer)
        calls = json.dumps([{"name": tool, "args": args, "id": f"call-{thread}"}])
        graph.invoke({"messages": [HumanMessage(calls)]}, {"configurable": {"thread_id": thread}})
        [request] = self.inbox.pending(thread_id=thread)
        return request

    def work(self, builder: Any = cli_agent.builder) -> list[Resumed]:
        return Worker(builder.compile(checkpointer=self.checkpointer), self.ledger).run_once()

    def untouched(self, request: Request) -> bool:
        """Whether nothing was recorded about it."""
        return self.inbox.get(request.id).state == "pending" and not self.inbox.standing(request.id).votes

    @contextlib.contextmanager
    def serving(self, **options: Any) -> Generator[str]:
        """Its server on a real port."""
        server = create_server(self.ledger, tokens=self.tokens.get, **options)
        with serving(server.streamable_http_app()) as address:
            yield f"{address}/mcp"


@contextlib.asynccontextmanager
async def over_http(
    url: str, token: str, human: Callable[..., Any] | None = None, *, notes: list[Any] | None = None
) -> AsyncGenerator[ClientSession]:
    """A client of the SDK; without a human it says that it cannot ask. What the server notes is put into `notes`."""

    async def hears(message: Any) -> None:
        if notes is not None:
            notes.append(message)

    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=30) as http,
        streamable_http_client(url, http_client=http) as (reading, writing, _),
        ClientSession(reading, writing, WAIT, elicitation_callback=human, message_handler=hears) as session,
    ):
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def over_stdio(
    *options: str, human: Callable[..., Any] | None = None, cwd: Path | None = None
) -> AsyncGenerator[ClientSession]:
    """A client of the SDK that starts `hitl mcp` as Claude Desktop would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HITL_")}
    started = StdioServerParameters(
        command=sys.executable, args=["-m", "hitl_graph.cli", "mcp", *options], cwd=cwd, env=environment
    )
    async with (
        stdio_client(started) as (reading, writing),
        ClientSession(reading, writing, WAIT, elicitation_callback=human) as session,
    ):
        await session.initialize()
        yield session


def text(result: CallToolResult) -> str:
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text
