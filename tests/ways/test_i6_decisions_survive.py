"""I5 and I6, in every way, over a real `kill -9`: what was acknowledged survives, what was cut off is asked about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hitl_graph.model import respond
from tests.invariants.agents import ran
from tests.ways.builders import Way
from tests.ways.killed import MODES, decided_thread, folder_of, killed, paying, running_thread
from tests.ways.places import OUTLIVING, Place, WayScene

IN = OUTLIVING


@pytest.fixture(scope="module")
def remains(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, place: Place) -> Iterator[Path]:
    """What a process left that was killed."""
    note = request.getfixturevalue("shared_postgres_dsn") if place.startswith("Postgres") else None
    with killed(tmp_path_factory.mktemp("killed"), place, note) as root:
        yield root


@pytest.fixture
def found(remains: Path, way: Way, place: Place) -> Iterator[WayScene]:
    """What is found by whoever opens it next."""
    scene = WayScene(folder_of(remains, way), way, place)
    yield scene
    assert scene.ledger.verify_audit().ok
    scene.close()


def effects_of(scene: WayScene, thread: str) -> list[str]:
    return [line.split(" | ")[1] for line in ran(scene.effects) if line.startswith(f"{thread} | ")]


def test_what_was_decided_is_carried_out_and_what_was_cut_off_is_asked_about(found: WayScene, way: Way) -> None:
    graph = found.agent(tools=[paying(found.effects)])
    for mode in MODES:
        assert found.states(decided_thread(way, mode)) == ["decided"]
        assert effects_of(found, decided_thread(way, mode)) == []
    found.work(graph)
    for mode in MODES:
        assert effects_of(found, decided_thread(way, mode)) == ["pay-1 pay 1 bob"]
        assert found.states(decided_thread(way, mode)) == ["delivered"]
        assert found.state(graph, decided_thread(way, mode)).next == ()
    cut_off = running_thread(way)
    found.work(graph)
    assert effects_of(found, cut_off) == ["pay-1 pay 1 bob"]
    doubt = found.the_one()
    assert (doubt.kind, doubt.thread_id) == ("question", cut_off)
    found.decide(doubt, respond("it arrived"))
    assert [result.status for result in found.work(graph)] == ["finished"]
    assert effects_of(found, cut_off) == ["pay-1 pay 1 bob"]
