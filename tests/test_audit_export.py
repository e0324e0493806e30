"""The exported log: a script of 50 lines, which knows nothing of us, verifies it and finds whatever was changed."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO, StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hitl_graph.errors import DatabaseCorruptError
from hitl_graph.ledger import Ledger, audit, requests
from hitl_graph.model import Action, Request, approve
from tests.databases import open_ledger

SCRIPT = Path(__file__).parents[1] / "docs" / "verify_audit.py"
ODD = "t\xe4glich \U0001fae8 'x' \"y\" \\ \x7f\u2028\u202e\ufffe"
pytestmark = pytest.mark.both_databases


def load_script() -> ModuleType:
    spec = spec_from_file_location("verify_audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verify: Callable[..., None] = load_script().verify


def problem(exported: bytes, anchor: str | None = None) -> str | None:
    """What the script says of a file; None: in order."""
    try:
        verify(BytesIO(exported), anchor)
    except SystemExit as stop:
        return str(stop.code)
    return None


def ask(ledger: Ledger, own: str, thread: str, **fields: Any) -> None:
    request = Request(
        id=own * 20, kind="approval", thread_id=thread, interrupt_id=own, action=Action(name="pay", args={"eur": 1}),
        reason=f"why {thread}", **fields,
    )  # fmt: skip
    ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id="1", task_id="1", parked=1)


def fill(ledger: Ledger) -> None:
    """Two threads, a row of none, and a thread that was redacted."""
    for own, thread in (("a", "42"), ("b", ODD), ("c", "gone")):
        ask(ledger, own, thread)
    ledger.decide("a" * 20, approve(f"secret of 42 {ODD}"), reviewer="alice", channel="cli")
    ledger.decide("b" * 20, approve("secret of the odd one"), reviewer=f"bob {ODD}", channel="cli")
    ledger.redact("gone", actor="privacy officer", reason="Art. 17")
    ledger.write(audit.append, 0, "note.made", "x", {}, thread_id=None, actor="")


def exported(ledger: Ledger, thread_id: str | None = None) -> bytes:
    out = StringIO()
    ledger.export_audit(out.write, thread_id=thread_id)
    return out.getvalue().encode("ascii")


@pytest.fixture
def ledger(db_path: str) -> Any:
    with open_ledger(db_path) as ledger:
        fill(ledger)
        yield ledger


def rows_of(file: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.splitlines()[1:]]


def test_the_script_verifies_what_was_exported(ledger: Ledger, tmp_path: Path) -> None:
    seen = list[tuple[int, int]]()
    with (tmp_path / "log.jsonl").open("w") as file:
        done = ledger.export_audit(file.write, progress=lambda *how: seen.append(how))
    report = ledger.verify_audit()
    assert (report.rows, report.head) == done == (8, done.head)
    assert seen == [(8, 8)]

    def run(*more: str) -> tuple[int, str]:
        command = [sys.executable, "-I", str(SCRIPT), "log.jsonl", *more]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout + ran.stderr

    assert run() == (0, f"In order: 8 rows, 2 of them redacted. Head: {report.head}\n")
    earlier = rows_of((tmp_path / "log.jsonl").read_bytes())[3]["hash"]
    assert run(earlier)[0] == 0
    code, said = run("0" * 63 + "1")
    assert (code, said.startswith("NOT IN ORDER: the given head is not in this chain")) == (1, True)
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 50
    assert "hitl_graph" not in text
    page = (SCRIPT.parent / "audit.md").read_text()
    assert f'```python title="verify_audit.py"\n{text}```' in page


def test_it_holds_everything(ledger: Ledger) -> None:
    file = exported(ledger)
    stored = ledger.read(
        lambda tx: tx.execute("SELECT thread_id, actor, body, salt FROM hitl_audit ORDER BY seq").fetchall()
    )
    assert [
        (row["thread_id"], row["actor"], row["body"], row["salt"] and bytes.fromhex(row["salt"]))
        for row in rows_of(file)
    ] == stored


def test_the_export_of_one_thread_has_only_its_texts_and_verifies(ledger: Ledger) -> None:
    file = exported(ledger, "42")
    assert problem(file) is None
    assert {row["thread_id"] for row in rows_of(file) if row["body"] is not None} == {"42"}
    assert "secret of 42" in file.decode()
    assert "secret of the odd one" not in file.decode()
    gone = exported(ledger, "gone")  # the redaction is about this thread
    assert problem(gone) is None
    assert [row["event"] for row in rows_of(gone) if row["body"] is not None] == ["audit.redacted"]
    for one, other in (
        (file, b'"43"'),
        (file, b"null"),
        (file, b'"gone"'),
        (gone, b'"42"'),
        (exported(ledger), b'"42"'),
    ):
        first, rest = one.split(b"\n", 1)
        header = json.loads(first)
        assert problem(json.dumps(header | {"thread": json.loads(other)}).encode() + b"\n" + rest) is not None


def test_an_empty_log(db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        assert problem(exported(ledger)) is None


def same(file: bytes, changed: bytes) -> bool:
    """Whether two files are the same JSON, which may be spaced or escaped otherwise."""
    try:
        return [json.loads(line) for line in BytesIO(file)] == [json.loads(line) for line in BytesIO(changed)]
    except ValueError:
        return False


@pytest.mark.sqlite_file
def test_every_flipped_bit_is_found(ledger: Ledger) -> None:
    file = exported(ledger)
    assert problem(file) is None
    missed = []
    for at in range(len(file)):
        for bit in range(8):
            changed = file[:at] + bytes([file[at] ^ 1 << bit]) + file[at + 1 :]
            if problem(changed) is None and not same(file, changed):
                missed.append((at, bit))
    assert missed == []


def test_whatever_is_done_to_the_file_is_found(ledger: Ledger) -> None:
    files = [exported(ledger), exported(ledger, "42"), exported(ledger, "gone")]

    @settings(max_examples=300)
    @given(data=st.data())
    def any_change(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        lines = file.splitlines(keepends=True)
        one, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
        at, until = data.draw(st.integers(0, len(file) - 1)), data.draw(st.integers(1, 40))
        match data.draw(st.sampled_from(["bytes", "cut", "swap", "drop", "twice", "truncate"])):
            case "bytes":
                changed = (
                    file[:at] + data.draw(st.binary(min_size=1, max_size=3)) + file[at + data.draw(st.integers(0, 3)) :]
                )
            case "cut":
                changed = file[:at] + file[at + until :]
            case "swap":
                lines[one], lines[other] = lines[other], lines[one]
                changed = b"".join(lines)
            case "drop":
                changed = b"".join(lines[:one] + lines[one + 1 :])
            case "twice":
                changed = b"".join([*lines[:one], lines[other], *lines[one:]])
            case _:
                changed = file[:at]
        assume(not same(file, changed))
        assert problem(changed) is not None

    any_change()


def test_what_a_forger_does_is_found(ledger: Ledger) -> None:
    """With all the hashes at hand that the file itself holds."""
    file = exported(ledger)
    header, *lines = file.splitlines(keepends=True)
    head = rows_of(file)[-2]["hash"]
    shorter = json.dumps(json.loads(header) | {"rows": 7, "head": head}).encode() + b"\n" + b"".join(lines[:-1])
    assert problem(shorter) is None  # in itself it is in order; that is what the head kept elsewhere is for
    assert "cut off" in str(problem(shorter, ledger.verify_audit().head))
    row = json.loads(lines[3])
    for change in (
        {"body": None, "salt": None},
        {"body": row["body"] + " "},
        {"body": " " + row["body"]},
        {"body": None},
        {"salt": row["salt"].upper()},
        {"salt": row["salt"][:2] + " " + row["salt"][2:]},
        {"salt": None},
        {"seq": 4.0},
        {"seq": True},
        {"at_ms": str(row["at_ms"])},
        {"more": 1},
    ):
        changed = [header, *lines]
        changed[4] = json.dumps(row | change).encode() + b"\n"
        assert problem(b"".join(changed)) is not None, change
    twice = lines[3].replace(b'"actor":', b'"actor":"mallory","actor":', 1)  # other readers take the first of two
    assert problem(b"".join([header, *lines[:3], twice, *lines[4:]])) is not None


def test_a_log_that_was_changed_is_exported_as_it_is(ledger: Ledger) -> None:
    def tamper(sql: str) -> None:
        ledger.database.write(lambda tx: tx.execute(sql))

    tamper("UPDATE hitl_audit SET actor = 'mallory' WHERE seq = 4")
    assert "row 4 was changed" in str(problem(exported(ledger)))
    tamper("DELETE FROM hitl_audit WHERE seq >= 8")
    assert "row 4 was changed" in str(problem(exported(ledger)))
    tamper("UPDATE hitl_audit SET actor = 'alice' WHERE seq = 4")
    assert "8 rows up to" in str(problem(exported(ledger)))
    tamper("DELETE FROM hitl_audit_tip")
    assert "None rows" in str(problem(exported(ledger)))


@pytest.mark.sqlite_file
@pytest.mark.parametrize("value", ["x'00'", "CAST(x'ff' AS TEXT)"])
def test_what_no_log_can_hold_is_an_error(ledger: Ledger, value: str) -> None:
    ledger.database.write(lambda tx: tx.execute(f"UPDATE hitl_audit SET actor = {value} WHERE seq = 5"))
    with pytest.raises(DatabaseCorruptError, match="row 5 of the log"):
        exported(ledger)
    assert "row 5" in str(ledger.verify_audit().problem)
