"""`hitl db`: what it says is there, and what it deletes."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("typer")

from langchain_core.messages import HumanMessage

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from tests.test_upkeep import config, plain

Told = tuple[int, str, str]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HITL_DB", raising=False)
    monkeypatch.chdir(tmp_path)
    with SqliteCheckpointer("agent.db") as saver:
        for thread in ("a", "b"):
            plain(saver).invoke({"messages": [HumanMessage("hello" * 200)]}, config(thread))
    return tmp_path / "agent.db"


def hitl(capsys: pytest.CaptureFixture[str], *args: str) -> Told:
    capsys.readouterr()
    code = main(["db", *args])
    return code, *capsys.readouterr()


def test_stats_count_what_is_there(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = hitl(capsys, "stats", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["total"] == sum(
        os.path.getsize(f"{database}{end}") for end in ("", "-wal") if os.path.exists(f"{database}{end}")
    )
    assert (told["threads"], told["checkpoints"], told["requests"], told["pending_requests"]) == (2, 10, 2, 2)
    assert {row["thread_id"] for row in told["largest"]} == {"a", "b"}
    assert told["largest"][0]["checkpoints"] == 5
    code, out, _ = hitl(capsys, "stats")
    assert code == 0
    assert "pending requests" in out
    assert "LARGEST THREADS" in out


def test_prune_deletes_only_what_it_was_told_to(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        hitl(capsys, "prune", "--keep-latest", "--dry-run")[1] == "Would delete 8 checkpoints; looked at 2 threads.\n"
    )
    assert json.loads(hitl(capsys, "stats", "--json")[1])["checkpoints"] == 10
    assert hitl(capsys, "prune", "--older-than", "1d", "--yes")[1] == "Deleted 0 checkpoints; looked at 2 threads.\n"
    told = hitl(capsys, "prune", "--keep-latest", "--thread", "a", "--yes")
    assert told == (0, "Deleted 4 checkpoints; looked at 1 thread.\n", "")
    assert hitl(capsys, "prune", "--delete-idle", "0s", "--yes")[1].startswith("Deleted 0 checkpoints")  # both wait
    assert json.loads(hitl(capsys, "stats", "--json")[1])["checkpoints"] == 6
    code, out, _ = hitl(capsys, "vacuum")
    assert code == 0
    assert "before" in out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["prune"], 2, "say what may go"),
        (["prune", "--keep-latest", "--older-than", "1d"], 2, "say what may go"),
        (["prune", "--older-than", "soon"], 2, "is no age"),
        (["prune", "--keep-latest"], 2, "--yes"),
        (["prune", "--keep-latest", "--yes", "--thread", "nobody"], 3, "'nobody'"),
        (["stats", "--db", "none.db"], 5, "there is no database"),
        (["migrate", "--db", "none.db"], 5, "there is no database"),
        (["stats", "--db", "mysql://host/x"], 5, "no database that hitl-graph knows"),
    ],
)
def test_what_it_refuses_changes_nothing(
    database: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, says: str
) -> None:
    told = hitl(capsys, *args)
    assert told[0] == code
    assert says in told[2]
    assert json.loads(hitl(capsys, "stats", "--json")[1])["checkpoints"] == 10


def test_migrate_says_what_there_is_to_do(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hitl(capsys, "migrate")[1] == "Version 7; nothing to do.\n"
