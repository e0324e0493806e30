"""The agent of `tests.invariants.agents`, built with LangGraph's functional API.

A loop in an `@entrypoint`: the model's turns are tasks, the calls of a turn run side by side, each behind
`requires_approval`. What a call gave, and what became of one that was refused, the model is told by a `ToolMessage`.
"""

import os
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.func import entrypoint, task
from langgraph.graph.message import add_messages
from langgraph.pregel import Pregel
from pydantic_core import PydanticUndefined

from hitl_graph.effects import is_idempotent
from hitl_graph.errors import ArgumentsError, RejectedError
from hitl_graph.functional import requires_approval
from hitl_graph.ledger import Ledger
from hitl_graph.model import canonical
from hitl_graph.policy import Policy, Rule
from tests.invariants import agents
from tests.ways.scripted import model_node

__all__ = ["build"]


def build(
    checkpointer: BaseCheckpointSaver[Any],
    effects_file: str | os.PathLike[str],
    *,
    policy: Policy | None = None,
    delay: float = 0.0,
    idempotent: bool = False,
    ledger: Ledger | None = None,
    tools: Sequence[BaseTool] | None = None,
) -> Pregel[Any, Any, Any, Any]:
    """As `tests.invariants.agents.build`."""
    if tools is None:
        tools = [agents._pay(effects_file, delay, idempotent), agents._search(effects_file)]
    known = {tool.name: tool for tool in tools}
    rules = policy or Policy([Rule("search", "allow")] if "search" in known else [])
    model = task(model_node(effects_file))

    def started(call: dict[str, Any]) -> Callable[[], ToolMessage]:
        """Start a call; gives what waits for its answer."""
        told = {"name": call["name"], "tool_call_id": call["id"] or "", "status": "error"}
        if (tool := known.get(call["name"])) is None:
            return lambda: ToolMessage(f"Error: {call['name']} is not a valid tool", **told)
        gated: Any = requires_approval(rules, ledger=ledger, idempotent=is_idempotent(tool))(
            task(_function(tool, call["id"]))
        )
        try:
            future = gated(**call["args"])
        except (ArgumentsError, TypeError) as exc:
            text = f"Error invoking tool: {exc}"
            return lambda: ToolMessage(text, **told)

        def answer() -> ToolMessage:
            try:
                given = future.result()
            except RejectedError as exc:
                said = f' They said: "{exc.message}".' if exc.message else ""
                how = f"A person rejected this call of {call['name']}; it did not run.{said}"
                return ToolMessage(how if exc.request_id else str(exc), **told)
            if isinstance(given, ToolMessage):
                return given
            return ToolMessage(given if isinstance(given, str) else canonical(given), **{**told, "status": "success"})

        return answer

    @entrypoint(checkpointer=checkpointer)
    def agent(given: dict[str, Any], *, previous: dict[str, Any] | None = None) -> dict[str, list[AnyMessage]]:
        messages: Any = add_messages((previous or {}).get("messages", []), given["messages"])
        while True:
            said = model({"messages": messages}).result()["messages"]
            messages = add_messages(messages, said)
            last = messages[-1]
            if not isinstance(last, AIMessage) or not last.tool_calls:
                return {"messages": messages}
            waiting = [started(dict(call)) for call in last.tool_calls]
            answers: Any = [answer() for answer in waiting]
            messages = add_messages(messages, answers)

    return agent


def _function(tool: BaseTool, call_id: str | None) -> Callable[..., ToolMessage]:
    """A tool as a function with its parameters; the call's id is no argument."""

    def function(config: RunnableConfig, **args: Any) -> ToolMessage:
        message = tool.invoke({"name": tool.name, "args": args, "id": call_id, "type": "tool_call"}, config)
        assert isinstance(message, ToolMessage)
        return message

    schema: Any = tool.tool_call_schema
    fields = {
        name: Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            annotation=field.annotation,
            default=Parameter.empty if field.default is PydanticUndefined else field.default,
        )
        for name, field in schema.model_fields.items()
    }
    named: Any = function
    named.__name__, named.__doc__ = tool.name, tool.description
    config = Parameter("config", Parameter.KEYWORD_ONLY, annotation=RunnableConfig)
    named.__signature__ = Signature([*fields.values(), config])
    named.__annotations__ = {name: field.annotation for name, field in fields.items()} | {"config": RunnableConfig}
    return function
