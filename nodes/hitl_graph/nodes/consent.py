"""Ask people until their answer covers what is about to run, or to be delivered.

An answer may not be enough: the edit needs other people, the policy has become stricter, or facts that were shown have
changed since. Then they are asked again, and told why. Once a question was stored it is asked in every re-execution,
whatever has become of the reason for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

from pydantic import JsonValue

from hitl_graph.drafts import difference
from hitl_graph.ledger import deciding, requests
from hitl_graph.model import Action, Decision, Kind, Request, canonical, delivery
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.terms import on_terms, terms_of
from hitl_graph.policy import Call, Verdict
from hitl_graph.policy.verdict import Fact
from hitl_graph.reviewers import person
from hitl_graph.steps import Steps, blocking, calling
from hitl_graph.terms import Fresh, Origin, Terms
from hitl_graph.voting import satisfied, supporting

__all__ = ["Answer", "ask", "looked_up"]

UNREADABLE = "could not be read"


@dataclass(frozen=True)
class Answer:
    """What people want.

    Attributes:
        action: What may run; None: nothing.
        denied: Why the policy does not let it run after all.
        questions: How many were asked.
    """

    request: Request
    decision: Decision
    questions: int
    action: Action | None = None
    denied: str | None = None


def ask(
    asker: Asker,
    verdict: Verdict,
    action: Action,
    origin: Callable[[], Origin | None],
    *,
    describe: Callable[[Action, Verdict], Callable[[str, str], Request]],
    call: Callable[[Action], Call],
    judge: Callable[[Action], Steps[Verdict]],
    begun: bool,
    kind: Kind = "approval",
    first: Request | None = None,
) -> Steps[Answer]:
    """Ask whether an action may run, and again while the answer does not cover it.

    Args:
        origin: Where it comes from; asked for only when a question is new.
        describe: Makes the question without its terms, origin and facts.
        call: What predicates and facts see of an action.
        judge: The policy's verdict as it is now.
        begun: It was started before, so that the answers of then are what counts.
        kind: `review`: the action is the delivery of a draft, and a question about another draft is asked anew.
        first: The first question, if it was asked before and elsewhere, with its decision.
    """
    changed: str | None = None
    least: Terms | None = None
    for number in count(-1 if first else 0):  # of the questions of this task
        if number < 0:
            request = cast(Request, first)
            decision = cast(Decision, request.decision)
        else:
            fresh = None
            if verdict.facts and not (yield blocking(_stored, asker, number, kind)):
                fresh = yield from looked_up(verdict, call(action), changed)
            question = on_terms(describe(action, verdict), asker, verdict, origin, fresh, least)
            request, decision = yield blocking(asker.ask, number, question)
        if (shown := request.delivery or request.action or action).digest != action.digest:  # another one by now
            yield blocking(asker.delivered, request.id)
            if kind == "approval":
                verdict = replace(verdict, reason=f"{request.reviewer} was asked about {canonical(shown.args)} before")
            continue
        answer, least = Answer(request, decision, number + 1), request.terms
        if decision.type in ("reject", "respond"):
            return answer
        action = _wanted(request, decision)
        again = yield blocking(_stored, asker, number + 1, kind)
        if begun and again:
            continue
        if begun:
            return replace(answer, action=action)
        now = yield from judge(action)
        if now.outcome == "deny":
            return replace(answer, denied=now.reason)
        reason: str | None = None
        changed = None
        if not (yield blocking(_covers, asker, request, now)):
            reason = now.reason
        elif unseen := sorted(now.facts.keys() - (request.fresh.facts if request.fresh else {})):
            reason = f"{request.reviewer} was not shown {', '.join(unseen)}"
        elif request.fresh is not None:
            facts = yield from _read(_functions(request.fresh, now, verdict), call(action))
            if canonical(facts) != canonical(request.fresh.facts):
                changed = difference(cast(JsonValue, request.fresh.facts), cast(JsonValue, facts))
                reason = f"what was shown has changed since {request.reviewer} answered"
        if reason is None and not again:
            return replace(answer, action=action)
        yield blocking(asker.delivered, request.id)
        wanted = now if now.outcome == "ask" and (now.terms or now.exclude or now.facts) else verdict
        verdict = replace(wanted, reason=reason or verdict.reason)
    raise AssertionError("unreachable")


def looked_up(verdict: Verdict, call: Call, changed: str | None = None) -> Steps[Fresh | None]:
    """The facts that go with a new question; None if it has none.

    Args:
        changed: How they differ from what people were shown before.
    """
    if not verdict.facts:
        return None
    return Fresh(facts=(yield from _read(verdict.facts, call)), changed=changed)


def _wanted(request: Request, decision: Decision) -> Action:
    if decision.draft is not None:
        return delivery(decision.draft)
    shown = cast(Action, request.action or request.delivery)
    return shown if decision.args is None else Action(name=shown.name, args=decision.args)


def _stored(asker: Asker, number: int, kind: Kind) -> bool:
    """Whether this was asked before. A tool's own questions and what became of it have numbers, too."""
    request = asker.ledger.read(requests.get, asker.own(number))
    return request is not None and request.kind == kind and request.position is None


def _covers(asker: Asker, request: Request, now: Verdict) -> bool:
    """Whether those who agreed would be enough for what the policy says now."""
    if now.outcome != "ask" or (now.terms is None and not now.exclude):
        return True
    terms = terms_of(now, request.origin, asker.ledger.clock())
    stored = asker.ledger.read(requests.get, request.id) or request
    votes = supporting(stored, asker.ledger.read(deciding.votes, request.id))
    people = [(vote.reviewer, person(vote.behalf or vote.reviewer, asker.ledger.directory)) for vote in votes]
    return satisfied(terms, request.terms, people)


def _functions(fresh: Fresh, now: Verdict, before: Verdict) -> dict[str, Fact]:
    def gone(_: Call) -> JsonValue:
        raise LookupError("no rule names it any more")

    return {name: now.facts.get(name) or before.facts.get(name) or gone for name in fresh.facts}


def _read(facts: Mapping[str, Fact], call: Call) -> Steps[dict[str, JsonValue]]:
    """The facts as they are now. One that cannot be read says so, and nothing else, so that it equals itself."""
    found: dict[str, JsonValue] = {}
    for name, fact in facts.items():
        try:
            found[name] = yield calling(fact, call, in_thread=True)
            canonical(found[name])
        except Exception as exc:
            found[name] = {UNREADABLE: type(exc).__name__}
    return found
