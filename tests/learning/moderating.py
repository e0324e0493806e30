"""A moderation agent in miniature: a model that labels posts, and people who know better."""

import hashlib
import random
from collections.abc import Callable
from typing import Any

from hitl_graph.learning import Unsure
from hitl_graph.learning.routing import Subject, Way, route
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Request, approve, edit, reject
from hitl_graph.policy import Call
from hitl_graph.steps import run

__all__ = ["Feed", "confidence", "fed", "sure_is_right"]


def confidence(call: Call) -> Any:
    return call.args["confidence"]


class Feed:
    """Posts as they come, routed as a node would do it; people answer at once, or when told to.

    Args:
        is_wrong: Whether the model is wrong about a post.
    """

    def __init__(
        self,
        ledger: Ledger,
        unsure: Unsure,
        is_wrong: Callable[[str, float], bool],
        *,
        model: str = "m",
        topic: str = "",
    ) -> None:
        self.ledger, self.unsure, self.is_wrong, self.model, self.topic = ledger, unsure, is_wrong, model, topic
        self.ways: list[Way] = []

    def post(self, name: str, score: Any, *, answer: bool = True, label: str = "ok") -> Way:
        """One post."""
        key = hashlib.sha256(name.encode()).hexdigest()[:32]
        action = Action(name="moderate", args={"post": name, "label": label, "confidence": score})
        subject = Subject(
            key, f"thread-{self.topic}{name}", "moderate", action.args, f"post {name}", self.model, action=action
        )
        way = run(route(self.unsure, self.ledger, subject, Call("moderate", action.args)))
        if way.routed.route == "unsure":
            self.ask(key, action, way)
        self.ways.append(way)
        if answer:
            self.answer(way)
        return way

    def ask(self, key: str, action: Action, way: Way) -> None:
        """Open the question that a node would ask."""
        request = Request(
            id=key[:20], kind="approval", thread_id=way.routed.thread_id, interrupt_id="i", action=action,
            action_key=key, route="unsure", score=way.routed.score, reason=way.why, model_digest=self.model,
        )  # fmt: skip
        now = self.ledger.now_ms()
        self.ledger.write(requests.open_request, now, request, checkpoint_id="c", task_id="t", parked=1)

    def answer(self, way: Way, reviewer: str = "alice") -> None:
        """A person says what they think of it, if anybody was asked."""
        asked = way.routed.request_id or (way.routed.key[:20] if way.routed.route == "unsure" else None)
        if asked is None:
            return
        output: Any = way.routed.output
        wrong = self.is_wrong(output["post"], output["confidence"])
        better = {**output, "label": "hate"}
        decision = approve() if not wrong else edit(better) if hash(asked) % 2 else reject("no")
        self.ledger.decide(asked, decision, reviewer=reviewer, channel="test")


def sure_is_right(post: str, score: float) -> bool:
    """Right from .5 on, else wrong every second time."""
    return score < 0.5 and random.Random(post).random() < 0.5


def fed(ledger: Ledger, when: Unsure, count: int, seed: int = 0, **how: Any) -> Feed:
    feed, rng = Feed(ledger, when, how.pop("is_wrong", sure_is_right), **how), random.Random(seed)
    for number in range(count):
        feed.post(f"{seed}-{number}", round(rng.random(), 3))
    return feed
