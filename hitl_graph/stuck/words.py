"""Texts made comparable: what may differ without meaning anything is masked, and what is left is compared as words."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["LIMIT", "clip", "fingerprint", "gist", "loose", "new_share", "prose", "similarity", "template", "words"]

LIMIT = 4000
"""A text is judged by so much of its beginning and its end; no message costs more than that."""

_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:z|[+-]\d\d:?\d\d)?)?"  # dates and times
    r"|\b\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?\b"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # uuids
    r"|\b0x[0-9a-f]+\b"
    r"|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{12,}\b"  # digests
    r"|\b\d{10,}\b"  # epochs and the like
    r"|\b\d+(?:ns|[uµm]s|s)\b|\b\d+[.,]\d+ ?(?:ns|[uµm]s|s|secs?|seconds?)\b"  # durations
)
_SPACE = re.compile(r"\s+")
_QUOTES = re.compile(r"""["'`\\]""")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_QUOTED = re.compile(r"""(["'`\u201c\u2018])(?:(?!\1).){0,200}?["'`\u201d\u2019]|\[[^\[\]]{0,2000}\]""")
_PATH = re.compile(r"\S*[/\\]\S+")
_NUMBER = re.compile(r"\d+")
_SIGNS = re.compile(r"""[^\w\s.,'\u2019:\-"?!]""")

# Words that carry no content, in English; of other languages they only dilute the comparison.
_EMPTY = frozenset(
    "a about above after again all also am an and any are as at be been before being below both but by can could did do"
    " does doing down during each else few for from further get had has have having he her here hers him his how i i'd"
    " i'll i'm i've if in into is it it's its itself just let let's like may me might more most must my need no nor not"
    " now of off on once one only or other our out over own please same shall she should so some such than that that's"
    " the their them then there these they this those through to too under until up us very was we we'll were what when"
    " where which while who why will with would you you'll your yours".split()
)


def clip(text: str, limit: int = LIMIT) -> str:
    """The beginning and the end of a text that is too long."""
    return text if len(text) <= limit else f"{text[: limit // 2]}\n{text[-(limit - limit // 2) :]}"


def fingerprint(text: str) -> str:
    """A result without what changes by itself: times, durations, addresses, ids, case and spacing.

    Plain numbers stay: a progress that counts up is a change. So does every difference in the middle of a long text.
    """
    return _SPACE.sub(" ", _VOLATILE.sub("#", clip(text).lower())).strip() + _middle(text)


def loose(text: str) -> str:
    """An action without case, spacing and quotes. Everything else stays: another id is another target."""
    return _SPACE.sub(" ", _QUOTES.sub("", clip(text).lower())).strip() + _middle(text)


def _middle(text: str) -> str:
    """Stands for what `clip` leaves out."""
    if len(text) <= LIMIT:
        return ""
    return f" {hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def words(text: str) -> frozenset[str]:
    """The different words of a text, numbers too; empty words left out."""
    return frozenset(_WORD.findall(clip(text).lower())) - _EMPTY


def prose(text: str) -> bool:
    """Whether a text reads like a request to somebody: sentences with their small words, and few signs of code."""
    text = text[:LIMIT]
    found = _WORD.findall(text.lower())
    if len(found) < 8 or sum(word in _EMPTY for word in found) < len(found) / 4:
        return False
    return len(_SIGNS.findall(text)) <= 0.06 * len(text)


def gist(texts: Sequence[frozenset[str]]) -> tuple[str, ...]:
    """The few words that most of the texts have, by which to know their topic again."""
    counts = Counter(word for text in texts for word in text)
    common = [word for word, count in counts.items() if 2 * count > len(texts)]
    return tuple(sorted(sorted(common, key=lambda word: (-counts[word], word))[:3]))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard: the share of words that two texts have in common."""
    if not one or not other:
        return float(one == other)
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def template(line: str, said: Iterable[str] = ()) -> frozenset[str]:
    """The words of a message about something, without the something: quotes, paths, numbers, and what was `said`."""
    bare = _NUMBER.sub(" ", _PATH.sub(" ", _QUOTED.sub(" ", line.lower()[:400])))
    return frozenset(_WORD.findall(bare)) - frozenset(said)


def new_share(found: frozenset[str], known: Iterable[frozenset[str]]) -> float:
    """The share of words that none of the known texts has."""
    if not found:
        return 0.0
    rest = found.difference(*known)
    return len(rest) / len(found)
