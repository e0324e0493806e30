"""What `hitl worker`, `hitl sweep` and `hitl doctor` say of deadlines."""

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from hitl_graph.ledger import Ledger
from hitl_graph.policy import Deadline, Escalate, Rule
from hitl_graph.testing import FakeClock
from tests.test_deadlines import HOUR, THREAD, ask, build, pay


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    monkeypatch.chdir(tmp_path)
    return FakeClock(datetime.now(UTC) - timedelta(hours=5))


def said(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(args)
    return code, *capsys.readouterr()


def test_sweep_says_what_came(past: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open("agent.db") as ledger:
        ledger.clock = past
        ask(ledger, "a", Deadline(4 * HOUR, remind=[HOUR], escalate=[Escalate(2 * HOUR, ["role:lead"])]))
        ask(ledger, "b", Deadline(HOUR, "approve"))
        ask(ledger, "c", Deadline(9 * HOUR))
    code, out, _ = said(capsys, "doctor")
    assert code == 1
    assert "problem  deadlines that nobody keeps: 2: " in out
    code, out, _ = said(capsys, "sweep", "--once")
    assert code == 0
    for line in (
        r"reminded  thread t  \w{6}  to anybody  \(4h late\)",
        r"lapsed    thread t  \w{6}  not approved: nobody came to take the turn in time, .*; it waits on  \(4h late\)",
        r"escalated  thread t  \w{6}  to role:lead  \(3h late\)",
        r"rejected  thread t  \w{6}  Nobody decided by \S+ \S+ UTC\.  \(1h late\)",
    ):
        assert re.search(line, out), out
    code, out, err = said(capsys, "sweep", "--once")
    assert (code, out) == (0, "")
    assert re.match(r"Nothing is due before \d{4}-", err)


def test_a_worker_says_what_came(past: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    with SqliteCheckpointer("agent.db") as saver:
        saver.ledger.clock = past
        graph = build(saver, Rule("pay", "ask", deadline=HOUR), pay)
        graph.invoke({"messages": [("user", "Pay")]}, THREAD)
        module: Any = sys.modules[__name__]
        module.graph = graph
        saver.ledger.clock = lambda: datetime.now(UTC)
        code, out, _ = said(capsys, "worker", f"{__name__}:graph", "--once", "--json")
        assert code == 0
        turn, resumed = map(json.loads, out.splitlines())
        assert (turn["status"], turn["to"], turn["thread_id"]) == ("rejected", ["*"], "1")
        assert turn["request_ids"] == resumed["request_ids"]
        assert resumed["status"] == "finished"


def test_sweep_serves_until_it_is_stopped(past: FakeClock) -> None:
    with Ledger.open("agent.db") as ledger:
        ledger.clock = past
        ask(ledger, "a", Deadline(HOUR))
    sweeper = subprocess.Popen(
        [sys.executable, "-m", "hitl_graph.cli", "sweep", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert sweeper.stdout
    assert json.loads(sweeper.stdout.readline())["status"] == "rejected"
    sweeper.send_signal(signal.SIGTERM)
    _, err = sweeper.communicate(timeout=60)
    assert sweeper.returncode == 0
    assert "Ctrl-C ends it" in err
