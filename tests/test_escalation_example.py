"""`examples/moderation_agent.py` does what its head says: real processes, one database."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

EXAMPLE = Path(__file__).parents[1] / "examples" / "moderation_agent.py"
HITL = [sys.executable, "-m", "hitl_graph.cli"]


def test_the_story_of_the_example(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "HITL_DB": str(tmp_path / "agent.db"),
        "HITL_DECISIONS": str(tmp_path / "decisions.jsonl"),
        "HITL_REVIEWER": "alice",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=EXAMPLE.parent
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def asked() -> tuple[str, str]:
        [row] = [json.loads(line) for line in run(*HITL, "inbox", "--json").splitlines()]
        return row["kind"], row["id"]

    assert "It needs you" in run(sys.executable, str(EXAMPLE))
    kind, own = asked()
    assert kind == "question"
    assert "52% sure" in run(*HITL, "show", own)
    run(*HITL, "respond", own, "--set", "verdict=keep", "--set", "note=sports talk")
    assert "paused" in run(*HITL, "worker", "moderation_agent:make", "--once")
    kind, own = asked()
    assert kind == "escalation"
    assert "the language of this text is not supported" in run(*HITL, "show", own)
    run(*HITL, "respond", own, "-m", "It is Dutch. Call translate first.")
    assert "finished" in run(*HITL, "worker", "moderation_agent:make", "--once")
    decided = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [(one["post"], one["verdict"]) for one in decided] == [(1, "keep"), (2, "remove"), (3, "keep"), (4, "keep")]
    assert decided[2]["note"] == "sports talk"
    assert "tables agree" in run(*HITL, "audit", "verify")
