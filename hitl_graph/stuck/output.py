"""A model that answers nothing, or nothing that can be used."""

from dataclasses import dataclass

from langchain_core.messages import AIMessage

from hitl_graph.stuck.checks import at_least
from hitl_graph.stuck.evidence import Evidence, key_of
from hitl_graph.stuck.reading import Event, Spoke, text_of
from hitl_graph.stuck.telling import SUGGESTIONS, different

__all__ = ["MalformedOutput"]

_SILENT = ("thinking", "redacted_thinking", "reasoning")


@dataclass(frozen=True)
class MalformedOutput:
    """A message of the model with which a run cannot go on: without text and calls, or with broken calls only.

    A broken call beside one that works counts half.

    Args:
        times: So many in a row it takes, at normal patience.

    Raises:
        WatchError: An option is out of range.
    """

    times: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, "times")

    def start(self) -> "_Fold":
        """A fold that has seen nothing."""
        return _Fold(self)


class _Fold:
    def __init__(self, options: MalformedOutput) -> None:
        self._times = options.times
        self._bad: tuple[Spoke, ...] = ()
        self._count, self._weight = 0, 0.0

    def see(self, event: Event) -> Evidence | None:
        if not isinstance(event, Spoke):
            return None
        broken, empty = bool(event.message.invalid_tool_calls), _empty(event.message)
        if not broken and not empty:
            self._bad, self._count, self._weight = (), 0, 0.0
            return None
        self._bad = (*self._bad, event)[-8:]
        self._count += 1
        self._weight += 0.5 if event.message.tool_calls else 1.0
        what = "nothing at all" if empty else "a call that is not valid JSON"
        return Evidence(
            kind="malformed_output",
            indices=tuple(one.index for one in self._bad),
            sentence=f"The model answered with {what}{f', {self._count} times in a row' if self._count > 1 else ''}.",
            strength=self._weight / self._times,
            count=self._count,
            key=key_of("malformed_output", "empty" if empty else "broken"),
            tried=different(call["args"] or "" for one in self._bad for call in one.message.invalid_tool_calls),
            suggestions=SUGGESTIONS["malformed_output"],
        )


def _empty(message: AIMessage) -> bool:
    if message.tool_calls or message.invalid_tool_calls or text_of(message).strip():
        return False
    if message.additional_kwargs.get("refusal"):
        return False
    blocks = [] if isinstance(message.content, str) else message.content
    return all(isinstance(block, str) or block.get("type") in ("text", *_SILENT) for block in blocks)
