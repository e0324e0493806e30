"""When a supervisor who watches live would want to be called, rule by rule; and when not."""

import pytest
from langchain_core.messages import BaseMessage

from hitl_graph.stuck import Kind
from tests.stuck_histories import first_alarm, run, step, user

NO_TABLE = "Error: table 'shop.{}' does not exist"


def same_call(times: int) -> list[BaseMessage]:
    return [message for _ in range(times) for message in step("permission denied", command="cat /etc/shadow")]


# --- S1: the same action with the same useless result, the third time ---------------------------------------------


def test_the_third_time_the_same_comes_back() -> None:
    assert first_alarm(run(same_call(2))) is None
    alarm = first_alarm(run(same_call(3)))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)
    [evidence] = [one for one in alarm.evidence if one.kind == "repeated_action"]
    assert evidence.indices == (1, 2, 3, 4, 5, 6)
    assert evidence.count == 3
    assert evidence.tried == ('bash({"command": "cat /etc/shadow"})',)
    assert evidence.came_back == ("permission denied",)
    assert alarm.since == 1
    assert alarm.spent.steps == 3
    assert "3 times" in alarm.sentence
    assert alarm.suggestions


def test_cosmetic_differences_make_no_other_action() -> None:
    alarm = first_alarm(
        run(
            step("no output at 12:01:03", command="grep -n  'total' report.txt"),
            step("no output at 12:01:09", command="grep -n 'total' report.txt"),
            step("no output at 12:02:44", command='grep -n "Total" report.txt'),
        )
    )
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)


def test_other_steps_between_do_not_hide_it() -> None:
    parts = [
        step("3 rows: ada, bob, eve", "query", sql="select name from people"),
        step("noted", "think", thought="perhaps the filter is wrong"),
        step("3 rows: ada, bob, eve", "query", sql="select name from people"),
        step("schema: people(name, age)", "describe", table="people"),
        step("3 rows: ada, bob, eve", "query", sql="select name from people"),
    ]
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 10)


def test_a_failing_action_hardly_changed_is_the_same() -> None:
    def book(bags: int) -> list[BaseMessage]:
        args = {"flight": "LH 400", "from": "Frankfurt", "to": "New York", "seat": "12A", "meal": "none", "pay": "card"}
        return step("Error: the payment does not add up", "book", **args, bags=bags)

    alarm = first_alarm(run(book(1), book(2), book(3)))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)


def test_the_same_words_in_another_order_are_the_same() -> None:
    alarm = first_alarm(
        run(
            step("find: paths must precede expression", command="find . -name '*.php' -type f -exec wc -l {} +"),
            step("find: paths must precede expression", command="find . -type f -name '*.php' -exec wc -l {} +"),
            step("expression find: paths must precede", command="find . -type f -exec wc -l {} + -name '*.php'"),
        )
    )
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_action", 6)
    assert len({one.key for one in alarm.evidence if one.kind == "repeated_action"}) == 1


# --- S2: an oscillation, when the second round is complete --------------------------------------------------------


def test_two_rounds_of_a_circle() -> None:
    read = step("port = 80", "read", file="web.conf")
    restart = step("nginx is running", "restart", service="nginx")
    assert first_alarm(run(read, restart, read)) is None
    alarm = first_alarm(run(read, restart, read, restart))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("oscillation", 8)
    assert alarm.evidence[0].indices == (5, 6, 7, 8)


def test_a_longer_circle() -> None:
    circle = [step(f"answer {name}", name, of="it") for name in ("look", "turn", "walk")]
    alarm = first_alarm(run(*circle, *circle))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("oscillation", 12)


# --- S3: one class of failure with varied guesses, the fourth in a row --------------------------------------------


def test_the_fourth_guess_that_fails_in_the_same_way() -> None:
    guesses = ["friends", "student_friends", "friendships", "network"]
    parts = [step(NO_TABLE.format(name), "sql", query=f"select * from {name}") for name in guesses]
    assert first_alarm(run(*parts[:3])) is None
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_failure", 8)
    assert alarm.evidence[0].came_back == tuple(NO_TABLE.format(name) for name in guesses)


def test_a_user_who_only_speaks_does_not_end_the_streak() -> None:
    def ask(number: str) -> list[BaseMessage]:
        return [*step(f"Error: no customer with number {number}", "find", number=number), *run("Not found. Sure?")[1:]]

    parts: list[str | BaseMessage | list[BaseMessage]] = []
    for number in ("1001", "1002", "2001", "2002"):
        parts += [ask(number), user("Yes, quite sure. Try the other one.")]
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert alarm.kind == "repeated_failure"


def test_edits_without_output_do_not_end_the_streak() -> None:
    parts = []
    for number in range(4):
        parts += [step("", "edit", line=number, text=f"x{number} = {number}")]
        parts += [step(f"E   AssertionError: total is {number}, not 12", "test", args=f"-k case{number}")]
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("repeated_failure", 16)


# --- S4: no new information --------------------------------------------------------------------------------------


def test_six_steps_that_bring_nothing_new() -> None:
    names = ("one", "two", "three", "four", "five", "six")
    first = [step(f"page {name} of the manual", "open", page=name) for name in names]
    again = [step(f"page {names[place]} of the manual", "open", page=names[place]) for place in (2, 0, 5, 1, 4, 3)]
    assert first_alarm(run(*first, *again[:5])) is None
    alarm = first_alarm(run(*first, *again))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("no_new_information", 24)
    assert alarm.evidence[0].count == 6


def test_restating_a_request_to_a_helper() -> None:
    requests = [
        "Please open the video and find the moments at which several kinds of birds can be seen at the same time.",
        "Please scan the video and find the moments at which several kinds of birds can be seen at the same time.",
        "Please go through the video to find the moments at which several kinds of birds can be seen together.",
        "Please scan through the video and note the moments at which several kinds of birds can be seen together.",
        "Please scan the video again and note all moments at which several kinds of birds can be seen at once.",
        "Please go through the video again and note the moments at which several kinds of birds are seen together.",
        "Please open the video, scan it and find the moments at which several kinds of birds can be seen together.",
    ]
    answers = [
        "I opened it.",
        "I scrolled down.",
        "I clicked on pause.",
        "I scrolled up.",
        "I clicked.",
        "I waited.",
        "Hm.",
    ]
    parts = [step(answer, "surfer", request=text) for text, answer in zip(requests, answers, strict=True)]
    assert first_alarm(run(*parts[:3])) is None
    alarm = first_alarm(run(*parts))
    assert alarm is not None
    assert alarm.kind == "delegation_stall"
    assert "surfer" in alarm.sentence


# --- S5: a monologue ---------------------------------------------------------------------------------------------


def test_three_messages_that_restate_the_plan() -> None:
    plans = [
        "I will first list the files, then read the configuration and then fix the port.",
        "So the plan: list the files, read the configuration, fix the port.",
        "Next I am going to list the files. After that I read the configuration and fix the port.",
    ]
    assert first_alarm(run(*plans[:2])) is None
    alarm = first_alarm(run(*plans))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("monologue", 3)


# --- S6: a dialogue that stalls ----------------------------------------------------------------------------------

REFUSALS = [
    "I am sorry, but a basic ticket cannot be refunded after it was booked.",
    "Unfortunately the rules for a basic ticket do not allow a refund, so I can't help with that.",
    "I understand. Still, I am unable to refund a basic ticket.",
    "I apologise, but a refund is not possible for this ticket.",
]
WISHES = ["But I was ill.", "There must be a way!", "Half of it, perhaps?", "Let me talk to somebody."]


def test_the_fourth_refusal_of_the_same() -> None:
    talk = [part for refusal, wish in zip(REFUSALS, WISHES, strict=True) for part in (refusal, user(wish))]
    assert first_alarm(run(*talk[:6])) is None
    alarm = first_alarm(run(*talk))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("dialogue_stall", 7)


def test_the_fourth_time_of_the_same_question() -> None:
    talk: list[str | BaseMessage] = []
    for answer in ("I don't know it.", "Where would I find it?", "It is a red one.", "No idea."):
        talk += ["Could you please tell me the number of your order, so that I can look it up?", user(answer)]
    alarm = first_alarm(run(*talk))
    assert alarm is not None
    assert (alarm.kind, alarm.index) == ("dialogue_stall", 7)


# --- not stuck ---------------------------------------------------------------------------------------------------

CITIES = "berlin paris rome oslo madrid vienna prague lisbon dublin athens".split()
ERRORS = [
    "SyntaxError: invalid syntax",
    "ModuleNotFoundError: No module named 'yaml'",
    "TypeError: load() missing 1 required positional argument: 'Loader'",
    "KeyError: 'port'",
    "AssertionError: 8080 is not 80",
]


def edit_and_test() -> list[list[BaseMessage]]:
    rounds = []
    for number, error in enumerate(ERRORS):
        rounds.append(step("", "edit", line=number, text=f"change{number}"))
        rounds.append(step(f"Traceback (most recent call last):\n  File 'a.py', line {number}\n{error}", "test"))
    return rounds


def long_files() -> list[list[BaseMessage]]:
    halves = "x = 1\n" * 2000
    return [step("saved", "write", file="a.py", text=f"{halves}y = {number}\n{halves}") for number in range(5)]


def read_again_after_an_edit() -> list[list[BaseMessage]]:
    rounds = []
    for number in range(5):
        rounds.append(step(f"timeout = {number}", "read", file="app.conf"))
        rounds.append(step("", "edit", file="app.conf", text=f"timeout = {number + 1}"))
    return rounds


def the_user_asks_again() -> list[BaseMessage]:
    talk: list[BaseMessage] = []
    for question in ("Which seats are free?", "Sorry, which ones again?", "And once more, please?"):
        talk += [user(question), *step('["12A", "14C"]', "free_seats", flight="LH 400"), *run("12A and 14C.")[1:]]
    return talk


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(run(*(step("deleted", "delete", city=city) for city in CITIES)), id="batch work"),
        pytest.param(run(*(step("ok", "close", order=number) for number in range(100, 112))), id="batch over numbers"),
        pytest.param(
            run(*(step(f"running, {done} % done", "status", job="7") for done in range(5, 95, 10))), id="polling moves"
        ),
        pytest.param(
            run(*(step("ok", "update", id=n, city="Bern", status="open", owner="Ada", team="blue") for n in range(9))),
            id="batch over records that are alike",
        ),
        pytest.param(
            run(*(step("ok", "delete", id=f"{n}f3c2a90-11aa-4bcd-9a00-0123456789ab") for n in range(9))),
            id="batch over ids",
        ),
        pytest.param(run(*long_files()), id="long files that differ in the middle"),
        pytest.param(run(*edit_and_test()), id="errors change from edit to edit"),
        pytest.param(run(*read_again_after_an_edit()), id="reading again after an edit"),
        pytest.param(run(the_user_asks_again()), id="the user asked again"),
        pytest.param(run("The capital of Australia is Sydney."), id="a confident wrong answer"),
        pytest.param(
            run(
                step("timeout", "get", url="a"),
                step("timeout", "get", url="a"),
                step("<html>", "get", url="b"),
                "Done.",
            ),
            id="two failed tries",
        ),
        pytest.param(
            run(REFUSALS[0], user(WISHES[0]), REFUSALS[1], user(WISHES[1]), step("ok", "hand_over", to="a colleague")),
            id="handing over",
        ),
        pytest.param(
            run(
                *(
                    step(
                        f"{city} has {number} people", "ask_helper", request=f"Please find out how many live in {city}."
                    )
                    for number, city in enumerate(CITIES)
                )
            ),
            id="other questions to the same helper",
        ),
    ],
)
def test_nobody_is_called(messages: list[BaseMessage]) -> None:
    alarm = first_alarm(messages)
    assert alarm is None, alarm.sentence


def test_the_kinds_of_the_rules_are_kinds() -> None:
    from typing import get_args

    named = {"repeated_action", "oscillation", "repeated_failure", "no_new_information", "delegation_stall"}
    assert named | {"monologue", "dialogue_stall", "malformed_output"} <= set(get_args(Kind))
