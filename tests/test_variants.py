"""Which variants of a test run on PostgreSQL."""

from itertools import combinations, product

from tests.variants import pairwise


def test_no_pair_of_values_is_missed_and_most_variants_are() -> None:
    choices: dict[str, list[object]] = {
        "colour": ["sync", "async"],
        "way": ["node", "middleware"],
        "word": ["approve", "reject", "respond"],
        "answer": [object() for _ in range(10)],
    }
    variants = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    chosen = [variants[number] for number in pairwise(variants)]
    for one, other in combinations(choices, 2):
        assert {(v[one], v[other]) for v in chosen} == set(product(choices[one], choices[other]))
    assert len(chosen) < len(variants) / 3


def test_of_one_parameter_or_two_each_variant_runs() -> None:
    both = [{"engine": "postgres", "word": word} for word in ("approve", "reject")]
    assert pairwise(both) == {0, 1}
    assert pairwise([{"engine": "postgres"}]) == {0}
