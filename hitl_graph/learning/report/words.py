"""What is promised, whether it holds, and why there is no certificate, in words for whoever is on call. No I/O."""

from dataclasses import dataclass
from math import ceil, log
from typing import Literal

from hitl_graph.learning.certificate import Certificate, NotEnough
from hitl_graph.learning.standing import Overview
from hitl_graph.ledger.routing import Source

__all__ = ["Verdict", "certified", "count", "model", "percent", "promise", "refused", "score", "title", "verdict"]


_DIGEST, _DIGITS = 64, 12


@dataclass(frozen=True)
class Verdict:
    """Whether a promise holds.

    Attributes:
        kind: `holds`: audits alone show it. `open`: nothing speaks against it, and they do not show it yet. `watch`:
            audits found more mistakes than were promised, by chance or not. `gone`: it was taken back. `none`: nothing
            was promised yet.
        short: In a word or two.
        sentence: For people.
    """

    kind: Literal["holds", "open", "watch", "gone", "none"]
    short: str
    sentence: str


def percent(share: float) -> str:
    """`5 %`, `0.5 %`, `99.6 %`: as many digits as tell something."""
    value = 100 * share
    near_an_end = value < 10 or value > 90
    return f"{value:.1f} %" if near_an_end and abs(value - round(value)) >= 0.05 else f"{value:.0f} %"


def count(number: int, what: str) -> str:
    """`1 mistake`, `1,204 calls`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def score(value: float) -> str:
    """As many digits as tell something."""
    return f"{value:.4g}"


def title(source: Source) -> str:
    """What people call it; the name, and the group where there are groups."""
    return f"{source.name}, {source.group}" if source.group else source.name


def model(source: Source) -> str:
    """The model as people tell it from others: the beginning of its digest."""
    return source.model[:_DIGITS] if len(source.model) == _DIGEST and source.model.isalnum() else source.model


def promise(error: float, confidence: float) -> str:
    """What a certificate promises."""
    return f"at most {percent(error)} of these are wrong, with a confidence of {percent(confidence)}"


def certified(found: Certificate) -> str:
    """A certificate, and what it stands on."""
    told = promise(found.guarantee.error, found.guarantee.confidence)
    return (
        f"From a score of {score(found.threshold)} on nobody is asked: about {percent(found.share)} of calls."
        f" {told[0].upper()}{told[1:]}: {count(found.labels, 'label')}, {count(found.errors, 'mistake')} in"
        f" {found.accepted:,}."
    )


def refused(found: NotEnough, in_force: float | None = None) -> str:
    """Why there is no certificate, and how many labels it takes.

    Args:
        in_force: The threshold of an earlier one that still is.
    """
    told = found.needed is None or str(found.needed) in found.why
    more = "" if told else f" It takes about {found.needed:,} labels in all; there are {found.labels:,}."
    if in_force is None:
        return f"No certificate, so everything is asked: {found.why}.{more}"
    return (
        f"No new certificate: {found.why}.{more} The one before stays in force, from a score of {score(in_force)} on."
    )


def verdict(one: Overview) -> Verdict:
    """Whether what was promised about a source holds."""
    if one.error is None or one.confidence is None:
        then = "`hitl learn calibrate` says from which score on that is not needed, or how many labels it takes."
        return Verdict("none", "asks everything", f"Nothing is promised yet, and everything is asked. {then}")
    if one.standing != "valid":
        return Verdict("gone", "asks everything again", f"Taken back: {_ended(one.why or 'it is not said why')}")
    told = f"{count(one.answered, 'audit')} answered, {count(one.mistakes, 'mistake')}"
    bound = f"at most {percent(one.error_at_most)} is wrong by these alone"
    if one.drift >= 1:
        sentence = f"Audits speak against it ({told}): it is taken back before the next call."
        return Verdict("watch", "about to be taken back", sentence)
    if not one.answered:
        return Verdict("open", "no audits yet", "No audit is answered yet, so it rests on its labels alone.")
    if one.error_at_most <= one.error:
        return Verdict("holds", "holds", f"It holds: {told}, {bound}.")
    if one.mistakes > one.error * one.answered:
        found = f"{percent(one.mistakes / one.answered)} of them, and {percent(one.error)} is promised"
        sentence = f"Watch it: {told}, {found}. Chance, as far as one can tell yet ({_far(one)})."
        return Verdict("watch", "watch it", sentence)
    needed = ceil(log(1 - one.confidence) / log(1 - one.error))
    sentence = f"Nothing speaks against it: {told}. To show it by audits alone takes {needed:,} or more; now {bound}."
    return Verdict("open", "nothing against it", sentence)


def _far(one: Overview) -> str:
    return f"the evidence is at {percent(one.drift)} of what takes it back"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
