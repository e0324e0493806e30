"""Small scripted histories for the tests of the detectors."""

from itertools import count
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from hitl_graph.stuck import Alarm, Watch

_ids = count()


def step(result: str, name: str = "bash", /, **args: Any) -> list[BaseMessage]:
    """A call and what came back."""
    id_ = f"call{next(_ids)}"
    call = {"name": name, "args": args, "id": id_}
    return [AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id=id_)]


def run(*parts: str | BaseMessage | list[BaseMessage], task: str = "Please do it.") -> list[BaseMessage]:
    """A history: steps, what the agent says (plain text), and what others say (messages)."""
    messages: list[BaseMessage] = [HumanMessage(task)]
    for part in parts:
        match part:
            case str():
                messages.append(AIMessage(part))
            case BaseMessage():
                messages.append(part)
            case _:
                messages += part
    return messages


def user(text: str) -> HumanMessage:
    return HumanMessage(text)


def first_alarm(messages: list[BaseMessage], watch: Watch | None = None) -> Alarm | None:
    """The first alarm, seeing one message after the other."""
    watch = watch or Watch()
    for end in range(1, len(messages) + 1):
        if alarm := watch.see(messages[:end]):
            return alarm
    return None
