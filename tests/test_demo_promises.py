"""The demo checks itself: a mail too many, a changed mail, a mail that moved by itself are found."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.demo.agent import build_graph
from hitl_graph.demo.child import errors
from hitl_graph.demo.mailbox import Mailbox
from hitl_graph.demo.promises import Facts, broken
from hitl_graph.demo.smtp import MailServer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision, approve, edit, reject
from hitl_graph.worker import Worker

MAILS = ("1-offer", "4-contract", "5-newsletter", "6-lottery")


class Scene:
    def __init__(self, server: MailServer, ledger: Ledger, mails: Mailbox, failed: Collection[tuple[str, str]]) -> None:
        self.server, self.ledger, self.mails, self.failed = server, ledger, mails, failed

    def broken(self) -> list[str]:
        return broken(self.facts(), self.mails)

    def facts(self) -> Facts:
        return Facts.gather(self.ledger, MAILS, self.server.received(), self.failed)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield from _played(tmp_path, {"1-offer": approve(), "4-contract": reject("no")})


def _played(folder: Path, decisions: dict[str, Decision]) -> Iterator[Scene]:
    mails, _ = Mailbox.copy(None, folder / "mails")
    for mail in mails.list():
        if mail.id not in MAILS:
            mails.delete(mail.id)
    with (
        MailServer(folder / "received") as server,
        SqliteCheckpointer(folder / "demo.db") as checkpointer,
    ):
        graph = build_graph(checkpointer, folder / "mails", server.port)
        for name in MAILS:
            graph.invoke(
                {"messages": [("user", f"Deal with mail {name}")]}, {"configurable": {"thread_id": f"mail {name}"}}
            )
        inbox = Inbox(checkpointer.ledger)
        for request in inbox.pending():
            inbox.decide(request.id, decisions.get(request.thread_id[5:], approve()), reviewer="test")
        assert {result.status for result in Worker(graph, checkpointer.ledger).run_once()} == {"finished"}
        yield Scene(server, checkpointer.ledger, mails, errors(graph, MAILS))


def test_nothing_is_broken(scene: Scene) -> None:
    assert scene.broken() == []
    assert len(scene.server.received()) == 1


def test_a_second_copy_is_found(scene: Scene) -> None:
    (scene.server.folder / "002.eml").write_bytes((scene.server.folder / "001.eml").read_bytes())
    assert [line for line in scene.broken() if "arrived 2 times" in line]


def test_a_mail_that_never_arrived_is_found(scene: Scene) -> None:
    (scene.server.folder / "001.eml").unlink()
    assert [line for line in scene.broken() if "arrived 0 times" in line]


def test_a_mail_that_nobody_approved_is_found(scene: Scene) -> None:
    (scene.server.folder / "002.eml").write_text("To: b@example.org\nMessage-ID: <other@larsen.example>\n\nhi\n")
    assert scene.broken() == ["<other@larsen.example> arrived 1 times, and nobody approved it"]


@pytest.mark.parametrize(("old", "new"), [("Kim Larsen", "Mallory"), ("To: ann", "To: eve"), ("Re: Your", "Re: My")])
def test_another_mail_than_decided_is_found(scene: Scene, old: str, new: str) -> None:
    path = scene.server.folder / "001.eml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert [line for line in scene.broken() if "not the one that was decided on" in line]


@pytest.mark.parametrize("name", ["1-offer", "4-contract"])
def test_a_mail_that_moved_by_itself_is_found(scene: Scene, name: str) -> None:
    scene.mails.archive(name)
    assert len(scene.broken()) == 2


def test_a_mail_that_was_to_go_and_did_not_is_found(scene: Scene) -> None:
    (scene.mails.inbox / "6-lottery.eml").write_text("back again")
    assert len(scene.broken()) == 1


def test_a_send_that_failed_is_no_broken_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    nowhere = edit({"to": "", "subject": "s", "body": "b"})
    for scene in _played(tmp_path, {"1-offer": nowhere, "5-newsletter": edit({"mail_id": "no-such-mail"})}):
        assert [mail["To"] for mail in scene.server.received()] == ["lena@novak-legal.example"]
        assert scene.broken() == []
        assert sorted(scene.facts().ended.values()) == ["done", "done", "failed", "failed"]
