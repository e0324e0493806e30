"""An e-mail assistant over real mails asks before it sends, archives or deletes.

The agent's process ends while people decide. A worker is killed in the middle of a send, and nothing is sent twice.
"""

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from hitl_graph.cli import views
from hitl_graph.demo import report
from hitl_graph.demo.answers import ask_person, scripted
from hitl_graph.demo.mailbox import Mailbox, message_id
from hitl_graph.demo.processes import ended_by_signals, run_child
from hitl_graph.demo.promises import Facts, broken, wanted
from hitl_graph.demo.smtp import MailServer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request

__all__ = ["run"]

_ROUNDS = 10


def run(mailbox: Path | None = None, db: Path | None = None, script: bool | None = None) -> int:
    """Show it, and check it.

    Args:
        mailbox: An mbox file or a folder of .eml files; it is copied. None: the mails that ship with the demo.
        db: Where threads and decisions are kept; must not exist. None: a temporary file, removed at the end.
        script: Whether a script answers instead of a person. None: if this is no terminal.

    Returns:
        0 if everything was as promised, else 1; 130 if it was interrupted.
    """
    out = views.console()
    if db is not None and db.exists():
        views.show(out, [f"{db} exists already; the demo wants a new file"])
        return 1
    with ended_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="hitl-demo-"))
        try:
            mails, count = Mailbox.copy(mailbox, folder / "mails")
            with MailServer(folder / "received") as server:
                asks = not (script if script is not None else not sys.stdin.isatty())
                return _Show(out, db or folder / "demo.db", folder, mails, server, asks).play(count)
        except ValueError as exc:
            views.show(out, [str(exc)])
            return 1
        except (KeyboardInterrupt, EOFError):
            views.show(out, ["", "stopped"])
            return 130
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Show:
    out: Console
    db: Path
    folder: Path
    mails: Mailbox
    server: MailServer
    asks: bool
    killed: bool = False
    answered: list[str] = field(default_factory=list)

    def play(self, count: int) -> int:
        """The acts, one after the other."""
        before = [mail.id for mail in self.mails.list()]
        some = f"the last {len(before)} of {count}" if len(before) < count else f"{count}"
        self.act(f"The assistant reads {some} mail{'s' if count > 1 else ''}")
        self.say(f"It works on copies in {self.folder}; the originals are not touched.")
        if self.child("start", before) != 0:
            return self.fail(["the agent's process failed; its message is above"])
        with Ledger.open(self.db) as ledger:
            inbox, problems = Inbox(ledger), list[str]()
            for turn in range(_ROUNDS):
                if not (waiting := inbox.pending(limit=1000)):
                    break
                self.review(inbox, waiting)
                sends = turn == 0 and any(self.sends(inbox.get(request.id)) for request in waiting)
                if sends:
                    problems += self.work_and_be_killed(before)
                self.act("Another worker, in a new process, goes on" if sends else "A worker carries the decisions out")
                if self.child("work", before) != 0:
                    return self.fail(["a worker failed; its message is above"])
            facts = Facts.gather(ledger, before, self.server.received(), self.errors())
            problems += broken(facts, self.mails)
            report.show(self.out, facts)
        return self.fail(problems) if problems else self.end()

    def review(self, inbox: Inbox, waiting: Sequence[Request]) -> None:
        """Every waiting request gets an answer."""
        self.act("What it wants to do waits in the inbox; no agent is running")
        report.waiting(self.out, waiting)
        if self.asks:
            self.act("You decide")
        else:
            why = "A" if sys.stdin.isatty() else "No terminal: a"
            self.act(f"{why} scripted reviewer answers in place of a person")
        for request in waiting:
            self.evidence(request)
            if self.asks:
                decision = ask_person(self.out, request)
            else:
                decision = scripted(request, self.answered, self.arrived(request))
            who = "you" if self.asks else "scripted reviewer"
            decided = inbox.decide(request.id, decision, reviewer=who, digest=request.digest, channel="demo")
            self.answered.append(decision.type)
            report.answer(self.out, decided)

    def evidence(self, request: Request) -> None:
        """What can be seen of an effect whose end is not known."""
        if request.kind != "question":
            return
        self.say(views.visible(request.description))
        if request.action is not None and request.action.name == "send_email":
            number = self.arrived(request)
            self.say(f"The mail server has {number} cop{'y' if number == 1 else 'ies'} of it: {self.server.folder}")

    def arrived(self, request: Request) -> int:
        """How many copies of a request's mail arrived."""
        return self.server.copies()[message_id(str(request.action_key))]

    def sends(self, request: Request) -> bool:
        """Whether carrying out this decision sends a mail."""
        return wanted(request) is not None and request.action is not None and request.action.name == "send_email"

    def work_and_be_killed(self, names: Sequence[str]) -> list[str]:
        """A worker is killed when the mail server has its mail and has not said so. Returns what went wrong."""
        self.act("A worker carries the decisions out, and is killed in the middle of a send")
        self.server.hold()
        code = self.child("work", names, kill=True)
        self.server.release()
        if self.server.holding.is_set() and code == -signal.SIGKILL:
            self.say("Killed by SIGKILL: the mail is out, and no record says so.")
            return []
        self.say("It ended before it could be killed: no mail of it reached the server.")
        return ["no worker was killed in the middle of a send, so that was not shown"]

    def child(self, job: str, names: Sequence[str], *, kill: bool = False) -> int:
        """Run a process to its end, or until the mail server has its mail."""
        arguments = [job, str(self.db), str(self.folder / "mails"), str(self.server.port), *names]
        return run_child(
            arguments, lambda line: self.say(views.visible(line)), kill_when=self.server.holding if kill else None
        )

    def errors(self) -> set[tuple[str, str]]:
        """The calls that ended in an error, as the last worker wrote them down."""
        path = self.folder / "mails" / "errors.json"
        return set(map(tuple, json.loads(path.read_text()))) if path.exists() else set()

    def end(self) -> int:
        """All is well."""
        self.act("As promised: what was decided happened, once")
        return 0

    def fail(self, problems: Sequence[str]) -> int:
        """Something that should not be."""
        for problem in problems:
            self.out.print(f"\nNOT as promised: {views.visible(problem)}", style="red", soft_wrap=True)
        return 1

    def act(self, title: str) -> None:
        """A heading."""
        self.out.print(f"\n{title}", style="bold", soft_wrap=not self.out.is_terminal)

    def say(self, text: str) -> None:
        """A line."""
        views.show(self.out, [text])
