"""Each test of a promise runs for every way to build an agent, in every place that keeps its threads.

The name of the file says which promise: `test_i4_*.py` tries I4. `docs/guarantees.md` claims what these tests collect,
and `test_guarantee_table.py` holds it to that.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import NOTE
from tests.ways.builders import WAYS, Way, way_named
from tests.ways.places import PLACES, Place, WayScene


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every way in every place, unless the test or its module (`IN`) says in which."""
    said = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "place" in metafunc.fixturenames and "place" not in said:
        metafunc.parametrize("place", getattr(metafunc.module, "IN", PLACES), scope="module")
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", [way.name for way in WAYS], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Way:
    return way_named(request.param)


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, way: Way, place: Place) -> Iterator[WayScene]:
    """An agent built in this way and kept in this place, with a log that is whole at the end."""
    if place.startswith("Postgres"):
        (tmp_path / NOTE).write_text(request.getfixturevalue("spare_schemas"))
    made = WayScene(tmp_path, way, place)
    yield made
    assert made.ledger.verify_audit().ok
    made.close()
