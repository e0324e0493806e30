"""The two doors of the MCP server: a process of the client's own, and a port that lets in who carries a token."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("mcp")
pytest.importorskip("typer")

from hitl_graph.cli import main
from hitl_graph.ledger import credentials
from hitl_graph.ledger.credentials import Identity
from hitl_graph.mcp import create_server
from tests.mcp_people import Human, Office, Person, accept, over_http, text
from tests.web.conftest import serving

HITL = [sys.executable, "-m", "hitl_graph.cli"]
INSPECTOR = os.environ.get("MCP_INSPECTOR") or shutil.which("mcp-inspector")
PAY = {"iban": "DE1", "eur": 5}
HELLO: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "a test", "version": "1"},
    },
}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}
JSON = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Office]:
    monkeypatch.chdir(tmp_path)
    found = Office(str(tmp_path / "agent.db"))
    with contextlib.closing(found.checkpointer):
        yield found


@pytest.fixture
def url(office: Office) -> Generator[str]:
    with office.serving() as address:
        yield address


def decide(request_id: str) -> dict[str, Any]:
    call = {"name": "decide", "arguments": {"request_id": request_id}}
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}


@pytest.mark.parametrize("ends", ["standard input", "a signal"])
def test_a_process_speaks_only_the_protocol_and_ends_with_a_form_open(office: Office, ends: str) -> None:
    request = office.pause("t", "pay", PAY)
    with subprocess.Popen(
        [*HITL, "mcp", "--as", "alice"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for message in (HELLO, READY, decide(request.id)):
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        hello, asked = (json.loads(process.stdout.readline()) for _ in range(2))
        assert hello["result"]["serverInfo"]["name"] == "hitl-graph inbox"
        assert asked["method"] == "elicitation/create"
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
        accepted = {"action": "accept", "content": {"answer": "approve"}}
        for message in (cancelled, {"jsonrpc": "2.0", "id": asked["id"], "result": accepted}, decide(request.id)):
            process.stdin.write(json.dumps(message) + "\n")  # an answer after the call was cancelled does not count
            process.stdin.flush()
        while json.loads(process.stdout.readline()).get("method") != "elicitation/create":
            pass
        if ends == "a signal":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()
    assert office.untouched(request)


def test_the_command_line_says_what_is_wrong(
    office: Office, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HITL_INBOX_URL", raising=False)
    for options, says in (
        (["--mode", "page"], "form or url"),
        (["--mode", "url"], "needs the address of the web inbox"),
        (["--http", "--as", "alice"], "each call carries a token"),
        (["--inbox-url", "javascript:alert(1)"], "is no address of an inbox"),
        (["--as", "Anonymous"], "anonymous is nobody"),
    ):
        assert main(["mcp", *options]) == 2
        assert says in capsys.readouterr().err
    assert main(["mcp", "--http", "--host", "203.0.113.1"]) == 1
    assert "cannot be listened on" in capsys.readouterr().err
    for name in [name for name in sys.modules if name.startswith(("hitl_graph.mcp", "mcp."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert main(["mcp"]) == 1
    assert "pip install 'hitl-graph[cli,mcp]'" in capsys.readouterr().err


async def test_the_command_serves_who_has_a_token_of_the_database(office: Office) -> None:
    request = office.pause("t", "pay", PAY)
    secret, _ = office.ledger.write(
        credentials.issue, office.ledger.now_ms(), "token", Identity("bob"), by="alice", lifetime=None
    )
    process = await asyncio.create_subprocess_exec(
        *HITL, "mcp", "--http", "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr
        told = (await process.stderr.readline()).decode()
        [url] = re.findall(r"http://127\.0\.0\.1:\d+/mcp", told)

        async with over_http(url, secret, Human(accept(answer="wait"), accept(answer="approve"))) as session:
            await session.call_tool("decide", {"request_id": request.id})
            result = await session.call_tool("decide", {"request_id": request.id})
            assert text(result) == "Recorded: approved by bob."
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (office.inbox.get(request.id).reviewer, office.inbox.get(request.id).channel) == ("bob", "mcp")


async def test_without_a_good_token_nobody_comes_in(office: Office, url: str) -> None:
    async with httpx.AsyncClient(headers=JSON) as client:
        for header in (
            {},
            {"authorization": "Bearer alice's bob's"},
            {"authorization": "Bearer eve"},
            {"authorization": "Basic YTpi"},
        ):
            for answer in (await client.post(url, json=HELLO, headers=header), await client.get(url, headers=header)):
                assert answer.status_code == 401
                assert "hitl-graph" not in answer.text
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await client.post(f"{url}?token=alice's", json=HELLO)).status_code == 401
        office.tokens["anonymous's"] = Person("anonymous")
        answer = await client.post(url, json=HELLO, headers={"authorization": "Bearer anonymous's"})
        assert answer.status_code == 401
        office.tokens["writer's"] = Person("writer", "decide")
        answer = await client.post(url, json=HELLO, headers={"authorization": "Bearer writer's"})
        assert answer.status_code == 403


async def test_other_names_and_other_pages_are_turned_away(url: str) -> None:
    async with httpx.AsyncClient(headers={**JSON, "authorization": "Bearer alice's"}) as client:
        for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil.example:8765"):
            assert (await client.post(url, json=HELLO, headers={"host": name})).status_code == 421
        for page in ("http://evil.example", "null", "http://127.0.0.1.evil.example:80"):
            assert (await client.post(url, json=HELLO, headers={"origin": page})).status_code == 403
        here = url.removesuffix("/mcp")
        assert (await client.post(url, json=HELLO, headers={"origin": here})).status_code == 200
        assert (await client.post(url, json={**HELLO, "x": "y" * 5_000_000})).status_code == 413


async def test_the_answer_to_a_form_is_taken_only_from_whom_it_was_shown(office: Office, url: str) -> None:
    request = office.pause("t", "pay", PAY)
    async with httpx.AsyncClient(headers={**JSON, "authorization": "Bearer alice's"}, timeout=10) as alice:
        hello = await alice.post(url, json=HELLO)
        session = {"mcp-session-id": hello.headers["mcp-session-id"]}
        assert (await alice.post(url, json=READY, headers=session)).status_code == 202
        async with alice.stream("POST", url, json=decide(request.id), headers=session) as talk:
            lines = talk.aiter_lines()
            asked = json.loads([line async for line in _until_asked(lines)][-1].removeprefix("data: "))
            answer = {
                "jsonrpc": "2.0", "id": asked["id"],
                "result": {"action": "accept", "content": {"answer": "approve"}},
            }  # fmt: skip
            office.tokens["alice's second"] = office.tokens["alice's"]
            for token in ("bob's", "guest's", "nobody's", "alice's second"):  # a second one may only be for looking
                headers = {**session, "authorization": f"Bearer {token}"}
                assert (await alice.post(url, json=answer, headers=headers)).status_code in (401, 404)
            assert office.untouched(request)
            del office.tokens["alice's"]  # it is revoked while the form is open
            assert (await alice.post(url, json=answer, headers=session)).status_code == 401
    assert office.untouched(request)


async def _until_asked(lines: Any) -> Any:
    async for line in lines:
        if line.startswith("data: {"):
            yield line
            if "elicitation/create" in line:
                return


async def test_a_server_for_one_person_lets_nobody_in_over_http(office: Office) -> None:
    request, human = office.pause("t", "pay", PAY), Human()
    server = create_server(office.ledger, reviewer="alice")
    with serving(server.streamable_http_app()) as address:
        async with over_http(f"{address}/mcp", "alice's", human) as session:
            for tool, arguments in (("list_pending", {}), ("show", {"request_id": request.id})):
                result = await session.call_tool(tool, arguments)
                assert result.isError
                assert "has to carry a token" in text(result)
            assert (await session.call_tool("decide", {"request_id": request.id})).isError
    assert not human.asked


@pytest.mark.slow
@pytest.mark.skipif(INSPECTOR is None, reason="the inspector is not installed; MCP_INSPECTOR names it")
def test_the_inspector_lists_and_calls_the_tools(office: Office) -> None:
    request = office.pause("t", "pay", PAY)

    def inspect(*options: str) -> Any:
        command = [str(INSPECTOR), "--cli", *HITL, "mcp", "--db", office.path, "--as", "alice", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return json.loads(done.stdout)

    tools = {tool["name"]: tool["annotations"] for tool in inspect("--method", "tools/list")["tools"]}
    assert tools["decide"]["destructiveHint"]
    assert tools["show"]["readOnlyHint"]
    call = ("--method", "tools/call", "--tool-name")
    listed = inspect(*call, "list_pending", "--tool-arg", "kind=approval")
    assert [row["id"] for row in listed["structuredContent"]["requests"]] == [request.id]
    asked = inspect(*call, "decide", "--tool-arg", f"request_id={request.id}")
    assert asked["structuredContent"]["outcome"] == "elsewhere"  # it cannot ask
    assert office.untouched(request)
