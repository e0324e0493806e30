"""An e-mail assistant over real mails asks before it sends, archives or deletes.

The agent's process ends while people decide. A worker is killed in the middle of a send, and nothing is sent twice.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from hitl_graph.cli import views
from hitl_graph.demo.answers import ask_person, scripted
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.demo.smtp import MailServer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, Request
from hitl_graph.storage import Transaction

__all__ = ["run"]

_ROUNDS = 10


def run(mailbox: Path | None = None, db: Path | None = None, script: bool | None = None) -> int:
    """Show it, and check it.

    Args:
        mailbox: An mbox file or a folder of .eml files; it is copied. None: the mails that ship with the demo.
        db: Where threads and decisions are kept; must not exist. None: a temporary file, removed at the end.
        script: Whether a script answers instead of a person. None: if this is no terminal.

    Returns:
        0 if everything was as promised, else 1.
    """
    out = views.console()
    if db is not None and db.exists():
        views.show(out, [f"{db} exists already; the demo wants a new file"])
        return 1
    folder = Path(tempfile.mkdtemp(prefix="hitl-demo-"))
    try:
        mails = Mailbox.copy(mailbox, folder / "mails")
        with MailServer(folder / "received") as server:
            asks = not (script if script is not None else not sys.stdin.isatty())
            show = _Show(out, db or folder / "demo.db", folder / "mails", server, asks)
            return show.play(mails)
    except ValueError as exc:
        views.show(out, [str(exc)])
        return 1
    except KeyboardInterrupt:
        out.print("\nstopped")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Show:
    out: Console
    db: Path
    mails: Path
    server: MailServer
    asks: bool
    children: int = 0
    killed: bool = False
    answered: list[str] = field(default_factory=list)

    def play(self, mails: Mailbox) -> int:
        """The acts, one after the other."""
        count = len(mails.list())
        self.act(f"The assistant reads {count} mails (copies; the originals are not touched)")
        if self.child("start") != 0:
            return self.fail("the agent's process failed")
        self.say("Its process has ended. What it wants to do waits in the inbox:")
        with Ledger.open(self.db) as ledger:
            inbox = Inbox(ledger)
            for turn in range(_ROUNDS):
                waiting = inbox.pending(limit=1000)
                if not waiting:
                    break
                self.review(inbox, waiting)
                kill = turn == 0 and any(self.sends(inbox.get(request.id)) for request in waiting)
                if not self.work(kill):
                    return self.fail("a worker failed; its message is above")
            return self.verdict(ledger, count)

    def review(self, inbox: Inbox, waiting: Sequence[Request]) -> None:
        """Every waiting request gets an answer."""
        rows = [(request.id[:6], request.thread_id, brief(request), request.reason) for request in waiting]
        self.table(("ID", "THREAD", "WANTS", "WHY"), rows, main=2)
        if not self.asks:
            why = "A" if sys.stdin.isatty() else "No terminal: a"
            self.act(f"{why} scripted reviewer answers in place of a person")
        else:
            self.act("You decide")
        for request in waiting:
            if request.kind == "question":
                self.evidence(request)
            if self.asks:
                decision = ask_person(self.out, request)
            else:
                decision = scripted(request, self.answered, self.arrived(request))
            who = "you" if self.asks else "scripted reviewer"
            inbox.decide(request.id, decision, reviewer=who, digest=request.digest, channel="demo")
            self.answered.append(decision.type)
            self.say(f"{decision.type:<8} {request.id[:6]}  {_in_words(request, decision)}")

    def evidence(self, request: Request) -> None:
        """What can be seen of an effect whose end is not known."""
        self.say(views.visible(request.description))
        if request.action is not None and request.action.name == "send_email":
            number = self.arrived(request)
            self.say(f"The mail server's folder has {number} cop{'y' if number == 1 else 'ies'} of it.")

    def arrived(self, request: Request) -> int:
        """How many copies of a request's mail arrived."""
        return self.server.copies()[f"<{request.action_key}@larsen.example>"]

    def sends(self, request: Request) -> bool:
        """Whether carrying out this decision sends a mail."""
        return (
            request.decision is not None
            and request.decision.type in ("approve", "edit")
            and request.action is not None
            and request.action.name == "send_email"
        )

    def work(self, kill: bool) -> bool:
        """Workers carry the decisions out; the first one is killed in the middle of a send."""
        if kill:
            self.act("A worker carries the decisions out, and is killed in the middle of a send")
            self.server.hold()
            if self.child("work", kill=True) not in (0, -signal.SIGKILL):
                return False
            self.server.release()
        self.act("A worker, in a new process, goes on")
        return self.child("work") == 0

    def child(self, job: str, *, kill: bool = False) -> int:
        """Run a process to its end, or kill it when the mail server holds its mail."""
        self.children += 1
        command = [sys.executable, "-m", "hitl_graph.demo.child", job, self.db, self.mails, str(self.server.port)]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        try:
            if kill:
                while process.poll() is None and not self.server.holding.wait(0.05):
                    pass
                if self.server.holding.is_set():
                    process.kill()
                    self.killed = True
            assert process.stdout is not None
            for line in process.stdout:
                self.say(line.rstrip("\n"))
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        ended = "was killed: the mail is out, its answer is not" if code == -signal.SIGKILL else "has ended"
        self.say(f"(process {self.children}, pid {process.pid}, {ended})")
        return code

    def verdict(self, ledger: Ledger, count: int) -> int:
        """The tables at the end, and whether all is as promised."""
        threads = sorted({name for (name,) in ledger.read(_threads)})
        rows = []
        problems = []
        for thread in threads:
            executed = {row["request_id"]: row for row in ledger.executed(thread)}
            for request in ledger.history(thread):
                ran = executed.get(request.id)
                answer = request.decision.type if request.decision else "-"
                happened = str(ran["state"]) if ran else "-" if request.kind == "question" else "did not run"
                rows.append((request.thread_id, brief(request), answer, happened))
                if request.state != "delivered":
                    problems.append(f"request {request.id[:6]} is {request.state}, not delivered")
        self.act("What was asked, decided and executed")
        self.table(("THREAD", "ASKED", "DECIDED", "EXECUTED"), rows, main=1)
        self.act("What the mail server received")
        copies = self.server.copies()
        received = {str(message["Message-ID"]): message for message in self.server.received()}
        for name, message in received.items():
            self.say(f"{copies[name]} x  to {message['To']}: {message['Subject']}")
        if not received:
            self.say("nothing")
        problems += [f"{name} arrived {number} times" for name, number in copies.items() if number != 1]
        if len(threads) != count and not rows:
            problems.append("nothing was asked")
        if self.server.holding.is_set() and not self.killed:
            problems.append("the worker was not killed")
        report = ledger.verify_audit()
        self.act("The audit log")
        self.say(f"{report.rows} rows, each sealed with the one before: {report.problem or 'verified'}")
        if not report.ok:
            problems.append(str(report.problem))
        for problem in problems:
            self.fail(problem)
        if not problems:
            self.act("As promised: what was decided happened, once")
        return 1 if problems else 0

    def act(self, title: str) -> None:
        """A heading."""
        self.out.print(f"\n{title}", style="bold")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, main: int) -> None:
        """Rows in columns."""
        views.show(self.out, [views.table(self.out, headers, rows, whole=(0,), main=main)])

    def say(self, text: str) -> None:
        """A line."""
        self.out.print(text, soft_wrap=not self.out.is_terminal)

    def fail(self, problem: str) -> int:
        """Something that should not be."""
        self.out.print(f"NOT as promised: {problem}", style="red")
        return 1


def _threads(tx: Transaction) -> list[tuple[str]]:
    return tx.execute("SELECT DISTINCT thread_id FROM requests").fetchall()


def brief(request: Request) -> str:
    """What a request is about, in a few words."""
    action = request.action
    if action is None or action.name != "send_email":
        return views.what(request)
    text = views.visible(f"send to {action.args.get('to')}: {action.args.get('subject')}")
    return f"did it happen? {text}" if request.kind == "question" else text


def _in_words(request: Request, decision: Decision) -> str:
    if decision.type == "edit":
        before, after = request.action.args if request.action else {}, decision.args or {}
        changed = [name for name in after if after[name] != before.get(name)]
        return f"runs with another {' and '.join(changed)}"
    if decision.type == "approve":
        return request.labels.get("approve", "runs as shown")
    return f'"{decision.message}"'
