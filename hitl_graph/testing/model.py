"""A chat model that answers by a script."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr

__all__ = ["Reply", "ScriptedChatModel", "render", "tool_call"]

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
    calls: list[Any] = [{**call, "id": call["id"] or f"call_{uuid4().hex[:12]}"} for call in cast(list[ToolCall], reply)]
    return AIMessage("", tool_calls=calls, **fresh)


class ScriptedChatModel(BaseChatModel):
    """Replies from a script; sync, async and streaming.

    A list is read by the number of AI messages already in the conversation, not by a counter: a process that goes on
    with a stored conversation gets the reply that comes next. A function gets the conversation each time.

    Args:
        script: A list of replies, or a function of the conversation.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: Any
    bound_tools: list[str] = Field(default_factory=list)
    _calls: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

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
        bound = self.model_copy(
            update={"bound_tools": [getattr(t, "name", getattr(t, "__name__", "?")) for t in tools]}
        )
        bound._calls, bound._lock = self._calls, self._lock
        return bound

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        with self._lock:
            self._calls.append(list(messages))
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
        message = self._reply(messages)
        text = message.text
        pieces: list[AIMessageChunk] = [
            AIMessageChunk(content=text[at : at + 8], id=message.id) for at in range(0, len(text), 8)
        ]
        for index, call in enumerate(message.tool_calls):
            args = json.dumps(call["args"])
            half = len(args) // 2
            for name, id_, part in ((call["name"], call["id"], args[:half]), (None, None, args[half:])):
                chunk = ToolCallChunk(name=name, args=part, id=id_, index=index, type="tool_call_chunk")
                pieces.append(AIMessageChunk(content="", id=message.id, tool_call_chunks=[chunk]))
        pieces.append(AIMessageChunk(content="", id=message.id, chunk_position="last"))
        for piece in pieces:
            generation = ChatGenerationChunk(message=piece)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(piece.content), chunk=generation)
            yield generation
