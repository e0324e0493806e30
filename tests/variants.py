"""Of the variants of a test on PostgreSQL, so many that each pair of values of two parameters occurs.

On SQLite all of them run. What goes wrong takes one value or two together, hardly ever more (Kuhn, Wallace & Gallo,
Software fault interactions and implications for software testing, 2004). `--all-variants` runs them all.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pytest

__all__ = ["dispensable", "pairwise"]

Pair = tuple[tuple[str, int], ...]


def dispensable(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """What may be left out: of each test that runs on both databases, on PostgreSQL."""
    tests: dict[tuple[str, str], list[tuple[pytest.Item, Mapping[str, Any]]]] = defaultdict(list)
    for item in items:
        call = getattr(item, "callspec", None)
        if isinstance(item, pytest.Function) and call is not None and call.params.get("engine") == "postgres":
            tests[str(item.path), item.originalname].append((item, call.params))
    found = set[pytest.Item]()
    for variants in tests.values():
        chosen = pairwise([params for _, params in variants])
        found |= {item for number, (item, _) in enumerate(variants) if number not in chosen}
    return found


def pairwise(variants: Sequence[Mapping[str, Any]]) -> set[int]:
    """Numbers of variants, each with its parameters, with which no pair of values is missed."""
    pairs = [_pairs(params) for params in variants]
    missing, chosen = set[Pair]().union(*pairs), set[int]()
    while missing:
        best = max(range(len(pairs)), key=lambda number: len(pairs[number] & missing))
        chosen.add(best)
        missing -= pairs[best]
    return chosen


def _pairs(params: Mapping[str, Any]) -> set[Pair]:
    values = sorted((name, id(value)) for name, value in params.items())  # the same object in all variants
    return set(combinations(values, 2)) or {tuple(values)}
