"""`EscalationNode`: asks a person when the agent is stuck, or when a node failed.

While all is well it passes through: one look into the ledger, and the messages that are new since the last time. What
was answered is read from the ledger each time, so that every process comes to the same; the watches kept in this
process only save the reading of old messages.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import END
from langgraph.errors import is_invalid_resume
from langgraph.types import Command

from hitl_graph.errors import EscalationError, InvalidDecisionError
from hitl_graph.facts import Memory, Situation, as_text, facts_of
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import WORDS, Decision, Request, Word
from hitl_graph.nodes import guidance
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.patching import Patchable
from hitl_graph.nodes.routing import Routed, unknown_nodes
from hitl_graph.nodes.scene import Scene, began
from hitl_graph.nodes.terms import on_terms, origin_of, verdict_of
from hitl_graph.nodes.watching import Watches
from hitl_graph.policy import Rule
from hitl_graph.steps import Steps, blocking
from hitl_graph.stuck import Alarm, Detector, Patience, Spent, Watch
from hitl_graph.terms import Origin

__all__ = ["EscalationNode"]

log = logging.getLogger(__name__)

_ANSWERED = (
    "thread_id = ? AND kind = 'escalation' AND state IN ('pending', 'decided', 'delivered') ORDER BY created_ms, id"
)


class EscalationNode(Routed):
    """Ask a person when the agent gets nowhere; else pass through.

    Put it where the run comes by after each step (`tools -> watch -> agent`), or give it to a node as `error_handler`:

        builder.add_node("watch", EscalationNode(resume="agent"))
        builder.add_node("tools", ToolNode(tools), error_handler=EscalationNode(resume="agent"))

    | answer | watching | as error handler |
    |---|---|---|
    | approve | carry on; patience is restored | run the failed node again |
    | respond | the text goes to the model as guidance; goes on at `resume` | the same |
    | edit | some keys of the state are changed; carry on | the same; goes on at `resume` |
    | reject | a last message that says so; goes to `stop` | the same |

    Args:
        resume: The node at which the run goes on: the one that calls the model.
        stop: Where a rejected run goes.
        onward: Where the run goes while all is well, and after approve and edit, if not to `resume`: the tools, for a
            node that stands between the model and its tools.
        patience: `low`, `normal` or `high`; or a number: how much evidence it takes (1.0 is normal).
        detectors: What to look for; `hitl_graph.stuck.default_detectors()` if not given.
        allowed: The answers that a reviewer may give.
        editable: The keys of the state that an edit may change and a reviewer sees; None means all of them.
        spent: What the run has spent by now, from the state, for a `Budget` on cost or time; shown to the reviewer.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        messages_key: Where in the state the messages are.
        rule: Who answers, and by when: `Rule("*", "ask", reviewers=["group:oncall"], deadline=timedelta(hours=1))`. A
            deadline that ends in `reject` stops the run; one that ends in `approve` carries on.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.

    Raises:
        EscalationError: An option makes no sense; or, as soon as it runs, `resume` names no node of the graph.
        WatchError: A wrong `patience` or detector.
    """

    def __init__(
        self,
        resume: str,
        *,
        stop: str = END,
        onward: str | None = None,
        patience: Patience | float = "normal",
        detectors: Iterable[Detector] | None = None,
        allowed: Sequence[Word] = WORDS,
        editable: Sequence[str] | None = None,
        spent: Callable[[Any], Spent] | None = None,
        ledger: Ledger | None = None,
        name: str = "escalation",
        messages_key: str = "messages",
        rule: Rule | None = None,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        for option, value in (("resume", resume), ("stop", stop), ("onward", onward or resume)):
            if not isinstance(value, str) or not value:
                raise EscalationError(f"EscalationNode({option}=...) takes the name of a node, not {value!r:.80}")
        if isinstance(allowed, str) or not allowed or set(allowed) - set(WORDS):
            raise EscalationError(f"allowed= takes some of {', '.join(WORDS)}, not {allowed!r:.80}")
        if isinstance(editable, str):
            raise EscalationError("editable= takes keys of the state, as a list")
        self.verdict = verdict_of(rule, "people are asked", EscalationError)
        self.graph, self.version = graph, version
        self.resume, self.stop, self.onward = resume, stop, onward or resume
        self.allowed: tuple[Word, ...] = tuple(word for word in WORDS if word in allowed)
        self.editable = None if editable is None else tuple(editable)
        self.spent, self.ledger, self.name, self.messages_key = spent, ledger, name, messages_key
        kept = None if detectors is None else tuple(detectors)
        self._watches = Watches(lambda memory: Watch(patience, detectors=kept, memory=memory))
        self._watches.make(())  # refuses wrong options now
        self._goes_to((resume, stop, self.onward))

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        asker = Asker.of(config, self.ledger, type(self).__name__)
        for name in unknown_nodes(config, (self.resume, self.stop, self.onward)):
            raise EscalationError(f"{self.name} cannot go to {name!r}: the graph has no node of that name")
        scene = Scene.of(state, asker, self.messages_key)
        if scene.failed is not None and is_invalid_resume(scene.failed.error):
            log.warning("an answer to a question of %s was refused: %s", scene.failed.node, scene.failed.error)
            return Command(goto=scene.again)  # no failure; it asks again
        asked: list[Request] = yield blocking(asker.ledger.read, requests.select, _ANSWERED, (asker.thread_id,))
        own = asker.own()
        situation: Situation | None = None
        if all(request.id != own for request in asked):  # what this task asked once is asked to its end
            alarm, memory = self._watched(scene, asked)
            if alarm is None:
                return Command(goto=self.onward)
            since = yield from began(asker, self.messages_key, alarm.since, scene.failed is not None)
            situation = scene.situation(alarm, memory, since, self._spent(scene))
        patchable = Patchable.of(config, self.editable if "edit" in self.allowed else ())
        if self._runs_calls(scene):
            patchable = patchable.without(self.messages_key)

        def describe(request_id: str, interrupt_id: str) -> Request:
            assert situation is not None
            return self._request(request_id, interrupt_id, scene, situation, patchable)

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
        return self._answered(scene, request, decision, patchable)

    # --- looking -------------------------------------------------------------------------------------------------

    def _watched(self, scene: Scene, asked: list[Request]) -> tuple[Alarm | None, Memory | None]:
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
        if alarm is None:
            self._watches.keep(key, watch)
            return None, None
        answer = watch.answered(alarm).model_dump(mode="json")  # once somebody has answered; this watch is not kept
        return alarm, Memory(graph=scene.graph, answer=answer)

    def _spent(self, scene: Scene) -> Spent | None:
        return self.spent(scene.input) if self.spent is not None and not scene.sent else None

    # --- asking --------------------------------------------------------------------------------------------------

    def _request(
        self, request_id: str, interrupt_id: str, scene: Scene, situation: Situation, patchable: Patchable
    ) -> Request:
        allowed: list[Word] = [word for word in self.allowed if word != "edit" or patchable.types]
        if self._runs_calls(scene):
            allowed = [word for word in allowed if word != "respond"] or ["reject"]
        if "edit" in allowed:
            update = {"state": patchable.values(scene.asker.config), "adds": patchable.adds}
            situation = situation.model_copy(update=update)
        again = f"run {scene.failed.node} again" if scene.failed else "carry on as it is; patience is restored"
        if scene.failed and scene.amid:
            again = "the model is told to make the call again"
        labels: dict[Word, str] = {
            "approve": again,
            "edit": "change keys of the state, and go on",
            "reject": "stop the run with a last message",
            "respond": "the model gets your text as guidance, and goes on",
        }
        identity = json.dumps([scene.asker.thread_id, "escalation", scene.graph, scene.path])
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

    def _runs_calls(self, scene: Scene) -> bool:
        """Whether `resume` runs the calls that are open, so that no message may come between."""
        at_resume = scene.failed.node == self.resume if scene.failed else self.onward == self.resume
        return at_resume and bool(scene.calls)

    # --- answering -----------------------------------------------------------------------------------------------

    def _answered(self, scene: Scene, request: Request, decision: Decision, patchable: Patchable) -> Command[Any]:
        if decision.type == "approve" and not (scene.failed and scene.amid):
            return Command(goto=scene.again if scene.failed else self.onward)
        update, calls, goto = patchable.update(decision.args or {}), scene.calls, self.resume
        said: list[AnyMessage] = []
        if decision.type == "approve":  # by the time the call had run again, the model would have gone on without it
            said.append(guidance.again())
        elif decision.type == "respond":
            said.append(guidance.guidance(request, decision))
        elif decision.type == "reject":
            said.append(guidance.stopped(request, decision))
            goto = self.stop
        elif self.messages_key not in update:
            if self._runs_calls(scene) or not scene.failed:
                calls = []  # they are still going to run
            if not scene.failed:
                goto = self.onward
        said += update.get(self.messages_key, [])
        if said and calls and scene.amid:  # a result of another call follows, and nothing may stand before it
            said = guidance.settled(request, calls, scene.failure, "\n".join(str(one.content) for one in said))
        else:
            said = [*guidance.settled(request, calls, scene.failure), *said]
        return Command(update={**update, self.messages_key: said} if said else update, goto=goto)
