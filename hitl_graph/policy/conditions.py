"""Conditions as text: the Common Expression Language (CEL), as in the admission policies of Kubernetes. No I/O.

    args.amount > 10000 && !args.to.endsWith("@corp.example")

CEL has no loops, no side effects and no access to anything but what it is given; see https://cel.dev.
"""

import difflib
import re
from typing import Any

from hitl_graph.errors import PolicyError
from hitl_graph.policy.verdict import Call

__all__ = ["VARIABLES", "Condition"]

VARIABLES = ("args", "name", "metadata")
"""What a condition sees of a call; see `hitl_graph.policy.Call`."""

# What the library has of CEL's functions: it finds a misspelt one only when it calls it.
_FUNCTIONS = frozenset(
    "contains endsWith matches startsWith size type string int uint double bytes dyn timestamp duration getDate"
    " getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds getMinutes getMonth"
    " getSeconds".split()
)
_TYPES = frozenset("int uint double string bool bytes list map null_type type timestamp duration".split())
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*(\w+)\s*,")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


class Condition:
    """A condition in CEL, compiled once; a predicate for `Rule(when=...)`.

    Args:
        source: The text; it sees `args`, `name` and `metadata` of the call.

    Raises:
        PolicyError: It is no CEL, or names something that is not there.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._program: Any = _compiled(source)
        self._variables = tuple(name for name in VARIABLES if name in self._program.variables())

    def __call__(self, call: "Call") -> Any:
        """What it comes to, which is a bool if it makes sense.

        Raises:
            LookupError: The call has not what the condition names.
            TypeError: It has another type than the condition wants.
        """
        try:
            return self._program.execute({name: _plain(getattr(call, name)) for name in self._variables})
        except KeyError as exc:
            raise LookupError(f"the call has no {exc.args[0]!r}") from exc
        except TypeError as exc:
            raise TypeError(f"types that do not go together in {self.source!r:.200}") from exc

    @property
    def told(self) -> str:
        """For an explanation."""
        return self.source

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __reduce__(self) -> tuple[type["Condition"], tuple[str]]:
        return Condition, (self.source,)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else dict(value)


def _compiled(source: str) -> Any:
    try:
        import cel
    except ModuleNotFoundError as exc:
        raise PolicyError(
            f"a condition as text ({source!r:.80}) needs a library: pip install 'hitl-graph[policy]'"
        ) from exc
    try:
        program = cel.compile(source)
    except ValueError as exc:
        raise PolicyError(f"{source!r:.200} is no condition in CEL: {_syntax(str(exc))}") from exc
    _check_variables(source, program.variables())
    for function in program.functions():
        if _NAME.match(function) and function not in _FUNCTIONS:
            raise PolicyError(f"{source!r:.200}: there is no function {function}(); {_hint(function, _FUNCTIONS)}")
    return program


def _check_variables(source: str, named: list[str]) -> None:
    known = {*VARIABLES, *_TYPES, *_BOUND.findall(source)}
    for name in named:
        if name not in known:
            meant = difflib.get_close_matches(name, VARIABLES, 1, 0.75)
            hint = f"did you mean {meant[0]}?" if meant else f"an argument is args.{name}"
            raise PolicyError(f"{source!r:.200} names {name!r}; a condition knows {', '.join(VARIABLES)}; {hint}")


def _hint(name: str, known: frozenset[str]) -> str:
    same = [other for other in known if other.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, sorted(known), 1)
    return f"did you mean {close[0]}()?" if close else f"CEL's are {', '.join(sorted(known))}"


def _syntax(message: str) -> str:
    """The first of the parser's complaints, with its column."""
    found = _PLACE.search(message)
    if found is None:
        return message.partition("\n")[0]
    row, column, what = found.groups()
    line = "" if row == "1" else f"line {row}, "
    return f"{line}column {column}: {what.partition(' expecting ')[0]}"
