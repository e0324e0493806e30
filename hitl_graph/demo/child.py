"""The processes that the director starts: one runs the agent to its pauses, others carry decisions out.

python -m hitl_graph.demo.child start|work DB MAILS SMTP_PORT
"""

import logging
import os
import sys
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.demo.agent import build_graph
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.worker import Worker


def main(job: str, db: str, mails: str, smtp_port: str) -> int:
    """Do the job, say each step in a line, and end."""
    with SqliteCheckpointer(db) as checkpointer:
        graph = build_graph(checkpointer, Path(mails), int(smtp_port))
        if job == "start":
            for mail in Mailbox(Path(mails)).list():
                thread: RunnableConfig = {"configurable": {"thread_id": f"mail {mail.id}"}}
                try:
                    graph.invoke({"messages": [("user", f"Deal with mail {mail.id}")]}, thread)
                except Exception as exc:  # most often the model's server
                    _say("failed", f"{mail.subject}: {_in_a_line(exc)}")
                    return 1
                _say("read", mail.subject)
            return 0
        while results := Worker(graph, checkpointer.ledger).run_once():
            for result in results:
                why = f": {_in_a_line(result.error)}" if result.error is not None else ""
                _say(result.status, result.thread_id + why)
            if any(result.status == "failed" for result in results):
                return 1
    return 0


def _say(what: str, text: str) -> None:
    print(f"  {what:<8}  {text}", flush=True)


def _in_a_line(exc: Exception) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:300]


if __name__ == "__main__":
    logging.getLogger("hitl_graph").setLevel(logging.CRITICAL)  # what it would log is in the lines above
    if os.environ.get("OPENAI_API_KEY") is None:
        os.environ.setdefault("LANGSMITH_TRACING", "false")
    sys.exit(main(*sys.argv[1:]))
