"""What a release left in a database: it opens, and paused threads go on, whichever way their agent is built.

The databases are written by `scripts/record_upgrade.py` with the code of each release.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.inbox import Inbox
from hitl_graph.model import approve, respond
from hitl_graph.worker import Worker
from tests.invariants.agents import config_of, ran
from tests.ways.scripted import told
from tests.ways.upgrading import FIRST, Left, agent_of, leave, restore

DATA = Path(__file__).parent.parent / "data"
RELEASES = sorted(path.stem.removeprefix("paused-") for path in DATA.glob("paused-*.sql"))
CASES = [(release, left) for release in RELEASES for left in leave(release)]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The database of each release, as it was left."""
    folder = tmp_path_factory.mktemp("releases")
    for release in RELEASES:
        restore((DATA / f"paused-{release}.sql").read_text(), folder / f"{release}.db")
    return {release: folder / f"{release}.db" for release in RELEASES}


@pytest.fixture
def checkpointer(release: str, originals: dict[str, Path], tmp_path: Path) -> Iterator[SqliteCheckpointer]:
    shutil.copy(originals[release], tmp_path / "agent.db")
    with SqliteCheckpointer(tmp_path / "agent.db") as checkpointer:
        assert checkpointer.ledger.verify_audit().ok
        yield checkpointer
        assert checkpointer.ledger.verify_audit().ok


def test_the_first_release_is_among_them() -> None:
    assert FIRST in RELEASES


@pytest.mark.parametrize(("release", "left"), CASES, ids=[f"{release}-{left.thread}" for release, left in CASES])
def test_a_thread_that_was_left_goes_on_to_its_right_end(
    release: str, left: Left, checkpointer: SqliteCheckpointer, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    graph, inbox = agent_of(left, checkpointer, effects), Inbox(checkpointer.ledger)
    waiting = inbox.pending(thread_id=left.thread)
    expected = [f"{left.thread} | pay 1 bob"]
    if left.how == "asked" and left.way.name == "plain interrupt()":
        inbox.decide(waiting[0].id, respond("Lisbon"), reviewer="alice")
        expected = []
    elif left.how == "asked":
        [request] = waiting
        assert request.action is not None
        assert (request.action.name, request.action.args) == ("pay", {"eur": 1, "to": "bob"})
        inbox.decide(request.id, approve(), reviewer="alice", digest=request.digest)
    elif left.how == "unknown":
        [doubt] = waiting
        assert doubt.description.startswith("Did this happen?")
        inbox.decide(doubt.id, respond("it arrived"), reviewer="alice")
        expected = []
    elif left.how == "done":
        assert waiting == []
        expected = []
    for _ in range(2):  # of the agents that are no part of this one, others will take care
        resumed = [done for done in Worker(graph, checkpointer.ledger).run_once() if done.thread_id == left.thread]
        assert [done.error for done in resumed if done.error is not None] == []
    assert [line for line in ran(effects) if line.startswith(f"{left.thread} |")] == expected
    state = graph.get_state(config_of(left.thread))
    assert (state.next, state.interrupts) == ((), ())
    assert {request.state for request in checkpointer.ledger.history(left.thread)} == {"delivered"}
    if left.how == "unknown":
        assert told(effects)["pay-1"] == "it arrived"
