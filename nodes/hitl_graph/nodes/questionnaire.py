"""`ask_human_questions`: up to four questions in one go, each with options that say what they mean.

The arguments are those of Claude Code's AskUserQuestion, so that a prompt written for it works here. People get
one form; the model gets JSON with an answer for each question: a text, or a list where several could be chosen.
"""

import json
from typing import Annotated, Any, cast

from langchain_core.messages import ToolCall
from langgraph.prebuilt import ToolRuntime
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, TypeAdapter

from hitl_graph.facts import Choice, Inquiry, Part
from hitl_graph.ledger import Ledger
from hitl_graph.model import Decision
from hitl_graph.nodes.human import AskHuman
from hitl_graph.policy import Rule
from hitl_graph.steps import arun, run
from hitl_graph.wire import BRIDGE, Client, ClientName

__all__ = ["AskHumanQuestions", "Offer", "Query", "ask_human_questions"]

_DESCRIPTION = (
    "Ask a person up to four questions that belong together, and wait for the answers. Use it to settle what is open"
    " before you start: preferences, requirements, choices that are not yours. Give each question a few options and say"
    " what each of them means. The person may also answer something else."
)


class Offer(BaseModel):
    """One of the answers to choose from."""

    label: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^\S(?:.*\S)?$", description="What is chosen.")]
    description: Annotated[str, Field(description="What it means, and what comes of it.")] = ""


def _distinct(offers: list[Offer]) -> list[Offer]:
    if len({offer.label for offer in offers}) < len(offers):
        raise ValueError("two options have the same label")
    return offers


class Query(BaseModel):
    """One question."""

    model_config = ConfigDict(populate_by_name=True)

    question: Annotated[str, Field(min_length=1, pattern=r"\S", description="The question, complete in itself.")]
    header: Annotated[
        str,
        Field(min_length=1, max_length=30, pattern=r"^\S(?:.*\S)?$", description="What it is about, in a word or two."),
    ]
    options: Annotated[
        list[Offer],
        AfterValidator(_distinct),
        Field(max_length=8, description="Two to four answers to choose from; none where any text is welcome."),
    ] = []
    several: Annotated[bool, Field(alias="multiSelect", description="Whether more than one may be chosen.")] = False


def _headed(queries: list[Query]) -> list[Query]:
    if len({query.header for query in queries}) < len(queries):
        raise ValueError("two questions have the same header, which names them in the answer")
    return queries


_Queries = Annotated[list[Query], AfterValidator(_headed), Field(min_length=1, max_length=4)]
_Why = Annotated[str, Field(description="Why you ask, and what depends on it.")]
_QUERIES: TypeAdapter[list[Query]] = TypeAdapter(_Queries)


class AskHumanQuestions(AskHuman):
    """The tool that `ask_human_questions` makes."""

    _other: bool = PrivateAttr(default=True)

    def _inquiry(self, call: ToolCall) -> Inquiry:
        queries = _QUERIES.validate_python(call["args"]["questions"])
        parts = tuple(
            Part(
                header=query.header,
                question=query.question,
                options=tuple(Choice(label=offer.label, description=offer.description) for offer in query.options),
                several=query.several,
                free_text=self._other or not query.options,
            )
            for query in queries
        )
        text = "\n\n".join(map(_as_text, parts))
        return Inquiry(question=text, why=call["args"].get("why") or "", parts=parts)

    def _schema(self, inquiry: Inquiry) -> dict[str, JsonValue]:
        properties: dict[str, JsonValue] = {part.header: _schema_of(part) for part in inquiry.parts}
        return {
            "type": "object",
            "properties": properties,
            "required": [*properties],
            "additionalProperties": False,
        }

    def _text(self, decision: Decision) -> str:
        return json.dumps(decision.value, ensure_ascii=False)


def ask_human_questions(
    *, name: str = "ask_human_questions", description: str | None = None, other: bool = True,
    ledger: Ledger | None = None, rule: Rule | None = None, client: ClientName | Client = BRIDGE,
) -> AskHumanQuestions:  # fmt: skip
    """A tool by which the agent asks a person several questions at once; put it beside `ask_human`.

    Its call becomes one request of kind `question`, answered with `respond({header: answer, ...})` or declined with
    `reject`. Every question has to be answered: with a text, or with a list of at least one text where several options
    may be chosen.

    Args:
        name: What the model calls it.
        description: What the model is told about it.
        other: Another answer than the options is welcome, too.
        ledger: Where to record it outside of an `ApprovalNode`. Not needed with a checkpointer of this library.
        rule, client: Who answers, by when, and with what, as for `ask_human`.

    Raises:
        PolicyError: The rule says something else.
        ValueError: There is no such client.
    """

    def ask(questions: _Queries, why: _Why = "", *, runtime: ToolRuntime[Any, Any]) -> Any:
        return run(tool.elsewhere(_plain(questions, why), runtime))

    async def aask(questions: _Queries, why: _Why = "", *, runtime: ToolRuntime[Any, Any]) -> Any:
        return await arun(tool.elsewhere(_plain(questions, why), runtime))

    tool = cast(
        AskHumanQuestions,
        AskHumanQuestions.from_function(ask, aask, name=name, description=description or _DESCRIPTION),
    )
    tool._other = other
    return tool.bound(ledger, rule, client)


def _plain(queries: list[Query], why: str) -> dict[str, Any]:
    return {"questions": [query.model_dump(by_alias=True) for query in queries], "why": why}


def _schema_of(part: Part) -> dict[str, JsonValue]:
    labels: list[JsonValue] = [choice.label for choice in part.options]
    one: dict[str, JsonValue] = {"type": "string", "pattern": r"\S"}  # silence is no answer
    if labels and part.free_text:
        one["examples"] = labels
    elif labels:
        one = {"type": "string", "enum": labels}
    if part.several:
        return {"type": "array", "items": one, "minItems": 1, "description": part.question}
    return {**one, "description": part.question}


def _as_text(part: Part) -> str:
    """For doors and clients that show a text (Markdown)."""
    lines = [f"{part.header}: {part.question}"]
    lines += [f"- {c.label}{f': {c.description}' if c.description else ''}" for c in part.options]
    if part.options and (part.several or part.free_text):
        hints = (["several may be chosen"] if part.several else []) + (["or another answer"] if part.free_text else [])
        lines.append(f"- ({', '.join(hints)})")
    return "\n".join(lines)
