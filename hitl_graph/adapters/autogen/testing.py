"""A stand-in for the model of AutoGen agents; everything else of a test runs for real."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelInfo,
    RequestUsage,
)

__all__ = ["ScriptedModelClient"]

Reply = str | Sequence[FunctionCall]


class ScriptedModelClient(ChatCompletionClient):
    """Says the replies of a script: the first one to a conversation in which the agent has said nothing, and so on.

    So it says the same whatever process asks it.

    Args:
        script: Each a text, or the calls of tools (`FunctionCall(id=..., name=..., arguments='{"json": 1}')`).

    Attributes:
        seen: What it was given, each time.
    """

    component_type = "model"

    def __init__(self, script: Sequence[Reply]) -> None:
        self.script = list(script)
        self.seen: list[list[LLMMessage]] = []
        self._used = RequestUsage(0, 0)

    async def create(
        self, messages: Sequence[LLMMessage], *, cancellation_token: CancellationToken | None = None, **options: Any
    ) -> CreateResult:
        """The next reply."""
        self.seen.append(list(messages))
        turn = sum(isinstance(message, AssistantMessage) for message in messages)
        reply = self.script[turn] if turn < len(self.script) else "The script has come to its end."
        content = reply if isinstance(reply, str) else list(reply)
        usage = RequestUsage(prompt_tokens=len(messages), completion_tokens=1)
        self._used = RequestUsage(self._used.prompt_tokens + usage.prompt_tokens, self._used.completion_tokens + 1)
        reason = "stop" if isinstance(reply, str) else "function_calls"
        return CreateResult(finish_reason=reason, content=content, usage=usage, cached=False)  # type: ignore[arg-type]

    async def create_stream(
        self, messages: Sequence[LLMMessage], **options: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The next reply, at once."""
        result = await self.create(messages, **options)
        if isinstance(result.content, str):
            yield result.content
        yield result

    async def close(self) -> None:
        """Nothing is open."""

    def actual_usage(self) -> RequestUsage:
        """One token a reply."""
        return self._used

    def total_usage(self) -> RequestUsage:
        """One token a reply."""
        return self._used

    def count_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        """One a message."""
        return len(messages)

    def remaining_tokens(self, messages: Sequence[LLMMessage], **options: Any) -> int:
        """Always enough."""
        return 100_000

    @property
    def capabilities(self) -> Any:
        """As `model_info`."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """It can all that is text."""
        return ModelInfo(
            vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True
        )
