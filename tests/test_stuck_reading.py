"""What counts as an action, as a result, as a failure; agents with tool calls and agents that write their actions."""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from hitl_graph.stuck import to_messages
from hitl_graph.stuck.failing import failure_of, is_nothing, says_no
from hitl_graph.stuck.reading import Acted, Event, Heard, Reader, Said, Step
from hitl_graph.stuck.telling import different, excerpt
from hitl_graph.stuck.words import clip, fingerprint, loose, prose, words
from tests.stuck_histories import first_alarm, run, step, user


def read(messages: list[BaseMessage]) -> list[Event]:
    reader = Reader()
    return [event for index, message in enumerate(messages) for event in reader.read(index, message)]


# --- actions in text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("I look.\n```bash\nls -l\n```", "", "ls -l"),
        ("```\nls -l", "", "ls -l"),
        ("Next I do ```click [12]```", "click", "12"),
        ("Thought: hm\nAction: search[the red fox]", "search", "the red fox"),
        ("**Action:** go north", "", "go north"),
        ("Action: search\nAction Input: the red fox", "search", "the red fox"),
        ('Action:\n```json\n{"action": "search", "action_input": "the red fox"}\n```', "search", "the red fox"),
        ('{"tool": "search", "args": {"q": "fox"}}', "search", '{"q": "fox"}'),
        ('<tool_call>{"name": "search", "arguments": {"q": "fox"}}</tool_call>', "search", '{"q": "fox"}'),
        ("<function=run>ls</function>", "", "=run ls"),
        ("{not json}", "", "{not json}"),
    ],
)
def test_an_action_may_be_written(text: str, name: str, args: str) -> None:
    events = read([HumanMessage("Go."), AIMessage(text), HumanMessage("a.txt")])
    [acted] = [event for event in events if isinstance(event, Acted)]
    [done] = [event for event in events if isinstance(event, Step)]
    assert (acted.call.name, acted.call.args) == (name, args)
    assert (done.call, done.result) == (acted.call, "a.txt")
    assert acted.call.shown


def test_the_code_of_an_agent_with_tool_calls_is_no_action() -> None:
    events = read(run(step("ok"), "Here it is:\n```python\nprint(1)\n```", user("Thanks.")))
    assert [type(event).__name__ for event in events[-3:]] == ["Spoke", "Said", "Heard"]


def test_plain_words_are_actions_where_an_environment_answers() -> None:
    events = read(
        [AIMessage("go north"), HumanMessage("Observation: a wall"), AIMessage("Hello!"), HumanMessage("Hi.")]
    )
    assert [type(event).__name__ for event in events] == ["Spoke", "Said", "Acted", "Step", "Spoke", "Said", "Heard"]


def test_a_loop_is_a_loop_however_it_is_written() -> None:
    parts: list[Any] = ["```bash\ncat /etc/shadow\n```", user("cat: /etc/shadow: Permission denied")] * 3
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)


def test_a_loop_of_an_agent_that_only_talks() -> None:
    parts: list[Any] = ["open the door", user("You can see no door here.")] * 3
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)


# --- calls and results -------------------------------------------------------------------------------------------


def test_results_find_their_calls_in_any_order() -> None:
    calls: list[Any] = [{"name": name, "args": {}, "id": name} for name in ("a", "b")]
    events = read(
        [AIMessage("", tool_calls=calls), ToolMessage("B", tool_call_id="b"), ToolMessage("A", tool_call_id="a")]
    )
    assert [(event.call.name, event.result) for event in events if isinstance(event, Step)] == [("b", "B"), ("a", "A")]


def test_a_result_without_the_id_of_its_call() -> None:
    messages = to_messages(
        [
            {"role": "assistant", "content": None, "tool_calls": [{"name": "measure", "arguments": {}}]},
            {"role": "user", "name": "scale", "content": "12 kg"},
            {"role": "tool", "content": "nobody asked"},
        ]
    )
    assert [(event.call.name, event.result) for event in read(messages) if isinstance(event, Step)] == [
        ("measure", "12 kg")
    ]


def test_system_messages_are_nothing() -> None:
    assert read([SystemMessage("Be kind.")]) == []


def test_blocks_are_read_as_their_text() -> None:
    [_, said] = read([AIMessage([{"type": "text", "text": "one"}, "two", {"type": "image", "url": "u"}])])
    assert isinstance(said, Said)
    assert said.text == "one\ntwo"
    [heard] = read([HumanMessage("hi")])
    assert isinstance(heard, Heard)


# --- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        "Error: no such table: people",
        '{"error": "customer not found"}',
        "{'errors': ['too long']}",
        '{"success": false}',
        "Traceback (most recent call last):\n  File 'a.py', line 1\nValueError: no",
        "exit code: 2\n" + "x" * 900,
        "<returncode>1</returncode>",
        "bash: line 1: frobnicate: command not found",
        "Could not find [The Fox]. Similar: " + "a" * 900,
        "Command timed out",
        "Wrong flag!",
    ],
)
def test_failures(result: str) -> None:
    assert failure_of(result, frozenset()) is not None


@pytest.mark.parametrize(
    "result",
    [
        "",
        "42 rows",
        "0 errors, 3 warnings",
        "errors: 0",
        "timeout = 30",
        "<returncode>0</returncode>\nerror handling is in errors.py",
        "def f():\n    try:\n        g()\n    except ValueError:\n        raise\n" * 20,
        "exit code 0",
    ],
)
def test_no_failures(result: str) -> None:
    assert failure_of(result, frozenset()) is None


def test_the_class_of_a_failure_leaves_the_guess_out() -> None:
    one = failure_of("Error: table 'shop.friends' does not exist", words("select * from friends"))
    other = failure_of("Error: table 'shop.mates' does not exist", words("select * from mates"))
    assert one == other == frozenset({"error", "table", "does", "not", "exist"})
    assert failure_of("", frozenset(), error=True) == frozenset({"failed"})


def test_nothing_and_no() -> None:
    assert all(is_nothing(text) for text in ("", " \n", "None", "[]", "<output>\n</output>", "0"))
    assert not is_nothing("no rows were changed")
    assert says_no("False")
    assert not says_no("<returncode>0</returncode>")


# --- texts -------------------------------------------------------------------------------------------------------


def test_what_changes_by_itself_is_masked() -> None:
    one = "Job 7f3c2a90-11aa-4bcd-9a00-0123456789ab done at 2024-01-02 03:04:05 in 3.2 s (0x7ffe01)"
    other = "job 0c3c2a90-11aa-4bcd-9a00-0123456789ff done at 2025-11-12T13:14:15Z in 12.5 s (0x1234)"
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint("10 % done") != fingerprint("20 % done")
    assert fingerprint("3 minutes left") != fingerprint("2 minutes left")


def test_of_an_action_only_the_spelling_is_loose() -> None:
    assert loose("grep  -n 'Total' a.txt") == loose('grep -n "total" a.txt')
    assert loose("age > 3") != loose("age < 3")
    assert loose("order 1234567890") != loose("order 1234567891")


def test_prose_is_not_code() -> None:
    assert prose("Please look up how many people live in the town of Bern, and tell me the number.")
    assert not prose("SELECT name, age FROM people WHERE age > (SELECT avg(age) FROM people) AND name IN ('a', 'b')")
    assert not prose("ls")


def test_long_texts_are_shortened_for_people_and_for_speed() -> None:
    assert len(clip("x" * 100_000)) < 5_000
    assert len(excerpt("word " * 10_000)) <= 210
    assert different(["a", "b", "a", "c", "d", "e"]) == ("a", "c", "d", "e")


# --- recorded messages -------------------------------------------------------------------------------------------


def test_recorded_calls_come_in_several_shapes() -> None:
    [message] = to_messages(
        [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "1", "name": "a", "arguments": {"x": 1}},
                    {"id": "2", "type": "function", "function": {"name": "b", "arguments": json.dumps({"x": 2})}},
                    {"id": "3", "function": {"name": "c", "arguments": "{broken"}},
                    {"id": None, "name": "d", "args": None},
                ],
                "truncated": True,
            }
        ]
    )
    assert isinstance(message, AIMessage)
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("a", {"x": 1}),
        ("b", {"x": 2}),
        ("d", {}),
    ]
    assert [(call["name"], call["args"]) for call in message.invalid_tool_calls] == [("c", "{broken")]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("hello", "messages[0] is no object"),
        ({"role": "clerk", "content": "x"}, "the role 'clerk'"),
        ({"role": "user", "content": 3}, "neither text nor a list of blocks"),
        ({"role": "assistant", "tool_calls": "f()"}, "no list"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, "without a name"),
    ],
)
def test_what_is_no_message_is_refused(message: Any, says: str) -> None:
    with pytest.raises(ValueError, match=r"messages\[0\]") as refused:
        to_messages([message])
    assert says in str(refused.value)
