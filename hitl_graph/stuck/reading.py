"""Messages read as what an agent does: it acts, something comes back, it speaks, somebody answers.

Actions are tool calls, or, of agents that write their actions as text, a fenced block or a line `Action: ...`; what
comes back is then the next message that is not the model's.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from hitl_graph.stuck import words as words_
from hitl_graph.stuck.failing import failure_of, is_nothing, says_no

__all__ = ["Acted", "Call", "Event", "Heard", "Reader", "Said", "Spoke", "Step", "text_of"]

# How agents without tool calls write an action.
_FENCE = re.compile(r"```(?:[\w+-]*\n)?(.+?)(?:```|\Z)", re.DOTALL)
_TAGGED = re.compile(
    r"<(tool_call|tool|function|invoke|execute\w*|action|command)\b([^<>]*)>(.*?)(?:</\1|\Z)", re.DOTALL
)
_ACTION = re.compile(
    r"^\W{0,4}action(?: \d+)?\W{0,3}:[*_ \t]*([^\n]+)(?:\n\W{0,4}action input\W{0,3}:([^\n]*))?", re.M | re.I
)
_WRITTEN = re.compile(r"([A-Za-z_][\w.]*)\s*[\[(](.*)[\])]", re.DOTALL)  # search[the red fox], search("the red fox")
_LONGEST = 50_000
_NAMES = ("name", "tool", "tool_name", "action", "function")
_ARGS = ("arguments", "args", "parameters", "action_input", "input")
# How an environment, rather than a person, answers.
_OBSERVED = re.compile(
    r"\W{0,4}(?:(?:observation|obs|output|result|stdout|stderr|error|traceback|tool)\b|<\w+>)", re.IGNORECASE
)


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
class Spoke:
    """The model has been called; comes before what it did."""

    index: int
    message: AIMessage


@dataclass(frozen=True)
class Acted:
    """The agent wants something done."""

    index: int
    call: Call


@dataclass(frozen=True)
class Step:
    """An action and what came back."""

    index: int
    call: Call
    result: str
    error: bool = False
    """The message itself says that it is an error."""

    @cached_property
    def outcome(self) -> str:
        """The result without what changes by itself."""
        return words_.fingerprint(self.result)

    @cached_property
    def parts(self) -> list[str]:
        """The outcome in no order, as when two streams are mixed, or the rows of a table."""
        return sorted(self.outcome.split(" "))

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

    @cached_property
    def says_no(self) -> bool:
        """What came back is an explicit no, such as `False` or `[]`."""
        return says_no(self.result)


@dataclass(frozen=True)
class Said:
    """The agent speaks without acting."""

    index: int
    text: str

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of it."""
        return words_.words(self.text)


@dataclass(frozen=True)
class Heard:
    """Somebody answers the agent."""

    index: int
    text: str
    exchange: Step | None = None
    """Of an agent without tool calls: what was answered, and the answer, as an action with its result."""


Event = Spoke | Acted | Step | Said | Heard


class Reader:
    """Turns one message after the other into events. Remembers only the calls that wait for their result."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Call] = OrderedDict()
        self._said: Call | None = None
        self._native = False  # the agent uses tool calls, so a fenced block of its is no action

    def read(self, index: int, message: BaseMessage) -> Iterator[Event]:
        """The events of the next message."""
        text = text_of(message)
        if isinstance(message, AIMessage):
            yield from self._model(index, message, text)
        elif isinstance(message, ToolMessage):
            call = self._open.pop(message.tool_call_id, None) or self._next()
            if call is not None:
                yield Step(index, call, text, message.status == "error")
        elif message.type != "system":
            call, said = self._next(), self._said
            self._said = None
            if call is not None:
                yield Step(index, call, text)
            elif said is not None and not self._native and _OBSERVED.match(text):
                yield Acted(said.index, said)
                yield Step(index, said, text)
            else:
                exchange = None if said is None or self._native else Step(index, said, text)
                yield Heard(index, text, exchange)

    def _model(self, index: int, message: AIMessage, text: str) -> Iterator[Event]:
        yield Spoke(index, message)
        self._open.clear()
        self._said = None
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        for number, each in enumerate(calls):
            self._native = True
            call = Call(each["name"] or "", _plain(each["args"]), index)
            self._open[each.get("id") or f"#{number}"] = call
            yield Acted(index, call)
        if calls:
            return
        written = None if self._native else _written(text, index)
        if written is not None:
            self._open[""] = written
            yield Acted(index, written)
        else:
            self._said = Call("", text, index)
            yield Said(index, text)

    def _next(self) -> Call | None:
        return self._open.popitem(last=False)[1] if self._open else None


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
    try:
        return json.dumps(args, sort_keys=True, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # keys of several types, a circle
        return str(args)


def _written(text: str, index: int) -> Call | None:
    """The action in a text: a fenced block, a tagged one, a line `Action: ...`, or the whole if it is a JSON object."""
    text = text[:_LONGEST]
    if fenced := _FENCE.findall(text):
        return _call("\n".join(fenced), index)
    if tagged := _TAGGED.findall(text):
        return _call("\n".join(f"{attributes} {body}" for _, attributes, body in tagged), index)
    if lines := _ACTION.findall(text):
        action, given = lines[-1]
        return Call(action.strip(), given.strip(), index) if given else _call(action, index)
    bare = text.strip()
    return _call(bare, index) if bare.startswith("{") and bare.endswith("}") else None


def _call(text: str, index: int) -> Call | None:
    """An action out of its text; if that is JSON, with its name and its arguments."""
    text = text.strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            name = next((found[key] for key in _NAMES if isinstance(found.get(key), str)), "")
            args = next((found[key] for key in _ARGS if key in found), found)
            return Call(name, _plain(args), index)
    if written := _WRITTEN.fullmatch(text):
        return Call(written[1], written[2], index)
    return Call("", text, index) if text else None
