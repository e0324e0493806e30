"""A model that answers nothing, or nothing that can be used."""

from dataclasses import dataclass

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Spoke, text_of
from hitl_graph.stuck.telling import SUGGESTIONS, different

__all__ = ["MalformedOutput"]


@dataclass(frozen=True)
class MalformedOutput:
    """A message of the model without text and without calls, or with calls that are no valid JSON.

    Args:
        times: So many in a row it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 2

    def __post_init__(self) -> None:
        at_least(self, 1, "times")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


class _Fold:
    def __init__(self, options: MalformedOutput) -> None:
        self._times = options.times
        self._bad: tuple[Spoke, ...] = ()
        self._count = 0

    def see(self, event: Event) -> Evidence | None:
        if not isinstance(event, Spoke):
            return None
        message = event.message
        empty = not message.tool_calls and not message.invalid_tool_calls and not text_of(message).strip()
        if not empty and not message.invalid_tool_calls:
            self._bad, self._count = (), 0
            return None
        self._bad, self._count = (*self._bad, event)[-8:], self._count + 1
        what = "nothing at all" if empty else "a call that is not valid JSON"
        return Evidence(
            kind="malformed_output",
            indices=tuple(one.index for one in self._bad),
            sentence=f"The model answered with {what}, {self._count} times in a row."
            if self._count > 1
            else f"The model answered with {what}.",
            strength=self._count / self._times,
            count=self._count,
            key=key_of("malformed_output", "empty" if empty else "invalid"),
            tried=different(call["args"] or "" for one in self._bad for call in one.message.invalid_tool_calls),
            suggestions=SUGGESTIONS["malformed_output"],
        )
