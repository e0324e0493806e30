"""`examples/trading_agent.py` and `examples/office_agents.py` do what their heads say."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, respond
from hitl_graph.reviewers import Reviewer
from hitl_graph.worker import Worker

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not in the wheel")

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example as a program, in an empty folder; gives what it prints."""
    monkeypatch.chdir(tmp_path)

    def program(name: str, *args: str) -> str:
        monkeypatch.setattr("sys.argv", [name, *args])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return program


def work(name: str, make: str) -> list[tuple[str, str]]:
    graph = runpy.run_path(str(EXAMPLES / name), run_name="example")[make]()
    try:
        return [(one.thread_id, one.status) for one in Worker(graph, graph.checkpointer.ledger).run_once()]
    finally:
        graph.checkpointer.close()


def lines(file: str) -> list[Any]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()] if Path(file).exists() else []


def test_the_trader_asks_by_what_an_order_is_worth_and_again_when_the_price_has_moved(run: Run) -> None:
    assert "ordered" in run("trading_agent.py", "buy 5 ACME")
    assert "not so much cash" in run("trading_agent.py", "buy 500 GLOBEX")
    assert "It needs you" in run("trading_agent.py", "buy 40 ACME")
    with Ledger.open("agent.db") as ledger:
        inbox = Inbox(ledger)
        [request] = inbox.pending()
        assert request.action is not None
        inbox.decide(request.id, edit({**request.action.args, "quantity": 30}), reviewer="alice")
        Path("market.json").write_text(json.dumps({"cash": 25_000, "prices": {"ACME": 90, "GLOBEX": 250}}))
        assert work("trading_agent.py", "make") == [("buy 40 ACME", "paused")]
        assert [order["quantity"] for order in lines("orders.jsonl")] == [5]
        [again] = inbox.pending()
        assert again.fresh is not None
        assert '+  "price": 90' in str(again.fresh.changed)
        inbox.decide(again.id, approve(), reviewer="alice")
    assert work("trading_agent.py", "make") == [("buy 40 ACME", "finished")]
    assert [order["quantity"] for order in lines("orders.jsonl")] == [5, 30]


def test_large_orders_take_two_traders(run: Run) -> None:
    run("trading_agent.py", "buy 50 GLOBEX")
    with Ledger.open("agent.db") as ledger:
        inbox = Inbox(ledger)
        [request] = inbox.pending()
        for name, state in (("tara", "pending"), ("tom", "decided")):
            assert inbox.decide(request.id, approve(), reviewer=Reviewer(name, ["trader"])).state == state
    assert work("trading_agent.py", "make") == [("buy 50 GLOBEX", "finished")]
    assert len(lines("orders.jsonl")) == 1


def test_three_agents_have_one_inbox_and_each_its_worker(run: Run) -> None:
    told = run("office_agents.py")
    assert (told.count("asks: hitl inbox"), len(told.splitlines())) == (8, 9)
    with Ledger.open("agent.db") as ledger:
        inbox = Inbox(ledger)
        for request in inbox.pending():
            kind = request.kind
            inbox.decide(request.id, approve() if kind == "approval" else respond("send the statement")
                         if "newspaper" in request.description else respond("Tuesday"), reviewer="alice")  # fmt: skip
    for name, count in (("support", 3), ("purchasing", 2), ("travel", 3)):
        threads = work("office_agents.py", name)
        assert [thread.split("-")[0] for thread, _ in threads] == [name] * count
        assert {status for _, status in threads} == {"finished"}
    assert len(lines("done.jsonl")) == 7
