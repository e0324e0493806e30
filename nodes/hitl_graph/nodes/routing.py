"""What nodes have in common that say themselves where the run goes on: a body of steps, and drawn edges."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import MethodType
from typing import Any, Literal

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.constants import END
from langgraph.types import Command

from hitl_graph.nodes.patching import channels_of
from hitl_graph.steps import Steps, arun, run

__all__ = ["Routed", "unknown_nodes"]


class Routed(Runnable[Any, "Command[Any]"], ABC):
    """A node that gives a `Command` with the name of the next one."""

    name: str  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, state: Any) -> Any:
        """Only here so that LangGraph looks at the annotation of the one that each node has."""
        raise TypeError(f"{self.name} is a node; add it to a graph")

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """Called by LangGraph."""
        return run(self._steps(input, config or {}))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """Called by LangGraph."""
        return await arun(self._steps(input, config or {}))

    @abstractmethod
    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]: ...

    def _goes_to(self, names: Iterable[str]) -> None:
        """Tell LangGraph, which reads it from the annotation of `__call__`, where the node may go.

        It then draws the edges, and refuses to compile a graph in which one of these nodes is missing.
        """

        def routed(self: Routed, state: Any) -> Any:
            return Routed.__call__(self, state)

        routed.__annotations__ = {"return": Command[Literal[tuple(dict.fromkeys(names))]]}  # type: ignore[misc]
        vars(self)["__call__"] = MethodType(routed, self)


def unknown_nodes(config: RunnableConfig, names: Iterable[str]) -> list[str]:
    """Those of the names that the running graph has no node for, as far as LangGraph tells."""
    known = channels_of(config)
    return [name for name in dict.fromkeys(names) if name != END and known and f"branch:to:{name}" not in known]
