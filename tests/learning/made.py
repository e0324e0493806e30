"""Examples that tests make: one of each kind of decision, of calls and of drafts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hitl_graph.learning.examples import Example
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.voting import Vote

__all__ = ["ASKED", "AT", "CALL", "DECISIONS", "call", "draft", "every_kind"]

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ASKED = [{"role": "system", "content": "You pay bills."}, {"role": "user", "content": "Pay Bob 5 euros"}]
CALL = {"eur": 5, "to": "bob"}
DECISIONS = {
    "approve": approve(),
    "edit": edit({"eur": 4, "to": "bob"}, "he gave one back"),
    "reject": reject("not him"),
    "respond": respond("ask him first"),
}


def call(id: str, word: str | None = "approve", **fields: Any) -> Example:
    """A call of `pay` that alice decided."""
    decision = DECISIONS[word] if word else None
    known: dict[str, Any] = {"tool": "pay", "input": ASKED, "output": CALL, "decision": decision, "at": AT}
    if decision:
        vote = Vote("alice", decision, "web", AT + timedelta(seconds=9))
        known |= {"state": "delivered", "reviewer": "alice", "by_people": True, "seconds": 9.0, "votes": (vote,)}
        known["reference"] = "one reviewer"
    return Example(**{"id": id, "thread_id": "t", "kind": "approval", **known, **fields})


def draft(id: str, word: str | None = "approve", **fields: Any) -> Example:
    """A draft that alice reviewed."""
    made = edit("Dear Bob, thank you.") if word == "edit" else DECISIONS[word] if word else None
    return call(id, word, **{"kind": "review", "tool": None, "output": "Hey Bob", "decision": made, **fields})


def every_kind() -> list[Example]:
    """One of each: what is trained with, what is measured with, and what is good for nothing."""
    return [
        call("a1"),
        call("e1", "edit", score=0.5, model="m1"),
        call("r1", "reject"),
        call("s1", "respond"),
        draft("a2", output={"to": "bob", "text": "Hallo, größte Freude\u2028"}, input="Write to Bob"),
        draft("e2", "edit"),
        draft("s2", "respond", better="Dear Bob,"),
        call("a3", split="audit", route="audit", propensity=0.05, score=0.99, kind="review"),
        call("n1", input=None),
        call("x1", by_people=False, reviewer="deadline"),
        call("o1", None, route="auto", score=0.97),
        call("p1", None, state="pending"),
        call("c1", None, state="superseded"),
        call("z1", output=None, input=None, decision=None, by_people=True, state="delivered"),
    ]
