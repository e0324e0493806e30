"""The inbox inside `langgraph dev`, at /inbox: `"http": {"app": "./examples/studio_inbox.py:app"}` in langgraph.json.

It lets people in by itself, whatever the server does: `hitl login-link --as NAME --url http://127.0.0.1:2024/inbox`
prints a link. What is decided there, the server carries out.
"""

import os

from langgraph_sdk import get_client

from hitl_graph.adapters.server import ServerWorker
from hitl_graph.ledger import Ledger
from hitl_graph.web import create_app
from hitl_graph.web.sessions import Sessions
from hitl_graph.web.tokens import ApiTokens

ledger = Ledger.open(os.environ.get("HITL_DB", "agent.db"))
app = create_app(
    ledger,
    at="/inbox",
    authenticators=[ApiTokens(ledger), Sessions(ledger)],
    worker=ServerWorker(get_client(), ledger),
)
