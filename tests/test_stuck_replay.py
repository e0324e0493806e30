"""`hitl stuck replay`: recorded runs, one prefix at a time."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.cli import main, progress

TRACES = Path(__file__).parent / "data" / "traces.jsonl"
FIRST = [{"id": "loops", "index": 6}, {"id": "works", "index": None}, {"id": "refuses", "index": 7}]


def replay(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["stuck", "replay", *map(str, args)])
    return code, *capsys.readouterr()


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_it_writes_the_first_alarm_of_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pred.jsonl"
    code, said, _ = replay(capsys, TRACES, "--out", out)
    assert code == 0
    assert rows(out.read_text()) == FIRST
    assert said == f"2 of 3 runs would have called somebody; written to {out}.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pred.jsonl"]
    assert out.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_packed_or_not_whatever_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "traces.bin"
    packed.write_bytes(gzip.compress(TRACES.read_bytes()))
    assert rows(replay(capsys, packed)[1]) == FIRST


def test_why(capsys: pytest.CaptureFixture[str]) -> None:
    [loops, works, refuses] = rows(replay(capsys, TRACES, "--why")[1])
    assert loops["kind"] == "repeated_action"
    assert loops["evidence"][0]["indices"] == [1, 2, 3, 4, 5, 6]
    assert works == {"id": "works", "index": None}
    assert refuses["kind"] == "dialogue_stall"


def test_patience(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["index"] for row in rows(replay(capsys, TRACES, "--patience", "high")[1])] == [None, None, None]
    assert [row["index"] for row in rows(replay(capsys, TRACES, "--patience", "low")[1])] == [6, None, 5]


def test_only_what_came_before_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is cut off after the alarm has the same alarm, one that is cut off before it has none."""
    whole = rows(TRACES.read_text().replace("\n\n", "\n"))[0]
    for end, index in ((7, 6), (6, None), (0, None)):
        cut = tmp_path / "cut.jsonl"
        cut.write_text(json.dumps(whole | {"messages": whole["messages"][:end]}))
        assert rows(replay(capsys, cut)[1]) == [{"id": "loops", "index": index}]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        ('{"messages": []}', 'line 2: has no "id" text'),
        ('{"id": "b"}', 'line 2: has no "messages" list'),
        ('{"id": "a", "messages": []}', "line 2: there was an id 'a' before"),
        ('{"id": "b", "messages": [{"role": "clerk"}]}', "line 2: messages[0] has the role 'clerk'"),
    ],
)
def test_bad_lines_are_named_and_nothing_is_written(
    line: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, out = tmp_path / "t.jsonl", tmp_path / "pred.jsonl"
    traces.write_text(f'{{"id": "a", "messages": []}}\n{line}\n')
    code, _, err = replay(capsys, traces, "--out", out)
    assert code == 2
    assert err.startswith("hitl: ")
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_other_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = replay(capsys, tmp_path / "none.jsonl")
    assert (code, err) == (3, f"hitl: there is no file {tmp_path / 'none.jsonl'}\n")
    assert replay(capsys, tmp_path)[0] == 2
    damaged = tmp_path / "damaged.gz"
    damaged.write_bytes(gzip.compress(TRACES.read_bytes())[:200])
    code, _, err = replay(capsys, damaged)
    assert code == 2
    assert "damaged gzip" in err
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"id": "ü"}'.encode("latin-1"))
    assert "not UTF-8" in replay(capsys, latin)[2]
    assert "cannot be written" in replay(capsys, TRACES, "--out", tmp_path / "no" / "folder")[2]
    same = tmp_path / "same.jsonl"
    same.write_text(TRACES.read_text())
    assert replay(capsys, same, "--out", same)[0] == 2
    assert same.read_text() == TRACES.read_text()
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    code, out, err = replay(capsys, empty)
    assert (code, out) == (0, "")
    assert "has no runs" in err


def test_it_says_how_far_it_is_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(progress, "_SLOW", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, out, _ = replay(capsys, TRACES, "--out", tmp_path / "pred.jsonl")
    assert code == 0
    assert out.startswith("2 of 3 runs")
