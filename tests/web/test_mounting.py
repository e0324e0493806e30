"""The inbox as a part of another application (of `langgraph dev`: tests/test_server_worker.py)."""

import re
from pathlib import Path

import httpx
from fastapi import FastAPI
from langgraph_sdk.auth.types import StudioUser
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, request_id
from hitl_graph.web import create_app
from hitl_graph.web.visitors import HostUser
from tests.web.conftest import hidden, serving


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
            form = {**hidden(card.text), "answer": "approve"}
            to = f"/desk/inbox/requests/{request.id}/decide"
            done = client.post(to, headers={**alice, "origin": url}, data=form)
            assert done.status_code == 200, done.text
            assert (Inbox(ledger).get(request.id).reviewer, Inbox(ledger).get(request.id).channel) == ("alice", "web")


async def test_whoever_says_to_be_studio_is_nobody() -> None:
    """A server for development lets in whoever sends `x-auth-scheme: langsmith`, without any proof."""
    for user, name in [(StudioUser("langgraph-studio-user", is_authenticated=True), None), (_User("alice"), "alice")]:
        connection = HTTPConnection({"type": "http", "headers": [], "path": "/", "user": user})
        visitor = await HostUser()(connection)
        assert (visitor.reviewer.name if visitor else None) == name
