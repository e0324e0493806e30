"""What a team inside of a graph cannot wait for is put off: it stops at the end of the turn, and the node asks.

In place of an answer, agents get a text that nobody else could have written. Once there is an answer, it takes the
place of that text in the team's saved state, so that the team goes on as if it had been there at once.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, StopMessage
from langchain_core.messages import ToolMessage
from langgraph.runtime import Runtime

from hitl_graph.adapters.autogen.tools import Bridge, running
from hitl_graph.adapters.outside import Outside
from hitl_graph.nodes.calls import items_of
from hitl_graph.steps import arun

__all__ = ["Pause", "PutOff", "filled"]


@dataclass(frozen=True)
class PutOff:
    """Something that waits for people.

    Attributes:
        placeholder: What the agent was told for now.
        question: Of an input function, or of a handoff.
        name, args, key, call_id: Of a call.
        source: Who handed off.
    """

    id: str
    kind: Literal["question", "call", "handoff"]
    placeholder: str
    question: str = ""
    name: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    call_id: str = ""
    source: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON, for the graph's state."""
        return dict(vars(self))


class Pause(TerminationCondition):
    """Stops a team at the end of the turn in which something was put off. It has to be able to by itself: use `|`."""

    def __init__(self) -> None:
        self.is_on = False
        self.put_off: list[PutOff] = []
        self.stopped = False
        self._place, self._done = "", dict[str, int]()

    def begin(self, place: str) -> None:
        """A run of the team inside of a graph begins.

        Args:
            place: Names it, the same if it has to be repeated after a crash.
        """
        self.is_on, self._place = True, place

    @property
    def terminated(self) -> bool:
        """Whether the team was stopped."""
        return self.stopped and self.is_on

    async def __call__(self, messages: Sequence[BaseAgentEvent | BaseChatMessage]) -> StopMessage | None:
        """Called by the team at the end of each turn."""
        if self.stopped:
            raise TerminatedException("the team went on though it has to wait for people; combine `pause` with |")
        if not self.put_off:
            return None
        self.stopped = True
        return StopMessage(content="The team waits for people.", source="People")

    async def reset(self) -> None:
        """Called by the team once it has stopped. What stopped it is looked at by the node."""

    def put_off_question(self, question: str) -> str:
        """What an input function gives for now."""
        return self._put_off("question", "[A person has been asked, and has not answered yet", question=question)

    async def gated(
        self, outside: Outside, bridge: Bridge, args: Mapping[str, Any], call_id: str | None
    ) -> ToolMessage:
        """Run a call that the policy allows; put off one about which people are asked."""
        call: Any = {"name": bridge.name, "args": dict(args), "id": call_id or bridge.name, "type": "tool_call"}
        runtime: Any = Runtime()
        config = outside.config("", execute=partial(running, bridge))
        [item] = items_of([call], "tool_calls", {}, "messages", config, runtime, [bridge])
        if (action := item.action) is None:
            assert item.refused is not None
            return item.refused
        # By what is done, not by the model's name for it: a turn that is repeated after a crash does not do it again.
        number = self._done[action.digest] = self._done.get(action.digest, 0) + 1
        identity = json.dumps([outside.thread_id, self._place, action.digest, number])
        item = replace(item, key=hashlib.sha256(identity.encode()).hexdigest()[:32])
        [judged] = await arun(outside.gate.judged([item], config))
        if judged.verdict is not None and not judged.verdict.asking:
            told: Any = await arun(outside.gate.allowed(judged, config, True))
            if told is not None:
                return told  # type: ignore[no-any-return]
        text = f"[{bridge.name} has not run yet: a person has to approve it"
        return ToolMessage(
            self._put_off("call", text, name=bridge.name, args=action.args, key=item.key, call_id=call["id"]),
            tool_call_id=call["id"],
        )

    def _put_off(self, kind: Literal["question", "call"], text: str, **what: Any) -> str:
        own = os.urandom(8).hex()
        placeholder = f"{text}. What comes of it follows; do not ask again. ({own})]"
        self.put_off.append(PutOff(own, kind, placeholder, **what))
        return placeholder


def filled(state: Any, texts: Mapping[str, str]) -> Any:
    """A saved state with texts in the places of placeholders, wherever they stand."""
    if isinstance(state, str):
        for placeholder, text in texts.items():
            state = state.replace(placeholder, text)
        return state
    if isinstance(state, Mapping):
        return {key: filled(value, texts) for key, value in state.items()}
    if isinstance(state, Sequence) and not isinstance(state, bytes):
        return [filled(value, texts) for value in state]
    return state
