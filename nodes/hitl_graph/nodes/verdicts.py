"""Which drafts people are asked about: a policy whose rules may also draw samples and look at confidence.

The verdict on a draft comes with what learning needs later: by which route it got to a person, how likely that was,
and the confidence.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from math import isnan, prod
from typing import Any, Literal

from hitl_graph.errors import PolicyError
from hitl_graph.policy import Call, Policy, Rule, Verdict
from hitl_graph.policy.modes import under
from hitl_graph.steps import Steps, calling

__all__ = ["Judged", "Sampled", "Unsure", "check_rules", "judge"]

DRAW = "hitl_draw"
"""Names in a call's metadata what a draw is bound to: thread, revision and digest of the draft."""


@dataclass(frozen=True)
class Sampled:
    """For `Rule(..., "ask", when=Sampled(0.1))`: a share of all drafts, drawn for an audit.

    The draw is a function of seed, thread, revision and draft: looking again does not draw again, and without the seed
    nobody can write a draft that is passed over.

    Args:
        rate: The share, from 0 to 1.
        seed: Keep it secret. Another seed draws another sample.

    Raises:
        PolicyError: The rate is no share.
    """

    rate: float
    seed: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise PolicyError(f"Sampled({self.rate!r}): the rate is a share, from 0 to 1")

    def __call__(self, call: Call) -> bool:
        """Whether this draft is in the sample."""
        drawn = hmac.new(self.seed.encode(), str(call.metadata[DRAW]).encode(), hashlib.sha256).digest()
        return int.from_bytes(drawn[:8], "big") < self.rate * 2**64


@dataclass(frozen=True)
class Unsure:
    """For `Rule(..., "ask", when=Unsure(score, below=0.8))`: drafts of which the agent itself is not sure.

    Args:
        confidence: Gives a number for a `Call`, sync or async. One that fails or gives no number means "ask".
        below: People are asked if the confidence is less than this.
    """

    confidence: Callable[[Call], float | Awaitable[float]]
    below: float

    def __call__(self, call: Call) -> bool:
        raise PolicyError("Unsure is for the policy of an OutputReviewNode")  # which asks for the number itself


@dataclass(frozen=True)
class Judged:
    """A verdict on a draft, and how it came about."""

    verdict: Verdict
    route: Literal["auto", "audit", "unsure", "query", "policy"] = "policy"
    propensity: float = 1.0
    score: float | None = None


def check_rules(policy: Policy, name: str) -> None:
    """Refuse a policy that does not do for the node of this name what it says.

    Raises:
        PolicyError: A rule names something else, or draws a sample of something else than "ask".
    """
    policy.check([name])
    for rule in policy.rules:
        if isinstance(rule.when, Sampled | Unsure) and rule.outcome != "ask":
            raise PolicyError(f"Rule({rule.tool!r}, {rule.outcome!r}): {type(rule.when).__name__} goes with 'ask'")


def judge(policy: Policy, call: Call, mode: Any = None) -> Steps[Judged]:
    """The verdict on a draft. What the other rules say comes first; a sample is drawn of what they allow.

    Args:
        mode: What the run wants, on top of the policy's own mode.
    """
    judged = yield from _by_rules(policy, call)
    return replace(judged, verdict=under(policy.modes(mode), judged.verdict, call))


def _by_rules(policy: Policy, call: Call) -> Steps[Judged]:
    special = [rule for rule in policy.rules if isinstance(rule.when, Sampled | Unsure) and rule.matches(call.name)]
    verdict = yield from Policy(r for r in policy.rules if not isinstance(r.when, Sampled | Unsure)).steps(call)
    judged = Judged(verdict)
    if verdict.outcome == "deny":
        return judged
    for rule in special:
        if isinstance(rule.when, Unsure):
            judged = yield from _unsure(rule, rule.when, call, judged)
    samples = [(rule, rule.when) for rule in special if isinstance(rule.when, Sampled)]
    drawn = [rule for rule, sampled in samples if sampled(call)]
    if not samples or judged.verdict.outcome != "allow":
        return judged
    rates = dict[str, float]()
    for _, sampled in samples:  # one seed is one draw, whatever the rates
        rates[sampled.seed] = max(sampled.rate, rates.get(sampled.seed, 0.0))
    propensity = 1 - prod(1 - rate for rate in rates.values())
    if drawn:
        rule = drawn[0]
        asked = rule.verdict("ask", rule.reason or "drawn for an audit")
        return replace(judged, verdict=asked, route="audit", propensity=propensity)
    passed = replace(judged.verdict, reason=f"{judged.verdict.reason}; not in the sample of {propensity:g}")
    return replace(judged, verdict=passed)


def _unsure(rule: Rule, unsure: Unsure, call: Call, judged: Judged) -> Steps[Judged]:
    score: float | None = None
    try:
        given = yield calling(unsure.confidence, replace(call, args=deepcopy(call.args)), in_thread=True)
        if isinstance(given, int | float) and not isinstance(given, bool) and not isnan(given):
            score = float(given)
        reason = f"the confidence is no number: {given!r:.80}"
    except Exception as exc:
        reason = f"the confidence is not known: {exc!r:.200}"
    if score is not None:
        judged = replace(judged, score=score)
        reason = rule.reason or f"the confidence is {score:g}, below {unsure.below:g}" if score < unsure.below else ""
    if reason and judged.verdict.outcome == "allow":
        return replace(judged, verdict=rule.verdict("ask", reason), route="unsure")
    return replace(judged, verdict=judged.verdict.stricter(rule.verdict("ask", reason))) if reason else judged
