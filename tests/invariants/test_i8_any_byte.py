"""I8: whatever is changed of the log in the database, be it one byte, is found. On both databases."""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitl_graph.ledger import Ledger, audit, chain, fingerprints, verification
from hitl_graph.ledger.chain import FIELDS
from hitl_graph.storage import Transaction
from tests.databases import open_ledger
from tests.invariants.test_i8_audit_chain import play

Row = dict[str, Any]
REFUSED = (sqlite3.IntegrityError, sqlite3.OperationalError, psycopg.Error)
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")


UNTRIED = ("refused", "nothing was changed")


class _Undone(Exception):
    def __init__(self, problem: str | None) -> None:
        self.problem = problem


def problem_with(ledger: Ledger, *statements: tuple[str, tuple[Any, ...]]) -> str | None:
    """What a verification says to a change, which is then undone; one of `UNTRIED` if it came to none."""

    def work(tx: Transaction) -> None:
        before = content(tx)
        try:
            for statement in statements:
                _ = tx.execute(*statement).rowcount
        except REFUSED:
            raise _Undone("refused") from None
        raise _Undone("nothing was changed" if content(tx) == before else verification.verify(tx).problem)

    try:
        ledger.database.write(work)
    except _Undone as undone:
        return undone.problem
    raise AssertionError("not undone")


def content(tx: Transaction) -> list[Any]:
    try:
        found = [
            tx.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in ("hitl_audit", "hitl_audit_tip")
        ]
    except sqlite3.OperationalError as error:  # SQLite takes what is no text for one
        return [str(error)]
    return [[(type(value), value) for value in row] for rows in found for row in rows]


@st.composite
def other_value(draw: st.DrawFn, given: Any) -> Any:
    """The value with one byte or character more, less or changed; or NULL."""
    value: Any = given
    match given:
        case int():
            return draw(st.sampled_from([None, value ^ (1 << draw(st.integers(0, 62))), -value]))
        case str() | bytes() if given:
            piece = draw(LETTERS if isinstance(value, str) else st.binary(min_size=1, max_size=1))
            at = draw(st.integers(0, len(value) - 1))
            changed = [value[:at] + piece + value[at + skip :] for skip in (0, 1)]
            return draw(st.sampled_from([*changed, value[:at] + value[at + 1 :], value[:0], None]))
        case _:
            return draw(st.sampled_from(["x", 1, b"x"]) | LETTERS | st.binary(max_size=16))


@st.composite
def tampering(draw: st.DrawFn, rows: list[Row], *, sqlite: bool) -> list[tuple[str, tuple[Any, ...]]]:
    """What somebody does to the log behind our back."""
    row, other_row = draw(st.sampled_from(rows)), draw(st.sampled_from(rows))
    column = draw(st.sampled_from(FIELDS))
    seq, last = row["seq"], rows[-1]["seq"]
    match draw(st.integers(0, 9)):
        case 0 | 1 | 2 | 3 | 4:
            value = draw(other_value(row[column]))
            return [(f"UPDATE hitl_audit SET {column} = ? WHERE seq = ?", (value, seq))]
        case 5:  # the same bytes as another type; bytes that are no text
            types = ["BLOB", "TEXT", "INTEGER", "REAL"] if sqlite else ["text"]
            broken = [f"CAST(x'{draw(st.binary(max_size=3)).hex()}ff' AS TEXT)"] if sqlite else ["NULL"]
            value = draw(st.sampled_from([f"CAST({column} AS {type_})" for type_ in types] + broken))
            return [(f"UPDATE hitl_audit SET {column} = {value} WHERE seq = ?", (seq,))]
        case 6:
            copied = f"(SELECT {column} FROM hitl_audit WHERE seq = ?)"
            return [(f"UPDATE hitl_audit SET {column} = {copied} WHERE seq = ?", (other_row["seq"], seq))]
        case 7:
            swap = [(seq, 1_000_000), (other_row["seq"], seq), (1_000_000, other_row["seq"])]
            return [("UPDATE hitl_audit SET seq = ? WHERE seq = ?", (new, old)) for old, new in swap]
        case 8:
            new, columns = draw(st.sampled_from([0, -1, last + 1, last + 2])), ", ".join(FIELDS[1:])
            copy = f"INSERT INTO hitl_audit (seq, {columns}) SELECT ?, {columns} FROM hitl_audit WHERE seq = ?"
            cut = [(f"DELETE FROM hitl_audit WHERE seq {which} ?", (seq,)) for which in ("=", ">=", "<", ">")]
            end = "UPDATE hitl_audit_tip SET seq = ?, hash = (SELECT hash FROM hitl_audit WHERE seq = ?)"
            return draw(st.sampled_from([[(copy, (new, seq))], *([one] for one in cut), [cut[3], (end, (seq, seq))]]))
        case _:
            value = draw(other_value(draw(st.sampled_from([last, rows[-1]["hash"]]))))
            column = "hash" if isinstance(value, str) else "seq"
            twice = "INSERT INTO hitl_audit_tip SELECT seq, hash FROM hitl_audit_tip"
            change = (f"UPDATE hitl_audit_tip SET {column} = ?", (value,))
            return [draw(st.sampled_from([change, ("DELETE FROM hitl_audit_tip", ()), (twice, ())]))]


def test_any_byte(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "agent.db"
    play(path)
    with open_ledger(path) as ledger:
        ledger.redact("other", actor="privacy officer", reason="Art. 17")
        columns = ", ".join(FIELDS)
        log = ledger.read(lambda tx: tx.execute(f"SELECT {columns} FROM hitl_audit ORDER BY seq").fetchall())
        rows = [dict(zip(FIELDS, row, strict=True)) for row in log]
        assert {row["body"] is None for row in rows} == {True, False}

        outcomes = list[str | None]()

        @settings(max_examples=500)
        @given(tampering(rows, sqlite=engine == "sqlite"))
        def any_tampering(statements: list[tuple[str, tuple[Any, ...]]]) -> None:
            outcomes.append(problem_with(ledger, *statements))
            assert outcomes[-1] is not None, statements

        any_tampering()
        for row in rows:
            for column in FIELDS:
                change = (f"UPDATE hitl_audit SET {column} = ? WHERE seq = ?", (other(row[column]), row["seq"]))
                outcomes.append(problem_with(ledger, change))
                assert outcomes[-1] is not None, change
        assert sum(outcome not in UNTRIED for outcome in outcomes) > 0.7 * len(outcomes)
        assert ledger.verify_audit().ok


def other(value: Any) -> Any:
    """With the last byte changed."""
    match value:
        case int():
            return value ^ 1
        case str():
            return value[:-1] + chr(ord(value[-1]) ^ 1)
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case _:
            return b"\0" if value is None else None


def test_no_letter_passes_from_the_salt_into_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commitment is over both, one after the other."""
    monkeypatch.setattr("os.urandom", lambda size: b" " * size)
    with open_ledger(tmp_path / "agent.db") as ledger:
        ledger.write(audit.append, 0, "note.made", "x", {"said": 1}, thread_id=None, actor="alice")
        moved = ("UPDATE hitl_audit SET salt = ?, body = ' ' || body", (b" " * 15,))
        assert "body of row 1" in str(problem_with(ledger, moved))


@pytest.mark.sqlite_file
def test_a_seal_is_the_same_whatever_letters_python_knows() -> None:
    """`repr` writes an emoji as it is as soon as Python has heard of it; 0.1.0 sealed what `repr` says."""
    fields = (1, 0, "note.made", "t\xe4glich \U0001fae8", 'o\'hara "x" \\', "\x00\x7f\u202e\ufffe", "0" * 64)
    assert chain.seal(chain.GENESIS, fields) == "0369b011c97e9a5d65c109cf3a97efb24ba77cc4d9e5fff2f14a111de85469f4"
    assert chain.is_sealed(chain.seal(chain.GENESIS, fields), chain.GENESIS, fields)
    old = hashlib.sha256("\0".join([chain.GENESIS, *map(repr, fields)]).encode()).hexdigest()
    assert old != chain.seal(chain.GENESIS, fields)
    assert chain.is_sealed(old, chain.GENESIS, fields)
    rows = [[("\xe4", None, 1.5, b"\xff")]]
    assert fingerprints.fits(fingerprints.hashed(rows), rows)
    assert fingerprints.fits(fingerprints.hashed(rows, repr), rows)
    assert not fingerprints.fits(fingerprints.hashed([[("a", None, 1.5, b"\xff")]]), rows)
