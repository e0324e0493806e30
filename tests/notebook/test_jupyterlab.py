"""The form in a real JupyterLab in a real browser: run the cell, see the card, type, press, see what happened."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.slow

XSS = "<img src=x onerror=\"document.title='owned'\">"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CELLS = [
    """\
import threading
from tests.notebook.agents import *
from hitl_graph.inbox import Inbox
from hitl_graph.model import reject
from hitl_graph.notebook import areview, inbox_widget, review
from hitl_graph.testing import tool_call

bank = Bank()

def bills_of(*bills):
    return [tool_call("pay", to=to, eur=eur) for to, eur in bills]
""",
    f"""\
script = [bills_of(("Miller", 4800)), bills_of(({XSS!r}, 1), ("Smith", 2)), {XSS!r}]
graph = agent("pay.db", script, bank)
run = review(graph, thread(), bills())
run
""",
    """\
class Slow(list):
    def append(self, item):
        going.wait(20)
        super().append(item)

going, slow = threading.Event(), Bank()
slow.paid = Slow()
waiting = agent("inbox.db", [bills_of(("Miller", 4800)), "All done."], slow, is_async=True)
for name in "ab":
    await areview(waiting, thread(name), bills())
inbox_widget(waiting, use_async=True)
""",
    """\
two = agent("two.db", [bills_of(("Miller", 1)), bills_of(("Smith", 2)), "All done."], bank)
review(two, thread(), bills())
""",
    """\
stale = review(two, thread("stale"), bills())
Inbox(two.checkpointer.ledger).decide(stale.request.id, reject("no"), reviewer="bob", channel="web")
stale
""",
    """\
print("the kernel is free, and paid:", slow.paid)
going.set()
""",
]


@pytest.fixture(scope="module")
def page(lab: tuple[str, Path], browser: Browser) -> Generator[Page]:
    """A notebook of these cells, all but the last one run."""
    address, folder = lab
    made: Any = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        metadata=KERNEL,
        cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS],  # type: ignore[no-untyped-call]
    )
    nbformat.write(made, folder / "bills.ipynb")  # type: ignore[no-untyped-call]
    context = browser.new_context(viewport={"width": 1100, "height": 1000})
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    outside = list[str]()
    context.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else outside.append(r.url))
    page = context.new_page()
    page.goto(f"{address}/lab/tree/bills.ipynb?reset")
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    page.keyboard.press("Control+b")  # without the list of files
    page.locator(".jp-Notebook .cm-content").last.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Above Selected Cell").click()
    expect(output(page, 4).get_by_text("wants to call pay")).to_be_visible()
    yield page
    expect.set_options(timeout=5_000)
    context.close()
    assert outside == []  # nobody else is asked for anything


def output(page: Page, number: int) -> Locator:
    """What a cell has shown."""
    return page.locator(".jp-Notebook .jp-Cell").nth(number).locator(".jp-Cell-outputArea")


def test_edited_then_one_of_two_rejected_and_the_other_approved(page: Page, shots: Path) -> None:
    out = output(page, 1)
    out.screenshot(path=shots / "notebook-card.png")
    out.get_by_label("eur").fill("lots")
    expect(out.get_by_text("'lots' is not a whole number")).to_be_visible()
    out.get_by_label("eur").fill("480")
    expect(out.get_by_role("button", name="Approve")).to_be_disabled()
    out.screenshot(path=shots / "notebook-changed.png")
    out.get_by_role("button", name="Edit").click()
    expect(out.get_by_text("Edited by alice, through notebook")).to_be_visible()
    expect(out.get_by_text("4800 → 480")).to_have_count(1)  # no more on the card, but in what happened

    expect(out.get_by_role("button", name="Reject")).to_have_count(2)
    expect(out.get_by_label("to").first).to_have_value(XSS)  # a text, as it is
    out.screenshot(path=shots / "notebook-two.png")
    out.get_by_label("Your words").nth(1).fill("not this one")
    out.get_by_role("button", name="Reject").nth(1).click()
    expect(out.get_by_text("Rejected by alice, through notebook")).to_be_visible()
    expect(out.get_by_role("button", name="Reject")).to_have_count(1)
    out.get_by_role("button", name="Approve").click()
    expect(out.get_by_text("Thread 1 has finished")).to_be_visible()
    out.screenshot(path=shots / "notebook-finished.png")
    assert out.get_by_text(XSS).count() > 0
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "owned"


def test_the_inbox_goes_on_beside_other_cells(page: Page, shots: Path) -> None:
    out = output(page, 2)
    expect(out.get_by_text("2 wait")).to_be_visible()
    out.get_by_role("listbox").select_option(index=0)
    out.get_by_role("button", name="Approve").click()
    expect(out.get_by_text("Going on ...")).to_be_visible()
    out.screenshot(path=shots / "notebook-inbox.png")
    page.locator(".jp-Notebook .cm-content").last.click()
    page.keyboard.press("Control+Enter")
    expect(output(page, 5).get_by_text("the kernel is free, and paid: []")).to_be_visible()
    expect(out.get_by_text("Thread a has finished")).to_be_visible()
    expect(out.get_by_text("1 waits")).to_be_visible()
    out.screenshot(path=shots / "notebook-inbox-decided.png")


def test_a_double_click_answers_one_question(page: Page) -> None:
    out = output(page, 3)
    out.get_by_role("button", name="Approve").dblclick()
    expect(out.get_by_label("to")).to_have_value("Smith")
    expect(out.get_by_role("button", name="Approve")).to_be_enabled()
    assert out.get_by_text("Approved by alice").count() == 1


def test_what_somebody_else_decided_is_said(page: Page, shots: Path) -> None:
    out = output(page, 4)
    out.get_by_role("button", name="Approve").click()
    expect(out.get_by_text("already decided: reject by bob")).to_be_visible()
    expect(out.get_by_text("Rejected by bob, through web")).to_be_visible()
    expect(out.get_by_label("to")).to_have_value("Smith")  # what is asked after that
    out.screenshot(path=shots / "notebook-decided-elsewhere.png")
