"""`hitl say`: a message into a thread, from the command line."""

import json
from pathlib import Path

import pytest

pytest.importorskip("typer")

from hitl_graph.chat import Chat
from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from tests.chatting import agent, calls, conversation, of

GRAPH = "chat_agent:make"
AGENT = """
from hitl_graph.checkpointers import SqliteCheckpointer
from tests.chatting import agent

def make():
    return agent(SqliteCheckpointer("agent.db"), ".")
"""


def test_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("HITL_DB", raising=False)
    (tmp_path / "chat_agent.py").write_text(AGENT)

    def hitl(*args: str) -> tuple[int, str]:
        code = main(args)
        out = capsys.readouterr()
        return code, out.out + out.err

    with SqliteCheckpointer("agent.db") as saver:
        graph = agent(saver, tmp_path)
        chat = Chat(graph, saver.ledger)
        chat.send("invoices", calls(5, 6), sender="alice")
        assert hitl("say", "invoices", "One more", "--as", "bob") == (
            0,
            "thread invoices: queued; a worker delivers it when the thread has come to its end\n",
        )
        assert [message.sender for message in chat.queued("invoices")] == ["bob"]
        code, told = hitl("say", "invoices", "yes", "--while-waiting", "answer")
        assert (code, "needs the graph" in told) == (2, True)
        code, told = hitl("say", "invoices", "yes", "--while-waiting", "answer", "--graph", GRAPH)
        assert (code, "answers one question" in told) == (4, True)
        code, told = hitl("say", "nobody", "hello")
        assert (code, "no" in told) == (3, True)
        assert hitl("say", "invoices", " ")[0] == 2
        code, told = hitl(
            "say", "inv", "No, wait", "--while-waiting", "withdraw", "--graph", GRAPH, "--as", "carol", "--json"
        )
        assert code == 0
        said = json.loads(told)
        assert (said["thread_id"], said["status"], len(said["request_ids"])) == ("invoices", "withdrawn", 2)
        assert conversation(graph, "invoices")[-4:] == [
            "human: One more", "ai: heard One more", "human: No, wait", "ai: heard No, wait",
        ]  # fmt: skip
        hitl("say", "invoices", "Good bye")
        code, told = hitl("worker", GRAPH, "--once")
        assert (code, "message " in told) == (0, True)
        assert graph.get_state(of("invoices")).values["messages"][-1].content == "heard Good bye"
