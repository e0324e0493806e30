"""What a file of labels says, entry by entry. No I/O.

Nothing is guessed: what is not understood is refused with its reason, and the rest is read all the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue

from hitl_graph.model import WORDS, Word

__all__ = ["Label", "Refused", "Unclear", "checked", "entries", "mapping", "name_of", "word_of"]


@dataclass(frozen=True)
class Label:
    """One person's answer, as a file says it.

    Attributes:
        output: What it was edited to, or what was shown; None where it does not say.
        is_typed: Whether that is what somebody typed, so that JSON is a text.
        message: A reason, an answer or a comment.
        who: Who says so, as the file names them; None where it does not.
        digest: Of what they were shown; None where it does not say.
    """

    request_id: str
    word: Word
    output: JsonValue = None
    is_typed: bool = False
    message: JsonValue = None
    who: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Refused:
    """What was not recorded: where it stands in the file, of which request, and why."""

    where: str
    request_id: str | None
    reason: str


class Unclear(Exception):
    """What is wrong with an entry."""


def entries(data: bytes) -> Iterator[tuple[str, Any]]:
    """The entries of a file, a JSON array or JSON lines: where each stands, and what it says; `Unclear` for no JSON."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"[":
        try:
            found = checked(data)
        except Unclear as why:
            yield "the file", why
            return
        yield from ((f"item {number}", one) for number, one in enumerate(found, 1))
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", checked(line)
            except Unclear as why:
                yield f"line {number}", why


def checked(data: bytes | str) -> Any:
    """JSON that means one thing: a key that stands there twice, and what is no number, are errors.

    Raises:
        Unclear: It is none.
    """
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError as exc:
        raise Unclear("it is no JSON that can be read: nested too deep") from exc
    except ValueError as exc:
        raise Unclear(f"it is no JSON: {exc}") from exc


def mapping(value: Any, otherwise: str) -> Mapping[str, Any]:
    """The object that it is.

    Raises:
        Unclear: It is none.
    """
    if not isinstance(value, dict):
        raise Unclear(otherwise)
    return cast("dict[str, Any]", value)


def word_of(value: Any) -> Word:
    """One of the four words.

    Raises:
        Unclear: It is none.
    """
    for word in WORDS:
        if value == word:
            return word
    raise Unclear(f"{json.dumps(value)[:60]} is not one of {', '.join(WORDS)}")


def name_of(value: Any, what: str) -> str | None:
    """A name, an id or a digest, if there is one.

    Raises:
        Unclear: It is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or not _is_name(str(value).strip()):
        raise Unclear(f"its {what} is {json.dumps(value)[:60]}, which is none")
    return str(value).strip()


def _is_name(text: str) -> bool:
    return bool(text) and text.isprintable()  # no zero, no half a surrogate: databases take neither


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
