"""AG-UI: a page's answers reach the questions for which they were given.

The adapter of AG-UI for LangGraph, of which this is a subclass, drops the id of the interrupt that a page answers, so
that an answer which comes twice could be taken for one to the next question, and several cannot be answered at all.
"""

from typing import Any

from langgraph.types import Command

try:
    from ag_ui_langgraph import LangGraphAgent  # type: ignore[import-untyped]
except ImportError as exc:  # pragma: no cover - the tests have it
    raise ImportError("hitl_graph.adapters.ag_ui needs AG-UI's adapter: pip install ag-ui-langgraph") from exc

__all__ = ["HitlAgent"]


class HitlAgent(LangGraphAgent):  # type: ignore[misc]
    """AG-UI's `LangGraphAgent`, whose `resume` entries each answer the interrupt that they name.

    Serve it as that one: `add_langgraph_fastapi_endpoint(app, HitlAgent(name="agent", graph=graph))`. The graph's nodes
    have `client="ag-ui"`. Give it `emit_interrupt_outcome=True`, so that pages learn the ids.
    """

    def _build_command_from_agui_resume(self, entries: list[Any], *, open_interrupts: Any = None) -> Command[Any]:
        return Command(resume={entry.interrupt_id: _answer(entry) for entry in entries})


def _answer(entry: Any) -> Any:
    if entry.status == "resolved":
        return {} if entry.payload is None else entry.payload
    return {"__agui_cancelled__": True, "interrupt_id": entry.interrupt_id}
