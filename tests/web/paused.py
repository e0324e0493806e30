"""One graph that pauses in every way there is, for tests of the doors: what it does is said by the first message.

The message is JSON: `{"calls": [...]}`, `{"draft": [...]}`, `{"stuck": true}`, `{"raw": ..., "schema": ...}` or
`{"lc": [...]}`, which are LangChain's agent and middleware.
"""

import json
from datetime import timedelta
from typing import Any, Literal

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.ledger import Ledger
from hitl_graph.model import Finding, Request
from hitl_graph.nodes import ApprovalNode, EscalationNode, OutputReviewNode, ask_human, ask_human_questions
from hitl_graph.policy import Policy, Rule
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.testing import ScriptedChatModel
from hitl_graph.worker import Worker

__all__ = ["PEOPLE", "Paused"]

PEOPLE = StaticDirectory(
    [Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("carol"), Reviewer("dora", ["finance"])]
)


class Options(BaseModel):
    read_receipt: bool = False
    retries: int = Field(default=1, ge=0, le=5)


class State(MessagesState):
    region: str
    limit: int


class Paused:
    """Threads of the graph in a database of their own.

    Attributes:
        sent: What ran, in order: the name of the tool and its arguments.
    """

    def __init__(self, path: Any) -> None:
        self.checkpointer = SqliteCheckpointer(path, directory=PEOPLE)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.graph = self._graph()

    @property
    def ledger(self) -> Ledger:
        return self.checkpointer.ledger

    def start(self, thread: str, **does: Any) -> Request:
        """Run a thread to its pause; what is asked there first."""
        given = {"messages": [HumanMessage(json.dumps(does))], "region": "eu", "limit": 100}
        self.graph.invoke(given, self._config(thread), durability="sync")
        return self.ledger.history(thread)[-1]

    def work(self) -> list[str]:
        """Let a worker carry out what is decided; the status of each thread."""
        resumed = Worker(self.graph, self.ledger, config={"recursion_limit": 60}).run_once()
        return [str(one.error or one.status) for one in resumed]

    def said(self, thread: str) -> list[str]:
        """The texts of all messages of a thread."""
        return [str(message.content) for message in self.graph.get_state(self._config(thread)).values["messages"]]

    def _config(self, thread: str) -> RunnableConfig:
        return {"configurable": {"thread_id": thread}, "recursion_limit": 60}

    def _graph(self) -> CompiledStateGraph[Any, Any, Any, Any]:
        @tool
        def send_email(
            to: str,
            subject: str,
            body: str,
            cc: list[str] | None = None,
            priority: Literal["low", "normal", "high"] = "normal",
            copies: int = 1,
            options: Options | None = None,
        ) -> str:
            """Send an e-mail to somebody."""
            told: dict[str, Any] = {"to": to, "subject": subject, "body": body, "cc": cc, "priority": priority}
            self.sent.append(("send_email", {**told, "copies": copies}))
            return f"sent to {to}"

        @tool
        def wire_transfer(iban: str, eur: float, reference: str = "") -> str:
            """Send money."""
            self.sent.append(("wire_transfer", {"iban": iban, "eur": eur, "reference": reference}))
            return f"sent {eur}"

        @tool
        def look(q: str) -> str:
            """Look something up."""
            return f"nothing found for {q}"

        policy = Policy(
            [
                Rule(
                    "wire_transfer", "ask", reason="money leaves the company", reviewers=["role:finance"], quorum=2,
                    deadline=timedelta(hours=4), on_deadline="reject",
                ),
                Rule("send_email", "ask", editable=("to", "subject"), when=lambda call: call.args.get("copies", 1) > 1),
                Rule("*", "ask", reason="every message to a customer is looked at"),
            ]
        )  # fmt: skip

        def plan(state: State) -> dict[str, Any]:
            does = _first(state)
            if len(state["messages"]) > 1:
                return {"messages": [AIMessage("finished")]}
            calls = [{"id": f"call-{n}", "type": "tool_call", **call} for n, call in enumerate(does["calls"])]
            return {"messages": [AIMessage("I am going to **do** this for you.", tool_calls=calls)]}

        def write(state: State) -> dict[str, Any]:
            drafts = _first(state)["draft"]
            said = sum(isinstance(message, AIMessage) for message in state["messages"])
            return {"messages": [AIMessage(drafts[min(said, len(drafts) - 1)])]}

        def search(state: State) -> dict[str, Any]:
            told = [message for message in state["messages"] if isinstance(message, HumanMessage)][1:]
            if told:
                return {"messages": [AIMessage(f"as told: {told[-1].content}")]}
            call = {"name": "look", "args": {"q": "x"}, "id": f"call-{len(state['messages'])}"}
            return {"messages": [AIMessage("", tool_calls=[call])]}

        def raw(state: State) -> dict[str, Any]:
            does = _first(state)
            answer = interrupt(does["raw"], **({"response_schema": does["schema"]} if "schema" in does else {}))
            return {"messages": [AIMessage(f"the answer is {json.dumps(answer)}")]}

        def reply(messages: list[Any]) -> Any:
            if any(isinstance(message, ToolMessage) for message in messages):
                return "finished"
            return [{"id": "lc-1", "type": "tool_call", **call} for call in json.loads(messages[0].content)["lc"]]

        def polite(draft: Any) -> list[Finding]:
            text = str(draft)
            return (
                [Finding(text="This is a promise.", span=(text.index("24"), text.index("24") + 2))]
                if "24" in text
                else []
            )

        review = OutputReviewNode(
            revise="writer", checks=[polite], policy=Policy([Rule("*", "ask", reason="a promise to a customer")])
        )
        middleware: Any = HumanInTheLoopMiddleware(interrupt_on={"send_email": True, "wire_transfer": True})
        builder = StateGraph(State)
        human = ask_human()
        choice = ask_human(answer=Options, name="ask_options", description="Ask for options.")
        several = ask_human_questions()
        builder.add_node("plan", plan)
        builder.add_node("tools", ApprovalNode([send_email, wire_transfer, human, choice, several], policy=policy))
        builder.add_node("writer", write)
        builder.add_node("review", review, destinations=review.destinations)
        builder.add_node("search", search)
        builder.add_node("looking", ToolNode([look]))
        builder.add_node("watch", EscalationNode(resume="search", editable=["region", "limit"]))
        builder.add_node("raw", raw)
        builder.add_node(
            "lc", create_agent(ScriptedChatModel(script=reply), [send_email, wire_transfer], middleware=[middleware])
        )

        def begins(state: State) -> str:
            return {"calls": "plan", "draft": "writer", "stuck": "search", "raw": "raw", "lc": "lc"}[
                next(iter(_first(state)))
            ]

        def calls(state: State) -> bool:
            return bool(getattr(state["messages"][-1], "tool_calls", None))

        builder.add_conditional_edges(START, begins, ["plan", "writer", "search", "raw", "lc"])
        builder.add_conditional_edges("plan", calls, {True: "tools", False: END})
        builder.add_edge("tools", "plan")
        builder.add_edge("writer", "review")
        builder.add_conditional_edges("search", calls, {True: "looking", False: END})
        builder.add_edge("looking", "watch")
        return builder.compile(checkpointer=self.checkpointer)


def _first(state: State) -> dict[str, Any]:
    does: dict[str, Any] = json.loads(str(state["messages"][0].content))
    return does
