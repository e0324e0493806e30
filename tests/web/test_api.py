"""The REST API: what it shows, what it takes, and that an answer is never lost or taken twice."""

import json
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Action, Comment, Request, reject
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.terms import Stage, Terms
from hitl_graph.web import create_app
from tests.databases import open_ledger
from tests.web.asking import Named, ask, ask_many, client, two_of
from tests.web.conftest import serving

PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["finance"]), Reviewer("carol", ["legal"])])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Ledger, str]]:
    with Ledger.open(tmp_path_factory.mktemp("api") / "agent.db", directory=PEOPLE) as ledger:
        with serving(create_app(ledger, authenticators=[Named(ledger)])) as url:
            yield ledger, url


@pytest.fixture(scope="module")
def ledger(shared: tuple[Ledger, str]) -> Ledger:
    return shared[0]


@pytest.fixture(scope="module")
def url(shared: tuple[Ledger, str]) -> str:
    return shared[1]


@pytest.fixture(scope="module")
def alice(url: str) -> Generator[httpx.Client]:
    with client(url, "alice") as browsing:
        yield browsing


@pytest.fixture(scope="module")
def bob(url: str) -> Generator[httpx.Client]:
    with client(url, "bob") as browsing:
        yield browsing


def answer(request: Request, **fields: Any) -> dict[str, Any]:
    return {"type": "approve", "digest": request.digest} | fields


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert told["status"] == status
    return told


def test_a_list_tells_what_waits_without_its_contents(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger, thread_id="quiet", draft="secret draft", question={"secret": 1}, description="secret text")
    [told] = alice.get("/requests", params={"thread_id": "quiet"}).json()["requests"]
    assert (told["id"], told["tool"], told["reason"]) == (request.id, "send_email", "a rule says so")
    assert not {"action", "draft", "question", "digest", "description"} & told.keys()
    assert "secret" not in json.dumps(told)
    assert "bob@corp.example" not in json.dumps(told)
    assert Inbox(ledger).viewers(request.id) == []


def test_a_list_goes_on_where_it_ended(ledger: Ledger, alice: httpx.Client) -> None:
    made = ask_many(ledger, 7, thread_id="pages")
    found, address = list[str](), "/requests?thread_id=pages&limit=3"
    sizes = []
    while address:
        page = alice.get(address)
        sizes.append(len(page.json()["requests"]))
        found += [one["id"] for one in page.json()["requests"]]
        following = page.links.get("next", {}).get("url")
        assert (following is None) == (page.json()["next"] is None)
        address = str(httpx.URL(str(page.url)).join(following)) if following else ""
    assert (sizes, found) == ([3, 3, 1], [request.id for request in made])


def test_a_list_is_filtered(tmp_path: Path) -> None:
    legal = Terms(stages=(Stage(reviewers=("role:legal",)),))
    with Ledger.open(tmp_path / "agent.db", directory=PEOPLE) as ledger:
        made: dict[str, dict[str, Any]] = {
            "review": {"kind": "review", "draft": "x", "action": None},
            "wire": {"action": Action(name="wire", args={"note": "Invoice 7"})},
            "risky": {"risk": "high"},
            "audit": {"kind": "review", "answer_shape": "audit", "route": "audit"},
            "legal": {"terms": legal},
            "stuck": {"kind": "escalation", "terms": legal},
        }
        for name, fields in made.items():
            ask(ledger, thread_id=name, **fields)
            time.sleep(0.002)
        with serving(create_app(ledger, authenticators=[Named(ledger)])) as url, client(url, "alice") as alice:
            for given, expected in (
                ({"kind": "review"}, ["review", "audit"]),
                ({"route": "audit"}, ["audit"]),
                ({"thread_id": "wire"}, ["wire"]),
                ({"tool": "wire"}, ["wire"]),
                ({"risk": "high"}, ["risky"]),
                ({"assignee": "role:legal"}, ["legal", "stuck"]),
                ({"search": "invoice"}, ["wire"]),
                ({"since": "2100-01-01T00:00:00Z"}, []),
                ({"before": "2100-01-01T00:00:00Z", "kind": "review"}, ["review", "audit"]),
                ({"search": "invoice", "since": "0352-01-01T00:00:00Z"}, ["wire"]),
                ({"search": "invoice", "before": "9999-01-01T00:00:00Z"}, ["wire"]),
                ({"mine": "true"}, ["review", "wire", "risky", "audit"]),
                ({"newest_first": "true", "kind": "approval"}, ["legal", "risky", "wire"]),
            ):
                told = alice.get("/requests", params=given).json()
                assert [one["thread_id"] for one in told["requests"]] == expected, given


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("limit=201", "query.limit"),
        ("limit=0", "query.limit"),
        ("limit=ten", "query.limit"),
        ("kind=all", "query.kind"),
        ("tol=send_email", "query.tol"),
        ("tool=a&tool=b", "query.tool"),
        ("after=0123456789abcdef0123", "query.after"),
        ("after=x", "query.after"),
        ("since=2026-01-01T00:00:00", "query.since"),
        ("search=%00", "query.search"),
        (f"search={'x' * 501}", "query.search"),
    ],
)
def test_a_filter_that_makes_no_sense_lists_nothing(alice: httpx.Client, query: str, place: str) -> None:
    told = problem(alice.get(f"/requests?{query}"), 422)
    assert [one["place"] for one in told["errors"]] == [place]


def test_opening_a_request_shows_all_of_it_and_is_noted_once(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger, terms=two_of("role:finance"))
    for _ in range(2):
        opened = alice.get(f"/requests/{request.id}")
    told = opened.json()
    assert (told["digest"], told["action"]) == (request.digest, request.model_dump(mode="json")["action"])
    assert (told["standing"]["missing"], told["standing"]["left"]) == ("2 of role:finance", 2)
    assert opened.headers["etag"] == f'"{told["version"]}"'
    assert opened.headers["cache-control"] == "no-store"
    [viewer] = Inbox(ledger).viewers(request.id)
    assert (viewer.reviewer, viewer.channel) == ("alice", "api")


def test_only_a_whole_id_names_a_request(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    for wanted in (
        request.id[:19],
        f"{request.id}0",
        f"%20{request.id}",
        "0" * 20,
        "zzz",
        "..%2f..",
        "%00",
        "a" * 2000,
    ):
        problem(alice.get(f"/requests/{wanted}"), 404)


@pytest.mark.both_databases
def test_a_decision_is_recorded_with_who_and_how(db_path: str) -> None:
    with open_ledger(db_path) as ledger, serving(create_app(ledger, authenticators=[Named(ledger)])) as url:
        request = ask(ledger)
        args = {"to": "eve@corp.example", "subject": "Lunch?", "body": "At one."}
        with client(url, "alice") as alice:
            opened = alice.get(f"/requests/{request.id}").json()
            body = {"type": "edit", "args": args, "digest": opened["digest"], "version": opened["version"]}
            decided = alice.post(f"/requests/{request.id}/decision", json=body)
            assert decided.status_code == 200, decided.text
            assert decided.json()["state"] == "decided"
            assert alice.get("/requests").json()["requests"] == []
        recorded = Inbox(ledger).get(request.id)
        assert recorded.decision is not None
        assert (recorded.decision.args, recorded.reviewer, recorded.channel) == (args, "alice", "api")


def test_every_kind_of_answer(ledger: Ledger, alice: httpx.Client) -> None:
    review = {"kind": "review", "action": None, "draft": "Dear Bob,"}
    answers: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"type": "reject", "message": "not now"}),
        ({}, {"type": "reject"}),
        ({}, {"type": "respond", "message": "ask me on Monday"}),
        ({"kind": "question", "action": None, "question": "How many?"}, {"type": "respond", "value": {"count": 3}}),
        (review, {"type": "edit", "draft": "Dear Robert,"}),
        (review, {"type": "respond", "comments": [{"text": "too short", "span": [0, 4]}]}),
        ({}, {"type": "approve", "message": "fine", "grant": {"tool": "send_email", "uses": 3, "expires_in": "PT1H"}}),
    ]
    for fields, body in answers:
        request = ask(ledger, **fields)
        decided = alice.post(f"/requests/{request.id}/decision", json=body | {"digest": request.digest})
        assert decided.status_code == 200, decided.text
        told = decided.json()["decision"]
        assert told["type"] == body["type"]
        assert len(told["comments"]) == len(body.get("comments", ()))


def test_what_was_not_looked_at_cannot_be_decided(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    path = f"/requests/{request.id}/decision"
    missing = problem(alice.post(path, json={"type": "approve"}), 422)
    assert missing["errors"][0]["place"] == "digest"
    stale = problem(alice.post(path, json=answer(request, digest="0" * 64)), 409)
    assert stale["type"] == "urn:hitl-graph:stale-request"
    assert Inbox(ledger).get(request.id).state == "pending"


def test_an_answer_that_is_sent_again_is_the_one_that_is_recorded(
    ledger: Ledger, alice: httpx.Client, bob: httpx.Client
) -> None:
    request = ask(ledger)
    path = f"/requests/{request.id}/decision"
    first = alice.post(path, json=answer(request, message="fine"))
    again = alice.post(path, json=answer(request, message="fine"), headers={"if-match": '"of-before"'})
    assert (first.status_code, again.status_code) == (200, 200)
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert first.json() == again.json()
    [vote] = Inbox(ledger).standing(request.id).votes
    assert vote.at == Inbox(ledger).get(request.id).decided_at
    for person, body in (
        (alice, answer(request, type="reject")),
        (alice, answer(request)),
        (bob, answer(request, message="fine")),
    ):
        told = problem(person.post(path, json=body), 409)
        assert (told["type"], told["decided_by"], told["word"]) == (
            "urn:hitl-graph:already-decided",
            "alice",
            "approve",
        )


def test_an_edit_that_only_python_takes_for_the_same_is_another_answer(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger, action=Action(name="set", args={"on": 1}))
    path = f"/requests/{request.id}/decision"
    assert alice.post(path, json=answer(request, type="edit", args={"on": 1})).status_code == 200
    problem(alice.post(path, json=answer(request, type="edit", args={"on": True})), 409)


def test_a_vote_that_is_sent_again_counts_once(ledger: Ledger, alice: httpx.Client, bob: httpx.Client) -> None:
    request = ask(ledger, terms=two_of("role:finance"))
    path = f"/requests/{request.id}/decision"
    version = alice.get(f"/requests/{request.id}").json()["version"]
    first = alice.post(path, json=answer(request, version=version))
    again = alice.post(path, json=answer(request, version=version))
    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json()["state"], again.json()["state"]) == ("pending", "pending")
    assert again.json()["standing"]["left"] == 1
    assert bob.post(path, json=answer(request)).json()["state"] == "decided"
    assert alice.post(path, json=answer(request, version=version)).json()["state"] == "decided"


def test_many_who_answer_at_once_get_one_decision(ledger: Ledger, url: str) -> None:
    request = ask(ledger)
    statuses = list[tuple[str, int, bool]]()
    start = threading.Barrier(8)

    def decide(who: str, word: str) -> None:
        with client(url, who) as person:
            start.wait()
            got = person.post(f"/requests/{request.id}/decision", json=answer(request, type=word))
            statuses.append((who, got.status_code, "idempotent-replayed" in got.headers))

    words = {"alice": "approve", "bob": "reject"}
    threads = [threading.Thread(target=decide, args=(who, word)) for who, word in words.items() for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = str(Inbox(ledger).get(request.id).reviewer)
    assert sorted(status for who, status, _ in statuses if who == winner) == [200] * 4
    assert [status for who, status, _ in statuses if who != winner] == [409] * 4
    assert sum(not replayed for _, status, replayed in statuses if status == 200) == 1


def test_a_request_that_changed_while_somebody_looked_says_so(
    ledger: Ledger, alice: httpx.Client, bob: httpx.Client
) -> None:
    request = ask(ledger, terms=two_of("role:finance"))
    path = f"/requests/{request.id}/decision"
    opened = alice.get(f"/requests/{request.id}")
    assert bob.post(path, json=answer(request)).status_code == 200
    changed = problem(alice.post(path, json=answer(request, version=opened.json()["version"])), 409)
    assert changed["type"] == "urn:hitl-graph:changed"
    problem(alice.post(path, json=answer(request), headers={"if-match": opened.headers["etag"]}), 412)
    assert len(Inbox(ledger).standing(request.id).votes) == 1
    now = alice.get(f"/requests/{request.id}").headers["etag"]
    assert alice.post(path, json=answer(request), headers={"if-match": now}).json()["state"] == "decided"


@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        ('{"type": "approve"', 400, "line 1"),
        (b'{"type": "\xff"}', 400, "byte 10"),
        ("", 415, None),
        ("[]", 422, "body"),
        ('{"type": "maybe", "digest": "DIGEST"}', 422, "body"),
        ('{"type": "approve", "digest": "DIGEST", "force": true}', 422, "force"),
        ('{"type": "approve", "digest": "DIGEST", "args": {}}', 422, "args"),
        ('{"type": "approve", "digest": "DIGEST", "message": 5}', 422, "message"),
        ('{"type": "edit", "digest": "DIGEST"}', 422, "body"),
        ('{"type": "respond", "digest": "DIGEST"}', 422, "body"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": NaN}}', 422, "body"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": 1e999}}', 422, "body"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": "\\ud800"}}', 422, "args.to"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"\\udfff": 1}}', 422, "args"),
        ('{"type": "reject", "type": "approve", "digest": "DIGEST"}', 422, "body"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": ' + "[" * 70 + "]" * 70 + "}}", 422, "args.to"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": ' + "[" * 90_000 + "]" * 90_000 + "}}", 422, "body"),
        ('{"type": "edit", "digest": "DIGEST", "args": {"to": ' + "9" * 5_000 + "}}", 422, "body"),
        (
            '{"type": "respond", "digest": "DIGEST", "comments": [{"text": "x", "span": [0, "1"]}]}',
            422,
            "comments.0.span",
        ),
        ('{"type": "approve", "digest": "DIGEST", "grant": {"uses": "3"}}', 422, "grant.uses"),
        ('{"type": "approve", "digest": "DIGEST", "grant": {"uses": 0}}', 422, "grant.uses"),
        ('{"type": "reject", "digest": "DIGEST", "message": "' + "x" * 20_001 + '"}', 422, "message"),
        ('{"type": "reject", "digest": "DIGEST", "message": "' + "x" * 1_100_000 + '"}', 413, None),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    ledger: Ledger, alice: httpx.Client, body: str | bytes, status: int, place: str | None
) -> None:
    request = ask(ledger)
    content = body.replace("DIGEST", request.digest) if isinstance(body, str) else body
    headers = {"content-type": "application/json"} if body else {}
    told = problem(alice.post(f"/requests/{request.id}/decision", content=content, headers=headers), status)
    places = [one["place"] for one in told.get("errors", [])]
    assert places == [] if place is None else places[0].startswith(place), told
    assert Inbox(ledger).get(request.id).state == "pending"


def test_only_json_is_read(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json5"):
        sent = alice.post(
            f"/requests/{request.id}/decision", content=json.dumps(answer(request)), headers={"content-type": kind}
        )
        problem(sent, 415)


def test_what_the_inbox_refuses_is_refused_here(ledger: Ledger, alice: httpx.Client, url: str) -> None:
    locked = ask(ledger, editable=("body",))
    edited = answer(locked, type="edit", args={"to": "eve", "subject": "Lunch?", "body": "x"})
    told = problem(alice.post(f"/requests/{locked.id}/decision", json=edited), 422)
    assert "to may not be edited" in told["detail"]
    foreign = ask(ledger, terms=two_of("role:legal"))
    told = problem(alice.post(f"/requests/{foreign.id}/decision", json=answer(foreign)), 403)
    assert (told["type"], told["request_id"]) == ("urn:hitl-graph:not-entitled", foreign.id)
    taken = ask(ledger)
    with client(url, "carol") as carol:
        assert carol.post(f"/requests/{taken.id}/claim").status_code == 200
    told = problem(alice.post(f"/requests/{taken.id}/decision", json=answer(taken)), 409)
    assert told["type"] == "urn:hitl-graph:claimed"
    assert Inbox(ledger).standing(taken.id).votes == ()


def test_claims_and_delegations(ledger: Ledger, alice: httpx.Client, bob: httpx.Client) -> None:
    request = ask(ledger, terms=two_of("role:finance"))
    path = f"/requests/{request.id}"
    claimed = alice.post(f"{path}/claim", json={"lease_seconds": 60}).json()
    assert [claim["reviewer"] for claim in claimed["standing"]["claims"]] == ["alice"]
    assert alice.delete(f"{path}/claim").json()["standing"]["claims"] == []
    assert problem(alice.delete(f"{path}/claim"), 409)["type"] == "urn:hitl-graph:stale-request"
    given = alice.post(f"{path}/delegate", json={"to": "carol", "comment": "on leave"}).json()
    assert [(one["by"], one["to"]) for one in given["standing"]["delegations"]] == [("alice", "carol")]
    problem(alice.post(f"{path}/decision", json=answer(request)), 403)
    back = alice.post(f"{path}/take-back").json()
    assert [one["back"] for one in back["standing"]["delegations"]] == [True]
    bob.post(f"{path}/delegate", json={"to": "carol"})
    problem(alice.post(f"{path}/claim", json={"lease_seconds": 86_401}), 422)
    for nobody in ("", "\n", " ", "\u200b", "\U000f0000"):
        told = problem(alice.post(f"{path}/delegate", json={"to": nobody}), 422)
        assert told["errors"][0]["place"] == "to"
    problem(alice.post(f"{path}/hand-back", json={"why": "x"}), 422)


def test_who_comes_and_what_they_may(url: str, ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    assert alice.get("/me").json() == {
        "name": "alice",
        "roles": ["finance"],
        "groups": [],
        "scopes": ["decide", "read"],
        "how": "token",
        "sees": "all",
    }
    with client(url, "alice:read") as reading:
        assert reading.get(f"/requests/{request.id}").status_code == 200
        for what, body in (
            ("decision", answer(request)),
            ("claim", {}),
            ("delegate", {"to": "bob"}),
            ("take-back", {}),
        ):
            problem(reading.post(f"/requests/{request.id}/{what}", json=body), 403)
        problem(reading.delete(f"/requests/{request.id}/claim"), 403)
    with client(url, None) as stranger:
        assert stranger.get("/health").status_code == 204
        for path in ("/requests", f"/requests/{request.id}", "/me", "/events", "/nothing"):
            assert stranger.get(path).headers["www-authenticate"].startswith("Bearer")
            problem(stranger.get(path), 401)
        problem(stranger.post(f"/requests/{request.id}/decision", json=answer(request)), 401)
    assert Inbox(ledger).get(request.id).state == "pending"


def test_other_methods_and_addresses_are_problems_too(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    assert "GET" in alice.put(f"/requests/{request.id}").headers["allow"]
    problem(alice.put(f"/requests/{request.id}"), 405)
    problem(alice.get("/nothing"), 404)


def test_people_who_see_only_their_own_see_nothing_else(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "agent.db", directory=PEOPLE) as ledger:
        app = create_app(ledger, authenticators=[Named(ledger)], sees="mine")
        with serving(app) as url, client(url, "alice") as alice:
            mine = [ask(ledger, terms=two_of("role:finance")) for _ in range(3)]
            foreign = ask_many(ledger, 30, terms=two_of("role:legal"))
            mine += [ask(ledger, terms=two_of("role:finance"))]
            found, after = list[str](), None
            while True:
                page = alice.get("/requests", params={"limit": 2} | ({"after": after} if after else {})).json()
                found += [one["id"] for one in page["requests"]]
                if (after := page["next"]) is None:
                    break
            assert sorted(found) == sorted(request.id for request in mine)
            hidden, missing = foreign[0].id, "0" * 20
            for method, what, body in (
                ("GET", "", None), ("POST", "/decision", answer(foreign[0])), ("POST", "/claim", {}),
                ("DELETE", "/claim", None), ("POST", "/delegate", {"to": "bob"}), ("POST", "/hand-back", {}),
                ("POST", "/take-back", {}),
            ):  # fmt: skip
                told = [
                    problem(alice.request(method, f"/requests/{own}{what}", json=body), 404)
                    for own in (hidden, missing)
                ]
                assert json.dumps(told[0]).replace(hidden, missing) == json.dumps(told[1])
            assert Inbox(ledger).viewers(hidden) == []


def test_whoever_hangs_up_does_not_undo_what_they_sent(ledger: Ledger, url: str, alice: httpx.Client) -> None:
    request = ask(ledger)
    body = json.dumps(answer(request))
    address = urlsplit(url)
    with socket.create_connection((str(address.hostname), address.port)) as line:
        line.sendall(
            f"POST /api/v1/requests/{request.id}/decision HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Authorization: Bearer alice\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    deadline = time.monotonic() + 10
    while Inbox(ledger).get(request.id).state == "pending" and time.monotonic() < deadline:
        time.sleep(0.01)
    again = alice.post(f"/requests/{request.id}/decision", json=answer(request))
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")


def test_a_database_that_is_gone_is_told_without_where_it_was(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "agent.db")
    request = ask(ledger)
    with serving(create_app(ledger, authenticators=[Named(ledger)])) as url, client(url, "alice") as alice:
        ledger.close()
        lost = alice.post(f"/requests/{request.id}/decision", json=answer(request))
        assert problem(lost, 503)["type"] == "urn:hitl-graph:storage"
        assert str(tmp_path) not in lost.text
        assert lost.headers["retry-after"]
    with Ledger.open(tmp_path / "agent.db") as again:
        assert Inbox(again).decide(request.id, reject(), reviewer="bob").state == "decided"


def test_comments_keep_their_places(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger, kind="review", action=None, draft="Dear Bob,")
    body = answer(request, type="respond", message="short", comments=[{"text": "Robert", "span": [5, 8]}])
    assert alice.post(f"/requests/{request.id}/decision", json=body).status_code == 200
    recorded = Inbox(ledger).get(request.id).decision
    assert recorded is not None
    assert recorded.comments == (Comment(text="Robert", span=(5, 8)),)


def test_a_body_with_many_names_is_refused_at_once(ledger: Ledger, alice: httpx.Client) -> None:
    request = ask(ledger)
    names = ",".join(f'"a{number}":0' for number in range(60_000))
    began = time.perf_counter()
    kind = {"content-type": "application/json"}
    sent = alice.post(f"/requests/{request.id}/decision", content=f'{{{names},"a59999":1}}', headers=kind)
    assert time.perf_counter() - began < 5
    assert "'a59999' is given twice" in problem(sent, 422)["detail"]


def test_a_body_with_many_mistakes_is_refused_at_the_first(ledger: Ledger, alice: httpx.Client) -> None:
    request, began = ask(ledger), time.perf_counter()
    body = f'{{"type":"respond","digest":"{request.digest}","comments":[{"{},".join([""] * 330_000)}{{}}]}}'
    sent = alice.post(f"/requests/{request.id}/decision", content=body, headers={"content-type": "application/json"})
    assert time.perf_counter() - began < 2
    assert len(problem(sent, 422)["errors"]) == 1
