"""`hitl learn`: how it goes, from the database alone; leave to decide; taking it back; the page."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
pytest.importorskip("scipy")

from psycopg.conninfo import conninfo_to_dict

from hitl_graph.cli import main
from hitl_graph.learning import Certificate, DecisionLog
from hitl_graph.ledger import Ledger
from tests.learning.asking import grouped, unsure
from tests.learning.moderating import Feed, fed

Told = tuple[int, str, str]
Hitl = Callable[..., Told]
HERE = "tests.learning.asking"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 posts that people have labelled."""
    path = tmp_path_factory.mktemp("learn") / "agent.db"
    with Ledger.open(str(path)) as ledger:
        fed(ledger, unsure, 200)
    return path


@pytest.fixture
def db(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HITL_REVIEWER", "alice")
    monkeypatch.delenv("HITL_DB", raising=False)
    shutil.copy(labelled, tmp_path / "agent.db")
    return "agent.db"


@pytest.fixture
def hitl(capsys: pytest.CaptureFixture[str]) -> Hitl:
    def run(*args: str) -> Told:
        capsys.readouterr()
        code = main(["learn", *args])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def row(hitl: Hitl, *args: str) -> dict[str, Any]:
    [line] = hitl("status", "--json", *args)[1].splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_before_a_certificate(hitl: Hitl, db: str) -> None:
    code, out, _ = hitl("status")
    assert code == 0
    assert re.search(r"standing +no certificate: everything is asked", out)
    assert "200 routed, 0 decided without asking (0 %)" in out
    found = row(hitl)
    assert (found["name"], found["model"], found["group"]) == ("moderate", "m", "")
    assert (found["standing"], found["verdict"], found["threshold"], found["calls"]) == ("none", "none", None, 200)


def test_calibrate_status_suspend(hitl: Hitl, db: str) -> None:
    code, out, _ = hitl("calibrate", f"{HERE}:unsure")
    assert code == 0
    told = (
        r"moderate: From a score of (\S+) on nobody is asked: about (\d+) % of calls\. At most 5 % of these are wrong,"
    )
    said = re.match(told + r" with a confidence of 90 %: 200 labels, (\d+) mistakes? in (\d+)\.\n", out)
    assert said
    threshold, share, mistakes, accepted = said.groups()
    assert round(100 * int(accepted) / 200) == int(share)
    with Ledger.open(db) as ledger:
        feed = fed(ledger, unsure, 60, seed=1)
        silent = [feed.post(f"silent-{n}", 0.99, answer=False) for n in range(30)]
        feed.post("unsure", 0.1, answer=False)
        health = DecisionLog(ledger).health(unsure)
    found = row(hitl)
    assert (found["standing"], found["threshold"]) == ("valid", pytest.approx(float(threshold), abs=0.001))
    assert (found["errors"], found["accepted"]) == (int(mistakes), int(accepted))
    for name in ("calls", "saved", "audits", "answered", "mistakes", "error_at_most"):
        assert found[name] == getattr(health, name), name
    assert found["drift"] == pytest.approx(health.drift)
    waiting = sum(way.routed.route == "audit" for way in silent)
    assert (found["waiting"], found["open"]) == (waiting, waiting + 1)
    assert found["automatic"] == found["let"] == found["saved"] + found["audits"]
    out = hitl("status")[1]
    assert re.search(r"promise +at most 5 % of these are wrong, with a confidence of 90 %", out)
    assert f"{found['automatic']} of {found['under']}" in out
    assert hitl("suspend", "moderate", "--reason", " ")[0] == 2
    assert hitl("suspend", "moderat", "--reason", "?") == (
        3, "", "hitl: no call was routed by an Unsure(name='moderat') in this database; there are moderate\n"
    )  # fmt: skip
    code, out, _ = hitl("suspend", "moderate", "--reason", "a new \x1b[31mpolicy", "--as", "bob")
    assert (code, "Suspended as bob: 1 certificate of moderate" in out) == (0, True)
    assert "nothing was changed" in hitl("suspend", "moderate", "-m", "again")[1]
    found = row(hitl)
    assert (found["standing"], found["verdict"], found["why"]) == ("suspended", "gone", "bob: a new \x1b[31mpolicy")
    out = hitl("status", "--name", "moderate")[1]
    assert r"Taken back: bob: a new \x1b[31mpolicy." in out
    with Ledger.open(db) as ledger:
        assert not fed(ledger, unsure, 1, seed=2).post("sure", 0.99).is_automatic
        assert ledger.verify_audit().ok
    code, out, _ = hitl("calibrate", f"{HERE}:unsure")
    assert (code, out.startswith("moderate: No certificate, so everything is asked: ")) == (1, True)


def test_audits_that_speak_against_it_are_told_before_the_next_call(hitl: Hitl, db: str) -> None:
    assert hitl("calibrate", f"{HERE}:unsure")[0] == 0
    with Ledger.open(db) as ledger:
        feed = Feed(ledger, unsure, lambda post, score: True)
        ways = [feed.post(f"bad-{number}", 0.99, answer=False) for number in range(60)]
        for way in ways:
            feed.answer(way)
    found = row(hitl)
    assert (found["standing"], found["verdict"], found["drift"]) == ("valid", "watch", 1.0)
    assert "taken back before the next call" in found["told"]
    assert found["mistakes"] == found["answered"] == found["audits"]
    assert found["error_at_most"] == 1.0


def test_what_the_name_stands_for(hitl: Hitl, db: str) -> None:
    for name in ("policy", "node", "graph", "review"):
        code, out, err = hitl("calibrate", f"{HERE}:{name}", "--json")
        assert code == 0, (name, err)
        found = json.loads(out)
        assert (found["name"], found["certificate"], found["labels"]) == ("moderate", True, 200)
        assert found["share"] == found["accepted"] / 200
        assert ("has a fixed limit, below=0.8" in err) == (name != "review")
    code, out, _ = hitl("calibrate", f"{HERE}:strict", "--json")
    found = json.loads(out)
    assert (code, found["certificate"], found["labels"], found["error"]) == (1, False, 200, 0.001)
    assert found["needed"] > 2000
    assert f"about {found['needed']} may do" in hitl("calibrate", f"{HERE}:strict")[1]
    for name, says in (
        ("nothing", "has no rule with when=Unsure(...)"), ("fixed", "give it a guarantee= instead"),
        ("moderate", "has no rule with when=Unsure(...)"), ("gone", "has no gone; its Unsure objects are"),
    ):  # fmt: skip
        code, _, err = hitl("calibrate", f"{HERE}:{name}")
        assert (code, says in err) == (2, True), err


def test_each_group(hitl: Hitl, db: str) -> None:
    code, out, _ = hitl("calibrate", f"{HERE}:grouped")
    assert (code, "no call was routed yet" in out) == (1, True)
    with Ledger.open(db) as ledger:
        feed = Feed(ledger, grouped, lambda post, score: post.startswith("hate"))
        for number in range(120):
            feed.post(f"ok-{number}", 0.5 + number / 1000)
            feed.post(f"hate-{number}", 0.5 + number / 1000, label="hate")
            feed.post(f"spam-{number}", 0.5 + number / 1000, label="spam") if number < 3 else None
    code, out, _ = hitl("calibrate", f"{HERE}:grouped")
    assert code == 1
    assert re.search(r'^each, "ok": From a score of .* with a confidence of 95.5 %', out, re.M)
    assert re.search(r'^each, "hate": No certificate', out, re.M)
    code, out, err = hitl("status")
    assert "NAME" in out.splitlines()[0]
    assert (len(out.splitlines()), "hitl learn status --name NAME" in err) == (5, True)
    assert len(hitl("status", "--name", "each", "--json")[1].splitlines()) == 3


def test_another_model_is_told_apart(hitl: Hitl, db: str) -> None:
    assert hitl("calibrate", f"{HERE}:unsure")[0] == 0
    with Ledger.open(db) as ledger:
        fed(ledger, unsure, 3, seed=3, model="n")
    rows = [json.loads(line) for line in hitl("status", "--json")[1].splitlines()]
    assert [(one["model"], one["current"], one["standing"]) for one in rows] == [
        ("n", True, "none"), ("m", False, "valid"),
    ]  # fmt: skip
    assert "not in use any more" in hitl("status")[1]


def test_nothing_yet(hitl: Hitl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Ledger.open("agent.db").close()
    assert hitl("status") == (0, "", "No call was routed by a rule with Unsure(guarantee=...) in this database yet.\n")
    assert hitl("status", "--json") == (0, "", "")
    assert hitl("status", "--name", "x")[0] == 3
    code, out, _ = hitl("calibrate", f"{HERE}:unsure")
    assert (code, "no call was routed yet" in out) == (1, True)
    assert hitl("report")[0] == 0
    assert "No call was routed by a rule" in Path("report.html").read_text()
    assert hitl("status", "--db", "missing.db")[0] == 5


def test_report(hitl: Hitl, db: str) -> None:
    assert hitl("calibrate", f"{HERE}:unsure")[0] == 0
    code, out, _ = hitl("report")
    assert (code, out) == (0, "Written to report.html: 200 calls of 1 kind.\n")
    code, out, _ = hitl("report", "--out", "-", "--name", "moderate")
    assert (code, out.startswith("<!doctype html>")) == (0, True)
    assert hitl("report", "--name", "other")[0] == 3
    assert hitl("report", "--out", "no/such/folder.html")[0] == 1


def test_on_postgresql(hitl: Hitl, postgres_dsn: str) -> None:
    parts = conninfo_to_dict(postgres_dsn)
    url = f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"
    with Ledger.open(url) as ledger:
        fed(ledger, unsure, 200)
        assert isinstance(DecisionLog(ledger).calibrate(unsure), Certificate)
        fed(ledger, unsure, 40, seed=1)
        health = DecisionLog(ledger).health(unsure)
    found = row(hitl, "--db", url)
    assert (found["standing"], found["audits"], found["saved"]) == ("valid", health.audits, health.saved)
    code, out, _ = hitl("calibrate", f"{HERE}:unsure", "--db", url)
    assert (code, "No new certificate" in out, "The one before stays in force, from a score of" in out) == (
        1,
        True,
        True,
    )
    code, out, _ = hitl("report", "--out", "-", "--db", url)
    assert (code, "What do audits find?" in out) == (0, True)
    assert hitl("suspend", "moderate", "-m", "why not", "--db", url)[0] == 0


def test_what_people_have_not_come_to_can_be_left_out(hitl: Hitl, db: str) -> None:
    code, out, err = hitl("calibrate", f"{HERE}:unsure", "--before", "2001-01-01")
    assert (code, "0 labels" in out + err) == (1, True)
    assert hitl("calibrate", f"{HERE}:unsure", "--before", "yesterday")[0] == 2
    assert hitl("calibrate", f"{HERE}:unsure", "--before", "0s")[0] == 0
