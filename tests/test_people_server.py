"""Two people agree through a real `langgraph dev` with its own authentication."""

from pathlib import Path

import pytest

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from tests.test_studio import Server, pause, resume, waits

pytestmark = pytest.mark.slow

AUTH = """
from langgraph_sdk import Auth

auth = Auth()
ROLES = {"alice": ["finance"], "bob": ["finance"], "carol": ["legal"], "mallory": []}


@auth.authenticate
async def authenticate(headers: dict) -> dict:
    name = (headers.get(b"x-user") or headers.get("x-user") or b"").decode()
    if name not in ROLES:
        raise Auth.exceptions.HTTPException(status_code=401, detail="who are you?")
    return {"identity": name, "roles": ROLES[name], "groups": ["office"]}
"""

PAYING = '''
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule


@tool
def pay(eur: int) -> str:
    """Pay."""
    with open("paid.txt", "a") as file:
        file.write(f"{eur}\\n")
    return f"paid {eur}"


def agent(state: MessagesState) -> dict[str, Any]:
    said = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    if len(said) == 2:
        return {"messages": [AIMessage("done")]}
    call = {"name": "pay", "args": {"eur": 5 + len(said)}, "id": f"c{len(said)}"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


rule = Rule("pay", "ask", reviewers=["role:finance"], quorum=2, exclude=["requester"])
builder = StateGraph(MessagesState)
builder.add_node("agent", agent)
builder.add_node("tools", ApprovalNode([pay], policy=Policy([rule])))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile()
'''

APPROVE = {"type": "approve"}


async def test_two_people_agree_through_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, auth={"path": "./auth.py:auth"}, graphs={"paying": "./paying.py:graph"})
    (tmp_path / "auth.py").write_text(AUTH)
    (tmp_path / "paying.py").write_text(PAYING)
    paid = tmp_path / "paid.txt"
    try:
        server.start()
        async with server.client(**{"x-user": "carol"}) as client:
            thread, [asked] = await pause(client, "pay", "paying")
        with Ledger.open(server.db) as ledger:
            inbox = Inbox(ledger)
            [request] = inbox.pending()
            assert request.origin is not None
            assert (request.origin.requester, request.origin.graph) == ("carol", "paying")

            async def answer(**headers: str) -> str:
                async with server.client(**headers) as client:
                    said = await resume(client, thread, {asked["id"]: APPROVE}, "paying")
                    if "Error" in said:
                        assert await waits(client, thread) == [asked["id"]]
                    return said

            assert await answer(**{"x-user": "mallory"}) == "NotEntitledError"
            assert await answer(**{"x-user": "carol"}) == "NotEntitledError"  # it is her own
            studio = {"x-auth-scheme": "langsmith"}  # whoever says so is let in by a server for development, as nobody
            assert await answer(**studio) == "NotEntitledError"
            assert inbox.standing(request.id).votes == ()
            assert await answer(**{"x-user": "alice"}) == "QuorumMissingError"
            [vote] = inbox.standing(request.id).votes
            assert (vote.reviewer, vote.channel, vote.decision.type) == ("alice", "langgraph", "approve")
            assert await answer(**{"x-user": "alice"}) == "AlreadyVotedError"
            assert not paid.exists()
            assert await answer(**{"x-user": "bob"}) == "paused"  # at the second payment
            assert paid.read_text() == "5\n"
            assert inbox.get(request.id).reviewer == "alice, bob"
            [second] = inbox.pending()
            assert second.origin is not None
            assert second.origin.requester == "carol"  # not bob, who let the run go on
            assert ledger.verify_audit().ok
    finally:
        server.stop()
