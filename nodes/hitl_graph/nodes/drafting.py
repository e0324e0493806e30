"""The draft in a graph's state: a key of it, or the last message of the model. Found, shown as JSON, and put back."""

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from pydantic import BaseModel, JsonValue, PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

from hitl_graph.errors import DraftError
from hitl_graph.model import canonical, digest
from hitl_graph.nodes.revisions import MARK, Revision, feedback_message, on_messages

__all__ = ["NOT_RELEASED", "Draft", "Place", "said"]

NOT_RELEASED = "(This answer was not released.)"
"""Stands in place of a draft that was rejected or blocked."""

_MISSING = object()


@dataclass(frozen=True)
class Draft:
    """A draft as it is in the state now.

    Attributes:
        value: As the state has it.
        plain: The same as JSON: what people see and what counts.
        schema: JSON Schema of it, where its type is known.
        message: The message that it is, if it is one.
        entries: What is kept of earlier drafts, oldest first.
    """

    value: Any
    plain: JsonValue
    schema: dict[str, JsonValue] | None
    message: AIMessage | None
    entries: Sequence[Any]

    @property
    def digest(self) -> str:
        """SHA-256 of it as JSON."""
        return digest(self.plain)

    @property
    def unreviewed(self) -> bool:
        """Whether it was kept from the end user's stream."""
        mark = self.message.additional_kwargs.get(MARK) if self.message else None
        return isinstance(mark, dict) and mark.get("outcome") == "unreviewed"


@dataclass(frozen=True)
class Place:
    """Where the draft is.

    Args:
        draft: Key of the state; None: the last message of the model.
        messages, reviews: Keys of the state.
        type_: Of the draft, for pydantic; None: the type of the value, if that is a pydantic model.
        delivered: Key of the state that gets what was delivered, or None if nothing is.

    Where `reviews` or `delivered` is None, the state has no such key.
    """

    draft: str | None
    messages: str
    reviews: str | None
    type_: Any = None
    delivered: str | None = "delivered"

    def read(self, state: Any) -> Draft:
        """The draft.

        Raises:
            DraftError: There is none, or nowhere to keep what becomes of it.
        """
        entries = _get(state, self.reviews) if self.reviews is not None else _MISSING
        if self.draft is None:
            messages = _get(state, self.messages) if not isinstance(state, list) else state
            return self._message(messages if isinstance(messages, list) else [], entries)
        value = _get(state, self.draft)
        if value is _MISSING or value is None:
            raise DraftError(f"the state has no {self.draft!r} to review; the node before has to write it")
        if not isinstance(entries, list):
            raise DraftError(
                f"the state has no list {self.reviews!r} for the feedback on {self.draft!r}; declare it:"
                f" {self.reviews}: Annotated[list[Revision], operator.add]"
            )
        plain = self.plain(value)
        return Draft(value, plain, self.schema(value), None, entries)

    def _message(self, messages: Sequence[BaseMessage], entries: Any) -> Draft:
        last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
        if last is None:
            raise DraftError(f"there is no message of the model in {self.messages!r} to review")
        if last.tool_calls or last.invalid_tool_calls:
            raise DraftError("the last message of the model calls tools, so it is no draft; review it when they ran")
        if last.id is None:
            raise DraftError(f"the messages have no ids; give {self.messages!r} the reducer add_messages")
        value = said(last)
        kept = entries if isinstance(entries, list) else on_messages(messages)
        return Draft(value, self.plain(value), None, last, kept)

    def plain(self, value: Any) -> JsonValue:
        """A draft as JSON.

        Raises:
            DraftError: It is none.
        """
        try:
            plain = to_jsonable_python(str(value) if isinstance(value, str) else value)
            canonical(plain)
        except (TypeError, ValueError, PydanticSerializationError) as exc:
            raise DraftError(f"the draft cannot be shown as JSON: {exc}") from exc
        if not isinstance(plain, str | dict | list):
            raise DraftError(f"a draft is a text, a pydantic model, or JSON (a list or a dict), not {plain!r:.80}")
        return cast(JsonValue, plain)

    def _adapter(self, value: Any) -> TypeAdapter[Any] | None:
        type_ = self.type_ or (type(value) if isinstance(value, BaseModel) or is_dataclass(value) else None)
        return TypeAdapter(type_) if type_ is not None else None

    def schema(self, value: Any) -> dict[str, JsonValue] | None:
        """JSON Schema of a draft; None where its type is not known."""
        try:
            adapter = self._adapter(value)
            return adapter.json_schema() if adapter is not None else None
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
            return None

    def typed(self, draft: Draft, plain: JsonValue) -> Any:
        """A draft as the state has it, from its JSON.

        Raises:
            ValidationError: It breaks a rule of its type that no JSON Schema tells.
        """
        if plain == draft.plain and digest(plain) == draft.digest:
            return draft.value
        adapter = self._adapter(draft.value)
        return adapter.validate_python(plain) if adapter is not None else plain

    def changes(self, draft: Draft, entry: Revision, typed: Any) -> tuple[dict[str, Any], Sequence[AnyMessage]]:
        """The update of the state when it is known what becomes of a draft.

        Args:
            entry: What becomes of it.
            typed: What is delivered, as the state has it.

        Returns:
            The update, and the messages that the end user's stream has to be given, as it has not seen them.
        """
        outcome = entry["outcome"]
        changes: dict[str, Any] = {}
        if self.reviews is not None:
            changes[self.reviews] = [entry]  # LangGraph drops what a state does not have
        if self.delivered is not None and outcome != "revise":
            changes[self.delivered] = typed if outcome == "delivered" else None
        edited = outcome == "delivered" and entry.get("delivered") != draft.plain
        if draft.message is None:
            return (changes | {str(self.draft): typed} if edited else changes), ()
        message = draft.message
        content = message.content
        if edited:
            content = typed
        elif outcome in ("rejected", "blocked"):
            content = NOT_RELEASED
        kept = message.model_copy(
            update={"content": content, "additional_kwargs": {**message.additional_kwargs, MARK: entry}}
        )
        changes[self.messages] = [kept]
        if outcome == "revise":
            changes[self.messages] = [kept, feedback_message(entry.get("feedback", ""))]
        shown = draft.unreviewed or content is not message.content
        if outcome == "revise" or not shown:
            return changes, ()
        more = {name: value for name, value in message.additional_kwargs.items() if name != MARK}  # not for end users
        return changes, [message.model_copy(update={"content": content, "additional_kwargs": more})]


def said(message: BaseMessage) -> Any:
    """What a message says: its text; its blocks, if there is more. What a person does not see they do not approve."""
    content = message.content
    if isinstance(content, str) or all(
        isinstance(block, str) or (set(block) <= {"type", "text", "index", "id"} and block.get("type") == "text")
        for block in content
    ):
        return str(message.text)
    return content


def _get(state: Any, key: str) -> Any:
    return state.get(key, _MISSING) if isinstance(state, dict) else getattr(state, key, _MISSING)
