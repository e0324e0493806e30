"""The table of guarantees claims, cell by cell, what tests are collected for; no more and no less."""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.ways.builders import WAYS
from tests.ways.places import PLACES

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
COLUMNS = (*PLACES, "LangGraph Server")
ALL = range(1, 11)
Cells = dict[tuple[str, str], set[int]]
"""By way and place: which of I1 to I10 are tried."""

_ID = re.compile(r"tests/ways/test_(?:i(?P<file>\d+)_\w+|langgraph_server)\.py::\w+\[(?P<names>.+)\]")


def cells_of(ids: Iterable[str]) -> Cells:
    """What the tests with these ids try."""
    cells: Cells = defaultdict(set)
    for node in ids:
        if (found := _ID.search(node)) is None:
            continue
        names = found["names"].split("-")
        if not (ways := [way.name for way in WAYS if way.name in names]):
            continue  # about no way, such as what shows that an attack is one
        [way], [place] = ways, [place for place in COLUMNS if place in names]
        tried = found["file"] or next(name[1:] for name in names if re.fullmatch(r"I\d+", name))
        cells[way, place].add(int(tried))
        if tried == "6":  # over a kill in the middle of an effect, so I5 too
            cells[way, place].add(5)
    return cells


def words_of(tried: set[int]) -> str:
    """Such as `I1-I5, I7-I10`."""
    runs = list[list[int]]()
    for number in sorted(tried):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"I{run[0]}" if len(run) == 1 else f"I{run[0]}-I{run[-1]}" for run in runs) or "none"


def table(cells: Cells) -> str:
    """As it stands in the page."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for way in WAYS:
        row = " | ".join(words_of(cells.get((way.name, place), set())) for place in COLUMNS)
        lines.append(f"| {way.name}{' (1)' if way.turns_wait else ''} | {row} |")
    return "\n".join(lines)


def collected() -> list[str]:
    """The ids of all tests here, as pytest finds them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "--no-header", "-p", "no:cacheprovider"]
    found = subprocess.run([*command, "tests/ways"], cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


def test_the_table_claims_what_is_tested(request: pytest.FixtureRequest) -> None:
    claimed = PAGE.read_text()
    if table(cells_of(item.nodeid for item in request.session.items)) in claimed:
        return
    right = table(cells_of(collected()))  # only some tests were asked for
    assert right in claimed, f"docs/guarantees.md has to say:\n\n{right}"


def test_a_claim_without_a_test_would_be_found() -> None:
    whole = [
        f"tests/ways/test_i{number}_x.py::test_x[{place}-{way.name}]"
        for number in ALL
        for place in COLUMNS
        for way in WAYS
    ]
    assert table(cells_of(whole)).count("I1-I10") == len(WAYS) * len(COLUMNS)
    less = [node for node in whole if "test_i4_x.py::test_x[InMemorySaver-Send]" not in node]
    assert table(cells_of(less)).count("I1-I3, I5-I10") == 1
