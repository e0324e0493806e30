"""The processes that the director starts: one runs the agent to its pauses, others carry decisions out.

python -m hitl_graph.demo.child start|work DB MAILS SMTP_PORT MAIL_ID ...
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.demo.agent import build_graph
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.worker import Worker

__all__ = ["errors", "main"]


def main(job: str, db: str, mails: str, smtp_port: str, *mail_ids: str) -> int:
    """Do the job, say each step in a line, and end."""
    with SqliteCheckpointer(db) as checkpointer:
        graph = build_graph(checkpointer, Path(mails), int(smtp_port))
        if job == "start":
            for mail in map(Mailbox(Path(mails)).read, mail_ids):
                try:
                    graph.invoke({"messages": [("user", f"Deal with mail {mail.id}")]}, _thread(mail.id))
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
        Path(mails, "errors.json").write_text(json.dumps(errors(graph, mail_ids)))
    return 0


def errors(graph: Pregel[Any, Any, Any, Any], mail_ids: Sequence[str]) -> list[tuple[str, str]]:
    """The calls that ended in an error, of which the model was told: thread and tool call id of each."""
    return [
        (f"mail {mail_id}", message.tool_call_id)
        for mail_id in mail_ids
        for message in graph.get_state(_thread(mail_id)).values.get("messages", [])
        if isinstance(message, ToolMessage) and message.status == "error"
    ]


def _thread(mail_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": f"mail {mail_id}"}}


def _say(what: str, text: str) -> None:
    print(f"  {what:<8}  {text}", flush=True)


def _in_a_line(exc: Exception) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:300]


if __name__ == "__main__":
    logging.getLogger("hitl_graph").setLevel(logging.CRITICAL)  # what it would log is in the lines above
    if os.environ.get("OPENAI_API_KEY") is None:
        os.environ.setdefault("LANGSMITH_TRACING", "false")
    sys.exit(main(*sys.argv[1:]))
