"""The assistant of `hitl demo` in LangGraph Studio. Say "Handle the mail 1-offer": a mail of the folder `HITL_MAILS`.

The folder (default: studio-mails) is a working copy that is made if need be; what is sent arrives in its `sent`, at a
mail server on this machine. The graph is compiled without a checkpointer: the server brings the one of langgraph.json.
"""

import os
from pathlib import Path

from hitl_graph.demo.agent import build_graph
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.demo.smtp import MailServer

mails = Path(os.environ.get("HITL_MAILS", "studio-mails")).absolute()
if not mails.exists():
    Mailbox.copy(None, mails)
server = MailServer(mails / "sent").__enter__()  # until this process ends
graph = build_graph(None, mails, server.port)
