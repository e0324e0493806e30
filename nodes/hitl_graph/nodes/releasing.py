"""A draft on its way out: checks, the policy, people, and its delivery under a permit for exactly that draft.

`OutputReviewNode` and the middleware for agents of LangChain differ in where the draft is and where the graph goes on;
what becomes of a draft is decided here.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph.message import push_message
from pydantic import JsonValue, ValidationError

from hitl_graph.effects import Asked, Effect, Outcome, Stopped
from hitl_graph.errors import OutcomeUnknownError, PermitError, PolicyError
from hitl_graph.learning.routing import Subject, route
from hitl_graph.ledger import Ledger, effects, requests
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Action, Finding, Request, Review, canonical, delivery, digest
from hitl_graph.nodes import consent
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import asked_for, model_of
from hitl_graph.nodes.checking import Check, findings
from hitl_graph.nodes.drafting import Draft, Place
from hitl_graph.nodes.reviewing import End, Item, question, update, what_became
from hitl_graph.nodes.revisions import MARK, past, revision
from hitl_graph.nodes.revisions import Outcome as What
from hitl_graph.nodes.terms import graph_of, origin_of
from hitl_graph.nodes.verdicts import DRAW, Judged, Routing, judge
from hitl_graph.nodes.withholding import conceal
from hitl_graph.policy import Call, Policy, Rule, Verdict
from hitl_graph.policy.modes import under
from hitl_graph.steps import Step, Steps, blocking, calling
from hitl_graph.wire import Client, ClientName, client_of

__all__ = ["Release", "Released", "key_of"]

_NOT_DONE = "hitl_not_done"
"""In the recorded result of a delivery: a person found out that it had not happened."""


@dataclass(frozen=True)
class Released:
    """What became of a draft, and what of it goes into the state.

    Attributes:
        shown: Messages that the end user's stream has to be given, as it was kept from them before.
    """

    outcome: What
    changes: dict[str, Any]
    shown: tuple[AnyMessage, ...]

    def stream(self, config: RunnableConfig, messages: str) -> None:
        """Into the streams of messages goes what the end user may see, and nothing twice."""
        conceal(config.get("callbacks"), self.changes.get(messages, ()))
        for message in self.shown:
            push_message(message, state_key=None)


class Release:
    """How drafts of one place are let out. The options are those of `OutputReviewNode`.

    Args:
        owner: Who asks, for errors.

    Raises:
        PolicyError: A rule of the policy names something else, or a limit is none.
    """

    def __init__(
        self,
        place: Place,
        *,
        owner: str,
        delivery: Callable[[Any], Any] | None,
        idempotent: bool,
        policy: Policy | None,
        checks: Sequence[Check],
        max_revisions: int,
        max_automatic: int,
        ledger: Ledger | None,
        client: ClientName | Client,
        graph: str | None,
        version: str | None,
        name: str,
    ) -> None:
        if max_revisions < 0 or max_automatic < 0:
            raise PolicyError("max_revisions and max_automatic are numbers of revisions, from 0")
        self.place, self.owner = place, owner
        self.delivery, self.idempotent = delivery, idempotent
        self.policy = policy or Policy([Rule("*", "ask", reason="every draft is reviewed")])
        self.policy.check([name])
        self.checks = tuple(checks)
        self.max_revisions, self.max_automatic = max_revisions, max_automatic
        self.ledger, self.client, self.subject = ledger, client_of(client), name
        self.graph, self.version = graph, version

    # --- one draft -----------------------------------------------------------------------------------------------

    def steps(self, state: Any, config: RunnableConfig) -> Steps[Released]:
        """What becomes of the draft in this state."""
        asker = self.asker(config)
        draft = self.place.read(state)
        before = past(draft.entries)
        position = draft.message.id if draft.message else len(draft.entries)
        item = Item(draft, before, key_of(asker, position, before.revision, draft.digest), asker, state)
        known = yield blocking(asker.ledger.read, effects.ended, item.key)
        asked = yield blocking(asker.ledger.read, requests.for_actions, [item.key])
        earlier: list[Request] = [request for request in asked[item.key] if request.kind == "review"]
        if known is not None:  # it was delivered, and the graph has not heard of it
            end = self._recorded(item, earlier)
            found = (earlier[0].review or Review()).findings if earlier else ()
            end = yield from self._delivered(item, end, Authority("delivered before"), 0, known)
        else:
            judged, found, ending = yield from self._judge(item, earlier)
            end = ending or (yield from self._decide(item, judged, found))
        changes, shown = update(item, end, found, self.place)
        return Released(end.outcome, changes, tuple(shown))

    def asker(self, config: RunnableConfig) -> Asker:
        """What it asks with."""
        return Asker.of(config, self.ledger, self.owner, self.client)

    def delivered_before(self, draft: Draft, asker: Asker) -> Steps[bool]:
        """Whether the ledger says that exactly this was delivered, as the mark on its message claims."""
        message = cast(AIMessage, draft.message)
        try:
            entry = revision(message.additional_kwargs.get(MARK))
        except ValidationError:
            return False
        key = key_of(asker, message.id, entry["revision"], digest(entry["draft"]))
        done = yield blocking(asker.ledger.read, effects.is_done, key, delivery(draft.plain).digest)
        return bool(done)

    def _judge(self, item: Item, earlier: list[Request]) -> Steps[tuple[Judged, tuple[Finding, ...], End | None]]:
        """What checks and policy say; what people were once asked about is never waved through later."""
        if earlier:
            first, review = earlier[0], earlier[0].review or Review()
            now = yield from judge(self.policy, self._call(item, item.draft.value, review.findings), item.mode)
            kept = Verdict("ask", first.reason, first.allowed, first.editable, risk=first.risk)
            judged = Judged(
                kept.stricter(now.verdict.asking or now.verdict),
                first.route, first.propensity, first.score, first.reference,
            )  # fmt: skip
            return judged, review.findings, (yield from self._denied(item, judged.verdict))
        found = yield from findings(self.checks, item.draft.value, item.draft.plain)
        wanted = {finding.then: finding for finding in reversed(found)}
        serious = wanted.get("ask") or wanted.get("revise")
        routing = None if serious or "block" in wanted else self._routing(item)
        judged = yield from judge(self.policy, self._call(item, item.draft.value, found), item.mode, routing)
        if ending := (yield from self._denied(item, judged.verdict)):
            return judged, found, ending
        if blocking_one := wanted.get("block"):
            return judged, found, End("blocked", "checks", blocking_one.text)
        if "revise" in wanted and item.past.by_checks < self.max_automatic:
            comments = tuple(finding for finding in found if finding.then == "revise")
            return judged, found, End("revise", "checks", comments=comments)
        if judged.verdict.outcome == "allow" and serious:
            reason = f"{serious.check or 'a check'}: {serious.text}"
            verdict = under(self.policy.modes(item.mode), Verdict("ask", reason), self._call(item, None, found))
            judged = replace(judged, verdict=verdict, route="policy")
        return judged, found, (yield from self._denied(item, judged.verdict))

    def _routing(self, item: Item) -> Routing:
        subject = Subject(
            key=item.key,
            thread_id=item.asker.thread_id,
            tool="deliver",
            output=item.draft.plain,
            input=asked_for(item.state, self.place.messages),
            model=model_of(item.state, self.place.messages) or "",
            schema=item.draft.schema,
        )
        return lambda unsure, call: route(unsure, item.asker.ledger, subject, call)

    def _denied(self, item: Item, verdict: Verdict) -> Steps[End | None]:
        if verdict.outcome != "deny":
            return None
        yield blocking(item.asker.dropped, item.key)
        return End("blocked", "policy", verdict.reason)

    def _call(self, item: Item, draft: Any, found: Sequence[Finding]) -> Call:
        draw = f"{item.asker.thread_id}\0{item.past.revision}\0{item.draft.digest}"
        metadata = {"revision": item.past.revision, "findings": tuple(found), DRAW: draw}
        return Call(self.subject, {"draft": draft}, None, item.state, metadata)

    # --- people --------------------------------------------------------------------------------------------------

    def _decide(self, item: Item, judged: Judged, found: tuple[Finding, ...]) -> Steps[End]:
        """Ask if need be, and deliver if it may be."""
        if judged.verdict.outcome == "allow":
            end = End("delivered", "policy", draft=item.draft.plain, typed=item.draft.value)
            ended = yield from self._deliver(item, end, Authority(judged.verdict.reason), 0)
            if isinstance(ended, End):
                return ended
            if "dont-ask" in self.policy.modes(item.mode):
                return replace(end, outcome="blocked", message=ended.reason)
            judged = replace(judged, verdict=Verdict("ask", ended.reason), route="policy")
        asker, wanted = item.asker, dict[str, _Wanted]()
        begun = yield blocking(asker.ledger.read, effects.begun, item.key)

        def describe(action: Action, verdict: Verdict) -> Callable[[str, str], Request]:
            now = wanted.get(action.digest)
            shown = found if now is None else now.findings
            return question(item, replace(judged, verdict=verdict), shown, self.max_revisions, action.args["draft"])

        def weigh(action: Action) -> Steps[Verdict]:
            wanted[action.digest] = now = yield from self._weigh(item, action.args["draft"], found)
            return now.verdict

        def call(action: Action) -> Call:
            now = wanted.get(action.digest)
            return self._call(item, now.typed if now else item.draft.value, now.findings if now else found)

        answer = yield from consent.ask(
            asker, judged.verdict, delivery(item.draft.plain),
            lambda: origin_of(asker, graph=self.graph, version=self.version),
            describe=describe, call=call, judge=weigh, begun=begun, kind="review",
        )  # fmt: skip
        request, decision = answer.request, answer.decision
        by = request.reviewer or asker.reviewer
        if decision.type in ("reject", "respond"):
            yield blocking(asker.delivered, request.id)
            said = canonical(decision.value) if decision.value is not None else decision.message
            return End(
                "rejected" if decision.type == "reject" else "revise",
                by,
                said,
                decision.comments,
                request_id=request.id,
            )
        plain = request.draft if decision.draft is None else decision.draft
        now = wanted.get(delivery(plain).digest)
        if answer.action is None:
            blocker = now.by if now else "policy"
            yield blocking(asker.delivered, request.id)
            return End("blocked", blocker, answer.denied, draft=item.draft.plain, request_id=request.id)
        typed = now.typed if now else self.place.typed(item.draft, plain)
        end = End(
            "delivered", by, decision.message, draft=plain, typed=typed, request_id=request.id, terms=request.terms
        )
        authority = Authority(f"{decision.type} by {by}", request.id)
        return (yield from self._delivered(item, end, authority, answer.questions))

    def _weigh(self, item: Item, plain: JsonValue, found: tuple[Finding, ...]) -> Steps["_Wanted"]:
        """What checks and policy say now of what people want delivered."""
        typed = item.draft.value
        if digest(plain) != item.draft.digest:  # Python takes 1 and 1.0 for equal
            try:
                typed = self.place.typed(item.draft, plain)
            except ValidationError as exc:  # a rule that the JSON Schema does not tell
                problem = exc.errors(include_url=False)[0]["msg"]
                return _Wanted(Verdict("deny", f"the edited version does not fit: {problem}"), None, found, "checks")
            found = yield from findings(self.checks, typed, plain)
            if forbidden := next((finding for finding in found if finding.then == "block"), None):
                return _Wanted(Verdict("deny", forbidden.text), typed, found, "checks")
        now = yield from judge(self.policy, self._call(item, typed, found), item.mode)
        return _Wanted(now.verdict.asking or now.verdict, typed, found)

    def _recorded(self, item: Item, earlier: list[Request]) -> End:
        """What was delivered, as the ledger has it."""
        plain, request = _let_out(item.draft.plain, earlier)
        if request is None or request.decision is None:
            return End("delivered", "policy", draft=plain, typed=item.draft.value)
        return End(
            "delivered", request.reviewer or item.asker.reviewer, request.decision.message, draft=plain,
            typed=self.place.typed(item.draft, plain), request_id=request.id, terms=request.terms,
        )  # fmt: skip

    # --- delivery ------------------------------------------------------------------------------------------------

    def _delivered(self, item: Item, end: End, authority: Authority, questions: int, first: int = 1) -> Steps[End]:
        """As `_deliver`, of what nobody has to be asked about any more."""
        return cast(End, (yield from self._deliver(item, end, authority, questions, first)))

    def _deliver(
        self, item: Item, end: End, authority: Authority, questions: int, first: int = 1
    ) -> Steps[End | Asked]:
        """Deliver it; if its end is not known, ask what became of it. `Asked`: people have to be asked first."""
        asker, action, step = item.asker, delivery(end.draft), self._execution(end.typed)
        for attempt in count(first):
            graph = graph_of(asker.config, self.graph)
            effect = Effect(asker.ledger, item.key, asker.thread_id, action, authority, attempt, graph=graph)
            ended = yield from effect.steps(step)
            if isinstance(ended, Outcome):
                for request_id in {authority.request_id, end.request_id} - {None}:
                    yield blocking(asker.delivered, str(request_id))
                return _ended(end, ended.result)
            if isinstance(ended, Stopped):
                for request_id in {authority.request_id, end.request_id} - {None}:
                    yield blocking(asker.delivered, str(request_id))
                return replace(end, outcome="blocked", by=ended.switch.by, message=ended.switch.told)
            if isinstance(ended, Asked) and ended.reason:
                return ended
            if isinstance(ended, Asked):
                raise PermitError("people were asked about the draft and their answer is missing; it was not delivered")
            if self.delivery is None or self.idempotent:
                authority = replace(authority, retry=True)
                continue
            if ended.pauses:  # LangGraph counts its questions and ours together, so that ours could take its answer
                raise OutcomeUnknownError(
                    f"the delivery asked questions of its own and then {ended.error or 'was cut off'}. It was not run"
                    " again. Find out what it did, and go on from a new message or a fork"
                )
            request, decision = yield blocking(asker.ask, questions, what_became(item, end, ended))
            questions += 1
            by = request.reviewer or asker.reviewer
            if decision.type != "approve":
                said = decision.message if decision.value is None else decision.value
                happened = decision.type == "respond"
                result = said if happened else {_NOT_DONE: said, "by": by}
                yield blocking(effect.resolve, ended, request.id, happened, result)
                for request_id in {request.id, end.request_id} - {None}:
                    yield blocking(asker.delivered, str(request_id))
                return _ended(end, result)
            authority = Authority(f"run again by {by}", request.id)
        raise AssertionError("unreachable")

    def _execution(self, draft: Any) -> Step:
        if self.delivery is None:  # the graph itself hands it on; what the ledger gets is the permit
            return blocking(lambda: None)
        is_async = any(map(inspect.iscoroutinefunction, (self.delivery, getattr(self.delivery, "__call__", None))))  # noqa: B004
        step = calling(self.delivery, draft)
        return step if is_async else Step(step.sync)  # in a thread, which no cancellation stops: waited for


@dataclass(frozen=True)
class _Wanted:
    """A version of the draft that people agreed to, and what is said of it now."""

    verdict: Verdict
    typed: Any
    findings: tuple[Finding, ...]
    by: str = "policy"


def _ended(end: End, result: Any) -> End:
    if isinstance(result, dict) and _NOT_DONE in result:
        why = result[_NOT_DONE] or "it was not delivered"
        return replace(end, outcome="rejected", by=str(result.get("by")), message=str(why))
    return replace(end, result=result)


def _let_out(draft: JsonValue, earlier: Sequence[Request]) -> tuple[JsonValue, Request | None]:
    """What was delivered of a draft, and who let it: nobody, where the policy did."""
    agreed = [request for request in earlier if request.decision and request.decision.type in ("approve", "edit")]
    if not agreed:
        return draft, None
    request, decision = agreed[-1], agreed[-1].decision
    return (request.draft if decision is None or decision.draft is None else decision.draft), request


def key_of(asker: Asker, position: str | int | None, revision: int, digest: str) -> str:
    """Names a draft for the ledger: the node, its place in the state, and what it says."""
    node = str(asker.config.get("metadata", {}).get("langgraph_node"))
    identity = json.dumps([asker.thread_id, node, position, revision, digest])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
