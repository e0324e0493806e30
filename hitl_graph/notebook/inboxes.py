"""All that waits, as a list and the card of what was chosen."""

from collections.abc import Callable
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from hitl_graph.card import age, what
from hitl_graph.card.words import sort
from hitl_graph.errors import LedgerMissingError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import Request
from hitl_graph.notebook import telling
from hitl_graph.notebook.session import Desk, Graph, Session, ledger_of, reviewer_named
from hitl_graph.notebook.telling import Line
from hitl_graph.reviewers import Reviewer

__all__ = ["InboxView", "inbox_widget"]

_PAGE = 50


class InboxView:
    """What waits for people, as it was when somebody looked. As the result of a cell it is a list with a form.

    Attributes:
        requests: What waits, oldest first.
    """

    def __init__(
        self, inbox: Inbox, desk_of: Callable[[str], Desk], *, use_async: bool = False, **filters: Any
    ) -> None:
        self.inbox, self.desk_of, self.use_async, self._filters = inbox, desk_of, use_async, filters
        self.requests = list[Request]()
        self.has_more = False
        self._widget: Any = None
        self.refresh()

    def refresh(self) -> "InboxView":
        """Look again."""
        self._look(None, max(_PAGE, len(self.requests)))
        return self

    def more(self) -> "InboxView":
        """Look at the next page, too."""
        if self.requests:
            self._look(self.requests[-1].id, _PAGE)
        return self

    def _look(self, after: str | None, limit: int) -> None:
        found = self.inbox.pending(after=after, limit=limit + 1, **self._filters)
        self.requests = [*(self.requests if after is not None else []), *found[:limit]]
        self.has_more = len(found) > limit

    @property
    def widget(self) -> Any:
        """The list with its form, an `ipywidgets` widget."""
        if self._widget is None:
            from hitl_graph.notebook.listing import Listing

            self._widget = Listing(self)
        return self._widget.box

    @property
    def headline(self) -> str:
        """How many wait."""
        count = len(self.requests)
        return (
            f"{count}{' or more' if self.has_more else ''} wait"
            if count > 1
            else f"{count or 'nothing'} waits".capitalize()
        )

    def told(self, request: Request) -> str:
        """One row of the list."""
        return f"{sort(request)}  {what(request)}  (thread {request.thread_id})"

    def lines(self) -> list[Line]:
        """The list in words."""
        now = self.inbox.ledger.clock()
        rows = [Line("pair", self.told(one), age(one.created_at, now)) for one in self.requests]
        return [Line("title", self.headline), *rows]

    def __len__(self) -> int:
        return len(self.requests)

    def __repr__(self) -> str:
        return telling.as_text(self.lines())

    def _repr_html_(self) -> str:
        return telling.as_html(self.lines())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The list, with the text for where there are no widgets."""
        return telling.bundle(self)


def inbox_widget(
    source: Any,
    *,
    graph: Graph | None = None,
    config: RunnableConfig | dict[str, Any] | None = None,
    context: Any = None,
    reviewer: str | Reviewer | None = None,
    kind: str | None = None,
    route: str | None = None,
    mine: bool = False,
    use_async: bool = False,
) -> InboxView:
    """All that waits for people in one database.

    Args:
        source: A graph, a checkpointer or a ledger. With a graph, its threads go on as soon as something is decided;
            without one, a worker has to go on with them.
        graph: The same, where `source` is none.
        config: Merged into each run's config.
        context: The runtime context of each run.
        reviewer: Who decides; else `HITL_REVIEWER`, else the user of the operating system.
        kind: Only `approval`, `review`, `escalation` or `question`.
        route: Only what came to people by it, such as `audit`: what was decided automatically.
        mine: Only what this person may decide now.
        use_async: The graph is awaited (`ainvoke`), in the event loop of the kernel.
    """
    if isinstance(source, Pregel):
        graph = source
    ledger = _ledger(source)
    who = reviewer_named(reviewer)

    def desk_of(thread_id: str) -> Desk:
        if graph is None:
            return Desk(ledger, thread_id, who)
        configurable = {**(config or {}).get("configurable", {}), "thread_id": thread_id}
        return Session(
            graph, ledger, cast(RunnableConfig, {**(config or {}), "configurable": configurable}), who, context
        )

    mine_only = who if mine else None
    return InboxView(Inbox(ledger), desk_of, use_async=use_async, kind=kind, route=route, reviewer=mine_only)


def _ledger(source: Any) -> Ledger:
    if isinstance(source, Ledger):
        return source
    if isinstance(source, Pregel):
        return ledger_of(source, None)
    found = getattr(source, "ledger", None)
    if isinstance(found, Ledger):
        return found
    raise LedgerMissingError(
        "inbox_widget() takes a graph, a checkpointer or a ledger, such as Ledger.open('agent.db')"
    )
