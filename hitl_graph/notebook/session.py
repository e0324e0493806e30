"""One thread and one person: run it to its pause, decide, go on. Written once, for both colours."""

import getpass
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.types import Command

from hitl_graph.chat import Chat
from hitl_graph.errors import LedgerMissingError, NotebookError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, claims, handling, requests
from hitl_graph.model import Decision, Request
from hitl_graph.position import Position, look
from hitl_graph.reviewers import Reviewer, person
from hitl_graph.steps import Step, Steps, blocking
from hitl_graph.voting import Standing
from hitl_graph.worker import Renewal, Worker

__all__ = [
    "CHANNEL",
    "Desk",
    "Graph",
    "Happened",
    "Looking",
    "Session",
    "Stand",
    "Status",
    "ledger_of",
    "reviewer_named",
]

CHANNEL = "notebook"
_OPEN = (  # what the thread waits for
    "thread_id = ? AND state IN ('pending', 'decided') AND parked = 1 AND route NOT IN ('audit', 'query')"
    " ORDER BY created_ms, id"
)
Graph = Pregel[Any, Any, Any, Any]
Status = Literal["paused", "running", "finished", "stopped"]


@dataclass(frozen=True)
class Happened:
    """What became of a thread between two looks at it.

    Attributes:
        decided: Requests that somebody decided, or that are over for another reason.
        ran: Rows of `Ledger.executed`.
        news: What the graph has written: of each list of messages the new ones, of other keys the new value.
    """

    decided: tuple[Request, ...] = ()
    ran: tuple[dict[str, Any], ...] = ()
    news: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Stand:
    """Where a thread stands.

    Attributes:
        pending: What people are asked, oldest first.
        standings: How far each of them is, by its id.
        values: The state of the graph.
        note: What else there is to know, in words.
        permits: Ids of what has run by now.
        looking: None where nobody is asked.
        precedents: What people decided about requests like each of them, by its id.
    """

    status: Status
    pending: tuple[Request, ...]
    standings: Mapping[str, Standing]
    values: Any
    note: str
    happened: Happened
    permits: frozenset[str]
    looking: "Looking | None" = None
    precedents: Mapping[str, Sequence[Request]] = field(default_factory=dict[str, Sequence[Request]])


@dataclass(frozen=True)
class Looking:
    """Who looks, as the directory knows them, and whose deputy they are now."""

    who: Reviewer
    away: tuple[Reviewer, ...]


class Desk:
    """A thread without its graph, and who looks at it: answers are recorded, and a worker goes on.

    Args:
        reviewer: Who decides.
    """

    def __init__(self, ledger: Ledger, thread_id: str, reviewer: str | Reviewer) -> None:
        self.ledger, self.thread_id, self.reviewer = ledger, thread_id, reviewer
        self.inbox = Inbox(ledger)

    @property
    def name(self) -> str:
        """Who decides."""
        return self.reviewer.name if isinstance(self.reviewer, Reviewer) else self.reviewer

    def record(self, request: Request, decision: Decision) -> Steps[Request]:
        """Record an answer to what was shown."""
        record = partial(self.inbox.decide, reviewer=self.reviewer, digest=request.digest, channel=CHANNEL)
        decided: Request = yield blocking(record, request.id, decision)
        return decided

    def go_on(self, before: Stand) -> Steps[Stand]:
        """Look again."""
        return (yield from self.look(before))

    def look(self, before: Stand | None) -> Steps[Stand]:
        """Where the thread stands, and what happened since the look before."""
        asked: list[Request] = yield blocking(self.ledger.read, requests.select, _OPEN, (self.thread_id,))
        return (yield from self._stand(asked, None, before))

    def look_at(self, request: Request) -> Steps[Stand]:
        """As `look`; if the request is not asked any more, what became of it is what happened."""
        stand = yield from self.look(None)
        return (yield from self.look(replace(stand, pending=(request, *stand.pending))))

    def _stand(self, asked: Sequence[Request], found: Position | None, before: Stand | None) -> Steps[Stand]:
        ran: list[dict[str, Any]] = yield blocking(self.ledger.executed, self.thread_id)
        waiting = tuple(request for request in asked if request.state == "pending")
        pending = [*waiting]
        for audit in [request for request in (before.pending if before is not None else ()) if request.is_audit]:
            now: Request = yield blocking(self.inbox.get, audit.id)  # the thread does not wait for it
            pending += [now] if now.state == "pending" else []
        standings, precedents, who = dict[str, Standing](), dict[str, Sequence[Request]](), None
        for request in pending:
            standings[request.id] = yield blocking(self.inbox.standing, request.id)
            precedents[request.id] = yield blocking(self.inbox.precedents, request)
        if pending:
            who = yield blocking(_looking, self.ledger, self.reviewer)
        values = found.values if found is not None else None
        happened = Happened()
        if before is not None:
            over = [request.id for request in before.pending if request.id not in standings]
            decided = list[Request]()
            for request_id in over:
                decided.append((yield blocking(self.inbox.get, request_id)))
            new = tuple(row for row in ran if row["permit_id"] not in before.permits)
            happened = Happened(tuple(decided), new, _news(before.values, values))
        status, note = _status(found, asked, waiting)
        permits = frozenset(str(row["permit_id"]) for row in ran)
        return Stand(status, tuple(pending), standings, values, note, happened, permits, who, precedents)


class Session(Desk):
    """A thread of a graph, and who looks at it.

    Args:
        graph: With the checkpointer that has the thread.
        config: As for `graph.invoke`.
        context: As for `graph.invoke`.
    """

    def __init__(
        self, graph: Graph, ledger: Ledger, config: RunnableConfig, reviewer: str | Reviewer, context: Any = None
    ) -> None:
        configurable = config.get("configurable", {})
        if not configurable.get("thread_id"):
            raise NotebookError(
                'the config names no thread; it takes review(graph, {"configurable": {"thread_id": "1"}}, input)'
            )
        if configurable.get("checkpoint_id"):
            raise NotebookError(
                "people are asked at the head of a thread, and the config names an earlier checkpoint of it; leave"
                " checkpoint_id out"
            )
        super().__init__(ledger, str(configurable["thread_id"]), reviewer)
        self.graph = graph
        self._worker = Worker(graph, ledger, config=config, context=context)
        self._chat = Chat(graph, ledger, config=config, context=context)
        self._config = self._worker._thread_config(self.thread_id)

    def begin(self, given: Any) -> Steps[Stand]:
        """Run to the pause, or look where the thread is, if it waits already.

        Args:
            given: The input of the graph; None only looks, and carries out what is decided.
        """
        if isinstance(given, Command) and given.resume is not None:
            raise NotebookError(
                "an answer is no input, as nobody would know whose it is; look with review(graph, config), and then"
                " approve(), edit(...), reject(...) or respond(...)"
            )
        found = yield from look(self.graph, self.ledger, self._config)
        before = yield from self._stand(found.asked, found, None)
        if given is None or found.waits or found.is_midway:
            stand = yield from self.go_on(before)
            if given is None or stand.status != "stopped":
                return stand if given is None else replace(stand, note="It waited already, so the input was not used.")
        if not (yield blocking(self._worker._claim, self.thread_id)):
            return replace(
                before, note="Another run is at work in this thread, so the input was not used.", status="running"
            )
        renewing = Renewal(self._worker, self.thread_id)
        try:
            yield from self._worker._invoke(given, self._config)
        finally:
            yield blocking(renewing.stop)
            yield blocking(self.ledger.write, claims.release, self.thread_id, self._worker._name)
        return (yield from self.look(before))

    def decide(self, request: Request, decision: Decision, before: Stand) -> Steps[Stand]:
        """Record an answer to what was shown, and go on."""
        yield from self.record(request, decision)
        return (yield from self.go_on(before))

    def go_on(self, before: Stand) -> Steps[Stand]:
        """Carry out what is decided, whoever decided it.

        Raises:
            Exception: What the graph raised. The decisions are kept.
        """
        found = yield from look(self.graph, self.ledger, self._config)
        left = found.is_midway and not found.waits  # perhaps by a process that died
        if left or any(request.state == "decided" for request in found.asked):
            done = yield Step(lambda: self._chat.deliver(self.thread_id), lambda: self._chat.adeliver(self.thread_id))
            for resumed in done:
                if resumed.error is not None:
                    resumed.error.add_note(
                        f"The decision is recorded and kept, but thread {self.thread_id} could not go on. When the"
                        " cause is gone, refresh() goes on with it, or any worker."
                    )
                    raise resumed.error
        return (yield from self.look(before))

    def look(self, before: Stand | None) -> Steps[Stand]:
        """Where the thread stands, and what happened since the look before."""
        found = yield from look(self.graph, self.ledger, self._config)
        return (yield from self._stand(found.asked, found, before))


def _looking(ledger: Ledger, reviewer: str | Reviewer) -> Looking:
    who = person(reviewer, ledger.directory)
    away = ledger.read(handling.deputised, ledger.now_ms(), who.name)
    return Looking(who, tuple(person(name, ledger.directory) for name in away))


def _status(found: Position | None, asked: Sequence[Request], pending: Sequence[Request]) -> tuple[Status, str]:
    if pending:
        return "paused", ""
    if found is None:
        return "running", "It is recorded. A worker goes on with the thread: hitl worker MODULE:GRAPH"
    if asked:
        return "running", "It is decided, and another worker carries it out; look again with refresh()."
    if found.unknown:
        return "stopped", (
            "It waits for an interrupt of which the ledger knows nothing; compile the graph with one of our"
            " checkpointers, or give the ledger of its nodes."
        )
    if found.over:
        return "stopped", "What it waited for was withdrawn, and nobody can answer it any more; it takes a new input."
    if found.is_midway:
        return "stopped", (
            "It stands in the middle of a run, and nobody is asked: a breakpoint, a crash, or a run that has not ended."
            " graph.invoke(None, config) goes on."
        )
    if found.stored is None and not found.values:
        return "stopped", "It has not begun; give it an input: review(graph, config, input)."
    return "finished", ""


def _news(before: Any, after: Any) -> dict[str, Any]:
    if not isinstance(after, Mapping):
        return {} if _same(before, after) else {"result": after}
    found = dict[str, Any]()
    for key, value in after.items():
        old = before.get(key) if isinstance(before, Mapping) else None
        if isinstance(value, list) and value and all(isinstance(item, BaseMessage) for item in value):
            known = {message.id for message in cast("list[BaseMessage]", old or [])}
            value = [message for message in cast("list[BaseMessage]", value) if message.id not in known]
            if not value:
                continue
        elif _same(old, value):
            continue
        found[str(key)] = value
    return found


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # such as arrays
        return False


def ledger_of(graph: Graph, ledger: Ledger | None) -> Ledger:
    """The ledger that was given, else that of the graph's checkpointer.

    Raises:
        LedgerMissingError: There is neither.
    """
    found = ledger if ledger is not None else getattr(graph.checkpointer, "ledger", None)
    if isinstance(found, Ledger):
        return found
    raise LedgerMissingError(
        "the graph's checkpointer has no ledger; compile it with checkpointer=SqliteCheckpointer('agent.db'), or give"
        " the ledger of its nodes: ledger=Ledger.open(...)"
    )


def reviewer_named(given: str | Reviewer | None) -> str | Reviewer:
    """Who decides: the argument, `HITL_REVIEWER` or the user of the operating system.

    Raises:
        NotebookError: None of them has a name.
    """
    if isinstance(given, Reviewer):
        return given
    name = given if given is not None else os.environ.get("HITL_REVIEWER")
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = ""
    if not name.strip():
        raise NotebookError('nobody knows who decides; name them with reviewer="alice", or set HITL_REVIEWER')
    return name.strip()
