"""`ApprovalNode`: a `ToolNode` that asks people before a call runs.

Calls that the policy allows run at once, as in `ToolNode`. As soon as one call of a message has to be asked about,
each call becomes a LangGraph task of its own, so that each is asked, answered and run independently of the others.
Whatever the way, an action runs only through `hitl_graph.effects`, under a permit.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Literal, NoReturn, cast

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_executor_for_config
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.func import task
from langgraph.prebuilt import ToolNode, ToolRuntime
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from hitl_graph.effects import Asked, Effect, Lost, Outcome, is_idempotent
from hitl_graph.errors import OutcomeUnknownError, PermitError
from hitl_graph.ledger import Ledger, effects, requests
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Action, Request
from hitl_graph.nodes import consent, replies
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.human import AskHuman
from hitl_graph.nodes.terms import origin_of
from hitl_graph.nodes.wrapping import abound, bound
from hitl_graph.policy import Call, Policy, Verdict
from hitl_graph.schema import alike
from hitl_graph.steps import Step, Steps, arun, blocking, run
from hitl_graph.terms import Terms

__all__ = ["ApprovalNode"]

Output = ToolMessage | Command[Any] | list[ToolMessage | Command[Any]]
InputType = Literal["list", "dict", "tool_calls"]


@dataclass(frozen=True)
class _Item:
    """One tool call on its way through the node."""

    call: ToolCall
    action: Action | None
    key: str
    runtime: ToolRuntime[Any, Any]
    input_type: InputType
    verdict: Verdict | None = None


class ApprovalNode(ToolNode):
    """Run an agent's tool calls; the risky ones only after a person approved them.

    Put it where `ToolNode(tools)` was. It takes and gives what `ToolNode` does (injected state, store and runtime,
    `Command` results, artifacts, error handling), and pauses with one interrupt for each call that the policy wants
    asked. A rejected or answered call gives the model a `ToolMessage` that says so.

    Args:
        tools: Tools or plain functions, as for `ToolNode`.
        policy: Which calls are allowed, asked about or denied. Without one, every call is asked about.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        graph, version: Of the graph, as grants and switches name it. The server's name of the graph, unless given.
        name, tags, handle_tool_errors, messages_key: As for `ToolNode`.
        wrap_tool_call, awrap_tool_call: As for `ToolNode`; they can run the call as it was permitted, or not at all.

    Raises:
        PolicyError: A rule of the policy names none of the tools.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool | Callable[..., Any]],
        *,
        policy: Policy | None = None,
        ledger: Ledger | None = None,
        graph: str | None = None,
        version: str | None = None,
        name: str = "tools",
        tags: list[str] | None = None,
        messages_key: str = "messages",
        **options: Any,
    ) -> None:
        self._wraps = False
        for option, bind in (("wrap_tool_call", bound), ("awrap_tool_call", abound)):
            if options.get(option) is not None:
                self._wraps, options[option] = True, bind(options[option])
        super().__init__(tools, name=name, tags=tags, messages_key=messages_key, **options)
        self.policy = policy or Policy()
        self.policy.check(self.tools_by_name)
        self.ledger = ledger
        self.graph, self.version = graph, version
        named: Any = task(name=f"{name}_call")
        self._sync_task, self._async_task = named(self._run_task), named(self._arun_task)

    # --- the two colours -----------------------------------------------------------------------------------------

    def _func(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        items, input_type = self._items(input, config, runtime)
        items = run(self._judge(items, config))
        outputs: list[Output] | None = None
        if self._is_quiet(items):
            outputs = _together(self._run_together(items, config))
        if outputs is None:
            items = run(self._remember(items, config))
            tasks = [self._sync_task(item) for item in items]
            outputs = _gathered([_outcome(t.result) for t in tasks])
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    async def _afunc(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        items, input_type = self._items(input, config, runtime)
        items = await arun(self._judge(items, config))
        outputs: list[Output] | None = None
        if self._is_quiet(items):
            runs = [arun(self._allowed(item, config, len(items) == 1)) for item in items]
            outputs = _together(await asyncio.gather(*runs, return_exceptions=True))
        if outputs is None:
            items = await arun(self._remember(items, config))
            tasks = [self._async_task(item) for item in items]
            outputs = _gathered(await asyncio.gather(*tasks, return_exceptions=True))
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    def _run_together(self, items: list[_Item], config: RunnableConfig) -> list[Any]:
        def ended(item: _Item) -> Any:
            return _outcome(lambda: run(self._allowed(item, config, len(items) == 1)))

        if len(items) == 1:
            return [ended(items[0])]
        with get_executor_for_config(config) as executor:
            return list(executor.map(ended, items))

    def _run_task(self, item: _Item) -> Output:
        return run(self._gated(item, get_config()))

    async def _arun_task(self, item: _Item) -> Output:
        return await arun(self._gated(item, get_config()))

    # --- judging -------------------------------------------------------------------------------------------------

    def _items(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> tuple[list[_Item], InputType]:
        calls, input_type = self._parse_input(input)
        state = self._extract_state(input, config)
        thread_id = str(config.get("configurable", {}).get("thread_id"))
        message = _message(state, self._messages_key, calls)
        message_id = (message and message.id) or _task_namespace(config)
        items = []
        for position, call in enumerate(calls):
            index: Any = position
            tool_runtime = ToolRuntime(
                state=state,
                tool_call_id=call["id"],
                config=config,
                context=runtime.context,
                store=runtime.store,
                stream_writer=runtime.stream_writer,
                tools=list(self.tools_by_name.values()),
                execution_info=runtime.execution_info,
                server_info=runtime.server_info,
            )
            try:
                action = Action(name=call["name"], args=call["args"])
                signature = action.digest
            except (ValidationError, TypeError):
                action, signature = None, repr(call["args"])
            if input_type == "tool_calls" and message and [c["id"] for c in message.tool_calls].count(call["id"]) > 1:
                index = config.get("metadata", {}).get("langgraph_path")  # which of the Sends this is
            identity = json.dumps([thread_id, message_id, index, call["id"], signature])
            key = hashlib.sha256(identity.encode()).hexdigest()[:32]
            items.append(_Item(call, action, key, tool_runtime, input_type))
        return items, input_type

    def _judge(self, items: list[_Item], config: RunnableConfig) -> Steps[list[_Item]]:
        """The items with what the policy says of them now."""
        Asker.of(config, self.ledger, type(self).__name__)
        judged = []
        for item in items:
            if item.action is not None and (self._wraps or item.call["name"] in self.tools_by_name):
                verdict = yield from self.policy.steps(self._call(item, item.action))
                if isinstance(human := self.tools_by_name.get(item.call["name"]), AskHuman):
                    verdict = human.judged(verdict)
                item = replace(item, verdict=verdict)
            judged.append(item)
        return judged

    @staticmethod
    def _is_quiet(items: list[_Item]) -> bool:
        """Whether no person has to be asked, so that all may run at once."""
        return not any(item.verdict and item.verdict.outcome == "ask" for item in items)

    def _remember(self, items: list[_Item], config: RunnableConfig) -> Steps[list[_Item]]:
        """The items with their final verdicts: what people were once asked about is never waved through later."""
        ledger = Asker.of(config, self.ledger, type(self).__name__).ledger
        asked = yield blocking(ledger.read, requests.for_actions, [item.key for item in items])
        final = []
        for item in items:
            before: list[Request] = [request for request in asked[item.key] if request.kind == "approval"]
            if item.verdict is not None and before:
                first = Verdict("ask", before[0].reason, before[0].allowed, before[0].editable)
                item = replace(item, verdict=first.stricter(item.verdict))
            final.append(item)
        return final

    def _call(self, item: _Item, action: Action) -> Call:
        tool = self.tools_by_name.get(action.name)
        return Call(action.name, action.args, item.call["id"], item.runtime.state, (tool and tool.metadata) or {})

    def _invalid(self, input: Any) -> list[ToolMessage]:
        """Answers to calls whose arguments were not even JSON; without them the model's next turn is refused."""
        state = input if isinstance(input, list) else _read(input, self._messages_key)
        last = next((m for m in reversed(state or []) if isinstance(m, AIMessage)), None)
        return [replies.not_json(call) for call in (last.invalid_tool_calls if last else []) if call.get("id")]

    # --- one call ------------------------------------------------------------------------------------------------

    def _allowed(self, item: _Item, config: RunnableConfig, alone: bool) -> Steps[Output | None]:
        """A call that no person is asked about. None: it needs a task of its own after all."""
        asker = Asker.of(config, self.ledger, type(self).__name__)
        if refusal := self._refusal(item):
            yield blocking(asker.dropped, item.key)
            return refusal
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        effect = Effect(asker.ledger, item.key, asker.thread_id, action, Authority(verdict.reason), alone=alone)
        ended = yield from effect.steps(self._execution(item, action, config))
        return cast(Output, ended.result) if isinstance(ended, Outcome) else None

    def _gated(self, item: _Item, config: RunnableConfig) -> Steps[Output]:
        """A call in a task of its own: ask if need be, run if it may, ask again if its end is not known."""
        asker = Asker.of(config, self.ledger, type(self).__name__)
        if refusal := self._refusal(item):
            yield blocking(asker.dropped, item.key)
            return refusal
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        if isinstance(human := self.tools_by_name.get(action.name), AskHuman):
            origin = partial(origin_of, asker, graph=self.graph, version=self.version)
            asking = human.asking(asker, item.call, item.key, verdict, origin)
            return self._misfit(item, config) or (yield from asking)
        authority, questions, notice, terms = Authority(verdict.reason), 0, None, None
        known = yield blocking(asker.ledger.read, effects.ended, item.key)
        if verdict.outcome == "ask" and known is None:
            if problem := self._misfit(item, config):
                yield blocking(asker.dropped, item.key)
                return problem
            tool = self.tools_by_name.get(action.name)
            answer = yield from consent.ask(
                asker, verdict, action,
                lambda: origin_of(asker, graph=self.graph, version=self.version, tool=tool),
                describe=lambda action, verdict: self._approval(item, asker.thread_id, action, verdict),
                call=lambda action: self._call(item, action),
                judge=lambda action: self.policy.steps(self._call(item, action)),
                begun=(yield blocking(asker.ledger.read, effects.begun, item.key)),
            )  # fmt: skip
            request, decision, questions = answer.request, answer.decision, answer.questions
            if answer.action is None:
                yield blocking(asker.delivered, request.id)
                if answer.denied is not None:
                    return replies.denied(item.call, answer.denied)
                return replies.instead(item.call, decision, by=request.channel)
            if not alike(request.answer_schema, _schema(tool)):
                yield blocking(asker.delivered, request.id)
                return replies.changed(item.call)
            if answer.action != action:
                notice = replies.edited(answer.action)
            action, terms = answer.action, request.terms
            authority = Authority(f"{decision.type} by {request.reviewer or asker.reviewer}", request.id)
        for attempt in count(known or 1):
            effect = Effect(asker.ledger, item.key, asker.thread_id, action, authority, attempt)
            ended = yield from effect.steps(self._execution(item, action, config, notice))
            if isinstance(ended, Outcome):
                if authority.request_id is not None:
                    yield blocking(asker.delivered, authority.request_id)
                return cast(Output, ended.result)
            if isinstance(ended, Asked):
                raise PermitError(f"people were asked about {action.name} and their answer is missing; it did not run")
            if is_idempotent(self.tools_by_name.get(action.name)):
                authority = replace(authority, retry=True)
                continue
            if ended.pauses:  # LangGraph counts its questions and ours together, so that ours could take its answer
                raise OutcomeUnknownError(
                    f"{action.name} asked questions of its own and then {ended.error or 'was cut off'}. It was not run"
                    " again. Find out what it did, and go on from a new message or a fork"
                )
            request, decision = yield blocking(asker.ask, questions, self._question(item, action, ended, asker, terms))
            questions += 1
            if decision.type != "approve":
                result = replies.found_out(item.call, decision)
                yield blocking(effect.resolve, ended, request.id, decision.type == "respond", result)
                yield blocking(asker.delivered, request.id)
                return result
            authority = Authority(f"run again by {request.reviewer or asker.reviewer}", request.id)
        raise AssertionError("unreachable")

    def _refusal(self, item: _Item) -> Output | None:
        """The answer to a call that never gets as far as being judged, or that the policy denies."""
        if item.action is None:
            return replies.not_plain(item.call)
        if item.verdict is None:
            return self._validate_tool_call(item.call)
        if item.verdict.outcome == "deny":
            return replies.denied(item.call, item.verdict.reason)
        return None

    def _misfit(self, item: _Item, config: RunnableConfig) -> Output | None:
        """Arguments that the tool would refuse: the model is told at once, no person is bothered."""
        tool = self.tools_by_name.get(item.call["name"])
        schema = tool and tool.tool_call_schema
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            try:
                schema.model_validate(item.call["args"])
            except ValidationError as exc:
                errors = exc.errors(include_url=False)
                refusing: Any = _Refusing(ToolInvocationError(item.call["name"], exc, item.call["args"], errors))
                request = ToolCallRequest(item.call, refusing, item.runtime.state, item.runtime)
                return self._execute_tool_sync(request, item.input_type, config)
        return None

    def _execution(self, item: _Item, action: Action, config: RunnableConfig, notice: str | None = None) -> Step:
        call = cast(ToolCall, {**item.call, "args": dict(action.args)})
        runtime = replace(item.runtime, config=config)

        def sync() -> Any:
            return replies.with_notice(self._run_one(call, item.input_type, runtime), notice)

        async def awaited() -> Any:
            return replies.with_notice(await self._arun_one(call, item.input_type, runtime), notice)

        return Step(sync, awaited, whole=_runs_in_a_thread(self.tools_by_name.get(action.name)))

    def _approval(self, item: _Item, thread_id: str, action: Action, verdict: Verdict) -> Callable[[str, str], Request]:
        """The question whether a call may run."""
        tool = self.tools_by_name.get(action.name)

        def describe(request_id: str, interrupt_id: str) -> Request:
            return Request(
                id=request_id,
                kind="approval",
                thread_id=thread_id,
                interrupt_id=interrupt_id,
                action=action,
                allowed=verdict.allowed,
                editable=verdict.editable,
                answer_schema=_schema(tool),
                description=tool.description if tool else "",
                reason=verdict.reason,
                tool_call_id=item.call["id"],
                action_key=item.key,
                model_digest=_model(item.runtime.state, self._messages_key),
            )

        return describe

    def _question(
        self, item: _Item, action: Action, lost: Lost, asker: Asker, terms: Terms | None
    ) -> Callable[[str, str], Request]:
        """The question what became of a call: for the people who let it run, and no silence answers it."""

        def describe(request_id: str, interrupt_id: str) -> Request:
            return Request(
                id=request_id,
                kind="question",
                thread_id=asker.thread_id,
                interrupt_id=interrupt_id,
                action=action,
                allowed=("approve", "reject", "respond"),
                labels={
                    "approve": "run it again",
                    "reject": "it was not done",
                    "respond": "it was done, with this result",
                },
                description=f"Did this happen? {action.name} was started, and {lost.error}.",
                reason=f"the outcome is {lost.outcome}; it is not run again without a person",
                tool_call_id=item.call["id"],
                action_key=item.key,
                terms=terms and terms.unscheduled,
            )

        return describe


def _message(state: Any, key: str, calls: list[ToolCall]) -> AIMessage | None:
    """The message that makes these calls: its id tells apart calls to which a model gave the same id."""
    ids = {call["id"] for call in calls}
    messages: list[AnyMessage] = state if isinstance(state, list) else _read(state, key) or []
    for message in reversed(messages):
        if isinstance(message, AIMessage) and ids <= {call["id"] for call in message.tool_calls}:
            return message
    return None


def _read(state: Any, key: str) -> Any:
    return state.get(key) if isinstance(state, dict) else getattr(state, key, None)


def _task_namespace(config: RunnableConfig) -> str:
    return str(config.get("configurable", {}).get("checkpoint_ns", ""))


def _model(state: Any, key: str) -> str | None:
    """Which model proposed the call, as it names itself."""
    messages = state if isinstance(state, list) else _read(state, key) or []
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    name = last.response_metadata.get("model_name") if last else None
    return hashlib.sha256(str(name).encode()).hexdigest() if name else None


class _Refusing:
    """In place of a tool: only says what is wrong with the arguments, so that `handle_tool_errors` words it."""

    def __init__(self, error: ToolInvocationError) -> None:
        self._error = error

    def invoke(self, *_: object) -> NoReturn:
        raise self._error


def _schema(tool: BaseTool | None) -> dict[str, Any] | None:
    schema = tool.tool_call_schema if tool else None
    if schema is None or isinstance(schema, dict):
        return schema
    return schema.model_json_schema() if issubclass(schema, BaseModel) else None


def _runs_in_a_thread(tool: BaseTool | None) -> bool:
    """Whether `ainvoke` only waits for a thread, which no cancellation stops."""
    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is None
    return tool is not None and type(tool)._arun is BaseTool._arun


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BaseException as exc:
        return exc


def _together(outcomes: list[Any]) -> list[Output] | None:
    """The outputs of calls that ran at once. None: some need tasks of their own, the others have their results."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failed:
        if len(outcomes) == 1 or not isinstance(failure, GraphInterrupt):
            raise failure
    if failed or None in outcomes:  # LangGraph gives the answers to one task's questions in the order of asking
        return None
    return cast(list[Output], outcomes)


def _gathered(outcomes: list[Any]) -> list[Output]:
    """The outputs of all tasks; a failure first of all, else one pause for all that are paused."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, GraphInterrupt):
            raise outcome
    if paused := [outcome for outcome in outcomes if isinstance(outcome, GraphInterrupt)]:
        raise GraphInterrupt(tuple(interrupt for pause in paused for interrupt in pause.args[0]))
    return cast(list[Output], outcomes)
