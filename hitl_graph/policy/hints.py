"""What tools say of themselves: the annotations of the Model Context Protocol, with the protocol's defaults. No I/O.

They are claims of whoever runs the server, not facts. So a rule that allows matches only where a hint was given, and a
rule that asks or denies also where it may hold: not given, no bool, or contradicted by another one.
See https://modelcontextprotocol.io/specification/2025-11-25/schema#toolannotations for what they mean.
"""

import difflib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hitl_graph.policy.verdict import Call

__all__ = ["Hint", "Hinted", "check_hints"]

Hint = Literal["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"]
_DEFAULTS: dict[Hint, bool] = {
    "readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True
}  # fmt: skip


def check_hints(given: Any) -> dict[Hint, bool]:
    """The hints that a rule names.

    Raises:
        ValueError: There are none such, or they are neither true nor false.
    """
    if not isinstance(given, Mapping) or not given:
        raise ValueError("hints= takes a dict such as {'readOnlyHint': True}")
    for name, value in given.items():
        if name not in get_args(Hint):
            close = difflib.get_close_matches(str(name), get_args(Hint), 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(get_args(Hint))}"
            raise ValueError(f"hints= knows no {name!r}; {meant}")
        if not isinstance(value, bool):
            raise ValueError(f"hints= wants true or false for {name}, not {value!r:.40}")
    return dict(given)


@dataclass(frozen=True)
class Hinted:
    """Whether a tool says this of itself; a predicate for `Rule(when=...)`.

    Attributes:
        certain: Whether it has to be said, since the rule allows.
        then: What has to be true as well.
    """

    hints: Mapping[Hint, bool]
    certain: bool
    then: Callable[[Call], bool | Awaitable[bool]] | None = None

    def __call__(self, call: Call) -> bool | Awaitable[bool]:
        """Whether it does, by the tool's metadata."""
        says = _surely if self.certain else _perhaps
        if not all(says(call.metadata, hint, wanted) for hint, wanted in self.hints.items()):
            return False
        return True if self.then is None else self.then(call)

    @property
    def told(self) -> str:
        """For an explanation."""
        parts = [f"{hint}={'true' if wanted else 'false'}" for hint, wanted in self.hints.items()]
        return " and ".join([*parts, *([] if self.then is None else [getattr(self.then, "told", "its predicate")])])


def _said(metadata: Mapping[str, Any], hint: Hint) -> Any:
    """What the tool says; None: nothing."""
    value = metadata.get(hint)
    return metadata.get("read_only", value) if hint == "readOnlyHint" else value


def _surely(metadata: Mapping[str, Any], hint: Hint, wanted: bool) -> bool:
    said = _said(metadata, hint)
    if hint == "destructiveHint" and said is None and _said(metadata, "readOnlyHint") is True:
        said = False  # what changes nothing destroys nothing
    if hint == "readOnlyHint" and wanted and _said(metadata, "destructiveHint") not in (None, False):
        return False
    return said is wanted


def _perhaps(metadata: Mapping[str, Any], hint: Hint, wanted: bool) -> bool:
    said = _said(metadata, hint)
    if said is None:
        quiet = hint == "destructiveHint" and _said(metadata, "readOnlyHint") is True
        said = False if quiet else _DEFAULTS[hint]
    contradicted = hint == "readOnlyHint" and _said(metadata, "destructiveHint") is True
    return contradicted or said is wanted or not isinstance(said, bool)
