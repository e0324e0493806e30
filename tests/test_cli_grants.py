"""`hitl grants`, `hitl switch` and `hitl approve --always`."""

import json
from pathlib import Path

import pytest

pytest.importorskip("typer")

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from hitl_graph.inbox import Inbox
from tests.invariants.agents import build, pay_call, ran, start

Told = tuple[int, str, str]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HITL_REVIEWER", "alice")
    monkeypatch.delenv("HITL_DB", raising=False)
    pay("t", 5)
    return tmp_path


def pay(thread: str, *amounts: int) -> int:
    """How many calls people are asked about."""
    with SqliteCheckpointer("agent.db") as saver:
        start(build(saver, "effects"), thread, [pay_call(eur) for eur in amounts])
        return len(Inbox(saver.ledger).pending(thread_id=thread))


def hitl(capsys: pytest.CaptureFixture[str], *args: str) -> Told:
    capsys.readouterr()
    code = main(args)
    return code, *capsys.readouterr()


def test_what_is_allowed_for_good_is_listed_with_what_it_let_through(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = json.loads(hitl(capsys, "inbox", "--json")[1])["id"]
    code, _, err = hitl(capsys, "approve", waits, "--uses", "2")
    assert (code, "go with --always" in err) == (2, True)
    for wrong in (("--for", "3 days"), ("--budget", "eur<500"), ("--budget", "eur<=0")):
        assert hitl(capsys, "approve", waits, "--always", *wrong)[0] == 2
    assert hitl(capsys, "approve", waits, "--always", "--budget", "usd<=5/1d")[0] == 4
    code, out, _ = hitl(capsys, "approve", waits, "--always", "--budget", "eur<=9.5/1d", "--for", "7d", "-m", "routine")
    assert code == 0
    assert "From now on without asking: pay, while eur adds up to at most 9.5 in 1d, until" in out
    assert (pay("u", 4), pay("over", 6)) == (0, 1)
    code, out, _ = hitl(capsys, "grants")
    assert code == 0
    assert "given by alice" in out
    assert 'thread u  pay(eur=4, to="bob")' in out
    row = json.loads(hitl(capsys, "grants", "--json")[1])
    assert (row["used"], row["spent"], row["uses"][0]["args"]) == (1, "4", {"eur": 4, "to": "bob"})
    code, out, _ = hitl(capsys, "grants", "revoke", row["id"][:6], "-m", "over", "--as", "bob")
    assert (code, "let 1 call through" in out) == (0, True)
    assert pay("v", 1) == 1
    assert "No standing permission is live" in hitl(capsys, "grants")[2]
    assert "revoked by bob (over); given by alice" in hitl(capsys, "grants", "--all")[1]
    assert hitl(capsys, "grants", "revoke", "ffff", "-m", "?")[0] == 3


def test_an_operator_gives_one_for_exactly_what_was_asked(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waits = json.loads(hitl(capsys, "inbox", "--json")[1])["id"]
    assert hitl(capsys, "approve", waits, "--always", "--same-args", "--thread", "--uses", "3")[0] == 0
    assert json.loads(hitl(capsys, "grants", "list", "--json")[1])["grant"] == {
        "tool": "pay", "args": {"eur": 5, "to": "bob"}, "only": True, "thread_id": "t", "uses": 3
    }  # fmt: skip
    assert hitl(capsys, "grants", "give", "p*", "--arg", "to=b*", "--uses", "1", "-m", "fair")[0] == 0
    assert hitl(capsys, "grants", "give", "pay", "--arg", "to")[0] == 2
    assert pay("u", 1, 2) == 1
    assert len(ran("effects")) == 1


def test_a_switch_stops_everything(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hitl(capsys, "grants", "give", "pay")[0] == 0
    assert "No switch is on" in hitl(capsys, "switch")[2]
    assert hitl(capsys, "switch", "deny", "--all", "--tool", "x", "-m", "fire")[0] == 2
    code, out, _ = hitl(capsys, "switch", "deny", "--all", "-m", "fire")
    assert (code, out) == (0, "As alice: no call starts any more.\n")
    assert hitl(capsys, "switch", "ask", "--tool", "p*", "-m", "look")[0] == 0
    assert [json.loads(line)["scope"] for line in hitl(capsys, "switch", "--json")[1].splitlines()] == [
        "all",
        "tool:p*",
    ]
    assert (pay("u", 1), ran("effects")) == (0, [])
    assert hitl(capsys, "switch", "off", "--all")[0] == 0
    assert (pay("v", 1), ran("effects")) == (1, [])
    assert hitl(capsys, "switch", "off", "--tool", "p*")[0] == 0
    assert "no call in thread 42 starts" in hitl(capsys, "switch", "deny", "--thread", "42", "-m", "enough")[1]
    assert hitl(capsys, "switch", "off", "--thread", "42")[0] == 0
    assert hitl(capsys, "switch", "off", "--graph", "g")[0] == 4
    assert (pay("w", 1), len(ran("effects"))) == (0, 1)
    assert hitl(capsys, "audit", "verify")[0] == 0
