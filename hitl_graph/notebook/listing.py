"""The list of an inbox as a widget: choose a request, and its card comes up below."""

import asyncio
import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from hitl_graph.card import age
from hitl_graph.notebook import parts
from hitl_graph.notebook.beside import Beside
from hitl_graph.notebook.telling import Line
from hitl_graph.notebook.threads import ThreadWidget
from hitl_graph.steps import arun, run
from hitl_graph.visible import visible

if TYPE_CHECKING:
    from hitl_graph.notebook.inboxes import InboxView

__all__ = ["Listing"]


class Listing:
    """Looks again when its button is pressed and after each answer; no timer keeps the kernel busy."""

    def __init__(self, view: "InboxView") -> None:
        self._view, self._beside = view, Beside()
        self._is_setting, self._chosen = False, 0
        self._head = widgets.HTML()
        self._list = widgets.Select(options=[], value=None, layout={"width": "min(100%, 860px)"})
        self._list.observe(self._picked, names="value")
        self._refresh = parts.button("Refresh", lambda: self._start(view.refresh), icon="refresh")
        self._more = parts.button("More", lambda: self._start(view.more))
        self._card = widgets.VBox()
        head = widgets.HBox([self._head, self._refresh, self._more], layout={"align_items": "center"})
        self.box = widgets.VBox([head, self._list, self._card], layout={"width": "100%"})
        self._show()

    def _show(self) -> None:
        view, now = self._view, self._view.inbox.ledger.clock()
        rows = [(visible(f"{age(one.created_at, now):>4}  {view.told(one)}"), one.id) for one in view.requests]
        chosen = self._list.value
        self._is_setting = True
        try:
            self._list.options, self._list.rows = rows, max(2, min(12, len(rows)))
            self._list.value = chosen if any(chosen == name for _, name in rows) else None
        finally:
            self._is_setting = False
        self._list.layout.display = "" if rows else "none"
        self._more.layout.display = "" if view.has_more else "none"
        self._head.value = f"<b>{html.escape(visible(view.headline))}</b>"

    def _start(self, look: Callable[[], object]) -> None:
        self._beside.start(self._look(look))

    async def _look(self, look: Callable[[], object]) -> None:
        self._refresh.disabled = True
        try:
            await asyncio.to_thread(look)
            self._show()
        except Exception as exc:
            self._head.value = f'<span role="alert">{html.escape(visible(f"{type(exc).__name__}: {exc}"))}</span>'
        finally:
            self._refresh.disabled = False

    def _picked(self, change: Any) -> None:
        if not self._is_setting and change["new"] is not None:
            self._chosen += 1
            self._beside.start(self._open(str(change["new"]), self._chosen))

    async def _open(self, request_id: str, number: int) -> None:
        request = next(one for one in self._view.requests if one.id == request_id)
        desk = self._view.desk_of(request.thread_id)
        try:
            looking = desk.look_at(request)
            stand = await (arun(looking) if self._view.use_async else asyncio.to_thread(run, looking))
        except Exception as exc:
            self._card.children = [parts.text([Line("text", f"{type(exc).__name__}: {exc}")])]
            return
        if number == self._chosen:  # nobody has chosen another one meanwhile
            shown = ThreadWidget(
                desk, stand, is_async=self._view.use_async, only=request_id,
                on_change=lambda: self._look(self._view.refresh),
            )  # fmt: skip
            self._card.children = [shown.box]
