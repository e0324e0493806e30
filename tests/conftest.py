from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings

from tests.browser import browser, shots, show_loop
from tests.databases import NOTE
from tests.postgres import postgres_cluster, postgres_dsn, shared_postgres_dsn
from tests.same_as_tool_node import Colour, Gate
from tests.spare_schemas import spare_schemas, spares
from tests.variants import dispensable

__all__ = ["browser", "postgres_cluster", "postgres_dsn", "shared_postgres_dsn", "shots", "spare_schemas", "spares"]

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much is tried."""
    parser.addoption("--all-variants", action="store_true", help="all variants of each test on PostgreSQL too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whatever needs a browser is slow; on PostgreSQL, pairs of variants are enough."""
    if not config.getoption("--all-variants"):
        left_out = dispensable(items)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=list(left_out))
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The invariants, and what has the mark `both_databases`, run on SQLite and on PostgreSQL."""
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    both = "both_databases" in marks or metafunc.definition.path.parent.name == "invariants"
    if both and "sqlite_file" not in marks:
        metafunc.parametrize("engine", ["sqlite", "postgres"], indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A browser, once there, does not keep async tests from running."""
    show_loop(item)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> str:
    """Which database stands behind the files of a test that are opened by `tests.databases`."""
    name = getattr(request, "param", "sqlite")
    if name == "postgres":
        note = request.getfixturevalue("tmp_path") / NOTE
        note.write_text(request.getfixturevalue("spare_schemas"))
    return str(name)


@pytest.fixture
def db_path(tmp_path: Path) -> str:
    """A database file that does not exist yet."""
    return str(tmp_path / "agent.db")


@pytest.fixture(params=["allowed", "asked"])
def gate(request: pytest.FixtureRequest) -> Gate:
    """Whether calls are allowed at once, or asked about and approved."""
    return cast(Gate, request.param)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Whether the graph is invoked or awaited."""
    return cast(Colour, request.param)
