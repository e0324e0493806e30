"""Audits on the page, and what people decided before: nobody is told that something will run, and nobody is led."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hitl_graph.inbox import Inbox
from hitl_graph.learning.choosing import Chosen
from hitl_graph.learning.labelling import Candidate, question
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import edit, reject, respond
from hitl_graph.terms import Stage, Terms
from hitl_graph.web import create_app
from hitl_graph.web.visitors import TrustedProxy
from tests.learning.deciding import MAIL, audit, decide, mail
from tests.web.axe import found
from tests.web.conftest import serving

Visit = Callable[..., Page]
PROXY = TrustedProxy(proxies=["127.0.0.1/32"])
DRAFT = "Dear Carol,\n\nyour refund of 120 EUR is on its way.\n\nRegards, Bob"


class Desk:
    def __init__(self, ledger: Ledger, url: str) -> None:
        self.ledger, self.url = ledger, url

    def page(self, request: Any) -> str:
        return f"{self.url}/requests/{request.id}"


def opened(path: Path, **options: Any) -> Generator[Desk]:
    with Ledger.open(path) as ledger, serving(create_app(ledger, authenticators=[PROXY], **options)) as url:
        yield Desk(ledger, url)


@pytest.fixture
def desk(tmp_path: Path) -> Generator[Desk]:
    yield from opened(tmp_path / "agent.db")


@pytest.fixture
def private(tmp_path: Path) -> Generator[Desk]:
    """Where people see only what concerns them."""
    yield from opened(tmp_path / "agent.db", sees="mine")


def form(page: Page, word: str) -> Any:
    return page.locator(f"form:has(input[name=answer][value={word}])")


def test_an_audited_call_is_judged_and_nothing_is_said_to_run(desk: Desk, visit: Visit, shots: Path) -> None:
    request = audit(desk.ledger)
    page = visit(desk.page(request), "alice")
    expect(page.locator("h1")).to_have_text(
        f"The agent of thread {request.thread_id} called send_email without asking: was that right?"
    )
    expect(page.locator(".meta .badge").first).to_have_text("audit")
    answers = page.locator(".answers").inner_text()
    assert not any(word in answers.lower() for word in ("runs", "deliver", "approve", "always"))
    assert "it should have been this" in answers
    page.screenshot(path=shots / "audit-call.png", full_page=True)
    assert found(page) == []
    page.locator("details.edit > summary").click()
    page.get_by_label("to", exact=True).fill("carol@corp.example")
    page.screenshot(path=shots / "audit-call-edit.png", full_page=True)
    page.get_by_role("button", name="Record what it should have been").click()
    expect(page.locator("#said")).to_contain_text("You corrected it. It is kept for learning; nothing waited for it.")
    expect(page.locator("#outcome")).to_have_text("Corrected by alice")
    expect(page.locator(".outcome")).to_contain_text("It should have been")
    expect(page.locator(".meta")).to_contain_text("recorded")
    page.screenshot(path=shots / "audit-call-done.png", full_page=True)
    now = Inbox(desk.ledger).get(request.id)
    assert now.state == "delivered"
    assert now.decision is not None
    assert now.decision.args == {**MAIL, "to": "carol@corp.example"}


def test_an_audited_draft(desk: Desk, visit: Visit, shots: Path) -> None:
    request = audit(desk.ledger, draft=DRAFT)
    page = visit(desk.page(request), "alice")
    expect(page.locator("h1")).to_contain_text("delivered this draft without asking: was that right?")
    page.screenshot(path=shots / "audit-draft.png", full_page=True)
    assert "Send back" not in page.locator(".answers").inner_text()
    page.locator("details.reject > summary").click()
    form(page, "reject").get_by_role("button", name="Wrong").click()
    expect(page.locator("#outcome")).to_have_text("Found wrong by alice")


def test_the_list_names_audits_filters_them_and_leaves_them_out_of_what_is_decided_together(
    desk: Desk, visit: Visit, shots: Path
) -> None:
    mail(desk.ledger)
    asked = [audit(desk.ledger), audit(desk.ledger, draft=DRAFT)]
    page = visit(desk.url, "alice", viewport={"width": 1280, "height": 720})
    expect(page.locator(".row-verb")).to_have_text(["Call", "Audit", "Audit"])
    page.screenshot(path=shots / "audit-list.png")
    assert found(page) == []
    page.get_by_label("Kind").select_option("audit")
    expect(page.locator(".row-verb")).to_have_text(["Audit", "Audit"])
    expect(page.locator(".chip")).to_contain_text("Audits")
    page.screenshot(path=shots / "audit-list-filtered.png")
    picked = "&".join(f"pick={one.id}" for one in asked)
    for word in ("approve", "reject"):
        page.goto(f"{desk.url}/bulk?{picked}&word={word}")
        expect(page.locator("h1")).to_have_text("None of these can be decided together")
        expect(page.locator(".because").first).to_contain_text("say of each by itself whether it is right")


def test_what_was_decided_before_is_closed_below_the_answers(desk: Desk, visit: Visit, shots: Path) -> None:
    decide(desk.ledger, edit({**MAIL, "to": "carol@corp.example"}, "Bob left"), who="bob")
    decide(desk.ledger, reject("<b>no</b> \u202ereversed"), who="eve\u202e")
    request = mail(desk.ledger)
    page = visit(desk.page(request), "alice")
    before = page.locator("#precedents")
    expect(before.locator("summary")).to_contain_text("2 alike: 1 edited, 1 rejected")
    assert before.get_attribute("open") is None
    page.screenshot(path=shots / "precedents-closed.png", full_page=True)
    answers, below = page.locator(".answers").bounding_box(), before.bounding_box()
    assert answers is not None
    assert below is not None
    assert answers["y"] < below["y"]
    assert page.locator(".answers details[open]").count() == 0
    before.locator("summary").click()
    expect(before).to_contain_text('to: "bob@corp.example" → "carol@corp.example"')
    expect(before).to_contain_text("Bob left")
    expect(before).to_contain_text(r"<b>no</b> \u202ereversed")
    expect(before).to_contain_text(r"eve\u202e")
    assert "\u202e" not in page.content()
    page.screenshot(path=shots / "precedents-open.png", full_page=True)
    assert found(page) == []


def test_a_draft_s_precedents_show_what_changed(desk: Desk, visit: Visit, shots: Path) -> None:
    drafts: dict[str, Any] = {"kind": "review", "action": None, "answer_schema": None}
    decide(desk.ledger, edit(DRAFT.replace("Bob", "your bank")), **drafts, draft=DRAFT)
    decide(desk.ledger, respond("Say when."), **drafts, draft=DRAFT)
    page = visit(desk.page(mail(desk.ledger, **drafts, draft=DRAFT.replace("120", "130"))), "alice")
    page.locator("#precedents > summary").click()
    expect(page.locator("#precedents .diff")).to_contain_text("+Regards, your bank")
    page.screenshot(path=shots / "precedents-draft.png", full_page=True)


def test_who_may_not_see_a_request_does_not_learn_that_there_was_one(private: Desk, visit: Visit) -> None:
    secret = Terms(stages=(Stage(reviewers=("bob",)),))
    decide(private.ledger, reject("a secret reason"), who="bob", terms=secret)
    request = mail(private.ledger)
    page = visit(private.page(request), "alice")
    expect(page.locator("h1")).to_contain_text("wants to call send_email")
    assert page.locator("#precedents").count() == 0
    assert "secret reason" not in page.content()
    expect(visit(private.page(request), "bob").locator("#precedents")).to_contain_text("1 alike: 1 rejected")


def test_nothing_decided_before_shows_nothing(desk: Desk, visit: Visit) -> None:
    assert visit(desk.page(mail(desk.ledger)), "alice").locator("#precedents").count() == 0


def test_a_label_shows_what_the_model_had_to_go_by(desk: Desk, visit: Visit, shots: Path) -> None:
    both: list[Any] = ["Win a prize, <b>call</b> now!", {"post": "Lunch?", "author": "bob"}]
    for number, given in enumerate(both):
        post = Candidate(str(number), "spam", given, sureness=0.6)
        asked = question("posts", post, Chosen(0, str(number), "query", None), reviewers=(), schema=None)
        desk.ledger.write(
            requests.open_request, desk.ledger.now_ms(), asked, checkpoint_id=None, task_id=None, parked=1
        )
        page = visit(desk.page(asked), "alice")
        expect(page.locator("h1")).to_have_text("A label is wanted for posts: is this right?")
        expect(page.locator(".meta .badge").first).to_have_text("label")
        expect(page.locator(".main")).to_contain_text("prize" if number == 0 else "Lunch?")
        page.screenshot(path=shots / f"label-{number}.png", full_page=True)
        assert found(page) == []
