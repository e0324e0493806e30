"""A real inbox on a real port, and a real browser."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Generator[str]:
    """The address at which an ASGI application is served by a real server, in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(
        app, log_level="warning", lifespan="on", ws="none", timeout_graceful_shutdown=1, **options
    )  # fmt: skip
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def hidden(page: str) -> dict[str, str]:
    """What the forms of a page carry along."""
    return dict(re.findall(r'name="(csrf|digest|version)" value="([^"]+)"', page))


@pytest.fixture
def visit(browser: Browser) -> Generator[Callable[..., Page]]:
    """Opens a page as somebody: `visit(url, "alice", viewport=..., java_script_enabled=False, color_scheme="dark")`."""
    with contextlib.ExitStack() as stack:

        def opened(url: str, who: str | None = None, **options: Any) -> Page:
            headers = {"x-forwarded-user": who} if who else {}
            context = browser.new_context(extra_http_headers=headers, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.goto(url)
            return page

        yield opened
