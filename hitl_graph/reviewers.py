"""Who people are, and who of them a rule means. No I/O.

A rule names people by selectors: `alice`, `role:finance`, `group:oncall`, `*`, or several of them joined by `and`,
`or`, `not` and brackets: `role:finance and not group:contractors`. Roles and groups come from the authentication or
from a directory, never from what is sent along with an answer.
"""

import ast
import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, Self

from hitl_graph.errors import DirectoryError

__all__ = [
    "ANONYMOUS",
    "Directory",
    "Reviewer",
    "StaticDirectory",
    "authenticated",
    "check_selector",
    "person",
    "same",
    "selects",
]

ANONYMOUS = "anonymous"
"""Who answers where nobody was authenticated."""
_WORDS = ("and", "or", "not")
_UNSEEN = {"\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u3164", "\uffa0", *map(chr, range(0xFE00, 0xFE10))}
_TOKEN = re.compile(r"[()]|[^\s()]+")


@dataclass(frozen=True)
class Reviewer:
    """An authenticated person.

    Attributes:
        name: Identity, such as a user name or an e-mail address.
        roles: Such as `finance`; a rule says `role:finance`.
        groups: Such as `oncall`; a rule says `group:oncall`.
    """

    name: str
    roles: frozenset[str] = field(default_factory=frozenset)
    groups: frozenset[str] = field(default_factory=frozenset)

    def __init__(self, name: str, roles: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
        if not isinstance(name, str) or not _folded(name):
            raise ValueError("a reviewer needs a name")
        for option, given in (("roles", roles), ("groups", groups)):
            if isinstance(given, str):
                raise ValueError(f"{option}= takes a list of names, not one string")
            object.__setattr__(self, option, frozenset(given))
        object.__setattr__(self, "name", name.strip())

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody was authenticated."""
        return same(self.name, ANONYMOUS)


class Directory(Protocol):
    """Knows people. May be a plain function, too; asked at each decision, outside of transactions."""

    def __call__(self, name: str, /) -> Reviewer | None:
        """The person of this name; None if there is none."""
        ...


class StaticDirectory:
    """People from a mapping, or from a TOML file of `[people.NAME]` with `roles` and `groups`.

    Raises:
        DirectoryError: It makes no sense.
    """

    def __init__(self, people: Iterable[Reviewer]) -> None:
        self._people: dict[str, Reviewer] = {}
        for reviewer in people:
            if self._people.setdefault(_folded(reviewer.name), reviewer) is not reviewer:
                raise DirectoryError(f"the directory has {reviewer.name!r} twice (case does not count)")

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Self:
        """Read a TOML file."""
        try:
            contents = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise DirectoryError(f"{path} cannot be read as a directory of people: {exc}") from exc
        return cls(_listed(contents, str(path)))

    def __call__(self, name: str, /) -> Reviewer | None:
        """The person of this name, whatever its case."""
        return self._people.get(_folded(name))

    def __iter__(self) -> Iterator[Reviewer]:
        return iter(self._people.values())


def _listed(contents: Mapping[str, Any], path: str) -> list[Reviewer]:
    def wrong(what: str) -> DirectoryError:
        return DirectoryError(f'{path}: {what}; it takes [people.NAME] with roles = ["..."] and groups = ["..."]')

    people = contents.get("people")
    if contents.keys() - {"people"} or not isinstance(people, dict):
        raise wrong("there is no table `people`, or something beside it")
    found = []
    for name, entry in people.items():
        if not isinstance(entry, dict) or entry.keys() - {"roles", "groups"}:
            raise wrong(f"people.{name} has something else than roles and groups")
        for kind in entry:
            if not isinstance(entry[kind], list) or not all(isinstance(item, str) for item in entry[kind]):
                raise wrong(f"people.{name}.{kind} is no list of names")
        found.append(Reviewer(name, entry.get("roles", ()), entry.get("groups", ())))
    return found


def person(who: str | Reviewer, directory: Directory | None) -> Reviewer:
    """Who a name is: as the directory knows them, else a name without roles."""
    if isinstance(who, Reviewer):
        return who
    found = directory(who) if directory is not None else None
    return Reviewer(who) if found is None else found


def authenticated(user: object, directory: Directory | None, *, otherwise: object = None) -> Reviewer:
    """Who the user object of a server is (Starlette's, LangGraph Server's): anonymous, unless it is somebody.

    Args:
        user: Has `identity`, and perhaps `is_authenticated`, `roles`, `groups`, as attributes or as keys.
        directory: Adds the roles and groups that it knows.
        otherwise: The identity, where the user has none.
    """

    def told(name: str) -> Any:
        return user.get(name) if isinstance(user, Mapping) else getattr(user, name, None)

    if told("is_authenticated") is False:  # first: a user who is nobody may raise when asked for their identity
        return Reviewer(ANONYMOUS)
    identity = str(told("identity") or otherwise or "").strip()
    if not identity:
        return Reviewer(ANONYMOUS)
    known = person(identity, directory)
    return Reviewer(known.name, known.roles.union(_names(told("roles"))), known.groups.union(_names(told("groups"))))


def _names(told: object) -> list[str]:
    """Roles or groups, as an authentication gives them: a list, or one."""
    if isinstance(told, str):
        return [told]
    return [name for name in told if isinstance(name, str)] if isinstance(told, list | tuple | set | frozenset) else []


def same(one: str, other: str) -> bool:
    """Whether two names are one person, so that nobody counts twice.

    Case, blanks, characters that cannot be seen and the ways in which Unicode writes one letter do not count. Letters
    of other alphabets that look alike do: the authentication must not give two people names that differ only in those.
    """
    return one == other or _folded(one) == _folded(other)


@lru_cache(maxsize=4096)
def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = "".join(c for c in plain if c.isspace() or (unicodedata.category(c)[0] != "C" and c not in _UNSEEN))
    return " ".join(seen.split())


def selects(selector: str, reviewer: Reviewer) -> bool:
    """Whether a selector means this person. Nobody means the anonymous but `*`."""
    return _compiled(selector)(reviewer)


def check_selector(selector: object) -> None:
    """Refuse what is no selector.

    Raises:
        ValueError: Says what is wrong.
    """
    if not isinstance(selector, str):
        raise ValueError(f"{selector!r} is no text")
    _compiled(selector)


@lru_cache(maxsize=4096)
def _compiled(selector: str) -> Callable[[Reviewer], bool]:
    names: list[str] = []

    def placed(token: re.Match[str]) -> str:
        word = token[0]
        if word in _WORDS or word in "()":
            return f" {word} "
        names.append(word)
        return f" _{len(names) - 1} "

    python = _TOKEN.sub(placed, selector).strip()
    try:
        tree = ast.parse(python, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(
            f"{selector!r} names nobody; write a name, role:NAME, group:NAME or *, joined by and, or, not and brackets"
        ) from None
    return _meaning(tree, [_test(name, selector) for name in names])


def _meaning(tree: ast.expr, tests: list[Callable[[Reviewer], bool]]) -> Callable[[Reviewer], bool]:
    match tree:
        case ast.Name(id=name):
            return tests[int(name[1:])]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _meaning(operand, tests)
            return lambda reviewer: not reviewer.is_anonymous and not inner(reviewer)
        case ast.BoolOp(op=op, values=values):
            parts, every = [_meaning(value, tests) for value in values], isinstance(op, ast.And)
            return lambda reviewer: (all if every else any)(part(reviewer) for part in parts)
        case _:
            raise ValueError("a selector is made of names, and, or, not and brackets")


def _test(name: str, selector: str) -> Callable[[Reviewer], bool]:
    kind, colon, value = name.partition(":")
    if name == "*":
        return lambda _: True
    if colon and kind in ("role", "group") and value:
        return lambda reviewer: value in (reviewer.roles if kind == "role" else reviewer.groups)
    if colon and kind in ("user", "role", "group") and not value:
        raise ValueError(f"{selector!r}: there is no name after {name!r}")
    wanted = value if colon and kind == "user" else name
    return lambda reviewer: not reviewer.is_anonymous and same(reviewer.name, wanted)
