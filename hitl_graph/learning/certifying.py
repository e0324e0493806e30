"""May decisions be made automatically where the model is sure enough, with a promise about how many will be wrong?

`certify` looks for the lowest score from which on that is so, on labels that people gave to a random sample. The
promise: with the confidence asked for, no more than `error` of what is decided automatically is wrong. It holds for
any score and any model, for as long as what comes is like what was labelled. A bad score costs automation, not the
promise.

What it stands on: with labels of a random sample, the errors in a set of accepted items are binomial; `sequence` tests
several such sets, loosening the threshold as long as the tests pass (learn then test, Angelopoulos et al. 2021).
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from hitl_graph.errors import LearningError
from hitl_graph.learning.agreement import Votes
from hitl_graph.learning.certificate import Certificate, Guarantee, NotEnough
from hitl_graph.learning.sequence import sequence
from hitl_graph.learning.shortfall import shortfall

__all__ = ["certify", "certify_each"]


def certify(
    scores: ArrayLike, wrong: ArrayLike, guarantee: Guarantee | None = None, *, votes: Votes | None = None
) -> Certificate | NotEnough:
    """Looks for the lowest score from which on decisions may be automatic.

    The labels have to be of a random sample of what will be decided, each item with the same probability: audits and
    uniform draws, never what was asked because the model was unsure. They are used once: who takes more labels and
    tries again, or tries several scores, and keeps the best, needs a part of `1 - confidence` for each try, or
    `online`.

    Args:
        scores: One number an item, higher where the model is surer; it need not be a probability. Equal scores stay
            together, and what is no finite number is never automatic.
        wrong: Whether the model was wrong about the item: 1 or 0, True or False. A label that is missing (`nan`) counts
            as wrong.
        guarantee: What to promise; an error of 5 % with a confidence of 90 % by default.
        votes: What several people said about each item, where several did. Not used to certify, but to tell why it
            fails.

    Raises:
        LearningError: Not one label for each score, or a label that is neither right nor wrong.
    """
    asked = guarantee or Guarantee()
    score, error = _read(scores, wrong)
    if votes is not None and len(votes) != len(score):
        raise LearningError(f"{len(votes)} rows of votes for {len(score)} scores: pass one row an item")
    values, accepted, errors = _nested(score, error)
    level = 1 - asked.confidence
    found, gathered = None, 0.0
    for i, part in _placed(accepted, sequence(len(score), asked.error, level)):
        gathered += part
        if gathered and bdtr(errors[i], accepted[i], asked.error) <= gathered:
            found = i
        else:
            gathered = 0.0
    if found is None:
        surest_first = (
            None if votes is None else [votes[i] for i in np.argsort(-score[np.isfinite(score)], kind="stable")]
        )
        return shortfall(asked, len(score), accepted, errors, surest_first)
    return Certificate(float(values[found]), asked, len(score), int(accepted[found]), int(errors[found]))


def certify_each(
    scores: ArrayLike,
    wrong: ArrayLike,
    groups: Sequence[Hashable],
    guarantee: Guarantee | None = None,
    *,
    together: bool = True,
) -> Mapping[Hashable, Certificate | NotEnough]:
    """A certificate for each group, such as each class that the model answers: the promise holds within it.

    A group without a certificate is asked about, and so is one that had no label. Groups have to be known before people
    answer: the class that the *model* gives, not the one that people give.

    Args:
        scores: As for `certify`.
        wrong: As for `certify`.
        groups: The group of each item.
        guarantee: As for `certify`.
        together: Whether the confidence is of all groups at once (each then has an equal part of what may go wrong), or
            of each.
    """
    asked = guarantee or Guarantee()
    score, error = _read(scores, wrong)
    if len(groups) != len(score):
        raise LearningError(f"{len(groups)} groups for {len(score)} scores: pass one an item")
    names = list(dict.fromkeys(groups))
    confidence = 1 - (1 - asked.confidence) / len(names) if together and names else asked.confidence
    each = Guarantee(asked.error, confidence)
    of = {name: [i for i, group in enumerate(groups) if group == name] for name in names}
    return {name: certify(score[of[name]], error[of[name]], each) for name in names}


def _read(scores: ArrayLike, wrong: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        score, label = np.asarray(scores, float), np.asarray(wrong, float)
    except (TypeError, ValueError) as exc:
        raise LearningError(f"scores and labels are numbers: {exc}") from exc
    if score.ndim != 1 or score.shape != label.shape:
        raise LearningError(f"{score.shape} scores and {label.shape} labels: pass one label for each score")
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        raise LearningError("a label says whether the model was wrong: 1 or 0, or nan where nobody answered")
    return score, np.where(np.isnan(label), 1, label).astype(int)


def _nested(
    score: NDArray[np.float64], error: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Each score that occurs, the highest first, with how many labels are at or above it, and how many errors."""
    finite = np.isfinite(score)
    order = np.argsort(-score[finite], kind="stable")
    values, wrong = score[finite][order], error[finite][order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if values.size else np.array([], int)
    return values[last], last + 1, np.cumsum(wrong)[last] if values.size else last


def _placed(accepted: NDArray[np.int64], tests: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The tests at the scores that occur: the first set that is large enough. Tests that fall together are one."""
    parts: dict[int, float] = {}
    for i, (_, part) in zip(np.searchsorted(accepted, [size for size, _ in tests]), tests, strict=True):
        if i < len(accepted):
            parts[int(i)] = parts.get(int(i), 0.0) + part
    return list(parts.items())
