"""The form of a thread: what happened, and a card for each thing that is asked."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from hitl_graph.card import version
from hitl_graph.errors import AlreadyDecidedError, AlreadyVotedError, InvalidDecisionError, RequestError
from hitl_graph.model import Decision, Request
from hitl_graph.notebook import parts, telling
from hitl_graph.notebook.beside import Beside
from hitl_graph.notebook.cards import CardWidget
from hitl_graph.notebook.session import CHANNEL, Desk, Stand
from hitl_graph.notebook.telling import Line
from hitl_graph.steps import Steps, arun, run

__all__ = ["ThreadWidget"]

log = logging.getLogger(__name__)

_SAFE = 0.8  # seconds in which a card that came up takes no click: it may be the second one of a double click


class ThreadWidget:
    """Shows where a thread stands, records answers, and goes on with it.

    Nothing here keeps the kernel: an answer is recorded, and the graph goes on, in a thread of this process; for a run
    that came from `areview`, in the event loop of the kernel.

    Args:
        only: The id of the one request that it is about.
        on_change: Awaited when something was recorded, or was found to be.
    """

    def __init__(
        self,
        desk: Desk,
        stand: Stand,
        *,
        is_async: bool = False,
        only: str | None = None,
        on_change: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._desk, self._is_async, self._only, self._on_change = desk, is_async, only, on_change
        self._beside = Beside()
        self._goes_on, self._again = False, False
        self._cards = list[CardWidget]()
        self._past = widgets.VBox()
        self._open = widgets.VBox()
        self._note = widgets.HTML()
        self._refresh = parts.button(
            "Refresh",
            lambda: self._beside.start(self._going_on()),
            icon="refresh",
            tooltip="Look again, and go on if it is decided",
            layout={"align_self": "flex-start"},
        )
        self.box = widgets.VBox([self._past, self._open, self._note, self._refresh], layout={"width": "100%"})
        self._stand = stand
        self._show(stand, first=True)
        self._beside.start(self._seen())

    def _show(self, stand: Stand, *, first: bool = False) -> None:
        lines = telling.happened(stand.happened)
        if lines:
            self._add(lines)
        self._stand = stand
        kept = {(card.request.digest, card.version): card for card in self._cards}
        cards = list[CardWidget]()
        for request in stand.pending:
            if self._only in (None, request.id):
                known = kept.get((request.digest, version(request, stand.standings[request.id])))
                cards.append(known or CardWidget(self._desk, request, stand, self._decided, ready=first))
        self._cards, self._open.children = cards, [card.box for card in cards]
        self._note.value = telling.as_html(self._noted(stand))
        self._refresh.layout.display = "none" if stand.status == "finished" else ""
        if not first:
            self._beside.later(_SAFE, partial(_ready, cards))

    async def _seen(self) -> None:
        """Note in the log who is shown these cards."""
        try:
            for card in self._cards:
                await self._desk.inbox.aseen(card.request, reviewer=self._desk.reviewer, channel=CHANNEL)
        except Exception as exc:
            self._failed(exc)

    def _noted(self, stand: Stand) -> list[Line]:
        lines = [Line("dim", stand.note)] if stand.note else []
        others = len(stand.pending) - len(self._cards)
        if others:
            lines.append(Line("dim", f"{others} more {'is' if others == 1 else 'are'} asked in this thread."))
        if stand.status == "finished":
            lines.append(Line("title", f"Thread {self._desk.thread_id} has finished"))
            lines += telling.result(stand)
        return lines

    def _add(self, lines: list[Line]) -> None:
        block = parts.text(lines, layout={"margin": "2px 0 8px"})
        self._past.children = [*self._past.children, block]

    def _decided(self, card: CardWidget, decision: Decision) -> None:
        card.busy(True)
        card.say("Recording ...")
        self._beside.start(self._recording(card, decision))

    async def _do(self, steps: Steps[Any]) -> Any:
        return await (arun(steps) if self._is_async else asyncio.to_thread(run, steps))

    async def _recording(self, card: CardWidget, decision: Decision) -> None:
        try:
            request: Request = await self._do(self._desk.record(card.request, decision))
        except AlreadyVotedError as exc:
            self._refused(card, exc)
        except AlreadyDecidedError as exc:  # the card goes, and what was decided comes
            card.say("")
            self._add([Line("text", str(exc))])
        except InvalidDecisionError as exc:
            self._refused(card, exc)
            return
        except RequestError as exc:
            self._refused(card, exc)
        except Exception as exc:
            self._failed(exc)
            self._refused(card, exc)
            return
        else:
            card.say("It is your vote, and others have to agree." if request.state == "pending" else "Recorded.")
        await self._going_on()

    async def _going_on(self) -> None:
        """Go on with what is decided; while that takes its time, other answers can be given."""
        if self._goes_on:
            self._again = True
            return
        self._goes_on = self._refresh.disabled = True
        self._note.value = telling.as_html([Line("dim", "Going on ...")])
        try:
            while True:
                self._again = False
                stand = await self._do(self._desk.go_on(self._stand))
                self._show(stand)
                await self._seen()
                if not self._again:
                    break
        except Exception as exc:
            self._failed(exc)
            told = "It is recorded and kept, but the graph could not go on. Refresh tries again."
            self._note.value = telling.as_html([Line("title", told), Line("block", _told(exc))])
        finally:
            self._goes_on = self._refresh.disabled = False
            if self._on_change is not None:
                await self._on_change()

    def _refused(self, card: CardWidget, exc: Exception) -> None:
        card.busy(False)
        card.say(str(exc) if isinstance(exc, RequestError) else _told(exc), alarm=True)

    def _failed(self, exc: Exception) -> None:
        log.warning("thread %s: %s", self._desk.thread_id, exc, exc_info=exc)


def _ready(cards: Sequence[CardWidget]) -> None:
    for card in cards:
        card.ready()


def _told(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
