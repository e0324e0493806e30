"""One agent, one ledger and one effects file, driven sync or async, on our checkpointer or beside a foreign one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, Request
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy
from hitl_graph.worker import Resumed, Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import AnyGraph, Calls, Graph, build, ran, said

__all__ = ["ALICE", "APPROVE", "AnyGraph", "Mode", "Scene"]

ALICE = "alice"
APPROVE = {"type": "approve"}
Mode = Literal["sync", "async"]


class Scene:
    """What a test needs to play an agent, its people and its attackers.

    Args:
        path: A folder of its own.
        own: Our checkpointer; else LangGraph's InMemorySaver with a ledger given to the node.
        mode: Whether the graph is driven by `invoke` or by `ainvoke`.
    """

    def __init__(self, path: Path, *, own: bool, mode: Mode) -> None:
        self.own, self.mode, self.effects = own, mode, path / "effects"
        self.checkpointer: BaseCheckpointSaver[Any]
        if own:
            self.checkpointer = checkpointer = open_checkpointer(str(path / "agent.db"))
            self.ledger, self.given = checkpointer.ledger, None
        else:
            self.checkpointer = InMemorySaver()
            self.ledger = self.given = open_ledger(path / "ledger.db")
        self.inbox = Inbox(self.ledger)

    def close(self) -> None:
        if isinstance(self.checkpointer, Checkpointer):
            self.checkpointer.close()
        else:
            self.ledger.close()

    def agent(self, **options: Any) -> Graph:
        """The agent of `agents.build` here."""
        return build(self.checkpointer, self.effects, ledger=self.given, **options)

    def node(self, tools: Sequence[BaseTool], policy: Policy | None = None) -> ApprovalNode:
        return ApprovalNode(tools, policy=policy, ledger=self.given)

    def go(
        self, graph: AnyGraph, input: Any, thread: str = "t", *, checkpoint_id: str | None = None, **how: Any
    ) -> Any:
        """Invoke."""
        config: RunnableConfig = {"configurable": {"thread_id": thread, **how.pop("configurable", {})}}
        if checkpoint_id is not None:
            config["configurable"]["checkpoint_id"] = checkpoint_id
        if self.mode == "async":
            return asyncio.run(graph.ainvoke(input, config, **how))
        return graph.invoke(input, config, **how)

    def start(self, graph: AnyGraph, calls: Calls | Sequence[Calls], thread: str = "t", **how: Any) -> list[Request]:
        """Run the agent to its pause; gives what people are asked."""
        self.go(graph, said(calls), thread, **how)
        return self.asked()

    def asked(self) -> list[Request]:
        """What waits for people, in the order of its content."""
        return sorted(self.inbox.pending(), key=lambda request: request.action.digest if request.action else "")

    def the_one(self) -> Request:
        """The only request that waits."""
        [request] = self.inbox.pending()
        return request

    def decide(self, request: Request, decision: Decision) -> Request:
        return self.inbox.decide(request.id, decision, reviewer=ALICE, digest=request.digest)

    def work(self, graph: AnyGraph) -> list[Resumed]:
        """One round of a worker."""
        worker = Worker(graph, self.ledger)
        return asyncio.run(worker.arun_once()) if self.mode == "async" else worker.run_once()

    def waits(self, graph: AnyGraph, thread: str = "t") -> list[str]:
        """Ids of the interrupts for which the thread waits."""
        return [interrupt.id for interrupt in graph.get_state({"configurable": {"thread_id": thread}}).interrupts]

    def head(self, graph: AnyGraph, thread: str = "t") -> str:
        """Id of the thread's latest checkpoint."""
        state = graph.get_state({"configurable": {"thread_id": thread}})
        return cast(str, state.config["configurable"]["checkpoint_id"])

    def ran(self) -> list[str]:
        """What was executed, such as `pay 1 bob`."""
        return [line.split(" ", 2)[2] for line in ran(self.effects)]

    def states(self, thread: str = "t") -> list[str]:
        return [request.state for request in self.ledger.history(thread)]
