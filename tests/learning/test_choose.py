"""What people are asked about: unsure and diverse, and a part that is fair; and audits that nobody can pick."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_graph.errors import LearningError
from hitl_graph.learning import choose, draw, is_audited

SECRET = b"0123456789abcdef"


def pool(n: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return [f"item-{i}" for i in range(n)], rng.dirichlet([1, 1, 1], n), rng.normal(size=(n, 8))


@given(n=st.integers(0, 60), budget=st.integers(0, 80), uniform=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
@settings(deadline=None, max_examples=60)
def test_the_budget_is_spent_once_each_and_fairly_marked(n: int, budget: int, uniform: float) -> None:
    names, probabilities, features = pool(n)
    chosen = choose(names, budget, secret=SECRET, probabilities=probabilities, features=features, uniform=uniform)
    assert len({one.index for one in chosen}) == len(chosen) == min(budget, n)
    assert all(names[one.index] == one.name for one in chosen)
    drawn = [one for one in chosen if one.how == "uniform"]
    assert len(drawn) == math.ceil(min(budget, n) * uniform - 1e-9)
    assert {one.propensity for one in chosen if one.how == "query"} <= {None}
    assert {one.propensity for one in drawn} <= {len(drawn) / n if n else None}
    assert chosen == choose(
        names, budget, secret=SECRET, probabilities=probabilities, features=features, uniform=uniform
    )


def test_the_uniform_part_is_uniform_whatever_the_model_says() -> None:
    """Every item is drawn as often as any other, over many secrets, the sure ones as well."""
    names, probabilities, features = pool(50)
    counts = np.zeros(50)
    for i in range(400):
        secret = SECRET + str(i).encode()
        for one in choose(names, 10, secret=secret, probabilities=probabilities, features=features, uniform=0.5):
            counts[one.index] += one.how == "uniform"
    expected = 400 * 5 / 50
    assert ((counts - expected) ** 2 / expected).sum() < 85  # chi square, 49 degrees of freedom: .999


def test_queries_are_unsure() -> None:
    names, probabilities, _ = pool(300)
    chosen = choose(names, 20, secret=SECRET, probabilities=probabilities, uniform=0.0)
    two = np.sort(probabilities, axis=1)[:, -2:]
    assert {one.index for one in chosen} == set(np.argsort(two[:, 1] - two[:, 0])[:20])


def test_queries_are_unlike_each_other() -> None:
    """Five heaps of near-copies, one much less sure than the others: the margin alone would ask about one heap only."""
    rng = np.random.default_rng(0)
    heap = np.repeat(np.arange(5), 10)
    features = np.eye(5)[heap] * 10 + rng.normal(size=(50, 5)) * 0.01
    sure = heap * 0.01 + 0.01
    names = [str(i) for i in range(50)]
    chosen = choose(names, 5, secret=SECRET, probabilities=sure, features=features, uniform=0.0)
    alone = choose(names, 5, secret=SECRET, probabilities=sure, uniform=0.0)
    assert len({heap[one.index] for one in chosen}) == 5
    assert len({heap[one.index] for one in alone}) == 1


def test_queries_are_about_unlike_answers() -> None:
    """Features that tell nothing: the pairs of answers between which the model wavers are each asked about."""
    pair = np.repeat(np.arange(3), 10)
    probabilities = np.full((30, 6), 0.01)
    for side in (0, 1):
        probabilities[np.arange(30), 2 * pair + side] = 0.48 + side * pair / 100
    names, features = [str(i) for i in range(30)], np.ones((30, 4))
    chosen = choose(names, 3, secret=SECRET, probabilities=probabilities, features=features, uniform=0.0)
    assert {int(pair[one.index]) for one in chosen} == {0, 1, 2}


def test_what_the_model_cannot_say_is_as_unsure_as_can_be() -> None:
    sure = [0.9, math.nan, 0.1, 0.5]
    [one] = choose(list("abcd"), 1, secret=SECRET, probabilities=sure, uniform=0.0)
    assert one.name == "b"
    for features in (None, [[1.0, math.inf], [math.nan, 1.0]]):
        [one] = choose(
            list("ab"), 1, secret=SECRET, probabilities=[[0.5, 0.5], [math.nan, 0.9]], features=features, uniform=0.0
        )
        assert one.name == "b"
    pool_of = [[math.inf, 1.0], [0.2, math.nan], [0.5, 0.5], [-1.0, 0.1]] * 10
    asked = choose([str(i) for i in range(40)], 3, secret=SECRET, probabilities=pool_of, features=pool_of)
    assert len({one.index for one in asked}) == 3


@pytest.mark.parametrize(
    ("names", "probabilities", "features", "uniform"),
    [
        (["a", "a"], [1, 2], None, 0.2),
        (["a"], [1, 2], None, 0.2),
        (["a"], [1], [[1], [2]], 0.2),
        (["a"], [1], None, 1.5),
    ],
)
def test_pools_that_make_no_sense_are_refused(
    names: list[str], probabilities: list[float], features: list[list[float]] | None, uniform: float
) -> None:
    with pytest.raises(LearningError):
        choose(names, 1, secret=SECRET, probabilities=probabilities, features=features, uniform=uniform)


def test_an_audit_is_drawn_the_same_in_every_process() -> None:
    here = [is_audited(SECRET, f"request-{i}", 0.05) for i in range(200)]
    code = (
        "from hitl_graph.learning import is_audited\n"
        f"print([is_audited({SECRET!r}, f'request-{{i}}', 0.05) for i in range(200)])"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip() == str(here)


def test_audits_are_as_many_as_said_and_another_secret_gives_others() -> None:
    drawn = np.array([draw(SECRET, str(i)) for i in range(20_000)])
    assert abs((drawn < 0.05).mean() - 0.05) < 0.005
    assert 0 <= drawn.min() < drawn.max() < 1
    others = np.array([draw(SECRET + b"!", str(i)) for i in range(20_000)])
    assert abs(np.corrcoef(drawn, others)[0, 1]) < 0.03


@pytest.mark.parametrize(("secret", "rate"), [(b"short", 0.1), (SECRET, 0.0), (SECRET, 1.1), (SECRET, math.nan)])
def test_secrets_and_rates_that_protect_nothing_are_refused(secret: bytes, rate: float) -> None:
    with pytest.raises(LearningError):
        is_audited(secret, "request", rate)
