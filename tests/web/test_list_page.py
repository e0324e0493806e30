"""The list of what waits: finding, watching, selecting and deciding several at once, by people in a browser."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.testclient import TestClient

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, approve, reject, request_id
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.storage import Transaction
from hitl_graph.terms import Stage, Terms, Turn
from hitl_graph.web import create_app
from hitl_graph.web.visitors import TrustedProxy
from tests.web.axe import found
from tests.web.conftest import serving

Visiting = Callable[..., Page]
PEOPLE = StaticDirectory(
    [Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("carol", []), Reviewer("dave", [])]
)
PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True,
}  # fmt: skip
NASTY = "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'>\u202egpj.\u200bexe"


@dataclass
class Desk:
    """An inbox on a port, and what is asked in it."""

    url: str
    ledger: Ledger
    asked: int = 0
    began: int = field(default_factory=lambda: int(time.time() * 1000) - 3_600_000)

    @property
    def inbox(self) -> Inbox:
        return Inbox(self.ledger)

    def made(self, name: str = "send_email", args: dict[str, Any] | None = None, **more: Any) -> Request:
        self.asked += 1
        thread, interrupt = more.pop("thread_id", f"thread-{self.asked}"), f"{self.asked:032x}"
        if more.setdefault("kind", "approval") == "approval":
            more["action"] = Action(name=name, args=args or {"to": f"client{self.asked}@corp.example"})
        return Request(id=request_id(thread, interrupt), thread_id=thread, interrupt_id=interrupt, **more)

    def ask(self, *args: Any, **more: Any) -> Request:
        made = self.made(*args, **more)
        self.open([made])
        return made

    def open(self, made: Sequence[Request]) -> None:
        def work(tx: Transaction) -> None:
            for request in made:
                self.began += 1000
                requests.open_request(tx, self.began, request, checkpoint_id="c", task_id="k", parked=1)

        self.ledger.write(work)

    def clear(self) -> None:
        def work(tx: Transaction) -> None:
            for request in requests.pending(tx, limit=None):
                requests.close(tx, self.ledger.now_ms(), request, "cancelled", "the test is over")

        self.ledger.write(work)

    def state(self, request: Request) -> Request:
        return self.inbox.get(request.id)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk]:
    with Ledger.open(tmp_path_factory.mktemp("list") / "inbox.db", directory=PEOPLE) as ledger:
        app = create_app(ledger, authenticators=[TrustedProxy(proxies=["127.0.0.1/32"], directory=PEOPLE)])
        with serving(app) as url:
            yield Desk(url, ledger)


@pytest.fixture
def desk(served: Desk) -> Generator[Desk]:
    yield served
    served.clear()


def rows(page: Page) -> list[str]:
    page.wait_for_load_state()
    return page.locator("#rows > li .row-what").all_inner_texts()


def ids(page: Page) -> list[str]:
    return [str(row.get_attribute("data-id")) for row in page.locator("#rows > li").all()]


def clean(page: Page, shots: Path, name: str) -> None:
    """Keeps a picture; nothing for axe to find, nothing wider than the screen."""
    page.screenshot(path=shots / f"list-{name}.png")
    assert found(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the screen"


# --- looking ----------------------------------------------------------------------------------------------------------


def test_a_row_says_what_will_happen_why_who_and_when(desk: Desk, visit: Visiting, shots: Path) -> None:
    soon = desk.ledger.clock() + timedelta(minutes=40)
    terms = Terms(stages=(Stage(reviewers=("role:finance",), quorum=2),), schedule=(Turn(at=soon, then="reject"),))
    pay = desk.ask(
        "pay", {"eur": 250, "to": "bob"}, thread_id="order-7", reason="more than 100", risk="high", terms=terms
    )
    desk.inbox.decide(pay.id, approve(), reviewer=PEOPLE("alice") or "")
    desk.inbox.claim(desk.ask("send_email", {"to": "x"}).id, reviewer="carol")
    desk.ask(kind="question", question={"question": "Which address?"}, allowed=("respond", "reject"))
    page = visit(desk.url, "bob")
    first = page.locator("#rows > li").first
    for text in ("pay(eur=250", "order-7", "more than 100", "high risk", "role:finance", "1 of 2", "rejected in 39m"):
        expect(first).to_contain_text(text)
    expect(page.locator("#rows > li").nth(1)).to_contain_text("carol has it for 14m")
    expect(page.locator("#rows > li").nth(2)).to_contain_text("Asks")
    expect(page.locator("#count")).to_have_text("3 wait")
    clean(page, shots, "desktop")
    page.get_by_role("link", name="For me").click()
    assert len(rows(page)) == 2  # the one that carol has is left out
    assert page.url.endswith("?who=mine")


def test_the_look_on_a_phone_and_in_the_dark(desk: Desk, visit: Visiting, shots: Path) -> None:
    for _ in range(3):
        desk.ask(
            "send_email",
            {"to": "a" * 80, "subject": "word " * 40},
            thread_id="t" * 90,
            reason="because " * 20,
            risk="medium",
        )
    for name, options in {
        "phone": PHONE,
        "dark": {"color_scheme": "dark"},
        "phone-dark": {**PHONE, "color_scheme": "dark"},
    }.items():
        page = visit(desk.url, "alice", **options)
        page.locator("#rows > li input").first.check()
        clean(page, shots, name)


def test_where_nothing_waits_the_page_says_what_to_do(desk: Desk, visit: Visiting, shots: Path) -> None:
    page = visit(desk.url, "alice")
    expect(page.get_by_role("heading", name="Nothing waits for a person")).to_be_visible()
    clean(page, shots, "empty")
    page.goto(f"{desk.url}/?q=nowhere&kind=review")
    expect(page.get_by_role("heading", name="Nothing that waits fits")).to_be_visible()
    clean(page, shots, "nothing-fits")


def test_filters_are_the_address_with_and_without_scripts(desk: Desk, visit: Visiting, shots: Path) -> None:
    desk.ask("pay", {"eur": 5}, risk="high")
    desk.ask("pay", {"eur": 7}, reason="a rare word: aardvark")
    desk.ask("send_email")
    page = visit(desk.url, "alice")
    page.get_by_label("Search").press_sequentially("aardv")
    expect(page.locator("#rows > li")).to_have_count(1)
    assert page.url.endswith("/?q=aardv")
    page.get_by_label("Search").fill("")
    expect(page.locator("#rows > li")).to_have_count(3)
    page.get_by_label("Tool").select_option("pay")
    expect(page.locator("#rows > li")).to_have_count(2)
    page.get_by_label("Risk").select_option("high")
    expect(page.locator("#rows > li")).to_have_count(1)
    assert page.url.endswith("/?tool=pay&risk=high")
    clean(page, shots, "filtered")
    page.get_by_role("link", name="Without the filter High risk").click()
    expect(page.locator("#rows > li")).to_have_count(2)
    page.go_back()
    expect(page.locator("#rows > li")).to_have_count(1)
    plain = visit(page.url, "alice", java_script_enabled=False)
    assert rows(plain) == ["pay(eur=5)"]
    plain.get_by_label("Risk").select_option("")
    plain.get_by_label("Order").select_option("newest")
    plain.get_by_role("button", name="Show").click()
    expect(plain.locator("#rows > li")).to_have_count(2)
    assert rows(plain) == ["pay(eur=7)", "pay(eur=5)"]


def test_pages_lead_through_all_that_waits_and_back(desk: Desk, visit: Visiting) -> None:
    desk.open([desk.made("pay", {"eur": number}) for number in range(120)])
    page = visit(desk.url, "alice", java_script_enabled=False)
    seen = [rows(page)]
    while page.locator("a[rel=next]").count():
        page.locator("a[rel=next]").click()
        seen.append(rows(page))
    assert [text for part in seen for text in part] == [f"pay(eur={number})" for number in range(120)]
    back = [rows(page)]
    while page.locator("a[rel=prev]").count():
        page.locator("a[rel=prev]").click()
        back.append(rows(page))
    assert [len(part) for part in seen] == [50, 50, 20]
    assert back == seen[::-1]
    page.goto(f"{desk.url}/?after=abc123")
    assert rows(page) == seen[0]


def test_saved_views_are_ones_own(desk: Desk, visit: Visiting, shots: Path) -> None:
    desk.ask("pay", {"eur": 5})
    page = visit(f"{desk.url}/?tool=pay", "alice")
    page.get_by_text("Save view").click()
    page.get_by_label("Name").fill(NASTY[:50])
    clean(page, shots, "save-view")
    page.get_by_role("button", name="Save").click()
    tab = page.locator(".tabs a").nth(2)
    expect(tab).to_have_attribute("aria-current", "page")
    page.get_by_text("This view").click()
    page.get_by_label("New name").fill("Payments")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".tabs a").nth(2)).to_have_text("Payments")
    page.goto(f"{desk.url}/?kind=review")
    page.get_by_text("Save view").click()
    page.get_by_label("Name").fill("Payments")
    page.get_by_role("button", name="Save").click()
    assert page.locator(".tabs a").all_inner_texts() == ["All", "For me", "Payments"]
    assert page.url.endswith("?kind=review")
    assert visit(desk.url, "bob").locator(".tabs a").all_inner_texts() == ["All", "For me"]
    page.get_by_text("This view").click()
    page.get_by_role("button", name="Delete the view").click()
    assert page.locator(".tabs a").all_inner_texts() == ["All", "For me"]
    assert page.url == f"{desk.url}/"


def test_what_a_model_wrote_is_shown_as_text(desk: Desk, visit: Visiting, shots: Path) -> None:
    desk.ask(NASTY, {NASTY: NASTY, "link": "javascript:alert(1)"}, thread_id=NASTY, reason=NASTY)
    desk.ask(kind="review", draft=NASTY, thread_id="javascript:alert(1)", reason=NASTY)
    desk.ask(kind="question", question={"question": NASTY}, thread_id="q")
    page = visit(desk.url, "alice")
    assert page.locator("#rows > li").count() == 3
    assert page.locator("main script, main img").count() == 0
    assert not {"\u202e", "\u200b"} & set(page.locator("body").inner_text())
    assert r"\u202egpj.\u200bexe" in page.locator("#rows > li").first.inner_text()
    clean(page, shots, "nasty")
    page.locator("#rows .thread").first.click()
    assert len(rows(page)) == 1
    page.locator("#search").fill(NASTY)
    page.wait_for_url("**/*q=*")
    page.goto(page.url)
    for box in page.locator("#rows input").all():
        box.check()
    page.goto(f"{desk.url}/bulk?word=approve&" + "&".join(f"pick={row.id}" for row in desk.ledger.pending_rows()))
    clean(page, shots, "nasty-bulk")
    assert page.locator("main script, main img").count() == 0
    assert "owned" not in page.title()


def carols(app: Starlette) -> TestClient:
    headers = {"x-forwarded-user": "carol"}
    return TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1), headers=headers)


def test_people_who_see_only_what_concerns_them_see_no_more_in_the_list(desk: Desk) -> None:
    own = desk.ask("refund", terms=Terms(stages=(Stage(reviewers=("carol",)),)))
    other = desk.ask("wire", terms=Terms(stages=(Stage(reviewers=("role:finance",)),)))
    proxy = TrustedProxy(proxies=["127.0.0.1/32"], directory=PEOPLE)
    app = create_app(desk.ledger, authenticators=[proxy], sees="mine")
    with carols(app) as carol:
        for address in ("/", "/?who=role:finance", f"/?q={other.id}", "/?tool=wire", f"/?thread={other.thread_id}"):
            page = carol.get(address).text
            assert f'id="r-{other.id}"' not in page
            assert 'value="role:finance">' not in page
            assert (f'id="r-{own.id}"' in page) == (address == "/")
        bulk = carol.get(f"/bulk?word=reject&pick={own.id}&pick={other.id}").text
        assert own.digest in bulk
        assert other.digest not in bulk
        assert "wire" not in bulk


ODD = [
    "/?kind=nothing", "/?risk=%00", "/?q=%ff%00%ed%a0%80", "/?age=over-9y&sort=sideways", "/?after=%27--",
    "/?before=zz", f"/?q={'x' * 2000}", "/?thread=%E2%80%AE", "/bulk?pick=../x&word=approve", "/bulk?word=edit&pick=ab",
]  # fmt: skip


@pytest.mark.parametrize("address", ODD)
def test_an_address_that_makes_no_sense_breaks_nothing(desk: Desk, address: str) -> None:
    app = create_app(desk.ledger, authenticators=[TrustedProxy(proxies=["127.0.0.1/32"], directory=PEOPLE)])
    with carols(app) as carol:
        assert carol.get(address).status_code == 200


# --- the keyboard -----------------------------------------------------------------------------------------------------


def test_all_of_it_with_the_keyboard_alone(desk: Desk, visit: Visiting, shots: Path) -> None:
    asked = [desk.ask("pay", {"eur": number}) for number in range(3)]
    page = visit(desk.url, "alice")
    focused = "document.activeElement.closest('#rows > li')?.dataset.id"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == asked[1].id
    page.screenshot(path=shots / "list-keyboard.png")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")  # there is none below
    assert page.evaluate(focused) == asked[2].id
    expect(page.locator("#picked")).to_have_text("2 selected")
    page.keyboard.press("k")
    assert page.evaluate(focused) == asked[1].id
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    clean(page, shots, "help")
    page.keyboard.press("j")  # means nothing in there
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("ajx")  # letters, not shortcuts
    assert page.locator("#search").input_value() == "ajx"
    page.keyboard.press("Escape")
    page.locator("#search").fill("")
    expect(page.locator("#rows > li")).to_have_count(3)
    page.keyboard.press("Escape")
    page.keyboard.press("Control+j")
    assert page.evaluate(focused) is None
    page.keyboard.press("j")
    page.keyboard.press("a")
    page.wait_for_url(f"**/requests/{asked[0].id}#approve")
    assert desk.state(asked[0]).state == "pending"  # the key opened it; it answered nothing
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url(f"{desk.url}/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/requests/{asked[0].id}")


def test_single_key_shortcuts_can_be_turned_off(desk: Desk, visit: Visiting) -> None:
    desk.ask()
    page = visit(desk.url, "alice")
    page.keyboard.press("?")
    page.get_by_label("Single-key shortcuts are on").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.keyboard.press("j")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.evaluate("document.activeElement === document.body")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Single-key shortcuts are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('a.open')")


# --- several at once --------------------------------------------------------------------------------------------------


def several(desk: Desk) -> dict[str, Request]:
    finance = Terms(stages=(Stage(reviewers=("role:finance",)),))
    made = {
        "mail": desk.ask("send_email", {"to": "anna@corp.example", "body": "word " * 60}),
        "branch": desk.ask("delete_branch", {"name": "old"}),
        "high": desk.ask("wire", {"eur": 9}, risk="high"),
        "draft": desk.ask(kind="review", draft="Dear all"),
        "question": desk.ask(kind="question", question={"question": "Which?"}, allowed=("respond", "reject")),
        "edit": desk.ask("publish", {"at": "?"}, allowed=("edit", "reject")),
        "foreign": desk.ask("refund", {"eur": 1}, terms=finance),
        "taken": desk.ask("pay", {"eur": 2}),
    }
    desk.inbox.claim(made["taken"].id, reviewer="bob")
    return made


REASONS = {
    "high": "High risk",
    "draft": "A draft",
    "question": "It takes an answer of its own",
    "edit": "cannot be approved as it is",
    "foreign": "You may not decide it",
    "taken": "bob has it in hand",
}


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_several_are_approved_after_a_page_that_says_what_will_happen(
    desk: Desk, visit: Visiting, shots: Path, scripts: bool
) -> None:
    made = several(desk)
    page = visit(desk.url, "carol", java_script_enabled=scripts)
    for box in page.locator("#rows input").all():
        box.check()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Approve 2 requests?")
    taken = page.locator("form .many")
    for text in ("send_email", "anna@corp.example", "delete_branch", "old", made["mail"].digest[:12]):
        expect(taken).to_contain_text(text)
    left = page.get_by_role("region", name="Left out").locator("li").all_inner_texts()
    assert len(left) == len(REASONS)
    assert all(reason in text for reason, text in zip(REASONS.values(), left, strict=True))
    assert all(desk.state(request).state == "pending" for request in made.values())
    if scripts:
        clean(page, shots, "bulk")
    page.get_by_label("Comment").fill("looked at both")
    page.get_by_role("button", name="Approve these").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Approved: 2")
    for name, request in made.items():
        after = desk.state(request)
        assert (after.state, after.reviewer) == (
            ("decided", "carol") if name in ("mail", "branch") else ("pending", None)
        )
    decided = desk.state(made["mail"])
    assert decided.decision is not None
    assert (decided.channel, decided.decision.message) == ("web", "looked at both")
    assert [viewer.reviewer for viewer in desk.inbox.viewers(made["mail"].id)] == ["carol"]
    assert desk.inbox.viewers(made["high"].id) == []
    if scripts:
        clean(page, shots, "bulk-done")


def test_several_are_rejected_and_each_that_changed_says_so(desk: Desk, visit: Visiting, shots: Path) -> None:
    one, two, three, draft = desk.ask(), desk.ask(), desk.ask(), desk.ask(kind="review", draft="Dear all")
    four = desk.ask("refund", {"eur": 1}, terms=Terms(stages=(Stage(quorum=2),), rejects=2))
    page = visit(desk.url, "carol")
    for box in page.locator("#rows input").all():
        box.check()
    page.get_by_role("button", name="Reject 5…").click()
    page.locator(f'input[name="pick"][value="{three.id}"]').uncheck()
    page.get_by_label("Reason").fill("not today")
    desk.inbox.decide(two.id, approve(), reviewer="bob")
    desk.inbox.decide(four.id, reject("no"), reviewer="dave")
    page.get_by_role("button", name="Reject these").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 of 4 rejected")
    told = page.locator(".many > li").all_inner_texts()
    assert "It is approved by bob already" in told[0]
    assert "It changed while you looked" in told[1]
    assert [desk.state(request).reviewer for request in (one, two, three, draft, four)] == [
        "carol",
        "bob",
        None,
        "carol",
        None,
    ]
    assert (desk.state(one).decision, desk.state(four).state) == (reject("not today"), "pending")
    clean(page, shots, "bulk-changed")


FORGE = """fields => { for (const [name, value] of Object.entries(fields)) {
    const field = Object.assign(document.createElement("input"), {name, value});
    document.querySelector("form[data-send]").append(field); } }"""


def test_a_forged_bulk_form_decides_nothing_that_the_page_would_leave_out(desk: Desk, visit: Visiting) -> None:
    made = several(desk)
    page = visit(f"{desk.url}/bulk?word=approve&pick={made['mail'].id}", "carol")
    for name in ("high", "draft", "foreign", "taken"):
        item = made[name]
        page.evaluate(FORGE, {"pick": item.id, f"digest-{item.id}": item.digest, f"version-{item.id}": "x"})
    page.get_by_role("button", name="Approve it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 5 approved")
    assert {name for name, request in made.items() if desk.state(request).state != "pending"} == {"mail"}


def test_an_answer_that_gets_lost_is_looked_up_and_not_sent_twice(desk: Desk, visit: Visiting, shots: Path) -> None:
    request = desk.ask()
    page = visit(f"{desk.url}/bulk?word=approve&pick={request.id}", "carol")
    sent: list[str] = []

    def lose(route: Any) -> None:
        sent.append(route.request.url)
        if len(sent) > 1:
            route.fetch()  # it arrives; its answer does not
        route.abort("connectionreset")

    page.context.set_offline(True)
    page.get_by_label("Comment").fill("typed once")
    page.get_by_role("button", name="Approve it").click()
    expect(page.locator("form .sent")).to_contain_text("Nothing was sent")
    page.screenshot(path=shots / "list-offline.png")
    page.context.set_offline(False)
    page.route("**/bulk", lose)
    page.get_by_role("button", name="Approve it").click()  # does not arrive
    expect(page.locator("form .sent")).to_contain_text("It may have been recorded, or not")
    expect(page.get_by_role("button", name="Approve it")).to_be_disabled()
    page.get_by_role("button", name="Check what happened").click()
    expect(page.locator("form .sent")).to_contain_text("It was not recorded")
    assert page.get_by_label("Comment").input_value() == "typed once"
    page.get_by_role("button", name="Approve it").click()  # arrives
    page.get_by_role("button", name="Check what happened").click()
    expect(page.locator("main")).to_contain_text("It is approved by carol already")
    assert len(sent) == 2
    decided = desk.state(request).decision
    assert decided is not None
    assert decided.message == "typed once"


# --- while one looks --------------------------------------------------------------------------------------------------

FOCUSED = "document.activeElement.closest('#rows > li')?.dataset.id"


def live(page: Page) -> Page:
    expect(page.locator("#live")).to_have_text("Live")
    return page


def test_what_comes_and_goes_is_seen_and_takes_nothing_away(desk: Desk, visit: Visiting, shots: Path) -> None:
    asked = [desk.ask("pay", {"eur": number}) for number in range(4)]
    page = live(visit(desk.url, "alice"))
    page.locator("#rows input").nth(3).check()
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert page.evaluate(FOCUSED) == asked[1].id
    desk.inbox.decide(asked[0].id, approve(), reviewer="bob")
    new = desk.ask("pay", {"eur": 4})
    expect(page.locator(f"#r-{new.id}")).to_be_visible()
    assert ids(page) == [asked[1].id, asked[2].id, asked[3].id, new.id]
    expect(page.locator(f"#r-{new.id}")).to_have_class("fresh")
    expect(page.locator("#announce")).to_have_text("1 new request")
    expect(page.locator("#count")).to_have_text("4 wait")
    assert page.evaluate(FOCUSED) == asked[1].id
    expect(page.locator(f"#r-{asked[3].id} input")).to_be_checked()
    desk.inbox.decide(asked[1].id, approve(), reviewer="bob")
    row = page.locator(f"#r-{asked[1].id}")
    expect(row).to_contain_text("decided by bob")
    assert page.evaluate(FOCUSED) == asked[1].id
    clean(page, shots, "gone")
    page.keyboard.press("a")  # opens nothing any more
    page.keyboard.press("j")
    expect(row).to_have_count(0)
    assert page.evaluate(FOCUSED) == asked[2].id
    assert page.url == f"{desk.url}/"
    for request in (asked[2], asked[3], new):
        desk.inbox.decide(request.id, approve(), reviewer="bob")
    expect(page.locator("#count")).to_have_text("0 wait")
    page.keyboard.press("/")
    expect(page.locator("#rows > li")).to_have_count(0)
    desk.ask("pay", {"eur": 5})
    expect(page.locator("#rows > li")).to_have_count(1)
    assert page.evaluate("document.activeElement.id") == "search"


def test_two_people_see_what_the_other_one_decides(desk: Desk, visit: Visiting) -> None:
    first, second = desk.ask(), desk.ask()
    alice, bob = live(visit(desk.url, "alice")), live(visit(desk.url, "bob"))
    bob.locator("#rows input").first.check()
    bob.get_by_role("button", name="Approve 1…").click()
    bob.get_by_role("button", name="Approve it").click()
    expect(alice.locator("#rows > li")).to_have_count(1)
    assert ids(alice) == [second.id]
    assert desk.state(first).reviewer == "bob"


def test_without_a_connection_the_page_says_so_and_catches_up(desk: Desk, visit: Visiting, shots: Path) -> None:
    desk.ask()
    page = live(visit(desk.url, "alice"))
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    clean(page, shots, "banner")
    desk.ask()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    expect(page.locator("#rows > li")).to_have_count(2)


def test_a_tab_that_nobody_looks_at_asks_for_nothing_and_catches_up(desk: Desk, visit: Visiting) -> None:
    desk.ask()
    page = live(visit(desk.url, "alice"))
    turn = """hidden => { Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange")); }"""
    page.evaluate(turn, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    desk.ask()
    page.wait_for_timeout(3000)
    assert asked == []
    page.evaluate(turn, False)
    expect(page.locator("#rows > li")).to_have_count(2)


WATCH = """() => { window.slowest = 0; let last = performance.now(); setInterval(() => {
    const now = performance.now(); slowest = Math.max(slowest, now - last); last = now; }, 50); }"""


@pytest.mark.slow
def test_a_thousand_arrive_while_one_looks(desk: Desk, visit: Visiting, shots: Path) -> None:
    desk.open([desk.made("pay", {"eur": number}) for number in range(3)])
    page = live(visit(desk.url, "alice"))
    page.evaluate(WATCH)
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if "x-part" in request.headers else None)
    page.keyboard.press("j")
    began = time.monotonic()

    def arrive() -> None:
        for _ in range(100):
            desk.open([desk.made("pay", {"eur": 9}) for _ in range(10)])
            time.sleep(0.1)

    arriving = threading.Thread(target=arrive)
    arriving.start()
    while arriving.is_alive():
        page.wait_for_timeout(200)
    expect(page.locator("#count")).to_have_text("1,003 wait", timeout=15_000)
    took = time.monotonic() - began
    assert page.locator("#rows > li").count() == 50
    expect(page.locator("a[rel=next]")).to_be_visible()
    assert page.evaluate(FOCUSED) is not None
    assert 3 <= len(looks) <= took / 2 + 2
    assert page.evaluate("slowest") < 1000
    assert page.evaluate("performance.memory.usedJSHeapSize") < 50_000_000
    page.screenshot(path=shots / "list-thousand.png")
