from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.invariants.scenes import Scene


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
