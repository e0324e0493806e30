"""The inbox as a part of another application: of a FastAPI one, and of a real `langgraph dev`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.ledger.credentials import LINK, Identity, issue
from hitl_graph.model import Action, Request, request_id
from hitl_graph.web import create_app
from hitl_graph.web.visitors import HostUser
from tests.test_studio import Server, pause, status
from tests.web.conftest import serving


class ByHeader(AuthenticationBackend):
    """How the host knows people; this one believes everybody."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("x-user")
        return (AuthCredentials(), _User(name)) if name else None


class _User(SimpleUser):
    roles = ("finance",)

    @property
    def identity(self) -> str:
        return self.username


def asked(ledger: Ledger) -> Request:
    own, pay = request_id("t", "i"), Action(name="pay", args={"eur": 5})
    request = Request(id=own, kind="approval", thread_id="t", interrupt_id="i", action=pay)
    ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id=None, task_id=None, parked=1)
    return request


def _hidden(page: str) -> dict[str, str]:
    """What the forms of a page carry along."""
    return dict(re.findall(r'name="(csrf|digest|version)" value="([^"]+)"', page))


def test_mounted_into_fastapi_it_knows_the_users_of_its_host(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "agent.db") as ledger:
        request = asked(ledger)
        host = FastAPI()
        host.add_middleware(AuthenticationMiddleware, backend=ByHeader())
        host.mount("/desk/inbox", create_app(ledger, authenticators=[HostUser()]))

        @host.get("/hello")
        def hello() -> str:
            return "the application's own"

        with serving(host) as url, httpx.Client(base_url=url, follow_redirects=True) as client:
            assert client.get("/hello").json() == "the application's own"
            stranger = client.get("/desk/inbox/")
            assert str(stranger.url).startswith(f"{url}/desk/inbox/login")
            alice = {"x-user": "alice"}
            page = client.get("/desk/inbox/", headers=alice)
            assert (page.status_code, "pay" in page.text) == (200, True)
            for address in re.findall(r'(?:href|src|action)="([^"#?]+)', page.text):
                assert address.startswith("/desk/inbox/"), address
                assert client.get(address, headers=alice).status_code in (200, 405), address
            me = client.get("/desk/inbox/api/v1/me", headers=alice).json()
            assert me["roles"] == ["finance"]
            card = client.get(f"/desk/inbox/requests/{request.id}", headers=alice)
            form = {**_hidden(card.text), "answer": "approve"}
            to = f"/desk/inbox/requests/{request.id}/decide"
            done = client.post(to, headers={**alice, "origin": url}, data=form)
            assert done.status_code == 200, done.text
            assert (Inbox(ledger).get(request.id).reviewer, Inbox(ledger).get(request.id).channel) == ("alice", "web")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def browser(server: Server, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has logged in by a link."""
    with Ledger.open(server.db) as ledger:
        secret, _ = ledger.write(issue, ledger.now_ms(), "link", Identity(name), by=name, lifetime=LINK)
    async with httpx.AsyncClient(base_url=f"{server.url}/inbox", follow_redirects=True) as client:
        page = await client.get(f"/login/{secret}")
        form = dict(re.findall(r'name="(csrf|next)" value="([^"]*)"', page.text))
        assert (await client.post(f"/login/{secret}", data=form)).status_code == 200
        yield client


@pytest.mark.slow
async def test_inside_langgraph_dev_it_lets_in_by_itself_and_the_server_carries_out(server: Server) -> None:
    order = uuid4().hex
    async with server.client() as client, browser(server, "alice") as alice, httpx.AsyncClient() as stranger:
        thread, _ = await pause(client, f"answer 1: {order}")
        for path in ("/", "/api/v1/requests", "/account"):
            answer = await stranger.get(f"{server.url}/inbox{path}")
            assert answer.status_code in (303, 401), path
            assert order not in answer.text
        assert str((await alice.get("/")).url) == f"{server.url}/inbox/"
        [listed] = (await alice.get("/api/v1/requests", params={"thread_id": thread})).json()["requests"]
        card = await alice.get(f"/requests/{listed['id']}")
        assert order in card.text
        form = {**_hidden(card.text), "answer": "approve"}
        done = await alice.post(f"/requests/{listed['id']}/decide", data=form, headers={"origin": server.url})
        assert done.status_code == 200, done.text
        async with asyncio.timeout(30):
            while await status(client, thread) != "idle":  # noqa: ASYNC110 - another process tells nothing
                await asyncio.sleep(0.05)
        assert [body.replace(order, "").strip() for body in server.bodies(order)] == [""]
    said = [json.dumps(record) for record in server.records()]
    assert any("its own API answers anybody" in line for line in said), "an open server is warned about"
    assert not any("Blocking" in line for line in said)
