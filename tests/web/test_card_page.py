"""The page on which people decide: every kind of request, with and without scripts, of graphs that really pause."""

import json
import re
import time
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect
from playwright.sync_api import Request as Sent

from hitl_graph.inbox import Inbox
from hitl_graph.model import Request, approve, reject, respond
from hitl_graph.web import create_app
from hitl_graph.web.diffs import words
from hitl_graph.web.visitors import TrustedProxy
from tests.web.axe import found
from tests.web.conftest import serving
from tests.web.paused import PEOPLE, Paused

Visit = Callable[..., Page]
PROXY = TrustedProxy(proxies=["127.0.0.1/32"], directory=PEOPLE)
MAIL: dict[str, Any] = {
    "to": "carol@customer.example", "subject": "Your refund", "body": "Dear Carol,\n\n120 EUR are on their way.",
    "cc": ["bob@corp.example"], "priority": "high",
}  # fmt: skip
_numbers = count(1)


class Desk:
    """A server with the inbox of one graph, and what its threads wait for."""

    def __init__(self, paused: Paused, url: str) -> None:
        self.paused, self.url = paused, url

    def mail(self, **other: Any) -> Request:
        return self.start(calls=[{"name": "send_email", "args": {**MAIL, **other}}])

    def wire(self) -> Request:
        args = {"iban": "DE02120300000000202051", "eur": 1200.5}
        return self.start(calls=[{"name": "wire_transfer", "args": args}])

    def start(self, **does: Any) -> Request:
        return self.paused.start(f"thread-{next(_numbers)}", **does)

    def page(self, request: Request) -> str:
        return f"{self.url}/requests/{request.id}"

    def now(self, request: Request) -> Request:
        return Inbox(self.paused.ledger).get(request.id)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    paused = Paused(tmp_path_factory.mktemp("card") / "agent.db")
    with paused.checkpointer, serving(create_app(paused.ledger, authenticators=[PROXY])) as url:
        yield Desk(paused, url)


def answer(page: Page, word: str) -> Any:
    return page.locator(f"form:has(input[name=answer][value={word}])")


# --- deciding without scripts ----------------------------------------------------------------------------------------


def test_each_answer_works_without_scripts_and_is_carried_out(desk: Desk, visit: Visit) -> None:
    asked = [desk.mail(subject=str(number)) for number in range(4)]
    page = visit(desk.page(asked[0]), "alice", java_script_enabled=False)
    expect(page.locator("h1")).to_have_text(f"The agent of thread {asked[0].thread_id} wants to call send_email")
    answer(page, "approve").locator("button").click()
    expect(page.locator("#said")).to_contain_text("You approved it. A worker carries it out.")

    page.goto(desk.page(asked[1]))
    page.locator("details.edit > summary").click()
    page.get_by_label("to", exact=True).fill("dave@customer.example")
    page.get_by_label("copies", exact=True).fill("2")
    answer(page, "edit").get_by_role("button", name="Preview").click()
    expect(page.locator(".preview del")).to_have_text(["carol", "(not given)"])
    expect(page.locator(".preview ins")).to_have_text(["dave", "2"])
    assert desk.now(asked[1]).state == "pending"
    answer(page, "edit").get_by_role("button", name="Approve with changes").click()
    expect(page.locator("#said")).to_contain_text("You edited it.")

    page.goto(desk.page(asked[2]))
    page.locator("details.reject > summary").click()
    answer(page, "reject").locator("textarea").fill("not <b>now</b>")
    answer(page, "reject").locator("button").click()
    expect(page.locator("#said")).to_contain_text("You rejected it.")
    expect(page.locator(".outcome blockquote")).to_have_text("not <b>now</b>")

    page.goto(desk.page(asked[3]))
    page.locator("details.respond > summary").click()
    answer(page, "respond").locator("textarea").fill("ask her first")
    answer(page, "respond").locator("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it.")

    before = len(desk.paused.sent)
    desk.paused.work()
    ran = [args for _, args in desk.paused.sent[before:]]
    assert {(one["subject"], one["to"], one["copies"]) for one in ran} == {
        ("0", "carol@customer.example", 1),
        ("1", "dave@customer.example", 2),
    }
    assert next(one for one in ran if one["subject"] == "1")["body"] == MAIL["body"]  # a browser's line ends and all
    assert any("ask her first" in text for text in desk.paused.said(asked[3].thread_id))
    decided = [desk.now(one) for one in asked]
    assert {(one.state, one.reviewer, one.channel) for one in decided} == {("delivered", "alice", "web")}


def test_what_does_not_fit_is_said_at_its_field_and_nothing_typed_is_lost(desk: Desk, visit: Visit) -> None:
    request = desk.mail()
    page = visit(desk.page(request), "alice", java_script_enabled=False)
    page.locator("details.edit > summary").click()
    page.get_by_label("subject", exact=True).fill("A new subject")
    page.get_by_label("copies", exact=True).fill("many")
    answer(page, "edit").get_by_label("Comment").fill("  my comment")
    with page.expect_navigation() as sent:
        answer(page, "edit").get_by_role("button", name="Approve with changes").click()
    assert sent.value is not None
    assert sent.value.status == 422
    field = page.get_by_label("copies", exact=True)
    expect(field).to_have_value("many")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"[id='{field.get_attribute('aria-describedby')}']")).to_contain_text("whole number")
    expect(page.get_by_label("subject", exact=True)).to_have_value("A new subject")
    expect(answer(page, "edit").get_by_label("Comment")).to_have_value("  my comment")
    assert desk.now(request).state == "pending"
    page.goto(desk.page(request))
    page.locator("details.edit > summary").click()
    answer(page, "edit").get_by_role("button", name="Approve with changes").click()
    expect(answer(page, "edit").get_by_role("alert")).to_contain_text("Nothing was changed")


# --- every kind of request -------------------------------------------------------------------------------------------


def test_a_draft_is_sent_back_with_remarks_and_then_delivered_as_edited(desk: Desk, visit: Visit) -> None:
    drafts = ["Dear Carol,\n\nyou get it within 24 hours.\n\nBye", "Dear Carol,\n\nyou get it soon.\n\nBye"]
    first = desk.start(draft=drafts)
    page = visit(desk.page(first), "alice")
    expect(page.locator(".draft .notice")).to_contain_text("This is a promise.")
    page.locator("ol.code > li").nth(2).click()
    expect(page.locator("[name=where0]")).to_have_value("3")
    page.locator("[name=remark0]").fill("promise nothing")
    page.locator("[name=where1]").fill("no such words")
    page.locator("[name=remark1]").fill("x")
    answer(page, "respond").get_by_role("button", name="Send back").click()
    expect(page.locator("[name=where1]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=remark0]")).to_have_value("promise nothing")
    page.locator("[name=where1]").fill("Bye")
    answer(page, "respond").get_by_role("button", name="Send back").click()
    expect(page.locator("#said")).to_contain_text("You sent it back")
    desk.paused.work()
    [second] = Inbox(desk.paused.ledger).pending(thread_id=first.thread_id)
    page.goto(desk.page(second))
    expect(page.locator(".draft")).to_contain_text("Asked for by alice")
    expect(page.locator("pre.diff .added")).to_contain_text("soon")
    page.keyboard.press("e")
    page.get_by_label("Draft", exact=True).fill("Dear Carol,\n\nyou get it on Monday.\n\nBye")
    expect(page.locator(".was ins")).to_have_text("on Monday")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_contain_text("You edited it")
    desk.paused.work()
    assert desk.paused.said(first.thread_id)[-1] == "Dear Carol,\n\nyou get it on Monday.\n\nBye"


def test_an_agent_that_is_stuck_is_guided_or_its_state_changed(desk: Desk, visit: Visit) -> None:
    guided, changed = desk.start(stuck=True), desk.start(stuck=True)
    page = visit(desk.page(guided), "alice")
    expect(page.locator(".evidence")).to_contain_text("The agent did the same 3 times")
    page.keyboard.press("c")
    page.keyboard.type("look for y instead")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_contain_text("You answered it")
    page.goto(desk.page(changed))
    page.keyboard.press("e")
    page.get_by_label("limit", exact=True).fill("7")
    answer(page, "edit").get_by_role("button", name="Change the state").click()
    expect(page.locator("#said")).to_contain_text("You edited it")
    decision = desk.now(changed).decision
    assert decision is not None
    assert decision.args == {"limit": 7}
    desk.paused.work()
    assert "look for y instead" in desk.paused.said(guided.thread_id)[-1]


def test_questions_are_answered_by_choice_by_text_with_fields_and_as_json(desk: Desk, visit: Visit) -> None:
    def ask(name: str, **args: Any) -> Request:
        return desk.start(calls=[{"name": name, "args": args}])

    choice = ask("ask_human", question="Where from?", options=["Hamburg", "Rotterdam"])
    other = ask("ask_human", question="Where from?", options=["Hamburg", "Rotterdam"], free_text=True)
    fields = ask("ask_options", question="How?")
    raw, number = desk.start(raw={"n": 1}), desk.start(raw="How many?", schema={"type": "integer", "minimum": 1})
    page = visit(desk.page(choice), "alice")
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator(".options .error")).to_have_text("Choose an answer.")
    page.get_by_label("Rotterdam").check()
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it")
    page.goto(desk.page(other))
    page.get_by_label("Another answer optional").fill("Kiel")
    expect(page.get_by_label("Another answer, below")).to_be_checked()
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it")
    page.goto(desk.page(fields))
    page.get_by_label("read_receipt", exact=True).select_option(label="yes")
    page.get_by_label("retries", exact=True).fill("9")
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator(".field .error")).to_contain_text("less than or equal to 5")
    page.get_by_label("retries", exact=True).fill("5")
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it")
    page.goto(desk.page(raw))
    page.get_by_label("Value as JSON").fill('{"ok": [1, null]}')
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it")
    page.goto(desk.page(number))
    page.get_by_label("Value", exact=True).fill("12")
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("You answered it")
    desk.paused.work()
    assert "Rotterdam" in desk.paused.said(choice.thread_id)
    assert "Kiel" in desk.paused.said(other.thread_id)
    assert json.loads(desk.paused.said(fields.thread_id)[2]) == {"read_receipt": True, "retries": 5}
    assert desk.paused.said(raw.thread_id)[-1] == 'the answer is {"ok": [1, null]}'
    assert desk.paused.said(number.thread_id)[-1] == "the answer is 12"


@pytest.mark.parametrize("scripts", [True, False])
def test_several_questions_are_one_form_with_boxes_to_tick(desk: Desk, visit: Visit, scripts: bool) -> None:
    offers = [{"label": "export", "description": "as CSV"}, {"label": "search"}]
    several = {"question": "Which features?", "header": "Features", "multiSelect": True, "options": offers}
    one = {"question": "Which name?", "header": "Name", "options": [{"label": "orders"}, {"label": "sales"}]}
    request = desk.start(calls=[{"name": "ask_human_questions", "args": {"questions": [several, one]}}])
    page = visit(desk.page(request), "alice", java_script_enabled=scripts)
    expect(page.locator("main")).to_contain_text("export: as CSV")
    expect(page.locator("datalist option")).to_have_count(2)
    page.get_by_label("export", exact=True).check()
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator(".field .error")).to_have_count(1)  # no name: nothing is recorded, what was ticked stays
    expect(page.get_by_label("export", exact=True)).to_be_checked()
    page.get_by_label("search", exact=True).check()
    page.get_by_label("Features: others, one a line").fill("a calendar")
    page.get_by_label("Name", exact=True).fill("bills")
    if scripts:
        assert not found(page)
    answer(page, "respond").get_by_role("button").click()
    expect(page.locator("#said" if scripts else "main")).to_contain_text("You answered it")
    desk.paused.work()
    told = json.loads(desk.paused.said(request.thread_id)[2])
    assert told == {"Features": ["export", "search", "a calendar"], "Name": "bills"}


def test_langchain_s_middleware_is_answered_too(desk: Desk, visit: Visit) -> None:
    one = desk.start(lc=[{"name": "send_email", "args": {**MAIL, "subject": "007"}}])
    page = visit(desk.page(one), "alice")
    page.keyboard.press("e")
    page.get_by_label("to", exact=True).fill("eve@customer.example")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_contain_text("You edited it")
    desk.paused.work()
    sent = desk.paused.sent[-1][1]
    assert (sent["to"], sent["subject"], sent["cc"]) == ("eve@customer.example", "007", ["bob@corp.example"])


# --- several people --------------------------------------------------------------------------------------------------


def test_of_two_people_one_is_first_and_the_other_learns_who_it_was(desk: Desk, visit: Visit, shots: Path) -> None:
    request = desk.mail()
    plain, live = (visit(desk.page(request), "alice", java_script_enabled=scripts) for scripts in (False, True))
    bob = visit(desk.page(request), "bob")
    bob.keyboard.press("r")
    bob.keyboard.type("too much")
    bob.keyboard.press("Control+Enter")
    expect(bob.locator("#said")).to_contain_text("You rejected it")
    plain.locator("details.edit > summary").click()
    plain.get_by_label("subject", exact=True).fill("What I had typed")
    with plain.expect_navigation() as sent:
        answer(plain, "edit").get_by_role("button", name="Approve with changes").click()
    assert sent.value is not None
    assert sent.value.status == 409
    expect(plain.locator("#said")).to_contain_text("bob rejected it. Nothing of yours was recorded.")
    expect(plain.get_by_label("subject", exact=True)).to_have_value("What I had typed")
    plain.screenshot(path=shots / "card-409.png", full_page=True)
    expect(live.locator("#changed")).to_contain_text("Bob rejected it.")
    expect(answer(live, "approve").locator(".primary")).to_be_disabled()
    decided = desk.now(request)
    assert (decided.reviewer, decided.decision) == ("bob", reject("too much"))
    carol = visit(desk.page(request), "carol")
    expect(carol.locator(".outcome")).to_contain_text("Rejected by bob")
    expect(carol.locator(".outcome")).to_contain_text("through web")
    assert answer(carol, "approve").count() == 0


def test_several_have_to_agree_and_others_may_not(desk: Desk, visit: Visit) -> None:
    request = desk.wire()
    carol = visit(desk.page(request), "carol")
    expect(carol.locator(".answers .notice")).to_contain_text("carol may not decide it")
    expect(carol.locator(".answers .notice")).to_contain_text("Needed: role:finance.")
    assert answer(carol, "approve").count() == 0
    alice, live = visit(desk.page(request), "alice"), visit(desk.page(request), "bob")
    bob = visit(desk.page(request), "bob", java_script_enabled=False)
    expect(alice.locator(".side")).to_contain_text("2 of role:finance")
    alice.keyboard.press("a")
    alice.wait_for_timeout(750)  # Enter that was meant for the page before counts for nothing
    alice.keyboard.press("Enter")
    expect(alice.locator("#said")).to_contain_text("Your vote to approve it is recorded.")
    assert desk.now(request).state == "pending"
    expect(live.locator("#changed")).to_contain_text("Alice voted to approve it.")
    answer(bob, "approve").locator(".primary").click()  # he has not seen her vote
    expect(bob.locator("#said")).to_contain_text("It changed while you looked: alice voted to approve it.")
    answer(bob, "approve").locator(".primary").click()
    expect(bob.locator("#said")).to_contain_text("You approved it")
    assert desk.now(request).reviewer == "alice, bob"


def test_claim_hand_back_give_to_somebody_and_take_back(desk: Desk, visit: Visit) -> None:
    request = desk.wire()
    alice = visit(desk.page(request), "alice", java_script_enabled=False)
    alice.get_by_role("button", name="Claim").click()
    expect(alice.locator(".side")).to_contain_text("by alice, 14m left")
    alice.get_by_role("button", name="Hand back").click()
    expect(alice.locator(".side")).not_to_contain_text("by alice, 14m left")
    for to in ("x" * 501, "carol"):
        handled = desk.now(request).handling
        assert not (handled and handled.delegations)
        alice.get_by_text("Give it to somebody else").click()
        alice.get_by_label("To", exact=True).fill(to)
        alice.get_by_role("button", name="Give", exact=True).click()
    expect(alice.locator(".answers .notice")).to_contain_text("gave their vote to somebody else")
    carol = visit(desk.page(request), "carol", java_script_enabled=False)
    expect(carol.locator(".answers .notice")).to_contain_text("You decide in place of alice.")
    alice.get_by_role("button", name="Take my vote back").click()
    assert answer(alice, "approve").count() == 1
    answer(carol, "approve").locator(".primary").click()
    expect(carol.locator("#said")).to_contain_text("carol may not decide it")
    assert desk.now(request).state == "pending"


def test_a_claim_of_somebody_else_is_told(desk: Desk, visit: Visit) -> None:
    request = desk.mail()
    alice = visit(desk.page(request), "alice")
    Inbox(desk.paused.ledger).claim(request.id, reviewer="bob")
    answer(alice, "approve").locator(".primary").click()
    expect(alice.locator("#said")).to_contain_text("bob has claimed it")
    assert answer(alice, "approve").count() == 0
    assert desk.now(request).state == "pending"


def test_a_standing_permission_goes_with_an_answer(desk: Desk, visit: Visit) -> None:
    request = desk.mail(subject="always")
    page = visit(desk.page(request), "alice")
    form = answer(page, "approve")
    form.get_by_text("Always allow").click()
    form.get_by_label("from now on, without asking").check()
    form.get_by_label("At most").fill("0")
    form.locator(".primary").click()
    expect(form.locator(".error")).to_contain_text("whole number from 1")
    form.get_by_label("At most").fill("3")
    form.locator(".primary").click()
    expect(page.locator(".outcome")).to_contain_text("with a standing permission")
    desk.paused.work()
    [given] = [one for one in Inbox(desk.paused.ledger).grants() if one.given_by == "alice"]
    assert (given.grant.uses, given.grant.only, given.grant.thread_id) == (3, True, None)


# --- what else is on it ----------------------------------------------------------------------------------------------


def test_what_may_not_be_edited_is_shown_and_not_asked(desk: Desk, visit: Visit) -> None:
    request = desk.mail(copies=3)
    page = visit(desk.page(request), "alice")
    page.keyboard.press("e")
    assert page.locator("form:has([value=edit]) [data-was]").count() == 2
    expect(page.locator(".locked", has_text="copies")).to_contain_text("3")
    page.get_by_label("to", exact=True).fill("dave@customer.example")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#said")).to_contain_text("You edited it")


def test_the_conversation_is_loaded_when_asked_for_and_can_be_searched(desk: Desk, visit: Visit) -> None:
    page = visit(desk.page(desk.mail()), "alice")
    page.get_by_text("The conversation so far").click()
    expect(page.locator(".turn")).to_have_count(2)
    expect(page.locator(".turn.agent strong").nth(1)).to_have_text("do")
    page.get_by_label("Find").fill("going to")
    expect(page.locator(".turn:visible")).to_have_count(1)
    plain = visit(f"{page.url}/conversation?q=going+to", "alice", java_script_enabled=False)
    expect(plain.locator(".turn")).to_have_count(1)


def test_the_beginning_of_an_id_leads_to_the_request_and_looking_is_on_record(desk: Desk, visit: Visit) -> None:
    request = desk.mail()
    page = visit(f"{desk.url}/requests/{request.id[:12]}", "dora")
    expect(page).to_have_url(desk.page(request))
    page.reload()
    seen = Inbox(desk.paused.ledger).viewers(request.id)
    assert [(one.reviewer, one.channel, one.digest) for one in seen] == [("dora", "web", request.digest)]


def test_what_one_may_not_see_is_not_there(desk: Desk) -> None:
    wire = desk.wire()
    with serving(create_app(desk.paused.ledger, authenticators=[PROXY], sees="mine")) as url:
        for path in ("", "/conversation"):
            carol, alice = (
                httpx.get(f"{url}/requests/{wire.id}{path}", headers={"x-forwarded-user": who})
                for who in ("carol", "alice")
            )
            assert (carol.status_code, alice.status_code) == (404, 200)
            assert wire.thread_id not in carol.text
        told = {
            httpx.get(f"{url}/requests/{own}", headers={"x-forwarded-user": "carol"}).text
            for own in (wire.id, wire.id[:9], wire.id[:1], "0" * 20, "0" * 9, "zz")
        }
        assert len(told) == 1  # also not by beginnings of ids


def test_after_an_answer_the_next_request_is_one_key_away(desk: Desk, visit: Visit) -> None:
    inbox = Inbox(desk.paused.ledger)
    for left in inbox.pending(reviewer="alice", limit=500):
        inbox.decide(left.id, reject() if "reject" in left.allowed else respond("1"), reviewer="alice")
    one, two = desk.mail(), desk.mail()
    page = visit(desk.page(one), "alice")
    page.wait_for_timeout(750)
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    page.locator("#next").click()
    expect(page).to_have_url(desk.page(two))


# --- nothing that a model writes does harm ---------------------------------------------------------------------------

EVIL = '"><img src=https://evil.example/x onerror=alert(1)><script>alert(1)</script><svg onload=alert(1)>\u202e'
LINK = f"[x](javascript:alert(1)) ![p](https://evil.example/p.png) <javascript:alert(1)> {EVIL}"


def test_no_field_that_a_model_controls_runs_anything(desk: Desk, visit: Visit) -> None:
    def ask(name: str, **args: Any) -> Request:
        return desk.start(calls=[{"name": name, "args": args}])

    bad = {**MAIL, "to": LINK, "cc": [EVIL], "body": f"{LINK}\n{LINK}"}
    asked = [
        desk.paused.start(f"evil {next(_numbers)} {EVIL}", calls=[{"name": "send_email", "args": bad}]),
        ask("ask_human", question=LINK, why=LINK, options=[LINK, "b"], free_text=True),
        desk.start(draft=[f"{LINK} 24\n{LINK}", LINK]),
        desk.start(draft=[f"--- a/{EVIL}\n+++ b/{EVIL}\n@@ -1 +1 @@\n-{EVIL}\n+{LINK}\n"]),
        desk.start(raw={EVIL: {LINK: [EVIL]}}),
        desk.start(raw=LINK, schema={"type": "object", "properties": {EVIL: {"type": "string", "description": LINK}}}),
        desk.start(lc=[{"name": "send_email", "args": {**MAIL, "body": LINK}}]),
    ]
    page = visit(desk.page(asked[0]), "alice")
    ran: list[str] = []

    def asks(dialog: Dialog) -> None:
        ran.append(dialog.message)
        dialog.dismiss()

    def sends(sent: Sent) -> None:
        if not sent.url.startswith((desk.url, "data:")):
            ran.append(sent.url)

    def tells(told: ConsoleMessage) -> None:
        if "Content Security Policy" in told.text:
            ran.append(told.text)

    page.on("dialog", asks)
    page.on("request", sends)
    page.on("console", tells)
    page.on("pageerror", lambda error: ran.append(str(error)))
    for request in asked:
        page.goto(desk.page(request))
        for details in page.locator("details").all():
            details.evaluate("details => details.open = true")
        page.wait_for_selector(".turn, #messages .notice")
        for field in page.locator("[data-was]").all():
            if field.is_editable() and field.evaluate("field => field.tagName") != "SELECT":
                field.fill(LINK.replace("\u202e", ""))
        assert page.locator("main script, main img, main svg, main iframe, main [onerror]").count() == 0
        hrefs = page.locator("main a").evaluate_all("all => all.map(one => one.href)")
        assert all(re.match(r"https?:|mailto:", href) for href in hrefs)
        assert "\u202e" not in page.locator("main").inner_text()
    Inbox(desk.paused.ledger).decide(asked[0].id, reject(LINK), reviewer="alice")
    page.goto(desk.page(asked[0]))
    expect(page.locator(".outcome blockquote")).to_contain_text("javascript:alert(1)")
    assert ran == []


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(desk: Desk, visit: Visit, shots: Path, scheme: str) -> None:
    """On a desk by day, and on a phone at night."""
    asked = {
        "approval": desk.mail(), "quorum": desk.wire(), "stuck": desk.start(stuck=True),
        "review": desk.start(draft=["Within 24 hours.\n\n**Bye**"]), "raw": desk.start(raw={"n": 1}),
        "question": desk.start(calls=[{"name": "ask_human", "args": {"question": "Where?", "options": ["a", "b"]}}]),
    }  # fmt: skip
    size = {"width": 360, "height": 740} if scheme == "dark" else {"width": 1280, "height": 900}
    page = visit(desk.page(asked["approval"]), "alice", color_scheme=scheme, viewport=size)
    page.screenshot(path=shots / f"card-{scheme}.png", full_page=True)
    for name, request in asked.items():
        page.goto(desk.page(request))
        for details in page.locator("details").all():
            details.evaluate("details => details.open = true")
        page.wait_for_selector(".turn, #messages .notice")
        assert found(page) == []
        page.screenshot(path=shots / f"card-{scheme}-{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(desk.page(asked["approval"]) + "/conversation")
    assert found(page) == []
    Inbox(desk.paused.ledger).decide(asked["approval"].id, approve("fine"), reviewer="bob")
    page.goto(desk.page(asked["approval"]))
    assert found(page) == []


def test_keys_alone_are_enough(desk: Desk, visit: Visit) -> None:
    request = desk.mail()
    page = visit(desk.page(request), "alice")
    page.keyboard.press("e")
    expect(page.get_by_label("to", exact=True)).to_be_focused()
    page.keyboard.press("a")  # in a field it is a letter
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(answer(page, "reject").locator("textarea")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(answer(page, "approve").locator(".primary")).to_be_focused()
    assert desk.now(request).state == "pending"
    page.wait_for_timeout(750)
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("You approved it")


def test_long_texts_are_compared_in_good_time() -> None:
    before, after = ("ab\n" * 20_000).splitlines(keepends=True), ("ab\n" * 20_000).splitlines(keepends=True)
    before[100], after[9_000] = "x\n", "y\n"
    began = time.perf_counter()
    pieces = words("".join(before), "".join(after))
    assert time.perf_counter() - began < 5
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == "".join(before)
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == "".join(after)
    assert pieces[0].kind == pieces[-1].kind == "same"
