"""The form as widgets: what its buttons do, whoever presses them and whenever."""

import json
import operator
from collections.abc import Generator, Iterator
from typing import Annotated, Any, Literal

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import tools_condition
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, reject
from hitl_graph.nodes import ApprovalNode, OutputReviewNode, Revision, ask_human
from hitl_graph.notebook import Run, inbox_widget, review
from hitl_graph.policy import Policy, Rule
from hitl_graph.testing import Reply, ScriptedChatModel, tool_call
from hitl_graph.worker import Worker
from tests.notebook.agents import Bank, agent, bills, thread

ONE: list[Reply] = [[tool_call("pay", to="Miller", eur=4800)], "All done."]
TWO: list[Reply] = [[tool_call("pay", to="Miller", eur=1)], [tool_call("pay", to="Smith", eur=2)], "All done."]


def every(widget: Any) -> Iterator[Any]:
    """A widget and all that is in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def button(widget: Any, name: str) -> Any:
    """The last button of that name: cards that come later stand below."""
    return [one for one in every(widget) if type(one).__name__ == "Button" and one.description == name][-1]


def field(widget: Any, name: str, but: str = "") -> Any:
    return [one for one in every(widget) if getattr(one, "description", None) == name and type(one).__name__ != but][-1]


def text(widget: Any) -> str:
    """All that it says."""
    shown = (one for one in every(widget) if type(one).__name__ == "HTML" and one.layout.display != "none")
    return "\n".join(one.value for one in shown)


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def graph(db_path: str, bank: Bank) -> Generator[Any]:
    built = agent(db_path, ONE, bank)
    yield built
    built.checkpointer.close()


@pytest.fixture
def run(graph: Any) -> Run:
    return review(graph, thread(), bills(), reviewer="alice")


def test_a_press_decides_and_goes_on(run: Run, bank: Bank) -> None:
    form = run.widget
    field(form, "Your words").value = "fine"
    button(form, "Approve").click()
    assert bank.paid == [("Miller", 4800)]
    for said in ("Approved by alice, through notebook", "paid 4800 to Miller", "Thread 1 has finished", "fine"):
        assert said in text(form)
    assert not [one for one in every(form) if type(one).__name__ == "Button" and one.description == "Approve"]


def test_the_log_says_to_whom_it_was_shown(graph: Any, run: Run) -> None:
    inbox = Inbox(graph.checkpointer.ledger)
    assert inbox.viewers(run.request.id) == []  # a program has looked, and nobody else
    assert run.widget is not None
    assert [(one.reviewer, one.channel) for one in inbox.viewers(run.request.id)] == [("alice", "notebook")]


def test_two_presses_decide_once(run: Run, bank: Bank) -> None:
    pressed = button(run.widget, "Approve")
    pressed.click()
    pressed.click()
    assert bank.paid == [("Miller", 4800)]


def test_a_press_on_an_old_card_never_answers_the_next_question(db_path: str, bank: Bank) -> None:
    graph = agent(db_path, TWO, bank)
    form = review(graph, thread(), bills(), reviewer="alice").widget
    old = button(form, "Approve")
    old.click()
    assert "Smith" in field(form, "to").value
    old.click()
    assert bank.paid == [("Miller", 1)]
    assert button(form, "Approve") is not old
    button(form, "Approve").click()
    assert bank.paid == [("Miller", 1), ("Smith", 2)]
    graph.checkpointer.close()


def test_what_was_typed_is_never_lost_in_an_approval(run: Run, bank: Bank) -> None:
    form = run.widget
    assert (button(form, "Approve").disabled, button(form, "Edit").disabled) == (False, True)
    field(form, "eur").value = "480"
    assert (button(form, "Approve").disabled, button(form, "Edit").disabled) == (True, False)
    button(form, "Approve").click()  # one that was on its way
    assert "The fields were changed" in text(form)
    assert bank.paid == []
    button(form, "Undo changes").click()
    assert (field(form, "eur").value, button(form, "Approve").disabled) == ("4800", False)
    field(form, "eur").value = "480"
    button(form, "Edit").click()
    assert bank.paid == [("Miller", 480)]
    assert "4800 → 480" in text(form)


def test_what_does_not_fit_is_said_at_its_field(run: Run, bank: Bank) -> None:
    form = run.widget
    field(form, "eur").value = "a lot"
    assert "is not a whole number" in text(form)
    button(form, "Edit").click()
    assert "nothing was recorded" in text(form)
    assert run.refresh().status == "paused"
    field(form, "eur").value = "9007199254740993"  # a browser's own number field would round it
    button(form, "Edit").click()
    assert bank.paid == [("Miller", 9007199254740993)]


def test_what_was_decided_elsewhere_is_said(graph: Any, run: Run, bank: Bank) -> None:
    form = run.widget
    Inbox(graph.checkpointer.ledger).decide(run.request.id, reject("no"), reviewer="bob", channel="web")
    button(form, "Approve").click()
    for said in ("already decided: reject by bob", "Rejected by bob, through web", "has finished"):
        assert said in text(form)
    assert bank.paid == []


def test_a_cell_that_was_run_again_leaves_two_forms_and_one_decision(graph: Any, run: Run, bank: Bank) -> None:
    first, second = run.widget, review(graph, thread(), bills(), reviewer="alice").widget
    button(second, "Reject").click()
    button(first, "Approve").click()
    assert "Rejected by alice" in text(first)
    assert bank.paid == []


def test_others_have_to_agree(db_path: str, bank: Bank) -> None:
    graph = agent(db_path, ONE, bank, Rule("pay", "ask", quorum=2, exclude=["requester"]))
    config: Any = {"configurable": {"thread_id": "1", "user_id": "erin"}}
    form = review(graph, config, bills(), reviewer="alice").widget
    button(form, "Approve").click()
    assert "You have answered (approve). It waits for others." in text(form)
    assert "1 of anybody" in text(form)
    own = review(graph, config, reviewer="erin").widget
    assert "it is their own" in text(own)
    assert button(own, "Approve").disabled
    Inbox(graph.checkpointer.ledger).decide(
        review(graph, config, reviewer="bob").request.id, approve(), reviewer="bob", channel="web"
    )
    button(form, "Refresh").click()
    assert "Approved by alice, bob" in text(form)
    assert bank.paid == [("Miller", 4800)]
    graph.checkpointer.close()


def test_errors_are_shown_and_can_be_tried_again(db_path: str, bank: Bank) -> None:
    down = [True]

    def model(messages: Any) -> str:
        if down:
            raise RuntimeError("the model is down")
        return "All done."

    graph = agent(db_path, [ONE[0], model], bank)
    form = review(graph, thread(), bills(), reviewer="alice").widget
    button(form, "Approve").click()
    assert "RuntimeError: the model is down" in text(form)
    assert "recorded and kept" in text(form)
    down.clear()
    button(form, "Refresh").click()
    assert "Thread 1 has finished" in text(form)
    assert bank.paid == [("Miller", 4800)]
    graph.checkpointer.close()


def test_the_inbox_shows_the_chosen_card_and_goes_on(graph: Any, bank: Bank) -> None:
    for name in ("1", "2"):
        review(graph, thread(name), bills(), reviewer="alice")
    view = inbox_widget(graph, reviewer="alice")
    form = view.widget
    listed = next(one for one in every(form) if type(one).__name__ == "Select")
    assert [name for _, name in listed.options] == [request.id for request in view.requests]
    listed.value = view.requests[1].id
    button(form, "Approve").click()
    assert bank.paid == [("Miller", 4800)]
    assert "Thread 2 has finished" in text(form)
    assert [request.thread_id for request in view.requests] == ["1"]
    assert (len(listed.options), listed.value) == (1, None)


def test_without_a_graph_a_worker_goes_on(graph: Any, run: Run, bank: Bank) -> None:
    view = inbox_widget(graph.checkpointer.ledger, reviewer="alice")
    form = view.widget
    next(one for one in every(form) if type(one).__name__ == "Select").value = run.request.id
    button(form, "Approve").click()
    assert "A worker goes on with the thread" in text(form)
    assert (bank.paid, len(view)) == ([], 0)
    Worker(graph, graph.checkpointer.ledger).run_once()
    assert bank.paid == [("Miller", 4800)]


class Place(TypedDict, total=False):
    city: str
    draft: str
    reviews: Annotated[list[Revision], operator.add]
    delivered: str


def test_a_plain_question(db_path: str) -> None:
    def ask(state: Place) -> Place:
        return {"city": interrupt("Which city?")}

    with SqliteCheckpointer(db_path) as saver:
        graph = StateGraph(Place).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
        form = review(graph, thread(), {}, reviewer="alice").widget
        button(form, "Answer").click()
        assert "It takes an answer" in text(form)
        field(form, "Your words").value = "Lisbon"
        button(form, "Answer").click()
        assert graph.get_state(thread()).values["city"] == "Lisbon"


def test_a_draft_is_sent_back_and_then_edited(db_path: str) -> None:
    def write(state: Place) -> Place:
        return {"draft": "Dear all, in short" if state["reviews"] else "Dear all"}

    node = OutputReviewNode("draft", revise="write", delivery=str.upper)
    builder = StateGraph(Place).add_node("write", write).add_node("review", node, destinations=node.destinations)
    with SqliteCheckpointer(db_path) as saver:
        graph = builder.add_edge(START, "write").add_edge("write", "review").compile(checkpointer=saver)
        form = review(graph, thread(), {}, reviewer="alice").widget
        field(form, "Your words").value = "shorter"
        button(form, "Send back").click()
        assert "Sent back by alice" in text(form)
        assert field(form, "draft").value == "Dear all, in short"
        field(form, "draft").value = "Dear friends"
        button(form, "Edit").click()
        last = graph.get_state(thread()).values["reviews"][-1]
        assert (last["delivered"], last["result"]) == ("Dear friends", "DEAR FRIENDS")


class Verdict(BaseModel):
    verdict: Literal["keep", "remove"]
    note: str = ""


@pytest.mark.parametrize("is_typed", [False, True])
def test_a_question_of_the_agent(db_path: str, is_typed: bool) -> None:
    human = ask_human(answer=Verdict) if is_typed else ask_human()
    offered: dict[str, Any] = {} if is_typed else {"options": ["<b>keep</b>", "remove"]}
    call = tool_call("ask_human", question="Keep it?", **offered)
    model = ScriptedChatModel([[call], "done"]).bind_tools([human])

    def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState).add_node("agent", call_model)
    builder.add_node("tools", ApprovalNode([human], policy=Policy([Rule("*", "allow")])))
    builder.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
    with SqliteCheckpointer(db_path) as saver:
        graph = builder.compile(checkpointer=saver)
        form = review(graph, thread(), bills(), reviewer="alice").widget
        button(form, "Answer").click()  # nothing was chosen
        assert 'role="alert"' in text(form)
        field(form, "verdict" if is_typed else "Answer", but="Button").value = '"keep"' if is_typed else "<b>keep</b>"
        button(form, "Answer").click()
        answer = graph.get_state(thread()).values["messages"][-2].text
        assert (json.loads(answer)["verdict"] == "keep") if is_typed else (answer == "<b>keep</b>")
