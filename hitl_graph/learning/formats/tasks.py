"""A task of a labelling tool: what a model proposed, for somebody who decides about it elsewhere. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from hitl_graph.learning.examples import Example
from hitl_graph.learning.formats.chat import Message, Unusable, conversation, text
from hitl_graph.learning.formats.right import decided, finite
from hitl_graph.model import Decision, Request, edited

__all__ = ["Task", "of_example", "of_request", "proposal"]


@dataclass(frozen=True)
class Task:
    """What is shown to whoever labels.

    Attributes:
        id: Of the request, which the label has to name.
        about: What is asked, in a sentence.
        input: What the model had to go by; empty where it is not known.
        output: What it proposed.
        model: Digest of the model, where it says what it is.
        facts: What goes with it and comes back with the label: the digest of what was shown, kind, tool and the like.
        decision: What was decided about it; None: that is the question.
    """

    id: str
    about: str
    input: str
    output: str
    score: float | None
    model: str | None
    facts: Mapping[str, str]
    decision: Decision | None = None
    reviewer: str | None = None

    @property
    def edited(self) -> str | None:
        """What it was edited to, as it is shown."""
        new = edited(self.decision) if self.decision else None
        return None if new is None else text(new)

    @property
    def message(self) -> str | None:
        """What the reviewer said: a reason, an answer or a comment."""
        if self.decision is None:
            return None
        return text(self.decision.value) if self.decision.value is not None else self.decision.message


def of_example(example: Example) -> Task:
    """A decision of the past, as a labelled task.

    Raises:
        Unusable: No person decided it, or it was redacted.
    """
    decision = decided(example)
    facts = {"kind": example.kind, "tool": example.tool, "thread_id": example.thread_id, "split": example.split}
    return Task(
        example.id, _about(example.kind, example.tool), _told(example.input), text(example.output),
        finite(example.score), example.model, _known(facts), decision, example.reviewer,
    )  # fmt: skip


def of_request(request: Request, input: JsonValue = None) -> Task:
    """What waits for people, as a task without a label.

    Args:
        input: What the model had to go by, as far as it is known.

    Raises:
        Unusable: It is about no proposal of a model: an escalation, or a question.
    """
    shown, tool = proposal(request), request.action.name if request.action else None
    about = [_about(request.kind, tool), request.description, request.reason, f"Offered: {', '.join(request.allowed)}."]
    facts = {"digest": request.digest, "kind": request.kind, "tool": tool, "thread_id": request.thread_id}
    return Task(
        request.id, "\n".join(filter(None, about)), _told(input), text(shown),
        finite(request.score), request.model_digest, _known(facts),
    )  # fmt: skip


def proposal(request: Request) -> JsonValue:
    """What is asked about: the arguments of a call, or a draft.

    Raises:
        Unusable: It is about no proposal of a model: an escalation, or a question.
    """
    if request.kind == "approval" and request.action is not None:
        return request.action.args
    if request.kind == "review" and (request.action is not None or request.draft is not None):
        return request.draft if request.action is None else request.action.args
    raise Unusable(f"no proposal to label: {request.kind}")


def _about(kind: str, tool: str | None) -> str:
    if tool is None:
        return "A draft: may it be delivered?"
    return f"A call of {tool}: may it run?" if kind == "approval" else f"A call of {tool} that ran: was it right?"


def _told(input: JsonValue) -> str:
    """For people to read: who said what."""
    try:
        messages = conversation(input)
    except Unusable:
        messages = None
    if messages is None:
        return "" if input is None else text(input)
    return "\n\n".join(_said(one) for one in messages)


def _said(message: Message) -> str:
    calls = [text(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join([f"{message['role']}: {message['content']}", *calls])


def _known(facts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value is not None}
