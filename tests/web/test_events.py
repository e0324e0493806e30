"""The stream of events: in order, without a gap, whoever goes away and comes again, and whoever is slow."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve
from hitl_graph.reviewers import Reviewer
from hitl_graph.web import create_app, stream
from tests.databases import open_ledger
from tests.web.asking import Named, ask, ask_many, client, two_of
from tests.web.conftest import serving
from tests.web.test_api import PEOPLE, problem

Told = tuple[str, int, dict[str, Any]]


@pytest.fixture
def ledger(db_path: str) -> Generator[Ledger]:
    with open_ledger(db_path) as opened:
        opened.directory = PEOPLE
        yield opened


@pytest.fixture
def url(ledger: Ledger) -> Generator[str]:
    with serving(create_app(ledger, authenticators=[Named(ledger)])) as address:
        yield address


@contextmanager
def listening(url: str, who: str = "alice", *, last: int | None = None, **query: int) -> Generator[Iterator[Told]]:
    """The events of a stream that is open: name, id, data. Only what comes after it said hello."""
    headers = {} if last is None else {"last-event-id": str(last)}
    with client(url, who) as browsing, browsing.stream("GET", "/events", params=query, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = _blocks(response.iter_lines())
        hello = next(blocks)
        yield _events([hello] if hello.get("event") == "resync" else [], blocks)


def _blocks(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    block: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            block[name] = value.removeprefix(" ")
        elif block:
            yield block
            block = {}


def _events(first: list[dict[str, str]], blocks: Iterator[dict[str, str]]) -> Iterator[Told]:
    for found in (first, blocks):
        for block in found:
            if "event" in block:
                yield block["event"], int(block["id"]), json.loads(block["data"])


def take(events: Iterator[Told], number: int) -> list[Told]:
    return [next(events) for _ in range(number)]


def logged(ledger: Ledger, after: int = 0) -> list[int]:
    return [event.seq for event in Inbox(ledger).events(after, limit=1_000_000)]


@pytest.mark.both_databases
def test_what_becomes_of_requests_is_told_in_order(ledger: Ledger, url: str) -> None:
    first = ask(ledger)
    inbox = Inbox(ledger)
    with listening(url) as events:
        request = ask(ledger, terms=two_of("role:finance"))
        inbox.claim(request.id, reviewer="alice")
        inbox.seen(request, reviewer="carol", channel="web")
        inbox.decide(request.id, approve(), reviewer="alice")
        inbox.decide(request.id, approve(), reviewer="bob")
        told = take(events, 4)
        assert [(name, data["name"], data["actor"]) for name, _, data in told] == [
            ("request", "request.opened", "graph"),
            ("request", "request.claimed", "alice"),
            ("request", "request.voted", "alice"),
            ("request", "request.decided", "alice, bob"),
        ]
        assert {data["request_id"] for _, _, data in told} == {request.id}
        assert [number for _, number, _ in told] == [data["seq"] for _, _, data in told] == sorted(logged(ledger)[-4:])
        assert {data["thread_id"] for _, _, data in told} == {request.thread_id}
    with listening(url, after=0) as events:
        assert next(events)[2]["request_id"] == first.id


@pytest.mark.both_databases
def test_what_another_process_does_is_told(db_path: str, ledger: Ledger, url: str) -> None:
    request = ask(ledger)
    with listening(url) as events:
        code = (
            "import sys; from tests.databases import open_ledger; from hitl_graph.inbox import Inbox;"
            " from hitl_graph.model import approve;"
            " ledger = open_ledger(sys.argv[1]); Inbox(ledger).decide(sys.argv[2], approve(), reviewer='bob');"
            " ledger.close()"
        )
        subprocess.run([sys.executable, "-c", code, db_path, request.id], check=True)
        began = time.monotonic()
        [(_, _, data)] = take(events, 1)
        assert (data["name"], data["actor"]) == ("request.decided", "bob")
        assert time.monotonic() - began < 2


def test_whoever_comes_again_misses_nothing_even_across_a_restart(ledger: Ledger) -> None:
    done, got = threading.Event(), list[int]()

    def work() -> None:
        while not done.is_set():
            ask_many(ledger, 3)
            time.sleep(0.004)

    writing = threading.Thread(target=work)
    writing.start()
    try:
        for _ in range(3):  # a new server, with a new watcher
            with serving(create_app(ledger, authenticators=[Named(ledger)])) as url:
                for number in (1, 7, 40):
                    with listening(url, last=got[-1] if got else None, after=0) as events:
                        got += [seq for _, seq, _ in take(events, number)]
                time.sleep(0.05)
    finally:
        done.set()
        writing.join()
    assert got == logged(ledger)[: len(got)]
    assert len(got) == 3 * 48


def test_whoever_is_slow_holds_up_nobody_and_misses_nothing(ledger: Ledger, url: str) -> None:
    address = urlsplit(url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((str(address.hostname), address.port))
        asked = f"GET /api/v1/events?after=0 HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer bob\r\n\r\n"
        slow.sendall(asked.encode())
        with listening(url, after=0) as events:
            for _ in range(6):
                ask_many(ledger, 1_000)
            quick = take(events, 6_000)
        assert [seq for _, seq, _ in quick] == logged(ledger)
        slow.settimeout(20)
        got, rest = list[int](), b""
        while len(got) < 6_000:
            more = slow.recv(65_536)
            assert more
            *lines, rest = (rest + more).split(b"\n")
            got += [int(line[4:]) for line in lines if line.startswith(b"id: ") and line != b"id: 0"]
    assert got == logged(ledger)


def test_a_position_of_another_database_is_told_to_read_again(ledger: Ledger, url: str) -> None:
    ask(ledger)
    [head] = logged(ledger)
    with listening(url, after=1_000_000) as events:
        name, number, data = next(events)
        assert (name, number, data) == ("resync", head, {"seq": head})
        request = ask(ledger)
        assert next(events)[2]["request_id"] == request.id


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 40, "٣"])
def test_a_position_that_is_none_is_refused(url: str, last: str) -> None:
    with client(url, "alice") as alice:
        problem(alice.get("/events", headers=[(b"last-event-id", last.encode())]), 422)
        problem(alice.get("/events", params={"after": last}), 422)


def test_a_list_says_from_where_to_listen(ledger: Ledger, url: str) -> None:
    ask(ledger)
    with client(url, "alice") as alice:
        seq = alice.get("/requests").json()["seq"]
    later = ask(ledger)
    with listening(url, after=seq) as events:
        assert next(events)[2]["request_id"] == later.id


def test_people_who_see_only_their_own_hear_of_nothing_else(ledger: Ledger) -> None:
    with serving(create_app(ledger, authenticators=[Named(ledger)], sees="mine")) as url, listening(url) as events:
        ask_many(ledger, 20, terms=two_of("role:legal"))
        request = ask(ledger, terms=two_of("role:finance"))
        assert next(events)[2]["request_id"] == request.id


def test_whoever_loses_a_role_hears_no_more_of_what_took_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LET_IN", 0.2)
    monkeypatch.setattr(stream, "_OWN", 0.1)
    alice = Reviewer("alice", ["legal"])
    people = Named(cast(Any, SimpleNamespace(directory=lambda name: alice)))
    with serving(create_app(ledger, authenticators=[people], sees="mine")) as url, listening(url) as events:
        before = ask(ledger, terms=two_of("role:legal"))
        assert next(events)[2]["request_id"] == before.id
        alice = Reviewer("alice", ["finance"])
        time.sleep(1)
        ask(ledger, terms=two_of("role:legal"))
        after = ask(ledger, terms=two_of("role:finance"))
        assert next(events)[2]["request_id"] == after.id


def test_an_open_stream_has_a_pulse_and_ends_when_its_listener_is_shut_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_HEARTBEAT", 0.1)
    monkeypatch.setattr(stream, "_LET_IN", 0.4)
    people = Named(ledger)
    app = create_app(ledger, authenticators=[people])
    with serving(app) as url, client(url, "alice") as alice, alice.stream("GET", "/events") as response:
        lines = response.iter_lines()
        while not next(lines).startswith(":"):
            pass
        time.sleep(0.5)
        people.gone.add("alice")
        ended = time.monotonic() + 5
        for _ in lines:
            assert time.monotonic() < ended
    assert app.state.hub.listeners == 0


def test_a_server_that_is_told_to_end_ends_its_streams(db_path: str, ledger: Ledger) -> None:
    command = [sys.executable, "-m", "tests.web.inbox_server", db_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{int(cast(Any, server.stdout).readline())}"
            for _ in range(200):
                try:
                    httpx.get(f"{url}/api/v1/health")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            with listening(url) as events, listening(url, "bob") as others:
                request = ask(ledger)
                assert next(events)[2]["request_id"] == next(others)[2]["request_id"] == request.id
                began = time.monotonic()
                server.send_signal(signal.SIGTERM)
                assert (list(events), list(others)) == ([], [])  # ended as a response ends, not cut off
            _, said = server.communicate(timeout=10)
            assert time.monotonic() - began < 5
            assert said == ""
        finally:
            server.kill()


def test_whoever_may_not_come_in_hears_nothing(url: str) -> None:
    with client(url, None) as stranger:
        problem(stranger.get("/events"), 401)
