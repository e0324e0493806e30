"""Messages read as what an agent does: it acts, something comes back, it speaks, somebody answers.

Actions are tool calls, or, of agents that write their actions as text, a fenced block or a line `Action: ...`; what
comes back is then the next message that is not the model's.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from hitl_graph.stuck import words as words_
from hitl_graph.stuck.failing import failure_of, is_nothing

__all__ = ["Acted", "Call", "Event", "Heard", "Reader", "Said", "Step", "text_of"]

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_ACTION = re.compile(
    r"^[ \t]*(?:\*\*)?Action(?:[ \t]*\d+)?(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*(.+(?:\n[ \t]*(?:\*\*)?Action Input[^\n]*)?)",
    re.MULTILINE | re.IGNORECASE,
)
_OBSERVATION = re.compile(r"\s*(?:observation|output|result|response|tool|<\w+>|\[\w+\])\b.{0,20}?[:>\]\n]", re.I | re.S)
_OPEN = 64  # calls that wait for a result


@dataclass(frozen=True)
class Call:
    """One action of the agent."""

    name: str
    args: str
    """Canonical JSON, or the text of the action."""
    index: int

    @cached_property
    def key(self) -> str:
        """What cosmetic differences leave alone."""
        return f"{self.name} {words_.loose(self.args)}"

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the arguments."""
        return words_.words(self.args)

    @property
    def shown(self) -> str:
        """For a person."""
        return f"{self.name}({self.args})" if self.args.startswith("{") else self.args


@dataclass(frozen=True)
class Acted:
    """The agent wants something done."""

    index: int
    call: Call
    thought: str


@dataclass(frozen=True)
class Step:
    """An action and what came back."""

    index: int
    call: Call
    result: str
    error: bool
    """The message itself says that it is an error."""

    @cached_property
    def outcome(self) -> str:
        """The result without what changes by itself."""
        return words_.fingerprint(self.result)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the result."""
        return words_.words(self.result)

    @cached_property
    def failure(self) -> frozenset[str] | None:
        """The class of failure, as the words that say what is wrong; None if it did not fail."""
        return failure_of(self.result, self.call.words, self.error)

    @cached_property
    def nothing(self) -> bool:
        """Nothing came back, or no more than `False`, `[]`, `0`."""
        return is_nothing(self.result)


@dataclass(frozen=True)
class Said:
    """The agent speaks without acting."""

    index: int
    text: str
    message: AIMessage

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of it."""
        return words_.words(self.text)


@dataclass(frozen=True)
class Heard:
    """Somebody answers the agent."""

    index: int
    text: str


Event = Acted | Step | Said | Heard


class Reader:
    """Turns one message after the other into events. Remembers only the calls that wait for their result."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Call] = OrderedDict()
        self._as_text: Call | None = None

    def read(self, index: int, message: BaseMessage) -> Iterator[Event]:
        """The events of the next message."""
        text = text_of(message)
        if isinstance(message, AIMessage):
            yield from self._model(index, message, text)
        elif isinstance(message, ToolMessage):
            call = self._open.pop(message.tool_call_id, None) or self._last()
            if call is not None:
                yield Step(index, call, text, message.status == "error")
        elif message.type != "system":
            call = self._last()
            if call is not None:
                yield Step(index, call, text, False)
            else:
                yield Heard(index, text)

    def _model(self, index: int, message: AIMessage, text: str) -> Iterator[Event]:
        self._as_text = None
        calls = [
            Call(call["name"], _plain(call["args"]), index) for call in [*message.tool_calls, *message.invalid_tool_calls]
        ]
        self._open.clear()
        for number, (call, said) in enumerate(zip(calls, [*message.tool_calls, *message.invalid_tool_calls], strict=True)):
            self._open[said.get("id") or f"#{number}"] = call
            yield Acted(index, call, text)
        if not calls and (action := _text_action(text)):
            self._as_text = Call("", action, index)
            yield Acted(index, self._as_text, text)
        elif not calls:
            yield Said(index, text, message)

    def _last(self) -> Call | None:
        if self._open:
            return self._open.popitem(last=False)[1]
        call, self._as_text = self._as_text, None
        return call


def text_of(message: BaseMessage) -> str:
    """The text of a message; of content blocks, their texts."""
    content = message.content
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, str) else str(part.get("text") or "") for part in content]
    return "\n".join(part for part in parts if part)


def _plain(args: Any) -> str:
    if isinstance(args, str):
        return args
    return json.dumps(args, sort_keys=True, ensure_ascii=False, default=str) if isinstance(args, Mapping) else str(args)


def _text_action(text: str) -> str | None:
    if fences := _FENCE.findall(text):
        return "\n".join(fences).strip() or None
    if found := _ACTION.findall(text):
        return str(found[-1]).strip()
    return None
