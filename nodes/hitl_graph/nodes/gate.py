"""`Gate`: one tool call on its way through policy, people and permit to its effect.

Whoever owns a gate says which calls there are and how a tool is run (`ApprovalNode`, the middleware of LangChain, the
functional API); what may run, and that it runs at most once, is decided here, the same for all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Protocol, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from hitl_graph.effects import Asked, Effect, Outcome, Stopped, is_idempotent
from hitl_graph.errors import OutcomeUnknownError, PermitError
from hitl_graph.learning.routing import Subject, route
from hitl_graph.ledger import Ledger, effects, requests
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Action, Request
from hitl_graph.nodes import consent, denying, permitting, questions, replies
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import Item, asked_for, model_of, schema_of
from hitl_graph.nodes.human import AskHuman
from hitl_graph.nodes.terms import graph_of, on_terms, origin_of
from hitl_graph.nodes.verdicts import DRAW, Judged, Routing, judge
from hitl_graph.policy import Call, Mode, Policy, Verdict
from hitl_graph.policy.modes import under
from hitl_graph.schema import alike
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.terms import Origin, Terms
from hitl_graph.wire import BRIDGE, Client

__all__ = ["Gate", "Output", "Runner"]

Output = ToolMessage | Command[Any] | list[ToolMessage | Command[Any]]
_UNATTENDED: tuple[Mode, ...] = ("dont-ask",)


class Runner(Protocol):
    """What the owner of a gate does with a call: run its tool, or word what is wrong with its arguments."""

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        """The step that runs the tool with the arguments of `action`, and gives what the model is told."""
        ...

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> Output:
        """What the model is told of arguments that the tool would refuse."""
        ...


@dataclass(frozen=True)
class Gate:
    """What one tool call passes before it runs, and what it is run under.

    Attributes:
        owner: Whose gate it is, for errors.
        graph, version: Of the graph, as grants and switches name it. The server's name of the graph, unless given.
        edited: Told to the model with the result of a call that people changed.
        described: What people are told of a call, if not what its tool says of itself.
        client: For which questions are shown.
    """

    policy: Policy
    ledger: Ledger | None
    runner: Runner
    owner: str = "ApprovalNode"
    graph: str | None = None
    version: str | None = None
    messages_key: str = "messages"
    edited: Callable[[Action], str | None] = replies.edited
    described: Callable[[Item, Action], str] | None = None
    client: Client = BRIDGE
    alone: bool = True
    """Its calls have a LangGraph task each. Where they have not, only `ask_together` can ask about them."""

    def judged(self, items: list[Item], config: RunnableConfig) -> Steps[list[Item]]:
        """The items with what the policy says of them now."""
        self.asker(config)
        judged = []
        for item in items:
            if item.action is not None and item.refused is None:
                how = yield from self._judge(item, item.action, config)
                item = replace(item, verdict=how.verdict, judged=how)
            judged.append(item)
        return judged

    def asker(self, config: RunnableConfig) -> Asker:
        """Who asks in this task.

        Raises:
            LedgerMissingError: There is no ledger, or the run has no thread.
        """
        return replace(Asker.of(config, self.ledger, self.owner, self.client), alone=self.alone)

    def _verdict(self, item: Item, action: Action, config: RunnableConfig) -> Steps[Verdict]:
        """What the policy says of what people have looked at."""
        call, mode = self._call(item, action), config.get("configurable", {}).get("hitl_mode")
        return self._on_questions(item, (yield from self.policy.steps(call, mode=mode)), call, config)

    def _judge(self, item: Item, action: Action, config: RunnableConfig) -> Steps[Judged]:
        call, mode = self._call(item, action), config.get("configurable", {}).get("hitl_mode")
        is_question = isinstance(item.tool, AskHuman)
        judged = yield from judge(self.policy, call, mode, None if is_question else self._routing(item, action, config))
        return replace(judged, verdict=self._on_questions(item, judged.verdict, call, config))

    def _routing(self, item: Item, action: Action, config: RunnableConfig) -> Routing:
        asker = self.asker(config)
        subject = Subject(
            key=item.key,
            thread_id=asker.thread_id,
            tool=action.name,
            output=action.args,
            input=asked_for(item.runtime.state, self.messages_key),
            model=model_of(item.runtime.state, self.messages_key) or "",
            schema=schema_of(item.tool),
            action=action,
            tool_call_id=item.call["id"],
        )
        return lambda unsure, call: route(unsure, asker.ledger, subject, call)

    def _on_questions(self, item: Item, verdict: Verdict, call: Call, config: RunnableConfig) -> Verdict:
        """The verdict on a tool that asks a person itself is about asking."""
        if not isinstance(human := item.tool, AskHuman):
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

    def remembered(self, items: list[Item], config: RunnableConfig) -> Steps[list[Item]]:
        """The items with their final verdicts: what people were once asked about is never waved through later."""
        ledger = self.asker(config).ledger
        asked = yield blocking(ledger.read, requests.for_actions, [item.key for item in items])
        final = []
        for item in items:
            before: list[Request] = [request for request in asked[item.key] if request.kind == "approval"]
            if item.verdict is not None and before:
                first = Verdict("ask", before[0].reason, before[0].allowed, before[0].editable, risk=before[0].risk)
                now = item.verdict.asking or item.verdict
                item = replace(item, verdict=first.stricter(now), asked=True, answered=_answered(before))
            escalated = any(request.kind == "escalation" for request in asked[item.key])
            final.append(replace(item, escalated=escalated))
        return final

    def _call(self, item: Item, action: Action) -> Call:
        tool = item.tool
        metadata = {**((tool and tool.metadata) or {}), DRAW: item.key}
        return Call(action.name, action.args, item.call["id"], item.runtime.state, metadata)

    def allowed(self, item: Item, config: RunnableConfig, alone: bool) -> Steps[Output | None]:
        """A call that no person is asked about. None: it needs a task of its own after all."""
        asker = self.asker(config)
        if item.refused is not None:
            return (yield from self._refused(item, asker, item.refused))
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        if verdict.outcome == "deny":
            return (yield from denying.at_once(asker, item, verdict.reason, limit=self._denials(config)))
        authority = Authority(verdict.reason)
        effect = self._effect(item, asker, action, authority, alone=alone)
        ended = yield from effect.steps(self._running(item, action, config))
        if isinstance(ended, Stopped):
            told = replies.stopped(item.call, ended.switch.told)
            return (yield from denying.at_once(asker, item, ended.switch.told, told, limit=self._denials(config)))
        return cast(Output, ended.result) if isinstance(ended, Outcome) else None

    def ask_together(self, items: list[Item], config: RunnableConfig) -> Steps[None]:
        """Ask with one interrupt about all calls of a message that need it, and pause until all are decided.

        Args:
            items: With their final verdicts. Of those without a tool, only what was asked before is asked.
        """
        asker = self.asker(config)
        known = yield blocking(asker.ledger.read, requests.for_actions, [item.key for item in items])
        before = [request for found in known.values() for request in found if asker.asks_with(request)]
        questions = [_stored(request) for request in sorted(before, key=lambda request: request.position or 0)]
        for item in items if not questions else ():
            if verdict := (yield from self._asks(item, asker)):
                where = self._origin(asker, item.tool)
                action = cast(Action, item.action)
                fresh = yield from consent.looked_up(verdict, self._call(item, action))
                questions.append(on_terms(self._question(item, asker, action, verdict), asker, verdict, where, fresh))
        if questions:
            yield blocking(asker.ask_all, questions)

    def _asks(self, item: Item, asker: Asker) -> Steps[Verdict | None]:
        """Why people are asked about a call before it runs; None if they are not, or not about its approval."""
        action, verdict = item.action, item.verdict
        asking = verdict and verdict.asking
        if action is None or asking is None or item.refused or item.escalated:
            return None
        if item.tool is None or isinstance(item.tool, AskHuman):
            return None
        if (yield blocking(asker.ledger.read, effects.begun, item.key)) or self._misfit(item, asker.config):
            return None
        if item.asked:
            return asking
        where = self._origin(asker, item.tool)
        authority, _ = yield blocking(permitting.look, asker, asking, action, item.key, where)
        return None if authority is not None or self._is_unattended(asker.config) else asking

    def gated(self, item: Item, config: RunnableConfig) -> Steps[Output]:
        """A call in a task of its own: ask if need be, run if it may, ask again if its end is not known."""
        asker = self.asker(config)
        if item.refused is not None:
            return (yield from self._refused(item, asker, item.refused))
        action, verdict = cast(Action, item.action), cast(Verdict, item.verdict)
        tool, asking = item.tool, verdict.asking
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

    def _question(self, item: Item, asker: Asker, action: Action, verdict: Verdict) -> Callable[[str, str], Request]:
        described = self.described(item, action) if self.described else item.tool.description if item.tool else ""
        return questions.may_it_run(item, asker.thread_id, action, verdict, described, self.messages_key)

    def _asked(self, item: Item, asker: Asker, verdict: Verdict, action: Action) -> Steps[Output]:
        """A call about which people are asked."""
        tool = item.tool

        def judge(action: Action) -> Steps[Verdict]:
            now = yield from self._verdict(item, action, asker.config)
            return now.asking or now

        answer = yield from consent.ask(
            asker, verdict, action, self._origin(asker, tool),
            describe=lambda action, verdict: self._question(item, asker, action, verdict),
            call=lambda action: self._call(item, action),
            judge=judge,
            begun=(yield blocking(asker.ledger.read, effects.begun, item.key)),
            first=item.answered,
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
        notice = self.edited(answer.action) if answer.action != action else None
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
            ended = yield from effect.steps(self._running(item, action, asker.config, notice))
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
                where = self._origin(asker, item.tool)
                return (yield from denying.alone(asker, item, where, ended.switch.told, told, limit=limit))
            if is_idempotent(item.tool):
                authority = replace(authority, retry=True)
                continue
            if ended.pauses:  # LangGraph counts its questions and ours together, so that ours could take its answer
                raise OutcomeUnknownError(
                    f"{action.name} asked questions of its own and then {ended.error or 'was cut off'}. It was not run"
                    " again. Find out what it did, and go on from a new message or a fork"
                )
            if not asker.alone:
                raise OutcomeUnknownError(
                    f"{action.name} was started, and then {ended.error or 'was cut off'}. It was not run again, and"
                    " people cannot be asked about it beside the other calls of its message. Find out what it did, and"
                    " answer the call: update_state(config, {'messages': [ToolMessage(...)]}, as_node='tools')"
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

    def _refused(self, item: Item, asker: Asker, told: ToolMessage) -> Steps[ToolMessage]:
        """The answer to a call that cannot be judged here; one that people let run is not dropped without a word."""
        asked: dict[str, list[Request]] = yield blocking(asker.ledger.read, requests.for_actions, [item.key])
        for request in asked[item.key]:
            if request.kind == "approval" and request.state == "decided" and effects.authority_of(request):
                raise PermitError(
                    f"request {request.id} lets {item.call['name']} run, and this graph has no such tool; it did not"
                    " run. Go on with the graph that asked"
                )
        yield blocking(asker.dropped, item.key)
        return told

    def _effect(self, item: Item, asker: Asker, action: Action, authority: Authority, **how: Any) -> Effect:
        graph = graph_of(asker.config, self.graph)
        return Effect(asker.ledger, item.key, asker.thread_id, action, authority, graph=graph, **how)

    def _misfit(self, item: Item, config: RunnableConfig) -> Output | None:
        """Arguments that the tool would refuse: the model is told at once, no person is bothered."""
        schema = item.tool and item.tool.tool_call_schema
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            try:
                schema.model_validate(item.call["args"])
            except ValidationError as exc:
                errors = exc.errors(include_url=False)
                return self.runner.unfit(
                    item, ToolInvocationError(item.call["name"], exc, item.call["args"], errors), config
                )
        return None

    def _running(self, item: Item, action: Action, config: RunnableConfig, notice: str | None = None) -> Step:
        """The step that runs the tool; a notice for the model is recorded with the result."""
        step = self.runner.running(item, action, config)
        return step if notice is None else step.then(lambda output: replies.with_notice(output, notice))


def _stored(request: Request) -> Callable[[str, str], Request]:
    def describe(request_id: str, interrupt_id: str) -> Request:
        return request

    return describe


def _answered(before: list[Request]) -> Request | None:
    """The last question about a call that was asked in one go with those about others, if it is decided."""
    together = [request for request in before if request.position is not None]
    last = together[-1] if together else None
    return last if last and last.decision and last.state in ("decided", "delivered") else None


def _unanswered(action: Action) -> PermitError:
    return PermitError(f"people were asked about {action.name} and their answer is missing; it did not run")
