"""What people decided before about something alike: found along an index, explained, and never what was removed."""

from collections.abc import Generator
from typing import Any

import pytest

from hitl_graph.card import card
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, precedents, requests
from hitl_graph.model import Comment, Request, approve, edit, reject, respond
from hitl_graph.storage import Transaction
from tests.databases import open_ledger
from tests.learning.deciding import MAIL, audit, decide, mail

pytestmark = pytest.mark.both_databases


@pytest.fixture
def ledger(db_path: str, engine: str) -> Generator[Ledger]:
    with open_ledger(db_path) as found:
        yield found


def told(ledger: Ledger, request: Request) -> Any:
    inbox = Inbox(ledger)
    found = inbox.precedents(request)
    return card(request, inbox.standing(request.id), now=ledger.clock(), precedents=found).precedents


def test_the_most_alike_come_first_and_what_is_unlike_does_not_count(ledger: Ledger) -> None:
    other = decide(ledger, approve(), args={"subject": "Your refund, once more"})
    same = decide(ledger, edit({**MAIL, "to": "carol@corp.example"}, "wrong Bob"))
    decide(ledger, reject("never"), args={"to": "eve@evil.example", "subject": "Lottery", "body": "You have won!"})
    decide(ledger, approve(), action={"name": "pay", "args": MAIL})
    request = mail(ledger)
    assert [one.id for one in Inbox(ledger).precedents(request)] == [same.id, other.id]
    found = told(ledger, request)
    assert found.told == "2 alike: 1 approved, 1 edited"
    first = found.shown[0]
    assert (first.done, first.by, first.message) == ("edited", "alice", "wrong Bob")
    assert first.same == ("to", "subject", "body")
    assert first.changes == ('to: "bob@corp.example" → "carol@corp.example"',)
    assert found.shown[1].same == ("to", "body")


def test_only_people_count_and_nothing_that_waits_or_was_redacted(ledger: Ledger) -> None:
    gone = decide(ledger, approve(), thread_id="secret")
    mail(ledger)
    silent = mail(ledger)
    settled = {"reviewer": "deadline", "channel": "deadline"}
    ledger.write(requests.settle, ledger.now_ms(), silent, reject("nobody answered"), **settled)
    request = mail(ledger)
    assert [one.id for one in Inbox(ledger).precedents(request)] == [gone.id]
    ledger.redact("secret", actor="alice", reason="asked to")
    assert Inbox(ledger).precedents(request) == []
    assert told(ledger, request) is None


def test_drafts_are_compared_with_drafts(ledger: Ledger) -> None:
    draft = "Dear Carol, your refund of 120 EUR is on its way. Regards, Bob"
    new = draft.replace("Bob", "your bank")
    drafts: dict[str, Any] = {"kind": "review", "action": None, "answer_schema": None}
    decide(ledger, edit(new), **drafts, draft=draft)
    decide(ledger, respond("shorter", comments=[Comment(text="who is Bob?")]), **drafts, draft=draft)
    decide(ledger, approve(), **drafts, draft="Quite another text about the weather in spring")
    request = mail(ledger, **drafts, draft=draft.replace("120", "130"))
    found = told(ledger, request)
    assert found.told == "2 alike: 1 edited, 1 sent back"
    by_word = {one.done: one for one in found.shown}
    assert by_word["edited"].changes == (f"-{draft}", f"+{new}")
    assert by_word["sent back"].message == "shorter\nwho is Bob?"


def test_audits_count_for_questions_but_nobody_is_led_in_an_audit(ledger: Ledger) -> None:
    asked = audit(ledger)
    Inbox(ledger).decide(asked.id, edit({**MAIL, "subject": "Refund"}), reviewer="bob")
    found = told(ledger, mail(ledger))
    assert found.told == "1 alike: 1 corrected"
    assert Inbox(ledger).precedents(audit(ledger)) == []


def test_it_changes_nothing_that_was_asked(ledger: Ledger) -> None:
    decide(ledger, approve())
    request = mail(ledger)
    inbox = Inbox(ledger)
    bare = card(request, inbox.standing(request.id), now=ledger.clock())
    full = card(request, inbox.standing(request.id), now=ledger.clock(), precedents=inbox.precedents(request))
    assert full.precedents is not None
    assert (full.digest, full.version) == (bare.digest, bare.version)
    assert full.answers == bare.answers
    assert inbox.get(request.id).digest == request.digest


def test_however_many_there_are_the_latest_are_looked_at_along_the_index(ledger: Ledger) -> None:
    for number in range(12):
        decide(ledger, approve(), args={"subject": f"Refund {number}"})
    request = mail(ledger)
    assert len(Inbox(ledger).precedents(request, limit=5)) == 5
    assert told(ledger, request).more == 2

    def planned(tx: Transaction) -> str:
        how = "EXPLAIN QUERY PLAN" if tx.dialect == "sqlite" else "EXPLAIN"
        if tx.dialect == "postgres":
            tx.execute("SET LOCAL enable_seqscan = off")
        rows = tx.execute(
            f"{how} SELECT id FROM hitl_requests WHERE tool = ? AND kind = ? AND {precedents._COUNT}"
            " ORDER BY decided_ms DESC, id DESC LIMIT 5",
            ("send_email", "approval"),
        ).fetchall()
        return " ".join(str(row) for row in rows)

    plan = ledger.database.read(planned)
    assert "hitl_requests_precedents" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


async def test_async_and_tools(ledger: Ledger) -> None:
    decide(ledger, approve())
    decide(ledger, approve(), kind="review", action=None, answer_schema=None, draft="Hello")
    decide(ledger, approve(), action={"name": "pay", "args": {}})
    assert len(await Inbox(ledger).aprecedents(mail(ledger))) == 1
    assert ledger.read(precedents.tools) == ["pay", "send_email", None]


def test_likeness_is_counted() -> None:
    near = precedents.likeness({"to": "bob", "n": 3, "text": "the red house"})
    assert near({"to": "bob", "n": 3, "text": "the red house"}) == 1
    assert near({"to": "bob", "n": 4, "text": "the red car"}) == pytest.approx((1 + 0 + 0.5) / 3)
    assert near({"to": "bob"}) == pytest.approx(1 / 3)
    assert near({"n": True}) == 0
    assert precedents.likeness({})({}) == 1
    assert precedents.likeness("the red house")("the red car") == 0.5
    assert precedents.likeness(["a b"])("a b") == 1
    assert precedents.likeness({"n": 1})({"n": True}) == 0
