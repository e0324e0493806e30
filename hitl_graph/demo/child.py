"""The processes that the director starts: one runs the agent to its pauses, others carry decisions out.

python -m hitl_graph.demo.child start|work DB MAILS SMTP_PORT
"""

import os
import sys
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.demo.agent import build_graph
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.worker import Worker


def main(job: str, db: str, mails: str, smtp_port: str) -> int:
    """Do the job and end; the last word of each line is for people."""
    with SqliteCheckpointer(db) as checkpointer:
        graph = build_graph(checkpointer, Path(mails), int(smtp_port))
        if job == "start":
            for mail in Mailbox(Path(mails)).list():
                thread: RunnableConfig = {"configurable": {"thread_id": f"mail {mail.id}"}}
                graph.invoke({"messages": [("user", f"Deal with mail {mail.id}")]}, thread)
                print(f"  read    {mail.subject}", flush=True)
            return 0
        while results := Worker(graph, checkpointer.ledger).run_once():
            for result in results:
                print(f"  {result.status:<9} {result.thread_id}", flush=True)
                if result.error is not None:
                    print(f"            {result.error}", flush=True)
            if any(result.status == "failed" for result in results):
                return 1
    return 0


if __name__ == "__main__":
    if os.environ.get("OPENAI_API_KEY") is None:
        os.environ.setdefault("LANGSMITH_TRACING", "false")
    sys.exit(main(*sys.argv[1:]))
