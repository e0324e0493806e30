from pathlib import Path

import pytest


@pytest.fixture
def db_path(tmp_path: Path) -> str:
    """A database file that does not exist yet."""
    return str(tmp_path / "agent.db")
