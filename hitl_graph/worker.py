"""Carry out decisions: resume the threads that wait for them."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Thread
from typing import Any, Literal, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import UnknownInterruptError, is_invalid_resume
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from pydantic import ValidationError

from hitl_graph import position, turns
from hitl_graph.deadlines import Came, Sweeper
from hitl_graph.errors import DatabaseClosedError, DeliveryError, ThreadBusyError
from hitl_graph.ledger import Ledger, claims, events, messages, owner, requests
from hitl_graph.ledger.messages import MARK, Queued
from hitl_graph.model import Request
from hitl_graph.steps import Step, Steps, arun, blocking, run
from hitl_graph.storage import Watch
from hitl_graph.wire import resume_values

__all__ = ["Renewal", "Resumed", "Worker"]

log = logging.getLogger(__name__)

_NAP = 0.5  # seconds, after which `stop` is noticed
_MEANWHILE = 1.0  # seconds between two looks for what is due while a thread runs


@dataclass(frozen=True)
class Resumed:
    """What became of one thread.

    Attributes:
        request_ids: The decided requests that were handed over; none where an earlier worker had handed them over.
        status: `finished`; `paused` (it asks again); `failed` (the graph raised, or cannot take the decision).
        error: Why it failed. The decisions stay recorded and are tried again; so are messages that wait.
        message_ids: The chat messages with which it ran (see `hitl_graph.chat`): one each run.
    """

    thread_id: str
    request_ids: tuple[str, ...]
    status: Literal["finished", "paused", "failed"]
    error: Exception | None = None
    message_ids: tuple[int, ...] = ()


class Worker:
    """Resume decided threads of a graph, and take what is due of deadlines.

    Any number of workers may run, in any number of processes: each thread is claimed before it is resumed, each turn of
    a deadline is taken once.

    Args:
        graph: The compiled graph, with the checkpointer that has the paused threads. Where its nodes say what it is
            called (`ApprovalNode(graph="travel")`), threads of graphs with other names are left to their own workers.
        ledger: `checkpointer.ledger`, or the ledger that was given to the nodes.
        config: Merged into each run's config (callbacks, tags, configurable ...).
        context: The runtime context of each run, where the graph has a `context_schema`. LangGraph does not store it.
        lease: Seconds for which a claim holds where the claiming process cannot be seen to be alive. A live worker
            renews it.
        on_resumed: Told of each thread as soon as it is done.
        learn: Called whenever something was decided, such as `partial(DecisionLog(ledger).update, unsure)`. If it
            fails, that is logged, and it is called again in the next round.
        on_turn: Told of each reminder, escalation and end of waiting, as `Sweeper(on_turn=)`; while a thread runs, from
            another thread of this process.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        ledger: Ledger,
        *,
        config: RunnableConfig | None = None,
        context: Any = None,
        lease: float = 60,
        on_resumed: Callable[[Resumed], object] | None = None,
        learn: Callable[[], object] | None = None,
        on_turn: Callable[[Came], object] | None = None,
    ) -> None:
        if isinstance(graph, RemoteGraph):
            raise DeliveryError(
                "the threads of a RemoteGraph are run by its server: hand decisions over with"
                " hitl_graph.adapters.server.ServerWorker(client, ledger), and the ledger of the server's database"
            )
        if not graph.checkpointer:
            raise DeliveryError("the graph has no checkpointer, so nothing of it can be resumed; compile it with one")
        self.graph = graph
        self.ledger = ledger
        self.config = config or {}
        self.context = context
        self.lease = lease
        self.on_resumed = on_resumed
        self.learn = learn
        self._learned = -1
        self._sweeper = Sweeper(ledger, on_turn=on_turn)
        self._stopping = Event()
        self._failing: set[str] = set()
        self._next_due: float | None = None
        self._graph_names = position.names_of(graph)
        self._name = f"{owner.current()}|{os.urandom(4).hex()}"

    def run_once(self, *, limit: int | None = None) -> list[Resumed]:
        """Take what is due, and resume each thread that has a decision to carry out; returns what became of them.

        Chat messages that waited for the end of their threads are delivered then, in order, one run each.

        A thread that fails is reported, logged and left for the next round; the others go on. So is a thread whose
        worker died, or failed, after it had carried out the decisions: the graph goes on from its last checkpoint.

        Args:
            limit: At most so many threads; those that failed last time come last.
        """
        return run(self._round(limit))

    async def arun_once(self, *, limit: int | None = None) -> list[Resumed]:
        """As `run_once`, one thread after the other."""
        return await arun(self._round(limit))

    def run(self, *, interval: float = 0.5) -> None:
        """Serve until `stop()`. PostgreSQL tells of each decision; SQLite is looked at every `interval` seconds.

        While threads fail, they are tried less and less often, at last once a minute.
        """
        run(self._serve(interval))

    async def arun(self, *, interval: float = 0.5) -> None:
        """Serve until `stop()`, or until cancelled."""
        await arun(self._serve(interval))

    def stop(self) -> None:
        """Begin no other thread; `run` and `arun` return when the current one is done. From any thread, or a signal."""
        self._stopping.set()

    def _serve(self, interval: float) -> Steps[None]:
        news: Watch = yield blocking(self.ledger.database.watch, "decided")
        with news:
            yield from self._serve_news(interval, news)

    def _serve_news(self, interval: float, news: Watch) -> Steps[None]:
        pause = interval
        while not self._stopping.is_set():
            results = yield from self._round(None)
            failing = any(result.status == "failed" for result in results)
            pause = min(pause * 2, 60.0) if failing else interval
            wait = pause if failing or not results else 0
            until = time.monotonic() + (wait if self._next_due is None else min(wait, self._next_due))
            while not self._stopping.is_set() and time.monotonic() < until:
                nap = min(_NAP, max(0.0, until - time.monotonic()))
                if (yield Step(partial(news.wait, nap), partial(news.await_news, nap))):
                    break

    def _round(self, limit: int | None) -> Steps[list[Resumed]]:
        self._next_due = yield from self._sweeper.tried(self._stopping)  # if it fails, the threads go on
        decided = yield blocking(self.ledger.read, requests.decided_threads)
        left = yield blocking(self.ledger.read, claims.left, self.ledger.now_ms())
        spoken = yield blocking(self.ledger.read, messages.threads)
        results: list[Resumed] = []
        begun, served = {*decided, *left}, 0
        for thread_id in sorted(dict.fromkeys([*decided, *left, *spoken]), key=self._failing.__contains__):
            if self._stopping.is_set() or served == limit:
                break
            if not (yield blocking(position.is_of, self.ledger, thread_id, self._graph_names)):
                continue
            if thread_id not in begun and not (yield from self._is_ready(thread_id)):
                continue
            done = yield from self._serve_thread(thread_id, begun=thread_id in begun)
            if done is None:
                continue
            self._failing.discard(thread_id)
            served += bool(done)
            for result in done:
                results.append(result)
                if result.status == "failed":
                    self._failing.add(thread_id)
                if self.on_resumed is not None:
                    self.on_resumed(result)
        yield blocking(self._learn)
        return results

    def _learn(self) -> None:
        if self.learn is None or (last := self.ledger.read(events.last)) == self._learned:
            return
        try:
            self.learn()
            self._learned = last
        except Exception as exc:
            log.warning("nothing was learned from the latest decisions: %s", exc, exc_info=True)

    def _serve_thread(self, thread_id: str, *, begun: bool) -> Steps[list[Resumed] | None]:
        """Do all that there is to do in a thread now, in order; None while somebody else does.

        Args:
            begun: It may stand in the middle of a run which is ours to go on with.
        """
        if not (yield blocking(self._claim, thread_id)):
            return None
        renewing, ended = Renewal(self, thread_id, self._sweeper), False
        try:
            done, ended = yield from self._claimed(thread_id, begun)
        finally:
            yield blocking(renewing.stop)
            give_back = claims.release if ended else claims.leave
            yield blocking(self.ledger.write, give_back, thread_id, self._name)
        return done

    def _claimed(self, thread_id: str, begun: bool) -> Steps[tuple[list[Resumed], bool]]:
        """What was done, and whether nobody has to go on with the thread from where it stands now."""
        waiting: list[Queued] = yield blocking(self.ledger.read, messages.queued, thread_id)
        taken = tuple[int, ...]()
        try:
            if waiting:
                taken = yield from self._taken(waiting[0])
            resumed = yield from self._resume(thread_id, begun)
            if resumed is None and taken:
                found = yield from position.look(self.graph, self.ledger, self._thread_config(thread_id))
                resumed = Resumed(thread_id, (), "paused" if found.waits else "finished")
        except Exception as exc:
            log.warning("the messages of thread %s could not be looked at: %s", thread_id, exc, exc_info=True)
            return [Resumed(thread_id, (), "failed", exc, taken)], False
        done = [] if resumed is None else [replace(resumed, message_ids=taken)]
        stands = resumed is None or resumed.status != "failed"
        while not (done and done[-1].status != "finished") and not self._stopping.is_set():
            waiting = yield blocking(self.ledger.read, messages.queued, thread_id)
            said = (yield from self._say(waiting[0])) if waiting else None
            if said is None:
                break
            done.append(said)
            stands = said.status != "failed" or not said.message_ids
        return done, stands

    def _taken(self, message: Queued) -> Steps[tuple[int, ...]]:
        """The id of a message with which a run was begun, though nobody could note it any more."""
        config, (_, key) = self._thread_config(message.thread_id), turns.unpacked(message.message, message.id)
        if not (yield from position.has_begun(self.graph, self.ledger, config, message, key)):
            return ()
        yield blocking(self.ledger.write, messages.delivered, self.ledger.now_ms(), message)
        return (message.id,)

    def _say(self, message: Queued) -> Steps[Resumed | None]:
        """Run the graph with a message; None if the thread has not come to its end."""
        thread_id, config = message.thread_id, self._thread_config(message.thread_id)
        given, key = turns.unpacked(message.message, message.id)
        try:
            found = yield from position.look(self.graph, self.ledger, config)
            if not self._may_say(found):
                return None
            found.check_graph(self.graph)
            mode = found.stored.metadata.get("hitl_mode") if found.stored else None
            if mode is not None:  # whoever queued it could not say that the thread may do more from here on
                config = self._thread_config(thread_id, hitl_mode=mode)
            marked = cast(RunnableConfig, {**config, "metadata": {**config.get("metadata", {}), MARK: str(message.id)}})
            yield from self._invoke(found.input_of(given, key, message.sender), marked)
        except ThreadBusyError:
            return None
        except Exception as exc:
            log.warning(
                "message %s of thread %s: %s", message.id, thread_id, exc, exc_info=not isinstance(exc, DeliveryError)
            )
            return Resumed(thread_id, (), "failed", exc, (yield from self._taken(message)))
        yield blocking(self.ledger.write, messages.delivered, self.ledger.now_ms(), message)
        found = yield from position.look(self.graph, self.ledger, config)
        return Resumed(thread_id, (), "paused" if found.waits else "finished", None, (message.id,))

    def _is_ready(self, thread_id: str) -> Steps[bool]:
        """Whether a thread for which only messages wait has come to its end; asked before it is claimed."""
        try:
            return (yield from position.look(self.graph, self.ledger, self._thread_config(thread_id))).has_ended
        except Exception:  # whoever claims the thread reports it
            return True

    def _may_say(self, found: position.Position) -> bool:
        return found.has_ended

    def _claim(self, thread_id: str) -> bool:
        lease_ms = int(self.lease * 1000)
        return self.ledger.write(claims.claim, self.ledger.now_ms(), thread_id, self._name, lease_ms)

    def _resume(self, thread_id: str, begun: bool) -> Steps[Resumed | None]:
        """Resume one claimed thread with all that is decided in it by now, or from where another worker left it."""
        unfinished: list[Request] = yield blocking(
            self.ledger.read, requests.select, "thread_id = ? AND state IN ('pending', 'decided') AND parked = 1",
            (thread_id,),
        )  # fmt: skip
        decided = [request for request in unfinished if request.state == "decided"]
        names = tuple(request.id for request in decided)
        config = self._thread_config(thread_id)
        try:
            state = yield Step(lambda: self.graph.get_state(config), lambda: self.graph.aget_state(config))
            mode = (state.metadata or {}).get("hitl_mode")
            if mode is not None:  # the run that paused was to be stricter, and what goes on is that run
                config = self._thread_config(thread_id, hitl_mode=mode)
            waiting = yield from position.waiting(self.graph, state)
            deliverable = [request for request in decided if request.interrupt_id in waiting]
            is_midway = begun and state.tasks and not waiting  # `next` is empty if only a step's end is missing
            if not decided and not is_midway:
                return None
            left_at_tools = is_midway and all(request.position is not None for request in decided)  # of a batch
            if decided and not deliverable and not left_at_tools:
                raise DeliveryError(
                    f"thread {thread_id} does not wait for {', '.join(names)} in this graph; was a node renamed or"
                    " removed, or the wrong graph given? Run the worker with the graph that asked; the decision is kept"
                )
            yield from self._deliver(deliverable, config, position.asked_from_afar(self.graph, state))
            after = yield Step(lambda: self.graph.get_state(config), lambda: self.graph.aget_state(config))
            paused = yield from position.waiting(self.graph, after)
        except Exception as exc:
            if isinstance(exc, UnknownInterruptError) and not (yield blocking(self._decided, thread_id)):
                return None  # whoever resumes the graph without a worker was faster
            if isinstance(exc, ThreadBusyError):
                return None  # or still is about it
            log.warning(
                "thread %s could not be resumed: %s", thread_id, exc, exc_info=not isinstance(exc, DeliveryError)
            )
            return Resumed(thread_id, names, "failed", exc)
        handed = tuple(request.id for request in deliverable)
        return Resumed(thread_id, handed, "paused" if paused else "finished")

    def _deliver(self, decided: list[Request], config: RunnableConfig, afar: Set[str]) -> Steps[None]:
        """Run the graph with these answers; one that the graph itself refuses is asked again.

        Args:
            afar: Interrupts of remote graphs.
        """
        command: Command[Any] | None = Command(resume=resume_values(decided, afar)) if decided else None
        try:
            yield from self._invoke(command, config)
        except ValidationError as exc:  # how LangGraph refuses an answer; it has not kept it, nor run anything on it
            foreign = [request for request in decided if request.answer_shape != "hitl"]
            if not is_invalid_resume(exc) or not foreign:
                raise
            if len(decided) == 1:
                why = f"the graph refused the answer: {exc.errors(include_url=False)[0]['msg']}"
                yield blocking(self.ledger.write, requests.reopen, self.ledger.now_ms(), decided[0], why)
                return
            for request in decided:  # which one was refused is not told
                if (yield blocking(self._is_open, request)):
                    yield from self._deliver([request], config, afar)

    def _invoke(self, given: Any, config: RunnableConfig) -> Steps[Any]:
        output = yield Step(
            lambda: self.graph.invoke(given, config, context=self.context, durability="sync"),
            lambda: self.graph.ainvoke(given, config, context=self.context, durability="sync"),
        )
        return output

    def _is_open(self, request: Request) -> bool:
        return any(request.id == other.id for other in self._decided(request.thread_id))

    def _decided(self, thread_id: str) -> list[Request]:
        return self.ledger.read(requests.select, "thread_id = ? AND state = 'decided' AND parked = 1", (thread_id,))

    def _thread_config(self, thread_id: str, **more: Any) -> RunnableConfig:
        configurable = {
            **self.config.get("configurable", {}),
            **more,
            "thread_id": thread_id,
            "__pregel_strict_resume": True,  # LangGraph's switch against answers to questions that are not open
        }
        return cast(RunnableConfig, {**self.config, "configurable": configurable})


class Renewal:
    """Renews a claim while its thread runs, so that another machine does not take a slow thread for a dead one.

    Args:
        sweeper: Takes what is due meanwhile.
    """

    def __init__(self, worker: Worker, thread_id: str, sweeper: Sweeper | None = None) -> None:
        self._worker, self._thread_id, self._sweeper, self._ended = worker, thread_id, sweeper, Event()
        self._thread = Thread(target=self._run, name="hitl-claim", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        every = self._worker.lease / 3
        look, renewal = min(_MEANWHILE, every) if self._sweeper else every, time.monotonic() + every
        while not self._ended.wait(min(look, max(0.0, renewal - time.monotonic()))):
            if time.monotonic() >= renewal:
                renewal = time.monotonic() + every
                try:
                    self._worker._claim(self._thread_id)
                except Exception as exc:
                    log.warning("the claim on thread %s could not be renewed: %s", self._thread_id, exc)
            if self._sweeper is not None:
                with contextlib.suppress(DatabaseClosedError):
                    run(self._sweeper.tried(self._worker._stopping))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
