"""`ApprovalMiddleware`: the tools of a LangChain agent run only after what the policy wants of people.

The gate stands where a tool is run, so that no way to the tools leads around it. In `batched` mode people are asked
about all calls of a turn before that, with one interrupt; what was not asked then is asked at the gate.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Command

from hitl_graph.adapters.langchain.interrupt_on import InterruptOn, describing, policy_of
from hitl_graph.adapters.langchain.permitted import PermittedTool
from hitl_graph.errors import PolicyError
from hitl_graph.ledger import Ledger
from hitl_graph.model import Action, Request
from hitl_graph.nodes import replies
from hitl_graph.nodes.asking import NotAloneError
from hitl_graph.nodes.calls import Item, item_of, message_of, runs_in_a_thread, tool_runtime
from hitl_graph.nodes.gate import Gate, Output
from hitl_graph.policy import Policy
from hitl_graph.steps import Step, Steps, arun, run
from hitl_graph.wire import BRIDGE, Client, ClientName, client_of
from hitl_graph.wire.showing import bridge

__all__ = ["ApprovalMiddleware", "InterruptMode"]

InterruptMode = Literal["batched", "per_call"]
Result = ToolMessage | Command[Any]
Handler = Callable[[ToolCallRequest], Result]
AsyncHandler = Callable[[ToolCallRequest], Awaitable[Result]]
_KEY = "messages"
_EDIT_NOTICE = "A person changed this call before it ran. Do not call it again with the old arguments."


class ApprovalMiddleware(AgentMiddleware[Any, Any, Any]):
    """Have the calls of a `create_agent` agent approved before they run.

    It takes the place of `HumanInTheLoopMiddleware`, with its configuration and its answers, or gets a policy as
    `ApprovalNode` does, with the same ledger and the same guarantees. List it after middleware that changes calls or
    brings tools, and before middleware that retries them or handles their errors.

    Args:
        interrupt_on: As for `HumanInTheLoopMiddleware`: which tools are asked about, and how; all others run.
        policy: Which calls are allowed, asked about or denied, in place of `interrupt_on`. Without either, every call
            is asked about.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        interrupt_mode: `batched`: one interrupt for all calls of a turn that are asked about, answered with
            `{"decisions": [...]}` in their order; or each by itself, in the inbox. `per_call`: an interrupt a call.
        description_prefix: As for `HumanInTheLoopMiddleware`.
        edit_notice: As for `HumanInTheLoopMiddleware`: what the model is told with the result of a call that a person
            changed, and with what was run; None: nothing.
        client: With what people answer, as for `ApprovalNode`. One that does not say which interrupt it answers needs
            `batched`.
        graph, version: Of the graph, as grants and switches name it. The server's name of the graph, unless given.

    Raises:
        ValueError: There is no such client, or it cannot answer in this mode.
        PolicyError: `interrupt_on` says nothing that is understood, or there is a policy beside it. At the first model
            call: a rule names none of the agent's tools.
    """

    def __init__(
        self,
        interrupt_on: InterruptOn | None = None,
        *,
        policy: Policy | None = None,
        ledger: Ledger | None = None,
        interrupt_mode: InterruptMode = "batched",
        description_prefix: str = "Tool execution requires approval",
        edit_notice: str | None = _EDIT_NOTICE,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        super().__init__()
        if interrupt_on is not None and policy is not None:
            raise PolicyError("give interrupt_on or policy=, not both; a policy can say all that interrupt_on does")
        if interrupt_mode not in get_args(InterruptMode):
            raise PolicyError(f"interrupt_mode= is batched or per_call, not {interrupt_mode!r}")
        shown = client_of(client)
        if interrupt_mode == "per_call" and not shown.names_interrupt:
            raise ValueError(f"{shown.name} does not say which interrupt it answers; use interrupt_mode='batched'")
        if interrupt_mode == "per_call" and shown is BRIDGE:
            shown = _PER_CALL
        self.policy = policy or (Policy() if interrupt_on is None else policy_of(interrupt_on))
        self.interrupt_mode = interrupt_mode
        self._tools: dict[str, BaseTool] = {}
        self._gate = Gate(
            self.policy,
            ledger,
            _Nothing(),
            type(self).__name__,
            graph,
            version,
            edited=_noticing(edit_notice),
            described=describing(interrupt_on, description_prefix) if interrupt_on is not None else None,
            client=shown,
        )

    # --- before the tools ----------------------------------------------------------------------------------------

    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        """Look at what tools there are."""
        self._learn(request)
        return handler(request)

    async def awrap_model_call(
        self, request: ModelRequest, handler: Callable[[ModelRequest], Awaitable[ModelResponse]]
    ) -> ModelResponse:
        """As `wrap_model_call`."""
        self._learn(request)
        return await handler(request)

    def after_model(self, state: Any, runtime: Runtime[Any]) -> None:
        """In `batched` mode: ask about all calls of the turn."""
        if self.interrupt_mode == "batched":
            run(self._ask(state, runtime))

    async def aafter_model(self, state: Any, runtime: Runtime[Any]) -> None:
        """As `after_model`."""
        if self.interrupt_mode == "batched":
            await arun(self._ask(state, runtime))

    def _learn(self, request: ModelRequest) -> None:
        tools = {tool.name: tool for tool in request.tools if isinstance(tool, BaseTool)}
        if not tools.items() <= self._tools.items():
            self.policy.check(tools)
            self._tools.update(tools)

    def _ask(self, state: Any, runtime: Runtime[Any]) -> Steps[None]:
        last = next((message for message in reversed(state[_KEY]) if isinstance(message, AIMessage)), None)
        calls = last.tool_calls if last else []
        config, tools = get_config(), list(self._tools.values())
        ids = [call["id"] for call in calls]
        answered = {message.tool_call_id for message in state[_KEY] if isinstance(message, ToolMessage)}
        given = [
            (call, tool_runtime(call, state, config, runtime, tools))
            for call in calls
            # A process that goes on with a turn has called no model: what was asked about, the ledger knows.
            if (call["name"] in self._tools or not self._tools)
            and call["id"] not in answered  # by another middleware: it does not run
            and ids.count(call["id"]) == 1  # the gate tells calls of one id apart
        ]
        yield from self._ask_about(
            [item_of(call, 0, last, its, "tool_calls", self._tools.get(call["name"])) for call, its in given],
            self._gate,
            config,
        )

    def _ask_about(self, items: list[Item], gate: Gate, config: RunnableConfig) -> Steps[None]:
        if items:
            items = yield from gate.judged(items, config)
            items = yield from gate.remembered(items, config)
            yield from gate.ask_together(items, config)

    # --- at the tool ---------------------------------------------------------------------------------------------

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Result:
        """Run a call as far as it may."""
        return cast(Result, run(self._call(request, _Chain(request, handler))))

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncHandler) -> Result:
        """As `wrap_tool_call`."""
        return cast(Result, await arun(self._call(request, _Chain(request, awaited=handler))))

    def _call(self, request: ToolCallRequest, chain: "_Chain") -> Steps[Output]:
        call, config = request.tool_call, request.runtime.config
        message = message_of(request.state, _KEY, [call])
        alone = _has_a_task(config) or message is None or len(message.tool_calls) == 1
        gate = replace(self._gate, runner=replace(chain, alone=alone), alone=alone)
        item = item_of(call, 0, message, request.runtime, "tool_calls", request.tool)
        if item.tool is None and item.refused is None:
            item = replace(item, refused=_unknown(call, request.runtime.tools))
        [item] = yield from gate.judged([item], config)
        if not (item.verdict and item.verdict.asking):
            output = yield from gate.allowed(item, config, alone)
            if output is not None:
                return output
        [item] = yield from gate.remembered([item], config)
        try:
            if not alone and message is not None and item.answered is None:
                yield from self._ask_about(self._beside(request, message), gate, config)
                [item] = yield from gate.remembered([item], config)
            return (yield from gate.gated(item, config))
        except NotAloneError:
            return replies.not_alone(call)

    def _beside(self, request: ToolCallRequest, message: AIMessage) -> list[Item]:
        """All calls of a message whose tools LangGraph runs in one task, as after `jump_to="tools"`."""
        tools, its = {tool.name: tool for tool in request.runtime.tools}, request.runtime
        return [
            item_of(call, 0, message, replace(its, tool_call_id=call["id"]), "tool_calls", tools[call["name"]])
            for call in message.tool_calls
            if call["name"] in tools
        ]


@dataclass(frozen=True)
class _Chain:
    """The middleware that follows, and the tool at its end."""

    request: ToolCallRequest
    sync: Handler | None = None
    awaited: AsyncHandler | None = None
    alone: bool = True

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        call = cast(ToolCall, {**item.call, "args": dict(action.args)})
        tool = PermittedTool.of(cast(BaseTool, item.tool), action, alone=self.alone)
        wanted = self.request.override(tool_call=call, tool=tool)
        sync, awaited = self.sync, self.awaited

        def run_it() -> Any:
            try:
                return sync(wanted) if sync else None
            except GraphInterrupt:
                if self.alone:
                    raise
                return replies.asks_alone(call)

        async def await_it() -> Any:
            try:
                return await awaited(wanted) if awaited else None
            except GraphInterrupt:
                if self.alone:
                    raise
                return replies.asks_alone(call)

        return Step(run_it, await_it if awaited else None, whole=runs_in_a_thread(item.tool))

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> Output:
        return replies.unfit(item.call, error.message)


class _Nothing:
    """Before the tools nothing is run; what does not fit is found out there."""

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        raise AssertionError("no tool is run here")

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> Output:
        return replies.unfit(item.call, error.message)


def _tool_approval(requests: Sequence[Request]) -> dict[str, Any]:
    """LangChain's `ToolApprovalRequest`, and what other clients draw."""
    [request, *more] = requests
    if more or request.action is None:
        return bridge(requests)
    return {
        **bridge(requests),
        "type": "tool_approval",
        "tool_call_id": request.tool_call_id,
        "name": request.action.name,
        "args": request.action.args,
        "description": request.description,
    }


_PER_CALL = Client("per_call", _tool_approval)


def _has_a_task(config: RunnableConfig) -> bool:
    """Whether the call was sent to the tools by itself, as agents of LangChain do."""
    path: Sequence[Any] = config.get("metadata", {}).get("langgraph_path") or ()
    return path[:1] == ("__pregel_push",)


def _unknown(call: ToolCall, tools: Any) -> ToolMessage:
    names = ", ".join(sorted(tool.name for tool in tools)) or "none"
    return replies.unfit(call, f"{call['name']} is not a tool here; it did not run. The tools are {names}.")


def _noticing(notice: str | None) -> Callable[[Action], str | None]:
    def edited(action: Action) -> str | None:
        args = json.dumps(action.args, ensure_ascii=False)
        return notice and f"[{notice} Executed instead: {action.name} with arguments {args}]"

    return edited
