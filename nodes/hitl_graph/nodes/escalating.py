"""Whether people are asked "what now?", and with which question: apart from where the graph goes on.

What was answered is read from the ledger each time, so that every process comes to the same; the watches kept in this
process only save the reading of old messages.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from hitl_graph.errors import EscalationError, InvalidDecisionError
from hitl_graph.facts import Memory, Situation, as_text, facts_of
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import WORDS, Decision, Request, Word
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.patching import Patchable
from hitl_graph.nodes.scene import Scene, began
from hitl_graph.nodes.terms import on_terms, origin_of, verdict_of
from hitl_graph.nodes.watching import Watches
from hitl_graph.policy import Rule
from hitl_graph.steps import Steps, blocking
from hitl_graph.stuck import Alarm, Detector, Patience, Spent, Watch
from hitl_graph.terms import Origin
from hitl_graph.wire import Client, ClientName, client_of

__all__ = ["CARRY_ON", "Answered", "Escalation"]

CARRY_ON = "carry on as it is; patience is restored"
"""What `approve` does where nothing failed."""

_ANSWERED = (
    "thread_id = ? AND kind = 'escalation' AND state IN ('pending', 'decided', 'delivered') ORDER BY created_ms, id"
)


@dataclass(frozen=True)
class Answered:
    """What people want. `patch` is what an edit changes, with the state's own types."""

    request: Request
    decision: Decision
    patch: dict[str, Any]


class Escalation:
    """What to look for, and how to ask. The options are those of `EscalationNode`.

    Args:
        owner: Who asks, for errors.
        closed: Keys of the state that no edit may change, whatever `editable` says.

    Raises:
        EscalationError: An option makes no sense.
        WatchError: A wrong `patience` or detector.
    """

    def __init__(
        self,
        *,
        owner: str,
        patience: Patience | float,
        detectors: Iterable[Detector] | None,
        allowed: Sequence[Word],
        editable: Sequence[str] | None,
        spent: Callable[[Any], Spent] | None,
        ledger: Ledger | None,
        messages_key: str,
        rule: Rule | None,
        client: ClientName | Client,
        graph: str | None,
        version: str | None,
        closed: Sequence[str] = (),
    ) -> None:
        if isinstance(allowed, str) or not allowed or set(allowed) - set(WORDS):
            raise EscalationError(f"allowed= takes some of {', '.join(WORDS)}, not {allowed!r:.80}")
        if isinstance(editable, str):
            raise EscalationError("editable= takes keys of the state, as a list")
        self.owner, self.ledger, self.messages_key, self.spent = owner, ledger, messages_key, spent
        self.verdict = verdict_of(rule, "people are asked", EscalationError)
        self.graph, self.version, self.client, self.closed = graph, version, client_of(client), tuple(closed)
        self.allowed: tuple[Word, ...] = tuple(word for word in WORDS if word in allowed)
        self.editable = None if editable is None else tuple(editable)
        kept = None if detectors is None else tuple(detectors)
        self._watches = Watches(lambda memory: Watch(patience, detectors=kept, memory=memory))
        self._watches.make(())  # refuses wrong options now

    def asker(self, config: RunnableConfig) -> Asker:
        """What it asks with."""
        return Asker.of(config, self.ledger, self.owner, self.client)

    def steps(
        self,
        scene: Scene,
        *,
        again: str,
        runs_calls: bool = False,
        heed: Callable[[Alarm], bool] = lambda alarm: True,
    ) -> Steps[Answered | None]:
        """Look, and ask if there is something to ask about; None: all is well.

        Args:
            again: What `approve` does, for the reviewer.
            runs_calls: The calls that are open are going to run after it, so that no message may come between.
            heed: Which alarms to ask about.
        """
        asker = scene.asker
        asked: list[Request] = yield blocking(asker.ledger.read, requests.select, _ANSWERED, (asker.thread_id,))
        own = asker.own()
        situation: Situation | None = None
        if all(request.id != own for request in asked):  # what this task asked once is asked to its end
            alarm, memory = self._watched(scene, asked, heed)
            if alarm is None:
                return None
            since = yield from began(scene.asker, scene.namespace, self.messages_key, alarm.since)
            situation = scene.situation(alarm, memory, since, self._spent(scene))
        patchable = Patchable.of(asker.config, self.editable if "edit" in self.allowed else ())
        for name in (*self.closed, *([self.messages_key] if runs_calls else [])):
            patchable = patchable.without(name)

        def describe(request_id: str, interrupt_id: str) -> Request:
            assert situation is not None
            return self._request(request_id, interrupt_id, scene, situation, patchable, again, runs_calls)

        def check(request: Request, decision: Decision) -> None:
            try:
                patchable.update(decision.args or {})
            except ValueError as exc:
                raise InvalidDecisionError(request.id, f"the edit does not fit: {exc}") from exc

        def origin() -> Origin | None:
            return origin_of(asker, graph=self.graph, version=self.version)

        question = on_terms(describe, asker, self.verdict, origin)
        request, decision = yield blocking(asker.ask, 0, question, check)
        yield blocking(asker.delivered, request.id)
        return Answered(request, decision, patchable.update(decision.args or {}))

    def _watched(
        self, scene: Scene, asked: list[Request], heed: Callable[[Alarm], bool]
    ) -> tuple[Alarm | None, Memory | None]:
        memory = [
            facts.memory.answer
            for facts in (facts_of(request) for request in asked if request.state != "pending")
            if isinstance(facts, Situation) and facts.memory is not None and facts.memory.graph == scene.graph
        ]  # of a redacted request nothing is left, and what it answered may be asked again
        key = (scene.asker.thread_id, scene.graph, json.dumps(memory))
        watch = self._watches.take(key, memory)
        alarm = watch.see(scene.messages, now=self._spent(scene))
        if scene.error is not None:  # asked about each time, however often the same was answered
            failed = cast(Alarm, Watch(detectors=()).see(scene.messages, error=scene.error))
            update = {"evidence": (*failed.evidence, *(alarm.evidence if alarm else ()))}
            alarm = (alarm or failed).model_copy(update=update)
        if alarm is None or not heed(alarm):
            self._watches.keep(key, watch)
            return None, None
        answer = watch.answered(alarm).model_dump(mode="json")  # once somebody has answered; this watch is not kept
        return alarm, Memory(graph=scene.graph, answer=answer)

    def _spent(self, scene: Scene) -> Spent | None:
        return self.spent(scene.input) if self.spent is not None and not scene.sent else None

    def _request(
        self,
        request_id: str,
        interrupt_id: str,
        scene: Scene,
        situation: Situation,
        patchable: Patchable,
        again: str,
        runs_calls: bool,
    ) -> Request:
        allowed: list[Word] = [word for word in self.allowed if word != "edit" or patchable.types]
        if runs_calls:
            allowed = [word for word in allowed if word != "respond"] or ["reject"]
        if "edit" in allowed:
            update = {"state": patchable.values(scene.asker.config), "adds": patchable.adds}
            situation = situation.model_copy(update=update)
        labels: dict[Word, str] = {
            "approve": again,
            "edit": "change keys of the state, and go on",
            "reject": "stop the run with a last message",
            "respond": "the model gets your text as guidance, and goes on",
        }
        # by the namespace with its ids: of subagents that run at once, each has a question of its own
        identity = json.dumps([scene.asker.thread_id, "escalation", scene.namespace, scene.path])
        return Request(
            id=request_id,
            kind="escalation",
            thread_id=scene.asker.thread_id,
            interrupt_id=interrupt_id,
            question=situation.model_dump(mode="json"),
            allowed=tuple(allowed),
            labels={word: labels[word] for word in allowed},
            answer_schema=patchable.schema() if "edit" in allowed else None,
            description=as_text(situation),
            reason=f"{situation.failure.type} in {situation.failure.node}"
            if situation.failure
            else situation.findings[0].kind.replace("_", " "),
            action_key=hashlib.sha256(identity.encode()).hexdigest()[:32],
        )
