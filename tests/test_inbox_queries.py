"""What a page of the inbox needs from the ledger: who saw what, what has happened, what waits; on both databases."""

import subprocess
import sys
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitl_graph.errors import UnknownRequestError
from hitl_graph.handling import Handling
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, requests, words
from hitl_graph.model import Action, Request, approve, reject, request_id
from hitl_graph.reviewers import Reviewer, StaticDirectory, selects
from hitl_graph.storage import Transaction
from hitl_graph.terms import Stage, Terms
from hitl_graph.testing import FakeClock
from tests.databases import open_ledger

pytestmark = pytest.mark.both_databases

PEOPLE = StaticDirectory([Reviewer("alice", ["finance"]), Reviewer("bob", ["legal"]), Reviewer("carol")])


class Desk:
    """A ledger into which requests can be put, a second apart."""

    def __init__(self, path: str) -> None:
        self.path, self.clock, self.asked = path, FakeClock(), 0
        self.ledger: Ledger = open_ledger(path)
        self.ledger.clock, self.ledger.directory = self.clock, PEOPLE
        self.inbox = Inbox(self.ledger)

    def ask(self, tool: str | None = "pay", thread: str = "t", *, parked: int = 1, **fields: Any) -> Request:
        self.asked += 1
        self.clock.advance(timedelta(seconds=1))
        interrupt = f"{self.asked:032x}"
        args = fields.pop("args", {"eur": self.asked})
        reviewers = fields.pop("reviewers", ())
        request = Request(
            id=request_id(thread, interrupt), thread_id=thread, interrupt_id=interrupt,
            kind=fields.pop("kind", "approval"), action=Action(name=tool, args=args) if tool else None,
            terms=Terms(stages=(Stage(reviewers=tuple(reviewers)),)) if reviewers else None, **fields,
        )  # fmt: skip
        self.ledger.write(
            requests.open_request, self.ledger.now_ms(), request, checkpoint_id="c", task_id="k", parked=parked
        )
        return request

    def log(self) -> list[tuple[str, str]]:
        return self.ledger.read(lambda tx: tx.execute("SELECT event, actor FROM hitl_audit ORDER BY seq").fetchall())


@pytest.fixture
def desk(db_path: str) -> Generator[Desk]:
    made = Desk(db_path)
    with made.ledger:
        yield made


SEE = """
import sys
from hitl_graph.inbox import Inbox
from tests.databases import open_ledger

with open_ledger(sys.argv[1]) as ledger:
    inbox = Inbox(ledger)
    for request in inbox.pending():
        inbox.seen(request, reviewer="alice", channel="web")
"""


def test_who_saw_a_request_is_noted_once_a_person_and_channel(desk: Desk) -> None:
    request = desk.ask()
    for _ in range(3):
        for who, channel in (("alice", "web"), ("ALICE", "web"), ("alice", "mcp"), ("bob", "web")):
            desk.inbox.seen(request, reviewer=who, channel=channel)
    desk.inbox.seen(request, reviewer="anonymous", channel="web")
    assert [(seen.reviewer, seen.channel, seen.digest) for seen in desk.inbox.viewers(request.id)] == [
        ("alice", "web", request.digest), ("alice", "mcp", request.digest), ("bob", "web", request.digest)
    ]  # fmt: skip
    assert desk.log().count(("request.seen", "alice")) == 2
    assert desk.ledger.verify_audit().ok


def test_two_processes_note_one_look(desk: Desk) -> None:
    asked = [desk.ask() for _ in range(20)]
    other = subprocess.Popen([sys.executable, "-c", SEE, desk.path], cwd=Path(__file__).parents[1])
    while other.poll() is None:
        for request in asked:
            desk.inbox.seen(request, reviewer="alice", channel="web")
    assert other.returncode == 0
    assert desk.log().count(("request.seen", "alice")) == len(asked)


def test_a_look_at_what_was_tampered_with_does_not_make_it_true(desk: Desk) -> None:
    request = desk.ask()
    desk.ledger.database.write(lambda tx: tx.execute("UPDATE hitl_requests SET tool = 'harmless'"))
    desk.inbox.seen(desk.inbox.get(request.id), reviewer="alice", channel="web")
    assert not desk.ledger.verify_audit().ok


def test_a_look_is_redacted_with_its_thread_and_is_not_noted_of_what_does_not_exist(desk: Desk) -> None:
    request = desk.ask()
    desk.inbox.seen(request, reviewer="alice", channel="web")
    desk.ledger.redact("t", actor="dpo", reason="asked for")
    desk.inbox.seen(desk.inbox.get(request.id), reviewer="alice", channel="web")
    [viewer] = desk.inbox.viewers(request.id)
    assert (viewer.reviewer, viewer.channel, viewer.digest) == ("alice", None, None)
    assert desk.ledger.verify_audit().ok
    with pytest.raises(UnknownRequestError):
        desk.inbox.seen(request.model_copy(update={"id": "0" * 20}), reviewer="alice", channel="web")


def test_events_tell_all_that_becomes_of_requests_and_in_order(desk: Desk) -> None:
    before = desk.inbox.last_event()
    request = desk.ask(reviewers=["role:finance"])
    desk.inbox.claim(request.id, reviewer="alice")
    desk.inbox.seen(request, reviewer="alice", channel="web")
    desk.inbox.hand_back(request.id, reviewer="alice")
    desk.inbox.delegate(request.id, "carol", reviewer="alice")
    desk.inbox.switch("tool:pay", "ask", reviewer="alice", reason="audit")
    desk.inbox.decide(request.id, approve(), reviewer="carol")
    found = desk.inbox.events(before)
    assert [event.name for event in found] == [
        "request.opened", "request.claimed", "request.handed_back", "request.delegated", "request.decided"
    ]  # fmt: skip
    assert [event.actor for event in found] == ["graph", "alice", "alice", "alice", "carol"]
    assert {event.request_id for event in found} == {request.id}
    assert desk.inbox.events(before, limit=2) == found[:2]
    assert desk.inbox.events(found[1].seq) == found[2:]
    assert desk.inbox.events(desk.inbox.last_event()) == []
    assert desk.inbox.events() == found


def test_a_search_finds_words_wherever_a_person_would_see_them(desk: Desk) -> None:
    mail = desk.ask("send_email", "thread-7", args={"to": "bob@corp.example", "subject": "Grüße aus KÖLN", "n": 1250.5})
    plain = desk.ask(None, "other", kind="question", question={"why": "Which region?"}, reason="rule 12 says ask")
    draft = desk.ask(None, "third", kind="review", draft="日本語の報告")
    for text, found in {
        "bob": [mail], "BOB corp": [mail], "bob region": [], "grusse koln": [mail], "send_em": [mail], "gru": [mail],
        "russe": [], "1250": [mail], "thread-7": [mail], "region rule": [plain], "報告": [draft], "subject": [],
        mail.id[:7]: [mail], draft.id: [draft], "§kapproval": [], '"': [], "' OR 1=1 --": [], "*": [], "": [
            mail, plain, draft
        ], "   ": [mail, plain, draft],
    }.items():  # fmt: skip
        assert [request.id for request in desk.inbox.pending(search=text)] == [r.id for r in found], text
        assert desk.inbox.count(search=text) == len(found)


def test_only_what_waits_is_found(desk: Desk) -> None:
    decided, unparked, cancelled = desk.ask(args={"to": "ann"}), desk.ask(args={"to": "ann"}, parked=0), desk.ask()
    found = desk.inbox.pending(search="ann")
    assert [request.id for request in found] == [decided.id]
    desk.ledger.write(requests.park, desk.ledger.now_ms(), "t", unparked.id, "k", 1)
    assert [request.id for request in desk.inbox.pending(search="ann")] == [decided.id, unparked.id]
    desk.inbox.decide(decided.id, approve(), reviewer="alice")
    assert [request.id for request in desk.inbox.pending(search="ann")] == [unparked.id]
    desk.ledger.write(requests.reopen, desk.ledger.now_ms(), desk.inbox.get(decided.id), "not now")
    assert [request.id for request in desk.inbox.pending(search="ann")] == [decided.id, unparked.id]
    desk.ledger.write(requests.close, desk.ledger.now_ms(), desk.inbox.get(cancelled.id), "cancelled", "gone")
    assert desk.inbox.pending(search=cancelled.id) == []
    assert left_in_the_index(desk) == 2


def left_in_the_index(desk: Desk) -> int:
    return int(desk.ledger.read(lambda tx: tx.execute("SELECT count(*) FROM hitl_words").fetchone()[0]))


def test_words_that_most_requests_have_are_found_in_the_same_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [desk.ask("mail" if n % 3 else "pay", args={"to": "ann"}) for n in range(12)]
    rare = desk.inbox.pending(search="ann ma", newest_first=True)
    monkeypatch.setattr(words, "_COMMON", 2)
    assert desk.inbox.pending(search="ann ma", newest_first=True) == rare
    assert [r.id for r in rare] == [r.id for n, r in enumerate(asked) if n % 3][::-1]


def test_redaction_takes_the_words_out_of_the_index_and_a_vacuum_out_of_the_file(desk: Desk, engine: str) -> None:
    for _ in range(3):
        desk.ask(thread="kept", args={"note": "ordinary"})
        desk.ask(thread="secret", args={"note": "xyzzyplugh"})
    assert desk.inbox.count(search="xyzzyplugh") == 3
    desk.ledger.redact("secret", actor="dpo", reason="asked for")
    assert desk.inbox.count(search="xyzzyplugh") == desk.inbox.count(search="redacted") == 0
    assert left_in_the_index(desk) == 3
    assert desk.inbox.count(search="ordinary") == 3
    assert desk.ledger.verify_audit().ok
    desk.ledger.database.vacuum()
    if engine == "sqlite":
        desk.ledger.close()
        assert b"xyzzyplugh" not in Path(desk.path).read_bytes()


def test_the_index_is_in_the_order_of_the_list_also_for_what_was_asked_in_one_millisecond(desk: Desk) -> None:
    same = [f"{'abcde'}{number:015x}" for number in range(6)]
    for own in same:
        request = Request(id=own, kind="approval", thread_id="t", interrupt_id=own, action=Action(name="p", args={}))
        desk.ledger.write(requests.open_request, 5, request, checkpoint_id="c", task_id="k", parked=1)
    found, after = list[str](), None
    while page := desk.inbox.pending(search="p", limit=1, after=after):
        found.append(after := page[0].id)
    assert found == same


def test_facets_name_all_there_is_to_filter_by(desk: Desk) -> None:
    for tool, risk in (("pay", "high"), ("pay", None), ("mail", "low")):
        desk.ask(tool, risk=risk)
    desk.ask(None, kind="question", question="?", reviewers=["role:finance"])
    desk.inbox.decide(desk.ask("gone").id, approve(), reviewer="alice")
    found = desk.inbox.facets()
    assert found.kinds == {"approval": 3, "question": 1}
    assert found.tools == {"mail": 1, "pay": 2}
    assert found.risks == {"high": 1, "low": 1}
    assert desk.inbox.facets(reviewer="bob").kinds == {"approval": 3}
    assert desk.inbox.facets(reviewer="alice").kinds == {"approval": 3, "question": 1}


def test_whose_a_request_is(desk: Desk) -> None:
    ruled, claimed, given, free = (desk.ask(reviewers=["role:finance"]), desk.ask(), desk.ask(reviewers=["bob"]),
                                   desk.ask())  # fmt: skip
    desk.inbox.claim(claimed.id, reviewer="alice", lease=timedelta(minutes=5))
    desk.inbox.delegate(given.id, "carol", reviewer="bob")

    def ids(**wanted: Any) -> list[str]:
        return [request.id for request in desk.inbox.pending(**wanted)]

    assert ids(assignee="alice") == [claimed.id]
    assert ids(assignee="role:finance") == [ruled.id]
    assert ids(assignee="Carol") == ids(assignee="bob") == [given.id]
    assert ids(assignee="nobody") == []
    assert ids(assignee="alice", reviewer="alice", search="pay", tool="pay") == [claimed.id]
    assert ids(reviewer="carol") == [given.id, free.id]
    assert desk.inbox.count(assignee="alice") == 1
    desk.clock.advance(timedelta(minutes=6))
    assert ids(assignee="alice") == []


TOOLS: st.SearchStrategy[Any] = st.sampled_from(["pay", "send_mail", None])
RISKS: st.SearchStrategy[Any] = st.sampled_from(["low", "medium", "high", None])
WORDS = st.sampled_from(["anna", "annabel", "Bob", "zürich", "7"])
REVIEWERS = st.sampled_from([(), ("role:finance",), ("bob",), ("role:legal", "alice")])
ROW = st.fixed_dictionaries(
    {
        "tool": TOOLS, "risk": RISKS, "reviewers": REVIEWERS, "thread": st.sampled_from(["t", "u"]),
        "args": st.fixed_dictionaries({"to": WORDS}), "parked": st.sampled_from([1, 1, 1, 0]), "reason": WORDS,
    }
)  # fmt: skip
WANTED = st.fixed_dictionaries(
    {},
    optional={
        "tool": TOOLS, "risk": RISKS, "thread_id": st.sampled_from(["t", "u"]), "kind": st.just("approval"),
        "search": st.sampled_from(["ann", "anna bob", "zurich", "pay", "send mail", "7", "t", "none"]),
        "since": st.integers(0, 12), "before": st.integers(0, 12),
        "assignee": st.sampled_from(["alice", "bob", "role:finance"]),
        "reviewer": st.sampled_from(["alice", "bob", "carol", "anonymous"]),
    },
)  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, max_size=12), looks=st.lists(WANTED, min_size=1, max_size=5), size=st.integers(1, 4),
    newest_first=st.booleans(), ends=st.sets(st.integers(0, 11), max_size=4), claims=st.sets(st.integers(0, 11)),
)  # fmt: skip
def test_pages_are_what_a_look_at_each_row_gives(
    desk: Desk, rows: list[Any], looks: list[Any], size: int, newest_first: bool, ends: set[int], claims: set[int]
) -> None:
    for request in desk.ledger.history("t") + desk.ledger.history("u"):  # of the example before
        desk.ledger.write(requests.close, desk.ledger.now_ms(), request, "cancelled", "")
    start = desk.clock()
    asked = [desk.ask(**{**row}) for row in rows]
    for number, request in enumerate(asked):
        if rows[number]["parked"] and number in ends:
            desk.inbox.decide(request.id, reject(), reviewer=Reviewer("bob", ["finance", "legal"]))
        elif rows[number]["parked"] and number in claims and not rows[number]["reviewers"]:
            desk.inbox.claim(request.id, reviewer="alice")
    waiting = desk.ledger.pending_rows()
    assert {r.id for r in waiting} == {r.id for n, r in enumerate(asked) if rows[n]["parked"] and n not in ends}
    for look in looks:
        wanted: dict[str, Any] = {
            name: start + timedelta(seconds=value) if name in ("since", "before") else value
            for name, value in look.items()
        }
        expected = [request for request in waiting if fits(desk, request, wanted)]
        if newest_first:
            expected.reverse()
        found, after = list[Request](), None
        while page := desk.inbox.pending(**wanted, limit=size, after=after, newest_first=newest_first):
            assert len(page) <= size
            found += page
            after = page[-1].id
        assert found == expected
        assert desk.inbox.count(**wanted) == len(expected)


def fits(desk: Desk, request: Request, wanted: dict[str, Any]) -> bool:
    there, handling = words.in_request(request), request.handling or Handling()
    asked = request.terms.stages[0].reviewers if request.terms else ()
    at, who = request.created_at, wanted.get("reviewer")
    assert at is not None
    person = who and (PEOPLE(who) or Reviewer(who))
    claimants = [claim.reviewer for claim in handling.claims]
    return (
        wanted.get("tool") in (None, request.action and request.action.name)
        and wanted.get("risk") in (None, request.risk)
        and wanted.get("thread_id") in (None, request.thread_id)
        and wanted.get("since", at) <= at < wanted.get("before", at + timedelta(1))
        and all(any(w.startswith(word) for w in there) for word in words.of(wanted.get("search", "")))
        and ("assignee" not in wanted or wanted["assignee"] in (*claimants, *asked))
        and (not person or not asked or any(selects(selector, person) for selector in asked))
        and (not claimants or who in (None, *claimants))
    )


UNDONE = [
    "DROP INDEX hitl_requests_open", "DROP INDEX hitl_requests_sorts", "DROP INDEX hitl_requests_handled",
    "DROP INDEX hitl_audit_requests", "DROP INDEX hitl_audit_seen", "DROP TABLE hitl_words",
    "DROP TABLE hitl_words_due", "ALTER TABLE hitl_requests DROP COLUMN risk",
    "DROP INDEX hitl_requests_precedents", "DROP TABLE hitl_routed", "DROP TABLE hitl_certificates",
    "DROP TABLE hitl_learned",
]  # fmt: skip
BEFORE = {
    "sqlite": ["CREATE INDEX requests_open ON hitl_requests (created_ms, id)", "PRAGMA user_version = 5"],
    "postgres": ["CREATE INDEX hitl_requests_open ON hitl_requests (created_ms, id)",
                 "DELETE FROM hitl_migrations WHERE version >= 4"],
}  # fmt: skip


def test_what_was_asked_before_there_was_a_search_is_found(desk: Desk, engine: str) -> None:
    old, decided = desk.ask(args={"to": "anna"}), desk.ask(args={"to": "anna"})
    unparked = desk.ask(args={"to": "anna"}, parked=0)
    desk.inbox.decide(decided.id, approve(), reviewer="alice")

    def undo(tx: Transaction) -> None:
        for statement in (*UNDONE, *BEFORE[engine]):
            tx.execute(statement)

    desk.ledger.database.write(undo)
    desk.ledger.close()
    now = Desk(desk.path)
    with now.ledger:
        now.clock.advance(timedelta(hours=1))
        new = now.ask("mail", "u", args={"to": "annabel"}, risk="high")
        assert [request.id for request in now.inbox.pending(search="anna")] == [old.id, new.id]
        now.ledger.write(requests.park, now.ledger.now_ms(), "t", unparked.id, "k", 1)
        now.ledger.write(requests.reopen, now.ledger.now_ms(), now.inbox.get(decided.id), "again")
        assert {r.id for r in now.inbox.pending(search="anna")} == {old.id, new.id, decided.id, unparked.id}
        assert now.inbox.count(search="anna") == 4
        assert now.inbox.pending(risk="high") == now.inbox.pending(tool="mail") == [now.inbox.get(new.id)]
        assert now.ledger.verify_audit().ok
