"""What a changed policy would have asked, allowed and denied: over the history that a graph left, on both databases."""

import asyncio
import json
import operator
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import comb
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, schedule
from hitl_graph.model import Decision, approve, edit, reject, respond
from hitl_graph.nodes import ApprovalNode, OutputReviewNode
from hitl_graph.policy import Call, Policy, Rule
from hitl_graph.policy.recorded import Recorded, Then
from hitl_graph.policy.replay import Kind
from hitl_graph.policy.shares import at_most
from hitl_graph.replay import Replay, areplay, replay
from hitl_graph.reviewers import Reviewer, StaticDirectory
from hitl_graph.steps import run
from hitl_graph.storage import Transaction
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["legal"])])


def search(q: str) -> str:
    """Search."""
    return f"nothing about {q}"


def pay(eur: int, to: str = "acme") -> str:
    """Pay."""
    return f"paid {eur} to {to}"


def drop(table: str) -> str:
    """Drop a table."""
    return f"dropped {table}"


THEN = Policy([Rule("search", "allow"), Rule("pay", "ask", reason="money"), Rule("drop", "deny")])


def history(path: str, policy: Policy, calls: list[tuple[str, dict[str, Any], Decision | None]]) -> None:
    """A graph makes these calls, each in a thread of its own; whoever is asked answers so."""
    with open_checkpointer(path, directory=PEOPLE) as checkpointer:
        builder = StateGraph(MessagesState)
        builder.add_node("tools", ApprovalNode([search, pay, drop], policy=policy))
        builder.add_edge(START, "tools")
        graph: Any = builder.compile(checkpointer=checkpointer)
        inbox = Inbox(checkpointer.ledger)
        for number, (name, args, decision) in enumerate(calls):
            message = AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"c{number}"}], id=f"m{number}")
            graph.invoke({"messages": [message]}, {"configurable": {"thread_id": f"t{number}"}})
            if decision is not None:
                [request] = inbox.pending(thread_id=f"t{number}")
                inbox.decide(request.id, decision, reviewer="alice")
                Worker(graph, checkpointer.ledger).run_once()


def remembers_denials(ledger: Ledger) -> None:
    """The history has a denied call of `drop`."""

    def work(tx: Transaction) -> None:
        if tx.execute("SELECT 1 FROM hitl_denials").fetchone() is None:
            tx.execute(
                "INSERT INTO hitl_denials (action_key, thread_id, tool, args, reason, at_ms) VALUES (?,?,?,?,?,?)",
                ("key", "t9", "drop", '{"table":"users"}', "never", ledger.now_ms()),
            )

    ledger.write(work)


PAST: list[tuple[str, dict[str, Any], Decision | None]] = [
    ("search", {"q": "acme"}, None),
    ("search", {"q": "secret"}, None),
    ("pay", {"eur": 5}, approve()),
    ("pay", {"eur": 7}, approve()),
    ("pay", {"eur": 9}, reject("not this month")),
    ("pay", {"eur": 500}, reject("far too much")),
    ("pay", {"eur": 8}, respond("ask again in May")),
    ("pay", {"eur": 6}, edit({"eur": 600})),
    ("pay", {"eur": 4}, None),
    ("drop", {"table": "users"}, None),
]


def found(result: Replay, kind: Kind) -> list[dict[str, Any] | None]:
    changes = result.changes[kind]
    assert changes.count == len(changes)
    return [None if c.recorded.args is None else dict(c.recorded.args) for c in changes]


async def is_secret(call: Call) -> bool:
    await asyncio.sleep(0)
    return "secret" in call.args["q"]


CHANGED = Policy(
    [
        Rule("search", "allow"),
        Rule("search", "ask", when=is_secret, reason="it is secret"),
        Rule("pay", "allow", when=lambda call: call.args["eur"] < 10, reason="small"),
        Rule("pay", "deny", when=lambda call: call.args["eur"] > 100, reason="too much"),
        Rule("drop", "ask"),
    ]
)


@pytest.mark.both_databases
def test_it_says_what_would_have_been(db_path: str) -> None:
    history(db_path, THEN, PAST)
    with open_ledger(db_path) as ledger:
        remembers_denials(ledger)
        seen: list[tuple[int, int]] = []
        result = replay(ledger, CHANGED, progress=lambda read, total: seen.append((read, total)))
        same = asyncio.run(areplay(ledger, CHANGED))
        unchanged = replay(ledger, THEN, tool="[ps]*")
        earlier = replay(ledger, CHANGED, until=datetime(2020, 1, 1, tzinfo=UTC))
        one = replay(ledger, CHANGED, thread_id="t4", since=timedelta(days=1))
    assert seen[-1] == (10, 10)
    assert str(result) == str(same)
    assert result.calls == 10
    assert result.table == {
        ("asked", "allow"): 6, ("asked", "deny"): 1, ("allowed", "allow"): 1, ("allowed", "ask"): 1,
        ("denied", "ask"): 1,
    }  # fmt: skip
    assert found(result, "let_through") == [{"eur": 9}, {"eur": 8}]
    [first, second] = result.changes["let_through"]
    assert (first.recorded.reviewer, first.recorded.why, first.recorded.thread_id) == ("alice", "not this month", "t4")
    assert (second.outcome, second.reason) == ("allow", "small")
    assert found(result, "unedited") == [{"eur": 6}]
    assert [c.recorded.edited for c in result.changes["unedited"]] == [{"eur": 600}]
    assert found(result, "saved") == [{"eur": 5}, {"eur": 7}]
    assert found(result, "asked") == [{"q": "secret"}]
    assert found(result, "opened") == [{"table": "users"}]
    assert found(result, "denied") == found(result, "people") == []  # what it denies was rejected
    assert (result.refused, result.unasked, result.unasked_refused) == (3, 5, 2)
    assert str(result).splitlines()[:3] == [
        "10 calls: it would have asked about 2 instead of 7, allowed 7 instead of 2 and denied 1 as before.",
        "It would have let through 2 of 3 that people refused.",
        "It would have run 1 call as proposed that people edited first.",
    ]
    assert "Of the 5 answered calls that it would not ask about any more, people refused 2. If" in str(result)
    assert [(t.matched, t.decided) for t in result.rules] == [(2, 1), (1, 1), (6, 6), (1, 1), (1, 1)]
    assert [tally.calls for tally in result.tools.values()] == [7, 2, 1]
    assert not any(changes.count for changes in unchanged.changes.values())
    assert earlier.calls == 0
    assert (one.calls, one.changes["let_through"].count) == (1, 1)


@pytest.mark.both_databases
def test_what_is_edited_is_judged_as_proposed_and_as_edited(db_path: str) -> None:
    history(db_path, THEN, [("pay", {"eur": 50}, edit({"eur": 600})), ("pay", {"eur": 50}, edit({"eur": 5}))])
    with open_ledger(db_path) as ledger:
        result = replay(ledger, CHANGED)
    [denied] = result.changes["denied"]
    assert (denied.recorded.edited, denied.reason) == ({"eur": 600}, "too much")
    assert result.table == {("asked", "ask"): 2}


@pytest.mark.both_databases
def test_a_question_that_was_asked_again_is_one_call(db_path: str) -> None:
    def is_large(call: Call) -> bool:
        return bool(call.args["eur"] > 100)

    policy = Policy([Rule("pay", "ask"), Rule("pay", "ask", when=is_large, reviewers=["role:legal"])])
    history(db_path, policy, [("pay", {"eur": 50}, edit({"eur": 600}))])  # alice may not decide about 600 alone
    with open_ledger(db_path) as ledger:
        [again] = Inbox(ledger).pending()
        ledger.directory = PEOPLE
        Inbox(ledger).decide(again.id, approve(), reviewer="bob")
        same, other = replay(ledger, policy), replay(ledger, THEN)
        stricter = replay(ledger, Policy([Rule("pay", "ask", reviewers=["role:finance"])]))
        quorum = replay(ledger, Policy([Rule("pay", "ask", quorum=2)]))
        fine = replay(ledger, Policy([Rule("pay", "ask", reviewers=["role:legal", "role:finance"])]))
    assert same.calls == other.calls == 1
    assert same.answered == {"edit": 1}
    assert not any(changes.count for result in (same, other) for changes in result.changes.values())
    for result, enough in ((stricter, False), (quorum, False), (fine, True)):
        [change] = result.changes["people"]
        assert change.enough is enough
        assert change.recorded.edited == {"eur": 600}


def looks_at(what: str) -> Callable[[Call], bool]:
    def predicate(call: Call) -> bool:
        return getattr(call, what) is None

    return predicate


def hides_it(call: Call) -> bool:
    try:
        return bool(call.state["vip"])
    except Exception:
        return True


async def looks_later(call: Call) -> bool:
    await asyncio.sleep(0)
    return isinstance(call.metadata, dict)


@pytest.mark.parametrize("when", [looks_at("state"), looks_at("metadata"), looks_at("id"), hides_it, looks_later])
def test_what_is_not_on_record_is_never_a_yes(when: Callable[[Call], bool]) -> None:
    def judged(*rules: Rule) -> Replay:
        result = Replay(Policy(rules))
        run(result.steps(Recorded("pay", {"eur": 1}, "reject", NOW, "t")))
        assert result.rules[0].untold == 1
        assert sum(changes.count for changes in result.changes.values()) == 0
        return result

    for result in (judged(Rule("pay", "allow", when=when)), judged(Rule("pay", "deny", when=when)),
                   judged(Rule("pay", "deny", when=when), Rule("pay", "allow")),
                   judged(Rule("pay", "deny", when=when), Rule("pay", "ask"))):  # fmt: skip
        assert result.table == {("asked", "ask"): 1}
        assert result.untold == {"asked": 1}
        assert "It cannot be told for 1 call, counted as asked" in str(result)
    told = judged(Rule("pay", "allow", when=when), Rule("pay", "deny"))
    assert (told.table, told.untold.total()) == ({("asked", "deny"): 1}, 0)
    told = judged(Rule("pay", "allow", when=when), Rule("pay", "ask"))
    assert (told.table, told.untold.total()) == ({("asked", "ask"): 1}, 0)


def test_a_predicate_that_fails_asks_and_is_named() -> None:
    result = Replay(Policy([Rule("pay", "allow", when=lambda call: call.args["usd"] < 5)]))
    run(result.steps(Recorded("pay", {"eur": 1}, "ran", NOW, "t")))
    assert (result.table, result.untold.total()) == ({("allowed", "ask"): 1}, 0)
    assert (result.rules[0].failed, result.rules[0].failure) == (1, "KeyError: 'usd'")
    assert "Predicates failed, which means ask: 1. pay allow, 1 time" in str(result)


@pytest.mark.both_databases
def test_what_was_redacted_is_judged_by_its_name_alone(db_path: str) -> None:
    history(db_path, THEN, PAST[:3])
    with open_ledger(db_path) as ledger:
        before = ledger.read(lambda tx: tx.execute("SELECT args FROM hitl_permits ORDER BY args").fetchall())
        for thread in ("t0", "t1", "t2"):
            ledger.redact(thread, actor="alice", reason="GDPR")
        after = ledger.read(lambda tx: tx.execute("SELECT args FROM hitl_permits").fetchall())
        assert ledger.verify_audit().ok
        same, changed = replay(ledger, THEN), replay(ledger, CHANGED)
    assert sorted(row[0] or "" for row in before) == ["", '{"q":"acme"}', '{"q":"secret"}']  # the request has pay's
    assert {row[0] for row in after} == {None}
    assert (same.untold.total(), same.table) == (0, {("asked", "ask"): 1, ("allowed", "allow"): 2})
    assert (changed.untold.total(), changed.table) == (3, {("asked", "ask"): 1, ("allowed", "ask"): 2})
    assert "rules look at call.args, not on record" in str(changed)


def test_a_standing_grant_takes_the_place_of_asking() -> None:
    def judged(rule: Rule) -> Any:
        result = Replay(Policy([rule]))
        run(result.steps(Recorded("pay", {"eur": 1}, "ran", NOW, "t", granted=True)))
        return result.table

    assert judged(Rule("pay", "ask")) == {("allowed", "allow"): 1}
    assert judged(Rule("pay", "ask", grants=False)) == {("allowed", "ask"): 1}
    assert judged(Rule("pay", "deny")) == {("allowed", "deny"): 1}


@pytest.mark.both_databases
def test_what_a_deadline_decided_says_nothing_of_people(db_path: str) -> None:
    def soon(call: Call) -> bool:
        return bool(call.args["eur"] > 5)

    hour = timedelta(hours=1)
    policy = Policy(
        [
            Rule("pay", "ask", when=soon, deadline=hour),
            Rule("pay", "ask", when=lambda call: not soon(call), deadline=hour, on_deadline="approve"),
        ]
    )
    history(db_path, policy, [("pay", {"eur": 1}, None), ("pay", {"eur": 9}, None)])
    with open_ledger(db_path) as ledger:
        later = datetime.now(UTC) + timedelta(minutes=61)
        ledger.clock = lambda: later
        assert len(ledger.write(schedule.sweep, ledger.now_ms())) == 2
        result = replay(ledger, Policy([Rule("pay", "allow")]))
    assert result.answered == {"approve": 1, "open": 1}
    assert (result.silent, result.refused, result.unasked, result.at_most) == (2, 0, 0, None)
    assert found(result, "saved") == [{"eur": 1}]


@pytest.mark.both_databases
def test_drafts_are_judged_where_a_rule_names_them(db_path: str) -> None:
    def is_short(call: Call) -> bool:
        return len(call.args["draft"]) < 8

    class State(MessagesState):
        text: str
        delivered: Any
        reviews: Annotated[list[Any], operator.add]

    def write(state: State) -> None:
        return None

    with open_checkpointer(db_path) as checkpointer:
        builder: Any = StateGraph(State)
        rules = Policy([Rule("review", "allow", when=is_short)])
        builder.add_node("write", write)
        builder.add_node("review", OutputReviewNode("text", revise="write", policy=rules))
        builder.add_edge(START, "write")
        builder.add_edge("write", "review")
        graph = builder.compile(checkpointer=checkpointer)
        for number, text in enumerate(("short", "a long one", "another long one")):
            graph.invoke({"text": text}, {"configurable": {"thread_id": f"t{number}"}})
        inbox = Inbox(checkpointer.ledger)
        inbox.decide(inbox.pending(thread_id="t1")[0].id, reject("dull"), reviewer="alice")
        same = replay(checkpointer.ledger, rules)
        shorter = replay(checkpointer.ledger, Policy([Rule("review", "allow")]))
        other = replay(checkpointer.ledger, Policy([Rule("*", "allow")]))
    assert same.table == {("asked", "ask"): 2, ("allowed", "allow"): 1}
    assert found(shorter, "let_through") == [{"draft": "a long one"}]
    assert (other.calls, other.skipped) == (0, {"drafts, since no rule names 'review'": 3})


THRESHOLDS = st.integers(0, 4)
RULES = st.lists(
    st.builds(
        lambda tool, outcome, least, quorum, on: Rule(
            tool, outcome, when=(lambda call: call.args["n"] >= least) if on else None,
            quorum=quorum if outcome == "ask" else None,
        ),
        st.sampled_from(["pay", "p*", "*", "search"]), st.sampled_from(["allow", "ask", "deny"]), THRESHOLDS,
        st.sampled_from([None, 2]), st.booleans(),
    ),
    max_size=5,
)  # fmt: skip


@given(rules=RULES, calls=st.lists(st.tuples(st.sampled_from(["pay", "search", "play"]), THRESHOLDS, st.sampled_from(
    ["approve", "reject", "respond", "open"])), max_size=8))  # fmt: skip
def test_the_same_policy_changes_nothing(rules: list[Rule], calls: list[tuple[str, int, Then]]) -> None:
    policy, result = Policy(rules), Replay(Policy(rules))
    for tool, n, answer in calls:
        verdict = policy.judge(Call(tool, {"n": n}))
        then: Then = {"allow": "ran", "deny": "denied"}.get(verdict.outcome, answer)  # type: ignore[assignment]
        run(result.steps(Recorded(tool, {"n": n}, then, NOW, "t", terms=verdict.terms, decided=verdict.terms)))
    assert set(result.table) <= {("asked", "ask"), ("allowed", "allow"), ("denied", "deny")}
    assert result.calls == len(calls)
    assert not any(changes.count for changes in result.changes.values())


def test_of_many_changes_the_newest_are_kept() -> None:
    result = Replay(Policy([Rule("*", "allow")]), keep=2)
    for day in (3, 1, 5, 4, 2):
        run(result.steps(Recorded("pay", {"n": day}, "reject", NOW + timedelta(days=day), "t")))
    changes = result.changes["let_through"]
    assert (changes.count, [c.recorded.args for c in changes]) == (5, [{"n": 4}, {"n": 5}])


@given(of=st.integers(1, 60), found=st.integers(0, 60))
def test_the_bound_is_the_exact_one(of: int, found: int) -> None:
    if found > of:
        with pytest.raises(ValueError, match="says nothing"):
            at_most(found, of)
    elif found == of:
        assert at_most(found, of) == 1
    else:
        rate = at_most(found, of)
        assert sum(comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(found + 1)) == pytest.approx(0.05)


def test_the_bound_of_a_great_many() -> None:
    assert at_most(0, 1_000_000) == pytest.approx(3e-6, rel=0.01)
    assert at_most(300_000, 1_000_000) == pytest.approx(0.30075, rel=1e-4)


# --- the command -----------------------------------------------------------------------------------------------------

MODULE = """
from hitl_graph.policy import Policy, Rule

small = Policy([Rule("search", "allow"), Rule("pay", "allow", when=lambda call: call.args["eur"] < 10)])
vip = Policy([Rule("pay", "allow", when=lambda call: call.state["vip"])])
number = 5

def make():
    return small
"""


@pytest.fixture
def hitl(db_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    pytest.importorskip("typer")
    from hitl_graph.cli import main

    (tmp_path / "replayed_policies.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "replayed_policies", raising=False)
    history(db_path, THEN, PAST[:-1])

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["policy", "replay", *args, "--db", db_path])
        return code, *capsys.readouterr()

    return call


def test_the_command(hitl: Any) -> None:
    code, out, err = hitl("replayed_policies:small", "--since", "30d")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Since 20")
    assert "it would have asked about 1 instead of 7, allowed 8 instead of 2" in lines[0]
    assert lines[1] == "It would have let through 2 of 3 that people refused."
    [listed] = [line for line in lines if "pay(eur=9)" in line]
    assert re.search(r"alice  pay\(eur=9\) +\"not this month\" +allow: rule 'pay' says allow$", listed)
    assert "pay(eur=5)" not in out
    code, out, err = hitl("replayed_policies:make", "--show", "all", "--fail-on-rejects", "--limit", "1")
    assert code == 1
    assert "People approved these; it would not have asked:" in out
    assert "... and 1 before them; --limit shows more" in out
    assert "would let through 2 that people refused" in err
    code, out, _ = hitl("replayed_policies:small", "--json", "--show", "changes")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert rows[0]["what"] == "summary"
    assert rows[0]["table"]["asked"] == {"ask": 1, "allow": 6, "deny": 0, "untold": 0}
    assert [row["said"] for row in rows if row["what"] == "let_through"] == ["not this month", "ask again in May"]
    code, out, _ = hitl("replayed_policies:vip", "--fail-on-rejects")
    assert code == 0
    assert "rules look at call.state, not on record" in out


def test_the_command_takes_a_file(hitl: Any) -> None:
    Path("policy.toml").write_text(
        '[[rules]]\ntool = "pay"\noutcome = "allow"\nwhen = "args.eur < 10"\nreason = "small"\n'
        '[[rules]]\ntool = "search"\noutcome = "deny"\nwhen = "vip"\n'
    )
    Path("rules.py").write_text("def vip(call):\n    return call.state['vip']\n")
    code, out, _ = hitl("policy.toml", "--python", "rules")
    assert code == 0
    assert "It would have let through 2 of 3 that people refused." in out
    assert "policy.toml:1: small" in out
    assert "rules look at call.state, not on record" in out


def test_the_command_says_what_is_wrong(hitl: Any) -> None:
    for args, code, says in (
        (["replayed_policies:gone"], 2, "its policies are small, vip"),
        (["replayed_policies:number"], 2, "is a int; a Policy is needed"),
        (["nowhere.toml"], 3, "there is no file nowhere.toml"),
        (["replayed_policies:small", "--since", "soon"], 2, "is no age"),
        (["replayed_policies:small", "--thread", "nope"], 3, "nothing was ever asked or run in a thread 'nope'"),
    ):
        got, out, err = hitl(*args)
        assert (got, out) == (code, "")
        assert says in err
