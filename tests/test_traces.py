"""Real agent behaviour: recorded runs, with a person asked about every call, end as they were recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hitl_graph.checkpointers import SqliteCheckpointer
from tests.traces_replay import REVIEWER, TRACES, Replay, Trace, as_recorded, expected, load, play, reviewer

FILES = ("traces.jsonl.gz", "unlabelled.jsonl.gz")

pytestmark = pytest.mark.skipif(
    not TRACES.is_dir(), reason=f"the recorded runs are not here ({TRACES}); they are no part of the repository"
)


def test_a_sample_of_recorded_runs(tmp_path: Path, told: Callable[[str], None]) -> None:
    every_twentieth = [trace for file in FILES for trace in load(TRACES / file)[::20]]
    told(f"sample: {_replayed(every_twentieth, str(tmp_path / 'agent.db'))}")


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_all_recorded_runs(file: str, tmp_path: Path, told: Callable[[str], None]) -> None:
    told(f"{file}: {_replayed(load(TRACES / file), str(tmp_path / 'agent.db'))}")


@pytest.fixture
def told(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says something in the output of the tests, and in their report."""

    def tell(line: str) -> None:
        record_property("replayed", line)
        with capsys.disabled():
            print(f"\n{line}")

    return tell


def _replayed(traces: Sequence[Trace], path: str) -> str:
    """Replay and compare; returns the figures in words."""
    wanted = {(trace.id, position) for trace in traces for position in trace.outputs()}
    replay = Replay(traces)
    with SqliteCheckpointer(path) as checkpointer:
        graph, ledger = replay.graph(checkpointer), checkpointer.ledger
        with reviewer(path):
            play(traces, graph, ledger, patience=60)
        for trace in traces:
            messages = graph.get_state({"configurable": {"thread_id": trace.id}}).values["messages"]
            assert [as_recorded(message) for message in messages] == expected(trace), trace.id
            asked = ledger.history(trace.id)
            assert [request.state for request in asked] == ["delivered"] * len(trace.outputs()), trace.id
            assert {request.reviewer for request in asked} <= {REVIEWER}, trace.id
            assert [row["state"] for row in ledger.executed(trace.id)] == ["done"] * len(asked), trace.id
        report = ledger.verify_audit()
    assert report.ok, report.problem
    assert replay.ran == dict.fromkeys(wanted, 1)
    never = sum(len(message.get("tool_calls") or []) for trace in traces for message in trace.messages) - len(wanted)
    return (
        f"{len(traces)} runs, {len(wanted)} calls asked, approved in another process and run once"
        f" ({never} recorded calls have no output and were not made); {report.rows} audit rows"
    )
