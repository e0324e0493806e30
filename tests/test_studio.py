"""The real `langgraph dev`, driven as Studio, Agent Inbox and Agent Chat UI drive it."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request, approve, edit
from hitl_graph.worker import Worker

ROOT = Path(__file__).parent.parent
EDITED = {"to": "ann@example.com", "subject": "Lunch", "body": "edited"}
HOLD = 60.0


class Server:
    """`langgraph dev` on a copy of langgraph.json and examples/: what the server keeps for itself goes there too.

    Without the inbox in it, unless told: that carries out what is decided, which most tests do by themselves.
    """

    def __init__(self, home: Path, *, inbox: bool = False, **extra: Any) -> None:
        self.home = home
        self.db, self.outbox, self.log = home / "agent.db", home / "outbox.jsonl", home / "server.log"
        shutil.copytree(ROOT / "examples", home / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        named = json.loads((ROOT / "langgraph.json").read_text())
        named = {name: value for name, value in named.items() if name != "http" or inbox}
        graphs = named["graphs"] | extra.pop("graphs", {})
        (home / "langgraph.json").write_text(json.dumps(named | extra | {"graphs": graphs}))
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        for _ in range(3):  # somebody else may take the free port first
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}"
            command = [
                *(sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"),
                *("--host", "127.0.0.1", "--port", str(port), "--n-jobs-per-worker", "20"),
            ]
            settings = {
                "LANGSMITH_TRACING": "false",
                "LANGGRAPH_CLI_NO_ANALYTICS": "1",
                "LOG_JSON": "true",
                "HITL_DB": str(self.db),
                "HITL_OUTBOX": str(self.outbox),
                "HITL_MAILS": str(self.home / "mails"),
            }
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    command, cwd=self.home, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True
                )
            if self._is_up(self.process):
                return
            self.stop()
        raise AssertionError(f"langgraph dev did not start:\n{self.log.read_text()[-5000:]}")

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        until = time.monotonic() + HOLD
        while time.monotonic() < until and process.poll() is None:
            try:
                with urlopen(f"{self.url}/ok", timeout=5):
                    return True
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the whole process group, and wait until it is gone."""
        if self.process is None:
            return
        process, group = self.process, self.process.pid
        self.process = None
        for sent in (how, signal.SIGKILL):
            try:
                os.killpg(group, sent)
                process.wait(20)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait(20)

    def client(self, **headers: str) -> LangGraphClient:
        return get_client(url=self.url, headers=headers)

    def sent(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.outbox.read_text().splitlines()] if self.outbox.exists() else []

    def bodies(self, order: str) -> list[str]:
        """What was sent on behalf of one order: the bodies, in order of sending."""
        return [mail["body"] for mail in self.sent() if order in mail["body"] or order in mail["subject"]]

    def records(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def complaints(self) -> list[dict[str, Any]]:
        """What the server warned about or failed at, other than the answers that the node had to refuse."""
        loud = [record for record in self.records() if record.get("level") in ("warning", "error", "critical")]
        return [record for record in loud if not _is_refusal(record)]


def _is_refusal(record: dict[str, Any]) -> bool:
    text = json.dumps(record)
    return any(
        name in text
        for name in ("AlreadyDecidedError", "InvalidDecisionError", "StaleRequestError", "multiple pending interrupts")
    )


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server with langgraph.json as it is. It may have nothing to complain about in the end."""
    server = Server(tmp_path_factory.mktemp("studio"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
    messages = [str(record.get("event")) for record in server.records()]
    assert any("Using custom checkpointer: SqliteCheckpointer" in message for message in messages)
    assert not [message for message in messages if "checkpointer missing" in message]
    assert not any("Blocking" in json.dumps(record) for record in server.records())
    assert server.complaints() == []


@pytest.fixture
async def client(studio: Server) -> AsyncIterator[LangGraphClient]:
    async with studio.client() as client:
        yield client


@pytest.fixture
def inbox(studio: Server) -> Iterator[Inbox]:
    """The inbox on the server's file, as another process has it."""
    with Ledger.open(studio.db) as ledger:
        yield Inbox(ledger)


async def pause(
    client: LangGraphClient, text: str, agent: str = "email_agent", **more: Any
) -> tuple[str, list[dict[str, Any]]]:
    """Run a new thread to its pause; its id and what it asks."""
    thread_id = (await client.threads.create(**more))["thread_id"]
    said: Any = {"messages": [{"role": "user", "content": text}]}
    output = await client.runs.wait(thread_id, agent, input=said, raise_error=False)
    assert isinstance(output, dict)
    return thread_id, output.get("__interrupt__", [])


async def resume(client: LangGraphClient, thread_id: str, answer: Any, agent: str = "email_agent", **more: Any) -> str:
    """Resume as clients do; what came of it: the last message, `paused`, or the name of the error."""
    output = await client.runs.wait(thread_id, agent, command={"resume": answer}, raise_error=False, **more)
    assert isinstance(output, dict)
    if "__error__" in output:
        return str(output["__error__"]["error"])
    return "paused" if output.get("__interrupt__") else str(output["messages"][-1]["content"])


async def waits(client: LangGraphClient, thread_id: str) -> list[str]:
    """Ids of the interrupts that a thread waits for."""
    state = await client.threads.get_state(thread_id)
    return [interrupt["id"] for interrupt in state["interrupts"]]


async def status(client: LangGraphClient, thread_id: str) -> str:
    return str((await client.threads.get(thread_id))["status"])


# Each shape in which an answer comes: what it is called, what is sent, what the model reads, what is in the mail.
ACCEPTED: list[tuple[str, Any, str, str | None]] = [
    ("approve", {"type": "approve"}, "sent to ann", "asked"),
    ("edit, args", {"type": "edit", "args": EDITED}, "A person changed this call", "edited"),
    (
        "edit, edited_action",
        {"type": "edit", "edited_action": {"name": "send_email", "args": EDITED}},
        "A person changed this call",
        "edited",
    ),
    ("reject", {"type": "reject", "message": "not now"}, 'They said: "not now"', None),
    ("reject without a reason", {"type": "reject"}, "A person rejected this call", None),
    ("respond", {"type": "respond", "message": "ask Ann by phone"}, "ask Ann by phone", None),
    ("chat ui: approve", {"decisions": [{"type": "approve"}]}, "sent to ann", "asked"),
    (
        "chat ui: edit",
        {"decisions": [{"type": "edit", "edited_action": {"name": "send_email", "args": EDITED}}]},
        "A person changed this call",
        "edited",
    ),
    ("chat ui: reject", {"decisions": [{"type": "reject", "message": "no"}]}, 'They said: "no"', None),
    ("agent inbox: accept", [{"type": "accept", "args": None}], "sent to ann", "asked"),
    (
        "agent inbox: edit",
        [{"type": "edit", "args": {"action": "send_email", "args": EDITED}}],
        "A person changed this call",
        "edited",
    ),
    ("agent inbox: respond", [{"type": "response", "args": "later"}], "later", None),
    ("agent inbox: ignore", [{"type": "ignore", "args": None}], "A person rejected this call", None),
]


@pytest.mark.parametrize("addressed", [False, True], ids=["scalar", "by interrupt id"])
async def test_each_answer_in_each_shape(client: LangGraphClient, studio: Server, addressed: bool) -> None:
    async def answered(answer: Any) -> tuple[str, list[str], str]:
        order = uuid4().hex
        thread_id, [asked] = await pause(client, f"answer 1: asked {order}")
        said = await resume(client, thread_id, _for(order, {asked["id"]: answer} if addressed else answer))
        bodies = [body.replace(order, "").strip() for body in studio.bodies(order)]
        return said, bodies, await status(client, thread_id)

    results = await asyncio.gather(*(answered(answer) for _, answer, _, _ in ACCEPTED))
    for (name, _, told, mail), (said, bodies, state) in zip(ACCEPTED, results, strict=True):
        assert (name, bodies, state) == (name, [mail] if mail else [], "idle")
        assert told in said, name


def _for(order: str, answer: Any) -> Any:
    """The answer, its edited body marked with the order."""
    return json.loads(json.dumps(answer).replace('"body": "edited"', f'"body": "edited {order}"'))


async def test_a_paused_thread_is_found_and_shows_what_it_asks(
    client: LangGraphClient, studio: Server, inbox: Inbox
) -> None:
    order = uuid4().hex
    thread_id, [asked] = await pause(client, f"answer 1: {order}", metadata={"order": order})
    [found] = await client.threads.search(status="interrupted", metadata={"order": order})
    assert found["thread_id"] == thread_id
    [[listed]] = found["interrupts"].values()
    [request] = await inbox.apending(thread_id=thread_id)
    for shown in (asked, listed):
        assert shown["id"] == request.interrupt_id
        [action] = shown["value"]["action_requests"]
        assert request.action is not None
        assert action["name"] == request.action.name == "send_email"
        assert action["args"] == action["arguments"] == request.action.args
        assert shown["response_schema"]["properties"]["type"]["enum"] == ["approve", "edit", "reject", "respond"]
    assert studio.bodies(order) == []


async def test_the_demo_sends_real_mail_once(client: LangGraphClient, studio: Server) -> None:
    mails = studio.home / "mails"
    names = sorted(path.stem for path in (mails / "inbox").glob("*.eml"))
    threads = await asyncio.gather(*(pause(client, f"Handle the mail {name}", "demo") for name in names))
    asked = [interrupt["value"]["action_requests"][0]["name"] for _, [interrupt] in threads]
    assert (len(names), set(asked)) == (6, {"send_email", "archive", "delete"})

    async def answer(thread_id: str, interrupt: dict[str, Any], rejected: bool) -> str:
        decided = {"type": "reject", "message": "no"} if rejected else {"type": "approve"}
        return await resume(client, thread_id, {interrupt["id"]: decided}, agent="demo")

    answers = [answer(thread_id, interrupt, not number) for number, (thread_id, [interrupt]) in enumerate(threads)]
    said = await asyncio.gather(*answers)
    assert ['They said: "no"' in text for text in said] == [True] + [False] * 5
    done = list(zip(asked, names, strict=True))[1:]
    assert len(list((mails / "sent").iterdir())) == sum(tool == "send_email" for tool, _ in done)
    assert {p.stem for p in (mails / "archive").iterdir()} == {name for tool, name in done if tool == "archive"}
    left = {path.stem for path in (mails / "inbox").iterdir()}
    assert left == {names[0], *(name for tool, name in done if tool == "send_email")}


# Each graph of langgraph.json: what it is given, what it asks, what it is answered, its nodes.
APPROVED = {"type": "approve"}
STORY: dict[str, tuple[Any, str, Any, set[str]]] = {
    "email_agent": ("answer 1: gladly", "send_email", APPROVED, {"agent", "tools"}),
    "demo": ("Handle the mail 1-offer", "send_email", APPROVED, {"assistant", "tools"}),
    "moderation": (
        "Please go through the new posts.", "May this post stay?", {"type": "respond", "value": {"verdict": "keep"}},
        {"agent", "tools", "watch"},
    ),
    "pull_request": ({"issue": "too many decimals"}, "billing.py", APPROVED, {"author", "review"}),
    "trading": ("buy 40 ACME", "place_order", APPROVED, {"agent", "tools"}),
    "newsletter": (
        "write to the club about the hike", "send_newsletter", APPROVED,
        {
            "model", "tools", "ApprovalMiddleware.after_model", "EscalationMiddleware.before_model",
            "EscalationMiddleware.after_model", "OutputReviewMiddleware.after_agent",
        },
    ),
    "refunds": ("refund 500 to bob", "pay", APPROVED, {"refund_desk"}),
    "group_chat": (
        "Sales, please", "execute_code", APPROVED, {"analyst", "code", "run_code", "writer", "critic", "user"}
    ),
    "travel": ("Ann has to be in Lyon on Monday.", "book_train", APPROVED, {"agent", "tools"}),
    "purchasing": ("Eve needs a screen.", "order_goods", APPROVED, {"agent", "tools"}),
    "support": ("Mr Novak wants his money back.", "answer_customer", APPROVED, {"agent", "tools"}),
}  # fmt: skip


def test_every_graph_has_a_story_and_a_picture_and_the_document_is_up_to_date() -> None:
    """`python scripts/draw_graphs.py` draws them."""
    text = (ROOT / "langgraph.json").read_text()
    assert json.loads(text)["graphs"].keys() == STORY.keys()
    assert {file.stem for file in (ROOT / "docs" / "graphs").glob("*.png")} == STORY.keys()
    assert text in (ROOT / "docs" / "studio.md").read_text()


@pytest.mark.parametrize("graph", STORY)
async def test_studio_gets_a_graph_and_schemas_for_its_form(client: LangGraphClient, graph: str) -> None:
    given, _, _, nodes = STORY[graph]
    [assistant] = await client.assistants.search(graph_id=graph)
    schemas: Any = await client.assistants.get_schemas(assistant["assistant_id"])
    for name in ("input_schema", "output_schema", "state_schema"):
        fields = schemas[name]
        if "$ref" in fields:
            fields = fields["$defs"][fields["$ref"].rpartition("/")[2]]
        known = {"messages"} if not isinstance(given, dict) else set(given)
        if name == "state_schema" and nodes == {"refund_desk"}:
            known = {"__end__"}  # a function keeps what it gave, and has no other state
        assert fields["properties"].keys() >= known, name
    drawn = await client.assistants.get_graph(assistant["assistant_id"])
    assert {node["id"] for node in drawn["nodes"]} == {*nodes, "__start__", "__end__"}
    assert drawn["edges"]


@pytest.mark.parametrize("graph", STORY)
async def test_each_graph_runs_to_its_pause_and_on(client: LangGraphClient, inbox: Inbox, graph: str) -> None:
    given, asked, answer, _ = STORY[graph]
    thread_id = (await client.threads.create())["thread_id"]
    said: Any = given if isinstance(given, dict) else {"messages": [{"role": "user", "content": given}]}
    output: Any = await client.runs.wait(thread_id, graph, input=said, raise_error=False)
    [interrupt] = output["__interrupt__"]
    assert asked in json.dumps(interrupt["value"])
    [request] = await inbox.apending(thread_id=thread_id)
    assert request.interrupt_id == interrupt["id"]
    assert await status(client, thread_id) == "interrupted"
    after: Any = await client.runs.wait(
        thread_id, graph, command={"resume": {interrupt["id"]: answer}}, raise_error=False
    )
    assert "__error__" not in after
    decided = await inbox.aget(request.id)
    assert (decided.state, decided.decision and decided.decision.type) == ("delivered", answer["type"])
    if request.kind == "approval":
        assert request.origin is not None
        more = await inbox.apending(thread_id=thread_id)  # the next thing that it asks
        assert (await status(client, thread_id), request.origin.graph) == ("interrupted" if more else "idle", graph)
    await client.threads.delete(thread_id)


def _refused(request: Request) -> list[tuple[str, Any, str]]:
    stale = {"type": "approve", "request_id": "0" * 20}
    return [
        ("a word that is none", {"type": "yes"}, "InvalidDecisionError"),
        ("a bare word", "approve", "InvalidDecisionError"),
        ("a list of no decisions", {"decisions": []}, "InvalidDecisionError"),
        ("two decisions about one call", {"decisions": [{"type": "approve"}] * 2}, "InvalidDecisionError"),
        ("an edit without arguments", {"type": "edit"}, "InvalidDecisionError"),
        ("an edit that lacks an argument", {"type": "edit", "args": {"to": "ann@example.com"}}, "InvalidDecisionError"),
        (
            "an edit into another tool",
            [{"type": "edit", "args": {"action": "x", "args": EDITED}}],
            "InvalidDecisionError",
        ),
        ("approve with other arguments", {"type": "approve", "args": EDITED}, "InvalidDecisionError"),
        (
            "accept of something not asked",
            [{"type": "accept", "args": {"action": "x", "args": {}}}],
            "StaleRequestError",
        ),
        ("an answer to another request", stale, "StaleRequestError"),
        ("another digest", {"type": "approve", "digest": "0" * 64}, "StaleRequestError"),
        ("a pointer to no decision", {"request_id": request.id, "digest": request.digest}, "InvalidDecisionError"),
        ("nothing", None, "paused"),
        ("an empty answer", {}, "paused"),
    ]


async def test_a_wrong_answer_is_refused_and_the_question_stays(
    client: LangGraphClient, studio: Server, inbox: Inbox
) -> None:
    async def refused(number: int) -> tuple[str, str, int, list[str], str, list[str]]:
        order = uuid4().hex
        thread_id, [asked] = await pause(client, f"answer 1: {order}")
        [request] = await inbox.apending(thread_id=thread_id)
        name, answer, _ = _refused(request)[number]
        said = await resume(client, thread_id, answer)
        assert await waits(client, thread_id) == [asked["id"]], name
        assert await inbox.apending(thread_id=thread_id) == [request], name
        before = len(studio.bodies(order))
        then = await resume(client, thread_id, {"type": "approve"})
        return name, said, before, studio.bodies(order), then, await waits(client, thread_id)

    [example] = [Request(id="x", kind="approval", thread_id="x", interrupt_id="x")]
    cases = _refused(example)
    results = await asyncio.gather(*(refused(number) for number in range(len(cases))))
    for (name, _, error), (same, said, before, bodies, then, left) in zip(cases, results, strict=True):
        assert (name, said, before, len(bodies), left) == (same, error, 0, 1, [])
        assert then == "sent to ann@example.com"


async def test_two_questions_are_answered_by_id_and_apart(
    client: LangGraphClient, studio: Server, inbox: Inbox
) -> None:
    order = uuid4().hex
    thread_id, asked = await pause(client, f"answer 1, 2 and 3: {order}")
    ann, bob, eve = (interrupt["id"] for interrupt in asked)
    assert await resume(client, thread_id, {"type": "approve"}) == "RuntimeError"  # LangGraph: for which of them?
    assert (await waits(client, thread_id), studio.bodies(order)) == ([ann, bob, eve], [])
    assert await resume(client, thread_id, {bob: {"type": "approve"}}) == "paused"
    assert [mail["to"] for mail in studio.sent() if mail["body"] == order] == ["bob@example.com"]
    assert await resume(client, thread_id, {bob: {"type": "reject"}, ann: {"type": "bogus"}}) == "InvalidDecisionError"
    assert len(await inbox.apending(thread_id=thread_id)) == 2
    said = await resume(client, thread_id, {ann: {"type": "reject", "message": "no"}, eve: [{"type": "accept"}]})
    lines = said.split("\n")
    assert ('They said: "no"' in lines[0], lines[1:]) == (True, ["sent to bob@example.com", "sent to eve@example.com"])
    assert [mail["to"] for mail in studio.sent() if mail["body"] == order] == ["bob@example.com", "eve@example.com"]


async def test_stale_tabs_do_nothing_twice(client: LangGraphClient, studio: Server) -> None:
    """Agent Chat UI resumes from the checkpoint that the tab shows, also when the thread went on since."""

    async def tab(thread_id: str, checkpoint: Any, answer: Any) -> str:
        at = {"checkpoint_id": checkpoint["checkpoint_id"]}
        return await resume(client, thread_id, {"decisions": [answer]}, input={}, checkpoint=at)

    async def tabs(*answers: dict[str, str], together: bool) -> tuple[list[str], int, str]:
        order = uuid4().hex
        thread_id, _ = await pause(client, f"answer 1: {order}")
        checkpoint = (await client.threads.get_state(thread_id))["checkpoint"]
        runs = [tab(thread_id, checkpoint, answer) for answer in answers]
        said = await asyncio.gather(*runs) if together else [await run for run in runs]
        return said, len(studio.bodies(order)), await status(client, thread_id)

    yes, no = {"type": "approve"}, {"type": "reject", "message": "no"}
    twice, both, changed_mind, too_late = await asyncio.gather(
        tabs(yes, yes, together=False),
        tabs(yes, yes, yes, together=True),
        tabs(no, yes, together=False),
        tabs(yes, no, together=False),
    )
    # From a checkpoint whose call came to its end LangGraph does not run the node again: late tabs are told what became
    # of the call, whatever they say.
    assert twice == (["sent to ann@example.com"] * 2, 1, "idle")
    assert both == (["sent to ann@example.com"] * 3, 1, "idle")
    assert too_late == (["sent to ann@example.com"] * 2, 1, "idle")
    [first, second], sent, _ = changed_mind
    assert ('They said: "no"' in first, second, sent) == (True, first, 0)


async def test_decided_in_the_inbox_carried_out_by_studio(
    client: LangGraphClient, studio: Server, inbox: Inbox
) -> None:
    order = uuid4().hex
    thread_id, [asked] = await pause(client, f"answer 1: {order}")
    [request] = await inbox.apending(thread_id=thread_id)
    decided = await inbox.adecide(request.id, edit(EDITED | {"body": f"edited {order}"}), reviewer="alice")
    other = await resume(client, thread_id, {asked["id"]: {"type": "approve"}})
    assert (other, studio.bodies(order)) == ("AlreadyDecidedError", [])
    pointer = {"request_id": request.id, "digest": decided.digest}
    assert "A person changed this call" in await resume(client, thread_id, {asked["id"]: pointer})
    assert studio.bodies(order) == [f"edited {order}"]
    after = await inbox.aget(request.id)
    assert (after.state, after.reviewer) == ("delivered", "alice")


async def test_a_worker_on_the_same_file_carries_out_what_studio_asked(
    client: LangGraphClient, studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.email_agent import builder

    monkeypatch.setenv("HITL_OUTBOX", str(studio.outbox))
    order = uuid4().hex
    thread_id, [asked] = await pause(client, f"answer 1: {order}")
    checkpoint = (await client.threads.get_state(thread_id))["checkpoint"]
    with SqliteCheckpointer(studio.db) as checkpointer:
        inbox = Inbox(checkpointer.ledger)
        [request] = await inbox.apending(thread_id=thread_id)
        await inbox.adecide(request.id, approve(), reviewer="alice")
        [result] = await Worker(builder.compile(checkpointer=checkpointer), checkpointer.ledger).arun_once()
    assert (result.thread_id, result.status) == (thread_id, "finished")
    assert await waits(client, thread_id) == []
    late = await resume(client, thread_id, {asked["id"]: {"type": "approve"}}, checkpoint=checkpoint)
    assert (late, len(studio.bodies(order))) == ("sent to ann@example.com", 1)


async def test_a_thread_of_another_process_goes_on_in_studio(
    client: LangGraphClient, studio: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.email_agent import builder

    monkeypatch.setenv("HITL_OUTBOX", str(studio.outbox))
    order, thread_id = uuid4().hex, str(uuid4())
    with SqliteCheckpointer(studio.db) as checkpointer:
        graph = builder.compile(checkpointer=checkpointer)
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        said: Any = {"messages": [("user", f"answer 1 and 2: {order}")]}
        await graph.ainvoke(said, config)
        request, _ = await Inbox(checkpointer.ledger).apending(thread_id=thread_id)
        await Inbox(checkpointer.ledger).adecide(request.id, approve(), reviewer="alice")
        [result] = await Worker(graph, checkpointer.ledger).arun_once()
        assert result.status == "paused"
        await client.threads.create(thread_id=thread_id, graph_id="email_agent")
        answered = await resume(client, thread_id, {"type": "approve"})
        assert answered == "sent to ann@example.com\nsent to bob@example.com"
        assert len(studio.bodies(order)) == 2
        again: Any = {"messages": [("user", f"answer 3: {order}")]}
        assert len((await graph.ainvoke(again, config))["__interrupt__"]) == 1


async def test_copied_and_deleted_threads(client: LangGraphClient, studio: Server, inbox: Inbox) -> None:
    order = uuid4().hex
    thread_id, _ = await pause(client, f"answer 1: {order}")
    copied: Any = await client.http.post(f"/threads/{thread_id}/copy", json=None)  # the SDK's copy() drops the answer
    state: Any = await client.threads.get_state(copied["thread_id"])
    assert [message["type"] for message in state["values"]["messages"]][-1] == "ai"
    await client.threads.delete(thread_id)
    assert await inbox.apending(thread_id=thread_id) == []
    assert [request.state for request in inbox.ledger.history(thread_id)] == ["cancelled"]
    assert studio.bodies(order) == []


AUTH = """
from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> str:
    return headers[b"x-user"].decode()
"""

CARELESS = """
import time

from langgraph.graph import START, MessagesState, StateGraph


async def careless(state: MessagesState) -> dict[str, list[object]]:
    time.sleep(0.01)
    return {"messages": ["slept"]}


builder = StateGraph(MessagesState)
builder.add_node("careless", careless)
builder.add_edge(START, "careless")
graph = builder.compile()
"""


@pytest.mark.slow
async def test_a_pause_survives_the_server(tmp_path: Path) -> None:
    """Ended in order, and killed: the pause is there, is answered, and runs once. Who answered, the server says."""
    server = Server(tmp_path, auth={"path": "./auth.py:auth"}, graphs={"careless": "./careless.py:graph"})
    (tmp_path / "auth.py").write_text(AUTH)
    (tmp_path / "careless.py").write_text(CARELESS)
    orders = uuid4().hex, uuid4().hex
    try:
        server.start()
        async with server.client(**{"x-user": "alice"}) as client:
            threads = [await pause(client, f"answer 1: {order}", metadata={"order": order}) for order in orders]
        server.stop()
        server.start()
        (thread_id, [asked]), (killed, _) = threads
        async with server.client(**{"x-user": "alice"}) as client:
            [found] = await client.threads.search(status="interrupted", metadata={"order": orders[0]})
            assert (found["thread_id"], await waits(client, thread_id)) == (thread_id, [asked["id"]])
            said = await resume(client, thread_id, {asked["id"]: {"type": "approve"}})
            assert (said, len(server.bodies(orders[0]))) == ("sent to ann@example.com", 1)
        server.stop(signal.SIGKILL)
        shutil.rmtree(tmp_path / ".langgraph_api")  # what the server itself knew of its threads
        server.start()
        async with server.client(**{"x-user": "bob"}) as client:
            await client.threads.create(thread_id=killed, graph_id="email_agent")
            assert len(await waits(client, killed)) == 1
            said = await resume(client, killed, {"type": "reject", "message": "no"})
            assert ('They said: "no"' in said, server.bodies(orders[1])) == (True, [])
            # The server does notice a node that blocks its event loop; so its silence about ours means something.
            new = (await client.threads.create())["thread_id"]
            output = await client.runs.wait(new, "careless", input={"messages": []}, raise_error=False)
            assert "BlockingError" in str(output)
    finally:
        server.stop()
    with Ledger.open(server.db) as ledger:
        [[first], [second]] = ledger.history(thread_id), ledger.history(killed)
    assert (first.state, first.reviewer, first.channel) == ("delivered", "alice", "langgraph")
    assert (second.state, second.reviewer, second.channel) == ("delivered", "bob", "langgraph")
