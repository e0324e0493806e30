"""The form in a real JupyterLab in a real browser: run the cell, see the card, type, press, see what happened."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.slow

BEGIN = """\
from tests.notebook.agents import *
from hitl_graph.notebook import areview, inbox_widget, review
from hitl_graph.testing import tool_call
bank = Bank()
def bills_of(*bills): return [tool_call("pay", to=to, eur=eur) for to, eur in bills]
"""
XSS = "<img src=x onerror=\"document.title='owned'\">"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture(scope="module")
def opened(lab: tuple[str, Path], browser: Browser) -> Generator[Callable[..., Page]]:
    """Opens a notebook with these cells in JupyterLab and runs them."""
    address, folder = lab
    context = browser.new_context(viewport={"width": 1100, "height": 1000})
    context.set_default_timeout(30_000)
    outside = list[str]()
    context.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else outside.append(r.url))

    def run(name: str, *cells: str) -> Page:
        made: Any = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            metadata=KERNEL,
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
        )
        nbformat.write(made, folder / f"{name}.ipynb")  # type: ignore[no-untyped-call]
        page = context.new_page()
        page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.keyboard.press("Control+b")  # without the list of files
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        return page

    yield run
    assert outside == []  # nobody else is asked for anything
    context.close()


def card(page: Page, number: int = 0) -> Locator:
    """One of the cards that can be answered."""
    return (
        page.locator(".jp-OutputArea .widget-vbox", has=page.get_by_role("button", name="Reject"))
        .locator("visible=true")
        .last
        if number < 0
        else page.locator("css=.hitl").nth(number)
    )


def test_a_person_edits_then_rejects_one_of_two_and_approves_the_other(
    opened: Callable[..., Page], shots: Path
) -> None:
    script = f"[bills_of(('Miller', 4800)), bills_of(({XSS!r}, 1), ('Smith', 2)), {XSS!r}]"
    page = opened(
        "pay",
        BEGIN + f"graph = agent('pay.db', {script}, bank)",
        "run = review(graph, thread(), bills(), reviewer='alice')\nrun",
    )
    expect(page.get_by_text("The agent of thread 1 wants to call pay")).to_be_visible()
    page.screenshot(path=shots / "notebook-card.png")

    page.get_by_label("eur").fill("lots")
    expect(page.get_by_text("'lots' is not a whole number")).to_be_visible()
    page.get_by_label("eur").fill("480")
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    page.screenshot(path=shots / "notebook-edited.png")
    page.get_by_role("button", name="Edit", exact=True).last.click()
    expect(page.get_by_text("Edited by alice, through notebook")).to_be_visible()
    expect(page.get_by_text("4800 → 480")).to_be_visible()

    expect(page.get_by_role("button", name="Reject")).to_have_count(2)
    expect(page.get_by_label("to").first).to_have_value(XSS)
    page.screenshot(path=shots / "notebook-two.png")
    page.get_by_label("Your words").nth(1).fill("not this one")
    page.get_by_role("button", name="Reject").nth(1).click()
    expect(page.get_by_text("Rejected by alice, through notebook")).to_be_visible()
    expect(page.get_by_role("button", name="Reject")).to_have_count(1)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Thread 1 has finished")).to_be_visible()
    page.screenshot(path=shots / "notebook-finished.png")
    assert page.title() != "owned"
    assert page.locator("img[src=x]").count() == 0
    page.close()


def test_all_that_waits_async_and_a_slow_tool_keeps_the_kernel_free(opened: Callable[..., Page], shots: Path) -> None:
    slow = """
import asyncio, threading
going = threading.Event()
class Slow(list):
    def append(self, item):
        going.wait(20); super().append(item)
bank.paid = Slow()
"""
    page = opened(
        "inbox",
        BEGIN + slow + "graph = agent('inbox.db', [bills_of(('Miller', 4800)), 'All done.'], bank, is_async=True)",
        "for name in 'ab': await areview(graph, thread(name), bills(), reviewer='alice')\n"
        "view = inbox_widget(graph, reviewer='alice', use_async=True)\nview",
        "print('free', going.is_set()); going.set()",
    )
    expect(page.get_by_text("2 wait")).to_be_visible()
    page.close()
