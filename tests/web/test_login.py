"""Logging in by a link, out again, and what lets people and programs in meanwhile."""

import re
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from playwright.sync_api import Page
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hitl_graph.ledger import Ledger, credentials
from hitl_graph.ledger.credentials import Identity, Scope
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.testing import FakeClock
from hitl_graph.web import create_app
from hitl_graph.web.cookies import name_of
from hitl_graph.web.login import place
from hitl_graph.web.security import Security
from hitl_graph.web.sessions import Sessions
from hitl_graph.web.throttling import Limits
from hitl_graph.web.tokens import ApiTokens
from hitl_graph.web.visitors import visitor_of
from tests.web import axe
from tests.web.conftest import serving

PAGE = {"accept": "text/html"}
DIRECTORY = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob")])


async def _me(request: Request) -> JSONResponse:
    visitor = visitor_of(request)
    return JSONResponse({"name": visitor.reviewer.name, "roles": sorted(visitor.reviewer.roles), "how": visitor.how})


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, clock: FakeClock) -> Generator[Ledger]:
    path = tmp_path_factory.mktemp("login") / "agent.db"
    with Ledger.open(path, clock=clock, directory=DIRECTORY) as opened:
        yield opened


@pytest.fixture(scope="module")
def inbox(ledger: Ledger) -> Generator[str]:
    app = create_app(
        ledger,
        authenticators=[ApiTokens(ledger), Sessions(ledger)],
        security=Security(limits=Limits(logins=None, tokens=None)),
    )
    app.router.routes += [Route("/me", _me, methods=["GET", "POST"])]
    with serving(app) as url:
        yield url


@pytest.fixture
def browser_of(inbox: str) -> Generator[httpx.Client]:
    with httpx.Client(base_url=inbox, headers=PAGE) as client:
        yield client


def _secret(
    ledger: Ledger, kind: credentials.Kind, name: str = "alice", scopes: tuple[Scope, ...] = ("read", "decide")
) -> str:
    who, lifetime = Identity(name, scopes=frozenset(scopes)), timedelta(minutes=15)
    return ledger.write(credentials.issue, ledger.now_ms(), kind, who, by="ops", lifetime=lifetime)[0]


def _logged_in(
    client: httpx.Client, ledger: Ledger, name: str = "alice", scopes: tuple[Scope, ...] = ("read", "decide")
) -> str:
    link = f"/login/{_secret(ledger, 'link', name, scopes)}"
    csrf = re.search(r'name="csrf" value="([^"]*)"', client.get(link).text)
    assert csrf is not None
    assert client.post(link, data={"csrf": csrf[1]}).status_code == 303
    [cookie] = [value for name, value in client.cookies.items() if "session" in name]
    return cookie


def _csrf(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/account").text)
    assert found is not None
    return found[1]


def test_a_link_is_used_up_by_the_button_not_by_looking(ledger: Ledger, browser_of: httpx.Client) -> None:
    link = f"/login/{_secret(ledger, 'link')}"
    for _ in range(3):  # as programs do that show what is behind a link
        assert "Log in as alice?" in browser_of.get(link).text
        assert browser_of.head(link).status_code == 200
    assert browser_of.get("/me").status_code == 303
    used = browser_of.post(link, data={"next": "/me?x=%20y"})
    assert (used.status_code, used.headers["location"]) == (303, "/me?x=%20y")
    assert browser_of.get("/me").json() == {"name": "alice", "roles": ["finance"], "how": "session"}
    again = httpx.post(str(browser_of.base_url.join(link)))
    assert again.status_code == 403
    assert "was used already" in again.text
    assert "set-cookie" not in again.headers
    assert httpx.get(str(browser_of.base_url.join(link))).status_code == 403


def test_of_two_browsers_with_one_link_one_gets_in(ledger: Ledger, inbox: str) -> None:
    for _ in range(5):
        link = f"{inbox}/login/{_secret(ledger, 'link')}"
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, url=link: httpx.post(url), range(4)))
        assert sorted(answer.status_code for answer in answers) == [303, 403, 403, 403]
        assert sum("set-cookie" in answer.headers for answer in answers) == 1


def test_a_link_that_is_too_old_or_forged_opens_nothing(ledger: Ledger, inbox: str, clock: FakeClock) -> None:
    old = _secret(ledger, "link")
    clock.advance(timedelta(minutes=15, seconds=1))
    forged = _secret(ledger, "link")[:-2] + "xx"
    for secret in (old, forged, "x", "a" * 5000, _secret(ledger, "session"), _secret(ledger, "token"), "%00", "..%2f"):
        for answer in (httpx.get(f"{inbox}/login/{secret}"), httpx.post(f"{inbox}/login/{secret}")):
            assert answer.status_code in (403, 404)
            assert "set-cookie" not in answer.headers


def test_another_site_cannot_log_somebody_in_or_out(ledger: Ledger, browser_of: httpx.Client) -> None:
    link = f"/login/{_secret(ledger, 'link', 'bob')}"
    foreign = {"origin": "https://evil.example"}
    assert browser_of.post(link, headers=foreign).status_code == 403
    _logged_in(browser_of, ledger)
    assert browser_of.post("/logout", headers=foreign, data={"csrf": _csrf(browser_of)}).status_code == 403
    assert browser_of.post("/logout").status_code == 403
    assert browser_of.get("/me").json()["name"] == "alice"


def test_a_login_gives_a_new_session_and_ends_the_one_before(ledger: Ledger, browser_of: httpx.Client) -> None:
    fixed = "A" * 43
    browser_of.cookies.set(f"hitl_session_{browser_of.base_url.port}", fixed)
    link = f"/login/{_secret(ledger, 'link')}"
    with httpx.Client(base_url=browser_of.base_url, headers=PAGE) as planted:
        planted.cookies.set(f"hitl_session_{browser_of.base_url.port}", fixed)
        answer = planted.post(link)
        assert fixed not in answer.headers["set-cookie"]
    assert browser_of.get("/me").status_code == 303  # whoever planted it has nothing of it
    browser_of.cookies.clear()
    first = _logged_in(browser_of, ledger)
    with httpx.Client(base_url=browser_of.base_url, cookies=dict(browser_of.cookies), headers=PAGE) as copy:
        assert copy.get("/me").status_code == 200
        assert _logged_in(browser_of, ledger) != first
        assert copy.get("/me").status_code == 303


def test_a_logout_ends_the_session_itself(ledger: Ledger, browser_of: httpx.Client) -> None:
    _logged_in(browser_of, ledger)
    with httpx.Client(base_url=browser_of.base_url, cookies=dict(browser_of.cookies), headers=PAGE) as copy:
        out = browser_of.post("/logout", data={"csrf": _csrf(browser_of)})
        assert (out.status_code, out.headers["location"]) == (303, "/login")
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert copy.get("/me").status_code == 303
        assert copy.get("/api/v1/requests").status_code == 401
    assert browser_of.post("/logout").status_code == 303  # twice does no harm


def test_a_session_ends_by_itself(ledger: Ledger, browser_of: httpx.Client, clock: FakeClock) -> None:
    _logged_in(browser_of, ledger)
    clock.advance(timedelta(hours=11))
    assert browser_of.get("/me").status_code == 200
    clock.advance(timedelta(hours=11))
    assert browser_of.get("/me").status_code == 200
    clock.advance(timedelta(hours=12))
    assert browser_of.get("/me").status_code == 303
    _logged_in(browser_of, ledger)
    for _ in range(16):
        clock.advance(timedelta(hours=10))
        assert browser_of.get("/me").status_code == 200
    clock.advance(timedelta(hours=10))
    assert browser_of.get("/me").status_code == 303


def test_cookies_are_out_of_reach(ledger: Ledger, browser_of: httpx.Client) -> None:
    flags = browser_of.post(f"/login/{_secret(ledger, 'link')}").headers["set-cookie"]
    port = browser_of.base_url.port
    assert flags.startswith(f"hitl_session_{port}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=604800"} <= set(flags.split("; "))

    def named(scheme: str, host: str, root: str) -> str:
        scope = {"type": "http", "scheme": scheme, "root_path": root, "headers": [(b"host", host.encode())]}
        return name_of(Request(scope), "session")

    assert named("https", "inbox.example", "") == "__Host-hitl_session"
    names = {named("http", "localhost:8000", root) for root in ("", "/a", "/b")} | {named("http", "localhost:9", "")}
    assert len(names) == 4  # browsers share cookies between the ports of a host


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example", "\\\\evil.example", "/\\evil.example", "/%2f/evil.example", "/%2F%2Fevil.example",
        "/%5Cevil.example", "https://evil.example", "https:evil.example", "javascript:alert(1)", "evil.example", "",
        " //evil.example", "/\t/evil.example", "/\r\nSet-Cookie: a=b", "/\x00", "///evil.example", "/./\\evil.example",
        "/x//evil.example", "/../..//evil.example", "/login?next=/x", "/logout", "@evil.example", ".evil.example",
        "data:text/html,x", "/" + "a" * 3000,
    ],
)  # fmt: skip
def test_a_login_leads_nowhere_else(ledger: Ledger, browser_of: httpx.Client, wanted: str) -> None:
    assert place(wanted) == "/"
    used = browser_of.post(f"/login/{_secret(ledger, 'link')}", data={"next": wanted})
    assert (used.status_code, used.headers["location"]) == (303, "/")


def test_a_login_leads_back_to_where_one_wanted_to_go(browser_of: httpx.Client) -> None:
    for wanted in ("/requests/abc?tab=1&q=a%20b", "/?kind=approval", "/requests/abc#votes"):
        assert place(wanted) == wanted
    away = browser_of.get("/requests/abc?q=a%26b&x=1")
    assert away.headers["location"] == "/login?next=%2Frequests%2Fabc%3Fq%3Da%2526b%26x%3D1"


def test_a_token_opens_what_its_scopes_say(ledger: Ledger, inbox: str) -> None:
    def asked(method: str, path: str, secret: str) -> httpx.Response:
        return httpx.request(method, inbox + path, headers={"authorization": f"Bearer {secret}"})

    reading, deciding = _secret(ledger, "token", scopes=("read",)), _secret(ledger, "token", scopes=("decide",))
    assert asked("GET", "/me", reading).json()["how"] == "token"
    assert asked("POST", "/me", reading).status_code == 403
    assert asked("GET", "/me", deciding).status_code == 200
    assert asked("POST", "/me", deciding).status_code == 200
    for secret in (reading, deciding, _secret(ledger, "token", scopes=("read", "decide", "admin"))):
        for path in ("/account/tokens", "/account/end"):  # a program lets in nobody
            assert asked("POST", path, secret).status_code == 403


def test_a_wrong_token_is_refused_and_not_ignored(ledger: Ledger, browser_of: httpx.Client) -> None:
    _logged_in(browser_of, ledger)
    token = _secret(ledger, "token")
    wrong = [".", "x", token[:-1], token + "x", token.removeprefix("hitl_"), _secret(ledger, "session"), "ü", "a b"]
    for secret in wrong:
        refused = browser_of.get("/me", headers={b"authorization": f"Bearer {secret}".encode()})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="hitl", error="invalid_token"'
    twice = browser_of.get("/me", headers=[("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")])
    assert twice.status_code == 401
    clock = ledger.clock
    assert isinstance(clock, FakeClock)
    clock.advance(timedelta(minutes=15))
    assert browser_of.get("/me", headers={"authorization": f"Bearer {token}"}).status_code == 401
    assert browser_of.get("/me", headers={"authorization": "Basic YTpi"}).json()["how"] == "session"


def test_people_create_and_end_their_own_tokens(ledger: Ledger, browser_of: httpx.Client, inbox: str) -> None:
    _logged_in(browser_of, ledger, "bob")
    page = browser_of.get("/account")
    assert "this one" in page.text
    asked = {"csrf": _csrf(browser_of), "scope": ["read"], "days": "30", "label": '<b onload="x">'}
    shown = browser_of.post("/account/tokens", data=asked)
    token = re.search(r"hitl_[A-Za-z0-9_-]{43}", shown.text)
    assert token is not None
    assert '<b onload="x">' not in shown.text
    assert token[0] not in browser_of.get("/account").text
    bearer = {"authorization": f"Bearer {token[0]}"}
    assert httpx.get(f"{inbox}/me", headers=bearer).json() == {"name": "bob", "roles": [], "how": "token"}
    assert httpx.post(f"{inbox}/me", headers=bearer).status_code == 403
    found = ledger.read(credentials.look_up, ledger.now_ms(), "token", token[0])
    assert found is not None
    with httpx.Client(base_url=inbox, headers=PAGE) as alice:
        _logged_in(alice, ledger)
        theirs = alice.post("/account/end", data={"csrf": _csrf(alice), "id": found.id})
        assert theirs.status_code == 404
        _logged_in(alice, ledger, scopes=("read", "admin"))
        assert found.id[:10] in alice.get("/account").text
    assert browser_of.post("/account/end", data={"csrf": _csrf(browser_of), "id": found.id}).status_code == 303
    assert httpx.get(f"{inbox}/me", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    "asked",
    [
        {"scope": ["admin"], "days": "1"},
        {"scope": ["read", "admin"], "days": "1"},
        {"scope": ["root"], "days": "1"},
        {"days": "1"},
        {"scope": ["read"], "days": "0"},
        {"scope": ["read"], "days": "-1"},
        {"scope": ["read"], "days": "9999999999999"},
        {"scope": ["read"]},
    ],
)
def test_a_token_has_no_scope_that_its_maker_lacks_and_ends(
    ledger: Ledger, browser_of: httpx.Client, asked: dict[str, str | list[str]]
) -> None:
    _logged_in(browser_of, ledger, "bob")
    refused = browser_of.post("/account/tokens", data={"csrf": _csrf(browser_of), **asked})
    assert refused.status_code == 422
    assert "hitl_" not in refused.text.replace("hitl_...", "")


def test_the_login_in_a_browser_with_and_without_scripts(
    ledger: Ledger, inbox: str, visit: Callable[..., Page]
) -> None:
    for scripts in (True, False):
        page = visit(f"{inbox}/me?x=1", java_script_enabled=scripts)
        assert page.url == f"{inbox}/login?next=%2Fme%3Fx%3D1"
        if scripts:
            assert axe.found(page) == []
        page.goto(f"{inbox}/login/{_secret(ledger, 'link')}?next=%2Faccount")
        if scripts:
            assert axe.found(page) == []
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{inbox}/account")
        page.get_by_label("What for").fill("CI")
        page.get_by_role("button", name="Create").click()
        page.wait_for_url(f"{inbox}/account/tokens")
        assert page.locator("#secret").inner_text().startswith("hitl_")
        if scripts:
            assert axe.found(page) == []
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url(f"{inbox}/login")
        page.goto(f"{inbox}/account")
        assert page.url.startswith(f"{inbox}/login?next=")
