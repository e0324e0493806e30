"""`examples/group_chat_agent.py` does what its head says: real processes, one database."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hitl_graph.checkpointers import SqliteCheckpointer

pytest.importorskip("typer")

EXAMPLE = Path(__file__).parents[1] / "examples" / "group_chat_agent.py"
HITL = [sys.executable, "-m", "hitl_graph.cli"]


@pytest.mark.slow
def test_the_story_of_the_example(tmp_path: Path) -> None:
    db = tmp_path / "agent.db"
    env = {**os.environ, "HITL_DB": str(db), "HITL_REVIEWER": "alice", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=EXAMPLE.parent
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def asked() -> tuple[str, str]:
        [row] = [json.loads(line) for line in run(*HITL, "inbox", "--json").splitlines()]
        return row["kind"], row["id"]

    def work() -> str:
        return run(*HITL, "worker", "group_chat_agent:make", "--once")

    assert "Somebody is needed" in run(sys.executable, str(EXAMPLE))
    kind, own = asked()
    assert kind == "approval"
    assert "print(sum([120, 90, 310]))" in run(*HITL, "show", own)
    run(*HITL, "approve", own)
    assert "paused" in work()

    kind, own = asked()
    assert kind == "question"
    shown = run(*HITL, "show", own)
    assert "the conversation ends here" in shown
    assert "writer: Sales in the first quarter. The code gave: 520." in shown  # what the critic approves
    assert "critic: APPROVE" in shown
    run(*HITL, "respond", own, "-m", "Name the months")
    assert "paused" in work()
    run(*HITL, "approve", asked()[1])
    assert "finished" in work()

    with SqliteCheckpointer(db) as saver:
        stored = saver.get_tuple({"configurable": {"thread_id": "1"}})
        assert stored is not None
        values = stored.checkpoint["channel_values"]
        texts = [message.text for message in values["messages"] if message.name == "writer"]
        assert texts[-1] == "Sales in the first quarter. The code gave: 520. (Name the months)"
        assert values["stop_reason"] == "'APPROVE' was mentioned"
