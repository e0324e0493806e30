"""Draw docs/inbox.svg: the commands of the README, run for real on a small agent, as a terminal shows them.

.venv/bin/python scripts/picture.py
"""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

AGENT = '''
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.nodes import ApprovalNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import ScriptedChatModel, tool_call


@tool
def send_email(to: str, body: str) -> str:
    """Send an e-mail."""
    return f"sent to {to}"


@tool
def wire_transfer(account: str, eur: float) -> str:
    """Send money."""
    return f"{eur} EUR sent"


model = ScriptedChatModel(
    [
        [tool_call("send_email", to="bob@example.com", body="Dear Bob,\\nthe offer is attached.")],
        [tool_call("wire_transfer", account="DE02 1203 0000 2020 51", eur=1850.0)],
        "Done.",
    ]
)
policy = Policy(
    [
        Rule("send_email", "ask", reason="leaves the company"),
        Rule("wire_transfer", "ask", reason="moves money"),
    ]
)
builder = StateGraph(MessagesState)
builder.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
builder.add_node("tools", ApprovalNode([send_email, wire_transfer], policy=policy))
builder.add_edge(START, "agent")
builder.add_conditional_edges("agent", tools_condition)
builder.add_edge("tools", "agent")
graph = builder.compile(checkpointer=SqliteCheckpointer("agent.db"))
if __name__ == "__main__":
    graph.invoke({"messages": [("user", "Send the offer, then pay")]}, {"configurable": {"thread_id": "offer-17"}})
'''
WIDTH = 96


def in_terminal(command: list[str], folder: str) -> str:
    """What a command prints on a terminal, colours and all."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "HITL_REVIEWER": "alice"}
    with subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        output = b""
        while chunk := _read(ours):
            output += chunk
    os.close(ours)
    return output.decode().replace("\r\n", "\n").rstrip("\n")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other side was closed
        return b""


def main() -> None:
    """Run the story and write the picture."""
    hitl = [sys.executable, "-m", "hitl_graph.cli"]
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "my_agent.py").write_text(AGENT)
        subprocess.run([sys.executable, "my_agent.py"], cwd=folder, check=True)
        listed = subprocess.run([*hitl, "inbox", "--json"], cwd=folder, check=True, capture_output=True, text=True)
        name = json.loads(listed.stdout.splitlines()[0])["id"][:6]
        for words in (
            ["inbox"],
            ["edit", name, "--set", "to=bob@corp.example"],
            ["worker", "my_agent:graph", "--once"],
            ["inbox"],
            ["audit", "verify"],
        ):
            console.print(Text(f"$ hitl {' '.join(words)}", style="bold"))
            console.print(Text.from_ansi(in_terminal([*hitl, *words], folder)))
            console.print()
    svg = re.sub(r"@font-face \{.*?\}\n", "", console.export_svg(title="hitl"), flags=re.DOTALL)  # no foreign server
    Path(__file__).parents[1].joinpath("docs", "inbox.svg").write_text(svg.replace("Fira Code, monospace", "monospace"))


if __name__ == "__main__":
    main()
