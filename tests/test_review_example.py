"""The example is what its first lines say: an author, a reviewer and a worker in processes of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Comment, approve, respond

EXAMPLE = Path(__file__).parents[1] / "examples" / "pull_request_agent.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are not in the wheel")
def test_a_patch_is_reviewed_and_opened_once(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, *args], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout

    shutil.copy(EXAMPLE, tmp_path)
    run(EXAMPLE.name)
    with Ledger.open(tmp_path / "agent.db") as ledger:
        inbox = Inbox(ledger)
        [request] = inbox.pending(kind="review")
        assert request.review is not None
        assert [finding.text for finding in request.review.findings] == ["no test is changed"]
        comment = Comment(text="keep the cents", file="billing.py", line=5)
        inbox.decide(request.id, respond(comments=[comment]), reviewer="alice")
        assert "paused" in run("-m", "hitl_graph.cli", "worker", "pull_request_agent:make", "--once")
        [request] = inbox.pending()
        assert "quantize" in str(request.draft)
        inbox.decide(request.id, approve(), reviewer="alice")
        for _ in range(2):
            run("-m", "hitl_graph.cli", "worker", "pull_request_agent:make", "--once")
        [opened] = (tmp_path / "pull-requests").iterdir()
        assert opened.read_text() == request.draft
        assert ledger.verify_audit().ok
