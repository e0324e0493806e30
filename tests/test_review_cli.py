"""`hitl` for drafts: shown in full, commented place by place, edited as what they are."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from hitl_graph.model import Finding
from hitl_graph.nodes import OutputReviewNode
from tests.reviews import Desk, writing

PATCH = """\
--- a/pay.py
+++ b/pay.py
@@ -10,2 +10,2 @@ def pay():
-    send(10)
+    send({})
     done()
"""
DRAFTS: dict[str, list[Any]] = {
    "text": ["Dear Bob,\nyour refund is EUR 40.\n\nAlice", "Dear Bob,\nyour refund is EUR 41.\n\nAlice"],
    "json": [{"title": "Outage", "items": [{"minutes": 12}]}, {"title": "Outage", "items": [{"minutes": 14}]}],
    "patch": [PATCH.format(11), PATCH.format(12)],
    "files": [
        [{"path": "a.py", "content": "x\ny\n"}, {"path": "b.py", "content": "z"}],
        [{"path": "a.py", "content": "x\n"}],
    ],
}
Told = tuple[int, str, str]


@pytest.fixture
def hitl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(*args: str) -> Told:
        capsys.readouterr()
        code = main(args)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def desks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Desk]]:
    """A thread for each kind of draft, each at its first question."""
    for name in ("HITL_DB", "VISUAL", "EDITOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HITL_REVIEWER", "alice")
    monkeypatch.chdir(tmp_path)

    def spelling(draft: Any) -> Any:
        return Finding(text="is it EUR?", span=(25, 31)) if isinstance(draft, str) and "Bob" in draft else None

    with SqliteCheckpointer("agent.db") as checkpointer:
        made = {}
        for name, drafts in DRAFTS.items():
            node = OutputReviewNode("draft", revise="writer", checks=[spelling], delivery=lambda draft: "sent")
            made[name] = Desk(writing(drafts, node), checkpointer, "sync", name)
            made[name].start()
        yield made


def request_of(desk: Desk) -> Any:
    [request] = desk.inbox.pending(thread_id=str(desk.config.get("configurable", {})["thread_id"]))
    return request


def test_the_inbox_names_drafts_in_one_line(desks: dict[str, Desk], hitl: Callable[..., Told]) -> None:
    code, out, _ = hitl("inbox", "--kind", "review")
    assert code == 0
    assert "draft: Dear Bob, your refund is EUR 40. Alice" in out
    assert 'draft: {"items": [{"minutes": 12}], "title": "Outage"}' in out
    assert "draft: pay.py " in out
    assert "draft: a.py, b.py " in out


def test_the_card_shows_the_draft_in_full_with_what_checks_found(
    desks: dict[str, Desk], hitl: Callable[..., Told]
) -> None:
    request = request_of(desks["text"])
    _, out, _ = hitl("show", request.id)
    assert out.startswith("The agent of thread text wants to deliver this draft:\n\n  | Dear Bob,\n  | your refund is")
    assert "spelling at characters 25-31 (EUR 40): is it EUR?" in out
    assert "respond  it goes back to the writer with your feedback" in out
    assert '--at "SOME WORDS=TEXT"' in out
    assert "opens $EDITOR; or: --text TEXT" in out
    _, out, _ = hitl("show", request_of(desks["files"]).id)
    assert "  a.py\n    | x\n    | y\n    | \n  b.py\n    | z\n" in out
    assert "--at FILE:LINE=TEXT" in out
    _, out, _ = hitl("show", request_of(desks["json"]).id)
    assert '    "title": "Outage"' in out
    assert "--set NAME=VALUE, --args JSON" in out
    _, out, _ = hitl("show", request.id, "--json")
    row = json.loads(out)
    assert (row["draft"], row["review"]["revision"]) == (DRAFTS["text"][0], 1)


def test_what_a_draft_says_cannot_pretend_to_be_ours(tmp_path: Path, hitl: Callable[..., Told]) -> None:
    evil = "fine\x1b[2K\n\nAnswers\n  approve  \u202eharmless"
    with SqliteCheckpointer(tmp_path / "evil.db") as checkpointer:
        node = OutputReviewNode("draft", revise="writer", checks=[lambda draft: f"{draft}\n(ok)"])
        desk = Desk(writing([evil], node), checkpointer, "sync")
        desk.start()
        _, out, _ = hitl("show", desk.asked.id, "--db", str(tmp_path / "evil.db"))
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\n  | Answers\n" in out
    assert sum(line == "Answers" for line in out.splitlines()) == 1


AT: list[tuple[str, list[str], list[Any]]] = [
    ("text", ["Bob=Robert?"], [{"span": [5, 8], "excerpt": "Bob"}]),
    ("text", ["2=is that so?"], [{"line": 2, "excerpt": "your refund is EUR 40."}]),
    ("json", ["items.0.minutes=14"], [{"field": "items.0.minutes", "excerpt": "12"}]),
    ("patch", ["pay.py:10=why 11?"], [{"file": "pay.py", "line": 10, "excerpt": "    send(11)"}]),
    (
        "files",
        ["a.py=no", "b.py:1=no"],
        [{"file": "a.py", "excerpt": None}, {"file": "b.py", "line": 1, "excerpt": "z"}],
    ),
]


@pytest.mark.parametrize(("thread", "at", "comments"), AT)
def test_remarks_about_places(
    thread: str, at: list[str], comments: list[Any], desks: dict[str, Desk], hitl: Callable[..., Told]
) -> None:
    options = [part for one in at for part in ("--at", one)]
    code, out, err = hitl("respond", request_of(desks[thread]).id, "-m", "once more", *options)
    assert (code, err) == (0, "")
    assert out.startswith("Sent back as alice: draft: ")
    assert "a worker sends it back to the writer." in out
    desks[thread].work()
    entry = desks[thread].state["reviews"][0]
    assert [{k: v for k, v in comment.items() if k != "text"} for comment in entry["comments"]] == comments
    _, out, _ = hitl("show", request_of(desks[thread]).id)
    assert f"The agent of thread {thread} wants to deliver this draft (revision 2):" in out
    assert "Asked for by alice, about the draft before\n  | once more\n  - " in out
    assert "Changed since\n" in out
    _, out, _ = hitl("show", entry["request_id"])
    assert "Sent back by alice, " in out


def test_remarks_need_no_text_beside_them(desks: dict[str, Desk], hitl: Callable[..., Told]) -> None:
    code, _, _ = hitl("respond", request_of(desks["text"]).id, "--at", "Bob=Robert?")
    assert code == 0
    desks["text"].work()
    assert desks["text"].state["reviews"][0]["message"] is None


@pytest.mark.parametrize(
    ("thread", "at", "code", "problem"),
    [
        ("text", "99=x", 4, "no line 99"),
        ("text", "r=x", 4, "occur 3 times"),
        ("text", "5-999=x", 4, "not within the text"),
        ("text", "nothing", 2, "WHERE=TEXT"),
        ("text", "Bob=", 2, "WHERE=TEXT"),
        ("json", "name=x", 4, "the draft has items, title"),
        ("patch", "other.py=x", 4, "its files are pay.py"),
        ("files", "c.py:1=x", 4, "its files are: a.py, b.py"),
    ],
)
def test_remarks_about_what_is_not_there(
    thread: str, at: str, code: int, problem: str, desks: dict[str, Desk], hitl: Callable[..., Told]
) -> None:
    own = request_of(desks[thread]).id
    told = hitl("respond", own, "-m", "x", "--at", at)
    assert told[0] == code
    assert problem in told[2]
    assert desks[thread].inbox.get(own).state == "pending"


def test_a_draft_is_edited_in_the_editor_as_what_it_is(
    desks: dict[str, Desk], hitl: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor.sh"
    script.write_text(
        f'#!/bin/sh\ncp "$1" "{tmp_path}/seen-$(basename "$1")"\n'
        's="s/EUR 40/EUR 50/; s/12/13/; s/send(11)/send(13)/; s/\\"z\\"/\\"zz\\"/"\nsed -i "$s" "$1"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    for thread, suffix in (("text", ".md"), ("json", ".json"), ("patch", ".patch"), ("files", ".json")):
        code, out, err = hitl("edit", request_of(desks[thread]).id, "-m", "mine")
        assert (code, err) == (0, ""), thread
        assert out.startswith("Edited as alice: draft: ")
        assert "a worker delivers your version." in out
        assert len(list(tmp_path.glob(f"seen-hitl-review-*{suffix}"))) >= 1
        desks[thread].work()
    delivered = {name: desk.state["delivered"] for name, desk in desks.items()}
    assert delivered == {
        "text": "Dear Bob,\nyour refund is EUR 50.\n\nAlice",  # with no line end that the editor needs
        "json": {"title": "Outage", "items": [{"minutes": 13}]},
        "patch": PATCH.format(13),
        "files": [{"path": "a.py", "content": "x\ny\n"}, {"path": "b.py", "content": "zz"}],
    }
    [seen] = tmp_path.glob("seen-*.md")
    assert seen.read_text() == f"{DRAFTS['text'][0]}\n"  # a `#` in Markdown is a heading, so there are no comments


def test_an_editor_that_changes_nothing_records_nothing(
    desks: dict[str, Desk], hitl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    for desk in desks.values():
        code, _, err = hitl("edit", request_of(desk).id)
        assert (code, "nothing was changed" in err) == (4, True)


def test_a_draft_is_edited_by_options(desks: dict[str, Desk], hitl: Callable[..., Told]) -> None:
    text, data, listed = (request_of(desks[name]).id for name in ("text", "json", "files"))
    for args, code, problem in (
        (("edit", text, "--args", '{"a": 1}'), 4, "the draft is a text"),
        (("edit", text, "--text", DRAFTS["text"][0]), 4, "as it was shown"),
        (("edit", text, "--text", "x", "--args", "{}"), 2, "not both"),
        (("edit", data, "--text", "x"), 2, "--text is for a draft that is a text"),
        (("edit", data, "--set", "name=x"), 4, "there is no field 'name'; it has items, title"),
        (("edit", listed, "--args", '"x"'), 4, "JSON list"),
    ):
        told = hitl(*args)
        assert told[0] == code, told
        assert problem in told[2]
    assert hitl("edit", text, "--text", "Dear Bob")[0] == 0
    assert hitl("edit", data, "--set", "title=Incident")[0] == 0
    assert hitl("edit", listed, "--args", '[{"path": "a.py", "content": "q"}]')[0] == 0
    for name, delivered in (
        ("text", "Dear Bob"),
        ("json", DRAFTS["json"][0] | {"title": "Incident"}),
        ("files", [{"path": "a.py", "content": "q"}]),
    ):
        desks[name].work()
        assert desks[name].state["delivered"] == delivered
    _, out, _ = hitl("show", text)
    assert "Delivered in its place (what changed)" in out
    assert "deliver ran" in out


def test_approve_and_reject_say_what_comes_of_it(desks: dict[str, Desk], hitl: Callable[..., Told]) -> None:
    assert "a worker delivers it." in hitl("approve", request_of(desks["text"]).id)[1]
    assert "a worker ends it; nothing is delivered." in hitl("reject", request_of(desks["json"]).id, "-m", "no")[1]
    code, out, _ = hitl("history", "text")
    assert (code, "approved" in out) == (0, True)


def test_a_comment_on_a_call_is_refused(tmp_path: Path, hitl: Callable[..., Told]) -> None:
    from hitl_graph.ledger import Ledger, requests
    from hitl_graph.model import Action, Request

    own = "a" * 20
    request = Request(
        id=own, kind="approval", thread_id="t", interrupt_id=own, action=Action(name="pay", args={"eur": 1})
    )
    with Ledger.open(tmp_path / "x.db") as ledger:
        ledger.write(requests.open_request, 1, request, checkpoint_id=None, task_id=None, parked=1)
    code, _, err = hitl("respond", own, "-m", "x", "--at", "eur=2", "--db", str(tmp_path / "x.db"))
    assert (code, "there is no draft to comment on" in err) == (4, True)
