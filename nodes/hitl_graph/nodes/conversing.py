"""Whose turn it is in a conversation, and whether a person is asked: what a `UserProxyNode` decides. Pure functions.

Who has said what follows from the messages alone, so that every process, and each execution of the node, comes to the
same. Messages that the node itself writes carry a mark under `additional_kwargs["hitl"]`.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from hitl_graph.model import Decision, Request, canonical
from hitl_graph.termination import Met, Turn, is_from_person, mark_of, source

__all__ = [
    "INTERRUPTED",
    "CodeBlock",
    "Enter",
    "HumanInputMode",
    "Judged",
    "automatic_replies",
    "automatic_reply",
    "code_blocks",
    "human_reply",
    "judge",
    "judged_by",
    "results",
    "sender_of",
    "shown",
    "spoken",
    "words",
]

HumanInputMode = Literal["ALWAYS", "TERMINATE", "NEVER"]
Enter = Literal["end", "reply", "calls", "code"]
"""What comes of a person who adds nothing: the end, the automatic reply, the tool calls, or the code."""
INTERRUPTED = "USER INTERRUPTED"

_FENCE = re.compile(r"^ {0,3}```[ \t]*(?P<language>[\w+-]*)[^\n`]*\n(?P<code>.*?)^ {0,3}```[ \t]*$", re.M | re.S)
_LATEST, _LONGEST_WORDS = 6, 2000  # of what was said before the last message


@dataclass(frozen=True)
class CodeBlock:
    """A block of code between fences of a message."""

    language: str
    code: str


@dataclass(frozen=True)
class Judged:
    """What shall happen instead of an automatic reply.

    Attributes:
        asks: A person is asked; else the conversation ends.
        ends: It would end if the person adds nothing.
        why: For people.
    """

    asks: bool
    ends: bool
    why: str


def spoken(messages: Sequence[AnyMessage]) -> BaseMessage | None:
    """What was said last, by whomever; the results of tools are not said."""
    return next((m for m in reversed(messages) if not isinstance(m, SystemMessage | ToolMessage)), None)


def sender_of(messages: Sequence[AnyMessage]) -> str | None:
    """Which agent waits for an answer; None if the last word was a person's, or this side's."""
    last = spoken(messages)
    if last is None or is_from_person(last) or mark_of(last).get("auto_reply"):
        return None
    return source(last)


def automatic_replies(messages: Sequence[AnyMessage], sender: str, *, runs_calls: bool) -> int:
    """How often this agent was answered without a person, since a person answered it or said something by themselves.

    Args:
        runs_calls: Tool calls are answered by this side, so that each counts; else they are the agent's own affair.
    """
    count = 0
    for message in reversed(messages):
        if is_from_person(message):
            if mark_of(message).get("to") in (None, sender):
                break
        elif isinstance(message, AIMessage) and source(message) == sender and not mark_of(message).get("code"):
            count += runs_calls or not message.tool_calls
    latest = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    waits = latest is not None and source(latest) == sender and (runs_calls or not latest.tool_calls)
    return count - 1 if waits and count else count


def judge(mode: HumanInputMode, met: Met | None, count: int, limit: int, sender: str) -> Judged | None:
    """What AutoGen's user proxy does with a message; None: it replies by itself.

    Args:
        met: Why the conversation is at its end, if it is.
        count: How many automatic replies there were to this sender.
        limit: How many there may be; it plays no role where a person is asked at each turn.
    """
    if met is not None:
        return Judged(mode != "NEVER", True, met.reason)
    if mode == "ALWAYS":
        return Judged(True, False, "a person has a say at each turn")
    if count < limit:
        return None
    why = f"{count} automatic {'reply' if count == 1 else 'replies'} to {sender}, of at most {limit}"
    return Judged(mode != "NEVER", mode == "NEVER", why)


def judged_by(predicate: Callable[[BaseMessage], object], message: BaseMessage) -> Met | None:
    """What `is_termination_msg` says of a message; one that fails ends the conversation, and says so."""
    name = "is_termination_msg"
    try:
        said = predicate(message)
    except Exception as exc:
        return Met(f"{name} could not be judged ({type(exc).__name__}: {exc})", name, failed=True)
    return Met(f"{source(message)} says that it is done", name) if said else None


def code_blocks(text: str, languages: Sequence[str]) -> list[CodeBlock]:
    """The blocks between fences that are marked with one of these languages, in their order."""
    wanted = {language.lower() for language in languages}
    found = (CodeBlock(match["language"].lower(), match["code"]) for match in _FENCE.finditer(text))
    return [block for block in found if block.language in wanted and block.code.strip()]


def shown(messages: Sequence[AnyMessage], calls: Sequence[ToolCall]) -> str:
    """What people read: the agent's words, and the calls that it wants; of several agents, what they said in turn."""
    said = [m for m in Turn.of(messages).messages if m.text.strip() and _is_an_agent_s(m)]
    last = spoken(messages)
    lines = [last.text.strip()] if last is not None and last.text.strip() else []
    if len({source(message) for message in said}) > 1:
        earlier = [_cut(message.text.strip(), _LONGEST_WORDS) for message in said[-_LATEST:-1]]
        whole = [*earlier, said[-1].text.strip()]
        lines = [f"{source(m)}: {text}" for m, text in zip(said[-_LATEST:], whole, strict=True)]
    if calls:
        lines.append("\n".join(["It wants to call:", *(f"- {call['name']}({_arguments(call)})" for call in calls)]))
    return "\n\n".join(lines) or "(no words)"


def words(decision: Decision) -> str:
    """What a person says."""
    if decision.message is not None or isinstance(decision.value, str):
        return str(decision.message if decision.message is not None else decision.value)
    return canonical(decision.value)


def human_reply(request: Request, decision: Decision, to: str | None) -> HumanMessage:
    """A person's words to an agent."""
    mark = {"request_id": request.id, "reviewer": request.reviewer or "anonymous", "to": to}
    return HumanMessage(words(decision), id=f"hitl-{request.id}", additional_kwargs={"hitl": mark})


def automatic_reply(text: str, to: str | None, after: AnyMessage | None) -> HumanMessage:
    """What is said to an agent without a person."""
    key = f"hitl-auto-{after.id}" if after is not None and after.id else None
    return HumanMessage(text, id=key, additional_kwargs={"hitl": {"auto_reply": True, "to": to}})


def results(calls: Sequence[ToolCall], texts: Callable[[ToolCall], tuple[str, bool]], key: str) -> list[ToolMessage]:
    """Results of calls that do not run, so that the history stays one that model providers take.

    Args:
        texts: What is said of a call, and whether that is an error.
        key: Makes their ids the same in each execution.
    """
    made = []
    for number, call in enumerate(calls):
        text, failed = texts(call)
        status: Any = "error" if failed else "success"
        call_id = call["id"] or ""
        made.append(
            ToolMessage(text, name=call["name"], tool_call_id=call_id, status=status, id=f"hitl-{key}-{number}")
        )
    return made


def _is_an_agent_s(message: BaseMessage) -> bool:
    passed_over = isinstance(message, SystemMessage | ToolMessage) or mark_of(message).get("auto_reply")
    return not passed_over and not is_from_person(message)


def _arguments(call: ToolCall) -> str:
    return json.dumps(call["args"], ensure_ascii=False, default=str)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 2]} …"
