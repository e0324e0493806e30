"""Who gets in, and that nothing else does."""

import hashlib
import re
import socket
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, credentials, requests
from hitl_graph.model import Action, approve
from hitl_graph.model import Request as ModelRequest
from hitl_graph.reviewers import Reviewer, StaticDirectory, person
from hitl_graph.terms import Stage, Terms
from hitl_graph.web import create_app
from hitl_graph.web.door import Door
from hitl_graph.web.headers import CONTENT_SECURITY_POLICY
from hitl_graph.web.security import Security
from hitl_graph.web.seeing import may_see, visible
from hitl_graph.web.sessions import Sessions
from hitl_graph.web.throttling import Limits, Throttle
from hitl_graph.web.tokens import ApiTokens
from hitl_graph.web.visitors import Authenticator, TrustedProxy, Visitor, visitor_of
from tests.web.conftest import serving

ALICE = {"x-forwarded-user": "alice"}


async def _changes(request: Request) -> JSONResponse:
    async with request.form() as form:
        return JSONResponse({"who": visitor_of(request).reviewer.name, "said": form.get("said")})


async def _looks(request: Request) -> JSONResponse:
    return JSONResponse({"csrf": visitor_of(request).csrf})


async def _reads(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


async def _parses(request: Request) -> JSONResponse:
    try:
        return JSONResponse(str(type(await request.json())))
    except ValueError:
        return JSONResponse("no JSON", 400)


async def _fails(request: Request) -> JSONResponse:
    raise RuntimeError("a secret of the server")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("security") / "agent.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def application(ledger: Ledger) -> Starlette:
    known: list[Authenticator] = [
        ApiTokens(ledger),
        TrustedProxy(proxies=["127.0.0.1/32"]),
        Sessions(ledger),
    ]
    app = create_app(ledger, authenticators=known, security=Security(limits=Limits(logins=None, tokens=None)))
    app.router.routes += [
        Route("/changes", _changes, methods=["POST"]),
        Route("/reads", _reads, methods=["POST"]),
        Route("/parses", _parses, methods=["POST"]),
        Route("/looks", _looks),
        Route("/fails", _fails),
    ]
    return app


@pytest.fixture(scope="module")
def inbox(application: Starlette) -> Generator[str]:
    with serving(application) as url:
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


def test_every_route_tells_browsers_to_be_careful(inbox: str, application: Starlette, ledger: Ledger) -> None:
    """Each address that there is, to strangers and to people, and what goes wrong; also those that are added later."""
    paths = {"/nowhere", "/fails", "/static/inbox.css", "/static/nothing.css", "/static/..%2fapp.py", "/%00"}
    for route in application.routes:
        path = str(getattr(route, "path", ""))
        paths.add(re.sub(r"\{[^}]*\}", "0" * 20, path) or "/")
    assert {"/login", "/account"} <= paths
    with httpx.Client(base_url=inbox, timeout=30) as client:
        for path in sorted(paths):
            for method in ("GET", "POST", "DELETE", "TRACE"):
                for headers in ({}, ALICE, {"accept": "application/json"}, {"authorization": "Bearer x"}):
                    with client.stream(method, path, headers=headers) as answer:
                        told = answer.headers
                    assert told["content-security-policy"] == CONTENT_SECURITY_POLICY, (method, path)
                    assert "frame-ancestors 'none'" in told["content-security-policy"]
                    assert told["x-frame-options"] == "DENY"
                    assert told["x-content-type-options"] == "nosniff"
                    assert told["referrer-policy"] == "same-origin"
                    assert told["cross-origin-opener-policy"] == told["cross-origin-resource-policy"] == "same-origin"
                    assert "camera=()" in told["permissions-policy"]
                    is_asset = path == "/static/inbox.css" and answer.status_code == 200
                    assert told["cache-control"] == ("no-cache" if is_asset else "no-store"), (method, path)
                    assert "strict-transport-security" not in told
                    assert answer.status_code < 500 or path == "/fails"


def test_by_https_browsers_come_back_by_https_and_cookies_are_bound(ledger: Ledger) -> None:
    app = create_app(
        ledger, authenticators=[TrustedProxy(proxies=["127.0.0.1"])], security=Security(proxies=["127.0.0.1"])
    )
    app.router.routes.append(Route("/looks", _looks))
    with serving(app, proxy_headers=False) as url:
        answer = httpx.get(f"{url}/looks", headers=ALICE | {"x-forwarded-proto": "https"})
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-hitl_csrf_")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
        assert "domain" not in cookie.lower()


def test_without_authenticators_nobody_gets_in(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "agent.db") as ledger, serving(create_app(ledger, authenticators=[])) as url:
        assert httpx.get(f"{url}/", headers=ALICE).status_code == 303
        assert httpx.get(f"{url}/api/v1/requests", headers=ALICE).status_code == 401


# Who says who somebody is


@pytest.mark.parametrize(
    ("peer", "headers", "who"),
    [
        ("10.1.2.3", [("x-forwarded-user", "alice")], "alice"),
        ("::ffff:10.1.2.3", [("x-forwarded-user", "alice")], "alice"),
        ("fd00::7", [("x-forwarded-user", "alice")], "alice"),
        ("10.1.2.3", [("x-forwarded-user", "zo\u00eb".encode())], "zo\u00eb"),
        ("10.1.2.3", [("x-forwarded-user", "alice"), ("x-forwarded-for", "203.0.113.9")], "alice"),
        ("203.0.113.9", [("x-forwarded-user", "alice")], None),
        ("203.0.113.9", [("x-forwarded-user", "alice"), ("x-forwarded-for", "10.1.2.3")], None),
        ("10.1.2.3", [("x-forwarded-user", "alice"), ("x-forwarded-user", "bob")], None),
        ("10.1.2.3", [("x-forwarded-user", "")], None),
        ("10.1.2.3", [("x-forwarded-user", "  ")], None),
        ("10.1.2.3", [("x-forwarded-user", "anonymous")], None),
        ("10.1.2.3", [("x-forwarded-user", "\u200b".encode())], None),
        ("10.1.2.3", [("x-forwarded-user", b"\xff\xfe")], None),
        ("10.1.2.3", [("x-forwarded-user", "a" * 5000)], None),
        # uvicorn may have taken the address from there:
        ("10.1.2.3", [("x-forwarded-user", "alice"), ("x-forwarded-for", "10.1.2.3")], None),
        ("10.1.2.3", [("x-forwarded-user", "alice"), ("x-forwarded-for", "1.1.1.1, 10.1.2.3:443")], None),
        ("fd00::7", [("x-forwarded-user", "alice"), ("x-forwarded-for", "[fd00::7]:443")], None),
        ("not an address", [("x-forwarded-user", "alice")], None),
        (None, [("x-forwarded-user", "alice")], None),
    ],
)
async def test_only_the_proxy_itself_says_who_somebody_is(
    peer: str | None, headers: list[tuple[str, str | bytes]], who: str | None
) -> None:
    proxy = TrustedProxy(proxies=["10.0.0.0/8", "fd00::/8"])
    visitor = await proxy(_connection(peer, headers))
    assert (visitor and visitor.reviewer.name) == who


async def test_roles_come_from_the_proxy_or_the_directory_never_from_the_visitor() -> None:
    directory = StaticDirectory([Reviewer("alice", ["finance"])])
    sent: list[tuple[str, str | bytes]] = [
        ("x-forwarded-user", "alice"),
        ("x-forwarded-groups", "boss"),
        ("x-roles", "a"),
    ]
    plain = await TrustedProxy(proxies=["10.0.0.1"], directory=directory)(_connection("10.0.0.1", sent))
    assert plain is not None
    assert plain.reviewer == Reviewer("alice", ["finance"])
    told = TrustedProxy(proxies=["10.0.0.1"], directory=directory, roles="x-roles", groups="x-forwarded-groups")
    visitor = await told(_connection("10.0.0.1", sent))
    assert visitor is not None
    assert visitor.reviewer == Reviewer("alice", ["a"], ["boss"])
    twice = await told(_connection("10.0.0.1", [*sent, ("x-roles", "admin")]))
    assert twice is not None
    assert twice.reviewer.roles == frozenset()
    by_socket = TrustedProxy(proxies=["unix"])
    assert await by_socket(_connection(None, sent)) is not None
    assert await by_socket(_connection("127.0.0.1", sent)) is None


def test_the_server_looks_at_forwarded_addresses_once(ledger: Ledger) -> None:
    """Behind uvicorn as it comes, a client at the proxy's machine could name any address as its own."""
    known = [TrustedProxy(proxies=["10.9.9.9"])]
    app = create_app(ledger, authenticators=known)
    app.router.routes.append(Route("/looks", _looks))
    spoofed = ALICE | {"x-forwarded-for": "10.9.9.9:1234", "accept": "application/json"}
    with serving(app, proxy_headers=True, forwarded_allow_ips="127.0.0.1") as url:
        assert httpx.get(f"{url}/looks", headers=spoofed).status_code == 401
    app = create_app(ledger, authenticators=known, security=Security(proxies=["127.0.0.1"]))
    with serving(app, proxy_headers=False) as url:
        assert httpx.get(f"{url}/account", headers=spoofed).status_code == 401


# What a request may look like


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "a b"]
)
def test_another_name_is_refused(inbox: str, host: str) -> None:
    refused = httpx.get(f"{inbox}/login", headers=[("host", host)])
    assert refused.status_code == 400
    assert "evil.example" not in refused.headers.get("location", "")


def test_our_names_are_known_with_any_port(inbox: str) -> None:
    for host in ("localhost", "LOCALHOST:8400", "127.0.0.1:1", "[::1]:80"):
        assert httpx.get(f"{inbox}/login", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/..%5capp.py",
        "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/./inbox.css", "/static/inbox.css%00.html", "/%00",
        "/requests/..", "/requests/%2e%2e%2faccount", "/login/../account", "/login/%2e%2e/account", "/login//account",
        "/%ff", "/a\\b", "/static/..", "/login/..;/account", "/static/%252e%252e/app.py",
    ],
)  # fmt: skip
def test_odd_paths_lead_nowhere(inbox: str, path: str) -> None:
    for headers in ("", "x-forwarded-user: alice\r\n"):
        raw = _raw(inbox, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n")
        status, body = int(raw.split()[1]), raw.partition("\r\n\r\n")[2]
        assert status in (400, 404) or (status == 303 and not headers), raw[:200]
        assert "import" not in body
        assert "root:" not in body
        assert "evil.example" not in raw.partition("\r\n\r\n")[0]


def test_methods_and_headers_that_nobody_needs_are_refused(inbox: str) -> None:
    for method in ("TRACE", "CONNECT", "PROPFIND", "FOO"):
        assert _raw(inbox, f"{method} /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").split()[1] in (
            "400",
            "405",
        )
    assert httpx.get(f"{inbox}/login?" + "x" * 9000).status_code == 414
    assert httpx.get(f"{inbox}/login", headers={f"x-{n}": "1" for n in range(120)}).status_code == 431
    assert httpx.get(f"{inbox}/login", headers={"x": "1" * 40_000}).status_code == 431
    two = "GET /login HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert _raw(inbox, two).split()[1] == "400"


def test_what_is_too_long_is_refused_whether_it_says_so_or_not(inbox: str, alice: httpx.Client) -> None:
    token = alice.get("/looks").json()["csrf"]
    long = b"x" * 1_100_000
    for path in ("/changes", "/reads", "/login/abc", "/logout"):
        for content in (long, iter([long[:500_000], long[500_000:]])):
            answer = alice.post(path, headers={"x-csrf-token": token}, content=content)
            assert answer.status_code in ((413,) if path == "/reads" or content is long else (413, 403, 303, 200))
    assert alice.post("/reads", headers={"x-csrf-token": token}, content=b"x" * 1_000_000).json() == {
        "bytes": 1_000_000
    }
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert alice.post("/changes", headers=form, content=iter([long])).status_code == 413  # before it is looked into


@pytest.mark.parametrize(
    "sent",
    [
        (b"[" * 100_000, "application/json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"a=1&" * 3000, "application/x-www-form-urlencoded"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"x", "multipart/form-data"),
        (b"--x\r\nContent-Disposition: form-data; name=csrf\r\n\r\n" * 2000, "multipart/form-data; boundary=x"),
    ],
)
def test_malformed_bodies_are_refused_and_break_nothing(
    alice: httpx.Client, sent: tuple[bytes, str], caplog: pytest.LogCaptureFixture
) -> None:
    token = alice.get("/looks").json()["csrf"]
    for path in ("/changes", "/parses", "/logout", "/account/tokens"):
        for headers in ({}, {"x-csrf-token": token}):
            answer = alice.post(path, headers={"content-type": sent[1], **headers}, content=sent[0])
            assert answer.status_code in (200, 303, 400, 403, 422), (path, answer.text)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_an_error_that_nobody_expected_is_logged_and_not_told(
    alice: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    failed = alice.get("/fails")
    assert failed.status_code == 500
    assert "secret" not in failed.text
    assert "Traceback" not in failed.text
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    number = re.search(r"\((\w{8})\)", record.getMessage())
    assert number is not None
    assert number[1] in failed.text
    assert record.exc_info is not None
    for_a_script = alice.get("/fails", headers={"accept": "application/json"})
    assert for_a_script.headers["content-type"] == "application/problem+json"


# How often


def _limited(ledger: Ledger, **limits: str | None) -> Starlette:
    every = dict.fromkeys(("requests", "logins", "tokens", "decisions")) | limits
    app = create_app(
        ledger,
        authenticators=[ApiTokens(ledger), TrustedProxy(proxies=["127.0.0.1/32"]), Sessions(ledger)],
        security=Security(limits=Limits(**every)),
    )
    app.router.routes += [Route("/changes", _changes, methods=["POST"]), Route("/looks", _looks)]
    return app


def _too_often(answer: httpx.Response) -> bool:
    if answer.status_code != 429:
        return False
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    return True


def test_guessing_links_and_tokens_is_slow(ledger: Ledger) -> None:
    whom = credentials.Identity("alice")
    token, _ = ledger.write(
        credentials.issue, ledger.now_ms(), "token", whom, by="ops", lifetime=timedelta(hours=1)
    )  # fmt: skip
    good = {"authorization": f"Bearer {token}"}
    with serving(_limited(ledger, logins="5/hour", tokens="5/hour")) as url:
        assert [_too_often(httpx.post(f"{url}/login/{'x' * 43}")) for _ in range(7)] == [False] * 5 + [True] * 2
        assert httpx.get(f"{url}/login").status_code == 200  # the page is no guess
        assert all(httpx.get(f"{url}/looks", headers=good).status_code == 200 for _ in range(8))
        wrong = [httpx.get(f"{url}/looks", headers={"authorization": f"Bearer hitl_{n:043}"}) for n in range(7)]
        assert [_too_often(answer) for answer in wrong] == [False] * 5 + [True] * 2
        assert _too_often(httpx.get(f"{url}/looks", headers=good))  # else it could be guessed which one is right
        assert httpx.get(f"{url}/looks", headers=ALICE).status_code == 200


def test_a_person_and_an_address_have_a_limit_each(ledger: Ledger) -> None:
    with serving(_limited(ledger, decisions="3/hour")) as url:
        for name in ("alice", "bob"):
            with httpx.Client(base_url=url, headers={"x-forwarded-user": name}) as client:
                token = client.get("/looks").json()["csrf"]
                answers = [client.post("/changes", data={"csrf": token}) for _ in range(5)]
                assert [_too_often(answer) for answer in answers] == [False] * 3 + [True] * 2
                assert client.get("/looks").status_code == 200
    with serving(_limited(ledger, requests="4/hour")) as url:
        assert [_too_often(httpx.get(f"{url}/login")) for _ in range(6)] == [False] * 4 + [True] * 2


def test_many_addresses_fill_no_memory() -> None:
    throttle = Throttle(Limits(requests="1/hour"))
    for number in range(20_000):
        throttle.takes("requests", str(number))
    assert len(throttle._limiter.storage.storage) <= 4096  # type: ignore[attr-defined]


# How long it takes


def test_a_token_is_looked_up_by_its_hash_and_compared_with_nothing(tmp_path: Path) -> None:
    """By construction: no statement has a piece of the secret, and a wrong one takes what a nearly right one takes."""
    with Ledger.open(tmp_path / "agent.db") as ledger:
        whom, asked = credentials.Identity("alice"), list[tuple[str, tuple[object, ...]]]()
        secret, _ = ledger.write(
            credentials.issue, ledger.now_ms(), "token", whom, by="ops", lifetime=timedelta(hours=1)
        )  # fmt: skip

        class Listening:
            def __init__(self, tx: Any) -> None:
                self._tx = tx

            def execute(self, sql: str, parameters: Any = ()) -> Any:
                asked.append((sql, tuple(parameters)))
                return self._tx.execute(sql, parameters)

        def look(tx: Any, given: str) -> bool:
            return credentials.look_up(Listening(tx), ledger.now_ms(), "token", given) is not None  # type: ignore[arg-type]

        nearly, far = secret[:-1] + ("A" if secret[-1] != "A" else "B"), "hitl_" + "x" * 43
        assert [ledger.read(look, given) for given in (secret, nearly, far)] == [True, False, False]
        assert len(asked) == 3
        assert len({sql for sql, _ in asked}) == 1
        assert [parameters[0] for _, parameters in asked] == [
            hashlib.sha256(given.encode()).hexdigest() for given in (secret, nearly, far)
        ]
        [plan] = ledger.read(
            lambda tx: tx.execute("EXPLAIN QUERY PLAN " + asked[0][0], asked[0][1]).fetchall()
        )  # fmt: skip
        assert "PRIMARY KEY" in plan[3]


# Who sees what


def test_people_see_only_what_concerns_them(tmp_path: Path) -> None:
    directory = StaticDirectory([Reviewer("fay", ["finance"]), Reviewer("sue", ["support"]), Reviewer("dee")])
    with Ledger.open(tmp_path / "agent.db", directory=directory) as ledger:
        ids = {}
        for number, (name, who) in enumerate((("money", ["role:finance"]), ("mail", ["role:support"]), ("free", []))):
            terms = Terms(stages=(Stage(reviewers=tuple(who)),)) if who else None
            request = ModelRequest(
                id=f"{number:020x}", kind="approval", thread_id="t", interrupt_id=f"{number:032x}", terms=terms,
                action=Action(name="pay", args={"n": number}), reason="why",
            )  # fmt: skip
            ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id=None, task_id=None, parked=1)
            ids[request.id] = name
        inbox, all_of_it = Inbox(ledger), list(ids)

        def seen(name: str, sees: Literal["all", "mine"] = "mine") -> list[str]:
            visitor = Visitor(person(name, directory))
            door, asked = Door(ledger, sees=sees), [inbox.get(own) for own in all_of_it]
            found = [ids[request.id] for request in visible(door, visitor, asked)]
            assert found == [ids[request.id] for request in asked if may_see(door, visitor, request)]
            return found

        assert (seen("fay"), seen("sue"), seen("dee")) == (["money", "free"], ["mail", "free"], ["free"])
        assert seen("dee", "all") == ["money", "mail", "free"]
        inbox.leave(reviewer="fay", deputy="dee", until=ledger.clock() + timedelta(days=1))
        assert seen("dee") == ["money", "free"]
        [money] = [own for own, name in ids.items() if name == "money"]
        inbox.returned(reviewer="fay")
        inbox.delegate(money, "dee", reviewer="fay")
        assert (seen("dee"), seen("fay")) == (["money", "free"], ["money", "free"])
        inbox.decide(money, approve(), reviewer="dee")
        assert seen("dee") == ["money", "free"]  # also when it is over


def _connection(peer: str | None, headers: list[tuple[str, str | bytes]]) -> HTTPConnection:
    raw = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    client = None if peer is None else (peer, 1234)
    return HTTPConnection({"type": "http", "headers": [(b"host", b"localhost"), *raw], "client": client, "path": "/"})


def _raw(url: str, text: str) -> str:
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port or 80), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode("latin-1")
