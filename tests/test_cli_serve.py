"""`hitl serve`: a real process, looked at and ended from outside."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from hitl_graph.cli import main
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve

HITL = [sys.executable, "-m", "hitl_graph.cli"]
CALL = {"name": "pay", "args": {"iban": "DE1", "eur": 5}, "id": "1", "type": "tool_call"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an agent whose threads wait in `agent.db`."""
    home = tmp_path_factory.mktemp("agent")
    (home / "my_agent.py").write_text(Path(__file__).with_name("cli_agent.py").read_text())
    paused = {"t1": [CALL], "t2": [{**CALL, "args": {"iban": "DE1", "eur": 6, "seconds": 2}}]}
    subprocess.run([sys.executable, "my_agent.py", json.dumps(paused)], cwd=home, check=True)
    return home


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """The process, the address, and the path of the login link."""
    process = subprocess.Popen(
        [*HITL, "serve", *options, "--port", "0", "--as", "alice"], cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    try:
        assert "Ctrl-C ends it" in process.stderr.readline()
        found = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+)(/login/\S+)\n", process.stderr.readline())
        assert found
        assert process.stderr.readline() == "It lets you in as alice, once, within 15 minutes.\n"
        yield process, found[1], found[2]
    finally:
        process.kill()
        process.communicate()


def test_the_link_lets_in_once_and_decisions_are_carried_out(folder: Path) -> None:
    with serving(folder, "my_agent:make") as (process, url, link):
        with httpx.Client(base_url=url) as browser:
            assert browser.get("/").headers["location"].startswith("/login")
            said = browser.get(link)  # looking at it does not use it up
            assert "alice" in said.text
            field = re.search(r'name="csrf" value="([^"]*)"', said.text)
            form = {"csrf": field[1]} if field else {}
            assert browser.post(link, data=form).status_code == 303
            assert browser.get("/account").status_code == 200
        with httpx.Client(base_url=url) as other:
            assert other.post(link, data=form).status_code == 403
        with Ledger.open(folder / "agent.db") as ledger:
            for request in Inbox(ledger).pending():
                Inbox(ledger).decide(request.id, approve(), reviewer="alice")
            assert process.stderr
            assert re.fullmatch(r".* paused|.*finished  thread t1\n", process.stderr.readline())
            process.send_signal(signal.SIGTERM)  # while the second payment takes its two seconds
            assert process.wait(20) == 0
            assert (folder / "effects.txt").read_text().splitlines() == [
                "begin 5.0",
                "paid 5.0",
                "begin 6.0",
                "paid 6.0",
            ]
            assert [request.state for request in ledger.history("t2")] == ["delivered"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "inbox.example.com"], "--url takes the whole address"),
        (["--trust-proxy", "proxy.local"], "--trust-proxy takes an address or a network"),
        (["--oidc", "https://id.example.com"], "--oidc needs --oidc-client"),
        (["--oidc", "http://id.example.com", "--oidc-client", "x", "--oidc-people", "*"], "has an https address"),
        (["--db", "nowhere.db"], "there is no database"),
        (["--host", "192.0.2.1", "--db", "agent.db"], "cannot listen at 192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_said(
    folder: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["serve", *options]) != 0
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "is it running already?" in capsys.readouterr().err
