"""`OutputReviewNode`: a draft is shown to people before it is delivered.

It stands between the node that writes and what comes after. Checks and the policy say whether people are asked; what
they approve is delivered, under a permit for exactly that draft, at most once. Feedback sends the draft back.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END
from langgraph.graph.message import push_message
from langgraph.types import Command
from pydantic import JsonValue, ValidationError

from hitl_graph.effects import Asked, Effect, Outcome, Stopped
from hitl_graph.errors import OutcomeUnknownError, PermitError, PolicyError
from hitl_graph.ledger import Ledger, effects, requests
from hitl_graph.ledger.effects import Authority
from hitl_graph.model import Action, Finding, Request, Review, canonical, delivery, digest
from hitl_graph.nodes import consent
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.checking import Check, findings
from hitl_graph.nodes.drafting import Place
from hitl_graph.nodes.reviewing import End, Item, question, update, what_became
from hitl_graph.nodes.revisions import past
from hitl_graph.nodes.terms import graph_of, origin_of
from hitl_graph.nodes.verdicts import DRAW, Judged, check_rules, judge
from hitl_graph.nodes.withholding import conceal
from hitl_graph.policy import Call, Policy, Rule, Verdict
from hitl_graph.policy.modes import under
from hitl_graph.steps import Step, Steps, arun, blocking, calling, run
from hitl_graph.wire import BRIDGE, Client, ClientName, client_of

__all__ = ["OutputReviewNode"]

_NOT_DONE = "hitl_not_done"
"""In the recorded result of a delivery: a person found out that it had not happened."""


class OutputReviewNode(Runnable[Any, Command[Any]]):
    """Have a draft reviewed before it is delivered.

    `approve` delivers it, `edit` delivers the person's version, `respond` sends it back to the writer with feedback,
    `reject` ends with a reason. Where `draft` is a key, the state needs `reviews: Annotated[list[Revision],
    operator.add]`; a draft that is a message needs only `messages`.

    Args:
        draft: Key of the state that holds the draft: a text, a pydantic model, or JSON such as a list of files
            (`{"path": ..., "content" or "patch": ...}`). None: the last message of the model.
        revise: The node that writes; it gets the feedback as the last entry of `reviews`, or as a `HumanMessage`.
        deliver: The node where a delivered draft goes on.
        rejected: The node where a rejected or blocked one goes on.
        delivery: A function of the draft that delivers it (sends, publishes ...), sync or async; it runs at most once.
            `idempotency_key()` works in it.
        idempotent: Delivering twice does no more than delivering once: an unknown outcome is tried again.
        delivered: Key of the state that gets what was delivered (None if nothing is), where the state has that key.
        policy: Which drafts are delivered without asking, asked about, or never delivered; who decides, and by when. A
            draft is a call of `review` (`name`) with the argument `draft`; `call.metadata` has `revision` and
            `findings`. Rules with `Sampled` and `Unsure` ask about some. Without a policy, every draft is asked about.
        checks: What looks at a draft before people do; see `hitl_graph.nodes.checking`.
        max_revisions: How often people may send a draft back; then they are asked for a final word.
        max_automatic: How often in a row checks may send it back; then people are asked.
        schema: Type of the draft, for pydantic, if it is not a pydantic model; an edit has to fit it.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        client: With what people answer, as for `ApprovalNode`.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.
        messages, reviews: Keys of the state.
        name: What rules call a draft.

    Raises:
        PolicyError: A rule of the policy names something else, or a limit is none.
    """

    def __init__(
        self,
        draft: str | None = None,
        *,
        revise: str,
        deliver: str = END,
        rejected: str = END,
        delivery: Callable[[Any], Any] | None = None,
        idempotent: bool = False,
        delivered: str = "delivered",
        policy: Policy | None = None,
        checks: Sequence[Check] = (),
        max_revisions: int = 3,
        max_automatic: int = 2,
        schema: Any = None,
        ledger: Ledger | None = None,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
        messages: str = "messages",
        reviews: str = "reviews",
        name: str = "review",
    ) -> None:
        if max_revisions < 0 or max_automatic < 0:
            raise PolicyError("max_revisions and max_automatic are numbers of revisions, from 0")
        self.place = Place(draft, messages, reviews, schema)
        self.revise, self.deliver, self.rejected = revise, deliver, rejected
        self.delivery, self.idempotent, self.delivered = delivery, idempotent, delivered
        self.policy = policy or Policy([Rule("*", "ask", reason="every draft is reviewed")])
        check_rules(self.policy, name)
        self.checks = tuple(checks)
        self.max_revisions, self.max_automatic = max_revisions, max_automatic
        self.ledger, self.client, self.subject = ledger, client_of(client), name
        self.graph, self.version = graph, version

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where it may go on: `add_node(..., destinations=node.destinations)` draws the arrows."""
        return tuple(dict.fromkeys((self.deliver, self.revise, self.rejected)))

    # --- the two colours -----------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """Review the draft in this state."""
        return run(self._steps(input, config or {}))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """As `invoke`."""
        return await arun(self._steps(input, config or {}))

    # --- one draft -----------------------------------------------------------------------------------------------

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        asker = Asker.of(config, self.ledger, type(self).__name__, self.client)
        draft = self.place.read(state)
        before, node = past(draft.entries), str(config.get("metadata", {}).get("langgraph_node"))
        position = draft.message.id if draft.message else len(draft.entries)
        identity = json.dumps([asker.thread_id, node, position, before.revision, draft.digest])
        item = Item(draft, before, hashlib.sha256(identity.encode()).hexdigest()[:32], asker, state)
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
        return self._command(item, end, found, config)

    def _judge(self, item: Item, earlier: list[Request]) -> Steps[tuple[Judged, tuple[Finding, ...], End | None]]:
        """What checks and policy say; what people were once asked about is never waved through later."""
        if earlier:
            first, review = earlier[0], earlier[0].review or Review()
            now = yield from judge(self.policy, self._call(item, item.draft.value, review.findings), item.mode)
            kept = Verdict("ask", first.reason, first.allowed, first.editable, risk=first.risk)
            judged = Judged(
                kept.stricter(now.verdict.asking or now.verdict), first.route, first.propensity, first.score
            )
            return judged, review.findings, (yield from self._denied(item, judged.verdict))
        found = yield from findings(self.checks, item.draft.value, item.draft.plain)
        judged = yield from judge(self.policy, self._call(item, item.draft.value, found), item.mode)
        if ending := (yield from self._denied(item, judged.verdict)):
            return judged, found, ending
        wanted = {finding.then: finding for finding in reversed(found)}
        if blocking_one := wanted.get("block"):
            return judged, found, End("blocked", "checks", blocking_one.text)
        if "revise" in wanted and item.past.by_checks < self.max_automatic:
            comments = tuple(finding for finding in found if finding.then == "revise")
            return judged, found, End("revise", "checks", comments=comments)
        if judged.verdict.outcome == "allow" and (serious := wanted.get("ask") or wanted.get("revise")):
            reason = f"{serious.check or 'a check'}: {serious.text}"
            verdict = under(self.policy.modes(item.mode), Verdict("ask", reason), self._call(item, None, found))
            judged = replace(judged, verdict=verdict, route="policy")
        return judged, found, (yield from self._denied(item, judged.verdict))

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
        end = End("delivered", "policy", draft=item.draft.plain, typed=item.draft.value)
        for request in earlier:
            if (decision := request.decision) and decision.type in ("approve", "edit"):
                plain = request.draft if decision.draft is None else decision.draft
                typed = self.place.typed(item.draft, plain)
                by = request.reviewer or item.asker.reviewer
                end = End(
                    "delivered", by, decision.message, draft=plain, typed=typed, request_id=request.id,
                    terms=request.terms,
                )  # fmt: skip
        return end

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

    def _command(self, item: Item, end: End, found: tuple[Finding, ...], config: RunnableConfig) -> Command[Any]:
        changes, shown = update(item, end, found, self.place, self.delivered)
        conceal(config.get("callbacks"), changes.get(self.place.messages, ()))
        if shown is not None:  # it did not reach the end user's stream as a draft
            push_message(shown, state_key=None)
        goto = {"delivered": self.deliver, "revise": self.revise}.get(end.outcome, self.rejected)
        return Command(goto=goto, update=changes)


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
