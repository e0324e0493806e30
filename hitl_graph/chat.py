"""A chat message while the thread waits for a person: it answers, withdraws what is asked, or waits for its turn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from hitl_graph import turns
from hitl_graph.errors import AlreadyDecidedError, ChatError, InvalidDecisionError, ThreadBusyError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger, claims, messages, requests
from hitl_graph.ledger.messages import Queued
from hitl_graph.model import respond
from hitl_graph.position import Position, look, reports
from hitl_graph.reviewers import Reviewer
from hitl_graph.steps import Steps, arun, blocking, run
from hitl_graph.turns import Said
from hitl_graph.worker import Renewal, Resumed, Worker

__all__ = ["Chat", "Said", "Sent", "WhileWaiting", "queue"]

WhileWaiting = Literal["queue", "answer", "withdraw"]


@dataclass(frozen=True)
class Sent:
    """What became of a message.

    Attributes:
        status: `sent` (nothing waited; the graph ran with it), `answered` (it is the decision on the request that
            waited, or a vote where a rule wants several), `withdrawn` (what waited never runs, and the message goes on
            instead), `queued` (it is stored and delivered when the thread has come to its end).
        requests: The ids of the requests concerned: answered, withdrawn, or waited for.
        result: What the graph gave, where it ran now; None where a worker has yet to go on.
        error: Why it did not get through now, though it is recorded: it is tried again by the next worker.
        message_id: The number of a message that was stored; None for one that was not.
    """

    status: Literal["sent", "answered", "withdrawn", "queued"]
    requests: tuple[str, ...] = ()
    result: Any = None
    error: Exception | None = None
    message_id: int | None = None


def queue(
    ledger: Ledger, thread_id: str, message: Said, *, sender: str | Reviewer, messages_key: str = "messages"
) -> int:
    """Keep a message until its thread has come to its end; a worker delivers it. No graph is needed.

    When this returns, the message cannot be lost.

    Args:
        ledger: Of the database that has the thread.
        thread_id: Where it goes.
        message: A text, a LangChain message, or the graph's input as a dict of plain JSON and messages.
        sender: Who says it, as the authentication of the door says.
        messages_key: Key of the state that has the messages.

    Returns:
        The number of the message.
    """
    name = _name(thread_id, sender)
    packed = turns.packed(message, messages_key)
    return ledger.write(messages.queue, ledger.now_ms(), thread_id, name, packed)


class Chat:
    """Send messages into threads, whatever they wait for.

    It claims a thread as a worker does, so any number of chats and workers may run, in any number of processes.

    Args:
        graph: The compiled graph, with the checkpointer that has the threads.
        ledger: `checkpointer.ledger`, or the ledger that was given to the nodes.
        while_waiting: What a message does while people are asked in its thread, unless `send` says otherwise.
        messages_key: Key of the state that has the messages.
        config, context, lease: As for `Worker`.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        ledger: Ledger,
        *,
        while_waiting: WhileWaiting = "queue",
        messages_key: str = "messages",
        config: RunnableConfig | None = None,
        context: Any = None,
        lease: float = 60,
    ) -> None:
        self.ledger = ledger
        self.while_waiting = _mode(while_waiting)
        self.messages_key = messages_key
        self._errand: Callable[[], _Errand] = partial(
            _Errand, graph, ledger, config=config, context=context, lease=lease
        )
        self._errand()  # says so now if the graph has no checkpointer

    def send(
        self, thread_id: str, message: Said, *, sender: str | Reviewer, while_waiting: WhileWaiting | None = None
    ) -> Sent:
        """Send a message into a thread.

        Where nothing waits, the graph runs with it (`durability="sync"`), and what the graph raises is raised. While
        another worker or chat is at work in the thread, it is queued, whatever `while_waiting` says.

        Args:
            thread_id: Where it goes.
            message: A text, a LangChain message, or the graph's input as a dict. What may have to be stored is plain
                JSON and messages.
            sender: Who says it, as the authentication of the door says. The reviewer, where it answers.
            while_waiting: What it does while people are asked: `queue`, `answer` or `withdraw`.

        Raises:
            ChatError: It cannot answer or withdraw what waits. Nothing was recorded.
            AlreadyDecidedError: Somebody decided first; that decision counts. Nothing was recorded of the message.
            StaleRequestError: What waited was withdrawn, or is not asked any more.
            NotEntitledError, ClaimedError: The sender may not answer, or others are at it.
            InvalidDecisionError: The answer does not fit. It can be answered again.
        """
        return run(self._send(thread_id, message, sender, while_waiting))

    async def asend(
        self, thread_id: str, message: Said, *, sender: str | Reviewer, while_waiting: WhileWaiting | None = None
    ) -> Sent:
        """As `send`."""
        return await arun(self._send(thread_id, message, sender, while_waiting))

    def deliver(self, thread_id: str) -> list[Resumed]:
        """Do what a worker would do in this one thread: carry out what is decided, then deliver what is queued."""
        return run(self._deliver(thread_id))

    async def adeliver(self, thread_id: str) -> list[Resumed]:
        """As `deliver`."""
        return await arun(self._deliver(thread_id))

    def queued(self, thread_id: str) -> list[Queued]:
        """The messages that wait in a thread, the next one first."""
        return self.ledger.read(messages.queued, thread_id)

    def drop(self, thread_id: str, message_id: int, *, sender: str | Reviewer) -> bool:
        """Take a queued message back; False if it was delivered already, or is just being delivered."""
        who, now = _name(thread_id, sender), self.ledger.now_ms()
        return self.ledger.write(messages.drop, now, thread_id, actor=who, reason="taken back", id=message_id) > 0

    def _deliver(self, thread_id: str) -> Steps[list[Resumed]]:
        decided = yield blocking(self.ledger.read, requests.decided_threads)
        left = yield blocking(self.ledger.read, claims.left, self.ledger.now_ms())
        done = yield from self._errand()._serve_thread(thread_id, begun=thread_id in (*decided, *left))
        return done or []

    def _send(
        self, thread_id: str, said: Said, sender: str | Reviewer, while_waiting: WhileWaiting | None
    ) -> Steps[Sent]:
        name = _name(thread_id, sender)
        mode = self.while_waiting if while_waiting is None else _mode(while_waiting)
        given = turns.as_input(said, self.messages_key)
        errand = self._errand()
        found = yield from look(errand.graph, self.ledger, errand._thread_config(thread_id))
        if not found.waits:
            left = yield blocking(self.ledger.read, claims.left, self.ledger.now_ms())
            if (yield blocking(errand._claim, thread_id)):
                sent = yield from self._run(errand, thread_id, given, said, name, begun=thread_id in left)
                if sent is not None:
                    return sent
                found = yield from look(errand.graph, self.ledger, errand._thread_config(thread_id))
            else:
                mode = "queue"
        if mode == "answer" and found.waits:
            return (yield from self._answer(errand, found, said, sender))
        if mode == "withdraw" and found.waits:
            return (yield from self._withdraw(errand, found, said, name))
        number = yield blocking(queue, self.ledger, thread_id, said, sender=sender, messages_key=self.messages_key)
        return Sent("queued", tuple(request.id for request in found.asked), message_id=number)

    def _run(
        self, errand: "_Errand", thread_id: str, given: dict[str, Any], said: Said, sender: str, *, begun: bool
    ) -> Steps[Sent | None]:
        """Run the graph with a message, in a thread that is claimed; None if people are asked in it after all."""
        renewing = Renewal(errand, thread_id)
        stands, config = True, errand._thread_config(thread_id)
        try:
            found = yield from look(errand.graph, self.ledger, config)
            if found.waits:
                return None
            waiting = yield blocking(self.ledger.read, messages.queued, thread_id)
            if waiting or (begun and found.is_midway):  # what came before goes first, and what a dead worker began
                stands = False
                sent, stands = yield from self._in_turn(errand, thread_id, said, sender, begun)
                return sent
            try:
                yield from errand._invoke(found.input_of(given, self.messages_key, sender), config)
            except ThreadBusyError:
                return None
            return Sent("sent", result=errand.output)
        finally:
            yield blocking(renewing.stop)
            give_back = claims.release if stands else claims.leave
            yield blocking(self.ledger.write, give_back, thread_id, errand._name)

    def _in_turn(
        self, errand: "_Errand", thread_id: str, said: Said, sender: str, begun: bool
    ) -> Steps[tuple[Sent, bool]]:
        number = yield blocking(queue, self.ledger, thread_id, said, sender=sender, messages_key=self.messages_key)
        errand.eager = not begun
        done, stands = yield from errand._claimed(thread_id, begun)
        mine = next((result for result in done if number in result.message_ids), None)
        error = done[-1].error if done else None
        if mine is None:
            return Sent("queued", error=error, message_id=number), stands
        return Sent("sent", result=errand.output, error=error, message_id=number), stands

    def _answer(self, errand: "_Errand", found: Position, said: Said, sender: str | Reviewer) -> Steps[Sent]:
        others = "decide it in the inbox, or send with while_waiting='queue' or 'withdraw'"
        if len(found.asked) != 1 or found.unknown:
            raise _refused(found, f"a message answers one question, and {_names(found)} wait; {others}")
        [request] = found.asked
        if request.decision is not None:
            raise AlreadyDecidedError(request.id, str(request.reviewer), request.decision.type)
        if "respond" not in request.allowed:
            raise _refused(
                found, f"request {request.id} takes {', '.join(request.allowed)}, and a message is a respond; {others}"
            )
        text = turns.text_of(said)
        if text is None:
            raise InvalidDecisionError(request.id, "the message has no text, and only a text is an answer")
        yield blocking(
            Inbox(self.ledger).decide, request.id, respond(text), reviewer=sender, digest=request.digest, channel="chat"
        )
        done = yield from errand._serve_thread(found.thread_id, begun=True)
        return Sent("answered", (request.id,), errand.output, _error(done))

    def _withdraw(self, errand: "_Errand", found: Position, said: Said, sender: str) -> Steps[Sent]:
        if found.unknown:
            raise _refused(
                found,
                "it waits for a question that the ledger does not have (an interrupt under a foreign checkpointer), so"
                " it cannot be withdrawn for good; resume the thread, or send with while_waiting='queue'",
            )
        number, withdrawn = yield blocking(
            self.ledger.write, messages.withdraw, self.ledger.now_ms(), found.thread_id, sender,
            turns.packed(said, self.messages_key), None if reports(errand.graph, self.ledger) else found.asked,
        )  # fmt: skip
        done = yield from errand._serve_thread(found.thread_id, begun=False)
        mine = any(number in result.message_ids for result in done or ())
        ids = tuple(request.id for request in withdrawn)
        status: Any = "withdrawn" if ids else "sent" if mine else "queued"
        return Sent(status, ids, errand.output if mine else None, _error(done), number)


class _Errand(Worker):
    """A worker for one message: it keeps what the graph gave.

    Attributes:
        output: That.
        eager: A message goes on where a run stopped in the middle, as one does that is not queued.
    """

    output: Any = None
    eager = False

    def _invoke(self, given: Any, config: RunnableConfig) -> Steps[Any]:
        self.output = None
        self.output = yield from super()._invoke(given, config)
        return self.output

    def _may_say(self, found: Position) -> bool:
        return not found.waits if self.eager else super()._may_say(found)


def _mode(name: str) -> WhileWaiting:
    for mode in get_args(WhileWaiting):
        if name == mode:
            return mode  # type: ignore[no-any-return]
    raise ValueError(f"while_waiting={name!r} is unknown; take 'queue', 'answer' or 'withdraw'")


def _name(thread_id: str, sender: str | Reviewer) -> str:
    if not isinstance(thread_id, str) or not thread_id:
        raise ValueError(f"a message needs the id of its thread, a text, not {thread_id!r:.80}")
    name = sender.name if isinstance(sender, Reviewer) else sender
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a message needs the name of its sender")
    return name


def _names(found: Position) -> str:
    return ", ".join([*(request.id for request in found.asked), *found.unknown])


def _refused(found: Position, why: str) -> ChatError:
    return ChatError(found.thread_id, tuple(request.id for request in found.asked), f"{why}. Nothing was recorded")


def _error(done: list[Resumed] | None) -> Exception | None:
    return done[-1].error if done else None
