"""Writers whose drafts are reviewed, for tests: what they write is said beforehand."""

import asyncio
import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import Decision, Request
from hitl_graph.nodes import OutputReviewNode
from hitl_graph.nodes.revisions import Revision, on_messages
from hitl_graph.worker import Resumed, Worker

__all__ = ["Desk", "Drafts", "writing", "writing_messages"]

Colour = Literal["sync", "async"]
Graph = CompiledStateGraph[Any, Any, Any, Any]


class Drafts(TypedDict, total=False):
    draft: Any
    delivered: Any
    reviews: Annotated[list[Revision], operator.add]
    went_on: bool


def writing(
    drafts: Sequence[Any] | Callable[[Drafts], Any], node: OutputReviewNode, state: type[Any] = Drafts
) -> StateGraph[Any, Any, Any, Any]:
    """A graph whose state has the draft under a key. Its writer gives the draft whose turn it is."""

    def write(state: Any) -> Drafts:
        draft = drafts(state) if callable(drafts) else drafts[len(state["reviews"])]
        return {"draft": draft}

    def publish(state: Any) -> Drafts:
        return {"went_on": True}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(state)
    builder.add_node("writer", write)
    builder.add_node("review", node, destinations=node.destinations)
    builder.add_node("publish", publish)
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "review")
    return builder


def writing_messages(texts: Sequence[str], node: OutputReviewNode) -> StateGraph[Any, Any, Any, Any]:
    """A graph whose state has only messages."""

    def write(state: MessagesState) -> dict[str, Any]:
        said = sum(isinstance(message, AIMessage) for message in state["messages"])
        return {"messages": [AIMessage(texts[said])]}

    builder = StateGraph(MessagesState)
    builder.add_node("writer", write)
    builder.add_node("review", node, destinations=node.destinations)
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "review")
    return builder


class Desk:
    """One thread of a graph, its people and its worker."""

    def __init__(
        self, builder: StateGraph[Any, Any, Any, Any], checkpointer: Checkpointer, colour: Colour, thread: str = "t"
    ) -> None:
        self.graph: Graph = builder.compile(checkpointer=checkpointer)
        self.ledger, self.inbox, self.colour = checkpointer.ledger, Inbox(checkpointer.ledger), colour
        self.config: RunnableConfig = {"configurable": {"thread_id": thread}}

    def go(self, input: Any = None, **how: Any) -> Any:
        """Invoke."""
        if self.colour == "async":
            return asyncio.run(self.graph.ainvoke(input, self.config, **how))
        return self.graph.invoke(input, self.config, **how)

    def start(self, text: str = "write") -> None:
        """Run to the first question, or to the end."""
        self.go({"messages": [HumanMessage(text)]} if "messages" in self.graph.channels else {})

    @property
    def asked(self) -> Request:
        """The only question that waits."""
        [request] = self.inbox.pending()
        return request

    def decide(self, decision: Decision, reviewer: str = "alice") -> Request:
        """Answer the question that waits."""
        request = self.asked
        return self.inbox.decide(request.id, decision, reviewer=reviewer, digest=request.digest)

    def work(self) -> list[Resumed]:
        """One round of a worker."""
        worker = Worker(self.graph, self.ledger)
        return asyncio.run(worker.arun_once()) if self.colour == "async" else worker.run_once()

    def answer(self, decision: Decision, reviewer: str = "alice") -> str:
        """Decide, and let a worker carry it out; how the thread stands then."""
        self.decide(decision, reviewer)
        [result] = self.work()
        assert result.error is None, result.error
        return result.status

    @property
    def state(self) -> dict[str, Any]:
        values: dict[str, Any] = self.graph.get_state(self.config).values
        return values

    @property
    def reviews(self) -> list[Revision]:
        """What became of each draft."""
        if "reviews" in self.state:
            return cast("list[Revision]", self.state["reviews"])
        return [] if "reviews" in self.graph.channels else on_messages(self.state["messages"])

    @property
    def outcomes(self) -> list[str]:
        return [review["outcome"] for review in self.reviews]

    @property
    def delivered(self) -> Any:
        """What the state says was delivered."""
        if "reviews" in self.graph.channels:
            return self.state["delivered"]
        return self.state["messages"][-1].text if self.outcomes[-1] == "delivered" else None

    def other(self, draft: str) -> dict[str, Any]:
        """An update that puts another draft in place of the one that is there."""
        if "reviews" in self.graph.channels:
            return {"draft": draft}
        return {"messages": [AIMessage(draft, id=self.state["messages"][-1].id)]}
