"""The doors under load: people who watch, people who decide and an agent that asks, all at once, on a real server.

Each of the watchers has the stream of events open, and fetches the list again when it is told of something, at most
every two seconds, as the page does. Answers are sent when they are due, whether earlier ones have come back or not, so
that a slow server cannot slow down the question. The agent is another process than the server.

    python benchmarks/doors.py [--database sqlite postgres] [--watchers 200] [--rate 50] [--minutes 5]
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, credentials, requests
from hitl_graph.ledger.credentials import Identity
from hitl_graph.model import Action, Request, request_id
from hitl_graph.storage import Transaction
from hitl_graph.storage.postgres import PostgresDatabase
from hitl_graph.storage.urls import open_database
from hitl_graph.web import create_app
from hitl_graph.web.security import Security
from hitl_graph.web.throttling import Limits
from hitl_graph.web.tokens import ApiTokens

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Cluster

DEBOUNCE = 2.0
SAMPLED = 10
"""Of so many watchers the delay of each event is kept."""
LARGEST = 2**20


@dataclass
class Measured:
    """What came of it: milliseconds by what was done, and errors."""

    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter[str] = field(default_factory=Counter)
    heard: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    def note(self, what: str, began: float) -> None:
        self.took[what].append((time.perf_counter() - began) * 1000)


class Line:
    """One connection that is kept open: a browser's, or a program's."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """Status and body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=LARGEST)
        reader, writer = self._streams
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._token}\r\n"
                f"{kind}{headers}\r\n".encode()
                + body
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0] or 0)
            return int(head.split(" ", 2)[1]), await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self._streams = None
            writer.close()
            raise

    async def listen(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """Number and data of the events."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=LARGEST)
        try:
            writer.write(
                f"GET /api/v1/events?after={after} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
                f"Authorization: Bearer {self._token}\r\n\r\n".encode()
            )
            seq = after
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    seq = int(line[4:])
                elif line.startswith(b"data: "):
                    yield seq, line[6:]
        finally:
            writer.close()


def fill(ledger: Ledger, numbers: range) -> list[Request]:
    made = []
    for number in numbers:
        action = Action(name=f"tool_{number % 40}", args={"to": f"customer{number}@corp.example", "eur": number % 900})
        own = request_id(f"t{number}", "i")
        made.append(
            Request(id=own, kind="approval", thread_id=f"t{number}", interrupt_id="i", action=action, reason="a rule")
        )
    for first in range(0, len(made), 500):
        ledger.write(_opened, ledger.now_ms(), made[first : first + 500])
    return made


def _opened(tx: Transaction, now_ms: int, block: Sequence[Request]) -> None:
    for request in block:
        requests.open_request(tx, now_ms, request, checkpoint_id="c", task_id="k", parked=1)


async def watch(port: int, token: str, who: int, after: int, measured: Measured) -> None:
    """Look at the list whenever something happened, at most every two seconds."""
    told, page = asyncio.Event(), Line(port, token)

    async def look() -> None:
        while True:
            await told.wait()
            told.clear()
            began = time.perf_counter()
            await attempt(measured, "page", page, "GET", "/", headers="X-Part: list\r\nAccept: text/html\r\n")
            await asyncio.sleep(max(0.0, DEBOUNCE - (time.perf_counter() - began)))

    looking = asyncio.create_task(look())
    heard = measured.heard[who]
    try:
        while True:
            async for seq, data in Line(port, token).listen(heard[-1] if heard else after):
                heard.append(seq)
                if who < SAMPLED:
                    late = time.time() - datetime.fromisoformat(json.loads(data)["at"]).timestamp()
                    measured.took["event"].append(late * 1000)
                told.set()
            measured.errors["stream ended"] += 1
    finally:
        looking.cancel()


async def attempt(
    measured: Measured, what: str, line: Line, method: str, path: str, body: bytes = b"", headers: str = "",
    began: float | None = None,
) -> bytes:  # fmt: skip
    began = time.perf_counter() if began is None else began
    try:
        status, told = await line.send(method, path, body, headers)
    except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
        measured.errors[f"{what}: {exc!r}"] += 1
        return b""
    measured.note(what, began)
    if status >= 400:
        measured.errors[f"{what}: {status} {told[:120]!r}"] += 1
    return told


async def people(
    ledger: Ledger,
    port: int,
    tokens: Sequence[str],
    waiting: list[Request],
    rate: int,
    seconds: float,
    measured: Measured,
) -> int:
    """Decide so many a second; ask as many new ones; read some through the API. Returns how many were decided."""
    lines, busy = asyncio.Queue[Line](), set[asyncio.Task[None]]()
    for token in tokens:
        for _ in range(8):
            lines.put_nowait(Line(port, token))

    async def one(request: Request, due: float, number: int) -> None:
        line = await lines.get()
        try:
            if number % 5 == 0:
                await attempt(measured, "open one", line, "GET", f"/api/v1/requests/{request.id}")
                due = time.perf_counter()
            if number % 10 == 0:
                await attempt(measured, "list", line, "GET", "/api/v1/requests")
                due = time.perf_counter()
            body = json.dumps({"type": "approve", "digest": request.digest}).encode()
            path = f"/api/v1/requests/{request.id}/decision"
            await attempt(measured, "decide", line, "POST", path, body, began=due)
        finally:
            lines.put_nowait(line)

    began, number = time.perf_counter(), 0
    asked = len(waiting)
    while (due := began + number / rate) < began + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if number % rate == 0:
            waiting += await asyncio.to_thread(fill, ledger, range(asked, asked + rate))
            asked += rate
        task = asyncio.create_task(one(waiting[number], due, number))
        busy.add(task)
        task.add_done_callback(busy.discard)
        number += 1
    await asyncio.gather(*busy)
    return number


async def sample(pid: int, began: float, measured: Measured) -> None:
    """Memory (MB) and processor time (s) of the server, each second."""
    while True:
        measured.samples.append((time.perf_counter() - began, *used(pid)))
        await asyncio.sleep(1)


def used(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = int(status.partition("VmRSS:")[2].split()[0])
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return kilobytes / 1024, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


async def load(ledger: Ledger, port: int, pid: int, tokens: Sequence[str], options: argparse.Namespace) -> None:
    measured, waiting = Measured(), await asyncio.to_thread(fill, ledger, range(options.pending))
    after = Inbox(ledger).last_event()
    watchers = [
        asyncio.create_task(watch(port, tokens[n % len(tokens)], n, after, measured)) for n in range(options.watchers)
    ]
    await asyncio.sleep(3)
    began = time.perf_counter()
    sampling = asyncio.create_task(sample(pid, began, measured))
    decided = await people(ledger, port, tokens, waiting, options.rate, options.minutes * 60, measured)
    took = time.perf_counter() - began
    expected = [event.seq for event in Inbox(ledger).events(after, limit=10_000_000)]
    for _ in range(100):
        if all(measured.heard[n][-1:] == expected[-1:] for n in range(options.watchers)):
            break
        await asyncio.sleep(0.1)
    for task in (sampling, *watchers):
        task.cancel()
    report(measured, decided, took, expected, options)
    recorded = sum(Inbox(ledger).get(request.id).decision is not None for request in waiting[:decided])
    print(f"\ndecisions sent {decided:,}, recorded {recorded:,}; events {len(expected):,}")


def report(measured: Measured, decided: int, took: float, expected: list[int], options: argparse.Namespace) -> None:
    lost = sum(len(set(expected) - set(measured.heard[n])) for n in range(options.watchers))
    disorder = sum(measured.heard[n] != sorted(set(measured.heard[n])) for n in range(options.watchers))
    print(f"{options.watchers} watchers, {decided / took:.1f} decisions a second for {took:.0f} s")
    print("| what | times | a second | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|---|")
    for what in ("decide", "open one", "list", "page", "event"):
        if values := sorted(measured.took[what]):
            print(
                f"| {what} | {len(values):,} | {len(values) / took:,.1f} | {statistics.median(values):.1f} |"
                f" {values[int(len(values) * 0.99)]:.1f} | {values[-1]:.1f} |"
            )
    rss = [memory for _, memory, _ in measured.samples]
    cpu = (measured.samples[-1][2] - measured.samples[0][2]) / (measured.samples[-1][0] - measured.samples[0][0])
    tenth = max(1, len(rss) // 10)
    parts = [statistics.mean(rss[at : at + tenth]) for at in (0, len(rss) // 2, len(rss) - tenth)]
    print(
        f"\nserver: {cpu:.0%} of a core; memory {' -> '.join(f'{part:.0f}' for part in parts)} MB (start, middle, end)"
    )
    print(f"errors {sum(measured.errors.values())} {dict(measured.errors) or ''}")
    print(f"events lost {lost}, streams out of order {disorder}")


@contextlib.contextmanager
def served(url: str, *, plain: bool) -> Generator[tuple[int, int]]:
    """Port and process of a server on this database."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", url, "--port", str(port), *(["--plain"] if plain else [])]
    server = subprocess.Popen(command)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if server.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.1)
        yield port, server.pid
    finally:
        began = time.perf_counter()
        server.terminate()
        server.wait()
        print(f"the server ended {time.perf_counter() - began:.1f} s after it was told to\n")


def serve(url: str, port: int, *, plain: bool) -> None:
    with Ledger(PostgresDatabase.open(url) if "host=" in url else open_database(url)) as ledger:
        none = Limits(requests=None, logins=None, tokens=None, decisions=None)  # all come from one address here
        app = create_app(ledger, authenticators=[ApiTokens(ledger)], security=Security(limits=none))
        how: dict[str, Any] = {"loop": "asyncio", "http": "h11"} if plain else {}
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", **how)


def measure(name: str, ledger: Ledger, url: str, options: argparse.Namespace) -> None:
    tokens = [
        ledger.write(
            credentials.issue, ledger.now_ms(), "token", Identity(f"person{n}"), by="benchmark", lifetime=None
        )[0]
        for n in range(20)
    ]  # fmt: skip
    print(f"## {name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before\n")
    with served(url, plain=options.plain) as (port, pid):
        asyncio.run(load(ledger, port, pid, tokens, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", nargs="+", choices=["sqlite", "postgres"], default=["sqlite"])
    parser.add_argument("--watchers", type=int, default=200)
    parser.add_argument("--rate", type=int, default=50, help="Decisions a second.")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pending", type=int, default=1000)
    parser.add_argument("--plain", action="store_true", help="Without uvloop and httptools.")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.port, plain=options.plain)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if "sqlite" in options.database:
            path = os.path.join(folder, "ledger.db")
            with Ledger.open(path) as ledger:
                measure("SQLite", ledger, path, options)
        if "postgres" in options.database:
            dsn = stack.enter_context(stack.enter_context(Cluster()).database())
            with Ledger(PostgresDatabase.open(dsn, max_connections=4)) as ledger:
                measure("PostgreSQL", ledger, dsn, options)


if __name__ == "__main__":
    main()
