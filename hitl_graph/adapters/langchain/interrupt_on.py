"""`interrupt_on`, the configuration of LangChain's `HumanInTheLoopMiddleware`, as a policy."""

import glob
from collections.abc import Callable, Mapping
from typing import Any

from langchain.agents.middleware import InterruptOnConfig
from langchain_core.messages import ToolCall
from langgraph.config import get_config
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.runtime import Runtime, get_runtime

from hitl_graph.errors import PolicyError
from hitl_graph.model import WORDS, Action
from hitl_graph.nodes.calls import Item, tool_runtime
from hitl_graph.policy import Call, Policy, Predicate, Rule

__all__ = ["InterruptOn", "describing", "policy_of"]

InterruptOn = Mapping[str, bool | InterruptOnConfig]
_KEYS = InterruptOnConfig.__annotations__.keys()


def policy_of(interrupt_on: InterruptOn) -> Policy:
    """A policy that asks about these tools as LangChain's middleware does, and lets all others run.

    Raises:
        PolicyError: An entry says nothing that is understood.
    """
    rules = [Rule("*", "allow", reason="interrupt_on does not name it")]
    for name, config in interrupt_on.items():
        if config is False:
            continue
        if config is True:
            config = InterruptOnConfig(allowed_decisions=list(WORDS))
        if not isinstance(config, dict) or not config.get("allowed_decisions") or config.keys() - _KEYS:
            raise PolicyError(
                f"interrupt_on[{name!r}] is True, False, or a dict with allowed_decisions (such as ['approve',"
                f" 'reject']) and perhaps {', '.join(sorted(_KEYS - {'allowed_decisions'}))}; it is {config!r}"
            )
        if strange := [word for word in config["allowed_decisions"] if word not in WORDS]:
            raise PolicyError(f"interrupt_on[{name!r}]: allowed_decisions knows {', '.join(WORDS)}, not {strange}")
        when = config.get("when")
        rules.append(
            Rule(
                glob.escape(name),
                "ask",
                when=_predicate(when) if when is not None else None,
                allowed=tuple(word for word in WORDS if word in config["allowed_decisions"]),
                reason="interrupt_on names it",
            )
        )
    return Policy(rules)


def describing(interrupt_on: InterruptOn, prefix: str) -> Callable[[Item, Action], str]:
    """What reviewers are told of a call, as LangChain's middleware words it."""

    def described(item: Item, action: Action) -> str:
        config = interrupt_on.get(action.name)
        wanted = config.get("description") if isinstance(config, dict) else None
        call = ToolCall(name=action.name, args=dict(action.args), id=item.call["id"], type="tool_call")
        if callable(wanted):
            return str(wanted(call, item.runtime.state, get_runtime()))
        return wanted or f"{prefix}\n\nTool: {action.name}\nArgs: {call['args']}"

    return described


def _predicate(when: Callable[[ToolCallRequest], bool]) -> Predicate:
    """LangChain's predicate of a request, as one of a call; without the tool, as in its default mode."""

    def matches(call: Call) -> bool:
        runtime: Runtime[Any] = get_runtime()
        made = ToolCall(name=call.name, args=dict(call.args), id=call.id, type="tool_call")
        given = tool_runtime(made, call.state, get_config(), runtime, ())
        return when(ToolCallRequest(made, None, call.state, given))

    return matches
