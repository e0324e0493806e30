"""`ApprovalNode`: a `ToolNode` that asks people before a call runs.

Calls that the policy allows run at once, as in `ToolNode`. As soon as one call of a message has to be asked about,
each call becomes a LangGraph task of its own, so that each is asked, answered and run independently of the others.
Whatever the way, an action runs only through `hitl_graph.effects`, under a permit.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, cast

from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_executor_for_config
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.func import task
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from hitl_graph.effects import Asked, Effect, Outcome, Stopped, is_idempotent
from hitl_graph.errors import OutcomeUnknownError, PermitError
from hitl_graph.ledger import Ledger, effects, requests
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Action, Request
from hitl_graph.nodes import consent, denying, permitting, questions, replies, together
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import (
    InputType,
    Item,
    Refusing,
    items_of,
    part_of,
    runs_in_a_thread,
    schema_of,
)
from hitl_graph.nodes.human import AskHuman
from hitl_graph.nodes.terms import graph_of, origin_of
from hitl_graph.nodes.wrapping import abound, bound
from hitl_graph.policy import Call, Mode, Policy, Verdict
from hitl_graph.policy.modes import under
from hitl_graph.schema import alike
from hitl_graph.steps import Step, Steps, arun, blocking, run
from hitl_graph.terms import Origin, Terms

__all__ = ["ApprovalNode"]

Output = ToolMessage | Command[Any] | list[ToolMessage | Command[Any]]
_UNATTENDED: tuple[Mode, ...] = ("dont-ask",)


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
            outputs = together.at_once(self._run_together(items, config))
        if outputs is None:
            items = run(self._remember(items, config))
            tasks = [self._sync_task(item) for item in items]
            outputs = together.all_of([together.outcome(t.result) for t in tasks])
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    async def _afunc(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        items, input_type = self._items(input, config, runtime)
        items = await arun(self._judge(items, config))
        outputs: list[Output] | None = None
        if self._is_quiet(items):
            runs = [arun(self._allowed(item, config, len(items) == 1)) for item in items]
            outputs = together.at_once(await asyncio.gather(*runs, return_exceptions=True))
        if outputs is None:
            items = await arun(self._remember(items, config))
            tasks = [self._async_task(item) for item in items]
            outputs = together.all_of(await asyncio.gather(*tasks, return_exceptions=True))
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    def _run_together(self, items: list[Item], config: RunnableConfig) -> list[Any]:
        def ended(item: Item) -> Any:
            return together.outcome(lambda: run(self._allowed(item, config, len(items) == 1)))

        if len(items) == 1:
            return [ended(items[0])]
        with get_executor_for_config(config) as executor:
            return list(executor.map(ended, items))

    def _run_task(self, item: Item) -> Output:
        return run(self._gated(item, get_config()))

    async def _arun_task(self, item: Item) -> Output:
        return await arun(self._gated(item, get_config()))

    # --- judging -------------------------------------------------------------------------------------------------

    def _items(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> tuple[list[Item], InputType]:
        calls, input_type = self._parse_input(input)
        state, tools = self._extract_state(input, config), list(self.tools_by_name.values())
        return items_of(calls, input_type, state, self._messages_key, config, runtime, tools), input_type

    def _judge(self, items: list[Item], config: RunnableConfig) -> Steps[list[Item]]:
        """The items with what the policy says of them now."""
        Asker.of(config, self.ledger, type(self).__name__)
        judged = []
        for item in items:
            if item.action is not None and (self._wraps or item.call["name"] in self.tools_by_name):
                verdict = yield from self._verdict(item, item.action, config)
                item = replace(item, verdict=verdict)
            judged.append(item)
        return judged

    def _verdict(self, item: Item, action: Action, config: RunnableConfig) -> Steps[Verdict]:
        call, mode = self._call(item, action), config.get("configurable", {}).get("hitl_mode")
        verdict = yield from self.policy.steps(call, mode=mode)
        if not isinstance(human := self.tools_by_name.get(action.name), AskHuman):
            return verdict
        # It has no effects, so that it may be done while planning.
        by_rules = Verdict("allow", verdict.reason) if verdict.mode == "shadow" else verdict.rules or verdict
        asks = human.judged(by_rules)
        return under(_UNATTENDED, asks, call) if self._is_unattended(config) else asks

    def _denials(self, config: RunnableConfig) -> int | None:
        """From how many denials in a row people are asked; None: never."""
        return None if self._is_unattended(config) else self.policy.max_denials

    def _is_unattended(self, config: RunnableConfig) -> bool:
        return "dont-ask" in self.policy.modes(config.get("configurable", {}).get("hitl_mode"))

    @staticmethod
    def _is_quiet(items: list[Item]) -> bool:
        """Whether no person has to be asked, so that all may run at once."""
        return not any(item.verdict and item.verdict.asking for item in items)

    def _remember(self, items: list[Item], config: RunnableConfig) -> Steps[list[Item]]:
        """The items with their final verdicts: what people were once asked about is never waved through later."""
        ledger = Asker.of(config, self.ledger, type(self).__name__).ledger
        asked = yield blocking(ledger.read, requests.for_actions, [item.key for item in items])
        final = []
        for item in items:
            before: list[Request] = [request for request in asked[item.key] if request.kind == "approval"]
            if item.verdict is not None and before:
                first = Verdict("ask", before[0].reason, before[0].allowed, before[0].editable, risk=before[0].risk)
                now = item.verdict.asking or item.verdict
                item = replace(item, verdict=first.stricter(now), asked=True)
            escalated = any(request.kind == "escalation" for request in asked[item.key])
            final.append(replace(item, escalated=escalated))
        return final

    def _call(self, item: Item, action: Action) -> Call:
        tool = self.tools_by_name.get(action.name)
        return Call(action.name, action.args, item.call["id"], item.runtime.state, (tool and tool.metadata) or {})

    def _invalid(self, input: Any) -> list[ToolMessage]:
        """Answers to calls whose arguments were not even JSON; without them the model's next turn is refused."""
        state = input if isinstance(input, list) else part_of(input, self._messages_key)
        last = next((m for m in reversed(state or []) if isinstance(m, AIMessage)), None)
        return [replies.not_json(call) for call in (last.invalid_tool_calls if last else []) if call.get("id")]

    # --- one call ------------------------------------------------------------------------------------------------

    def _allowed(self, item: Item, config: RunnableConfig, alone: bool) -> Steps[Output | None]:
        """A call that no person is asked about. None: it needs a task of its own after all."""
        asker = Asker.of(config, self.ledger, type(self).__name__)
        if refusal := self._refusal(item):
            yield blocking(asker.dropped, item.key)
            return refusal
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        if verdict.outcome == "deny":
            return (yield from denying.at_once(asker, item, verdict.reason, limit=self._denials(config)))
        authority = Authority(verdict.reason)
        effect = self._effect(item, asker, action, authority, alone=alone)
        ended = yield from effect.steps(self._execution(item, action, config))
        if isinstance(ended, Stopped):
            told = replies.stopped(item.call, ended.switch.told)
            return (yield from denying.at_once(asker, item, ended.switch.told, told, limit=self._denials(config)))
        return cast(Output, ended.result) if isinstance(ended, Outcome) else None

    def _gated(self, item: Item, config: RunnableConfig) -> Steps[Output]:
        """A call in a task of its own: ask if need be, run if it may, ask again if its end is not known."""
        asker = Asker.of(config, self.ledger, type(self).__name__)
        if refusal := self._refusal(item):
            yield blocking(asker.dropped, item.key)
            return refusal
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        tool, asking = self.tools_by_name.get(action.name), verdict.asking
        where = self._origin(asker, tool)
        if item.escalated or (verdict.outcome == "deny" and (asking is None or isinstance(tool, AskHuman))):
            return (yield from denying.alone(asker, item, where, verdict.reason, limit=self._denials(config)))
        if isinstance(tool, AskHuman):
            return self._misfit(item, config) or (
                yield from tool.asking(asker, item.call, item.key, cast(Verdict, asking), where)
            )
        known = yield blocking(asker.ledger.read, effects.ended, item.key)
        if known is not None:
            return (yield from self._carried_out(item, asker, action, Authority(verdict.reason), first=known))
        if asking is not None and (problem := self._misfit(item, config)):
            yield blocking(asker.dropped, item.key)
            return problem
        authority: Authority | None = Authority(verdict.reason)
        terms: Terms | None = None
        if asking is not None:
            authority = None
            if not item.asked:
                authority, terms = yield blocking(permitting.look, asker, asking, action, item.key, where)
        if authority is not None:
            ended = yield from self._carry_out(item, asker, action, authority, terms=terms)
            if not isinstance(ended, Asked):
                return ended
            if asking is None and not ended.reason:
                raise _unanswered(action)
            asking = asking or Verdict("ask", ended.reason)
            asking = replace(asking, reason=ended.reason or asking.reason)
            if problem := self._misfit(item, config):
                yield blocking(asker.dropped, item.key)
                return problem
        asking = cast(Verdict, asking)
        if not item.asked and self._is_unattended(config):
            reason = under(_UNATTENDED, asking, self._call(item, action)).reason
            return (yield from denying.alone(asker, item, where, reason, limit=None))
        return (yield from self._asked(item, asker, asking, action))

    def _origin(self, asker: Asker, tool: BaseTool | None) -> Callable[[], Origin | None]:
        return partial(origin_of, asker, graph=self.graph, version=self.version, tool=tool)

    def _asked(self, item: Item, asker: Asker, verdict: Verdict, action: Action) -> Steps[Output]:
        """A call about which people are asked."""
        tool, key = self.tools_by_name.get(action.name), self._messages_key

        def judge(action: Action) -> Steps[Verdict]:
            now = yield from self._verdict(item, action, asker.config)
            return now.asking or now

        answer = yield from consent.ask(
            asker, verdict, action, self._origin(asker, tool),
            describe=lambda action, verdict: questions.may_it_run(item, asker.thread_id, action, verdict, tool, key),
            call=lambda action: self._call(item, action),
            judge=judge,
            begun=(yield blocking(asker.ledger.read, effects.begun, item.key)),
        )  # fmt: skip
        request, decision = answer.request, answer.decision
        if answer.action is None:
            yield blocking(asker.delivered, request.id)
            if answer.denied is not None:
                yield blocking(denying.record, asker, item.key, action, answer.denied, None)
                return replies.denied(item.call, answer.denied)
            return replies.instead(item.call, decision, by=request.channel)
        if not alike(request.answer_schema, schema_of(tool)):
            yield blocking(asker.delivered, request.id)
            return replies.changed(item.call)
        notice = replies.edited(answer.action) if answer.action != action else None
        authority = Authority(f"{decision.type} by {request.reviewer or asker.reviewer}", request.id)
        return (
            yield from self._carried_out(
                item, asker, answer.action, authority, asked=answer.questions, notice=notice, terms=request.terms
            )
        )

    def _carried_out(self, item: Item, asker: Asker, action: Action, authority: Authority, **how: Any) -> Steps[Output]:
        """As `_carry_out`, of what nobody has to be asked about any more."""
        ended = yield from self._carry_out(item, asker, action, authority, **how)
        if isinstance(ended, Asked):
            raise _unanswered(action)
        return ended

    def _carry_out(
        self, item: Item, asker: Asker, action: Action, authority: Authority, *, first: int = 1, asked: int = 0,
        notice: str | None = None, terms: Terms | None = None,
    ) -> Steps[Output | Asked]:  # fmt: skip
        """Run it; if its end is not known, ask what became of it. `Asked`: the authority does not reach.

        Args:
            first: The attempt to begin with.
            asked: How many questions this task has asked.
            terms: On which people are asked what became of it.
        """
        for attempt in count(first):
            effect = self._effect(item, asker, action, authority, attempt=attempt)
            ended = yield from effect.steps(self._execution(item, action, asker.config, notice))
            if isinstance(ended, Outcome):
                if authority.request_id is not None:
                    yield blocking(asker.delivered, authority.request_id)
                return cast(Output, ended.result)
            if isinstance(ended, Asked):
                return ended
            if isinstance(ended, Stopped):
                if authority.request_id is not None:
                    yield blocking(asker.delivered, authority.request_id)
                told = replies.stopped(item.call, ended.switch.told, again=attempt > 1)
                limit = None if asked else self._denials(asker.config)
                where = self._origin(asker, self.tools_by_name.get(action.name))
                return (yield from denying.alone(asker, item, where, ended.switch.told, told, limit=limit))
            if is_idempotent(self.tools_by_name.get(action.name)):
                authority = replace(authority, retry=True)
                continue
            if ended.pauses:  # LangGraph counts its questions and ours together, so that ours could take its answer
                raise OutcomeUnknownError(
                    f"{action.name} asked questions of its own and then {ended.error or 'was cut off'}. It was not run"
                    " again. Find out what it did, and go on from a new message or a fork"
                )
            became = questions.what_became(item, asker.thread_id, action, ended, terms)
            request, decision = yield blocking(asker.ask, asked, became)
            asked += 1
            if decision.type != "approve":
                result = replies.found_out(item.call, decision)
                yield blocking(effect.resolve, ended, request.id, decision.type == "respond", result)
                yield blocking(asker.delivered, request.id)
                return result
            authority = Authority(f"run again by {request.reviewer or asker.reviewer}", request.id)
        raise AssertionError("unreachable")

    def _effect(self, item: Item, asker: Asker, action: Action, authority: Authority, **how: Any) -> Effect:
        graph = graph_of(asker.config, self.graph)
        return Effect(asker.ledger, item.key, asker.thread_id, action, authority, graph=graph, **how)

    # --- the tool ------------------------------------------------------------------------------------------------

    def _refusal(self, item: Item) -> Output | None:
        """The answer to a call that never gets as far as being judged."""
        if item.action is None:
            return replies.not_plain(item.call)
        if item.verdict is None:
            return self._validate_tool_call(item.call)
        return None

    def _misfit(self, item: Item, config: RunnableConfig) -> Output | None:
        """Arguments that the tool would refuse: the model is told at once, no person is bothered."""
        tool = self.tools_by_name.get(item.call["name"])
        schema = tool and tool.tool_call_schema
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            try:
                schema.model_validate(item.call["args"])
            except ValidationError as exc:
                errors = exc.errors(include_url=False)
                refusing: Any = Refusing(ToolInvocationError(item.call["name"], exc, item.call["args"], errors))
                request = ToolCallRequest(item.call, refusing, item.runtime.state, item.runtime)
                return self._execute_tool_sync(request, item.input_type, config)
        return None

    def _execution(self, item: Item, action: Action, config: RunnableConfig, notice: str | None = None) -> Step:
        call = cast(ToolCall, {**item.call, "args": dict(action.args)})
        runtime = replace(item.runtime, config=config)

        def sync() -> Any:
            return replies.with_notice(self._run_one(call, item.input_type, runtime), notice)

        async def awaited() -> Any:
            return replies.with_notice(await self._arun_one(call, item.input_type, runtime), notice)

        return Step(sync, awaited, whole=runs_in_a_thread(self.tools_by_name.get(action.name)))


def _unanswered(action: Action) -> PermitError:
    return PermitError(f"people were asked about {action.name} and their answer is missing; it did not run")
