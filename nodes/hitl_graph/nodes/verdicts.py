"""What a policy says of a call or a draft whose rules may also draw samples and ask how sure the model is.

The verdict comes with what learning needs later: by which route it got to a person, how likely that was, and the score.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Literal

from hitl_graph.errors import PolicyError
from hitl_graph.learning.routing import TWO, Way, scored
from hitl_graph.learning.unsure import Unsure
from hitl_graph.policy import Call, Policy, Rule, Verdict
from hitl_graph.policy.hints import Hinted
from hitl_graph.policy.modes import under
from hitl_graph.policy.verdict import Outcome
from hitl_graph.steps import Steps

__all__ = ["DRAW", "Judged", "Routing", "Sampled", "judge"]

DRAW = "hitl_draw"
"""Names in a call's metadata what a draw is bound to: the key of the call; thread, revision and digest of a draft."""

Routing = Callable[[Unsure, Call], Steps[Way]]
"""Settles which way a call goes of which nothing but the model's sureness is in question."""


@dataclass(frozen=True)
class Sampled:
    """For `Rule(..., "ask", when=Sampled(0.1))`: a share of all calls or drafts is asked about, as a sample.

    The draw is a function of the seed and of the call, or of thread, revision and draft: looking again does not draw
    again, and without the seed nobody can write what is passed over.

    Args:
        rate: The share, from 0 to 1.
        seed: Keep it secret. Another seed draws another sample.

    Raises:
        PolicyError: The rate is no share.
    """

    outcome: ClassVar[Outcome] = "ask"
    rate: float
    seed: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise PolicyError(f"Sampled({self.rate!r}): the rate is a share, from 0 to 1")

    def __call__(self, call: Call) -> bool:
        """Whether it is in the sample."""
        drawn = hmac.new(self.seed.encode(), str(call.metadata[DRAW]).encode(), hashlib.sha256).digest()
        return int.from_bytes(drawn[:8], "big") < self.rate * 2**64


@dataclass(frozen=True)
class Judged:
    """A verdict, and how it came about."""

    verdict: Verdict
    route: Literal["auto", "audit", "unsure", "query", "policy"] = "policy"
    propensity: float = 1.0
    score: float | None = None
    reference: str | None = None


def judge(policy: Policy, call: Call, mode: Any = None, routing: Routing | None = None) -> Steps[Judged]:
    """The verdict on a call or a draft. What the other rules say comes first; the rest is about what they allow.

    Args:
        mode: What the run wants, on top of the policy's own mode.
        routing: Looks whether people have to be asked where a rule wants a guarantee; without it they are.
    """
    modes = policy.modes(mode)
    judged = yield from _by_rules(policy, call, None if modes else routing)
    return replace(judged, verdict=under(modes, judged.verdict, call))


def _by_rules(policy: Policy, call: Call, routing: Routing | None) -> Steps[Judged]:
    special = [(rule, when) for rule in policy.rules if rule.matches(call.name) and (when := _drawing(rule, call))]
    if not special:
        return Judged((yield from policy.by_rules(call)))
    apart = [rule for rule, _ in special]
    verdict = yield from Policy(rule for rule in policy.rules if rule not in apart).by_rules(call)
    judged = Judged(verdict)
    if verdict.outcome == "deny":
        return judged
    unsure = [(rule, when) for rule, when in special if isinstance(when, Unsure)]
    for rule, when in unsure:
        if when.below is not None:
            judged = yield from _limited(rule, when, when.below, call, judged)
    judged = _sampled([(rule, when) for rule, when in special if isinstance(when, Sampled)], call, judged)
    promising = [(rule, when) for rule, when in unsure if when.below is None]
    for rule, when in promising:
        judged = yield from _promised(rule, when, call, judged, routing, alone=len(promising) == 1)
    return judged


def _drawing(rule: Rule, call: Call) -> "Sampled | Unsure | None":
    """What the rule draws with, or asks how sure the model is; None if it does not, or not of such a tool."""
    when: Any = rule.when
    if isinstance(when, Hinted):
        when = when.then if replace(when, then=None)(call) else None
    return when if isinstance(when, Sampled | Unsure) else None


def _limited(rule: Rule, unsure: Unsure, below: float, call: Call, judged: Judged) -> Steps[Judged]:
    """By a fixed limit."""
    score, reason = yield from scored(unsure, call)
    if score is not None:
        judged = replace(judged, score=score)
        reason = rule.reason or f"the score is {score:g}, below {below:g}" if score < below else None
    if reason and judged.verdict.outcome == "allow":
        return replace(judged, verdict=rule.verdict("ask", reason), route="unsure")
    return replace(judged, verdict=judged.verdict.stricter(rule.verdict("ask", reason))) if reason else judged


def _sampled(samples: list[tuple[Rule, Sampled]], call: Call, judged: Judged) -> Judged:
    if not samples or judged.verdict.outcome != "allow":
        return judged
    rates = dict[str, float]()
    for _, sampled in samples:  # one seed is one draw, whatever the rates
        rates[sampled.seed] = max(sampled.rate, rates.get(sampled.seed, 0.0))
    propensity = 1 - prod(1 - rate for rate in rates.values())
    if drawn := [rule for rule, sampled in samples if sampled(call)]:
        rule = drawn[0]
        asked = rule.verdict("ask", rule.reason or "drawn for an audit")
        return replace(judged, verdict=asked, route="audit", propensity=propensity)
    passed = replace(judged.verdict, reason=f"{judged.verdict.reason}; not in the sample of {propensity:g}")
    return replace(judged, verdict=passed)


def _promised(
    rule: Rule, unsure: Unsure, call: Call, judged: Judged, routing: Routing | None, *, alone: bool
) -> Steps[Judged]:
    """Under a certificate, if there is one. Standing permissions do not take the place of a label."""
    verdict = judged.verdict
    if verdict.outcome != "allow":  # people are asked anyway, whatever the model is sure of
        score, _ = yield from scored(unsure, call)
        return judged if score is None else replace(judged, score=score)
    if routing is None or not alone:
        here = "several rules are unsure of it" if not alone else "whether it may go without asking cannot be told here"
        asked = rule.verdict("ask", rule.reason or here)
        return replace(judged, verdict=replace(asked, grants=False), route="unsure")
    way = yield from routing(unsure, call)
    routed = way.routed
    judged = replace(judged, route=routed.route, propensity=routed.propensity, score=routed.score)
    if way.is_automatic:
        return replace(judged, verdict=replace(verdict, reason=f"{verdict.reason}; {way.why}"))
    asked = rule.verdict("ask", f"{rule.reason}; {way.why}" if rule.reason else way.why)
    if way.double and asked.terms is None:
        return replace(judged, verdict=replace(asked, grants=False, terms=TWO), reference="two who agree")
    quorum = sum(stage.quorum for stage in asked.terms.stages) if asked.terms else 1
    reference = "one reviewer" if quorum == 1 else f"{quorum} who agree"
    return replace(judged, verdict=replace(asked, grants=False), reference=reference)
