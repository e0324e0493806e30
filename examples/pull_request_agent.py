"""An author of pull requests whose patches are reviewed before they are opened. In this folder:

    python pull_request_agent.py                     # writes a patch for an issue, and waits for a reviewer
    hitl show ID                                     # the patch and what checks found; later what changed
    hitl respond ID --at billing.py:5="use cents"    # back to the author; or: hitl approve, edit, reject
    hitl worker pull_request_agent:make --once       # any process goes on

The model is scripted, so nothing else is needed. The database is `agent.db`; what is opened is a file in the folder
`pull-requests`, named by its idempotency key, so that opening it twice is opening it once.
"""

import operator
import sys
from pathlib import Path
from typing import Annotated

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from typing_extensions import TypedDict

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.drafts import files, is_patch
from hitl_graph.effects import idempotency_key
from hitl_graph.model import Finding
from hitl_graph.nodes import OutputReviewNode, Revision, withheld
from hitl_graph.testing import ScriptedChatModel

PATCH = """\
--- a/billing.py
+++ b/billing.py
@@ -3,4 +3,4 @@
 def total(lines):
     \"""Sum of an invoice.\"""
-    return sum(line.net for line in lines)
+    return {}
 
"""


class State(TypedDict, total=False):
    issue: str
    patch: str
    reviews: Annotated[list[Revision], operator.add]
    delivered: str | None


def script(messages: list[BaseMessage]) -> str:
    """What the model writes: a better patch when it is told what is wrong."""
    told = messages[-1].text
    if "Decimal" in told or "cents" in told:
        return PATCH.format('sum(line.net for line in lines).quantize(Decimal("0.01"))')
    return PATCH.format("round(sum(line.net for line in lines))")


model = ScriptedChatModel(script)


def author(state: State) -> State:
    """Write a patch; anew, with the feedback on the last one."""
    task = [HumanMessage(f"Write a patch for this issue: {state['issue']}")]
    if state["reviews"] and state["reviews"][-1]["outcome"] == "revise":
        last = state["reviews"][-1]
        task.append(HumanMessage(f"{last['draft']}\n\n{last['feedback']}"))
    return {"patch": model.invoke(task).text}


def applies(patch: str) -> Finding | None:
    """What is no patch goes back to the author without a person."""
    return None if is_patch(patch) else Finding(text="this is no unified patch", then="revise")


def has_tests(patch: str) -> Finding | None:
    """Something for the reviewer to know."""
    return None if any("test" in path for path in files(patch)) else Finding(text="no test is changed", then="note")


def open_pull_request(patch: str) -> str:
    """Where a real one would call the forge."""
    folder = Path("pull-requests")
    folder.mkdir(exist_ok=True)
    file = folder / f"{idempotency_key()}.patch"
    file.write_text(patch)
    return file.name


review = OutputReviewNode(
    "patch", revise="author", checks=[applies, has_tests], delivery=open_pull_request, idempotent=True
)
builder = StateGraph(State)
builder.add_node("author", withheld(author))
builder.add_node("review", review, destinations=review.destinations)
builder.add_edge(START, "author")
builder.add_edge("author", "review")


def make() -> CompiledStateGraph[State, None, State, State]:
    """The graph, with its database."""
    return builder.compile(checkpointer=SqliteCheckpointer("agent.db"))


if __name__ == "__main__":
    issue = " ".join(sys.argv[1:]) or "Totals have too many decimals"
    make().invoke({"issue": issue}, {"configurable": {"thread_id": "issue-1"}}, durability="sync")
    print("A patch waits for review: hitl inbox")
