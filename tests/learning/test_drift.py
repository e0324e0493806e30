"""Drift is found soon where errors grow, and hardly ever where they do not."""

import json
import math
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_graph.errors import LearningError
from hitl_graph.learning import ErrorDrift, shift
from hitl_graph.learning.drift import first_alarm, ratios

RUNS = 2000


def grow(evidence: np.ndarray, wrong: np.ndarray, error: float) -> np.ndarray:
    """`ErrorDrift.after`, of many watches at once."""
    right, bad = (np.array(ratios(error, one)) for one in (False, True))
    grown: np.ndarray = np.minimum((evidence + 1) * np.where(wrong[:, None], bad, right), 1e300)
    return grown


def alarms(rates: list[float], patience: float = 2000.0) -> np.ndarray:
    """After how many audits each of many runs had its alarm; infinity if it had none."""
    rng = np.random.default_rng(2)
    evidence, first = np.zeros((RUNS, len(ErrorDrift(0.02).evidence))), np.full(RUNS, np.inf)
    for audit, rate in enumerate(rates, 1):
        evidence = grow(evidence, rng.random(RUNS) < rate, 0.02)
        first = np.where(np.isinf(first) & (evidence.mean(axis=-1) >= patience), audit, first)
    return first


def test_ten_times_the_errors_are_found_within_fifty_audits() -> None:
    found = alarms([0.01] * 500 + [0.10] * 1000)
    assert (found <= 500).mean() <= 0.01  # false alarms
    assert np.median(found[found > 500] - 500) <= 50


def test_errors_as_promised_seldom_raise_an_alarm() -> None:
    assert np.minimum(alarms([0.02] * 4000), 4000).mean() > 1800  # the mean of what was cut off at 4,000


def test_a_small_rise_is_found_too() -> None:
    assert np.median(alarms([0.04] * 2000)) < 500


@given(wrong=st.lists(st.booleans(), max_size=200), error=st.floats(0.001, 0.6))
@settings(deadline=None)
def test_many_watches_at_once_are_as_one(wrong: list[bool], error: float) -> None:
    watch, evidence = ErrorDrift(error), np.zeros((1, 4))
    for one in wrong:
        watch = watch.after(one)
        evidence = grow(evidence, np.array([one]), error)
    assert watch.evidence == tuple(evidence[0])
    assert watch.audits == len(wrong)
    assert ErrorDrift(**json.loads(json.dumps(asdict(watch)))) == watch  # stored, and gone on with


def test_the_alarm_comes_when_the_evidence_reaches_the_patience() -> None:
    assert first_alarm([False] * 300, 0.02) is None
    found = first_alarm([True] * 10, 0.02)
    assert found is not None
    assert found <= 6


def test_evidence_that_is_no_number_is_an_alarm() -> None:
    assert ErrorDrift(0.02, evidence=(math.nan,) * 4).alarm
    assert not ErrorDrift(0.02).alarm


@pytest.mark.parametrize("of", [(0.0, 2000.0), (math.nan, 2000.0), (0.1, 1.0)])
def test_a_watch_that_makes_no_sense_is_refused(of: tuple[float, float]) -> None:
    with pytest.raises(LearningError):
        ErrorDrift(*of)


@pytest.mark.parametrize("evidence", [(1.0,), (1.0,) * 5, (-1.0,) * 4])
def test_a_state_that_is_none_is_refused(evidence: tuple[float, ...]) -> None:
    with pytest.raises(LearningError, match="evidence"):
        ErrorDrift(0.02, evidence=evidence)


def test_a_watch_and_audits_need_no_extra_and_what_does_says_so() -> None:
    code = """
import sys
sys.modules.update(numpy=None, scipy=None)
from hitl_graph.learning import Certificate, ErrorDrift, Guarantee, is_audited
watch = ErrorDrift(0.02)
while not watch.alarm:
    watch = watch.after(True)
print(watch.audits, Certificate(0.9, Guarantee(), 100, 80, 0).allows(0.95), is_audited(b"0123456789abcdef", "a", 1.0))
try:
    from hitl_graph.learning import certify
except ImportError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == f"{first_alarm([True] * 10, 0.02)} True True"
    assert second == 'certify needs an extra: pip install "hitl-graph[learning]"'


def test_a_shift_of_scores_is_seen_without_labels() -> None:
    rng = np.random.default_rng(5)
    before = rng.beta(5, 2, 1000)
    assert shift(before, rng.beta(3, 2, 200)).shifted
    assert sum(shift(before, rng.beta(5, 2, 200)).shifted for _ in range(200)) <= 1
    assert not shift([1, 2] * 50, [1, 2] * 50).shifted
    assert shift(before, [math.nan] * 3).shifted
    with pytest.raises(LearningError):
        shift(before, [])
