from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import NOTE
from tests.invariants.scenes import Scene


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Everything on both databases, except what is about the SQLite file itself."""
    engines = ["sqlite"] if hasattr(metafunc.module, "ONLY_SQLITE") else ["sqlite", "postgres"]
    metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Which database stands behind the files of a test."""
    if request.param == "postgres":
        (tmp_path / NOTE).write_text(request.getfixturevalue("postgres_dsn"))
    return str(request.param)


@pytest.fixture(params=["own-sync", "own-async", "foreign-sync"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Everything in both colours, on our checkpointer and beside a foreign one."""
    place, mode = request.param.split("-")
    made = Scene(tmp_path, own=place == "own", mode=mode)
    yield made
    assert made.ledger.verify_audit().ok
    made.close()


@pytest.fixture(params=["sync", "async"])
def own_scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Both colours, on our checkpointer."""
    made = Scene(tmp_path, own=True, mode=request.param)
    yield made
    assert made.ledger.verify_audit().ok
    made.close()


@pytest.fixture
def sync_scene(tmp_path: Path) -> Iterator[Scene]:
    """Sync, on our checkpointer: for long tables of cases."""
    made = Scene(tmp_path, own=True, mode="sync")
    yield made
    assert made.ledger.verify_audit().ok
    made.close()
