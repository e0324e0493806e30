"""AutoGen's human in the loop, point by point, in graphs of LangGraph. `docs/autogen.md` has the table.

`test_0_2_*`: `ConversableAgent` and `UserProxyAgent` of the 0.2 line. `test_0_7_*`: `autogen-agentchat`; what concerns
AutoGen's own objects is in `test_autogen_agents_row.py`.
"""

import asyncio
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph_swarm import SwarmState, create_handoff_tool, create_swarm

from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import ConversationError, InvalidDecisionError
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, reject, respond
from hitl_graph.nodes import UserProxyNode
from hitl_graph.policy import Policy, Rule
from hitl_graph.termination import (
    ExternalTermination,
    FunctionalTermination,
    FunctionCallTermination,
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    Termination,
    TextMentionTermination,
    TextMessageTermination,
    TimeoutTermination,
    TokenUsageTermination,
)
from hitl_graph.testing import FakeClock, ScriptedChatModel, ScriptedReviewer, tool_call
from tests import escalation_agents
from tests.conversations import Colour, Graph, State, Talk, agent, build, call
from tests.databases import open_checkpointer
from tests.escalation_agents import config_of, is_valid_history
from tests.invariants.processes import Report, child

ALLOW = Policy([Rule("*", "allow")])
CODE = "Try this:\n```python\nprint(1)\n```\nand then\n```sh\nls\n```"


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


def ran(effects: Path) -> list[str]:
    return effects.read_text().splitlines() if effects.exists() else []


# --- AutoGen 0.2 -----------------------------------------------------------------------------------------------------


def test_0_2_point_1_always_asks_at_each_turn_and_enter_is_the_automatic_reply(
    saver: Checkpointer, colour: Colour
) -> None:
    talk = Talk(build(saver, ["one", "two", "three"], default_auto_reply="Go on."), saver.ledger, colour)
    talk.say()
    assert talk.asked().labels["approve"] == "it goes on with the automatic reply: Go on."
    talk.answer(approve())
    assert talk.texts() == ["go", "one", "Go on.", "two"]
    talk.answer(respond("shorter"))
    assert talk.texts() == ["go", "one", "Go on.", "two", "shorter", "three"]
    assert talk.waits()


@pytest.mark.parametrize("decision", [respond("exit"), respond(" Exit\n"), reject("enough")])
def test_0_2_point_1_exit_ends_it(saver: Checkpointer, decision: Any) -> None:
    talk = Talk(build(saver, ["one"]), saver.ledger)
    talk.say()
    assert talk.answer(decision).status == "finished"
    assert talk.texts() == ["go", "one"]
    assert str(talk.ended).startswith("alice ended it")


def test_0_2_point_1_always_enter_on_a_termination_message_ends_it(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["one", "TERMINATE", "more"]), saver.ledger)
    talk.say()
    talk.answer(approve())
    assert talk.asked().labels["approve"] == "the conversation ends here"
    talk.answer(approve())
    assert talk.ended == "assistant says that it is done"


def test_0_2_point_1_always_a_reply_to_a_termination_message_goes_on(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["TERMINATE", "more"]), saver.ledger)
    talk.say()
    talk.answer(respond("not yet"))
    assert talk.texts() == ["go", "TERMINATE", "not yet", "more"]


def test_0_2_point_1_silence_is_no_enter(saver: Checkpointer) -> None:
    """On a terminal an empty line is Enter; through an inbox it may be anything, so that it has to be said."""
    talk = Talk(build(saver, ["one"]), saver.ledger)
    talk.say()
    for nothing in ("", " \n"):
        with pytest.raises(InvalidDecisionError):
            talk.answer(respond(nothing))
    assert talk.texts() == ["go", "one"]
    assert talk.waits()


def test_0_2_point_2_terminate_asks_at_a_termination_message_and_enter_ends_it(
    saver: Checkpointer, colour: Colour
) -> None:
    lines = ["one", "TERMINATE", "more", "TERMINATE"]
    talk = Talk(build(saver, lines, human_input_mode="TERMINATE"), saver.ledger, colour)
    talk.say()
    assert talk.texts() == ["go", "one", "Please go on.", "TERMINATE"]
    assert talk.asked().reason == "assistant says that it is done"
    talk.answer(respond("one more thing"))
    assert talk.texts()[4:] == ["one more thing", "more", "Please go on.", "TERMINATE"]
    assert talk.asked().labels["approve"] == "the conversation ends here"
    talk.answer(approve())
    assert talk.ended == "assistant says that it is done"


def test_0_2_point_2_terminate_asks_at_the_limit_and_enter_goes_on(saver: Checkpointer) -> None:
    options: Any = {"human_input_mode": "TERMINATE", "max_consecutive_auto_reply": 2}
    talk = Talk(build(saver, ["one", "two", "three", "four", "five", "six", "seven"], **options), saver.ledger)
    talk.say()
    assert talk.asked().reason == "2 automatic replies to assistant, of at most 2"
    assert talk.texts()[-1] == "three"
    talk.answer(approve())
    assert talk.texts()[-1] == "four"  # an automatic reply resets nothing: it asks at the next turn again
    talk.answer(respond("on your own now"))
    assert talk.texts()[-1] == "seven"  # a reply of a person does
    assert talk.waits()


@pytest.mark.parametrize(("lines", "why"), [(["TERMINATE"], "says that it is done"), (["one"], "of at most 3")])
def test_0_2_point_3_never_asks_nobody_and_ends_on_either(saver: Checkpointer, lines: list[str], why: str) -> None:
    options: Any = {"human_input_mode": "NEVER", "max_consecutive_auto_reply": 3}
    talk = Talk(build(saver, lines, **options), saver.ledger)
    talk.say()
    assert why in str(talk.ended)
    assert saver.ledger.history("t") == []


def test_0_2_point_4_the_limit_is_counted_for_each_sender(saver: Checkpointer) -> None:
    builder = StateGraph(State)
    builder.add_node("writer", agent("writer", ["draft"]))
    builder.add_node("critic", agent("critic", ["better!"]))
    proxy: Any = UserProxyNode(
        ["writer", "critic"], human_input_mode="TERMINATE", max_consecutive_auto_reply={"writer": 1}
    )
    builder.add_node("user", proxy)
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "user")
    builder.add_edge("critic", "user")
    talk = Talk(builder.compile(checkpointer=saver), saver.ledger)
    talk.say()
    assert talk.asked().reason == "1 automatic reply to writer, of at most 1"
    assert talk.texts() == ["go", "draft", "Please go on.", "draft"]


def test_0_2_point_4_a_new_message_of_a_person_resets_it_in_any_process(saver: Checkpointer) -> None:
    options: Any = {"human_input_mode": "NEVER", "max_consecutive_auto_reply": 1}
    for _ in range(2):  # graphs built anew: nothing is counted in memory
        talk = Talk(build(saver, ["one"], **options), saver.ledger)
        talk.say()
    assert talk.texts() == ["go", "one", "Please go on.", "one"] * 2


def test_0_2_point_4_a_hundred_if_not_given_and_none_at_zero(saver: Checkpointer) -> None:
    limits = {given: UserProxyNode("a", max_consecutive_auto_reply=given)._limit("a") for given in (None, 0, 7)}
    assert limits == {None: 100, 0: 0, 7: 7}
    talk = Talk(build(saver, ["one"], human_input_mode="TERMINATE", max_consecutive_auto_reply=0), saver.ledger)
    talk.say()
    assert talk.asked().allowed == ("reject", "respond")  # there is no automatic reply to approve
    with pytest.raises(ConversationError):
        UserProxyNode("a", max_consecutive_auto_reply=-1)


def test_0_2_point_5_is_termination_msg_is_a_predicate_of_the_message(saver: Checkpointer) -> None:
    done: Any = lambda message: message.text and message.text.rstrip().endswith("OVER.")  # noqa: E731
    graph = build(saver, ["one", "two. OVER.", "three"], human_input_mode="NEVER", is_termination_msg=done)
    talk = Talk(graph, saver.ledger)
    talk.say()
    assert talk.texts()[-1] == "two. OVER."


@pytest.mark.parametrize("mode", ["ALWAYS", "TERMINATE", "NEVER"])
def test_0_2_point_5_a_predicate_that_raises_is_an_end_and_never_waved_through(saver: Checkpointer, mode: str) -> None:
    def broken(message: Any) -> bool:
        return bool(message["content"])

    talk = Talk(build(saver, ["one"], human_input_mode=mode, is_termination_msg=broken), saver.ledger)
    talk.say()
    assert talk.texts() == ["go", "one"]
    if mode == "NEVER":
        assert "is_termination_msg could not be judged (TypeError" in str(talk.ended)
    else:
        assert "is_termination_msg could not be judged (TypeError" in talk.asked().reason
        assert talk.asked().labels["approve"] == "the conversation ends here"


def test_0_2_point_6_the_input_comes_from_any_door_not_only_from_a_terminal(
    saver: Checkpointer, colour: Colour
) -> None:
    """`get_human_input` is overridden there; here whoever decides is a door: an inbox, a page, a function."""
    talk = Talk(build(saver, ["one", "two", "three"]), saver.ledger, colour)
    talk.say()
    ScriptedReviewer(talk.inbox, {"question": respond("from a function")}).review_once()
    talk.work()
    assert "from a function" in talk.texts()
    asyncio.run(Inbox(saver.ledger).adecide(talk.asked().id, respond("from async code"), reviewer="bob"))
    talk.work()
    assert "from async code" in talk.texts()


def test_0_2_point_7_a_reply_to_tool_calls_is_their_result_user_interrupted(
    saver: Checkpointer, tmp_path: Path, colour: Colour
) -> None:
    lines: list[Any] = [[call("pay", "a", eur=1), call("pay", "b", eur=2)], "I see."]
    talk = Talk(build(saver, lines, effects=tmp_path / "effects", policy=ALLOW), saver.ledger, colour)
    talk.say()
    request = talk.asked()
    assert request.labels["approve"] == "the calls go on to tools: pay"
    assert 'pay({"eur": 1})' in request.description
    talk.answer(respond("not before Friday"))
    assert talk.texts()[2:] == ["USER INTERRUPTED", "USER INTERRUPTED", "not before Friday", "I see."]
    assert ran(tmp_path / "effects") == []
    assert is_valid_history(talk.values["messages"])


def test_0_2_point_7_enter_runs_the_calls_and_exit_leaves_none_unanswered(saver: Checkpointer, tmp_path: Path) -> None:
    graph = build(saver, [[call("pay", eur=1)], "Done."], effects=tmp_path / "effects", policy=ALLOW)
    talk = Talk(graph, saver.ledger)
    talk.say()
    talk.answer(approve())
    assert ran(tmp_path / "effects") == ["pay 1"]
    assert talk.texts()[-2:] == ["paid 1", "Done."]
    other = Talk(graph, saver.ledger, thread="u")
    other.say()
    other.answer(reject())
    assert ran(tmp_path / "effects") == ["pay 1"]
    assert other.texts()[-1] == "USER INTERRUPTED"
    assert is_valid_history(other.values["messages"])


def test_0_2_point_8_events_tell_of_automatic_replies_and_of_the_end(saver: Checkpointer) -> None:
    graph = build(saver, ["one", "two", "TERMINATE"], human_input_mode="NEVER")
    told = list(graph.stream({"messages": [HumanMessage("go")]}, config_of(), stream_mode="custom"))
    assert [(event["type"], event["sender"]) for event in told] == [
        ("using_auto_reply", "assistant"),
        ("using_auto_reply", "assistant"),
        ("termination", "assistant"),
    ]
    assert told[-1]["termination_reason"] == "assistant says that it is done"


def test_0_2_point_9_always_blocks_code_until_a_person_was_asked(saver: Checkpointer, tmp_path: Path) -> None:
    graph = build(saver, [CODE, "Done."], effects=tmp_path / "effects", policy=ALLOW)
    talk = Talk(graph, saver.ledger)
    talk.say()
    assert ran(tmp_path / "effects") == []
    assert talk.asked().labels["approve"] == "the code goes on to code"
    talk.answer(approve())
    assert ran(tmp_path / "effects") == ["python print(1)", "sh ls"]
    assert talk.texts()[-1] == "Done."
    assert is_valid_history(talk.values["messages"])
    other = Talk(graph, saver.ledger, thread="u")
    other.say()
    other.answer(respond("use less code"))
    assert len(ran(tmp_path / "effects")) == 2
    assert other.texts()[-2:] == ["use less code", "Done."]


def test_0_2_point_9_never_runs_code_that_the_policy_allows(saver: Checkpointer, tmp_path: Path) -> None:
    options: Any = {"human_input_mode": "NEVER", "effects": tmp_path / "effects", "policy": ALLOW}
    talk = Talk(build(saver, [CODE, "TERMINATE"], **options), saver.ledger)
    talk.say()
    assert ran(tmp_path / "effects") == ["python print(1)", "sh ls"]
    assert talk.ended == "assistant says that it is done"


# --- AutoGen 0.4 to 0.7 ----------------------------------------------------------------------------------------------


@tool
def look(q: str) -> str:
    """Look something up."""
    return f"found {q}"


def swarm(saver: Checkpointer) -> Graph:
    """Alice hands over to Bob, Bob to a person."""
    to_bob, to_user = create_handoff_tool(agent_name="bob"), create_handoff_tool(agent_name="user")
    alice = create_agent(
        ScriptedChatModel([[tool_call(to_bob.name)], "Alice here."], strict=True), [to_bob], name="alice"
    )

    def script(messages: list[Any]) -> Any:
        told = [m.text for m in messages if isinstance(m, HumanMessage)]
        if len(told) == 1:
            return AIMessage("Which colour?", tool_calls=[tool_call(to_user.name)])
        return f"{told[-1]} it is."

    bob = create_agent(ScriptedChatModel(script, strict=True), [to_user, look], name="bob")
    builder = create_swarm([alice, bob], default_active_agent="alice", state_schema=SwarmState)
    builder.add_node("user", UserProxyNode(["alice", "bob"]))
    return builder.compile(checkpointer=saver)


def test_0_7_point_3_the_answer_goes_back_to_the_agent_that_handed_off(saver: Checkpointer, colour: Colour) -> None:
    talk = Talk(swarm(saver), saver.ledger, colour)
    talk.say("Paint it")
    assert talk.asked().description == "Which colour?"
    assert talk.answer(respond("Blue")).status == "finished"
    assert talk.texts()[-1] == "Blue it is."
    assert talk.values["messages"][-1].name == "bob"
    assert talk.values["active_agent"] == "bob"


def test_0_7_point_3_after_an_exit_the_swarm_goes_on_with_who_asked(saver: Checkpointer) -> None:
    talk = Talk(swarm(saver), saver.ledger)
    talk.say("Paint it")
    talk.answer(reject())
    assert talk.values["active_agent"] == "bob"
    talk.say("Green")
    assert talk.texts()[-1] == "Green it is."


def test_0_7_point_5_handoff_termination_stops_and_a_later_message_goes_on(saver: Checkpointer) -> None:
    lines: list[Any] = ["Let me think.", [call("transfer_to_user")], "Thank you."]
    done = HandoffTermination("user") | TextMentionTermination("Thank you")
    for text in ("Paint it", "the blue one"):  # weeks between them, and nothing in memory
        talk = Talk(build(saver, lines, human_input_mode="NEVER", is_termination_msg=done), saver.ledger)
        talk.say(text)
        if text == "Paint it":
            assert talk.ended == "assistant hands over to user"
            assert talk.texts()[-1] == "Transferred to user."
    assert talk.texts()[-2:] == ["the blue one", "Thank you."]
    assert is_valid_history(talk.values["messages"])


def test_0_7_point_5_handoff_termination_asks_the_person_in_the_same_run(saver: Checkpointer) -> None:
    lines: list[Any] = ["Let me think.", [call("transfer_to_user")], "Thank you."]
    done = HandoffTermination("user") | TextMentionTermination("Thank you")
    talk = Talk(build(saver, lines, human_input_mode="TERMINATE", is_termination_msg=done), saver.ledger)
    talk.say()
    assert talk.asked().reason == "assistant hands over to user"
    talk.answer(respond("the blue one"))
    assert talk.texts()[-3:] == ["Transferred to user.", "the blue one", "Thank you."]


CONDITIONS: list[tuple[Termination, int]] = [
    (TextMentionTermination("three"), 3),
    (TextMentionTermination("two", sources=["assistant"]), 2),
    (MaxMessageTermination(4), 2),  # the task, one, an automatic reply, two
    (TokenUsageTermination(max_total_token=30), 3),
    (SourceMatchTermination(["assistant"]), 1),
    (TextMessageTermination("assistant"), 1),
    (FunctionalTermination(lambda said: said[-1].text == "two"), 2),
    (TextMentionTermination("two") & TextMentionTermination("three"), 3),
    (TextMentionTermination("two") | TextMentionTermination("three"), 2),
    ((TextMentionTermination("one") & TextMentionTermination("four")) | TokenUsageTermination(100), 4),
]


@pytest.mark.parametrize(("condition", "turns"), CONDITIONS)
def test_0_7_point_6_conditions_end_it_alone_and_combined(
    saver: Checkpointer, condition: Termination, turns: int
) -> None:
    lines = ["one", "two", "three", "four", "five"]
    talk = Talk(build(saver, lines, human_input_mode="NEVER", is_termination_msg=condition), saver.ledger)
    talk.say()
    assert [text for text in talk.texts() if text in lines] == lines[:turns]
    assert talk.ended == getattr(condition(talk.values["messages"]), "reason", None)


def test_0_7_point_6_function_call_termination(saver: Checkpointer, tmp_path: Path) -> None:
    done = FunctionCallTermination("pay")
    options: Any = {"human_input_mode": "NEVER", "policy": ALLOW, "effects": tmp_path / "effects"}
    talk = Talk(build(saver, [[call("pay", eur=1)], "Paid.", "more"], is_termination_msg=done, **options), saver.ledger)
    talk.say()
    assert talk.ended == "pay was called"
    assert talk.texts()[-1] == "Paid."


def test_0_7_point_6_timeout_termination_counts_from_the_person_s_last_word(saver: Checkpointer) -> None:
    talk = Talk(build(saver, ["one"], is_termination_msg=TimeoutTermination(60)), saver.ledger)
    talk.say()
    assert talk.asked().labels["approve"].startswith("it goes on")
    saver.ledger.clock = FakeClock(datetime.now(UTC) + timedelta(seconds=61))
    talk.answer(approve())
    assert "seconds have passed, of at most 60" in talk.asked().reason
    saver.ledger.clock = lambda: datetime.now(UTC)
    talk.answer(respond("take your time"))
    assert talk.asked().labels["approve"].startswith("it goes on")


def test_0_7_point_6_a_timeout_that_nobody_can_measure_ends_it(saver: Checkpointer) -> None:
    """With `durability="exit"` nothing is stored before the run has ended."""
    limit = TimeoutTermination(60)
    graph = build(saver, ["one"], human_input_mode="NEVER", is_termination_msg=limit)
    graph.invoke({"messages": [HumanMessage("go")]}, config_of(), durability="exit")
    assert "not known since when" in str(Talk(graph, saver.ledger).ended)


def test_0_7_point_6_external_termination_is_a_switch_for_every_process(saver: Checkpointer) -> None:
    graph = build(saver, ["one"], is_termination_msg=ExternalTermination())
    talk, other = Talk(graph, saver.ledger), Talk(graph, saver.ledger, thread="u")
    talk.say()
    other.say()
    Inbox(saver.ledger).switch("thread:t", "deny", reviewer="ops", reason="that is enough")
    talk.answer(approve())
    assert talk.asked().reason == "ops stopped it: that is enough (switch thread:t)"
    talk.answer(approve())
    assert str(talk.ended).startswith("ops stopped it")
    other.answer(approve())
    assert other.asked().labels["approve"].startswith("it goes on")
    Inbox(saver.ledger).lift("thread:t", reviewer="ops")
    talk.say("go on")
    assert talk.asked().labels["approve"].startswith("it goes on")


def test_0_7_point_7_max_turns_one_stops_returns_and_goes_on_with_the_next_message(saver: Checkpointer) -> None:
    options: Any = {"human_input_mode": "NEVER", "max_consecutive_auto_reply": 0}
    lines = ["one", "two", "three"]
    for text, line in zip(["go", "shorter", "better"], lines, strict=True):
        talk = Talk(build(saver, lines, **options), saver.ledger)  # each request of a web application builds its own
        assert talk.say(text)["messages"][-1].text == line
        assert talk.ended is not None
    assert talk.texts() == ["go", "one", "shorter", "two", "better", "three"]


def start_and_die(report: Report, path: str, effects: Path) -> None:
    with open_checkpointer(path) as saver:
        talk = Talk(build(saver, [[call("pay", eur=1)], "Paid.", "more"], effects=effects, policy=ALLOW), saver.ledger)
        talk.say()
        report("asked")
        time.sleep(600)


def decide_and_die(report: Report, path: str, effects: Path) -> None:
    with open_checkpointer(path) as saver:
        inbox = Inbox(saver.ledger)
        [request] = inbox.pending()
        inbox.decide(request.id, approve(), reviewer="alice")
        report("decided")
        time.sleep(600)


def work_and_die(report: Report, path: str, effects: Path) -> None:
    with open_checkpointer(path) as saver:
        talk = Talk(build(saver, [[call("pay", eur=1)], "Paid.", "more"], effects=effects, policy=ALLOW), saver.ledger)
        talk.work()
        report("paused")
        time.sleep(600)


@pytest.mark.both_databases
def test_0_7_point_8_the_conversation_is_saved_as_it_goes_and_each_process_loads_it(
    db_path: str, tmp_path: Path
) -> None:
    """`save_state` and `load_state`, without calling them: every process is killed where it stands."""
    effects = tmp_path / "effects"
    for target, word in ((start_and_die, "asked"), (decide_and_die, "decided"), (work_and_die, "paused")):
        with child(target, db_path, effects) as process:
            process.hear(word)
            process.kill()
    with open_checkpointer(db_path) as saver:
        graph = build(saver, [[call("pay", eur=1)], "Paid.", "more"], effects=effects, policy=ALLOW)
        talk = Talk(graph, saver.ledger)
        talk.answer(respond("thanks"))
        assert talk.texts() == ["go", "", "paid 1", "Paid.", "thanks", "more"]
        assert ran(effects) == ["pay 1"]
        assert saver.ledger.verify_audit().ok


def test_0_7_point_11_code_runs_block_by_block_after_approval(saver: Checkpointer, tmp_path: Path) -> None:
    options: Any = {"human_input_mode": "TERMINATE", "effects": tmp_path / "effects"}
    talk = Talk(build(saver, [CODE, "TERMINATE"], **options), saver.ledger)
    talk.say()
    request = talk.asked()
    assert request.kind == "approval"
    assert request.action is not None
    assert (request.action.name, request.action.args) == ("execute_code", {"language": "python", "code": "print(1)\n"})
    talk.answer(approve())
    assert ran(tmp_path / "effects") == ["python print(1)"]
    talk.answer(approve())
    assert ran(tmp_path / "effects") == ["python print(1)", "sh ls"]
    assert [m.text for m in talk.values["messages"] if isinstance(m, ToolMessage)] == ["ran print(1)", "ran ls"]


def test_0_7_point_11_code_that_is_not_approved_does_not_run_and_the_reason_is_told(
    saver: Checkpointer, tmp_path: Path
) -> None:
    options: Any = {"human_input_mode": "TERMINATE", "effects": tmp_path / "effects"}
    talk = Talk(build(saver, [CODE, "TERMINATE"], **options), saver.ledger)
    talk.say()
    talk.answer(reject("no files here"))
    assert ran(tmp_path / "effects") == []
    [told] = [m for m in talk.values["messages"] if isinstance(m, ToolMessage)]
    assert "no files here" in told.text  # and the second block is not asked about: it builds on the first
    assert talk.asked().reason == "assistant says that it is done"


def test_0_7_point_14_a_stalled_agent_is_put_to_a_person(saver: Checkpointer) -> None:
    """Magentic-One replans after `max_stalls`; here `EscalationNode` asks."""
    graph = escalation_agents.build(saver)
    escalation_agents.start(graph)
    [request] = Inbox(saver.ledger).pending(kind="escalation")
    assert "did the same 3 times" in request.description
    escalation_agents.answer(graph, saver.ledger, respond("look for y"))
    assert "look for y" in escalation_agents.told(graph)[-1][1]


def test_0_7_point_15_a_question_waits_for_weeks_or_as_long_as_its_rule_says(saver: Checkpointer) -> None:
    """AutoGen Studio gives a person three minutes."""
    saver.ledger.clock = clock = FakeClock()
    rules = {
        "t": None,
        "ends": Rule("*", "ask", deadline=timedelta(days=2)),
        "goes-on": Rule("*", "ask", deadline=timedelta(days=2), on_deadline="approve"),
    }
    talks = {
        name: Talk(build(saver, ["one", "two"], rule=rule), saver.ledger, thread=name) for name, rule in rules.items()
    }
    for talk in talks.values():
        talk.say()
    clock.advance(timedelta(days=2, minutes=1))
    talks["ends"].work()  # a worker takes what is due in all threads
    assert "nobody answered in time" in str(talks["ends"].ended)
    assert talks["goes-on"].texts() == ["go", "one", "Please go on.", "two"]
    clock.advance(timedelta(days=30))
    talks["t"].answer(respond("back from holiday"))
    assert talks["t"].texts()[-1] == "two"


def test_a_reply_with_nowhere_to_go_is_an_error_before_anybody_is_asked(saver: Checkpointer) -> None:
    builder = StateGraph(State)
    builder.add_node("writer", agent("somebody", ["draft"]))
    builder.add_node("critic", agent("critic", ["draft"]))
    builder.add_node("user", UserProxyNode(["writer", "critic"]))
    builder.add_edge(START, "writer")
    builder.add_edge("writer", "user")
    builder.add_edge("critic", "user")
    with pytest.raises(ConversationError, match="AIMessage"):
        Talk(builder.compile(checkpointer=saver), saver.ledger).say()
    assert Inbox(saver.ledger).pending() == []
