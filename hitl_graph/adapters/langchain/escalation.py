"""`EscalationMiddleware`: an agent that is stuck, unsure, or whose model or tool failed asks a person what now.

It looks before each call of the model, and at the final answer. These are nodes of their own: what ran before the
question does not run again when it is answered. A failed call of the model or of a tool becomes a message first, which
says so, and people are asked in the node after it.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, RemoveMessage, ToolCall, ToolMessage
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, NodeError, is_invalid_resume
from langgraph.types import Command

from hitl_graph.errors import HitlError
from hitl_graph.ledger import Ledger
from hitl_graph.model import WORDS, Word
from hitl_graph.nodes import guidance
from hitl_graph.nodes.escalating import CARRY_ON, Answered, Escalation
from hitl_graph.nodes.scene import Scene
from hitl_graph.nodes.withholding import conceal
from hitl_graph.policy import Rule
from hitl_graph.steps import Steps, arun, run
from hitl_graph.stuck import Alarm, Detector, Patience, Spent
from hitl_graph.wire import BRIDGE, Client, ClientName

__all__ = ["EscalationMiddleware"]

_FAILED = "hitl_failed"
"""In `additional_kwargs` of a message that stands for a failed call: the error, and whether people were asked."""
_LONGEST = 2_000

Update = dict[str, Any] | None
Model = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncModel = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
ToolResult = ToolMessage | Command[Any]


class EscalationMiddleware(AgentMiddleware[Any, Any, Any]):
    """Ask a person when an agent gets nowhere, is not sure, or a call of its model or of a tool failed.

        create_agent(model, tools, middleware=[EscalationMiddleware()], checkpointer=checkpointer)

    | answer | stuck or unsure | the model failed | a tool failed |
    |---|---|---|---|
    | approve | carry on; patience is restored | it is called again | the model is told to make the call again |
    | respond | the text goes to the model as guidance | the same | the same |
    | edit | some keys of the state are changed; carry on | the same | the same |
    | reject | a last message that says so, and the end | the same | the same |

    Put it before middleware that retries or falls back, so that people are asked when that has given up.

    Args:
        patience: `low`, `normal` or `high`; or a number: how much evidence it takes (1.0 is normal).
        detectors: What to look for; `hitl_graph.stuck.default_detectors()` if not given.
        failures: Ask about what the model or a tool raises; else it goes on as an error of the run.
        allowed: The answers that a reviewer may give.
        editable: The keys of the state that an edit may change and a reviewer sees; None means all but `jump_to`.
        spent: What the run has spent by now, from the state, for a `Budget` on cost or time; shown to the reviewer.
        rule: Who answers, and by when: `Rule("*", "ask", reviewers=["group:oncall"], deadline=timedelta(hours=1))`.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        client: With what people answer, as for `ApprovalNode`.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.
        name: Two of these middlewares in one agent need two names.

    Raises:
        EscalationError: An option makes no sense.
        WatchError: A wrong `patience` or detector.
    """

    def __init__(
        self,
        *,
        patience: Patience | float = "normal",
        detectors: Iterable[Detector] | None = None,
        failures: bool = True,
        allowed: Sequence[Word] = WORDS,
        editable: Sequence[str] | None = None,
        spent: Callable[[Any], Spent] | None = None,
        rule: Rule | None = None,
        ledger: Ledger | None = None,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
        name: str = "escalation",
    ) -> None:
        super().__init__()
        self.escalation = Escalation(
            owner=type(self).__name__, patience=patience, detectors=detectors, allowed=allowed, editable=editable,
            spent=spent, ledger=ledger, messages_key="messages", rule=rule, client=client,
            graph=graph, version=version, closed=["jump_to"],
        )  # fmt: skip
        self.failures = failures
        self._name = type(self).__name__ + ("" if name == "escalation" else f"[{name}]")

    @property
    def name(self) -> str:
        """Its nodes begin with it."""
        return self._name

    # --- what fails becomes a message ------------------------------------------------------------------------------

    def wrap_model_call(self, request: ModelRequest[Any], handler: Model) -> ModelResponse[Any]:
        """Called by LangChain."""
        try:
            return handler(request)
        except Exception as exc:
            return self._no_answer(exc)

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncModel) -> ModelResponse[Any]:
        """Called by LangChain."""
        try:
            return await handler(request)
        except Exception as exc:
            return self._no_answer(exc)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]) -> ToolResult:
        """Called by LangChain."""
        try:
            return handler(request)
        except Exception as exc:
            return self._no_result(request.tool_call, exc)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Called by LangChain."""
        try:
            return await handler(request)
        except Exception as exc:
            return self._no_result(request.tool_call, exc)

    def _no_answer(self, error: Exception) -> ModelResponse[Any]:
        told = self._told(error)
        text = f"(The model could not be called: {told['type']}: {told['message']})"
        message = AIMessage(text, id=f"hitl-{uuid4()}", additional_kwargs={_FAILED: told})
        conceal(get_config().get("callbacks"), [message])
        return ModelResponse(result=[message])

    def _no_result(self, call: ToolCall, error: Exception) -> ToolMessage:
        told = self._told(error)
        return ToolMessage(
            f"{call['name']} failed: {told['type']}: {told['message']}.",
            name=call["name"],
            tool_call_id=call["id"] or "",
            status="error",
            additional_kwargs={_FAILED: told},
        )

    def _told(self, error: Exception) -> dict[str, str]:
        """The error as it is kept in the state; one that is no failure of the model or a tool is raised again."""
        if not self.failures or isinstance(error, GraphBubbleUp | HitlError) or is_invalid_resume(error):
            raise error
        return {"type": type(error).__name__, "message": str(error)[:_LONGEST], "by": self.name}

    # --- people are asked in nodes of their own ----------------------------------------------------------------------

    @hook_config(can_jump_to=["end"])
    def before_model(self, state: Any, runtime: Any) -> Update:
        """Called by LangChain."""
        return run(self._before(state))

    @hook_config(can_jump_to=["end"])
    async def abefore_model(self, state: Any, runtime: Any) -> Update:
        """Called by LangChain."""
        return await arun(self._before(state))

    @hook_config(can_jump_to=["model", "end"])
    def after_model(self, state: Any, runtime: Any) -> Update:
        """Called by LangChain."""
        return run(self._after(state))

    @hook_config(can_jump_to=["model", "end"])
    async def aafter_model(self, state: Any, runtime: Any) -> Update:
        """Called by LangChain."""
        return await arun(self._after(state))

    def _before(self, state: Any) -> Steps[Update]:
        """After the tools, and before the first call."""
        scene = self._scene(state)
        last, results = _last(scene.messages)
        failed = [one for one in results if self._error(one) is not None]
        again = CARRY_ON
        if failed and last is not None:
            ids = {one.tool_call_id for one in failed}
            calls = tuple(call for call in last.tool_calls if call["id"] in ids)
            scene = replace(
                scene, failed=_failure(", ".join(dict.fromkeys(str(one.name) for one in failed)), failed), failing=calls
            )
            again = "the model is told to make the call again"
        answered = yield from self.escalation.steps(scene, again=again)
        if answered is None:
            return None
        said = [] if failed else guidance.settled(answered.request, scene.calls, None)
        if answered.decision.type == "approve":
            said = [guidance.again()] if failed else []
        return self._update(answered, [*map(_asked, failed), *said, *_words(answered)])

    def _after(self, state: Any) -> Steps[Update]:
        """At the final answer, and where there is none because the model failed."""
        scene = self._scene(state)
        last, _ = _last(scene.messages)
        if last is None:
            return None
        if self._error(last) is not None:
            before = [message for message in scene.messages if message is not last]
            scene = replace(scene, messages=before, failed=_failure("model", [last]))
            answered = yield from self.escalation.steps(scene, again="the model is called again")
            assert answered is not None  # an error is always asked about
            said = [RemoveMessage(id=str(last.id)), *_words(answered)]
            return {"jump_to": "model"} | self._update(answered, cast(Any, said))
        if last.tool_calls and state.get("structured_response") is None:
            return None  # looked at again when they ran
        answered = yield from self.escalation.steps(scene, again=CARRY_ON, heed=_is_about_the_answer)
        if answered is None:
            return None
        back = {"jump_to": "model"} if answered.decision.type == "respond" else {}
        return back | self._update(answered, _words(answered))

    def _scene(self, state: Any) -> Scene:
        return Scene.of(state, self.escalation.asker(get_config()), self.escalation.messages_key)

    def _error(self, message: BaseMessage) -> dict[str, str] | None:
        """What failed, if this message stands for that and nobody was asked yet."""
        told = message.additional_kwargs.get(_FAILED)
        if not isinstance(told, dict) or told.get("by") != self.name or "asked" in told:
            return None
        return told if {"type", "message"} <= told.keys() else None

    def _update(self, answered: Answered, said: Sequence[AnyMessage]) -> dict[str, Any]:
        messages = [*said, *answered.patch.get("messages", [])]
        end = {"jump_to": "end"} if answered.decision.type == "reject" else {}
        return {**answered.patch, **({"messages": messages} if messages else {}), **end}


def _words(answered: Answered) -> list[AnyMessage]:
    """What an answer says to the model, or in place of it."""
    if answered.decision.type == "respond":
        return [guidance.guidance(answered.request, answered.decision)]
    if answered.decision.type == "reject":
        return [guidance.stopped(answered.request, answered.decision)]
    return []


def _last(messages: Sequence[AnyMessage]) -> tuple[AIMessage | None, list[ToolMessage]]:
    for place in range(len(messages) - 1, -1, -1):
        if isinstance(message := messages[place], AIMessage):
            return message, [one for one in messages[place + 1 :] if isinstance(one, ToolMessage)]
    return None, []


def _failure(node: str, failed: Sequence[BaseMessage]) -> NodeError:
    """As LangGraph tells of a failed node; of several errors the first gives the type."""
    told = [message.additional_kwargs[_FAILED] for message in failed]
    text = str(told[0]["message"])
    if len(told) > 1:
        text = "; ".join(
            f"{message.name}: {one['type']}: {one['message']}" for message, one in zip(failed, told, strict=True)
        )
    return NodeError(node=node, error=type(str(told[0]["type"]), (Exception,), {})(text))


def _asked(message: ToolMessage) -> ToolMessage:
    told = {**message.additional_kwargs[_FAILED], "asked": True}
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, _FAILED: told}})


def _is_about_the_answer(alarm: Alarm) -> bool:
    """What was spent does not matter any more when the agent is done."""
    return any(one.kind != "budget" for one in alarm.evidence)
