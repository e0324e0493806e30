"""`review` as code: it returns at the pause, an answer goes on, and no answer is ever for another question."""

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Generator
from typing import Any, cast

import pytest

from hitl_graph.errors import AlreadyDecidedError, InvalidDecisionError, NotebookError, NotEntitledError
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, reject
from hitl_graph.notebook import Run, areview, inbox_widget, review
from hitl_graph.policy import Rule
from hitl_graph.testing import Reply, tool_call
from hitl_graph.worker import Worker
from tests.notebook.agents import Bank, agent, bills, thread

ONE: list[Reply] = [[tool_call("pay", to="Miller", eur=4800)], "All done."]
TWO: list[Reply] = [[tool_call("pay", to="Miller", eur=1), tool_call("pay", to="Smith", eur=2)], "All done."]


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def graph(db_path: str, bank: Bank) -> Generator[Any]:
    built = agent(db_path, ONE, bank)
    yield built
    built.checkpointer.close()


@pytest.fixture
def two(db_path: str, bank: Bank) -> Generator[Any]:
    built = agent(db_path, TWO, bank)
    yield built
    built.checkpointer.close()


def test_it_returns_at_the_pause_and_an_answer_goes_on(graph: Any, bank: Bank) -> None:
    run = review(graph, thread(), bills(), reviewer="alice")
    assert (run.status, len(run), bank.paid) == ("paused", 1, [])
    assert run.request.action is not None
    assert run.request.action.args == {"to": "Miller", "eur": 4800}
    done = run.approve("fine")
    assert (done.status, bool(done), bank.paid) == ("finished", False, [("Miller", 4800)])
    assert done.result["messages"][-1].text == "All done."
    [decided] = done.happened.decided
    assert (decided.reviewer, decided.channel) == ("alice", "notebook")
    assert [(row["tool"], row["state"]) for row in done.happened.ran] == [("pay", "done")]
    for text in ("Approved by alice", "fine", "ran: done", "paid 4800 to Miller", "All done."):
        assert text in repr(done)
    assert graph.checkpointer.ledger.verify_audit().ok


def test_an_edit_names_what_changes_or_gives_all_of_it(graph: Any, bank: Bank) -> None:
    run = review(graph, thread("1"), bills(), reviewer="alice").edit(eur=480)
    assert "4800 → 480" in repr(run)
    review(graph, thread("2"), bills(), reviewer="alice").edit({"to": "Smith", "eur": 5}, "wrong name")
    assert bank.paid == [("Miller", 480), ("Smith", 5)]
    third = review(graph, thread("3"), bills(), reviewer="alice")
    with pytest.raises(NotebookError):
        third.edit()
    with pytest.raises(NotebookError):
        third.edit({"eur": 1, "to": "x"}, eur=2)
    with pytest.raises(InvalidDecisionError):
        third.edit(eur="a lot")
    assert third.refresh().status == "paused"


def test_what_is_rejected_or_answered_does_not_run(graph: Any, bank: Bank) -> None:
    run = review(graph, thread("1"), bills(), reviewer="alice").reject("too much")
    assert (run.status, "too much" in repr(run)) == ("finished", True)
    assert review(graph, thread("2"), bills(), reviewer="alice").respond("ask me tomorrow").status == "finished"
    assert bank.paid == []


def test_of_several_requests_one_has_to_be_picked(two: Any, bank: Bank) -> None:
    run = review(two, thread(), bills(), reviewer="alice")
    assert len(run) == 2
    with pytest.raises(NotebookError, match=r"pick one.*Miller.*Smith"):
        run.approve()
    second = next(one for one in run if "Smith" in repr(one))
    left = second.approve()
    assert (left.status, bank.paid) == ("paused", [("Smith", 2)])
    assert left.reject().status == "finished"
    assert bank.paid == [("Smith", 2)]


def test_a_cell_that_is_run_again_asks_nothing_anew(graph: Any, bank: Bank) -> None:
    first = review(graph, thread(), bills(), reviewer="alice")
    again = review(graph, thread(), bills(), reviewer="alice")
    assert again.request.id == first.request.id
    assert "input was not used" in again.note
    assert len(graph.get_state(thread()).values["messages"]) == 2
    again.approve()
    with pytest.raises(AlreadyDecidedError):
        first.approve()
    assert bank.paid == [("Miller", 4800)]


def test_an_old_object_never_answers_a_later_question(db_path: str, bank: Bank) -> None:
    script: list[Reply] = [[tool_call("pay", to="Miller", eur=1)], [tool_call("pay", to="Smith", eur=2)], "All done."]
    graph = agent(db_path, script, bank)
    old = review(graph, thread(), bills(), reviewer="alice")
    new = old.approve()
    assert (new.status, bank.paid) == ("paused", [("Miller", 1)])
    with pytest.raises(AlreadyDecidedError):
        old.approve()
    assert bank.paid == [("Miller", 1)]
    graph.checkpointer.close()


def test_what_was_decided_elsewhere_is_carried_out_and_said(graph: Any, bank: Bank) -> None:
    run = review(graph, thread(), bills(), reviewer="alice")
    Inbox(graph.checkpointer.ledger).decide(run.request.id, reject("no"), reviewer="bob", channel="web")
    with pytest.raises(AlreadyDecidedError, match="reject by bob"):
        run.approve()
    seen = run.refresh()
    assert seen.status == "finished"
    assert "Rejected by bob, through web" in repr(seen)
    assert bank.paid == []


def test_while_others_have_to_agree_it_stays(db_path: str, bank: Bank) -> None:
    graph = agent(db_path, ONE, bank, Rule("pay", "ask", quorum=2, exclude=["requester"]))
    config: Any = {"configurable": {"thread_id": "1", "user_id": "erin"}}
    run = review(graph, config, bills(), reviewer="alice").approve()
    assert (run.status, bank.paid) == ("paused", [])
    assert "1 of anybody" in repr(run)
    with pytest.raises(NotEntitledError):
        review(graph, config, reviewer="erin").approve()
    assert review(graph, config, reviewer="bob").approve().status == "finished"
    assert bank.paid == [("Miller", 4800)]
    graph.checkpointer.close()


def test_a_graph_that_fails_keeps_the_decision(db_path: str, bank: Bank) -> None:
    down = [True]

    def model(messages: Any) -> str:
        if down:
            raise RuntimeError("the model is down")
        return "All done."

    graph = agent(db_path, [ONE[0], model], bank)
    run = review(graph, thread(), bills(), reviewer="alice")
    with pytest.raises(RuntimeError, match="the model is down") as raised:
        run.approve()
    assert any("recorded and kept" in note for note in raised.value.__notes__)
    down.clear()
    done = run.refresh()
    assert (done.status, bank.paid) == ("finished", [("Miller", 4800)])
    assert "Approved by alice" in repr(done)
    graph.checkpointer.close()


def test_a_breakpoint_is_not_gone_past(db_path: str, bank: Bank) -> None:
    graph = agent(db_path, ONE, bank, Rule("pay", "allow"), interrupt_before=["tools"])
    run = review(graph, thread(), bills(), reviewer="alice")
    for _ in range(2):
        assert (run.status, bank.paid) == ("stopped", [])
        assert "nobody is asked" in run.note
        run = review(graph, thread(), reviewer="alice")
    graph.checkpointer.close()


def test_an_answer_is_no_input(graph: Any) -> None:
    from langgraph.types import Command

    review(graph, thread(), bills(), reviewer="alice")
    with pytest.raises(NotebookError, match="an answer is no input"):
        review(graph, thread(), Command(resume={"type": "approve"}), reviewer="alice")
    with pytest.raises(NotebookError, match="names no thread"):
        review(graph, bills(), thread(), reviewer="alice")
    fresh = review(graph, thread("new"), reviewer="alice")
    assert (fresh.status, "has not begun" in fresh.note) == ("stopped", True)
    with pytest.raises(NotebookError, match="nobody is asked"):
        fresh.approve()


async def test_graphs_of_async_nodes_are_awaited_in_the_running_loop(db_path: str, bank: Bank) -> None:
    graph = agent(db_path, ONE, bank, is_async=True)
    with pytest.raises(TypeError) as raised:
        review(graph, thread("0"), bills(), reviewer="alice")
    assert any("await areview" in note for note in raised.value.__notes__)
    run = await areview(graph, thread(), bills(), reviewer="alice")
    with pytest.raises(NotebookError, match="await run"):
        run.approve()
    assert run.request.state == "pending"
    done = await run.aedit(eur=48)
    assert (done.status, bank.paid) == ("finished", [("Miller", 48)])
    second = await areview(graph, thread("2"), bills(), reviewer="alice")
    assert (await second.areject("no")).status == "finished"
    graph.checkpointer.close()


async def test_a_sync_graph_works_while_a_loop_runs(graph: Any, bank: Bank) -> None:
    asyncio.get_running_loop()
    assert review(graph, thread(), bills(), reviewer="alice").approve().status == "finished"
    assert bank.paid == [("Miller", 4800)]


def test_who_decides(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITL_REVIEWER", "carol")
    run = review(graph, thread(), bills())
    assert "You decide as carol" in repr(run)
    assert run.approve().happened.decided[0].reviewer == "carol"
    monkeypatch.setenv("HITL_REVIEWER", " ")
    with pytest.raises(NotebookError, match="nobody knows who decides"):
        review(graph, thread())


def test_what_an_agent_wrote_is_text(db_path: str, bank: Bank) -> None:
    name = "<img src=x onerror=alert(1)>\u202e"
    graph = agent(db_path, [[tool_call("pay", to=name, eur=1)], "<script>alert(2)</script>"], bank)
    run = review(graph, thread("<b>"), bills("<i>"), reviewer="<u>")
    for one in (run, run.approve()):
        told: str = one._repr_html_()
        assert not any(tag in told for tag in ("<img", "<script", "<b>", "<i>", "<u>", "\u202e"))
        assert "&lt;img src=x" in told
        assert "\\u202e" in repr(one)
    graph.checkpointer.close()


def test_in_plain_ipython_it_is_shown_as_text_and_as_a_form(db_path: str) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell: Any = cast(Any, InteractiveShell)(config=Config({"HistoryManager": {"enabled": False}}))
    shell.user_ns["db_path"] = db_path
    cells = [
        "from tests.notebook.agents import *; from tests.notebook.test_review import ONE\n"
        "from hitl_graph.notebook import review; bank = Bank(); graph = agent(db_path, ONE, bank)",
        "run = review(graph, thread(), bills(), reviewer='alice'); run",
        "run.edit(eur=48)",
    ]
    shown = list[Any]()
    for cell in cells:
        result = shell.run_cell(cell)
        result.raise_error()
        shown.append(result.result)
    data, _ = shell.display_formatter.format(shown[1])
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "wants to call pay" in data["text/plain"]
    assert "wants to call pay" in data["text/html"]
    assert isinstance(shown[2], Run)
    assert "4800 → 48" in repr(shown[2])
    assert shell.user_ns["bank"].paid == [("Miller", 48)]
    shell.user_ns["graph"].checkpointer.close()


def test_all_that_waits(graph: Any, bank: Bank) -> None:
    for name in ("1", "2"):
        review(graph, thread(name), bills(), reviewer="alice")
    view = inbox_widget(graph.checkpointer, reviewer="alice")
    assert [request.thread_id for request in view.requests] == ["1", "2"]
    assert "2 wait" in repr(view)
    assert 'pay(to="Miller", eur=4800)' in repr(view)
    Inbox(graph.checkpointer.ledger).decide(view.requests[0].id, approve(), reviewer="bob")
    Worker(graph, graph.checkpointer.ledger).run_once()
    assert "1 waits" in repr(view.refresh())
    assert len(inbox_widget(graph, kind="review")) == 0


def test_asking_needs_a_terminal(graph: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotebookError, match="this is none"):
        review(graph, thread(), bills(), reviewer="alice", ask=True)
    assert graph.get_state(thread()).values == {}  # nothing has begun


ASKING = """
import sys
from tests.notebook.agents import *
from tests.notebook.test_review import ONE
from hitl_graph.notebook import review
bank = Bank()
run = review(agent(sys.argv[1], ONE, bank), thread(), bills(), reviewer="alice", ask=True)
print("PAID", bank.paid, run.status)
"""


def test_on_a_terminal_it_asks(db_path: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING, db_path],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(ours, b"x\ne\n\nlots\n\ne\n\n48\n\n")  # no answer; an edit that does not fit; one that does
    told, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "'x' is none of these" in told
    assert "'lots' is not a whole number" in told
    assert "PAID [('Miller', 48)] finished" in told
