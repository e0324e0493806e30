"""The words by which a request is found: an index that is kept while the request waits.

What is a word is said here, the same for both databases.
Letters are compared without case and accents. A word of a search also finds longer words that begin with it; where a
script has no blanks between words, each letter is one.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from hitl_graph.model import Request
from hitl_graph.storage import Transaction

__all__ = ["TIES", "are_common", "enter", "in_request", "is_behind", "leave", "marks", "of", "place", "query", "texts"]

LONGEST, MOST, _ASKED = 64, 4000, 32
"""Letters of a word, words of a request, and words of a search, that count."""
_COMMON = 20_000  # requests
TIES, _SPREAD = 20, 64
"""Bits of an id that order what was asked in one millisecond; places that are tried where they are the same."""
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def of(text: str) -> list[str]:
    """The words of a text, in their order."""
    if not text.isascii():
        plain = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return [word[:LONGEST] for word in _WORD.findall(text.casefold())]


def in_request(request: Request) -> list[str]:
    """The words of its tool, arguments, question, draft, reason, description, thread and id; each once."""
    told = (request.id, request.thread_id, request.reason, request.description, request.question, request.draft)
    named = (request.action.name, request.action.args) if request.action else ()
    found = dict[str, None]()
    for text in texts((*named, *told)):
        found.update(dict.fromkeys(of(text)))
        if len(found) > MOST:
            break
    return list(found)[:MOST]


def texts(value: Any) -> Iterator[str]:
    """Strings and numbers of plain JSON, without the names of fields."""
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from texts(inner)
        case list() | tuple():
            for inner in value:
                yield from texts(inner)
        case bool() | None:
            pass
        case _:
            yield str(value)


def enter(tx: Transaction, request: Request, created_ms: int) -> None:
    """Put the words of a request into the index, which has none of it."""
    text = " ".join(in_request(request))
    if tx.dialect == "postgres":
        tx.execute(
            "INSERT INTO hitl_words (request, words) VALUES (?, array_to_tsvector(string_to_array(?, ' ')))"
            " ON CONFLICT DO NOTHING",
            (request.id, text),
        )
        return
    first, last = _places(created_ms, request.id)
    rows = tx.execute("SELECT rowid FROM hitl_words WHERE rowid BETWEEN ? AND ?", (first, last)).fetchall()
    free = sorted(set(range(first, last + 1)) - {row[0] for row in rows}) if rows else [first]
    sorts = marks(request.kind, request.action.name if request.action else None, request.risk, request.thread_id)
    tx.execute(
        "INSERT INTO hitl_words (rowid, request, words) VALUES (?,?,?)",
        (free[0], request.id, " ".join((text, *sorts))),
    )


def leave(tx: Transaction, request_id: str, created_ms: int) -> None:
    """Take the words of a request out of the index."""
    if tx.dialect == "postgres":
        tx.execute("DELETE FROM hitl_words WHERE request = ?", (request_id,))
    else:
        places = _places(created_ms, request_id)
        tx.execute("DELETE FROM hitl_words WHERE rowid BETWEEN ? AND ? AND request = ?", (*places, request_id))


def place(tx: Transaction, created_ms: int, request_id: str) -> int:
    """The place of a request in the index of SQLite, or where it would be."""
    first, last = _places(created_ms, request_id)
    row = tx.execute(
        "SELECT rowid FROM hitl_words WHERE rowid BETWEEN ? AND ? AND request = ?", (first, last, request_id)
    ).fetchone()
    return first if row is None else int(row[0])


def marks(kind: str | None, tool: str | None, risk: str | None, thread_id: str | None) -> list[str]:
    """What else is in the index of SQLite, which cannot put two indexes together: words that nobody can look for."""
    named = {"k": kind, "t": tool, "r": risk, "h": thread_id}
    return ["§".join(("", sort, *of(name))) for sort, name in named.items() if name is not None]


def query(tx: Transaction, wanted: Sequence[str], marked: Sequence[str] = ()) -> str:
    """What the index is asked for: all of these words, or longer ones that begin so."""
    wanted = list(dict.fromkeys(wanted))[:_ASKED]
    if tx.dialect == "postgres":
        return " & ".join(f"'{word}':*" for word in wanted)
    return " AND ".join([*(f'"{mark}"' for mark in marked), *(f'"{word}"*' for word in wanted)])


def are_common(tx: Transaction, query: str) -> bool:
    """Whether so many have these words that going through the list finds a page sooner than they are sorted."""
    rows = tx.execute(
        "SELECT count(*) FROM (SELECT 1 FROM hitl_words WHERE words @@ CAST(? AS tsquery) LIMIT ?) AS found",
        (query, _COMMON),
    )
    return bool(rows.fetchone()[0] >= _COMMON)


def is_behind(tx: Transaction) -> bool:
    """Whether something waits that was asked before there was an index."""
    return tx.execute("SELECT 1 FROM hitl_words_due LIMIT 1").fetchone() is not None


def _places(created_ms: int, request_id: str) -> tuple[int, int]:
    first = (created_ms << TIES) + int(request_id[: TIES // 4], 16)
    return first, first + _SPREAD - 1
