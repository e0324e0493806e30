"""Keep the middleware that follows within the permit: the tool itself runs only the call that was permitted."""

from dataclasses import replace
from itertools import count
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import BaseModel, PrivateAttr

from hitl_graph.effects import is_idempotent
from hitl_graph.errors import PermitError
from hitl_graph.model import Action, canonical

__all__ = ["PermittedTool"]

_SCRATCHPAD = "__pregel_scratchpad"  # langgraph._internal._constants


class PermittedTool(BaseTool):
    """A tool as it may run under one permit: with these arguments, and once, unless it is declared idempotent.

    Whatever a middleware between the approval and the tool does to the call, this is what is reached in the end.
    """

    _tool: BaseTool = PrivateAttr()
    _args: str = PrivateAttr()
    _runs: int = PrivateAttr(default=0)
    _alone: bool = PrivateAttr(default=True)

    @classmethod
    def of(cls, tool: BaseTool, action: Action, *, alone: bool = True) -> "PermittedTool":
        """The tool, for this action only.

        Args:
            alone: Its LangGraph task runs nothing else. Else it gets no answer to a question of its own: LangGraph
                would give it whatever somebody answered to one of the other calls.
        """
        same = {name: getattr(tool, name) for name in BaseTool.model_fields if name in type(tool).model_fields}
        made = cls(**same)
        injected = _injected(tool)  # what a model gives for them is not what the tool gets
        made._tool, made._alone = tool, alone
        made._args = canonical({name: value for name, value in action.args.items() if name not in injected})
        return made

    @property
    def func(self) -> Any:
        """What LangGraph looks at to see what the tool wants injected."""
        return getattr(self._tool, "func", None)

    @property
    def coroutine(self) -> Any:
        """As `func`."""
        return getattr(self._tool, "coroutine", None)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run it.

        Raises:
            PermitError: It is not the call that was permitted, or it ran already.
        """
        self._check(input)
        return self._tool.invoke(input, config if self._alone else _unanswered(config), **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As `invoke`."""
        self._check(input)
        return await self._tool.ainvoke(input, config if self._alone else _unanswered(config), **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        raise PermitError(f"{self.name} runs only as the call that was permitted; use invoke()")

    def _check(self, call: Any) -> None:
        given = call.get("args", {}) if isinstance(call, dict) else {}
        if canonical({name: value for name, value in given.items() if name not in _injected(self._tool)}) != self._args:
            raise PermitError(
                f"the arguments of {self.name} were changed after they were permitted; it did not run. List the"
                " middleware that changes them before ApprovalMiddleware"
            )
        if self._runs and not is_idempotent(self._tool):
            raise PermitError(
                f"{self.name} was to run a second time under one permit, and the first may have had its effect; declare"
                " the tool idempotent if that does no harm"
            )
        self._runs += 1


def _unanswered(config: RunnableConfig | None) -> RunnableConfig | None:
    """The config, with none of the answers that came for its task."""
    own = (config or {}).get("configurable", {})
    if config is None or (scratchpad := own.get(_SCRATCHPAD)) is None:
        return config
    numbers = count()
    fresh = replace(
        scratchpad, resume=[], get_null_resume=lambda consume=False: None, interrupt_counter=lambda: next(numbers)
    )
    return {**config, "configurable": {**own, _SCRATCHPAD: fresh}}


def _injected(tool: BaseTool) -> set[str]:
    """Names of arguments that LangGraph gives and no model does."""
    visible, whole = tool.tool_call_schema, tool.get_input_schema()
    injected: set[str] = set(getattr(tool, "_injected_args_keys", ()))  # its function may want more than the schema
    if isinstance(visible, type) and issubclass(visible, BaseModel) and issubclass(whole, BaseModel):
        return (injected | set(whole.model_fields)) - set(visible.model_fields)
    return injected
