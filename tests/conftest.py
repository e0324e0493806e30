from pathlib import Path
from typing import cast

import pytest
from hypothesis import settings

from tests.postgres import postgres_cluster, postgres_dsn
from tests.same_as_tool_node import Colour, Gate

__all__ = ["postgres_cluster", "postgres_dsn"]

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


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
