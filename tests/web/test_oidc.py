"""Logging in at an identity provider: as whom it says, if it is the one that was meant and says it to us, now."""

import time
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hitl_graph.ledger import Ledger, credentials
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.web import create_app
from hitl_graph.web.oidc import Oidc
from hitl_graph.web.security import Security
from hitl_graph.web.throttling import Limits
from hitl_graph.web.visitors import visitor_of
from tests.web.conftest import serving
from tests.web.provider import CLIENT, SECRET, Provider

PAGE = {"accept": "text/html"}
MAIL = {"email": "alice@corp.example", "email_verified": True}


async def _me(request: Request) -> JSONResponse:
    visitor = visitor_of(request)
    return JSONResponse(
        {
            "name": visitor.reviewer.name,
            "roles": sorted(visitor.reviewer.roles),
            "groups": sorted(visitor.reviewer.groups),
            "scopes": sorted(visitor.scopes),
        }
    )


@pytest.fixture(scope="module")
def provider() -> Generator[Provider]:
    made = Provider()
    with serving(made.app) as url:
        made.base = url
        yield made


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    directory = StaticDirectory([Reviewer("alice@corp.example", ["finance"])])
    with Ledger.open(tmp_path_factory.mktemp("oidc") / "agent.db", directory=directory) as opened:
        yield opened


def _serving(ledger: Ledger, provider: Provider, **options: Any) -> Any:
    options = {"people": "*", "client_id": CLIENT, "client_secret": SECRET, "label": "Corp"} | options
    oidc = Oidc(ledger, issuer=options.pop("issuer", provider.base), **options)
    app = create_app(ledger, authenticators=[oidc], security=Security(limits=Limits(logins=None)))
    app.router.routes += [Route("/me", _me)]
    return serving(app)


@pytest.fixture(scope="module")
def inbox(ledger: Ledger, provider: Provider) -> Generator[str]:
    with _serving(ledger, provider, roles="realm_access.roles", groups="groups", admins="role:boss") as url:
        yield url


@pytest.fixture
def client(inbox: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=inbox, headers=PAGE) as made:
        yield made


def _log_in(client: httpx.Client, start: str = "/login/oidc") -> httpx.Response:
    """Go as far as the answer of the inbox to what the provider sent back."""
    away = client.get(start)
    assert away.status_code == 302, away.text
    return client.get(httpx.get(away.headers["location"]).headers["location"])


def test_somebody_logs_in_there_and_is_who_it_says(provider: Provider, client: httpx.Client, ledger: Ledger) -> None:
    provider.behave(**MAIL, realm_access={"roles": ["finance", 7]}, groups=["oncall"])
    page = client.get("/login?next=%2Fme%3Fx%3D1")
    assert 'href="/login/oidc?next=%2Fme%3Fx%3D1"' in page.text.replace("/me%3F", "%2Fme%3F")
    assert "Log in with Corp" in page.text
    back = _log_in(client, "/login/oidc?next=%2Fme%3Fx%3D1")
    assert (back.status_code, back.headers["location"]) == (303, "/me?x=1")
    assert client.get("/me").json() == {
        "name": "alice@corp.example",
        "roles": ["finance"],
        "groups": ["oncall"],
        "scopes": ["decide", "read"],
    }
    [asked] = provider.asked
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert len(asked["nonce"]) >= 20
    assert len(asked["state"]) >= 20
    assert SECRET not in str(asked)
    [session, *_] = ledger.read(credentials.listed, ledger.now_ms(), kinds=["session"])
    assert session.identity.via == "oidc"
    assert ledger.verify_audit().problem is None


def test_roles_come_from_the_claims_alone(provider: Provider, client: httpx.Client) -> None:
    provider.behave(**MAIL, realm_access={"roles": []})  # the directory has her as finance; the provider is asked
    _log_in(client)
    assert client.get("/me").json()["roles"] == []
    provider.behave(**MAIL, realm_access={"roles": "boss"})
    _log_in(client)
    assert client.get("/me").json()["scopes"] == ["admin", "decide", "read"]


def test_what_the_token_lacks_is_asked_of_the_provider(provider: Provider, client: httpx.Client) -> None:
    provider.behave()
    provider.userinfo = {**MAIL, "groups": ["oncall"]}
    assert _log_in(client).status_code == 303
    assert client.get("/me").json()["groups"] == ["oncall"]
    provider.behave()
    provider.userinfo = {**MAIL, "sub": "somebody else"}
    assert _log_in(client).status_code == 403


@pytest.mark.parametrize(
    "lies",
    [
        {"signed": "none"},
        {"signed": "HS256"},
        {"signed": "other key"},
        {"signed": "changed"},
        {"no id token": True},
        {"claims": {"iss": "https://evil.example"}},
        {"claims": {"aud": "another client"}},
        {"claims": {"aud": [CLIENT, "another client"], "azp": "another client"}},
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        {"claims": {"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}},
        {"claims": {"iat": int(time.time()) + 3600}},
        {"claims": {"sub": None}},
        {"answer": {"code": "forged"}},
        {"answer": {"state": "forged"}},
        {"answer": {"iss": "https://evil.example"}},
        {"answer": {"error": "access_denied", "error_description": "<script>alert(1)</script>"}},
        {"claims": {"email": "alice@corp.example", "email_verified": False}},
        {"claims": {"email": "alice@corp.example", "email_verified": None}},
        {"claims": {"email": None}},
        {"claims": {"email": "  "}},
        {"claims": {"email": ["alice@corp.example"]}},
        {"claims": {"email": "anonymous"}},
    ],
)
def test_what_cannot_be_trusted_lets_nobody_in(provider: Provider, client: httpx.Client, lies: dict[str, Any]) -> None:
    provider.behave(**MAIL)
    provider.lies = lies
    refused = _log_in(client)
    assert refused.status_code == 403
    assert "Nobody was logged in" in refused.text
    assert "<script>alert" not in refused.text
    assert client.get("/me").status_code == 303


def test_an_answer_counts_once_and_only_in_the_browser_that_asked(provider: Provider, client: httpx.Client) -> None:
    provider.behave(**MAIL)
    answer = httpx.get(client.get("/login/oidc").headers["location"]).headers["location"]
    with httpx.Client(headers=PAGE) as victim:  # whom an attacker sends the answer to their own login
        assert victim.get(answer).status_code == 403
    assert client.get(answer).status_code == 303
    assert client.get(answer).status_code == 403
    forged = httpx.Cookies({name: value for name, value in client.cookies.items() if "session" in name})
    assert httpx.get(answer, cookies=forged, headers=PAGE).status_code == 403


def test_the_login_there_leads_nowhere_else(provider: Provider, client: httpx.Client) -> None:
    provider.behave(**MAIL)
    for wanted in ("//evil.example", "https%3A%2F%2Fevil.example", "%2F%5Cevil.example"):
        assert _log_in(client, f"/login/oidc?next={wanted}").headers["location"] == "/"
    assert urlsplit(provider.asked[0]["redirect_uri"]).netloc == client.base_url.netloc.decode()


def test_another_host_name_is_never_where_the_provider_sends_people(client: httpx.Client) -> None:
    assert client.get("/login/oidc", headers={"host": "evil.example"}).status_code == 400


def test_only_the_configured_issuer_counts(provider: Provider, ledger: Ledger) -> None:
    for lies in ({"issuer": "https://evil.example"}, {"down": True}):
        provider.behave(**MAIL)
        provider.lies = lies
        with _serving(ledger, provider) as url:
            refused = httpx.get(f"{url}/login/oidc", headers=PAGE)
            assert refused.status_code == 503
            assert "cannot be reached now" in refused.text
    with pytest.raises(ValueError, match="https"):
        Oidc(ledger, issuer="http://idp.example", client_id="x", client_secret=None, people="*")
    with pytest.raises(ValueError, match="openid"):
        Oidc(ledger, issuer="https://idp.example", client_id="x", client_secret=None, people="*", ask_for="email")


def test_not_everybody_whom_the_provider_knows_may_come_in(provider: Provider, ledger: Ledger) -> None:
    provider.behave(**MAIL)
    for people, status in (
        ("role:finance", 303),  # by the directory, as no claim has the roles
        ("role:support", 403),
        (lambda claims: claims["email"].endswith("@corp.example"), 303),
        (lambda claims: claims.get("hd"), 403),
    ):
        with _serving(ledger, provider, people=people) as url, httpx.Client(base_url=url, headers=PAGE) as client:
            answer = _log_in(client)
            assert answer.status_code == status
            if status == 403:
                assert "may not use this inbox" in answer.text
            else:
                assert client.get("/me").json()["roles"] == ["finance"]


def test_a_login_link_still_works_beside_it(ledger: Ledger, client: httpx.Client) -> None:
    who = credentials.Identity("alice")
    link = ledger.write(credentials.issue, ledger.now_ms(), "link", who, by="ops", lifetime=credentials.LINK)[0]
    assert client.post(f"/login/{link}").status_code == 303
