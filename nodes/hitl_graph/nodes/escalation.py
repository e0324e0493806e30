"""`EscalationNode`: asks a person when the agent is stuck, or when a node failed.

While all is well it passes through: one look into the ledger, and the messages that are new since the last time.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import END
from langgraph.errors import is_invalid_resume
from langgraph.types import Command

from hitl_graph.errors import EscalationError
from hitl_graph.ledger import Ledger
from hitl_graph.model import WORDS, Word
from hitl_graph.nodes import guidance
from hitl_graph.nodes.escalating import CARRY_ON, Answered, Escalation
from hitl_graph.nodes.routing import Routed, unknown_nodes
from hitl_graph.nodes.scene import Scene
from hitl_graph.policy import Rule
from hitl_graph.steps import Steps
from hitl_graph.stuck import Detector, Patience, Spent
from hitl_graph.wire import BRIDGE, Client, ClientName

__all__ = ["EscalationNode"]

log = logging.getLogger(__name__)


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
        client: With what people answer, as for `ApprovalNode`.
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
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        for option, value in (("resume", resume), ("stop", stop), ("onward", onward or resume)):
            if not isinstance(value, str) or not value:
                raise EscalationError(f"EscalationNode({option}=...) takes the name of a node, not {value!r:.80}")
        self.escalation = Escalation(
            owner=type(self).__name__, patience=patience, detectors=detectors, allowed=allowed, editable=editable,
            spent=spent, ledger=ledger, messages_key=messages_key, rule=rule, client=client, graph=graph,
            version=version,
        )  # fmt: skip
        self.graph, self.resume, self.stop, self.onward = graph, resume, stop, onward or resume
        self.name, self.messages_key = name, messages_key
        self._goes_to((resume, stop, self.onward))

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        asker = self.escalation.asker(config)
        for name in unknown_nodes(config, (self.resume, self.stop, self.onward)):
            raise EscalationError(f"{self.name} cannot go to {name!r}: the graph has no node of that name")
        scene = Scene.of(state, asker, self.messages_key)
        if scene.failed is not None and is_invalid_resume(scene.failed.error):
            log.warning("an answer to a question of %s was refused: %s", scene.failed.node, scene.failed.error)
            return Command(goto=scene.again)  # no failure; it asks again
        again = f"run {scene.failed.node} again" if scene.failed else CARRY_ON
        if scene.failed and scene.amid:
            again = "the model is told to make the call again"
        answered = yield from self.escalation.steps(scene, again=again, runs_calls=self._runs_calls(scene))
        return Command(goto=self.onward) if answered is None else self._answered(scene, answered)

    def _runs_calls(self, scene: Scene) -> bool:
        """Whether `resume` runs the calls that are open, so that no message may come between."""
        at_resume = scene.failed.node == self.resume if scene.failed else self.onward == self.resume
        return at_resume and bool(scene.calls)

    def _answered(self, scene: Scene, answered: Answered) -> Command[Any]:
        request, decision = answered.request, answered.decision
        if decision.type == "approve" and not (scene.failed and scene.amid):
            return Command(goto=scene.again if scene.failed else self.onward)
        update, calls, goto = answered.patch, scene.calls, self.resume
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
