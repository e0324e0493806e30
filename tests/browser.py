"""A real browser, the chromium of the machine, and where its screenshots go. One for all tests of a process."""

import asyncio
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

__all__ = ["browser", "shots", "show_loop"]

_LOOPS = list[asyncio.AbstractEventLoop]()

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *_NAMES))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Generator[Browser]:
    if CHROMIUM is None:
        missing = "no Chromium here (Debian: apt-get install chromium; or name it with CHROMIUM=...)"
        pytest.fail(missing, pytrace=False) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        _LOOPS.append(asyncio.get_running_loop())
        yield chromium
        asyncio._set_running_loop(_LOOPS.pop())
        chromium.close()


def show_loop(item: pytest.Item) -> None:
    """Before each test: Playwright's event loop runs for tests with a browser; to the others no loop runs.

    It stops in the middle whenever a test goes on, and asyncio would run no other loop in this thread.
    """
    if _LOOPS:
        asyncio._set_running_loop(_LOOPS[0] if "browser" in getattr(item, "fixturenames", ()) else None)


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are kept, to be looked at."""
    folder = Path(os.environ.get("HITL_SHOTS", "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
