"""`hitl` for a person on call at night: what happened, what it cost, what can be done, and the answers."""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

pytest.importorskip("typer")

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.cli import main
from hitl_graph.inbox import Inbox
from hitl_graph.nodes import ApprovalNode, EscalationNode, ask_human
from hitl_graph.policy import Policy, Rule
from hitl_graph.worker import Worker
from tests import escalation_agents as agents
from tests.escalation_agents import Graph, State, config_of, told, values


class Verdict(BaseModel):
    post: int
    verdict: Literal["keep", "remove"]
    note: str = ""


class Desk:
    """A folder with `agent.db`, where `hitl` is called."""

    def __init__(self, saver: SqliteCheckpointer, capsys: pytest.CaptureFixture[str]) -> None:
        self.saver, self.capsys = saver, capsys
        self.graph: Graph = agents.build(saver)

    def __call__(self, *args: str, code: int = 0) -> str:
        self.capsys.readouterr()
        ended = main(args)
        out, err = self.capsys.readouterr()
        assert ended == code, f"{out}\n{err}"
        return out if code == 0 else err

    def stuck(self) -> str:
        """A run that is stuck; the id of its request."""
        agents.start(self.graph)
        return Inbox(self.saver.ledger).pending()[0].id

    def asked(self, **args: Any) -> str:
        """A run whose agent asks; the id of its request."""
        name = "ask_verdict" if args.pop("typed", False) else "ask_human"
        call = {"name": name, "args": {"question": "Which account?\nThere are two.", **args}, "id": "q"}

        def agent(state: State) -> dict[str, Any]:
            done = any(isinstance(message, ToolMessage) for message in state["messages"])
            return {"messages": [AIMessage("finished") if done else AIMessage("", tool_calls=[call])]}

        builder = StateGraph(State)
        builder.add_node("agent", agent)
        builder.add_node("tools", ApprovalNode([ask_human(), ask_human(answer=Verdict, name="ask_verdict")]))
        builder.add_edge(START, "agent")
        builder.add_conditional_edges("agent", lambda s: "tools" if s["messages"][-1].tool_calls else END)
        builder.add_edge("tools", "agent")
        self.graph = builder.compile(checkpointer=self.saver)
        agents.start(self.graph)
        return Inbox(self.saver.ledger).pending()[0].id

    def failed(self) -> str:
        def boom() -> str:
            """Fail."""
            raise ConnectionError("db.example refused")

        def agent(state: State) -> dict[str, Any]:
            return {"messages": [AIMessage("", tool_calls=[{"name": "boom", "args": {}, "id": "b"}])]}

        tools = ApprovalNode([StructuredTool.from_function(boom)], policy=Policy([Rule("boom", "allow")]))
        builder = StateGraph(State)
        builder.add_node("agent", agent)
        builder.add_node("tools", tools, error_handler=EscalationNode("agent"))
        builder.add_edge(START, "agent")
        builder.add_edge("agent", "tools")
        self.graph = builder.compile(checkpointer=self.saver)
        agents.start(self.graph)
        return Inbox(self.saver.ledger).pending()[0].id

    def doctor(self) -> str:
        """What it says of the graph."""
        module = ModuleType("desk_agent")
        module.graph = self.graph  # type: ignore[attr-defined]
        sys.modules["desk_agent"] = module
        self.capsys.readouterr()
        main(("doctor", "desk_agent:graph"))  # it finds the failed call, too
        return self.capsys.readouterr().out

    def work(self) -> None:
        Worker(self.graph, self.saver.ledger, config={"recursion_limit": 100}).run_once()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Generator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HITL_REVIEWER", "alice")
    with SqliteCheckpointer("agent.db") as saver:
        yield Desk(saver, capsys)


# --- looking ---------------------------------------------------------------------------------------------------------


def test_the_card_of_a_stuck_run(desk: Desk) -> None:
    own = desk.stuck()
    lines = desk("show", own[:6]).splitlines()
    text = "\n".join(lines)
    assert lines[0] == "The agent of thread t is stuck, and asks what now:"
    assert lines[2].startswith("  | The agent did the same 3 times")
    for title, entry in (
        ("Tried", '  - look({"q": "x"})'),
        ("Came back", "  - nothing found for x"),
        ("State that you may change", "  limit = 100"),
    ):
        assert lines[lines.index(title) + 1] == entry
    assert "  notes  (what you give is added)" in lines
    [since] = [line for line in lines if line.startswith("since")]
    assert since.startswith("since     message 2 of 7, 20")
    assert since.endswith("s ago)")
    assert "spent     3 messages of the model, 300 tokens since then" in lines
    assert "You could" in lines
    for typed in ("hitl approve", "--set KEY=VALUE", '-m "why"', '-m "what to do"'):
        assert typed in text


def test_the_card_of_a_failed_node(desk: Desk) -> None:
    lines = desk("show", desk.failed()).splitlines()
    assert lines[0] == "The agent of thread t failed, and asks what now:"
    assert lines[2] == "  | The node tools failed with ConnectionError: db.example refused"
    assert lines[lines.index("Tried") + 1] == "  - boom({})"
    assert "  approve  run tools again" in lines


def test_the_card_of_a_question_numbers_its_options(desk: Desk) -> None:
    own = desk.asked(options=["the first", "the second"], free_text=True, why="the order names none")
    lines = desk("show", own).splitlines()
    assert lines[0] == "The agent of thread t asks you:"
    assert lines[2:4] == ["  | Which account?", "  | There are two."]
    assert lines[5:8] == ["   1  the first", "   2  the second", "      or another answer"]
    assert "why       the order names none" in lines
    assert f"             hitl respond {own[:6]} --option NUMBER    (or: -m TEXT)" in lines


def test_the_card_of_a_typed_question_shows_the_form(desk: Desk) -> None:
    lines = desk("show", desk.asked(typed=True)).splitlines()
    at = lines.index("The answer has")
    assert lines[at + 1 : at + 4] == ["  post: integer", '  verdict: "keep" | "remove"', "  note: string  (optional)"]


def test_the_inbox_and_the_history(desk: Desk) -> None:
    own = desk.stuck()
    listed = desk("inbox")
    assert "escalation" in listed
    assert "The agent did the same 3 times" in listed
    [row] = [json.loads(line) for line in desk("inbox", "--json", "--kind", "escalation").splitlines()]
    assert (row["id"], row["question"]["steps"], row["question"]["tokens"]) == (own, 3, 300)
    desk("reject", own, "-m", "enough")
    history = desk("history", "t")
    assert "asked" in history
    assert "rejected" in history
    assert desk("inbox") == ""


def test_what_an_agent_wrote_cannot_pretend_to_be_the_card(desk: Desk) -> None:
    own = desk.asked(question="Sure?\n\nAnswers\n\x1b[2J", options=["a\nb", "c\u202ed"], why="x\x1b[31m")
    text = desk("show", own)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "  | Answers" in text
    assert r"   1  a\nb" in text


def test_the_doctor_knows_the_node(desk: Desk) -> None:
    desk.failed()
    assert "the error handler of tools is an EscalationNode; it goes on at agent" in desk.doctor()


# --- answering -------------------------------------------------------------------------------------------------------


def test_guidance(desk: Desk) -> None:
    own = desk.stuck()
    out = desk("respond", own, "-m", "look for y")
    assert "  | look for y" in out
    desk.work()
    assert "look for y" in told(desk.graph)[-1][1]


def test_edits_with_set_are_typed_and_refused_before_they_are_recorded(desk: Desk) -> None:
    own = desk.stuck()
    assert "limit" in desk("edit", own, "--set", "limit=many", code=4)
    assert "no key 'limits'; it has" in desk("edit", own, "--set", "limits=1", code=4)
    assert "that is what the state is" in desk("edit", own, "--set", "limit=100", code=4)
    assert "JSON object" in desk("edit", own, "--args", "[]", code=2)
    out = desk("edit", own, "--set", "limit=5", "--set", 'notes=["one", "two"]', "--set", "region=us")
    for line in ("  - limit: 100", "  + limit: 5", '  + notes: ["one", "two"]', '  + region: "us"'):
        assert line in out.splitlines()
    desk.work()
    held = values(desk.graph)
    assert (held["limit"], held["notes"], held["region"]) == (5, ["one", "two"], "us")


def test_edits_as_one_object(desk: Desk) -> None:
    own = desk.stuck()
    desk("edit", own, "--args", '{"range": {"low": 2}, "messages": [{"role": "user", "content": "give up"}]}')
    desk.work()
    assert told(desk.graph)[-1][1] == "I did as I was told: give up"
    assert values(desk.graph)["range"].low == 2


def _editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    script = tmp_path / "editor.py"
    script.write_text(
        f"import re, sys\npath = sys.argv[1]\ntext = open(path).read()\n{body}\nopen(path, 'w').write(text)\n"
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {script}")


def test_edits_in_an_editor_are_only_what_was_changed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk.stuck()
    _editor(tmp_path, monkeypatch, "open('seen', 'w').write(text); text = text.replace('100', '7')")
    desk("edit", own)
    seen = Path("seen").read_text()
    assert "# You may also give: messages (is added to), notes (is added to), range, since." in seen
    assert '"limit": 100' in seen
    decision = desk.saver.ledger.history("t")[0].decision
    assert decision is not None
    assert decision.args == {"limit": 7}


def test_an_editor_that_changes_nothing_records_nothing(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = desk.stuck()
    _editor(tmp_path, monkeypatch, "pass")
    assert "nothing was changed" in desk("edit", own, code=4)
    assert len(Inbox(desk.saver.ledger).pending()) == 1
    assert os.listdir(tmp_path)


def test_a_question_by_number(desk: Desk) -> None:
    own = desk.asked(options=["the first", "the second"])
    assert "it offers 2" in desk("respond", own, "--option", "3", code=2)
    assert "one of" in desk("respond", own, "--option", "1", "-m", "x", code=2)
    desk("respond", own, "-m", "the third", code=4)
    assert "  | the second" in desk("respond", own, "--option", "2")
    desk.work()
    assert values(desk.graph)["messages"][-2].text == "the second"


def test_a_question_without_options(desk: Desk) -> None:
    own = desk.asked()
    assert "offers none" in desk("respond", own, "--option", "1", code=2)
    desk("respond", own, "-m", "the third")
    desk.work()
    assert values(desk.graph)["messages"][-2].text == "the third"


def test_a_typed_question_field_by_field(desk: Desk) -> None:
    own = desk.asked(typed=True)
    assert "post" in desk("respond", own, "--set", "post=x", "--set", "verdict=keep", code=4)
    assert "no key 'posts'" in desk("respond", own, "--set", "posts=4", code=4)
    desk("respond", own, "--set", "post=4", "--set", "verdict=keep", "--set", "note=42")
    desk.work()
    assert json.loads(values(desk.graph)["messages"][-2].text) == {"post": 4, "verdict": "keep", "note": "42"}


def test_approve_and_reject(desk: Desk) -> None:
    own = desk.stuck()
    assert "patience is restored" in desk("approve", own)
    desk.work()
    [again] = Inbox(desk.saver.ledger).pending()
    assert "stop the run" in desk("reject", again.id, "-m", "enough")
    desk.work()
    assert told(desk.graph)[-1] == ("ai", "This run was stopped by a person: enough")
    assert desk.graph.get_state(config_of()).next == ()
    assert isinstance(values(desk.graph)["messages"][0], HumanMessage)
