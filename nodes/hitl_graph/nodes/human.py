"""`ask_human`: a tool by which an agent asks a person by itself.

`ApprovalNode` asks each such call in a LangGraph task of its own. A plain `ToolNode` runs the calls of a message in one
task, where LangGraph matches answers by the order in which they are asked for; there the tool only asks if it is the
only call, and otherwise tells the model to ask alone.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self, cast

from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.prebuilt import ToolRuntime
from pydantic import Field, JsonValue, PrivateAttr, TypeAdapter, ValidationError

from hitl_graph.errors import InvalidDecisionError, PolicyError
from hitl_graph.facts import Inquiry
from hitl_graph.ledger import Ledger, requests
from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Decision, Request, canonical
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.terms import on_terms, origin_of, verdict_of
from hitl_graph.policy import Rule, Verdict
from hitl_graph.steps import Steps, arun, blocking, run
from hitl_graph.terms import Origin
from hitl_graph.wire import BRIDGE, Client, ClientName, client_of

__all__ = ["AskHuman", "ask_human"]

_DESCRIPTION = (
    "Ask a person, and wait for the answer. Use it when you lack a fact that only a person has, when the decision is"
    " not yours, or when you are not sure. Ask one question at a time; it has to be clear without reading the rest."
)
_ALONE = "Nobody was asked: {name} has to be the only call of a message. Make this call again, alone."

_Question = Annotated[str, Field(min_length=1, description="The question, complete in itself.")]
_Why = Annotated[str, Field(description="Why you ask, and what depends on it.")]
_Options = Annotated[list[str] | None, Field(description="The answers to choose from, if there are only a few.")]
_FreeText = Annotated[bool, Field(description="Whether another answer than the options is welcome, too.")]


class AskHuman(StructuredTool):
    """The tool that `ask_human` makes."""

    _answer: TypeAdapter[Any] | None = PrivateAttr(default=None)
    _ledger: Ledger | None = PrivateAttr(default=None)
    _client: Client = PrivateAttr(default=BRIDGE)
    _verdict: Verdict = PrivateAttr(default=Verdict("ask", "the agent asks"))

    def bound(self, ledger: Ledger | None, rule: Rule | None, client: ClientName | Client) -> Self:
        """The tool, with where to record, who answers, and with what.

        Raises:
            PolicyError: The rule says something else.
            ValueError: There is no such client.
        """
        self._ledger, self._verdict = ledger, verdict_of(rule, "the agent asks", PolicyError)
        self._client = client_of(client)
        return self

    def judged(self, verdict: Verdict) -> Verdict:
        """Who answers, and by when, if a policy says this of the call."""
        return self._verdict.stricter(verdict)

    def asking(
        self, asker: Asker, call: ToolCall, action_key: str, verdict: Verdict, origin: Callable[[], Origin | None]
    ) -> Steps[ToolMessage]:
        """Pause until a person has answered; what the model is told."""
        asked = yield blocking(asker.ledger.read, requests.get, asker.own())
        if asked is not None and (asked.tool_call_id, asked.action_key) != (call["id"], action_key):
            return self._told(call, _ALONE.format(name=self.name))  # its task asks something else already
        request, decision = yield from self.answered(asker, call, action_key, verdict, origin)
        if request.channel == CHANNEL:
            return self._told(call, f"{decision.message} Go on without an answer, and do not ask it again.")
        if decision.type == "respond":
            return self._told(call, self._text(decision), failed=False)
        why = f' They said: "{decision.message}".' if decision.message else ""
        return self._told(call, f"A person declined to answer.{why} Go on without an answer, and do not ask it again.")

    def answered(
        self,
        asker: Asker,
        call: ToolCall,
        action_key: str,
        verdict: Verdict,
        origin: Callable[[], Origin | None],
        number: int = 0,
    ) -> Steps[tuple[Request, Decision]]:
        """Pause until a person has answered, or declined; gives the question and the answer.

        Args:
            number: How many questions this task asked before, in every execution the same.
        """
        question = on_terms(self._describe(asker, call, action_key), asker, verdict, origin)
        request, decision = yield blocking(asker.ask, number, question, self._check)
        yield blocking(asker.delivered, request.id)
        return request, decision

    def _describe(self, asker: Asker, call: ToolCall, action_key: str) -> Callable[[str, str], Request]:
        inquiry = self._inquiry(call)
        shown = inquiry.model_dump(mode="json", exclude=None if inquiry.parts else {"parts"})

        def describe(request_id: str, interrupt_id: str) -> Request:
            return Request(
                id=request_id,
                kind="question",
                thread_id=asker.thread_id,
                interrupt_id=interrupt_id,
                question=shown,
                allowed=("reject", "respond"),
                labels={"reject": "the agent goes on without an answer", "respond": "the agent gets your answer"},
                answer_schema=self._schema(inquiry),
                description=_as_text(inquiry),
                reason=inquiry.why or "the agent asks",
                tool_call_id=call["id"],
                action_key=action_key,
            )

        return describe

    def _inquiry(self, call: ToolCall) -> Inquiry:
        args = call["args"]
        return Inquiry(
            question=args["question"],
            why=args.get("why") or "",
            options=tuple(dict.fromkeys(args.get("options") or ())),
            free_text=bool(args.get("free_text")),
        )

    def _schema(self, inquiry: Inquiry) -> dict[str, JsonValue]:
        if self._answer is not None:
            return cast("dict[str, JsonValue]", json.loads(canonical(self._answer.json_schema())))
        anything: dict[str, JsonValue] = {"type": "string", "pattern": r"\S"}  # silence is no answer
        if not inquiry.options:
            return anything
        choice: dict[str, JsonValue] = {"enum": list(inquiry.options)}
        return {"anyOf": [choice, anything]} if inquiry.free_text else choice

    def _check(self, request: Request, decision: Decision) -> None:
        try:
            self._text(decision)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "answer"
            raise InvalidDecisionError(request.id, f"the answer does not fit: {place}: {first['msg']}") from exc

    def _text(self, decision: Decision) -> str:
        given = decision.message if decision.value is None else decision.value
        if decision.type != "respond" or self._answer is None:
            return given if isinstance(given, str) else canonical(given)
        return self._answer.dump_json(self._answer.validate_python(given)).decode()

    def _told(self, call: ToolCall, text: str, *, failed: bool = True) -> ToolMessage:
        status: Any = "error" if failed else "success"
        return ToolMessage(text, name=self.name, tool_call_id=call["id"] or "", status=status)

    def elsewhere(self, args: dict[str, Any], runtime: ToolRuntime[Any, Any]) -> Steps[ToolMessage]:
        """Ask in a node that runs tools as any other; what the model is told."""
        args = {name: value for name, value in args.items() if value is not None}
        call = ToolCall(name=self.name, args=args, id=runtime.tool_call_id, type="tool_call")
        if not _has_a_task(runtime):
            return self._told(call, _ALONE.format(name=self.name))
        asker = Asker.of(runtime.config, self._ledger, self.name, self._client)
        identity = json.dumps([asker.thread_id, "question", asker.namespace.split(":")[0], call["id"], canonical(args)])
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        origin = partial(origin_of, asker, graph=None, version=None)
        return (yield from self.asking(asker, call, key, self._verdict, origin))


def ask_human(
    *, answer: Any = None, name: str = "ask_human", description: str | None = None, ledger: Ledger | None = None,
    rule: Rule | None = None, client: ClientName | Client = BRIDGE,
) -> AskHuman:  # fmt: skip
    """A tool by which the agent asks a person; put it among the tools of an `ApprovalNode`.

    The model gives the question, why it asks, and a few options if there are any. Its call becomes a request of kind
    `question`: answered with `respond`, or declined with `reject`. A policy can `deny` it; else it is always asked.

    Args:
        answer: What the answer has to be: a pydantic model, or any type that pydantic can check, such as
            `Literal["yes", "no"]` or `list[int]`. The model gets it as JSON. Without one, the answer is a text.
        name: What the model calls it.
        description: What the model is told about it.
        ledger: Where to record it outside of an `ApprovalNode`. Not needed with a checkpointer of this library.
        rule: Who answers, and by when: `Rule("*", "ask", reviewers=["role:support"], deadline=timedelta(hours=4))`. A
            policy may say so, too. If nobody answers in time, the agent goes on without an answer.
        client: With what people answer outside of an `ApprovalNode`, as for that.

    Raises:
        PolicyError: The rule says something else.
        pydantic.PydanticUserError: `answer` is no type of which there is a JSON Schema.
    """

    def ask(
        question: _Question,
        why: _Why = "",
        options: _Options = None,
        free_text: _FreeText = False,
        *,
        runtime: ToolRuntime[Any, Any],
    ) -> ToolMessage:
        args = {"question": question, "why": why, "options": options, "free_text": free_text}
        return run(tool.elsewhere(args, runtime))

    async def aask(
        question: _Question,
        why: _Why = "",
        options: _Options = None,
        free_text: _FreeText = False,
        *,
        runtime: ToolRuntime[Any, Any],
    ) -> ToolMessage:
        args = {"question": question, "why": why, "options": options, "free_text": free_text}
        return await arun(tool.elsewhere(args, runtime))

    def ask_typed(question: _Question, why: _Why = "", *, runtime: ToolRuntime[Any, Any]) -> ToolMessage:
        return run(tool.elsewhere({"question": question, "why": why}, runtime))

    async def aask_typed(question: _Question, why: _Why = "", *, runtime: ToolRuntime[Any, Any]) -> ToolMessage:
        return await arun(tool.elsewhere({"question": question, "why": why}, runtime))

    adapter: TypeAdapter[Any] | None = None
    if answer is not None:
        adapter = TypeAdapter(answer)
        adapter.json_schema()  # raises now, not when somebody waits
    sync, awaited = (ask, aask) if adapter is None else (ask_typed, aask_typed)
    tool = cast(
        AskHuman,
        AskHuman.from_function(sync, awaited, name=name, description=description or _DESCRIPTION),
    )
    tool._answer = adapter
    return tool.bound(ledger, rule, client)


def _as_text(inquiry: Inquiry) -> str:
    """For clients that only show a text (Markdown)."""
    other = ["- (or another answer)"] if inquiry.options and inquiry.free_text else []
    return "\n".join([inquiry.question, *(f"- {option}" for option in inquiry.options), *other])


def _has_a_task(runtime: ToolRuntime[Any, Any]) -> bool:
    """Whether nothing else runs in the call's LangGraph task, so that no other question can take its answer."""
    path = runtime.config.get("metadata", {}).get("langgraph_path") or ()
    if path and path[0] == "__pregel_push":  # one Send a call, as agents of LangChain do
        return True
    state = runtime.state
    values = state.values() if isinstance(state, dict) else [state] if isinstance(state, list) else vars(state).values()
    for messages in values:
        for message in reversed(messages) if isinstance(messages, list) else ():
            if isinstance(message, AIMessage) and any(c["id"] == runtime.tool_call_id for c in message.tool_calls):
                return len(message.tool_calls) == 1
    return False
