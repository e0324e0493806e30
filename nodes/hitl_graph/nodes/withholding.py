"""Keep what a writer writes out of the end user's stream until it is delivered.

LangGraph streams messages twice over, by a callback handler: token by token while a model speaks, and whole when a node
returns one. The writer runs without that handler; the second leaves out messages that the handler has seen already.
"""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from typing import Any, TypeVar
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import set_config_context
from langgraph.config import get_config, get_stream_writer
from langgraph.constants import TAG_NOSTREAM
from langgraph.pregel._messages import StreamMessagesHandler
from langgraph.types import Command, StreamWriter

from hitl_graph.nodes.revisions import MARK

try:  # tells a chat model to stream; LangGraph's own handler has the same base
    from langchain_core.tracers._streaming import _StreamingCallbackHandler as _Streaming
except ImportError:  # pragma: no cover
    _Streaming = object  # type: ignore[assignment, misc]

__all__ = ["aquietly", "conceal", "keep_back", "quietly", "withheld"]

T = TypeVar("T")


def withheld(writer: Any, *, to_reviewers: bool = False) -> Any:
    """Keep what a node writes out of the end user's stream.

    It stands in place of the node: `add_node("writer", withheld(writer))`. With `stream_mode="messages"` neither a
    token nor the message of the writer is streamed; the `OutputReviewNode` streams the message when it is delivered.
    (`values`, `updates` and `debug` show the state itself, drafts included: they are for people who may see it.)

    Args:
        writer: A node: a function, sync or async, or a runnable such as a compiled graph.
        to_reviewers: Stream the tokens with `stream_mode="custom"`, as `{"hitl_draft": {"id": ..., "text": ...}}`.
            Give that stream to reviewers only.
    """
    if isinstance(writer, Runnable):

        def invoke(state: Any, config: RunnableConfig) -> Any:
            return _run(to_reviewers, state, writer.invoke, (state,), {"config": config})

        async def ainvoke(state: Any, config: RunnableConfig) -> Any:
            return await _arun(to_reviewers, state, writer.ainvoke, (state,), {"config": config})

        return RunnableLambda(invoke, ainvoke, name=writer.get_name())
    if any(map(inspect.iscoroutinefunction, (writer, getattr(writer, "__call__", None)))):  # noqa: B004

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await _arun(to_reviewers, args[0], writer, args, kwargs)

        return functools.wraps(writer)(awaited)

    def called(*args: Any, **kwargs: Any) -> Any:
        return _run(to_reviewers, args[0], writer, args, kwargs)

    return functools.wraps(writer)(called)


def _run(to_reviewers: bool, state: Any, writer: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    return _concealed(state, quietly(to_reviewers, lambda quiet: writer(*args, **_with(kwargs, quiet))))


async def _arun(to_reviewers: bool, state: Any, writer: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    return _concealed(state, await aquietly(to_reviewers, lambda quiet: writer(*args, **_with(kwargs, quiet))))


def quietly(to_reviewers: bool, call: Callable[[RunnableConfig], T]) -> T:
    """Call something inside a node, so that streams of messages do not hear of it. It gets the config for that."""
    quiet = _quiet(get_config(), to_reviewers)
    with set_config_context(quiet) as context:
        return context.run(call, quiet)


async def aquietly(to_reviewers: bool, call: Callable[[RunnableConfig], Coroutine[Any, Any, T]]) -> T:
    """As `quietly`."""
    quiet = _quiet(get_config(), to_reviewers)
    with set_config_context(quiet) as context:
        return await asyncio.get_running_loop().create_task(call(quiet), context=context)


def _with(kwargs: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
    return {**kwargs, "config": config} if "config" in kwargs else kwargs


def _quiet(config: RunnableConfig, to_reviewers: bool) -> RunnableConfig:
    """The writer's config: streams of messages do not hear of it."""
    told: list[BaseCallbackHandler] = [_ToReviewers(get_stream_writer())] if to_reviewers else []
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        for handler in [*callbacks.handlers, *callbacks.inheritable_handlers]:
            if isinstance(handler, StreamMessagesHandler):
                callbacks.remove_handler(handler)
        for handler in told:
            callbacks.add_handler(handler, inherit=True)
    else:
        callbacks = [h for h in callbacks or [] if not isinstance(h, StreamMessagesHandler)] + told
    tags = [*(config.get("tags") or []), TAG_NOSTREAM]  # for what makes a stream of its own
    return {**config, "callbacks": callbacks, "tags": tags}


class _ToReviewers(BaseCallbackHandler, _Streaming):  # type: ignore[type-arg]
    """Hands the tokens of a draft to the custom stream, as if the writer's node did."""

    run_inline = True

    def __init__(self, write: StreamWriter) -> None:
        self._write, self._spoken, self._context = write, set[UUID](), copy_context()

    def tap_output_aiter(self, run_id: UUID, output: Any) -> Any:
        return output

    def tap_output_iter(self, run_id: UUID, output: Any) -> Any:
        return output

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **_: Any) -> None:
        self._spoken.add(run_id)
        message = chunk.message if isinstance(chunk, ChatGenerationChunk) else None
        self._tell(message.id if message else None, message.text if message else str(token))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        if run_id not in self._spoken:  # a model that does not stream
            message = getattr(response.generations[0][0], "message", None)
            self._tell(message.id if message else None, response.generations[0][0].text)

    def _tell(self, id: str | None, text: str) -> None:
        if text:
            self._context.copy().run(self._write, {"hitl_draft": {"id": id, "text": text}})


def _concealed(state: Any, output: Any) -> Any:
    """A node's output with its drafts marked as unreviewed, and hidden from the streams that are open."""
    updates = output.update if isinstance(output, Command) else output
    before = {message.id for message in _messages(state if isinstance(state, dict | list) else vars(state))}
    before.discard(None)
    keep_back(message for message in _messages(updates) if message.id not in before)
    return output


def keep_back(messages: Iterable[BaseMessage]) -> None:
    """Mark what a model says as unreviewed, and hide it from the message streams that are open."""
    drafts = [message for message in messages if isinstance(message, AIMessage)]
    for message in drafts:
        if not message.tool_calls:
            message.additional_kwargs.setdefault(MARK, {"outcome": "unreviewed"})
    conceal(get_config().get("callbacks"), drafts)


def conceal(callbacks: Callbacks, messages: Iterable[BaseMessage]) -> None:
    """Keep these messages, which a node is about to return, out of the message streams that are open."""
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    for message in messages:
        if message.id is None:
            message.id = str(uuid4())
        for handler in handlers:
            if isinstance(handler, StreamMessagesHandler):
                handler.seen.add(message.id)


def _messages(updates: Any) -> list[BaseMessage]:
    if isinstance(updates, BaseMessage):
        return [updates]
    if isinstance(updates, dict):
        return [message for value in updates.values() for message in _messages(value)]
    if isinstance(updates, Sequence) and not isinstance(updates, str):
        return [message for value in updates for message in _messages(value)]
    return []
