"""`hitl demo`: the whole job in real processes, by a script and by a person at a terminal."""

import mailbox
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from hitl_graph.ledger import Ledger
from hitl_graph.testing import FakeOpenAI, Reply, tool_call

COMMAND = [sys.executable, "-m", "hitl_graph.demo"]


def run(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}, **env},
        timeout=240,
        check=False,
    )


def received(output: str) -> list[str]:
    return re.findall(r"^(\d+ x  to .*)$", output, re.MULTILINE)


def test_a_script_answers_each_way_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    done = run("--db", str(tmp_path / "demo.db"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No terminal: a scripted reviewer answers in place of a person" in done.stdout
    assert "Killed by SIGKILL: the mail is out, and no record says so." in done.stdout
    assert [line.partition(":")[0] for line in received(done.stdout)] == [
        "1 x  to ann.becker@example.com",
        "1 x  to joerg.mueller@mueller.example",
    ]
    with Ledger.open(tmp_path / "demo.db") as ledger:
        decided = [r.decision.type for n in range(1, 7) for r in ledger.history(_thread(n)) if r.decision]
        assert decided == ["approve", "respond", "edit", "reject", "respond", "approve", "approve"]
        states = [row["state"] for n in range(1, 7) for row in ledger.executed(_thread(n)) if row["request_id"]]
        assert states == ["done"] * 4
        assert ledger.verify_audit().ok


def _thread(number: int) -> str:
    return f"mail {number}-{['offer', 'viewing', 'accounts', 'contract', 'newsletter', 'lottery'][number - 1]}"


@pytest.mark.slow
def test_it_reads_a_users_mbox_and_leaves_it_alone(tmp_path: Path) -> None:
    source = tmp_path / "mails"
    box = mailbox.mbox(source)
    for number, text in enumerate(("Can we meet on Friday?", "For your information.")):
        message = EmailMessage()
        message["From"], message["Subject"] = f"Friend <friend{number}@example.org>", f"Subject {number}"
        message.set_content(text)
        box.add(message)
    box.close()
    before = source.read_bytes()
    done = run("--mailbox", str(source))
    assert done.returncode == 0, done.stdout + done.stderr
    assert received(done.stdout) == ["1 x  to friend0@example.org: Re: Subject 0"]
    assert source.read_bytes() == before


@pytest.mark.parametrize("problem", ["missing", "empty"])
def test_a_mailbox_without_mails_is_an_error_in_one_line(tmp_path: Path, problem: str) -> None:
    if problem == "empty":
        (tmp_path / "box").mkdir()
    done = run("--mailbox", str(tmp_path / "box"))
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert "give an mbox file or a folder of .eml files" in done.stdout


@pytest.mark.slow
def test_a_person_at_a_terminal_decides() -> None:
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("EDITOR", "VISUAL") and not k.startswith("OPENAI_")}
    process = subprocess.Popen(COMMAND, stdin=theirs, stdout=theirs, stderr=theirs, env={**env, "COLUMNS": "100"})
    os.close(theirs)
    answers = [
        "a",
        "e",
        "nothing=1",
        "",
        "e",
        "body=Not on Friday.",
        "",
        "r",
        "phishing",
        "c",
        "ask our lawyer",
        "a",
        "r",
        "keep it",
    ]
    answers += ["c", "sent to ann.becker@example.com"]  # did it happen?
    output, asked = "", 0
    until = time.monotonic() + 240
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                output += os.read(ours, 1 << 16).decode()
            except OSError:
                break
            prompts = len(re.findall(r"(?:a = |why|is told|done\))[^\r\n]*: ", output))
            while asked < min(prompts, len(answers)):
                os.write(ours, answers[asked].encode() + b"\n")
                asked += 1
        assert process.wait(10) == 0, output
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert "there is no argument 'nothing'" in output
    assert '+ body: "Not on Friday."' in output
    assert "1 x  to ann.becker@example.com" in output
    assert "As promised" in output


@pytest.mark.slow
def test_with_a_key_the_agent_talks_to_an_openai_server(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["Subject"] = "friend@example.org", "Lunch"
    message.set_content("Lunch?")
    (tmp_path / "1.eml").write_bytes(message.as_bytes())
    script: list[Reply] = [
        [tool_call("read_mail", mail_id="1")],
        [tool_call("send_email", to="friend@example.org", subject="Re: Lunch", body="Gladly.")],
        "Answered.",
    ]
    with FakeOpenAI(script) as server:
        done = run("--mailbox", str(tmp_path), OPENAI_API_KEY="test", OPENAI_BASE_URL=server.base_url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(server.requests) == 3
    assert received(done.stdout) == ["1 x  to friend@example.org: Re: Lunch"]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("1.eml", message.as_bytes())]


def test_a_model_that_cannot_be_reached_is_said_in_a_line() -> None:
    done = run(OPENAI_API_KEY="test", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "OpenAIConnectionError" in done.stdout or "APIConnectionError" in done.stdout
    assert "NOT as promised: the agent's process failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whatever_ends_it_leaves_no_process_and_no_folder(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        COMMAND,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        # a shell that starts something in the background has it ignore SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    child = next(int(found[1]) for line in process.stdout if (found := re.search(r"process (\d+) starts", line)))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert list(tmp_path.iterdir()) == []
