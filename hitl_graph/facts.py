"""What people are shown of an escalation, and of a question that an agent asks. Plain data, no I/O.

It stands in `Request.question`: the nodes write it, the doors draw it, and its text is what other clients show.
"""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from hitl_graph.model import Request

__all__ = ["Choice", "Failure", "Finding", "Inquiry", "Memory", "Part", "Situation", "as_text", "facts_of"]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer version may say more


class Finding(_Facts):
    """One reason why people are asked.

    Attributes:
        kind: Which detector speaks, such as `repeated_action`.
        count: How often it happened.
        tried: What the agent did, shortened, oldest first.
        came_back: What it got, shortened, oldest first.
    """

    kind: str
    sentence: str
    count: int = 1
    tried: tuple[str, ...] = ()
    came_back: tuple[str, ...] = ()


class Failure(_Facts):
    """A node that raised."""

    node: str
    type: str
    message: str


class Memory(_Facts):
    """What has been answered once the request is: enough to go on watching in any process.

    Attributes:
        graph: Whose messages were watched: the namespace of the (sub)graph, without ids.
        answer: As `hitl_graph.stuck.Answered`.
    """

    graph: str
    answer: dict[str, JsonValue]


class Situation(_Facts):
    """An agent that is stuck, or whose node failed.

    Attributes:
        findings: Strongest first.
        messages: How many there are; `since_message` is the first one (from 1) that belongs to the trouble.
        since: When that message was stored, where that is known.
        steps: Messages of the model from then on; `tokens` and `cost` as far as somebody counts them.
        next_steps: What could be done, likeliest first.
        state: What an edit may change, as it is now, as far as it is JSON and not long.
        adds: Keys of the state to which an edit adds; the others it replaces.
    """

    findings: tuple[Finding, ...] = ()
    failure: Failure | None = None
    messages: int = 0
    since_message: int | None = None
    since: datetime | None = None
    steps: int = 0
    tokens: int | None = None
    cost: float | None = None
    next_steps: tuple[str, ...] = ()
    state: dict[str, JsonValue] = {}
    adds: tuple[str, ...] = ()
    memory: Memory | None = None

    @property
    def sentence(self) -> str:
        """What happened, in one line."""
        if self.failure is not None:
            return f"The node {self.failure.node} failed with {self.failure.type}: {self.failure.message or '-'}"
        return self.findings[0].sentence if self.findings else "The agent does not get on."

    @property
    def spent(self) -> str:
        """What it has cost, in words."""
        parts = [f"{self.steps} {'message' if self.steps == 1 else 'messages'} of the model"]
        parts += [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        parts += [f"cost {self.cost:g}"] if self.cost is not None else []
        return ", ".join(parts)


class Choice(_Facts):
    """One answer that is offered, and what it means."""

    label: str
    description: str = ""


class Part(_Facts):
    """One of several questions that are asked together.

    Attributes:
        header: Its name in the answer.
        several: More than one option may be chosen.
        free_text: Another answer than the options is welcome, too.
    """

    header: str
    question: str
    options: tuple[Choice, ...] = ()
    several: bool = False
    free_text: bool = True


class Inquiry(_Facts):
    """What an agent asks by itself.

    Attributes:
        question: All of it, as a text.
        options: The answers that it offers; empty where any is welcome.
        free_text: Another answer than the options is welcome, too.
        parts: The questions, where several are asked together; the answer has a value for each.
    """

    question: str
    why: str = ""
    options: tuple[str, ...] = ()
    free_text: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def sentence(self) -> str:
        """What is asked, in one line."""
        return " ".join(part.question for part in self.parts) or self.question


def facts_of(request: Request) -> Situation | Inquiry | None:
    """The facts of a request that one of our nodes made; None for any other."""
    if not request.is_ours or request.action is not None or not isinstance(request.question, Mapping):
        return None
    kinds: dict[str, type[Situation | Inquiry]] = {"escalation": Situation, "question": Inquiry}
    try:
        return kinds[request.kind].model_validate(request.question)
    except (KeyError, ValidationError):
        return None


def as_text(situation: Situation) -> str:
    """The situation for clients that only show a text (Markdown)."""
    lines = [situation.sentence]
    told = set[tuple[str, ...]]()
    for finding in situation.findings:
        if finding.sentence != situation.sentence and finding.kind != "error":
            lines.append(f"\n{finding.sentence}")
        for title, entries in (("What was tried", finding.tried), ("What came back", finding.came_back)):
            lines += _listed(title, entries) if entries not in told else []
            told.add(entries)
    if situation.steps:
        lines.append(f"\nSince message {situation.since_message} of {situation.messages}: {situation.spent}.")
    return "\n".join(lines + _listed("What you can do", situation.next_steps))


def _listed(title: str, entries: tuple[str, ...]) -> list[str]:
    return [f"\n{title}:\n", *(f"- {entry}" for entry in entries)] if entries else []
