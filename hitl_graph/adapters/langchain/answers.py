"""The final answer of an agent of LangChain: found in its state, and put back as people want it. Pure functions.

It is the structured response, if the agent has one; the results of its tools, where it returns these directly; else
the last message of the model, whoever wrote that in its name.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from hitl_graph.model import canonical, digest
from hitl_graph.nodes.drafting import NOT_RELEASED, Draft, Place, said
from hitl_graph.nodes.revisions import MARK, Revision, feedback_message, on_messages

__all__ = ["STRUCTURED", "Answer", "Answers"]

STRUCTURED = "structured"
"""In the mark of a message: the model's structured response came with it."""
_RAW = {"tool_calls", "function_call", "parsed"}  # where providers repeat the arguments of calls


@dataclass(frozen=True)
class Answer(Draft):
    """A final answer.

    Attributes:
        structured: It is the structured response.
        results: The answers to the calls of its message; they are the final answer, unless it is structured.
        held: The state has a structured response, be it this answer or an older one.
    """

    structured: bool = False
    results: tuple[ToolMessage, ...] = ()
    held: bool = False


@dataclass(frozen=True)
class Answers(Place):
    """Where the final answers of an agent are."""

    draft: str | None = None
    messages: str = "messages"
    reviews: str | None = None
    delivered: str | None = None

    def is_there(self, state: Any) -> bool:
        """Whether the agent ends with something that a person could read."""
        message, results = _last(state["messages"])
        if message is None:
            return False
        return state.get("structured_response") is not None or any(
            bool(text := said(one)) and text != NOT_RELEASED for one in (results or [message])
        )

    def read(self, state: Any) -> Answer:
        """The final answer of this state, which has one."""
        message, results = _last(state["messages"])
        assert message is not None
        structured, entries = state.get("structured_response"), on_messages(state["messages"])
        held = structured is not None
        if held and (self._carries(message, results, structured) or not any(map(said, results or [message]))):
            value = self._as_declared(structured)
            return Answer(value, self.plain(value), self.schema(value), message, entries, True, results, held)
        if results:
            texts = [said(result) for result in results]
            exactly = {"minItems": len(texts), "maxItems": len(texts)}
            schema = None if len(texts) == 1 else {"type": "array", "items": {"type": "string"}, **exactly}
            value = texts[0] if len(texts) == 1 else texts
            return Answer(value, self.plain(value), cast(Any, schema), message, entries, False, results, held)
        value = said(message)
        return Answer(value, self.plain(value), None, message, entries, False, (), held)

    def changes(self, draft: Draft, entry: Revision, typed: Any) -> tuple[dict[str, Any], Sequence[AnyMessage]]:
        """As of any place. No part of the state keeps what people refused, or did not see."""
        assert isinstance(draft, Answer)
        assert draft.message is not None
        changes: dict[str, Any]
        shown: Sequence[AnyMessage]
        if draft.structured or draft.results:
            changes, shown = self._carried(draft, entry, typed)
        else:
            changes, shown = super().changes(draft, entry, typed)
        if draft.held:
            out = draft.structured and entry["outcome"] == "delivered"
            changes["structured_response"] = typed if out else None
        return changes, shown

    def _carried(self, draft: Answer, entry: Revision, typed: Any) -> tuple[dict[str, Any], list[AnyMessage]]:
        message, *results = self._structured(draft, entry, typed) if draft.structured else self._results(draft, entry)
        if entry["outcome"] == "revise":
            hidden = (_marked(result, {"outcome": "revise"}) for result in results)
            return {"messages": [_marked(message, entry), *hidden, feedback_message(entry.get("feedback", ""))]}, []
        shown = [new for new, was in zip(results, draft.results, strict=True) if new is not was]
        if draft.unreviewed or message is not draft.message:
            shown = [_unmarked(message), *shown]
        return {"messages": [_marked(message, entry), *results]}, shown

    def _as_declared(self, structured: Any) -> Any:
        """With its type, which a checkpointer may not have restored."""
        if self.type_ is None:
            return structured
        try:
            return TypeAdapter(self.type_).validate_python(structured)
        except ValidationError:
            return structured

    def _carries(self, message: AIMessage, results: Sequence[ToolMessage], structured: Any) -> bool:
        """Whether the structured response came with this message, and is not left over from an earlier turn."""
        mark = message.additional_kwargs.get(MARK)
        if results or (isinstance(mark, dict) and mark.get(STRUCTURED) is True):
            return True
        return self._says(message, structured)

    def _says(self, message: AIMessage, structured: Any) -> bool:
        try:
            value = json.loads(message.text)
            if not isinstance(structured, dict | list):
                value = TypeAdapter(type(structured)).validate_python(value)
            return digest(self.plain(value)) == digest(self.plain(structured))
        except (ValueError, TypeError, PydanticSerializationError):
            return False

    def _structured(self, draft: Answer, entry: Revision, typed: Any) -> list[AnyMessage]:
        """The message that brought it, and the answers to its calls, without what people refused or did not see."""
        message = cast(AIMessage, draft.message)
        if entry["outcome"] == "revise":
            return [message, *draft.results]
        plain: JsonValue = entry.get("delivered") if entry["outcome"] == "delivered" else None
        out, edited = entry["outcome"] == "delivered", plain != draft.plain
        if not message.tool_calls:
            content = canonical(plain) if out else NOT_RELEASED
            return [message if out and not edited and self._says(message, draft.value) else _bare(message, content)]
        if out and not edited:
            return [message if not message.text.strip() else _bare(message, "", message.tool_calls), *draft.results]
        named = [call for call in message.tool_calls if call["name"] == _name(draft.value)] or message.tool_calls
        own = {call["id"] for call in named}
        args = plain if out and isinstance(plain, dict) and len(named) == 1 else {}
        calls = [{**call, "args": args if call["id"] in own else {}} for call in message.tool_calls]
        text = f"Returning structured response: {typed}" if out else NOT_RELEASED
        results = (_result(one, text) if one.tool_call_id in own else one for one in draft.results)
        return [_bare(message, "", calls), *results]

    def _results(self, draft: Answer, entry: Revision) -> list[AnyMessage]:
        message = cast(AIMessage, draft.message)
        if entry["outcome"] == "revise" or entry.get("delivered") == draft.plain:
            return [message, *draft.results]
        if entry["outcome"] != "delivered":
            return [message, *(_result(one, NOT_RELEASED) for one in draft.results)]
        plain: Any = entry.get("delivered")
        texts = [plain] if len(draft.results) == 1 else plain
        return [message, *(_result(one, text) for one, text in zip(draft.results, texts, strict=True))]


def _last(messages: Sequence[BaseMessage]) -> tuple[AIMessage | None, tuple[ToolMessage, ...]]:
    """The last message of the model, and the answers to its calls."""
    for place in range(len(messages) - 1, -1, -1):
        if isinstance(message := messages[place], AIMessage):
            return message, tuple(one for one in messages[place + 1 :] if isinstance(one, ToolMessage))
    return None, ()


def _bare(message: AIMessage, content: str, calls: Iterable[Any] = ()) -> AIMessage:
    more = {name: value for name, value in message.additional_kwargs.items() if name not in _RAW}
    update = {"content": content, "tool_calls": list(calls), "invalid_tool_calls": [], "additional_kwargs": more}
    return message.model_copy(update=update)


def _result(result: ToolMessage, content: Any) -> ToolMessage:
    return result.model_copy(update={"content": content, "artifact": None})


def _marked(message: AnyMessage, mark: Any) -> AnyMessage:
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, MARK: mark}})


def _unmarked(message: AnyMessage) -> AnyMessage:
    more = {name: value for name, value in message.additional_kwargs.items() if name != MARK}
    return message.model_copy(update={"additional_kwargs": more})


def _name(structured: Any) -> str:
    """What LangChain calls the tool that brings this."""
    return type(structured).__name__
