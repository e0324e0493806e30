"""I8 on PostgreSQL: what is changed there behind the ledger's back is found, too."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hitl_graph.ledger import AuditReport, Ledger, verification
from hitl_graph.storage import Transaction
from tests.databases import NOTE, open_ledger
from tests.invariants.processes import child
from tests.invariants.test_i8_audit_chain import SECRET, TABLES, other_values, play, write_on
from tests.postgres import Cluster

pytestmark = pytest.mark.sqlite_file  # it brings its own PostgreSQL


@pytest.fixture(scope="module")
def played(postgres_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Generator[Ledger]:
    folder = tmp_path_factory.mktemp("audit")
    with postgres_cluster.database() as dsn:
        (folder / NOTE).write_text(dsn)
        play(folder / "agent.db")
        with open_ledger(folder / "agent.db") as ledger:
            yield ledger


class _UndoneError(Exception):
    def __init__(self, report: AuditReport) -> None:
        self.report = report


def _tamper(ledger: Ledger, *statements: tuple[str, tuple[Any, ...]] | str) -> AuditReport | None:
    """What a verification says after these changes, which are undone; None: the database refuses them."""

    def work(tx: Transaction) -> None:
        for statement in statements:
            tx.execute(*((statement, ()) if isinstance(statement, str) else statement))
        raise _UndoneError(verification.verify(tx))

    with pytest.raises((_UndoneError, psycopg.Error)) as caught:
        ledger.database.write(work)
    return caught.value.report if isinstance(caught.value, _UndoneError) else None


def _columns(ledger: Ledger, table: str) -> list[str]:
    sql = (
        "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ?"
        " ORDER BY ordinal_position"
    )
    return [row[0] for row in ledger.database.read(lambda tx: tx.execute(sql, (table,)).fetchall())]


def _rows(ledger: Ledger, table: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = ledger.database.read(lambda tx: tx.execute(f"SELECT * FROM {table}").fetchall())
    return found


@pytest.mark.parametrize("table", TABLES)
def test_every_change_of_every_cell_and_every_missing_row_is_found(played: Ledger, table: str) -> None:
    assert played.verify_audit().ok
    missed, tried = list[tuple[str, Any]](), 0
    columns = _columns(played, table)
    for row in _rows(played, table):
        report = _tamper(played, (f"DELETE FROM {table} WHERE {columns[0]} = ?", (row[0],)))
        assert report is None or not report.ok
        for column, value in zip(columns, row, strict=True):
            for changed in other_values(value)[:2]:
                change = f"UPDATE {table} SET {column} = ? WHERE {columns[0]} = ?"
                report = _tamper(played, (change, (changed, row[0])))
                tried += report is not None
                if report is not None and report.ok:
                    missed.append((column, changed))
    assert missed == []
    assert tried > 20
    assert played.verify_audit().ok


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["DELETE FROM hitl_audit WHERE seq = (SELECT max(seq) FROM hitl_audit)"], "cut off"),
        (["DELETE FROM hitl_audit", "DELETE FROM hitl_audit_tip"], "wiped"),
        (["DELETE FROM hitl_audit WHERE seq = 5"], "row 5 is missing"),
        (["UPDATE hitl_requests SET reviewer = 'mallory' WHERE reviewer = 'bob'"], "decision"),
        (["INSERT INTO hitl_effects (permit_id, state, owner, started_ms) VALUES ('x', 'done', 'x', 1)"], "not exist"),
        (
            ["INSERT INTO hitl_votes (request_id, reviewer, channel, at_ms) VALUES ('x', 'm', 'cli', 1)"],
            "does not exist",
        ),
    ],
)
def test_what_a_forger_does_is_found(played: Ledger, statements: list[str], says: str) -> None:
    report = _tamper(played, *statements)
    assert report is not None
    assert report.problem is not None
    assert says in report.problem


def test_redaction_removes_what_was_said_and_keeps_the_log_valid(played: Ledger) -> None:
    before = played.verify_audit()
    removed = played.redact("t", actor="privacy officer", reason="Art. 17")
    after = played.verify_audit(before.head)
    assert after.ok
    assert after.redacted == removed > 0
    for table in TABLES:
        for row in _rows(played, table):
            assert not any(SECRET.encode() in (v if isinstance(v, bytes) else str(v).encode()) for v in row)


def test_verification_while_another_process_writes(tmp_path: Path, postgres_dsn: str) -> None:
    (tmp_path / NOTE).write_text(postgres_dsn)
    path = tmp_path / "agent.db"
    with child(write_on, str(path), str(tmp_path / "effects")) as writer:
        writer.hear("done")
        reports, anchor = list[AuditReport](), None
        with open_ledger(path) as ledger:
            while len(reports) < 20 or reports[-1].rows < reports[0].rows + 20:
                reports.append(ledger.verify_audit(anchor))
                assert reports[-1].problem is None
                anchor = reports[-1].head
            writer.kill()
            assert ledger.verify_audit(anchor).ok
