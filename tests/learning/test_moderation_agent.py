"""The whole way: an agent that asks everything at first and less in the end, people who disagree, crashes."""

import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from hitl_graph.errors import AlreadyVotedError
from hitl_graph.inbox import Inbox
from hitl_graph.learning import Certificate, DecisionLog, NotEnough
from hitl_graph.ledger import Ledger, requests, routing
from hitl_graph.model import approve, respond
from hitl_graph.storage import Transaction
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import AnyGraph, config_of, ran
from tests.invariants.processes import Report, child
from tests.learning.moderation import PEOPLE, UNSURE, answered, build, opinion, posted, proposed, resumed, truth

pytestmark = pytest.mark.both_databases


def answer_all(ledger: Ledger, rng: random.Random, share: float = 1.0) -> None:
    """People look at a share of what waits, in any order."""
    waiting = [one for one in Inbox(ledger).pending(limit=1000) if one.kind != "question"]
    rng.shuffle(waiting)
    for request in waiting[: round(share * len(waiting))]:
        for reviewer in rng.sample(PEOPLE, len(PEOPLE)):
            if ledger.read(_waits, request.id):
                with suppress(AlreadyVotedError):  # before a crash
                    answered(ledger, request, reviewer)


def _waits(tx: Transaction, request_id: str) -> bool:
    found = requests.get(tx, request_id)
    return found is not None and found.state == "pending"


def work(graph: AnyGraph, ledger: Ledger, posts: list[str], rng: random.Random, share: float = 1.0) -> None:
    for number, post in enumerate(posts):
        posted(graph, post)
        if number % 20 == 19:
            answer_all(ledger, rng, share)
            resumed(graph, ledger)
    answer_all(ledger, rng)
    resumed(graph, ledger)


def test_it_asks_less_and_keeps_its_promise(db_path: str, tmp_path: Path) -> None:
    effects, rng = str(tmp_path / "effects"), random.Random(1)
    with open_checkpointer(db_path) as checkpointer:
        ledger, log = checkpointer.ledger, DecisionLog(checkpointer.ledger, checkpointer=checkpointer)
        graph = build(checkpointer, effects)
        first, later = ([f"{part}-{number}" for number in range(180)] for part in ("first", "later"))
        work(graph, ledger, first, rng, share=0.5)
        assert {row.routed.route for row in ledger.read(routing.labels, "1 = 1")} == {"unsure"}
        certificate = log.calibrate(UNSURE)
        assert isinstance(certificate, Certificate)
        work(graph, ledger, later, rng, share=0.5)

        done = dict(line.split() for line in ran(effects))
        assert Counter(line.split()[0] for line in ran(effects)) == Counter([*first, *later])  # each once (I5)
        rows = {row.routed.thread_id: row for row in ledger.read(routing.labels, "1 = 1")}
        automatic = [post for post in later if rows[post].routed.route != "unsure"]
        assert len(automatic) > 30
        for post in automatic:
            assert done[post] == proposed(post)["label"]
            assert proposed(post)["confidence"] >= certificate.threshold
        assert sum(done[post] != truth(post) for post in automatic) <= 0.1 * len(automatic)
        for post in (post for post in later if post not in automatic):
            request = rows[post].request
            assert request is not None
            assert done[post] == opinion(str(request.reviewer).split(",")[0].strip(), post)
        assert {one.state for post in later for one in ledger.history(post)} == {"delivered"}
        assert {row["state"] for post in later for row in ledger.executed(post)} == {"done"}
        assert Inbox(ledger).pending() == []
        assert ledger.verify_audit().ok
        audits = [row for row in rows.values() if row.routed.route == "audit"]
        assert audits
        assert all(row.is_answered for row in audits)
        example = next(one for one in log.examples() if one.route == "unsure")
        assert example.input == [{"role": "user", "content": example.thread_id}]

        worse = build(checkpointer, effects, model="two")  # another model is asked about again
        posted(worse, "worse")
        [request] = Inbox(ledger).pending()
        assert "the model is another one" in request.reason


def test_an_audit_disturbs_no_thread(db_path: str, tmp_path: Path) -> None:
    effects = str(tmp_path / "effects")
    with open_checkpointer(db_path) as checkpointer:
        ledger, log = checkpointer.ledger, DecisionLog(checkpointer.ledger)
        graph, always = build(checkpointer, effects), replace(UNSURE, audit_rate=1.0, double_rate=0.0)
        work(graph, ledger, [f"p-{number}" for number in range(120)], random.Random(2))
        assert isinstance(log.calibrate(UNSURE), Certificate)
        audited = build(checkpointer, effects, unsure=always)
        sure = [post for post in (f"s-{number}" for number in range(40)) if proposed(post)["confidence"] > 0.9]
        posted(audited, sure[0])
        assert audited.get_state(config_of(sure[0])).next == ()
        [audit] = Inbox(ledger).pending()
        assert (audit.kind, audit.route, audit.answer_shape) == ("review", "audit", "audit")
        assert "nothing waits for your answer" in audit.reason
        # The thread goes on; the audit waits on.
        audited.invoke({"messages": [HumanMessage(sure[1])]}, config_of(sure[0]), durability="sync")
        assert len(Inbox(ledger).pending()) == 2
        Inbox(ledger).decide(audit.id, approve(), reviewer="alice", digest=audit.digest)
        assert Worker(audited, ledger).run_once() == []
        assert len(ran(effects)) == 122
        [done, _] = [one for one in ledger.history(sure[0]) if one.route == "audit"]
        assert (done.state, done.reviewer) == ("delivered", "alice")
        checkpointer.delete_thread(sure[0])
        assert len(Inbox(ledger).pending()) == 1  # what was decided is to be judged all the same
        ledger.redact(sure[0], actor="alice", reason="asked to")
        assert Inbox(ledger).pending() == []
        assert ledger.verify_audit().ok


def test_nobody_answers_the_same_twice(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as checkpointer:
        graph = build(checkpointer, str(tmp_path / "effects"), unsure=replace(UNSURE, double_rate=1.0))
        posted(graph, "post")
        [request] = Inbox(checkpointer.ledger).pending()
        answered(checkpointer.ledger, request, "alice")
        with pytest.raises(AlreadyVotedError):
            answered(checkpointer.ledger, request, "alice")
        assert Worker(graph, checkpointer.ledger).run_once() == []


# --- crashes ---------------------------------------------------------------------------------------------------------


def live(report: Report, path: str, effects: str, begin: int) -> None:
    """Posts and people without end."""
    with open_checkpointer(path) as checkpointer:
        graph, rng = build(checkpointer, effects), random.Random(begin)
        report("ready")
        for number in range(begin, begin + 10_000):
            posted(graph, f"post-{number}")
            answer_all(checkpointer.ledger, rng, share=0.8)
            resumed(graph, checkpointer.ledger)
            report("done", number)


def test_routes_repeat_after_a_crash_and_nothing_happens_twice(db_path: str, tmp_path: Path) -> None:
    effects, seen = str(tmp_path / "effects"), dict[str, routing.Routed]()
    with open_checkpointer(db_path) as checkpointer:
        work(build(checkpointer, effects), checkpointer.ledger, [f"p-{n}" for n in range(120)], random.Random(3))
        assert isinstance(DecisionLog(checkpointer.ledger).calibrate(UNSURE), Certificate)
    rng = random.Random(4)
    for life in range(4):
        with child(live, db_path, effects, 1000 * life) as running:
            running.hear("ready")
            for _ in range(3):
                running.hear("done")
            time.sleep(rng.random() * 0.3)
            running.kill()
        with open_ledger(db_path) as ledger:
            rows = {row.routed.key: row.routed for row in ledger.read(routing.labels, "1 = 1")}
            assert {key: rows[key] for key in seen} == seen
            seen = rows
    with open_checkpointer(db_path) as checkpointer:
        graph, ledger = build(checkpointer, effects), checkpointer.ledger
        for _ in range(4):  # who was cut off is gone on with; where it is not known whether it happened, people say
            Worker(graph, ledger).run_once()
            for request in Inbox(ledger).pending(limit=1000):
                if request.kind == "question":
                    happened = any(line.startswith(f"{request.thread_id} ") for line in ran(effects))
                    Inbox(ledger).decide(request.id, respond("it did") if happened else approve(), reviewer="alice")
            answer_all(ledger, rng)
        after = {row.routed.key: row.routed for row in ledger.read(routing.labels, "1 = 1")}
        assert {key: after[key] for key in seen} == seen
        assert max(Counter(line.split()[0] for line in ran(effects)).values()) == 1
        assert ledger.verify_audit().ok
        for row in ledger.read(routing.labels, "route <> 'unsure'", limit=10_000):
            assert row.routed.score is not None
            assert row.routed.certificate is not None


def test_two_certificates_are_not_mixed(db_path: str, tmp_path: Path) -> None:
    with open_checkpointer(db_path) as checkpointer:
        ledger, log = checkpointer.ledger, DecisionLog(checkpointer.ledger)
        for model in ("one", "two"):
            graph = build(checkpointer, str(tmp_path / model), model=model)
            work(graph, ledger, [f"{model}-{number}" for number in range(120)], random.Random(5))
            found = log.calibrate(UNSURE)
            assert isinstance(found, Certificate if model == "one" else NotEnough)
