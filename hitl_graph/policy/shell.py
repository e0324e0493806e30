"""What a shell command runs, as far as its text says. No I/O.

Two questions, and they err on opposite sides. Is it surely nothing but this? Only where the text has no syntax beyond
plain words and quotes. Might it be, or contain, this? Wherever some reading of it does: behind `sudo`, in a
subshell, in `sh -c`, through a variable.
"""

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from posixpath import basename

from hitl_graph.policy.wildcard import fits

__all__ = ["CommandPattern"]

# Run what comes after them, or after their own options: any of their words may begin a command.
_WRAPPERS = frozenset(
    "sudo doas su env timeout time nice ionice nohup stdbuf setsid xargs parallel command builtin exec chroot busybox"
    " toybox watch strace ltrace unshare nsenter flock script ssh find fd entr eval trap chrt taskset"
    " systemd-run".split()
)
_RESERVED = frozenset("if then elif else do while until coproc time ! {".split())  # a command comes right after them
_PLACEHOLDERS = frozenset({"-I", "-J", "--replace"})  # of xargs
_FINDERS = frozenset({"find", "fd"})
_EXECUTES = frozenset("-exec -execdir -ok -okdir -x -X --exec --exec-batch".split())  # of find and fd
_SHELLS = frozenset("sh bash dash zsh ksh ash fish rbash mksh source .".split())
_UNREADABLE = frozenset({"alias", "unalias", "enable"})  # change what words mean
_LONGEST, _MOST, _DEEPEST = 20_000, 500, 4  # letters, commands, shells in shells; above, nobody knows
_UNKNOWN = ("$",)  # a command that only the shell can tell
_BRACKETS = frozenset({"[", "[[", "{", "}"})  # words of their own, nothing to expand
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_SEPARATOR = re.compile(r"[;&|()`\n]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[[^]]*\])?\+?=")
_EXPANDED = re.compile(r"[$`*?\[{]")
_QUOTED = re.compile(r"'[^'\x00-\x1f\x7f]*'|\"[^\"\\$`!\x00-\x1f\x7f]*\"")
_SYNTAX = re.compile(r"[^\x20-\x7e]|[;&|()<>`$\\!{}\[\]*?\"']|(?:^|[ =:])[~#]")  # what is more than plain words


class CommandPattern:
    """The specifier of `Bash(...)`: a command with `*` for anything, or `prefix:*`.

    Args:
        text: `git status`; `git push *` and `git push:*`, which are `git push` with or without more words.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._colon = text.endswith(":*")
        self._prefix = self._colon or (text.endswith(" *") and text.count("*") == 1)
        self._body = (text[:-2] if self._prefix else text).strip()

    @property
    def names_program(self) -> bool:
        """Whether it says which program runs, so that it can allow anything."""
        return bool(self._body) and not self._body.startswith("*")

    def surely(self, command: str) -> bool:
        """Whether the command is one call of one program in plain words and quotes, and the pattern has it."""
        text = command.strip(" ")
        if _QUOTED.match(text) or _SYNTAX.search(_QUOTED.sub("q", text)):
            return False
        if _ASSIGNMENT.match(text) and not _ASSIGNMENT.match(self._body):
            return False
        return _has(self._body, text, self._prefix)

    def perhaps(self, command: str) -> bool:
        """Whether it may come to running this, in some reading of it."""
        if len(command) > _LONGEST or _CONTROL.search(command):
            return True
        return any(map(self._may_be, _readings(command)))

    def _may_be(self, given: tuple[str, ...]) -> bool:
        """Whether these words may be the command: a word that the shell still expands may become anything."""
        body, words = self._body.casefold(), tuple(word.casefold() for word in given)
        literal = body.partition("*")[0].split()
        for index, word in enumerate(words):
            if word not in _BRACKETS and _EXPANDED.search(word):
                if any(known == literal[: len(known)] or not literal for known in _without_options(words[:index])):
                    return True
                break
        text = " ".join(words)
        if _has(body, text, self._prefix) or (self._colon and fits(f"{body}*", text)):
            return True
        return self._prefix and any(known[: len(literal)] == literal for known in _without_options(words))


def _without_options(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The words that are no options; and those that are not the value of one, either: `git -C /repo push`."""
    bare = [word for word in words if not word.startswith("-")]
    after = ("", *words)
    return bare, [w for w, before in zip(words, after, strict=False) if not w.startswith("-") and before[:1] != "-"]


def _has(pattern: str, text: str, prefix: bool) -> bool:
    return fits(pattern, text) or (prefix and fits(f"{pattern} *", text))


@lru_cache(maxsize=64)
def _readings(command: str) -> frozenset[tuple[str, ...]]:
    """Word by word, each command that the text may contain."""
    return frozenset(_read(command, 0))


def _read(command: str, depth: int) -> Iterator[tuple[str, ...]]:
    for text in dict.fromkeys((command, command.replace("\\\n", ""))):  # in a comment, a line does not go on
        starts = [0, *(match.end() for match in _SEPARATOR.finditer(text))]  # in quotes, too: they may be evaluated
        if depth > _DEEPEST or len(starts) > _MOST or not _is_closed(text):
            yield _UNKNOWN
            return
        for start in starts:
            words, without = _first(text[start:])
            yield from _unwrapped(words, depth)
            if without != words:
                yield from _unwrapped(without, depth)


def _lexer(text: str) -> shlex.shlex:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>`\n")
    lexer.commenters, lexer.whitespace, lexer.whitespace_split = "", " \t", True
    return lexer


def _is_closed(text: str) -> bool:
    try:
        list(_lexer(text))
    except ValueError:
        return False
    return True


def _first(text: str) -> tuple[list[str], list[str]]:
    """The words of the command that the text begins with, without redirections; again without their numbers."""
    words, without, lexer, target = list[str](), list[str](), _lexer(text), False
    try:
        for token in lexer:
            if set(token) <= set(";&|()<>`\n"):
                if not set(token) & set("<>") or set(token) & set("()`\n;"):
                    break
                if words and words[-1].isdigit():
                    without = without[:-1]
                target = True
            elif target:
                target = False
            else:
                words.append(token)
                without.append(token)
    except ValueError:  # begins within quotes; its last word is cut
        pass
    return words, without


def _unwrapped(words: list[str], depth: int) -> Iterator[tuple[str, ...]]:
    """The command, and what it runs if it is one that runs others."""
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in _RESERVED):
        words = words[1:]
    if not words:
        return
    words = _filled(words)
    wraps = basename(words[0]).casefold() in _WRAPPERS
    if wraps and len(words) > _MOST:
        yield _UNKNOWN
        return
    for index in range(len(words) if wraps else 1):
        program, rest = basename(words[index]), tuple(words[index + 1 :])
        if index and (words[index].startswith("-") or (_EXPANDED.search(program) and not _runs(words[:index]))):
            continue  # an option or an argument
        yield (words[index], *rest)
        yield (program, *rest)
        name = program.casefold()
        if name == "." and index and not _runs(words[:index]):
            continue  # a folder
        if name in _UNREADABLE or (name in _SHELLS and _reads(rest)) or (name in _FINDERS and _hides(rest)):
            yield _UNKNOWN
        if name in _SHELLS and (script := [place for place, word in enumerate(rest) if not word.startswith("-")]):
            yield (basename(rest[script[0]]), *rest[script[0] + 1 :])
        if index == 0 and (name in _SHELLS or name in _WRAPPERS):
            for before, word in zip(("", *rest), rest, strict=False):
                if " " in word or _SEPARATOR.search(word) or (name in _SHELLS and before.startswith("-")):
                    yield from _read(word, depth + 1)


def _filled(words: list[str]) -> list[str]:
    """With `$` for what `xargs` puts in or adds, since nobody knows what that will be."""
    for place, word in enumerate(words):
        name = basename(word).casefold()
        if name in ("xargs", "parallel"):
            rest = words[place + 1 :]
            found = [mark for one, mark in pairwise(rest) if one in _PLACEHOLDERS]
            found += [word[2:] for word in rest if word[:2] in ("-I", "-J", "-i") and len(word) > 2]
            found += [word.partition("=")[2] for word in rest if word.startswith("--replace=")]
            for mark in {*found, "{}"} - {""}:
                rest = [word if word.startswith("-") else word.replace(mark, "$") for word in rest]
            return [*words[: place + 1], *rest, "$"]
    return words


def _reads(rest: tuple[str, ...]) -> bool:
    """Whether a shell is told what to do by something that is not here: its input, or a variable."""
    return (
        all(word.startswith("-") for word in rest) or _hides(rest) or any("/dev/" in w or "/proc/" in w for w in rest)
    )


def _hides(rest: tuple[str, ...]) -> bool:
    return any("$" in word or "`" in word for word in rest)


def _runs(before: list[str]) -> bool:
    """Whether what follows these words of a wrapper is the program that it runs, not an argument of that."""
    last = max(place for place, word in enumerate(before) if basename(word).casefold() in _WRAPPERS)
    before = before[last:]
    if before[-1] in _PLACEHOLDERS:
        return False
    if basename(before[0]).casefold() in _FINDERS:
        return before[-1] in _EXECUTES
    return all(
        word.startswith("-") or before[place].startswith("-") or word[:1].isdigit() or _ASSIGNMENT.match(word)
        for place, word in enumerate(before[1:])
    )
