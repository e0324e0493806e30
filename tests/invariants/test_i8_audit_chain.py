"""I8: every transition is one row of a hash-chained log; any change is found; redaction keeps the log valid."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, tool

from hitl_graph.checkpointers import SqliteCheckpointer
from hitl_graph.errors import PermitError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import AuditReport, Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer
from tests.invariants.agents import build, config_of, pay_call, ran, search_call, start
from tests.invariants.processes import Report, child

pytestmark = pytest.mark.sqlite_file  # cells are changed in the file
TABLES = ("hitl_audit", "hitl_requests", "hitl_votes", "hitl_permits", "hitl_effects")
SECRET = "xyzzy-4711"


def audited_tools(effects: Path) -> list[BaseTool]:
    @tool
    def pay(eur: int, to: str) -> str:
        """Send money."""
        with effects.open("a") as lines:
            lines.write(f"pay {eur} {to}\n")
        if eur == 13:
            raise ConnectionError(f"no answer about {to}")
        return f"paid {eur} to {to}"

    @tool
    def search(q: str) -> str:
        """Search the web."""
        return f"found {q}"

    return [pay, search]


def play(path: Path) -> None:
    """All that a log can tell: all words, all ends of an effect, questions, superseded requests."""
    with open_checkpointer(path) as checkpointer:
        graph = build(checkpointer, path.with_suffix(".effects"), tools=audited_tools(path.with_suffix(".effects")))
        inbox, worker = Inbox(checkpointer.ledger), Worker(graph, checkpointer.ledger)
        start(graph, "t", [search_call("x"), *(pay_call(eur, SECRET) for eur in (1, 2, 3, 4, 13))])
        answers = {
            1: approve("fine by me"), 2: edit({"eur": 20, "to": SECRET}), 3: reject(f"no {SECRET}"),
            4: respond(f"say {SECRET}"), 13: approve(),
        }  # fmt: skip
        for request in inbox.pending():
            assert request.action is not None
            decision = answers[request.action.args["eur"]]  # type: ignore[index]
            inbox.decide(request.id, decision, reviewer="alice", channel="cli")
        worker.run_once()  # raises in one tool
        worker.run_once()
        [question] = inbox.pending(kind="question")
        inbox.decide(question.id, respond("it was paid"), reviewer="bob")
        worker.run_once()
        start(graph, "other", [pay_call(5)])
        graph.update_state(config_of("other"), {"messages": []})
        start(graph, "waits", [pay_call(6), pay_call(7)])
        inbox.decide(inbox.pending(thread_id="waits")[0].id, approve(), reviewer="alice")
        assert checkpointer.ledger.verify_audit().ok


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "agent.db"
    play(path)
    return path


def _verify(path: Path, anchor: str | None = None) -> AuditReport:
    with Ledger.open(path) as ledger:
        return ledger.verify_audit(anchor)


def _tamper(original: Path, copy: Path, *statements: tuple[str, tuple[Any, ...]] | str) -> AuditReport:
    """What a verification says after somebody wrote into a copy of the file."""
    shutil.copy(original, copy)
    with closing(sqlite3.connect(copy)) as connection:
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)
        connection.commit()
    return _verify(copy)


def _cells(path: Path) -> Iterator[tuple[str, str, Any, Any]]:
    """Every cell of the ledger's tables: (table, column, key, value)."""
    with closing(sqlite3.connect(path)) as connection:
        for table in TABLES:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for row in connection.execute(f"SELECT * FROM {table}"):
                for column, value in zip(columns, row, strict=True):
                    yield table, column, row[0], value


def test_what_is_played_has_every_transition_once(original: Path) -> None:
    with closing(sqlite3.connect(original)) as connection:
        events = Counter(row[0] for row in connection.execute("SELECT event FROM hitl_audit"))
        numbers = [row[0] for row in connection.execute("SELECT seq FROM hitl_audit ORDER BY seq")]
        requests = Counter(row[0] for row in connection.execute("SELECT state FROM hitl_requests"))
        effects = Counter(row[0] for row in connection.execute("SELECT state FROM hitl_effects"))
    assert numbers == list(range(1, len(numbers) + 1))
    assert requests == {"delivered": 6, "superseded": 1, "decided": 1, "pending": 1}
    assert effects == {"done": 4}
    assert events == {
        "request.opened": 9, "request.parked": 9, "request.decided": 7, "request.delivered": 6,
        "request.superseded": 1, "effect.reserved": 4, "effect.done": 4, "effect.failed": 1,
    }  # fmt: skip


def test_every_change_of_every_cell_is_found(original: Path, tmp_path: Path) -> None:
    """Exhaustive: each column of each row of each table, one at a time."""
    missed, tried = [], 0
    with closing(sqlite3.connect(":memory:")) as pristine:
        with closing(sqlite3.connect(original)) as source:
            source.backup(pristine)
        keys = {table: pristine.execute(f"PRAGMA table_info({table})").fetchone()[1] for table in TABLES}
        path = tmp_path / "copy.db"
        shutil.copy(original, path)
        with Ledger.open(path) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for table, column, key, value in _cells(original):
                for changed in other_values(value):
                    where = f"WHERE {keys[table]} IS ?"
                    try:
                        connection.execute(f"UPDATE {table} SET {column} = ? {where}", (changed, key))
                    except sqlite3.IntegrityError:
                        continue  # the database itself refuses it
                    tried += 1
                    if ledger.verify_audit().ok:
                        missed.append((table, column, key, changed))
                    new_key = changed if column == keys[table] else key
                    connection.execute(f"UPDATE {table} SET {column} = ? {where}", (value, new_key))
            assert ledger.verify_audit().ok, "the test did not put everything back"
    assert missed == []
    assert tried > 1000


def other_values(value: Any) -> list[Any]:
    match value:
        case None:
            return ["x", 1]
        case int() | float():
            return [value + 1, None]
        case str():
            return [f"{value} ", value.swapcase() if value.swapcase() != value else "other", None]
        case bytes():
            return [value[:-1] + bytes([value[-1] ^ 1]), None]
        case _:
            raise AssertionError(value)


def test_every_missing_row_is_found(original: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(original)) as connection:
        rows = [
            (table, connection.execute(f"PRAGMA table_info({table})").fetchone()[1], row[0])
            for table in TABLES
            for row in connection.execute(f"SELECT * FROM {table}")
        ]
    for table, column, key in rows:
        report = _tamper(original, tmp_path / "copy.db", (f"DELETE FROM {table} WHERE {column} = ?", (key,)))
        assert not report.ok, (table, key)


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["DELETE FROM hitl_audit WHERE seq = (SELECT max(seq) FROM hitl_audit)"], "cut off"),
        (["DELETE FROM hitl_audit WHERE seq > 10"], "cut off"),
        (["DELETE FROM hitl_audit WHERE seq > 10", "UPDATE hitl_audit_tip SET seq = 10"], "request"),
        (["DELETE FROM hitl_audit WHERE seq > 10", "DELETE FROM hitl_audit_tip"], "wiped"),
        (["DELETE FROM hitl_audit"], "cut off"),
        (["DELETE FROM hitl_audit", "DELETE FROM hitl_audit_tip"], "wiped"),
        (["DELETE FROM hitl_audit", "UPDATE hitl_audit_tip SET seq = 0"], "not in the log"),
        (["DELETE FROM hitl_audit WHERE seq = 5"], "row 5 is missing"),
        (["UPDATE hitl_audit SET seq = -1 WHERE seq = 3", "UPDATE hitl_audit SET seq = 3 WHERE seq = 4",
          "UPDATE hitl_audit SET seq = 4 WHERE seq = -1"], "row 3"),
        (["INSERT INTO hitl_audit (at_ms, event, subject, actor, body, salt, commitment, hash)"
          " SELECT at_ms, event, subject,"
          " actor, body, salt, commitment, hash FROM hitl_audit WHERE seq = 2"], "was changed"),
        (["UPDATE hitl_audit SET body = NULL, salt = NULL WHERE seq = 7"], "no redaction is on record"),
        (["CREATE TEMP TABLE one AS SELECT * FROM hitl_requests LIMIT 1", "UPDATE one SET id = 'ffff'",
          "INSERT INTO hitl_requests SELECT * FROM one"], "not in the log"),
        (["INSERT INTO hitl_permits (id, action_key, attempt, thread_id, request_id, tool, digest, reason, issued_ms)"
          " SELECT id || 'x', action_key, attempt + 1, thread_id,"
          " request_id, tool, digest, reason,"
          " issued_ms FROM hitl_permits LIMIT 1"], "not in the log"),
        (["INSERT INTO hitl_effects (permit_id, state, owner, started_ms) VALUES ('x', 'done', 'x',"
          " 1)"], "does not exist"),
        (["INSERT INTO hitl_votes (request_id, reviewer, decision, channel, at_ms)"
          " SELECT request_id, 'mallory', decision, channel, 1 FROM hitl_votes LIMIT 1"], "was changed"),
        (["INSERT INTO hitl_votes (request_id, reviewer, channel, at_ms)"
          " VALUES ('x', 'mallory', 'cli', 1)"], "does not exist"),
        (["UPDATE hitl_requests SET decision = '{\"type\":\"approve\"}' WHERE decision LIKE '%reject%'"], "decision"),
        (["UPDATE hitl_requests SET reviewer = 'mallory' WHERE reviewer = 'bob'"], "decision"),
        (["UPDATE hitl_requests SET state = 'decided' WHERE state = 'pending'"], "the log says pending"),
        (["UPDATE hitl_effects SET result = x'00' WHERE permit_id = (SELECT min(permit_id) FROM"
          " hitl_effects)"], "effect"),
    ],
)  # fmt: skip
def test_what_a_forger_does_is_found(original: Path, tmp_path: Path, statements: list[str], says: str) -> None:
    report = _tamper(original, tmp_path / "copy.db", *statements)
    assert report.problem is not None
    assert says in report.problem


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_cell_is_found(original: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever a value is (another type, huge, no time, no JSON), it is found, and does not break the verification."""
    cells = list(_cells(original))
    table, column, key, value = data.draw(st.sampled_from(cells), label="cell")
    integers = st.integers(-(2**63), 2**63 - 1)
    texts = st.text(st.characters(codec="utf-8"), max_size=20)
    changed = data.draw(st.one_of(st.none(), integers, st.floats(allow_nan=False), texts, st.binary(max_size=20)))
    with closing(sqlite3.connect(original)) as connection:
        [first] = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[0] == 0]
    copy = tmp_path / "copy.db"
    shutil.copy(original, copy)
    with closing(sqlite3.connect(copy)) as connection:
        try:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {first} = ?", (changed, key))
        except (sqlite3.IntegrityError, sqlite3.OperationalError):
            return
        connection.commit()
        new_key = connection.execute(f"SELECT {column} FROM {table} WHERE {first} = ?", (key,)).fetchone()
        if new_key is not None and (type(new_key[0]), new_key[0]) == (type(value), value):
            return  # SQLite took it for the same value
    assert not _verify(copy).ok


def test_a_head_kept_elsewhere_finds_a_log_that_was_rewritten_whole(original: Path, tmp_path: Path) -> None:
    report = _verify(original)
    assert report.ok
    assert _verify(original, report.head).ok
    play(tmp_path / "forged.db")
    forged = _verify(tmp_path / "forged.db", report.head)
    assert forged.problem is not None
    assert "not in this chain" in forged.problem
    later = tmp_path / "later.db"
    shutil.copy(original, later)
    with Ledger.open(later) as ledger:
        [pending] = ledger.pending_rows()
        Inbox(ledger).decide(pending.id, reject("no"), reviewer="alice")
        assert ledger.verify_audit(report.head).ok
        assert ledger.verify_audit().rows == report.rows + 1


def test_redaction_removes_what_was_said_and_keeps_the_log_valid(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    shutil.copy(original, path)
    before = _verify(path)
    assert _in_file(path, SECRET)
    with SqliteCheckpointer(path) as checkpointer:
        ledger = checkpointer.ledger
        removed = ledger.redact("t", actor="privacy officer", reason="Art. 17")
        assert removed > 0
        report = ledger.verify_audit()
        assert report.ok
        assert report.redacted == removed
        assert ledger.verify_audit(before.head).ok  # that it happened stays provable
        history = ledger.history("t")
        assert {request.state for request in history} == {"delivered"}
        assert {(request.reviewer, request.decision, request.action) for request in history} == {
            ("alice", None, None), ("bob", None, None),
        }  # fmt: skip
        assert [row["state"] for row in ledger.executed("t")] == ["done"] * 4
        assert not _in_tables(path, SECRET, TABLES)
        assert ledger.redact("t", actor="privacy officer", reason="again") == 0
        assert ledger.verify_audit().ok
        checkpointer.delete_thread("t")  # the messages are the checkpointer's
        assert ledger.verify_audit().ok
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not _in_file(path, SECRET)
    assert _verify(path).ok


def test_a_request_that_is_redacted_while_it_waits_is_cancelled(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    shutil.copy(original, path)
    with SqliteCheckpointer(path) as checkpointer:
        checkpointer.ledger.redact("waits", actor="privacy officer", reason="Art. 17")
        assert {request.state for request in checkpointer.ledger.history("waits")} == {"cancelled"}
        graph = build(checkpointer, tmp_path / "effects", tools=audited_tools(tmp_path / "effects"))
        assert Worker(graph, checkpointer.ledger).run_once() == []
        assert ran(tmp_path / "effects") == []
        assert checkpointer.ledger.verify_audit().ok


def test_an_action_whose_result_was_redacted_does_not_run_again(original: Path, tmp_path: Path) -> None:
    path, effects = tmp_path / "agent.db", tmp_path / "effects"
    shutil.copy(original, path)
    with SqliteCheckpointer(path) as checkpointer:
        graph = build(checkpointer, effects, tools=audited_tools(effects))
        paused = [s for s in graph.get_state_history(config_of("t")) if len(s.values["messages"]) == 2][-1]
        message = paused.values["messages"][1]
        checkpointer.ledger.redact("t", actor="privacy officer", reason="Art. 17")
        fork = graph.update_state(paused.config, {"messages": [message]}, as_node="agent")
        with pytest.raises(PermitError, match="redacted"):
            graph.invoke(None, fork)
        assert ran(effects) == []
        assert checkpointer.ledger.verify_audit().ok


def test_a_change_of_what_was_redacted_is_found(original: Path, tmp_path: Path) -> None:
    redacted = tmp_path / "redacted.db"
    shutil.copy(original, redacted)
    with Ledger.open(redacted) as ledger:
        ledger.redact("t", actor="privacy officer", reason="Art. 17")
    for statement in (
        "UPDATE hitl_requests SET reviewer = 'mallory' WHERE thread_id = 't'",
        "UPDATE hitl_requests SET state = 'cancelled' WHERE thread_id = 't'",
        "UPDATE hitl_effects SET state = 'failed' WHERE permit_id IN (SELECT id FROM hitl_permits WHERE"
        " thread_id = 't')",
        "UPDATE hitl_permits SET tool = 'search' WHERE thread_id = 't'",
        "DELETE FROM hitl_votes",
        "DELETE FROM hitl_permits WHERE thread_id = 't'",
        "DELETE FROM hitl_requests WHERE thread_id = 't'",
        "UPDATE hitl_audit SET body = '{}' WHERE body IS NULL",
        "UPDATE hitl_audit SET body = NULL WHERE event = 'audit.redacted'",
    ):
        assert not _tamper(redacted, tmp_path / "copy.db", statement).ok, statement


def write_on(report: Report, path: str, effects: str) -> None:
    with open_checkpointer(path) as checkpointer:
        graph, inbox = build(checkpointer, effects), Inbox(checkpointer.ledger)
        worker = Worker(graph, checkpointer.ledger)
        for number in range(10_000):
            start(graph, f"t{number}", [pay_call(number)])
            for request in inbox.pending():
                inbox.decide(request.id, approve(), reviewer="alice")
            worker.run_once()
            report("done", number)


def test_verification_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    with child(write_on, str(path), str(tmp_path / "effects")) as writer:
        writer.hear("done")
        reports, anchor = list[AuditReport](), None
        with Ledger.open(path) as ledger:
            while len(reports) < 100 or reports[-1].rows < reports[0].rows + 20:
                reports.append(ledger.verify_audit(anchor))
                assert reports[-1].problem is None
                anchor = reports[-1].head
            writer.kill()
            assert ledger.verify_audit(anchor).ok
    assert [report.rows for report in reports] == sorted(report.rows for report in reports)


def _in_tables(path: Path, text: str, tables: tuple[str, ...]) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        cells = [
            (table, column, value)
            for table in tables
            for row in [connection.execute(f"SELECT * FROM {table}")]
            for values in row
            for (column, *_), value in zip(row.description, values, strict=True)
        ]
    needle = text.encode()
    return [(t, c) for t, c, v in cells if needle in (v if isinstance(v, bytes) else str(v).encode())]


def _in_file(path: Path, text: str) -> bool:
    files = [path, *(Path(f"{path}{end}") for end in ("-wal", "-shm"))]
    return any(text.encode() in file.read_bytes() for file in files if file.exists())
