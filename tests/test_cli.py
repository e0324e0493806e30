"""The command `hitl`: real files, real processes, real terminals."""

import fcntl
import getpass
import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.cli import main, progress
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, approve

AGENT = Path(__file__).with_name("cli_agent.py")
HITL = [sys.executable, "-m", "hitl_graph.cli"]
MAIL: dict[str, Any] = {"to": "bob@example.com", "subject": "Offer", "body": "Dear Bob,\n\nwe accept.\n\nAlice"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"iban": {"type": "string"}, "eur": {"type": "number"}, "note": {"type": "string"}},
    "required": ["iban", "eur"],
}


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Cli:
    """`hitl` in an empty folder with the agent in it; called in this process, or in one of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, *args: str) -> Done:
        self.capsys.readouterr()
        code = main(args)
        return Done(code, *self.capsys.readouterr())

    def process(self, *args: str, **options: Any) -> Done:
        done = subprocess.run(
            [*HITL, *args], cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
            stdin=options.pop("stdin", subprocess.DEVNULL), **options,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*HITL, *args],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def agent(self, **threads: list[dict[str, Any]] | str) -> None:
        """Run threads to their pause, in a process that ends."""
        subprocess.run([sys.executable, "my_agent.py", json.dumps(threads)], cwd=self.folder, check=True, timeout=300)

    def effects(self) -> list[str]:
        file = self.folder / "effects.txt"
        return file.read_text().splitlines() if file.exists() else []

    def request(self, own: str) -> Request:
        with Ledger.open(self.folder / "agent.db") as ledger:
            return Inbox(ledger).get(own)

    def by_thread(self) -> dict[str, str]:
        return {row["thread_id"]: row["id"] for row in self("inbox", "--json").rows()}


@pytest.fixture
def hitl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    for name in (
        "HITL_DB",
        "HITL_REVIEWER",
        "HITL_DEBUG",
        "VISUAL",
        "EDITOR",
        "FORCE_COLOR",
        "NO_COLOR",
        "COLUMNS",
        "LINES",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(AGENT, tmp_path / "my_agent.py")
    return Cli(tmp_path, capsys)


def asked(own: str, thread: str = "42", *, path: str = "agent.db", **fields: Any) -> str:
    """Put a request into the inbox, as a node would."""
    fields.setdefault("action", Action(name="pay", args={"iban": "FR76", "eur": 10}))
    fields.setdefault("answer_schema", SCHEMA)
    own = own.ljust(20, "0")
    request = Request(
        id=own, kind=fields.pop("kind", "approval"), thread_id=thread, interrupt_id=own, reason="a rule", **fields
    )
    with Ledger.open(path) as ledger:
        ledger.write(
            requests.open_request, ledger.now_ms(), request, checkpoint_id=None, task_id=None, parked=True
        )  # fmt: skip
    return own


def call(name: str, id: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": id}


def sql(*statements: str, path: str = "agent.db") -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


# --- the whole story ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_agent_ends_people_decide_a_worker_goes_on(hitl: Cli) -> None:
    hitl.agent(
        a=[call("send_email", "1", **MAIL), call("pay", "2", iban="FR76", eur=5)],
        b=[call("pay", "3", iban="FR76", eur=7)],
        c=[call("send_email", "4", **MAIL)],
        q="question",
    )

    listed = hitl.process("inbox")
    assert listed.code == 0
    header, *rows = listed.out.splitlines()
    assert header.split() == ["ID", "AGE", "THREAD", "KIND", "WANTS", "WHY"]
    assert len(rows) == 5
    [mail_a] = [r for r in rows if " a " in r and "send_email" in r]
    assert 'send_email(to="bob@example.com", subject="Offer", body="Dear Bob,\\n\\nwe accept.\\n\\nAlice")' in mail_a
    assert mail_a.endswith("mail leaves the company")

    def short(thread: str, tool: str) -> str:
        return next(r.split()[0] for r in rows if f" {thread} " in r and tool in r)

    assert hitl.process("approve", short("a", "send_email"), "--as", "alice").code == 0
    edited = hitl("edit", short("a", "pay"), "--set", "eur=6", "--as", "bob")
    assert "- eur: 5" in edited.out
    assert "+ eur: 6" in edited.out
    assert hitl("reject", short("b", "pay"), "-m", "too much").code == 0
    assert hitl("respond", short("c", "send_email"), "-m", "ask Carol first").code == 0
    assert hitl("respond", short("q", "Which city?"), "-m", "Lisbon").code == 0
    assert hitl("inbox").err == "Nothing waits.\n"

    worked = hitl.process("worker", "my_agent:make", "--once", "--json")
    assert {row["thread_id"]: row["status"] for row in worked.rows()} == {
        "a": "finished", "b": "finished", "c": "finished", "q": "failed",
    }  # fmt: skip
    assert worked.code == 1  # the question belongs to another graph
    assert hitl.process("worker", "my_agent:question", "--once").code == 0
    done = [line for line in hitl.effects() if line.startswith(("email", "paid"))]
    assert sorted(done) == ["email bob@example.com: Dear Bob,", "paid 6.0"]

    history = hitl("history", "a")
    events = [line.split()[2] for line in history.out.splitlines()[1:]]
    assert sorted(events) == ["approved", "asked", "asked", "delivered", "delivered", "edited", "ran", "ran"]
    verified = hitl("audit", "verify")
    assert verified.code == 0
    head = verified.out.split()[-1]
    assert hitl("audit", "verify", "--anchor", head).code == 0

    sql("UPDATE hitl_requests SET reviewer = 'mallory' WHERE reviewer = 'alice'")
    tampered = hitl("audit", "verify")
    assert tampered.code == 6
    assert "the decision of request" in tampered.err
    assert hitl("audit", "verify", "--json").rows()[0]["ok"] is False


# --- inbox -------------------------------------------------------------------------------------------------------


def test_ids_are_as_short_as_they_can_be_and_never_ambiguous(hitl: Cli) -> None:
    asked("aaaaaa11")
    asked("aaaaaa12")
    asked("bbbbbb")
    ids = [line.split()[0] for line in hitl("inbox").out.splitlines()[1:]]
    assert sorted(ids) == ["aaaaaa11", "aaaaaa12", "bbbbbb00"]
    assert hitl("show", "bbbb").code == 0
    ambiguous = hitl("show", "aaaa")
    assert ambiguous.code == 3
    assert "several begin so: aaaaaa11 (pending), aaaaaa12 (pending)" in ambiguous.err


def test_pages_and_filters(hitl: Cli) -> None:
    for number in range(5):
        asked(f"a{number}0000", thread=f"t{number % 2}")
    first = hitl("inbox", "--limit", "2")
    assert len(first.out.splitlines()) == 3
    after = re.search(r"--after (\w+)", first.err)
    assert after
    rest = hitl("inbox", "--after", after[1], "--json")
    assert [row["id"][:2] for row in rest.rows()] == ["a2", "a3", "a4"]
    assert len(hitl("inbox", "--thread", "t1", "--json").rows()) == 2
    assert hitl("inbox", "--kind", "review").err == "Nothing waits that fits these options.\n"
    assert hitl("inbox", "--kind", "nonsense").code == 2
    assert hitl("inbox", "--limit", "0").code == 2


def test_the_json_of_a_request_always_has_the_same_keys(hitl: Cli) -> None:
    asked("abcdef01")
    asked("abcdef02", action=None, answer_schema=None, kind="question", question="Which city?", allowed=("respond",))
    one, other = hitl("inbox", "--json").rows()
    assert one.keys() == other.keys() == hitl("show", "abcdef01", "--json").rows()[0].keys() - {"executed"}
    assert {
        "id",
        "kind",
        "thread_id",
        "action",
        "allowed",
        "reason",
        "state",
        "digest",
        "created_at",
        "decision",
        "reviewer",
    } <= (one.keys())
    assert one["digest"] == hitl.request("abcdef01").digest
    assert one["created_at"].endswith("Z")


def test_output_that_is_read_by_programs_is_plain(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("abcdef", thread="t" * 60, action=Action(name="pay", args={f"argument_{i}": "x" * 30 for i in range(9)}))
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40"}.items():
        monkeypatch.setenv(name, value)
    for args in (["inbox"], ["show", "abcdef"], ["history", "t" * 60], ["audit", "log"], ["--help"]):
        out = hitl.process(*args).out
        assert not re.search("[\x1b\u2500-\u257f…]", out), args
    assert "t" * 60 in hitl("inbox").out


def test_a_reader_who_has_seen_enough(hitl: Cli) -> None:
    asked("abcdef")
    process = hitl.start("inbox")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert (process.stderr.read(), process.wait(60)) == ("", 0)
    process.stderr.close()


# --- show --------------------------------------------------------------------------------------------------------


def test_nothing_is_hidden_and_nothing_can_pretend(hitl: Cli) -> None:
    body = "Hello\x1b[2J\u202e\n\nAnswers\n  approve   harmless\u200b" + "x" * 500
    asked(
        "abcdef", thread="4\x1b[1m2", action=Action(name="mail\x1b[8m", args={"body": body, "n": {"deep": [1, None]}})
    )
    out = hitl("show", "abcdef").out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "| Hello\\x1b[2J\\u202e" in out
    assert "|   approve   harmless\\u200b" + "x" * 500 in out  # behind the bar: not our line
    assert 'n = {"deep": [1, null]}' in out
    assert "wants to call mail\\x1b[8m" in out
    assert "\x1b" not in hitl("inbox").out + hitl("approve", "abcdef").out + hitl("history", "4\x1b[1m2").out


def test_a_card_says_how_to_answer(hitl: Cli) -> None:
    asked("abcdef", editable=("eur",), allowed=("approve", "edit", "reject"))
    out = hitl("show", "abcd", "--db", "./agent.db").out
    assert "hitl approve abcdef --db ./agent.db" in out
    assert "Only these may change: eur" in out
    assert 'iban = "FR76"  (may not be edited)' in out
    assert "(not given: note)" in out
    assert "hitl respond" not in out
    asked(
        "bbbbbb", kind="question", allowed=("approve", "reject"), description="Did this happen?",
        labels={"approve": "run it again", "reject": "it was not done"},
    )  # fmt: skip
    out = hitl("show", "bbbb").out
    assert "Did this happen?" in out
    assert re.search(r"approve +run it again", out)
    assert "-> it was not done" in hitl("reject", "bbbb", "-m", "").out
    assert "Rejected by" in hitl("show", "bbbb").out
    assert "hitl approve" not in hitl("show", "bbbb").out


# --- answers -----------------------------------------------------------------------------------------------------


def test_who_decides(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("aaaaaa", "bbbbbb", "cccccc"):
        asked(own)
    assert f"Approved as {getpass.getuser()}: pay(" in hitl("approve", "aaaaaa").out
    monkeypatch.setenv("HITL_REVIEWER", "carol")
    assert "Approved as carol" in hitl("approve", "bbbbbb").out
    monkeypatch.setenv("HITL_DB", "elsewhere.db")
    assert "there is no database" in hitl("approve", "bbbbbb").err
    monkeypatch.delenv("HITL_DB")
    assert "Rejected as dave" in hitl("reject", "cccccc", "-m", "no", "--as", "dave").out
    assert (hitl.request("bbbbbb").reviewer, hitl.request("bbbbbb").channel) == ("carol", "cli")
    assert hitl("approve", "aaaaaa", "--as", " ").code == 2

    def nobody() -> str:
        raise KeyError("uid")

    monkeypatch.delenv("HITL_REVIEWER")
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert "--as NAME" in hitl("approve", "aaaaaa").err


BAD: list[tuple[list[str], int, str]] = [
    (["approve", "ffffff"], 3, "no such request"),
    (["approve", "nothex"], 3, "no request id"),
    (["approve", "ab"], 3, "at least 4 digits"),
    (["show", "ffffff"], 3, "no such request"),
    (["history", "nobody"], 3, "'nobody'"),
    (["inbox", "--after", "ffffff"], 3, "no such request"),
    (["respond", "abcdef", "-m", "x"], 4, "respond is not offered; it takes approve, edit, reject"),
    (["edit", "abcdef", "--args", '{"iban": "FR76"}'], 4, "eur: Field required"),
    (["edit", "abcdef", "--set", "eur=lots"], 4, "valid number"),
    (["edit", "abcdef", "--set", "iban=DE89"], 4, "iban may not be edited; only eur"),
    (["edit", "abcdef", "--set", "euro=1"], 4, "no argument 'euro'; it has"),
    (["edit", "abcdef", "--set", "eur=10"], 4, "change something"),
    (["edit", "abcdef", "--set", "eur"], 2, "NAME=VALUE"),
    (["edit", "abcdef", "--set", "eur=1", "--args", "{}"], 2, "not both"),
    (["edit", "abcdef", "--args", '{"eur": 1,\n "iban" "x"}'], 2, "line 2, column 9"),
    (["edit", "abcdef", "--args", "[1]"], 2, "JSON object"),
    (["edit", "abcdef", "--args", '{"eur": 1, "eur": 2, "iban": "FR76"}'], 2, "'eur' is given twice"),
    (["edit", "abcdef", "--args", '{"eur": NaN, "iban": "FR76"}'], 2, "NaN"),
    (["edit", "abcdef", "--args", '{"eur": 1, "iban": "\\ud800"}'], 4, "not plain JSON"),
    (["edit", "abcdef"], 2, "set EDITOR"),
    (["approve", "abcdef", "--digest", "0123456789"], 4, "look again"),
    (["approve", "abcdef", "-m", "\udcff"], 4, "not plain JSON"),
    (["reject", "abcdef"], 2, "say why"),
    (["respond", "abcdef"], 2, "give the answer"),
    (["respond", "abcdef", "-m", "x", "--json", "1"], 2, "not both"),
    (["respond", "abcdef", "--json", "{"], 2, "not JSON"),
    (["respond", "abcdef", "--json", "null"], 2, "no answer"),
    (["respond", "abcdef", "-m", ""], 2, "empty"),
    (["approve", "abcdef", "--as", ""], 2, "empty"),
    (["approve"], 2, "ID"),
    (["nonsense"], 2, "nonsense"),
    (["audit", "verify", "--anchor", "12"], 2, "64 hex digits"),
    (["audit", "verify", "--anchor", "0" * 63 + "1"], 6, "the given head is not in this chain"),
    (["audit", "redact", "nobody", "-m", "x"], 3, "'nobody'"),
    (["audit", "redact", "42", "-m", " "], 2, "say why"),
    (["inbox", "--watch"], 2, "--watch --json"),
]


@pytest.mark.parametrize(
    ("args", "code", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_bad_input_is_told_in_a_line_and_loses_nothing(
    hitl: Cli, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, message: str
) -> None:
    monkeypatch.setenv("PATH", "")  # no vi
    asked("abcdef", editable=("eur",), allowed=("approve", "edit", "reject"))
    before = hitl("audit", "verify").out
    done = hitl(*args)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= (4 if done.err.startswith("Usage") else 2)
    assert hitl("audit", "verify").out == before
    assert hitl("approve", "abcdef").code == 0  # it can still be answered


def test_a_second_answer_is_refused_and_told_who_was_first(hitl: Cli) -> None:
    asked("abcdef")
    hitl("approve", "abcdef", "--as", "alice")
    for late in (["reject", "abcdef", "-m", "no"], ["edit", "abcdef"], ["respond", "abcdef"], ["approve", "abcdef"]):
        done = hitl(*late)
        assert done.code == 4
        assert "already decided: approve by alice" in done.err
    assert hitl.request("abcdef").decision == approve()


def test_of_two_processes_one_is_recorded(hitl: Cli) -> None:
    asked("abcdef")
    racing = [
        hitl.start("approve", "abcdef", "--as", "alice"),
        hitl.start("reject", "abcdef", "-m", "no", "--as", "bob"),
    ]
    results = [(process.communicate(timeout=120), process.returncode) for process in racing]
    assert sorted(code for _, code in results) == [0, 4]
    winner = "alice" if results[0][1] == 0 else "bob"
    assert hitl.request("abcdef").reviewer == winner
    assert f"by {winner}" in next(err for (_, err), code in results if code == 4)


def test_comments_values_and_digests_are_kept(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("aaaaaa", "bbbbbb", "cccccc"):
        asked(own)
    assert hitl("approve", "aaaaaa", "-m", "fine", "--digest", hitl.request("aaaaaa").digest[:12]).code == 0
    assert hitl("respond", "bbbbbb", "--json", '{"refund": [1, 2]}').code == 0
    done = subprocess.run(
        [*HITL, "edit", "cccccc", "--args", "-"], input='{"eur": 3, "iban": "X"}', text=True, check=True, stdout=-1
    )
    assert "+ eur: 3" in done.stdout
    decisions = [hitl.request(own).decision for own in ("aaaaaa", "bbbbbb", "cccccc")]
    assert [d and (d.message, d.value, d.args) for d in decisions] == [
        ("fine", None, None),
        (None, {"refund": [1, 2]}, None),
        (None, None, {"eur": 3, "iban": "X"}),
    ]


@pytest.mark.parametrize(
    ("schema", "now", "text", "value"),
    [
        ({"type": "string"}, "a", "123", "123"),
        ({"type": "integer"}, 1, "123", 123),
        ({"type": "boolean"}, True, "false", False),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "a", "null", None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "a", "7", "7"),
        ({"type": "array", "items": {"type": "integer"}}, [1], "[2, 3]", [2, 3]),
        (None, "a", "123", "123"),
        (None, 1, "a=b", "a=b"),
    ],
)
def test_what_is_set_has_the_type_of_the_argument(hitl: Cli, schema: Any, now: Any, text: str, value: Any) -> None:
    answer_schema = {"type": "object", "properties": {"x": schema}} if schema else None
    asked("abcdef", action=Action(name="f", args={"x": now}), answer_schema=answer_schema)
    assert hitl("edit", "abcdef", "--set", f"x={text}").code == 0
    decision = hitl.request("abcdef").decision
    assert decision
    assert decision.args == {"x": value}


# --- the editor --------------------------------------------------------------------------------------------------


def editor(folder: Path, *steps: str) -> str:
    """An editor that does one of the steps each time it is opened: Python with `path` and `text`."""
    script = folder / "editor.py"
    script.write_text(
        "import pathlib, sys\npath = pathlib.Path(sys.argv[1])\ntext = path.read_text()\n"
        "count = pathlib.Path(__file__).with_name('opened')\nturn = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(turn + 1))\npathlib.Path(__file__).with_name('seen').write_text(str(path))\n"
        f"exec({list(steps)!r}[turn])\n"
    )
    return f"{sys.executable} {script}"


def test_the_editor_gets_all_arguments_and_gives_the_new_ones(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("abcdef", action=Action(name="mail", args=dict(MAIL)), answer_schema=None)
    step = "assert '# The arguments of mail' in text; path.write_text(text.replace('we accept', 'we decline'))"
    monkeypatch.setenv("EDITOR", editor(hitl.folder, step))
    done = hitl("edit", "abcdef")
    assert (done.code, done.err) == (0, "")
    assert "| we decline." in done.out
    decision = hitl.request("abcdef").decision
    assert decision
    assert decision.args == {**MAIL, "body": "Dear Bob,\n\nwe decline.\n\nAlice"}
    assert not Path((hitl.folder / "seen").read_text()).exists()  # private text is not left behind


@pytest.mark.parametrize(
    ("step", "code", "message", "kept"),
    [
        ("pass", 4, "nothing was changed", False),
        ("path.write_text('')", 4, "the file is empty", False),
        ("path.write_text('# only this\\n')", 4, "the file is empty", False),
        ("path.write_text(text.replace(',', ''))", 2, "the file is not JSON: line ", True),
        ("path.write_text('[]')", 2, "JSON object", True),
        ("path.write_bytes(b'\\xff')", 2, "cannot be read", True),
        ("path.write_text(text.replace('FR76', 'DE89'))", 4, "iban may not be edited", True),
        ("raise SystemExit(3)", 4, "the editor ended with 3", False),
    ],
)
def test_what_comes_out_of_the_editor_is_checked(
    hitl: Cli, monkeypatch: pytest.MonkeyPatch, step: str, code: int, message: str, kept: bool
) -> None:
    asked("abcdef", editable=("eur",))
    monkeypatch.setenv("VISUAL", editor(hitl.folder, step))
    done = hitl("edit", "abcdef")
    assert done.code == code
    assert message in done.err
    assert hitl.request("abcdef").state == "pending"
    file = Path((hitl.folder / "seen").read_text())
    assert file.exists() == kept
    assert (f"Your text is kept in {file}" in done.err) == kept
    file.unlink(missing_ok=True)


def test_text_is_kept_when_somebody_was_faster(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("abcdef")
    meanwhile = (
        f"import subprocess; subprocess.run({[*HITL, 'approve', 'abcdef', '--as', 'bob']!r}, check=True, stdout=-1)"
    )
    monkeypatch.setenv("EDITOR", editor(hitl.folder, f"{meanwhile}; path.write_text(text.replace('10', '11'))"))
    done = hitl("edit", "abcdef")
    assert done.code == 4
    assert "already decided: approve by bob" in done.err
    file = Path((hitl.folder / "seen").read_text())
    assert '"eur": 11' in file.read_text()
    file.unlink()


# --- on a terminal -----------------------------------------------------------------------------------------------


class Terminal:
    """A process whose terminal we are."""

    def __init__(self, args: Sequence[str], columns: int = 80, lines: int = 24, **environment: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", take, *HITL, *args],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **environment},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def until(self, text: str, seconds: float = 120) -> str:
        """Read until `text` appears after what was read before; gives what was read now."""
        start, deadline = len(self.seen), time.monotonic() + seconds
        while text not in self.seen[start:]:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.seen[start:]!r}"
            if not self._read(0.2) and self.process.poll() is not None:
                assert text in self.seen[start:], self.seen
        return self.seen[start:]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        deadline = time.monotonic() + 120
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it did not end: {self.seen!r}")
            self._read(0.1)
        self._read(0.1)
        os.close(self.master)
        return self.process.returncode

    def _read(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


def test_watch_shows_what_comes_and_ends_with_ctrl_c(hitl: Cli) -> None:
    for number in range(30):
        asked(f"{number:02}0000", thread=f"long-{'x' * 90}")
    terminal = Terminal(["inbox", "--watch", "--interval", "0.2"], columns=80, lines=12)
    terminal.until("... and 22 more")
    terminal.until("30 waiting")
    frame = terminal.seen.split("\x1b[H")[2]  # where the cursor goes home, the next one begins
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).split("\r\n")
    assert screen[0].startswith("30 waiting")
    assert len(screen) <= 12
    assert max(map(len, screen)) <= 80
    asked("ff")
    terminal.until("31 waiting")
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen
    assert terminal.seen.rstrip().endswith(("\x1b[?1049l\x1b[?25h", "\x1b[?25h\x1b[?1049l"))  # the screen is given back


def test_watch_for_programs(hitl: Cli) -> None:
    asked("aaaaaa")
    process = hitl.start("inbox", "--watch", "--json", "--interval", "0.1")
    assert process.stdout
    assert json.loads(process.stdout.readline())["id"].startswith("aaaaaa")
    asked("bbbbbb")
    assert json.loads(process.stdout.readline())["id"].startswith("bbbbbb")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_a_narrow_terminal_cuts_all_but_ids(hitl: Cli) -> None:
    asked("abcdef", thread="t" * 60, action=Action(name="pay", args={"iban": "x" * 50, "eur": 1}))
    terminal = Terminal(["inbox"], columns=60)
    assert terminal.end() == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[1].startswith("abcdef  ")
    assert "approval" in lines[1]
    assert "pay(iban=" in lines[1]
    assert "\x1b[" in terminal.seen
    plain = Terminal(["inbox"], columns=60, NO_COLOR="1")
    assert plain.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.seen)


def test_an_edit_is_shown_and_confirmed(hitl: Cli) -> None:
    asked("abcdef")
    bad, good = "path.write_text(text.replace('10', 'ten'))", "path.write_text(text.replace('ten', '12'))"
    terminal = Terminal(["edit", "abcdef", "--as", "alice"], EDITOR=editor(hitl.folder, bad, good))
    assert "not JSON: line " in terminal.until("Edit again?")
    terminal.type("\n")
    shown = terminal.until("[y/N]")
    assert "+ eur: 12" in shown
    assert "Run pay with this, as alice?" in shown
    terminal.type("n\n")
    assert terminal.end() == 4
    assert hitl.request("abcdef").state == "pending"
    (hitl.folder / "opened").unlink()
    terminal = Terminal(["edit", "abcdef"], EDITOR=editor(hitl.folder, "path.write_text(text.replace('10', '12'))"))
    terminal.until("[y/N]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert hitl.request("abcdef").decision is not None


def test_a_missing_reason_is_asked_for(hitl: Cli) -> None:
    asked("abcdef")
    terminal = Terminal(["reject", "abcdef"])
    terminal.until("Why (the agent is told): ")
    terminal.type("too much\n")
    assert terminal.end() == 0
    decision = hitl.request("abcdef").decision
    assert decision
    assert decision.message == "too much"


def test_redaction_asks_first(hitl: Cli) -> None:
    asked("abcdef")
    terminal = Terminal(["audit", "redact", "42", "-m", "GDPR"])
    terminal.until("1 open requests are cancelled. [y/N]")
    terminal.type("\n")
    assert terminal.end() == 4
    assert hitl("inbox").out


# --- worker ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_lets_the_thread_end_and_begins_no_other(hitl: Cli) -> None:
    hitl.agent(**{f"t{number}": [call("pay", "1", iban="FR76", eur=number, seconds=2)] for number in range(1, 4)})
    for own in hitl.by_thread().values():
        assert hitl("approve", own).code == 0
    worker = hitl.start("worker", "my_agent:make")
    deadline = time.monotonic() + 180
    while not hitl.effects():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert "Stopping when this thread is done" in err
    assert hitl.effects() == ["begin 1.0", "paid 1.0"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d  finished  thread t1  \w{6,}\n", out)
    assert hitl.process("worker", "my_agent:make", "--once").out.count("finished") == 2
    assert [line for line in hitl.effects() if line.startswith("paid")] == ["paid 1.0", "paid 2.0", "paid 3.0"]


def test_a_worker_serves_until_it_is_stopped(hitl: Cli) -> None:
    hitl.agent(a=[call("pay", "1", iban="FR76", eur=1)])
    worker = hitl.start("worker", "my_agent:make", "--json", "--interval", "0.1")
    assert worker.stderr
    assert "Ctrl-C ends it" in worker.stderr.readline()
    hitl("approve", hitl.by_thread()["a"])
    assert worker.stdout
    row = json.loads(worker.stdout.readline())
    assert (row["thread_id"], row["status"], row["error"]) == ("a", "finished", None)
    worker.send_signal(signal.SIGINT)
    worker.communicate(timeout=120)
    assert worker.returncode == 0
    assert hitl.effects() == ["begin 1.0", "paid 1.0"]


@pytest.mark.slow
def test_a_crash_and_an_error_become_questions(hitl: Cli) -> None:
    hitl.agent(crash=[call("pay", "1", iban="FR76", eur=13)], error=[call("pay", "1", iban="FR76", eur=14)])
    ids = hitl.by_thread()
    hitl("approve", ids["crash"])
    assert hitl.process("worker", "my_agent:make", "--once").code == 9
    doctor = hitl("doctor")
    assert doctor.code == 1
    assert "outcome unknown: pay of thread crash" in doctor.out
    hitl("approve", ids["error"])
    failed = hitl.process("worker", "my_agent:make", "--once")
    assert failed.code == 1
    assert "failed    thread error" in failed.out
    assert "the bank is closed" in failed.out
    assert "Traceback" not in failed.err
    assert hitl.process("worker", "my_agent:make", "--once", "--sync").code == 0
    asking = {row["thread_id"]: row for row in hitl("inbox", "--json").rows()}
    assert {row["kind"] for row in asking.values()} == {"question"}
    assert f"hitl show {asking['crash']['id'][:6]}" in hitl("doctor").out
    for row in asking.values():
        assert hitl("respond", row["id"], "-m", "done by hand").code == 0
    assert hitl.process("worker", "my_agent:make", "--once").out.count("finished") == 2
    assert hitl("doctor").code == 0
    assert hitl.effects() == ["begin 13.0", "begin 14.0"]


def test_a_graph_without_checkpointer_gets_the_one_that_is_named(hitl: Cli) -> None:
    hitl.agent(a=[call("pay", "1", iban="FR76", eur=1)])
    hitl("approve", hitl.by_thread()["a"])
    alone = hitl.process("worker", "my_agent:without_checkpointer", "--once")
    assert alone.code == 2
    assert "--db FILE" in alone.err
    given = hitl.process("worker", "my_agent:without_checkpointer", "--once", "--db", "agent.db")
    assert given.code == 0
    assert "finished" in given.out


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ("my_agent", 2, "MODULE:NAME"),
        ("my_agent.py:graph", 2, "MODULE:NAME"),
        ("no_such_module:graph", 2, "no module no_such_module"),
        ("my_agent:nothing", 2, "its graphs are without_checkpointer"),
        ("my_agent:builder", 2, ".compile(checkpointer=...)"),
        ("my_agent:coroutine", 2, "a compiled graph is needed"),
        ("my_agent:City", 2, "a compiled graph is needed"),
        ("my_agent:broken", 1, "no model is configured"),
        ("syntax:graph", 1, "cannot be imported: SyntaxError"),
        ("needs:graph", 1, "cannot be imported: ModuleNotFoundError: No module named 'absent_thing'"),
    ],
)
def test_a_graph_that_cannot_be_had(
    hitl: Cli, monkeypatch: pytest.MonkeyPatch, spec: str, code: int, message: str
) -> None:
    from hitl_graph.cli.app import Failure
    from hitl_graph.cli.working import load_graph

    (hitl.folder / "syntax.py").write_text("def (")
    (hitl.folder / "needs.py").write_text("import absent_thing")
    monkeypatch.syspath_prepend(str(hitl.folder))
    for name in ("my_agent", "syntax", "needs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(Failure, match=re.escape(message)) as failure:
        load_graph(spec)
    assert failure.value.code == code
    for name in ("my_agent", "syntax", "needs"):
        sys.modules.pop(name, None)


def test_the_database_of_the_graph_is_the_one_that_counts(hitl: Cli) -> None:
    asked("abcdef")
    asked("abcdef", path="other.db")
    done = hitl.process("worker", "my_agent:make", "--once", "--db", "other.db")
    assert done.code == 2
    assert "leave --db out" in done.err


# --- the record --------------------------------------------------------------------------------------------------


def test_history_and_log_as_json(hitl: Cli) -> None:
    asked("abcdef", thread="thread-1")
    hitl("approve", "abcdef", "--as", "alice", "-m", "fine")
    events = hitl("history", "thread", "--json").rows()
    assert [(e["event"], e["request_id"], e["by"]) for e in events] == [
        ("asked", "abcdef".ljust(20, "0"), None),
        ("approved", "abcdef".ljust(20, "0"), "alice"),
    ]
    rows = hitl("audit", "log", "--json").rows()
    assert [row["event"] for row in rows] == ["request.opened", "request.decided"]
    assert rows[1]["body"]["reviewer"] == "alice"
    assert len(hitl("audit", "log", "--limit", "1", "--json").rows()) == 1
    assert hitl("audit", "log", "--thread", "other").err.startswith("The log has no rows")


def test_redaction_removes_and_still_verifies(hitl: Cli) -> None:
    asked("abcdef", thread="secret-thread", question="Launch code 1234?")
    hitl("reject", "abcdef", "-m", "never 5678")
    done = hitl("audit", "redact", "secret-thread", "-m", "GDPR", "--as", "dpo")
    assert done.code == 0
    assert "Redacted as dpo: the text of 3 log rows" in done.out
    everything = "".join(
        hitl(*args).out
        for args in (["audit", "log"], ["show", "abcdef"], ["history", "secret-thread"], ["show", "abcdef", "--json"])
    )
    assert "1234" not in everything
    assert "5678" not in everything
    assert "GDPR" in everything
    verified = hitl("audit", "verify")
    assert verified.code == 0
    assert "3 of them redacted" in verified.out
    assert hitl("approve", "abcdef").code == 4


def test_an_export_is_whole_or_not_there(hitl: Cli, tmp_path: Path) -> None:
    asked("abcdef", thread="thread-1", question="Launch?")
    hitl("approve", "abcdef", "--as", "alice", "-m", "fine")
    head = hitl("audit", "verify", "--json").rows()[0]["head"]
    done = hitl("audit", "export", "-o", "log.jsonl")
    assert done.code == 0
    assert done.out.startswith("Exported 2 rows to log.jsonl")
    assert head in done.out
    file = tmp_path / "log.jsonl"
    assert json.loads(file.read_text().splitlines()[0])["head"] == head
    assert hitl("audit", "export").out == file.read_text()
    assert hitl.process("audit", "export", "--thread", "thread-1").rows()[2]["actor"] == "alice"
    file.write_text("mine")
    for args, code, says in (
        (["-o", "log.jsonl"], 2, "log.jsonl exists; --force replaces it"),
        (["-o", "agent.db", "--force"], 2, "agent.db is the database"),
        (["-o", "nowhere/log.jsonl"], 1, "nowhere/log.jsonl cannot be written"),
        (["--thread", "thread", "-o", "thread.jsonl"], 3, "no rows of a thread 'thread'"),
        (["--db", "other.db", "-o", "other.jsonl"], 5, "there is no database"),
    ):
        done = hitl("audit", "export", *args)
        assert (done.code, done.out) == (code, "")
        assert says in done.err
    assert file.read_text() == "mine"
    assert hitl("audit", "export", "-o", "log.jsonl", "--force").code == 0
    sql("UPDATE hitl_audit SET actor = x'00' WHERE seq = 2")
    done = hitl("audit", "export", "-o", "damaged.jsonl")
    assert done.code == 5
    assert "row 2 of the log cannot be exported" in done.err
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["log.jsonl"]
    assert not list(tmp_path.glob(".*"))


def test_verify_and_export_say_how_far_they_are_on_a_terminal(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("abcdef")
    monkeypatch.setattr(progress, "_SLOW", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for args in (["verify"], ["export", "-o", "log.jsonl"]):
        done = hitl("audit", *args)
        assert done.code == 0
        assert f"{args[0].removesuffix('y')}" in done.err


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE hitl_requests SET shown = replace(shown, '10', '99')",
        "UPDATE hitl_requests SET state = 'delivered'",
        "UPDATE hitl_audit SET actor = 'eve' WHERE seq = 1",
        "UPDATE hitl_audit SET body = replace(body, 'approve', 'reject')",
        "DELETE FROM hitl_audit WHERE seq = 2",
        "DELETE FROM hitl_requests",
    ],
)
def test_a_changed_file_does_not_verify(hitl: Cli, damage: str) -> None:
    asked("abcdef")
    hitl("approve", "abcdef")
    head = hitl("audit", "verify", "--json").rows()[0]["head"]
    sql(damage)
    done = hitl("audit", "verify", "--anchor", head)
    assert done.code == 6
    assert done.err.startswith("hitl: the log of agent.db does not verify: ")
    assert hitl("doctor").code == 6


# --- the database ------------------------------------------------------------------------------------------------


def _newer() -> None:
    asked("abcdef")
    sql("PRAGMA user_version = 99")


def _truncated() -> None:
    asked("abcdef")
    data = Path("agent.db").read_bytes()
    Path("agent.db").write_bytes(data[: len(data) // 2])


def _missing_table() -> None:
    asked("abcdef")
    sql("DROP TABLE hitl_requests")


def test_one_damaged_row_does_not_hide_the_others_and_cannot_be_approved(hitl: Cli) -> None:
    asked("abcdef")
    asked("fedcba")
    sql("UPDATE hitl_requests SET shown = '{not json' WHERE id LIKE 'abcdef%'")
    listed = hitl("inbox")
    assert listed.code == 0
    assert "damaged" in listed.out
    assert "fedcba" in listed.out
    assert hitl("approve", "abcdef").code == 4
    assert hitl("approve", "fedcba").code == 0


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: None, "there is no database"),
        (lambda: Path("agent.db").touch(), "empty file"),
        (lambda: Path("agent.db").mkdir(), "is a folder"),
        (lambda: Path("agent.db").write_text("not a database, but long enough" * 40), "not an SQLite database"),
        (lambda: sql("CREATE TABLE t (x)"), "another program"),
        (_newer, "upgrade hitl-graph"),
        (_truncated, "damaged"),
        (_missing_table, "no such table"),
    ],
)
def test_a_database_that_cannot_be_used(hitl: Cli, prepare: Any, message: str) -> None:
    prepare()
    for args in (["inbox"], ["show", "abcdef"], ["approve", "abcdef"], ["history", "42"]):
        done = hitl(*args)
        assert (done.code, done.out) == (5, ""), done.err
        assert message in done.err
        assert len(done.err.splitlines()) == 1
    doctor = hitl("doctor")
    assert doctor.code == 5
    assert message in doctor.out
    if message == "there is no database":
        assert not Path("agent.db").exists()  # a typo makes no empty database


def _without_root_powers(*args: str) -> list[str]:
    """A command that may not write what the file modes forbid, even for root."""
    drop = (
        "import ctypes, os, sys\nfor capability in (1, 2):\n    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    return [*([sys.executable, "-c", drop] if os.getuid() == 0 else []), *HITL, *args]


def test_looking_works_on_a_file_that_may_not_be_written(hitl: Cli) -> None:
    folder = hitl.folder / "locked"
    folder.mkdir()
    asked("abcdef", path=str(folder / "agent.db"))
    (folder / "agent.db").chmod(0o444)
    folder.chmod(0o555)

    def run(*args: str) -> Done:
        done = subprocess.run(
            _without_root_powers(*args), cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
        return Done(done.returncode, done.stdout, done.stderr)

    try:
        for args in (["inbox"], ["show", "abcdef"], ["history", "42"], ["audit", "verify"], ["audit", "log"]):
            done = run(*args)
            assert (done.code, done.out != "") == (0, True), done.err
        refused = run("approve", "abcdef")
        assert refused.code == 5
        assert "read-only" in refused.err
        doctor = run("doctor")
        assert doctor.code == 5
        assert "looking works, deciding does not" in doctor.out
    finally:
        folder.chmod(0o755)


# --- doctor, demo, the rest --------------------------------------------------------------------------------------


def test_the_doctor_finds_what_is_stuck(hitl: Cli) -> None:
    asked("abcdef")
    assert hitl("doctor").code == 0
    hitl("approve", "abcdef")
    assert hitl("doctor").code == 0  # not yet stuck
    done = hitl("doctor", "--minutes", "0")
    assert done.code == 1
    assert "decided, not carried out: 1: abcdef (thread 42" in done.out
    assert "-> start a worker" in done.out
    findings = hitl("doctor", "--minutes", "0", "--json").rows()
    assert [f["code"] for f in findings if f["level"] == "problem"] == [1]


def test_the_doctor_knows_the_versions(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("abcdef")
    monkeypatch.setattr(
        "hitl_graph.cli.doctor.requires", lambda _: ["langgraph<1", "pydantic>=2", "typer<0; extra == 'cli'"]
    )
    done = hitl("doctor")
    assert done.code == 1
    assert "-> pip install 'langgraph<1'" in done.out
    assert "1 to mend" in done.out


def test_the_doctor_looks_at_the_graph(hitl: Cli) -> None:
    asked("abcdef")
    good = hitl.process("doctor", "my_agent:make")
    assert good.code == 0
    assert "tools is an ApprovalNode: 2 rules, tools send_email, pay" in good.out
    plain = hitl.process("doctor", "my_agent:plain")
    assert plain.code == 1
    assert "tools is a plain ToolNode: nobody is asked about pay" in plain.out
    assert hitl.process("doctor", "my_agent:nothing").code == 1
    within = hitl.process("doctor", "my_agent:langchain")
    assert within.code == 0
    assert "tools has the ApprovalMiddleware: tools send_email, pay" in within.out


def test_the_demo_gets_its_options(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    package, director = ModuleType("hitl_graph.demo"), ModuleType("hitl_graph.demo.director")

    def run(mailbox: Path | None, db: Path | None, script: bool | None) -> int:
        calls.append((mailbox, db, script))
        return 0

    director.run = run  # type: ignore[attr-defined]
    package.director = director  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hitl_graph.demo", package)
    monkeypatch.setitem(sys.modules, "hitl_graph.demo.director", director)
    assert hitl("demo").code == 0
    assert hitl("demo", "--mailbox", "m", "--db", "d", "--script").code == 0
    assert hitl("demo", "--interactive").code == 0
    assert calls == [(None, None, None), (Path("m"), Path("d"), True), (None, None, False)]


def test_without_its_extra_the_command_says_what_to_install(hitl: Cli) -> None:
    code = "import sys; sys.modules['typer'] = None; from hitl_graph.cli import main; sys.exit(main(['inbox']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "hitl needs typer, which is not installed: pip install 'hitl-graph[cli]'\n"


def test_an_error_of_ours_is_one_line_unless_debugging(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("boom \x1b[2J")

    asked("abcdef")
    monkeypatch.setattr(Inbox, "pending", fail)
    done = hitl("inbox")
    assert (done.code, done.err) == (
        1,
        "hitl: RuntimeError: boom \\x1b[2J\nhitl --debug shows where; please report it\n",
    )
    assert "Traceback" in hitl("--debug", "inbox").err


def test_help_and_version(hitl: Cli) -> None:
    assert "6  the audit log does not verify" in hitl("--help").out
    assert hitl("--version").out.startswith("hitl-graph ")
    commands = ("inbox", "show", "approve", "edit", "reject", "respond", "history", "worker", "doctor", "demo")
    for command in (*commands, "audit verify", "audit log", "audit export", "audit redact", "stuck replay"):
        done = hitl(*command.split(), "--help")
        assert done.code == 0
        assert f"Usage: hitl {command}" in done.out
