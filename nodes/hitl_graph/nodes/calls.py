"""One tool call on its way through a node: what names it in the ledger, and what its tool is like."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langgraph.prebuilt import ToolRuntime
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.runtime import Runtime
from pydantic import BaseModel, JsonValue, ValidationError

from hitl_graph.model import Action, Request
from hitl_graph.nodes import replies
from hitl_graph.nodes.verdicts import Judged
from hitl_graph.policy import Verdict

__all__ = [
    "InputType",
    "Item",
    "Refusing",
    "asked_for",
    "item_of",
    "items_of",
    "key_of",
    "message_of",
    "model_of",
    "part_of",
    "runs_in_a_thread",
    "schema_of",
    "tool_runtime",
]

InputType = Literal["list", "dict", "tool_calls"]


@dataclass(frozen=True)
class Item:
    """One tool call.

    Attributes:
        action: None where the arguments are not plain JSON.
        key: Names it for permits, effects and denials.
        tool: None where there is none of that name.
        refused: The answer to a call that never gets as far as being judged.
        verdict: What the policy says of it.
        judged: The same, and by which route it got there.
        asked: People were asked whether it may run.
        answered: The request, if they were asked in one go with other calls, and have decided.
        escalated: People were asked what now, as it was denied.
    """

    call: ToolCall
    action: Action | None
    key: str
    runtime: ToolRuntime[Any, Any]
    input_type: InputType
    tool: BaseTool | None = None
    refused: ToolMessage | None = None
    verdict: Verdict | None = None
    asked: bool = False
    answered: Request | None = None
    escalated: bool = False
    judged: Judged | None = None


def items_of(
    calls: list[ToolCall],
    input_type: InputType,
    state: Any,
    messages_key: str,
    config: RunnableConfig,
    runtime: Runtime[Any],
    tools: list[BaseTool],
) -> list[Item]:
    """The calls of a message, each with its name and what its tool is given beside the arguments."""
    message = message_of(state, messages_key, calls)
    items = list[Item]()
    for position, call in enumerate(calls):
        given = tool_runtime(call, state, config, runtime, tools)
        tool = next((tool for tool in tools if tool.name == call["name"]), None)
        items.append(item_of(call, position, message, given, input_type, tool))
    return items


def tool_runtime(
    call: ToolCall, state: Any, config: RunnableConfig, runtime: Runtime[Any], tools: Sequence[BaseTool]
) -> ToolRuntime[Any, Any]:
    """What a tool is given beside the arguments."""
    return ToolRuntime(
        state=state,
        tool_call_id=call["id"],
        config=config,
        context=runtime.context,
        store=runtime.store,
        stream_writer=runtime.stream_writer,
        tools=list(tools),
        execution_info=runtime.execution_info,
        server_info=runtime.server_info,
    )


def item_of(
    call: ToolCall,
    position: int,
    message: AIMessage | None,
    runtime: ToolRuntime[Any, Any],
    input_type: InputType,
    tool: BaseTool | None,
) -> Item:
    """One call of a message.

    Args:
        position: Its place among those that run in one task, from 0.
        message: The message that makes it.
    """
    index: Any = position
    try:
        action = Action(name=call["name"], args=call["args"])
        signature = action.digest
    except (ValidationError, TypeError):
        action, signature = None, repr(call["args"])
    if input_type == "tool_calls" and message and [c["id"] for c in message.tool_calls].count(call["id"]) > 1:
        index = runtime.config.get("metadata", {}).get("langgraph_path")  # which of the Sends this is
    key = key_of(runtime.config, message, index, call, signature)
    return Item(call, action, key, runtime, input_type, tool, replies.not_plain(call) if action is None else None)


def key_of(config: RunnableConfig, message: AIMessage | None, index: Any, call: ToolCall, signature: str) -> str:
    """The name of a call: the same in every execution and every process, another one for every other call."""
    configurable = config.get("configurable", {})
    message_id = (message and message.id) or str(configurable.get("checkpoint_ns", ""))
    identity = json.dumps([str(configurable.get("thread_id")), message_id, index, call["id"], signature])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def message_of(state: Any, key: str, calls: list[ToolCall]) -> AIMessage | None:
    """The message that makes these calls: its id tells apart calls to which a model gave the same id."""
    ids = {call["id"] for call in calls}
    messages: list[AnyMessage] = state if isinstance(state, list) else part_of(state, key) or []
    for message in reversed(messages):
        if isinstance(message, AIMessage) and ids <= {call["id"] for call in message.tool_calls}:
            return message
    return None


def part_of(state: Any, key: str) -> Any:
    """One key of a graph's state."""
    return state.get(key) if isinstance(state, dict) else getattr(state, key, None)


def model_of(state: Any, key: str) -> str | None:
    """Which model proposed the call, as it names itself."""
    messages = state if isinstance(state, list) else part_of(state, key) or []
    last = next((m for m in reversed(messages) if isinstance(m, AIMessage)), None)
    name = last.response_metadata.get("model_name") if last else None
    return hashlib.sha256(str(name).encode()).hexdigest() if name else None


def asked_for(state: Any, key: str) -> list[JsonValue]:
    """What the model had to go by, as an example for another one: the last message of a person."""
    messages = state if isinstance(state, list) else part_of(state, key) or []
    last = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
    return [] if last is None else [{"role": "user", "content": last.text}]


class Refusing:
    """In place of a tool: only says what is wrong with the arguments, so that `handle_tool_errors` words it."""

    def __init__(self, error: ToolInvocationError) -> None:
        self._error = error

    def invoke(self, *_: object) -> NoReturn:
        """Say it."""
        raise self._error


def schema_of(tool: BaseTool | None) -> dict[str, Any] | None:
    """JSON Schema of a tool's arguments."""
    schema = tool.tool_call_schema if tool else None
    if schema is None or isinstance(schema, dict):
        return schema
    return schema.model_json_schema() if issubclass(schema, BaseModel) else None


def runs_in_a_thread(tool: BaseTool | None) -> bool:
    """Whether `ainvoke` only waits for a thread, which no cancellation stops."""
    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is None
    return tool is not None and type(tool)._arun is BaseTool._arun
