"""`hitl export` and `hitl import`, over what a real agent asked."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import exporting, main
from hitl_graph.inbox import Inbox
from hitl_graph.learning.formats import FORMATS
from hitl_graph.model import approve, edit, reject
from hitl_graph.worker import Worker
from tests.invariants.agents import build, pay_call, ran, start

Told = tuple[int, str, str]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four calls of `pay`: approved, edited, rejected, and one that waits."""
    monkeypatch.chdir(tmp_path)
    for name in ("HITL_DB", "HITL_REVIEWER", "HITL_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    with SqliteCheckpointer("agent.db") as saver:
        graph, inbox = build(saver, "effects"), Inbox(saver.ledger)
        for thread, decision in (("a", approve()), ("e", edit({"eur": 4, "to": "bob"})), ("r", reject("no"))):
            start(graph, thread, [pay_call(5)])
            inbox.decide(inbox.pending()[0].id, decision, reviewer="alice")
            Worker(graph, saver.ledger).run_once()
        start(graph, "p", [pay_call(7)])
    return tmp_path


def hitl(capsys: pytest.CaptureFixture[str], *args: str) -> Told:
    capsys.readouterr()
    code = main(args)
    return code, *capsys.readouterr()


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_the_formats_that_are_told_are_those_that_there_are() -> None:
    assert exporting._FORMATS.split(", ") == list(FORMATS)
    assert exporting._READ.split(", ") == [name for name, one in FORMATS.items() if one.waiting and one.labels]


def test_decisions_become_training_data_with_the_messages_before_them(
    agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = hitl(capsys, "export", "--format", "trl-sft", "--out", "sft.jsonl")
    assert (code, out) == (0, "Exported 2 rows to sft.jsonl.\n")
    assert err == "Left out: 1 not decided yet; 1 nothing right is known.\n"
    approved, edited = lines("sft.jsonl")
    assert [message["role"] for message in approved["prompt"]] == ["user"]
    assert "pay" in approved["prompt"][0]["content"]
    made = [row["completion"][0]["tool_calls"][0]["function"] for row in (approved, edited)]
    assert [(one["name"], one["arguments"]["eur"]) for one in made] == [("pay", 5), ("pay", 4)]
    code, out, _ = hitl(capsys, "export", "-f", "trl-dpo", "-o", "dpo.jsonl", "--json")
    assert code == 0
    assert json.loads(out)["written"] == 1
    assert hitl(capsys, "export", "-f", "trl-kto", "-o", "kto.jsonl", "--thread", "r")[0] == 0
    assert [row["label"] for row in lines("kto.jsonl")] == [False]


def test_what_is_exported_can_be_chosen(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def count(*args: str) -> Any:
        code, out, err = hitl(capsys, "export", "-f", "jsonl", "-o", "x", "--force", "--json", *args)
        assert code == 0, err
        return json.loads(out)["written"]

    assert count() == 4
    assert count("--thread", "a") == 1
    assert count("--since", "1h") == 4
    assert count("--since", "2100-01-01") == 0
    assert count("--since", "99999999w") == 4
    assert count("--split", "audit") == 0
    assert count("--waiting") == 1
    assert count("--waiting", "--since", "2100-01-01") == 0
    assert count("--waiting", "--thread", "a") == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("-f", "csv", "-o", "x"), 2, "there is no format 'csv'; there are jsonl, parquet"),
        (("-f", "trl-sft", "-o", "x", "--waiting"), 2, "to label in; there are jsonl, label-studio, argilla"),
        (("-f", "jsonl", "-o", "x", "--waiting", "--split", "train"), 2, "--split is of decisions"),
        (("-f", "jsonl", "-o", "agent.db", "--force"), 2, "agent.db is the database"),
        (("-f", "jsonl", "-o", "there"), 2, "there exists; --force"),
        (("-f", "jsonl", "-o", "x", "--thread", "zz"), 3, "in a thread 'zz'"),
        (("-f", "jsonl", "-o", "x", "--since", "soon"), 2, "'soon' is no age"),
        (("-f", "jsonl", "-o", "no/x"), 1, "no/x cannot be written: No such file"),
        (("-f", "jsonl", "-o", "x", "--db", "none.db"), 5, "there is no database"),
        (("-f", "jsonl"), 2, "--out"),
    ],
)
def test_what_cannot_be_exported_is_told(
    args: tuple[str, ...], code: int, said: str, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there").write_text("mine")
    found, _, err = hitl(capsys, "export", *args)
    assert (found, said in err) == (code, True), err
    assert Path("there").read_text() == "mine"
    assert not Path("x").exists()


def test_what_waits_is_labelled_elsewhere_and_carried_out(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = hitl(capsys, "export", "--waiting", "-f", "label-studio", "-o", "tasks.json")
    assert (code, out) == (0, "Exported 1 rows to tasks.json.\n")
    [task] = json.loads(Path("tasks.json").read_text())
    assert task["data"]["input"].startswith("user: [[")  # what the agent had been told
    choice = {"from_name": "decision", "type": "choices", "value": {"choices": ["approve"]}}
    done = {"id": 1, **task, "annotations": [{"completed_by": 7, "result": [choice]}, {"result": [choice]}]}
    Path("back.json").write_text(json.dumps([done, {"id": 2, "data": {}, "annotations": []}]))
    code, out, err = hitl(capsys, "import", "back.json", "--format", "label-studio")
    assert (code, out) == (4, "Decided by back.json: 0 requests.\n")
    assert "Without an answer: 1." in err
    assert "Refused, item 1, annotation 1 (request " in err
    assert "nobody said who 7 is" in err
    assert "it does not say who decided" in err
    code, out, err = hitl(
        capsys, "import", "back.json", "-f", "label-studio", "--reviewer", "7=alice", "--as", "bob", "--json"
    )
    told = json.loads(out)
    assert (code, told["decided"], told["unanswered"]) == (4, 1, 1)
    assert "already decided: approve by alice" in told["refused"][0]["reason"]
    with SqliteCheckpointer("agent.db") as saver:
        [asked] = saver.ledger.history("p")
        assert (asked.reviewer, asked.channel) == ("alice", "import:label-studio")
        Worker(build(saver, "effects"), saver.ledger).run_once()
    assert ran("effects")[-1].endswith("pay 7 bob")


def test_lines_are_completed_by_hand(agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hitl(capsys, "export", "--waiting", "-f", "jsonl", "-o", "waits.jsonl")
    [row] = lines("waits.jsonl")
    Path("done.jsonl").write_text(json.dumps({**row, "decision": "reject", "message": "no", "reviewer": "bob"}))
    assert hitl(capsys, "import", "done.jsonl", "-f", "jsonl") == (
        0, "Decided by done.jsonl: 1 requests; a worker carries it out.\n", "",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("none.json", "-f", "jsonl"), 3, "there is no file none.json"),
        (("labels", "-f", "trl-sft"), 2, "there are jsonl, label-studio, argilla"),
        (("labels", "-f", "jsonl", "--reviewer", "7"), 2, "--reviewer takes ACCOUNT=NAME"),
        (("labels", "-f", "jsonl", "--as", " "), 2, "--as is empty"),
        (("labels", "-f", "jsonl", "--db", "none.db"), 5, "there is no database"),
        ((".", "-f", "jsonl"), 1, "cannot be read: Is a directory"),
    ],
)
def test_what_cannot_be_imported_is_told(
    args: tuple[str, ...], code: int, said: str, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("labels").write_text("")
    found, _, err = hitl(capsys, "import", *args)
    assert (found, said in err) == (code, True), err
