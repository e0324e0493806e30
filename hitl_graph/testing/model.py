"""A chat model that answers by a script."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr

__all__ = ["Reply", "ScriptedChatModel", "check_tool_calls", "render", "tool_call"]

Fixed = str | AIMessage | list[ToolCall] | Exception
Reply = Fixed | Callable[[list[BaseMessage]], Fixed]
"""A text, a message, tool calls, an exception to raise, or a function of the conversation that gives one of these."""


def tool_call(name: str, /, *, id: str | None = None, **args: Any) -> ToolCall:
    """A tool call for a script; without an `id` it gets a unique one."""
    return ToolCall(name=name, args=args, id=id or f"call_{uuid4().hex[:12]}", type="tool_call")


def render(script: Sequence[Reply] | Reply, messages: list[BaseMessage]) -> AIMessage:
    """The script's reply to a conversation, as a message with a fresh id.

    Raises:
        IndexError: The script has ended.
        Exception: The one that the script says.
    """
    reply: Any = script
    if isinstance(script, Sequence) and not isinstance(script, str):
        turn = sum(isinstance(message, AIMessage) for message in messages)
        if turn >= len(script):
            raise IndexError(f"the script has {len(script)} replies; the conversation asks for number {turn + 1}")
        reply = script[turn]
    if callable(reply) and not isinstance(reply, BaseMessage):
        reply = reply(messages)
    if isinstance(reply, Exception):
        raise reply
    fresh = {"id": f"run-{uuid4()}"}
    if isinstance(reply, str):
        return AIMessage(reply, **fresh)
    if isinstance(reply, AIMessage):
        return reply.model_copy(update=fresh, deep=True)
    calls: list[Any] = [
        {**call, "id": call["id"] or f"call_{uuid4().hex[:12]}"} for call in cast(list[ToolCall], reply)
    ]
    return AIMessage("", tool_calls=calls, **fresh)


def check_tool_calls(messages: Sequence[BaseMessage]) -> None:
    """Refuse what the APIs of models refuse: a tool call without an answer right after it, an answer without a call.

    Raises:
        ValueError: In the words of OpenAI.
    """
    open_ids, called = list[str](), set[str]()
    for message in [*messages, None]:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in called:
                raise ValueError(
                    "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'"
                )
            open_ids = [id for id in open_ids if id != message.tool_call_id]
            continue
        if open_ids:
            raise ValueError(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
                f" 'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(open_ids)}"
            )
        calls: list[Any] = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
        open_ids = [str(call["id"]) for call in calls]
        called = set(open_ids)


class ScriptedChatModel(BaseChatModel):
    """Replies from a script; sync, async and streaming.

    A list is read by the number of AI messages already in the conversation, not by a counter: a process that goes on
    with a stored conversation gets the reply that comes next. A function gets the conversation each time.

    Args:
        script: A list of replies, or a function of the conversation.
        strict: Refuse a conversation in which a tool call has no answer, as the APIs of models do.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: Any
    strict: bool = False
    bound_tools: list[str] = Field(default_factory=list)
    _calls: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    def __init__(self, script: Sequence[Reply] | Callable[[list[BaseMessage]], Fixed], **more: Any) -> None:
        super().__init__(script=script, **more)  # type: ignore[call-arg]

    @property
    def calls(self) -> list[list[BaseMessage]]:
        """The conversations that it was asked about, in order."""
        return self._calls

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **_: Any
    ) -> Runnable[Any, AIMessage]:
        """The same model; it remembers the names of the tools in `bound_tools`."""
        bound = self.model_copy(update={"bound_tools": [_tool_name(tool) for tool in tools]})
        bound._calls = self._calls
        return bound

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        self._calls.append(list(messages))
        if self.strict:
            check_tool_calls(messages)
        return render(self.script, messages)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in _pieces(self._reply(messages)):
            generation = ChatGenerationChunk(message=piece)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(piece.content), chunk=generation)
            yield generation


def _pieces(message: AIMessage) -> Iterator[AIMessageChunk]:
    """A message as a model streams it; together the pieces are the message."""
    content = message.content
    contents: list[Any] = (
        [content[at : at + 8] for at in range(0, len(content), 8)] if isinstance(content, str) else [content]
    )
    for part in contents:
        yield AIMessageChunk(content=part, id=message.id)
    calls = [(call["name"], call["id"], json.dumps(call["args"])) for call in message.tool_calls]
    calls += [(call["name"] or "", call["id"], call["args"] or "") for call in message.invalid_tool_calls]
    for index, (name, id_, args) in enumerate(calls):
        half = len(args) // 2
        for chunk in (
            ToolCallChunk(name=name, args=args[:half], id=id_, index=index, type="tool_call_chunk"),
            ToolCallChunk(name=None, args=args[half:], id=None, index=index, type="tool_call_chunk"),
        ):
            yield AIMessageChunk(content="", id=message.id, tool_call_chunks=[chunk])
    yield AIMessageChunk(
        content="",
        id=message.id,
        additional_kwargs=message.additional_kwargs,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )


def _tool_name(tool: Any) -> str:
    if isinstance(tool, dict):
        tool = tool.get("function", tool)
        return str(tool.get("name") or tool.get("title") or "?")
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", "?"))
