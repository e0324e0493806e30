"""The command line for people: who is asked, whose vote counts, who has what in hand, who is away."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")

from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, request_id
from hitl_graph.policy import Call, Deadline, Escalate, Policy, Rule
from hitl_graph.terms import Fresh, Origin, Terms
from tests.test_cli import Cli, hitl

__all__ = ["hitl"]

PEOPLE = """
[people.alice]
roles = ["finance"]
[people.bob]
roles = ["finance"]
groups = ["oncall"]
[people.mia]
roles = ["manager"]
[people.sam]
roles = ["security"]
[people.dave]
"""


@pytest.fixture
def people(hitl: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    (hitl.folder / "people.toml").write_text(PEOPLE)
    monkeypatch.setenv("HITL_DIRECTORY", "people.toml")
    return hitl


def ask(thread: str = "t", *, excluded: tuple[str, ...] = (), ago: timedelta = timedelta(0), **rule: Any) -> str:
    """Put a request into the inbox, as a node would on the terms of this rule."""
    fields = {name: rule.pop(name) for name in ("origin", "fresh") if name in rule}
    verdict = Policy([Rule("*", "ask", **rule)]).judge(Call("pay", {}))
    with Ledger.open("agent.db") as ledger:
        start = ledger.clock() - ago
        terms = (verdict.terms or Terms()).model_copy(
            update={
                "excluded": excluded,
                "schedule": verdict.deadline.schedule(start) if verdict.deadline else (),
            }
        )
        interrupt = f"{len(ledger.pending_rows()) + 1:032x}"
        request = Request(
            id=request_id(thread, interrupt), kind="approval", thread_id=thread, interrupt_id=interrupt,
            action=Action(name="pay", args={"eur": 5}), reason="a rule", terms=None if terms == Terms() else terms,
            **fields,
        )  # fmt: skip
        ledger.write(requests.open_request, ledger.now_ms(), request, checkpoint_id=None, task_id=None, parked=1)
    return request.id


def test_the_inbox_says_who_is_asked_how_many_and_by_when(people: Cli) -> None:
    ask("plain")
    assert people("inbox").out.splitlines()[0].split() == ["ID", "AGE", "THREAD", "KIND", "WANTS", "WHY"]
    two = ask("two", reviewers=["role:finance"], quorum=2, deadline=timedelta(hours=4))
    ask("staged", stages=[["role:manager"], ["role:finance"]])
    people("approve", two, "--as", "alice")
    people("claim", two, "--as", "bob", "--for", "2h")
    header, plain, second, staged = people("inbox").out.splitlines()
    assert header.split() == ["ID", "AGE", "THREAD", "KIND", "WANTS", "WHY", "WHO", "VOTES", "NEXT"]
    assert plain.split()[-3:] == ["anybody", "-", "-"]
    assert re.search(r"role:finance; bob has it for 1h 59m  1 of 2 +rejected in 3h 59m$", second)
    assert re.search(r"role:manager +0 of 1, stage 1/2 +-$", staged)
    rows = {row["thread_id"]: row for row in people("inbox", "--json").rows()}
    assert rows["plain"].keys() == rows["two"].keys()
    told = rows["two"]["standing"]
    assert (told["missing"], told["quorum"], told["left"]) == ("1 of role:finance", 2, 1)
    assert [(vote["reviewer"], vote["decision"]["type"]) for vote in told["votes"]] == [("alice", "approve")]
    assert [claim["reviewer"] for claim in told["claims"]] == ["bob"]
    assert [turn["then"] for turn in told["upcoming"]] == ["reject"]
    mine = people("inbox", "--mine", "--as", "alice", "--json").rows()
    assert [row["thread_id"] for row in mine] == ["plain"]  # she has answered the other one
    assert [row["thread_id"] for row in people("inbox", "--mine", "--as", "MIA", "--json").rows()] == [
        "plain",
        "staged",
    ]
    ask("late", reviewers=["mia"], deadline=timedelta(minutes=5), ago=timedelta(hours=1))
    assert people("inbox", "--thread", "late").out.rstrip().endswith("rejected: due")


def test_a_card_tells_all_that_is_known_of_people(people: Cli) -> None:
    deadline = Deadline(
        timedelta(hours=4), remind=(timedelta(hours=1),), escalate=(Escalate(timedelta(hours=2), ("role:manager",)),)
    )
    own = ask(
        reviewers=["role:finance"], quorum=2, veto=["role:security"], excluded=("carol",), deadline=deadline,
        origin=Origin(requester="carol", author="erin", graph="billing", version="12"),
        fresh=Fresh(facts={"balance": 10}, changed="- balance: 12\n+ balance: 10"),
    )  # fmt: skip
    assert people("approve", own, "--as", "alice", "-m", "looks right").code == 0
    assert people("delegate", own, "dave", "--as", "bob", "-m", "in a meeting").code == 0
    assert people("claim", own, "--as", "dave").code == 0
    shown = people("show", own).out
    for line in (
        r"balance = 10", r"Changed since people were asked before", r"\+ balance: 10",
        r"for +carol", r"author +erin", r"graph +billing 12",
        r"needed +1 of role:finance", r"people +dave", r"not +carol: it is their own",
        r"veto +role:security can reject it alone", r"claimed +by dave, until .* \(1[45]m left\)",
        r"next +.* \(in 59m\): they are reminded", r"then +.* \(in 1h 59m\): role:manager may decide, too",
        r"then +.*: if nobody has decided, it is rejected",
        r"alice: approve, .* through cli\n +\| looks right", r"bob -> dave, .*\n +\| in a meeting",
    ):  # fmt: skip
        assert re.search(line, shown), line
    assert people("approve", own, "--as", "dave").out.startswith("Approved as dave (decided by alice, dave): pay(")
    shown = people("show", own).out
    assert re.search(r"Approved by alice, dave, ", shown)
    assert re.search(r"dave for bob: approve", shown)
    assert re.search(r"Who decided\n +stage 1  +2 of role:finance", shown)
    assert "people" not in people("show", ask("other")).out
    ends = ask("silent", deadline=timedelta(hours=1), on_deadline="approve")
    assert "if nobody has decided, it is APPROVED without an answer" in people("show", ends).out


def test_a_vote_that_is_not_enough_is_no_error(people: Cli) -> None:
    own = ask(reviewers=["role:finance"], quorum=2)
    done = people("approve", own, "--as", "alice")
    assert done.code == 0
    assert "Your vote is recorded. It is not decided yet; still needed: 1 of role:finance." in done.out
    assert people.request(own).state == "pending"
    done = people("reject", own, "--as", "bob", "-m", "no")
    assert "it does not run, and a worker tells the agent" in done.out


def test_who_may_not_is_refused(people: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ask(reviewers=["role:finance"], excluded=("carol",))
    for name, said in (("carol", "it is their own"), ("mia", "known as role:manager"), ("zoe", "not known to have")):
        done = people("approve", own, "--as", name)
        assert (done.code, done.out) == (4, "")
        assert said in done.err
        assert "No directory" not in done.err
    people("claim", own, "--as", "alice")
    done = people("approve", own, "--as", "bob")
    assert done.code == 4
    assert "alice has claimed it until" in done.err
    assert people("claim", own, "--as", "bob").code == 4
    people("hand-back", own, "--as", "alice")
    assert people("hand-back", own, "--as", "alice").code == 4
    monkeypatch.delenv("HITL_DIRECTORY")
    done = people("approve", own, "--as", "alice")
    assert (done.code, done.err.splitlines()[1]) == (
        4, "No directory is given, so nobody has roles: --directory FILE",
    )  # fmt: skip
    assert people("approve", own, "--as", "alice", "--directory", "people.toml").code == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_directory_that_cannot_be_read_is_a_wrong_command_line(people: Cli, place: str) -> None:
    ask()
    Path("broken.toml").write_text("[people.alice]\nrolls = []\n")
    given = ("--directory", "broken.toml")
    done = people(*given, "inbox") if place == "before" else people("inbox", *given)
    assert (done.code, done.out) == (2, "")
    assert "people.alice has something else than roles and groups" in done.err
    assert people("inbox", "--directory", "nowhere.toml").code == 2
    assert people("inbox").code == 0


def test_claims_delegations_and_their_way_back(people: Cli) -> None:
    own = ask(reviewers=["role:finance"])
    assert re.match(r"Claimed as bob until \d{4}-", people("claim", own, "--as", "bob", "--for", "30m").out)
    for wrong in ("soon", "0m", "2d", "99999999999d"):
        done = people("claim", own, "--as", "bob", "--for", wrong)
        assert (done.code, done.out) == (2, "")
    done = people("delegate", own, "dvae", "--as", "bob")
    assert "The directory does not know dvae; is the name right?" in done.err
    assert "Taken back as bob" in people("take-back", own, "--as", "bob").out
    assert people("take-back", own, "--as", "bob").code == 4
    people("delegate", own, "dave", "--as", "bob")
    assert "Handed back as dave" in people("hand-back", own, "--as", "dave").out
    people("delegate", own, "dave", "--as", "bob")
    assert people("approve", own, "--as", "bob").code == 4
    assert people("approve", own, "--as", "dave").code == 0


def test_out_of_office(people: Cli) -> None:
    own = ask(reviewers=["role:finance"], quorum=2)
    assert people("away").err == "Nobody is away.\n"
    assert people("approve", own, "--as", "dave").code == 4
    day = (datetime.now().astimezone() + timedelta(days=3)).date()
    done = people("away", "--as", "alice", "--deputy", "dave", "--until", f"{day}")
    assert done.out.endswith(
        f"until {day + timedelta(days=1)} 00:00:00; dave may decide in their place. `hitl back` ends it.\n"
    )
    [row] = people("away", "--json").rows()
    assert (row["reviewer"], row["deputy"]) == ("alice", "dave")
    assert re.search(r"^alice  dave .* now$", people("away").out, re.MULTILINE)
    assert re.search(r"deputy of alice", people("whoami", "--as", "dave").out)
    assert people("approve", own, "--as", "dave").code == 0
    assert re.search(r"dave for alice: approve", people("show", own).out)
    assert people("back", "--as", "alice").out == "alice is back.\n"
    assert people("back", "--as", "alice").out == "alice was not away.\n"
    ahead = people("away", "--as", "bob", "--deputy", "dave", "--from", "3d", "--until", "5d")
    assert ahead.code == 0
    assert re.search(r"^bob +dave .* in 2d 23h$", people("away").out, re.MULTILINE)
    wrong: list[tuple[str, ...]] = [
        ("--deputy", "dave"), ("--until", "3d"), ("--deputy", "alice", "--until", "3d"),
        ("--deputy", "dave", "--until", "2020-01-01"), ("--deputy", "dave", "--until", "friday"),
    ]  # fmt: skip
    for options in wrong:
        assert people("away", "--as", "alice", *options).code == 2


def test_the_history_tells_who_did_what(people: Cli) -> None:
    own = ask(reviewers=["role:finance"], quorum=2)
    people("claim", own, "--as", "alice")
    people("approve", own, "--as", "alice", "-m", "fine")
    people("delegate", own, "dave", "--as", "bob", "-m", "busy")
    people("approve", own, "--as", "dave")
    events = people("history", "t", "--json").rows()
    assert [(row["event"], row["by"], row["text"]) for row in events if row["event"] != "claimed"] == [
        ("asked", None, "pay(eur=5)  (a rule)"),
        ("voted", "alice", 'approve: "fine"'),
        ("delegated", "bob", 'to dave: "busy"'),
        ("approved", "alice, dave", ""),
    ]
    [claim] = [row for row in events if row["event"] == "claimed"]
    assert claim["by"] == "alice"
    assert claim["text"].startswith("until 20")


def test_whoami(people: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(reviewers=["role:finance"])
    told = people("whoami", "--as", "BOB")
    assert told.out.splitlines() == [
        "name      bob", "roles     finance", "groups    oncall",
        "waiting   1 that you may decide now: hitl inbox --mine",
    ]  # fmt: skip
    assert people("whoami", "--as", "zoe").err == "The directory does not know zoe.\n"
    assert people("whoami", "--as", "bob", "--json").rows() == [
        {"name": "bob", "known": True, "roles": ["finance"], "groups": ["oncall"], "deputy_of": [], "waiting": 1}
    ]
    monkeypatch.delenv("HITL_DIRECTORY")
    assert "No directory is given" in people("whoami", "--as", "bob").err


def test_the_doctor_finds_what_nobody_can_decide(people: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = ask(reviewers=["role:finance"], quorum=2)
    assert "people: for each of 1 that wait for certain people there are enough" in people("doctor").out
    people("approve", fine, "--as", "alice")
    ask("legal", reviewers=["role:legal"])
    ask("three", reviewers=["role:finance"], quorum=3, deadline=timedelta(hours=1))
    done = people("doctor")
    assert done.code == 1
    assert re.search(
        r"problem  too few people: 1: \w+ \(thread legal, .*1 of role:legal needed, the directory has nobody", done.out
    )
    assert re.search(
        r"note     too few people: 1: \w+ \(thread three, .*3 of role:finance needed, .* alice, bob", done.out
    )
    monkeypatch.delenv("HITL_DIRECTORY")
    assert "give --directory FILE" in people("doctor").out


def test_what_people_write_cannot_pretend(people: Cli) -> None:
    own = ask(reviewers=["role:finance"], quorum=2)
    people("delegate", own, "ev\x1bil\u202e", "--as", "alice", "-m", "a\x1b[2Jb")
    people("approve", own, "--as", "bob", "-m", "x\u202ey")
    look: list[Callable[[], str]] = [lambda: people("show", own).out, lambda: people("inbox").out]
    for shown in look:
        text = shown()
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_times_are_utc_in_json(people: Cli) -> None:
    own = ask(reviewers=["role:finance"], quorum=2)
    people("approve", own, "--as", "alice")
    [told] = people("show", own, "--json").rows()
    at = datetime.fromisoformat(told["standing"]["votes"][0]["at"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)
    assert told["terms"]["stages"][0]["quorum"] == 2
