"""Who gets in, and that nothing else does."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hitl_graph.ledger import Ledger
from hitl_graph.web import create_app
from hitl_graph.web.headers import CONTENT_SECURITY_POLICY
from hitl_graph.web.visitors import TrustedProxy, visitor_of
from tests.web.conftest import serving

ALICE = {"x-forwarded-user": "alice"}


async def _changes(request: Request) -> JSONResponse:
    async with request.form() as form:
        return JSONResponse({"who": visitor_of(request).reviewer.name, "said": form.get("said")})


async def _looks(request: Request) -> JSONResponse:
    return JSONResponse({"csrf": visitor_of(request).csrf})


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("security") / "agent.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def inbox(ledger: Ledger) -> Generator[str]:
    app = create_app(ledger, authenticators=[TrustedProxy(proxies=["127.0.0.1/32"])])
    app.router.routes += [Route("/changes", _changes, methods=["POST"]), Route("/looks", _looks)]
    with serving(app) as url:
        yield url


@pytest.fixture
def alice(inbox: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=inbox, headers=ALICE) as client:
        yield client


def test_a_form_counts_only_with_the_token_of_the_page(inbox: str, alice: httpx.Client) -> None:
    assert alice.post("/changes", data={"said": "yes"}).status_code == 403
    token = alice.get("/looks").json()["csrf"]
    for wrong in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": token[:-1]}, {"csrf": "ü"}):
        assert alice.post("/changes", data={"said": "yes", **wrong}).status_code == 403
    taken = alice.post("/changes", data={"said": "yes", "csrf": token})
    assert taken.json() == {"who": "alice", "said": "yes"}  # the route reads the form as if nobody had before
    parts = alice.post("/changes", data={"said": "yes", "csrf": token}, files={"file": b"x"})
    assert parts.json() == {"who": "alice", "said": "yes"}
    assert alice.post("/changes", headers={"x-csrf-token": token}, data={"said": "yes"}).json()["said"] == "yes"
    with httpx.Client(base_url=inbox, headers={"x-forwarded-user": "mallory"}) as mallory:
        foreign = mallory.get("/looks").json()["csrf"]
    assert foreign != token
    assert alice.post("/changes", data={"said": "yes", "csrf": foreign}).status_code == 403


@pytest.mark.parametrize(
    "said",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "{own}"},
    ],
)
def test_a_form_of_another_site_does_not_count_even_with_the_token(
    inbox: str, alice: httpx.Client, said: dict[str, str]
) -> None:
    token = alice.get("/looks").json()["csrf"]
    headers = {name: value.format(own=inbox) for name, value in said.items()}
    refused = alice.post("/changes", headers=headers, data={"csrf": token})
    assert refused.status_code == 403
    assert "another page" in refused.text
    own = alice.post("/changes", headers={"origin": inbox}, data={"csrf": token})
    assert own.status_code == 200


def test_strangers_get_no_further_than_to_the_login(inbox: str) -> None:
    for path in ("/", "/requests/abc?x=1&y=//evil", "/changes"):
        page = httpx.get(inbox + path, headers={"accept": "text/html"})
        assert page.status_code == 303
        assert page.headers["location"].startswith("/login?next=%2F")
    for refused in (httpx.post(f"{inbox}/changes"), httpx.get(f"{inbox}/api/v1/requests")):
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["status"] == 401


def test_every_answer_tells_browsers_to_be_careful(inbox: str, alice: httpx.Client) -> None:
    answers: list[Any] = [
        alice.get("/looks"),
        alice.get("/nowhere"),
        alice.post("/changes"),
        alice.get("/static/nothing.css"),
        httpx.get(f"{inbox}/"),
        httpx.get(f"{inbox}/api/v1/requests"),
    ]
    for answer in answers:
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers


def test_without_authenticators_nobody_gets_in(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "agent.db") as ledger, serving(create_app(ledger, authenticators=[])) as url:
        assert httpx.get(f"{url}/", headers=ALICE).status_code == 303
        assert httpx.get(f"{url}/api/v1/requests", headers=ALICE).status_code == 401
