"""When a conversation has come to its end: AutoGen's conditions over LangChain's messages. Pure; no I/O.

    done = TextMentionTermination("APPROVE", sources=["critic"]) | MaxMessageTermination(20)

AutoGen's conditions are objects that count along and have to be reset. These keep nothing: each looks at the whole
`Turn`, which is what was said since a person spoke last, that message included. So the answer is the same in every
process and however often a node runs again; what resets a condition is a person who says something.

What cannot be told never means "go on": a predicate that raises, a model that does not say what it used, or a time that
is not known end the conversation, with a reason that says so.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from hitl_graph.errors import ConversationError

__all__ = [
    "ExternalTermination",
    "FunctionCallTermination",
    "FunctionalTermination",
    "HandoffTermination",
    "MaxMessageTermination",
    "Met",
    "SourceMatchTermination",
    "Termination",
    "TextMentionTermination",
    "TextMessageTermination",
    "TimeoutTermination",
    "TokenUsageTermination",
    "Turn",
    "handoff_of",
    "is_from_person",
    "mark_of",
    "source",
]

_SOURCES = {"human": "user", "ai": "assistant"}
_PEOPLE = (None, "user", "human")


def source(message: BaseMessage) -> str:
    """Who says it: the message's name; without one `user`, `assistant`, `system`. The result of a tool is `tool`."""
    if message.name and not isinstance(message, ToolMessage):
        return message.name
    return _SOURCES.get(message.type, message.type)


def mark_of(message: BaseMessage) -> dict[str, object]:
    """What a `UserProxyNode` has written on a message of its own; empty on any other."""
    mark = message.additional_kwargs.get("hitl")
    return mark if isinstance(mark, dict) else {}


def is_from_person(message: BaseMessage) -> bool:
    """Whether a person said it: neither an automatic reply, nor another agent whose words stand as a human's.

    A human's message with a name other than `user` and `human` is an agent's, as graphs of several agents use it.
    """
    mark = mark_of(message)
    if not isinstance(message, HumanMessage) or mark.get("auto_reply"):
        return False
    return "request_id" in mark or message.name in _PEOPLE


def handoff_of(message: BaseMessage, target: str, *, tool: str | None = None) -> bool:
    """Whether an agent hands over to `target` with it: it calls `transfer_to_TARGET`, or `tool` if given."""
    name = tool or "transfer_to_" + "_".join(target.split()).lower()
    return isinstance(message, AIMessage) and any(call["name"] == name for call in message.tool_calls)


@dataclass(frozen=True)
class Turn:
    """What a condition looks at.

    Attributes:
        messages: From the last message of a person on, that one included.
        elapsed: How long ago that message was stored; None where nobody knows.
        stopped: Who stopped the conversation from outside, and why; None if nobody did.
    """

    messages: Sequence[BaseMessage]
    elapsed: timedelta | None = None
    stopped: str | None = None

    @classmethod
    def of(
        cls, messages: Sequence[BaseMessage], *, elapsed: timedelta | None = None, stopped: str | None = None
    ) -> "Turn":
        """The turn that a history ends with."""
        return cls(messages[cls.start(messages) :], elapsed, stopped)

    @staticmethod
    def start(messages: Sequence[BaseMessage]) -> int:
        """The index of its first message."""
        return next((at for at in range(len(messages) - 1, -1, -1) if is_from_person(messages[at])), 0)


@dataclass(frozen=True)
class Met:
    """A conversation is at its end.

    Attributes:
        reason: Why, for people.
        condition: The name of the condition; of several, with commas.
        failed: The condition could not be judged.
    """

    reason: str
    condition: str
    failed: bool = False


class Termination(ABC):
    """A condition under which a conversation is at its end. Combine them with `&` and `|`."""

    def __call__(self, turn: Turn | Sequence[BaseMessage]) -> Met | None:
        """Whether it is met: `None` if not. Never raises.

        Args:
            turn: What to look at; of a whole history, its last turn.
        """
        try:
            return self._judge(turn if isinstance(turn, Turn) else Turn.of(turn))
        except Exception as exc:
            name = type(self).__name__
            return Met(f"{name} could not be judged ({type(exc).__name__}: {exc})", name, failed=True)

    @property
    def parts(self) -> Iterator["Termination"]:
        """The conditions that it consists of."""
        yield self

    @abstractmethod
    def _judge(self, turn: Turn) -> Met | None: ...

    def _met(self, reason: str) -> Met:
        return Met(reason, type(self).__name__)

    def __and__(self, other: "Termination") -> "Termination":
        return _Combined((self, other), all)

    def __or__(self, other: "Termination") -> "Termination":
        return _Combined((self, other), any)

    def __bool__(self) -> bool:
        raise TypeError("a condition is not true or false by itself; combine conditions with & and |, and call them")


@dataclass(frozen=True, eq=False)
class _Combined(Termination):
    conditions: tuple[Termination, ...]
    enough: Callable[[Iterator[bool]], bool]

    @property
    def parts(self) -> Iterator[Termination]:
        for condition in self.conditions:
            yield from condition.parts

    def _judge(self, turn: Turn) -> Met | None:
        found = [condition(turn) for condition in self.conditions]
        met = [one for one in found if one is not None]
        failed = any(one.failed for one in met)  # one that cannot be judged is not waited for
        if not failed and not self.enough(one is not None for one in found):
            return None
        return Met("; ".join(one.reason for one in met), ", ".join(one.condition for one in met), failed)


@dataclass(frozen=True, eq=False)
class TextMentionTermination(Termination):
    """A message has this text in it.

    Args:
        sources: Whose messages count; None means everybody's, the person's own words, too. What a tool gave is nobody's
            but the tool's.
    """

    text: str
    sources: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _check(bool(self.text), "TextMentionTermination needs a text")
        _check(not isinstance(self.sources, str), "sources= takes names, as a list")

    def _judge(self, turn: Turn) -> Met | None:
        said = (m for m in turn.messages if self.sources is None or source(m) in self.sources)
        return self._met(f"{self.text!r} was mentioned") if any(self.text in m.text for m in said) else None


@dataclass(frozen=True, eq=False)
class MaxMessageTermination(Termination):
    """So many messages were said in the turn, the person's included.

    Args:
        include_agent_event: Tool calls and their results count, too.
    """

    max_messages: int
    include_agent_event: bool = False

    def __post_init__(self) -> None:
        _check(self.max_messages > 0, "max_messages= has to be positive")

    def _judge(self, turn: Turn) -> Met | None:
        count = sum(self.include_agent_event or _is_said(message) for message in turn.messages)
        return self._met(f"{count} messages of at most {self.max_messages}") if count >= self.max_messages else None


@dataclass(frozen=True, eq=False)
class TokenUsageTermination(Termination):
    """The models have used so many tokens in the turn, as their messages report it (`usage_metadata`).

    A model that reports nothing ends the conversation: a limit that cannot be measured is none.
    """

    max_total_token: int | None = None
    max_prompt_token: int | None = None
    max_completion_token: int | None = None

    def __post_init__(self) -> None:
        limits = (self.max_total_token, self.max_prompt_token, self.max_completion_token)
        _check(any(limit is not None for limit in limits), "TokenUsageTermination limits nothing; give one of max_*")

    def _judge(self, turn: Turn) -> Met | None:
        usages = [message.usage_metadata for message in turn.messages if isinstance(message, AIMessage)]
        counted = [usage for usage in usages if usage is not None]
        if len(counted) < len(usages):
            raise ValueError("a message of the model does not say how many tokens it took")
        for name, key, limit in (
            ("total", "total_tokens", self.max_total_token),
            ("prompt", "input_tokens", self.max_prompt_token),
            ("completion", "output_tokens", self.max_completion_token),
        ):
            used: int = sum(usage[key] for usage in counted)  # type: ignore[literal-required]
            if limit is not None and used >= limit:
                return self._met(f"{used} {name} tokens of at most {limit}")
        return None


@dataclass(frozen=True, eq=False)
class TimeoutTermination(Termination):
    """So many seconds have passed since a person spoke last."""

    timeout_seconds: float

    def __post_init__(self) -> None:
        _check(self.timeout_seconds > 0, "timeout_seconds= has to be positive")

    def _judge(self, turn: Turn) -> Met | None:
        if turn.elapsed is None:
            raise ValueError("it is not known since when the conversation has gone on")
        if (seconds := turn.elapsed.total_seconds()) < self.timeout_seconds:
            return None
        return self._met(f"{seconds:.0f} seconds have passed, of at most {self.timeout_seconds:g}")


@dataclass(frozen=True, eq=False)
class ExternalTermination(Termination):
    """Somebody stopped it from outside.

    A `UserProxyNode` looks for a switch that is set to `deny`: `inbox.switch("thread:42", "deny", reviewer="ops",
    reason="...")`, or for a graph, or for all. It holds in every process, until it is lifted.
    """

    def _judge(self, turn: Turn) -> Met | None:
        return None if turn.stopped is None else self._met(turn.stopped)


@dataclass(frozen=True, eq=False)
class SourceMatchTermination(Termination):
    """One of these has said something."""

    sources: Sequence[str]

    def __post_init__(self) -> None:
        _check(bool(self.sources) and not isinstance(self.sources, str), "sources= takes names, as a list")

    def _judge(self, turn: Turn) -> Met | None:
        found = next((source(message) for message in turn.messages if source(message) in self.sources), None)
        return None if found is None else self._met(f"{found} has spoken")


@dataclass(frozen=True, eq=False)
class TextMessageTermination(Termination):
    """An agent has said something in words, and called no tool.

    Args:
        source: Whose message counts; None means any agent's.
    """

    source: str | None = None

    def _judge(self, turn: Turn) -> Met | None:
        for message in turn.messages:
            if _is_said(message) and source(message) == (self.source or source(message)):
                if self.source is not None or not is_from_person(message):
                    return self._met(f"{source(message)} answered in words")
        return None


@dataclass(frozen=True, eq=False)
class HandoffTermination(Termination):
    """An agent hands over to `target`: to a person, where it is `user`.

    Args:
        tool: The name of the tool that hands over, if it is not `transfer_to_TARGET`.
    """

    target: str
    tool: str | None = None

    def __post_init__(self) -> None:
        _check(bool(self.target.strip()), "HandoffTermination needs a target")

    def _judge(self, turn: Turn) -> Met | None:
        for message in turn.messages:
            if handoff_of(message, self.target, tool=self.tool):
                return self._met(f"{source(message)} hands over to {self.target}")
        return None


@dataclass(frozen=True, eq=False)
class FunctionCallTermination(Termination):
    """A tool of this name has given its result."""

    function_name: str

    def _judge(self, turn: Turn) -> Met | None:
        ran = any(isinstance(one, ToolMessage) and one.name == self.function_name for one in turn.messages)
        return self._met(f"{self.function_name} was called") if ran else None


@dataclass(frozen=True, eq=False)
class FunctionalTermination(Termination):
    """A function of the turn's messages says so.

    It gets all messages of the turn, each time; not only the new ones as in AutoGen. It has to give True or False:
    whatever else it gives or raises ends the conversation, with a reason that says so.
    """

    func: Callable[[Sequence[BaseMessage]], bool]

    def __post_init__(self) -> None:
        is_async = inspect.iscoroutinefunction(self.func) or inspect.iscoroutinefunction(
            getattr(self.func, "__call__", None)  # noqa: B004
        )
        _check(callable(self.func) and not is_async, "FunctionalTermination takes a function that is not async")

    def _judge(self, turn: Turn) -> Met | None:
        said = self.func(turn.messages)
        if not isinstance(said, bool):
            raise TypeError(f"{getattr(self.func, '__name__', 'the function')} gave {said!r:.80}, not True or False")
        return self._met(f"{getattr(self.func, '__name__', 'a function')} says so") if said else None


def _is_said(message: BaseMessage) -> bool:
    """A message to others, not a tool call nor what came back."""
    return not isinstance(message, ToolMessage) and not (isinstance(message, AIMessage) and message.tool_calls)


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise ConversationError(problem)
