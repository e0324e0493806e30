"""The command line lets people and programs in, says whom, and lets them out again."""

import json
import re

import pytest

pytest.importorskip("typer")

from hitl_graph.ledger import Ledger, credentials
from hitl_graph.reviewers import Reviewer
from tests.test_cli import Cli, hitl

__all__ = ["hitl"]


@pytest.fixture
def cli(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    with Ledger.open("agent.db"):
        pass
    (hitl.folder / "people.toml").write_text('[people.alice]\nroles = ["finance"]\n')
    monkeypatch.setenv("HITL_DIRECTORY", "people.toml")
    return hitl


def _live(kind: credentials.Kind, secret: str) -> credentials.Credential | None:
    with Ledger.open("agent.db") as ledger:
        assert ledger.verify_audit().problem is None
        return ledger.read(credentials.look_up, ledger.now_ms(), kind, secret)


def test_a_token_is_shown_once_listed_and_revoked(cli: Cli) -> None:
    made = cli("token", "create", "--as", "ci", "--scope", "decide", "--label", "nightly \x1b[2J", "--expires", "90d")
    assert made.code == 0
    assert re.fullmatch(r"hitl_[A-Za-z0-9_-]{43}\n", made.out)  # alone on stdout, for scripts
    assert "as ci, to read, decide, until" in made.err
    assert "directory does not know ci" in made.err
    found = _live("token", made.out.strip())
    assert found is not None
    assert found.identity == credentials.Identity("ci", via="command line")
    assert found.expires_at is not None
    assert (found.expires_at - found.created_at).days == 90
    listed = cli("token")
    assert found.id[:10] in listed.out
    assert "\x1b" not in listed.out
    assert made.out.strip() not in listed.out
    [plain] = cli("token", "list", "--json").out.splitlines()
    assert json.loads(plain) == json.loads(plain) | {"kind": "token", "name": "ci", "status": "live", "used_at": None}
    ended = cli("token", "revoke", found.id[:10], "--as", "carol", "-m", "leaked")
    assert ended.out == f"Revoked as carol: token {found.id[:10]} of ci.\n"
    assert _live("token", made.out.strip()) is None
    assert cli("token", "list").out == ""
    assert "revoked" in cli("token", "list", "--all").out


def test_a_link_leads_to_a_running_inbox(cli: Cli) -> None:
    made = cli("login-link", "--as", "alice", "--url", "https://inbox.example/hitl/")
    secret = made.out.strip().removeprefix("https://inbox.example/hitl/login/")
    found = _live("link", secret)
    assert found is not None
    assert found.identity == credentials.Identity("alice", via="command line")
    assert "once, within 15 minutes" in made.err
    given = cli("login-link", "--as", "bob", "--role", "finance", "--role", "audit", "--url", "http://localhost:8400")
    fixed = _live("link", given.out.strip().rpartition("/")[2])
    assert fixed is not None
    assert fixed.identity.reviewer(None) == Reviewer("bob", ["finance", "audit"])


def test_all_that_lets_somebody_in_ends_at_once(cli: Cli) -> None:
    made = [cli("token", "create", "--as", name).out.strip() for name in ("Eve", "eve", "alice")]
    link = cli("login-link", "--as", "eve", "--url", "http://localhost").out.strip().rpartition("/")[2]
    ended = cli("token", "revoke", "--of", "eve", "-m", "has left")
    assert sorted(line.split()[3] for line in ended.out.splitlines()) == ["link", "token", "token"]
    assert [_live("token", token) is not None for token in made] == [False, False, True]
    assert _live("link", link) is None
    assert cli("token", "revoke", "--of", "eve").err == "Nothing lets eve in.\n"


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        (["token", "create", "--as", "ci", "--scope", "root"], 2, "--scope takes read, decide, admin"),
        (["token", "create", "--as", "ci", "--expires", "soon"], 2, "--expires takes a time"),
        (["token", "create", "--as", "ci", "--expires", "0d"], 2, "--expires takes a time"),
        (["token", "create", "--as", "anonymous"], 4, "is nobody who can be let in"),
        (["token", "create", "--as", " "], 2, "is empty"),
        (["token", "revoke", "abc"], 4, "there is no such token or session"),
        (["token", "revoke"], 2, "give the id of a token or session, or --of NAME"),
        (["token", "revoke", "%"], 4, "hex digits"),
        (["login-link", "--as", "alice", "--url", "inbox.example"], 2, "--url takes the whole address"),
        (["login-link", "--as", "alice"], 2, "--url"),
    ],
)
def test_what_makes_no_sense_issues_nothing(cli: Cli, command: list[str], code: int, why: str) -> None:
    done = cli(*command)
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert cli("token", "list", "--all").out == ""
