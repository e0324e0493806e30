"""What `review` returns: where a thread stands, and the four answers as code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hitl_graph.errors import NotebookError
from hitl_graph.grants import Grant
from hitl_graph.model import Comment, Decision, Request, approve, edit, reject, respond
from hitl_graph.notebook import telling
from hitl_graph.notebook.session import Happened, Session, Stand, Status
from hitl_graph.steps import Steps, arun, run

__all__ = ["Run"]


@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """A thread, as far as it came.

    It never changes: each answer returns the next one. As the result of a cell it is a form, where there are widgets;
    else a text that says the same.

    Attributes:
        session: The thread, and who looks at it.
        stand: Where the thread stood.
        is_async: It was made by `areview`: answers are awaited, the form resumes the graph with `ainvoke`.
    """

    session: Session
    stand: Stand
    is_async: bool = False
    only: str | None = field(default=None)
    """The id of the one request that it is about, where one was picked."""

    @property
    def thread_id(self) -> str:
        """Whose stand it is."""
        return self.session.thread_id

    @property
    def status(self) -> Status:
        """How far it is.

        `paused` (people are asked), `running` (another worker goes on with it), `finished`, or `stopped` (neither; the
        `note` says why).
        """
        return self.stand.status

    @property
    def note(self) -> str:
        """What else there is to know, in words."""
        return self.stand.note

    @property
    def requests(self) -> tuple[Request, ...]:
        """What people are asked, oldest first."""
        return tuple(request for request in self.stand.pending if self.only in (None, request.id))

    @property
    def request(self) -> Request:
        """The one thing that people are asked.

        Raises:
            NotebookError: Nothing is, or several things are.
        """
        if len(self.requests) == 1:
            return self.requests[0]
        if not self.requests:
            raise NotebookError(
                f"nobody is asked in thread {self.thread_id}, which is {self.status}. {self.note}".strip()
            )
        names = "; ".join(f"[{i}] {telling.in_short(request)}" for i, request in enumerate(self.requests))
        raise NotebookError(f"{len(self.requests)} requests wait, so pick one, such as run[0].approve(). {names}")

    @property
    def result(self) -> Any:
        """The state of the graph, as `graph.get_state(config).values`; of a functional graph, what it returned."""
        return self.stand.values

    @property
    def happened(self) -> Happened:
        """What became of the thread since the look before."""
        return self.stand.happened

    def __len__(self) -> int:
        return len(self.requests)

    def __bool__(self) -> bool:
        """Whether people are asked."""
        return bool(self.requests)

    def __getitem__(self, index: int) -> "Run":
        """The same, about only one of several requests."""
        return Run(self.session, self.stand, self.is_async, self.requests[index].id)

    def __iter__(self) -> Iterator["Run"]:
        return (self[index] for index in range(len(self)))

    def approve(self, comment: str | None = None, *, grant: Grant | None = None) -> "Run":
        """Go ahead exactly as shown."""
        return self.decide(approve(comment, grant=grant))

    def edit(self, new: Any = None, comment: str | None = None, /, **changes: Any) -> "Run":
        """Go ahead with this instead.

        Args:
            new: All arguments, or the whole new draft.
            comment: For the record.
            changes: Only what changes; the other arguments stay as they are.
        """
        return self.decide(self._edit(new, comment, changes))

    def reject(self, reason: str = "") -> "Run":
        """Do not do it. The model is told the reason."""
        return self.decide(reject(reason))

    def respond(self, answer: Any = None, *, comments: Iterable[Comment] = ()) -> "Run":
        """Do not do it; answer this instead."""
        return self.decide(respond(answer, comments=comments))

    def decide(self, decision: Decision) -> "Run":
        """Record an answer to what was shown, go on with the graph, and return where it stands then.

        Where others have to agree, the answer is a vote, and the request stays.

        Raises:
            NotebookError: Nothing is asked, or several things are; or it takes `await run.adecide(...)`.
            AlreadyDecidedError, StaleRequestError, NotEntitledError, ClaimedError, InvalidDecisionError: As
                `Inbox.decide`. Nothing was recorded.
            Exception: What the graph raised. The decision is kept, and `refresh()` tries again.
        """
        return self._run(self.session.decide(self.request, decision, self.stand))

    def refresh(self) -> "Run":
        """Look again; go on with the graph, if somebody else has decided."""
        return self._run(self.session.go_on(self.stand))

    async def aapprove(self, comment: str | None = None, *, grant: Grant | None = None) -> "Run":
        """As `approve`."""
        return await self.adecide(approve(comment, grant=grant))

    async def aedit(self, new: Any = None, comment: str | None = None, /, **changes: Any) -> "Run":
        """As `edit`."""
        return await self.adecide(self._edit(new, comment, changes))

    async def areject(self, reason: str = "") -> "Run":
        """As `reject`."""
        return await self.adecide(reject(reason))

    async def arespond(self, answer: Any = None, *, comments: Iterable[Comment] = ()) -> "Run":
        """As `respond`."""
        return await self.adecide(respond(answer, comments=comments))

    async def adecide(self, decision: Decision) -> "Run":
        """As `decide`."""
        return self._next(await arun(self.session.decide(self.request, decision, self.stand)))

    async def arefresh(self) -> "Run":
        """As `refresh`."""
        return self._next(await arun(self.session.go_on(self.stand)))

    @cached_property
    def widget(self) -> Any:
        """The form, an `ipywidgets` widget (extra `notebook`)."""
        from hitl_graph.notebook.threads import ThreadWidget

        return ThreadWidget(self.session, self.stand, is_async=self.is_async, only=self.only).box

    def __repr__(self) -> str:
        return telling.as_text(telling.run(self))

    def _repr_html_(self) -> str:
        return telling.as_html(telling.run(self))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The form, with the text for where there are no widgets."""
        return telling.bundle(self)

    def _edit(self, new: Any, comment: str | None, changes: dict[str, Any]) -> Decision:
        if (new is None) == (not changes):
            raise NotebookError("edit() takes all of it, edit({...}), or what changes, edit(eur=480)")
        if new is None:
            request = self.request
            proposed: Any = request.action.args if request.action is not None else request.draft
            if not isinstance(proposed, dict):
                raise NotebookError("there are no arguments that could be named; give the whole draft, edit(new)")
            new = {**proposed, **changes}
        return edit(new, comment)

    def _run(self, steps: Steps[Stand]) -> "Run":
        if self.is_async:
            steps.close()
            raise NotebookError(
                "this came from areview, and its graph is awaited: await run.aapprove(), aedit, areject, arespond,"
                " adecide or arefresh"
            )
        return self._next(run(steps))

    def _next(self, stand: Stand) -> "Run":
        return Run(self.session, stand, self.is_async)
