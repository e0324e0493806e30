"""What an `EscalationNode` finds when it is called: the messages, the open tool calls, the node that failed."""

import json
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, cast

from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.errors import NodeError
from langgraph.types import Send

from hitl_graph.facts import Failure, Finding, Memory, Situation
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.guidance import unanswered
from hitl_graph.nodes.patching import channels_of, read
from hitl_graph.steps import Step, Steps
from hitl_graph.stuck import Alarm, Spent

__all__ = ["Scene", "began"]

_CHECKPOINTER, _FAILED = "__pregel_checkpointer", "__pregel_node_error"  # langgraph._internal._constants
_PUSH = "__pregel_push"
_REPR = re.compile(r"(\w+)\((.*?),?\)", re.DOTALL)
_LONGEST = 200
_FURTHEST = 200  # checkpoints that are looked at for the time at which the trouble began


@dataclass(frozen=True)
class Scene:
    """One call of the node.

    Attributes:
        input: What the node was given: the state; or, as error handler, what the failed node was given.
        path: Which task of the step this is; for a Send, its number.
        depth: How many parts of the namespace are this task's own: an error handler runs inside the failed one.
        failing: The calls that failed, where that is known already.
    """

    asker: Asker
    input: Any
    messages: Sequence[AnyMessage]
    failed: NodeError | None
    path: tuple[Any, ...]
    depth: int = 1
    failing: tuple[ToolCall, ...] | None = None

    @classmethod
    def of(cls, state: Any, asker: Asker, messages_key: str) -> "Scene":
        """Read it from the state and the config."""
        config = asker.config
        messages = state.get(messages_key) if isinstance(state, dict) else getattr(state, messages_key, None)
        if not isinstance(messages, list) and messages_key in channels_of(config):  # the input of a Send is no state
            messages = read(config, messages_key)
        failed = config.get("configurable", {}).get(_FAILED)
        is_handler = isinstance(failed, NodeError)
        return cls(
            asker=asker,
            input=state,
            messages=messages if isinstance(messages, list) else [],
            failed=failed if is_handler else None,
            path=tuple(config.get("metadata", {}).get("langgraph_path") or ()),
            depth=2 if is_handler else 1,
        )

    @property
    def graph(self) -> str:
        """The namespace of the (sub)graph, without the ids of its tasks."""
        return "|".join(part.partition(":")[0] for part in self.namespace.split("|"))

    @property
    def namespace(self) -> str:
        """The namespace of the (sub)graph."""
        return "|".join(self.asker.namespace.split("|")[: -self.depth])

    @property
    def again(self) -> str | Send:
        """Where to go to run the failed node again."""
        node = cast(NodeError, self.failed).node
        return Send(node, self.input) if self.sent else node

    @property
    def sent(self) -> bool:
        """Whether the node was called by a Send, which may give it anything."""
        return self.path[:1] == (_PUSH,)

    @cached_property
    def calls(self) -> list[ToolCall]:
        """The tool calls that nothing came back for; of a failed Send, its own."""
        if self.failing is not None:
            return list(self.failing)
        own = self.input
        if self.failed is not None and self.sent:
            if isinstance(own, dict) and "tool_call" in own:
                return [own["tool_call"]]
            if isinstance(own, list) and own and isinstance(own[-1], dict) and own[-1].get("type") == "tool_call":
                return list(own)
        return unanswered(self.messages)

    @property
    def amid(self) -> bool:
        """Whether other calls of the same message are open, so that only results of calls may come now."""
        return self.sent and len(self.calls) < len(unanswered(self.messages))

    @property
    def error(self) -> BaseException | None:
        """What the node raised. Once stored, LangGraph has only its text; then it is put together again."""
        if self.failed is None:
            return None
        if isinstance(self.failed.error, BaseException):
            return self.failed.error
        text = str(self.failed.error)
        found = _REPR.fullmatch(text)
        name, said = (found[1], found[2].strip("'\"")) if found else ("Exception", text)
        return cast(BaseException, type(name, (Exception,), {})(said))

    @property
    def failure(self) -> Failure | None:
        """The error as it is told."""
        if self.failed is None:
            return None
        return Failure(node=self.failed.node, type=type(self.error).__name__, message=str(self.error)[:2000])

    def situation(self, alarm: Alarm, memory: Memory | None, since: datetime | None, now: Spent | None) -> Situation:
        """What people are shown."""
        return Situation(
            findings=tuple(
                Finding(
                    kind=one.kind,
                    sentence=one.sentence,
                    count=one.count,
                    tried=tuple(map(_shown, self.calls)) if one.kind == "error" else one.tried,
                    came_back=one.came_back,
                )
                for one in alarm.evidence
            ),
            failure=self.failure,
            messages=len(self.messages),
            since_message=alarm.since + 1 if self.messages else None,
            since=since,
            steps=alarm.spent.steps,
            tokens=alarm.spent.tokens,
            cost=now.cost if now else None,
            next_steps=tuple(sorted(alarm.suggestions, key=lambda step: step.startswith("Stop"))),
            memory=memory,
        )


def _shown(call: ToolCall) -> str:
    text = f"{call['name']}({json.dumps(call['args'], ensure_ascii=False, default=str)})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]} …"


def began(asker: Asker, namespace: str, messages_key: str, message: int) -> Steps[datetime | None]:
    """When the message of this index was stored in a (sub)graph, as far as the checkpoints tell."""
    saver = asker.config.get("configurable", {}).get(_CHECKPOINTER)
    if not isinstance(saver, BaseCheckpointSaver):
        return None
    where: RunnableConfig = {"configurable": {"thread_id": asker.thread_id, "checkpoint_ns": namespace}}
    found: list[datetime] = []

    def look(stored: CheckpointTuple) -> bool:
        """Whether older ones have the message, too."""
        messages = stored.checkpoint["channel_values"].get(messages_key)
        if isinstance(messages, list) and len(messages) > message:
            found.append(datetime.fromisoformat(stored.checkpoint["ts"]))
            return True
        return False

    def sync() -> None:
        for stored in islice(saver.list(where, limit=_FURTHEST), _FURTHEST):
            if not look(stored):
                break

    async def awaited() -> None:
        async with aclosing(cast(Any, saver.alist(where, limit=_FURTHEST))) as listed:
            async for stored in listed:
                if not look(stored):
                    break

    try:
        yield Step(sync, awaited)
    except Exception:  # a card without the time is better than none
        return None
    return min(found).astimezone(UTC) if found and len(found) < _FURTHEST else None
