"""`UserProxyNode`: a person's place in a conversation. Point by point beside AutoGen: `peers/test_autogen_row.py`."""

from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from hitl_graph.chat import Chat
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import ConversationError, LedgerMissingError, NotEntitledError, StaleRequestError
from hitl_graph.facts import Inquiry, facts_of
from hitl_graph.model import approve, reject, respond
from hitl_graph.nodes import UserProxyNode
from hitl_graph.nodes.conversing import HumanInputMode, automatic_replies, automatic_reply, judge, shown
from hitl_graph.policy import Policy, Rule
from hitl_graph.termination import MaxMessageTermination, Met, TextMentionTermination
from tests.conversations import Colour, State, Talk, agent, build, call
from tests.databases import open_checkpointer, open_ledger
from tests.escalation_agents import config_of

ALLOW = Policy([Rule("*", "allow")])


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


@pytest.mark.both_databases
def test_a_turn_of_a_person_is_a_question_in_the_inbox(saver: Checkpointer, colour: Colour) -> None:
    talk = Talk(build(saver, ["Blue or green?", "Fine."]), saver.ledger, colour)
    talk.say()
    request = talk.asked()
    assert (request.kind, request.allowed) == ("question", ("approve", "reject", "respond"))
    assert facts_of(request) == Inquiry(question="Blue or green?", why="a person has a say at each turn")
    assert request.labels["respond"] == "your words go to assistant; exit ends the conversation"
    talk.answer(respond("blue"))
    last = talk.values["messages"][-2]
    assert last.text == "blue"
    assert last.additional_kwargs["hitl"] == {"request_id": request.id, "reviewer": "alice", "to": "assistant"}
    assert [one.state for one in saver.ledger.history("t")] == ["delivered", "pending"]
    assert saver.ledger.verify_audit().ok


@pytest.mark.both_databases
def test_beside_a_foreign_checkpointer(db_path: str, colour: Colour) -> None:
    with open_ledger(db_path) as ledger:
        talk = Talk(build(InMemorySaver(), ["one", "two"], ledger=ledger), ledger, colour)
        talk.say()
        talk.answer(respond("blue"))
        assert talk.texts() == ["go", "one", "blue", "two"]
        assert [request.state for request in ledger.history("t")] == ["delivered", "pending"]
        talk.answer(reject())
        assert talk.ended == "alice ended it"


def test_without_a_ledger_it_says_what_to_do() -> None:
    with pytest.raises(LedgerMissingError, match="UserProxyNode has nowhere to record"):
        build(InMemorySaver(), ["one"]).invoke({"messages": [HumanMessage("go")]}, config_of())


def test_only_whom_the_rule_names_answers(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["one", "two"], rule=Rule("*", "ask", reviewers=["bob"])), saver.ledger)
    talk.say()
    with pytest.raises(NotEntitledError):
        talk.answer(respond("mine"))
    talk.answer(respond("his"), reviewer="bob")
    assert talk.texts() == ["go", "one", "his", "two"]


def test_a_chat_message_is_the_person_s_reply(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["one", "two"]), saver.ledger)
    talk.say()
    Chat(talk.graph, saver.ledger, while_waiting="answer").send("t", "shorter", sender="alice")
    assert talk.texts() == ["go", "one", "shorter", "two"]


def test_the_person_s_word_may_be_the_end_itself(saver: Checkpointer) -> None:
    done = TextMentionTermination("APPROVE", sources=["user"])
    talk = Talk(build(saver, ["draft", "better"], is_termination_msg=done), saver.ledger)
    talk.say()
    talk.answer(respond("warmer"))
    talk.answer(respond("APPROVE"))
    assert talk.texts() == ["go", "draft", "warmer", "better", "APPROVE"]
    assert talk.ended == "'APPROVE' was mentioned"


def test_an_agent_that_comes_first_has_a_person_who_says_what_to_do(saver: Checkpointer) -> None:
    builder = StateGraph(State)
    builder.add_node("assistant", agent("assistant", ["one"]))
    builder.add_node("user", UserProxyNode("assistant"))
    builder.add_edge(START, "user")
    builder.add_edge("assistant", "user")
    graph = builder.compile(checkpointer=saver)
    talk = Talk(graph, saver.ledger)
    graph.invoke({"messages": []}, config_of(), durability="sync")
    assert talk.asked().allowed == ("reject", "respond")
    talk.answer(respond("Write a poem"))
    assert talk.texts() == ["Write a poem", "one"]
    other = Talk(graph, saver.ledger, thread="u")
    other.say("Write a poem")  # who has just spoken is not asked
    assert other.texts() == ["Write a poem", "one"]


def test_calls_without_a_node_to_run_them_are_answered_with_an_error(saver: Checkpointer) -> None:
    talk = Talk(build(saver, [[call("pay", eur=1)], "I see."]), saver.ledger)
    talk.say()
    talk.answer(approve())
    [told] = [m for m in talk.values["messages"] if isinstance(m, ToolMessage)]
    assert (told.text, told.status) == ("Error: pay did not run; nobody here runs it.", "error")
    assert talk.texts()[-1] == "I see."


def test_of_several_agents_people_read_what_was_said_in_turn() -> None:
    long = "x" * 5000
    history: list[AnyMessage] = [
        HumanMessage("old"), AIMessage("older", name="writer"), HumanMessage("go"), AIMessage(long, name="writer"),
        automatic_reply("on", "writer", None), ToolMessage("looked", tool_call_id="x"), AIMessage(long, name="critic"),
    ]  # fmt: skip
    one, other = shown(history, []).split("\n\n")
    assert one.startswith("writer: xxx")
    assert len(one) < 2100
    assert other == f"critic: {long}"  # what is answered is shown whole
    wants: Any = [call("pay", eur=1)]
    assert shown([AIMessage("", tool_calls=wants)], wants) == 'It wants to call:\n- pay({"eur": 1})'
    assert shown([AIMessage("")], []) == "(no words)"


def test_in_a_subgraph(saver: Checkpointer, colour: Colour) -> None:
    outer = StateGraph(State)
    outer.add_node("team", build(None, ["one", "two"]))
    outer.add_edge(START, "team")
    talk = Talk(outer.compile(checkpointer=saver), saver.ledger, colour)
    talk.say()
    talk.answer(respond("blue"))
    talk.answer(reject())
    assert talk.texts() == ["go", "one", "blue", "two"]
    assert not talk.waits()


def test_its_ways_are_drawn(saver: Checkpointer, tmp_path: Path) -> None:
    drawn = build(saver, ["one"], effects=tmp_path / "effects").get_graph()
    ways = {edge.target for edge in drawn.edges if edge.source == "user"}
    assert ways == {"assistant", "tools", "code", "__end__"}


@pytest.mark.parametrize(
    ("button", "said"),
    [
        ("accept", ["go", "one", "Please go on.", "two"]),
        ("response", ["go", "one", "blue", "two"]),
        ("ignore", ["go", "one"]),
    ],
)
def test_agent_inbox_answers_it(saver: Checkpointer, button: str, said: list[str]) -> None:
    graph = build(saver, ["one", "two"], client="agent-inbox")
    [pause] = Talk(graph, saver.ledger).say()["__interrupt__"]
    [drawn] = pause.value
    args = {"accept": drawn["action_request"], "response": "blue", "ignore": None}[button]
    step: Command[Any] = Command(resume=[{"type": button, "args": args}])  # it names no interrupt
    graph.invoke(step, config_of(), durability="sync")
    assert Talk(graph, saver.ledger).texts() == said


# --- what was shown is what happens ----------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["TERMINATE", "goes on"])
def test_what_was_asked_is_asked_to_its_end_whatever_is_judged_later(saver: Checkpointer, then: str) -> None:
    ends = [then != "TERMINATE"]
    graph = build(saver, ["one", "two"], is_termination_msg=lambda message: ends[0])
    talk = Talk(graph, saver.ledger)
    talk.say()
    shown = talk.asked().labels["approve"]
    ends[0] = not ends[0]
    talk.answer(approve())
    if then == "TERMINATE":
        assert shown.startswith("it goes on")
        assert talk.texts() == ["go", "one", "Please go on.", "two"]
    else:
        assert shown == "the conversation ends here"
        assert talk.ended == "assistant says that it is done"


def test_the_automatic_reply_is_the_one_that_was_shown(saver: Checkpointer) -> None:
    Talk(build(saver, ["one", "two"], default_auto_reply="Go on."), saver.ledger).say()
    later = Talk(build(saver, ["one", "two"], default_auto_reply="Delete all."), saver.ledger)
    later.answer(approve())
    assert later.texts() == ["go", "one", "Go on.", "two"]


def test_calls_that_were_shown_and_have_no_node_any_more_are_an_error(saver: Checkpointer, tmp_path: Path) -> None:
    Talk(build(saver, [[call("pay", eur=1)]], effects=tmp_path / "effects", policy=ALLOW), saver.ledger).say()
    later = Talk(build(saver, [[call("pay", eur=1)]]), saver.ledger)
    with pytest.raises(AssertionError, match="has no calls node any more"):
        later.answer(approve())


def test_an_answer_to_words_that_were_replaced_is_refused(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["Pay 1?", "Thank you."]), saver.ledger)
    talk.say()
    first = talk.asked()
    last = talk.values["messages"][-1]
    talk.graph.update_state(config_of(), {"messages": [AIMessage("Pay 1000?", id=last.id, name="assistant")]})
    talk.graph.invoke(None, config_of(), durability="sync")
    assert talk.asked().description == "Pay 1000?"
    with pytest.raises(StaleRequestError):
        talk.inbox.decide(first.id, approve(), reviewer="alice", digest=first.digest)
    step: Command[Any] = Command(resume={first.interrupt_id: {"type": "respond", "message": "yes"}})
    talk.graph.invoke(step, config_of(), durability="sync")
    assert talk.texts() == ["go", "Pay 1000?"]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"agents": []},
        {"agents": ""},
        {"human_input_mode": "SOMETIMES"},
        {"human_input_mode": "always"},
        {"is_termination_msg": "TERMINATE"},
        {"max_consecutive_auto_reply": True},
        {"max_consecutive_auto_reply": {"a": -1}},
        {"default_auto_reply": " "},
        {"rule": Rule("*", "allow")},
        {"rule": Rule("*", "ask", when=lambda call: True)},
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options: Any) -> None:
    with pytest.raises(ConversationError):
        UserProxyNode(**{"agents": "assistant", **options})


def test_a_node_that_is_missing_is_refused_when_the_graph_is_compiled(saver: Checkpointer) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        build(saver, ["one"], stop="nowhere")


# --- pure ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs_calls", [True, False])
def test_tool_calls_count_where_this_side_answers_them(runs_calls: bool) -> None:
    own = AIMessage("", name="a", tool_calls=[call("look")])
    history: list[AnyMessage] = [
        HumanMessage("go"),
        own,
        ToolMessage("x", tool_call_id="call-look"),
        AIMessage("1", name="a"),
    ]
    assert automatic_replies(history, "a", runs_calls=runs_calls) == (1 if runs_calls else 0)


def test_a_reply_to_one_agent_resets_its_count_alone() -> None:
    history: list[AnyMessage] = [HumanMessage("go")]
    for name in ("a", "b", "a", "b"):
        history += [AIMessage("x", name=name), automatic_reply("on", name, None)]
    mark = {"hitl": {"request_id": "r", "reviewer": "alice", "to": "b"}}
    history += [AIMessage("x", name="b"), HumanMessage("no", additional_kwargs=mark), AIMessage("x", name="a")]
    assert automatic_replies(history, "a", runs_calls=False) == 2
    assert automatic_replies([*history, AIMessage("x", name="b")], "b", runs_calls=False) == 0
    new = [*history, HumanMessage("something else"), AIMessage("x", name="a")]
    assert automatic_replies(new, "a", runs_calls=False) == 0


@given(st.sampled_from(get_args(HumanInputMode)), st.booleans(), st.integers(0, 5), st.integers(0, 5))
def test_it_never_goes_on_by_itself_past_the_end_or_the_limit(mode: Any, ends: bool, count: int, limit: int) -> None:
    judged = judge(mode, Met("done", "x") if ends else None, count, limit, "a")
    if judged is None:
        assert not ends
        assert count < limit
        assert mode != "ALWAYS"
    else:
        assert judged.asks == (mode != "NEVER")
        assert judged.ends == (ends or mode == "NEVER")


def test_conditions_and_the_limit_are_both_looked_at(saver: Checkpointer) -> None:
    options: Any = {"human_input_mode": "NEVER", "max_consecutive_auto_reply": 9}
    talk = Talk(build(saver, ["one"], is_termination_msg=MaxMessageTermination(4), **options), saver.ledger)
    talk.say()
    assert talk.ended == "4 messages of at most 4"
