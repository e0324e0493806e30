"""I8, in every way: every transition is one row of the log, and a change of it is found."""

from collections import Counter

from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.storage import Transaction
from tests.invariants.agents import pay_call, search_call
from tests.ways.places import WayScene


def test_every_transition_is_one_row_and_a_changed_row_is_found(scene: WayScene) -> None:
    graph = scene.agent()
    asked = scene.start(graph, [search_call("x"), *(pay_call(eur) for eur in (1, 2, 3, 4))])
    words = [approve(), reject("no"), edit({"eur": 9, "to": "eve"}), respond("later")]
    for request, decision in zip(asked, words, strict=True):
        scene.decide(request, decision)
    assert [result.status for result in scene.work(graph)] == ["finished"]

    def events(tx: Transaction) -> list[str]:
        return [row[0] for row in tx.execute("SELECT event FROM hitl_audit ORDER BY seq").fetchall()]

    told = Counter(scene.ledger.read(events))
    assert told.pop("request.parked", 0) <= 4
    assert told == {
        "request.opened": 4, "request.decided": 4, "request.delivered": 4, "effect.reserved": 3, "effect.done": 3,
    }  # fmt: skip
    assert scene.ledger.verify_audit().ok
    changed = asked[1]

    def forge(tx: Transaction) -> None:
        tx.execute("UPDATE hitl_requests SET reviewer = 'mallory' WHERE id = ?", (changed.id,))

    def restore(tx: Transaction) -> None:
        tx.execute("UPDATE hitl_requests SET reviewer = 'alice' WHERE id = ?", (changed.id,))

    scene.ledger.write(forge)
    assert not scene.ledger.verify_audit().ok
    scene.ledger.write(restore)
