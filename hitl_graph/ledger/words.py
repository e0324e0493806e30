"""The words by which a request is found. Plain functions, the same for both databases.

Letters are compared without case and accents. A word of a search also finds longer words that begin with it; where a
script has no blanks between words, each letter is one.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from hitl_graph.model import Request

__all__ = ["fits", "in_request", "of"]

LONGEST, MOST = 64, 4000
"""Letters of a word, and words of a request, that count."""
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
    for text in _texts((*named, *told)):
        found.update(dict.fromkeys(of(text)))
        if len(found) > MOST:
            break
    return list(found)[:MOST]


def fits(wanted: Iterable[str], words: Iterable[str]) -> bool:
    """Whether each wanted word begins one of the others."""
    there = list(words)
    return all(any(word.startswith(each) for word in there) for each in wanted)


def _texts(value: Any) -> Iterator[str]:
    """Strings and numbers of plain JSON, without the names of fields."""
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)
        case bool() | None:
            pass
        case _:
            yield str(value)
