"""A chat message while a request waits: it answers, withdraws or queues, and no conversation is left in pieces."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from hitl_graph.chat import Chat, queue
from hitl_graph.checkpointers.base import Checkpointer
from hitl_graph.errors import (
    AlreadyDecidedError,
    ChatError,
    DeliveryError,
    InvalidDecisionError,
    RequestError,
    StaleRequestError,
)
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import claims
from hitl_graph.model import Request, approve, reject, respond
from hitl_graph.storage import Transaction
from hitl_graph.worker import Worker
from tests.chatting import Graph, agent, calls, conversation, of, paid, plain_agent
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.processes import Barrier, Report, child, race

pytestmark = pytest.mark.both_databases
WITHDRAWN = "withdrawn by alice: a new message came instead of an answer"


@pytest.fixture
def saver(db_path: str) -> Generator[Checkpointer]:
    with open_checkpointer(db_path) as opened:
        yield opened


@pytest.fixture
def graph(saver: Checkpointer, tmp_path: Path) -> Graph:
    return agent(saver, tmp_path)


@pytest.fixture
def chat(graph: Graph, saver: Checkpointer) -> Chat:
    return Chat(graph, saver.ledger)


def work(chat: Chat) -> list[tuple[str, tuple[int, ...]]]:
    """One round of another worker: status and messages of each run."""
    results = Worker(chat._errand().graph, chat.ledger).run_once()
    return [(result.status, result.message_ids) for result in results]


def asked(chat: Chat, thread: str = "t") -> list[Request]:
    return Inbox(chat.ledger).pending(thread_id=thread)


# --- nothing waits ---------------------------------------------------------------------------------------------------


async def test_where_nothing_waits_the_graph_runs(chat: Chat, graph: Graph) -> None:
    sent = chat.send("t", "hello", sender="alice")
    assert (sent.status, sent.requests, sent.message_id) == ("sent", (), None)
    assert sent.result["messages"][-1].content == "heard hello"
    sent = await chat.asend("t", HumanMessage("again", id="mine"), sender="alice", while_waiting="answer")
    assert sent.status == "sent"
    sent = await chat.asend("t", {"messages": [("user", "more")]}, sender="alice", while_waiting="withdraw")
    assert sent.status == "sent"
    assert conversation(graph, "t")[-4:] == ["human: again", "ai: heard again", "human: more", "ai: heard more"]
    sent = chat.send("t", calls(5), sender="alice")
    assert "__interrupt__" in sent.result


def test_what_the_graph_raises_is_raised_and_the_next_message_goes_on(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        chat.send("t", "fail", sender="alice")
    assert work(chat) == []  # as an application would: whoever sent it knows
    assert chat.send("t", "hello", sender="alice").status == "sent"


def test_open_calls_of_a_run_that_broke_off_are_answered(chat: Chat, graph: Graph) -> None:
    graph.update_state(of("t"), {"messages": [("user", calls(5))]}, as_node="__start__")
    made = {"messages": [{"role": "assistant", "content": "", "tool_calls": json.loads(calls(5))}]}
    graph.update_state(of("t"), made, as_node="agent")
    assert graph.get_state(of("t")).next == ("tools",)
    assert chat.send("t", "hello", sender="alice").status == "sent"
    assert "It is not known what became of this call of pay" in conversation(graph, "t")[2]


@pytest.mark.parametrize("said", ["", "  ", {}, 5, ["hello"]])
def test_what_is_no_message_is_refused(chat: Chat, said: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"message|input"):
        chat.send("t", said, sender="alice")
    with pytest.raises((ValueError, TypeError), match=r"message|input"):
        queue(chat.ledger, "t", said, sender="alice")
    assert chat.queued("t") == []


def test_modes_senders_and_threads_are_checked(chat: Chat, graph: Graph) -> None:
    with pytest.raises(ValueError, match="take 'queue', 'answer' or 'withdraw'"):
        chat.send("t", "hello", sender="alice", while_waiting="replace")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sender"):
        chat.send("t", "hello", sender="")
    with pytest.raises(ValueError, match="thread"):
        queue(chat.ledger, "", "hello", sender="alice")
    with pytest.raises(TypeError, match="cannot be kept"):
        queue(chat.ledger, "t", {"file": object()}, sender="alice")
    with pytest.raises(DeliveryError, match="checkpointer"):
        Chat(graph.copy(update={"checkpointer": None}), chat.ledger)


# --- queue -----------------------------------------------------------------------------------------------------------


def test_queued_messages_are_delivered_in_order_one_run_each(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    chat.send("t", calls(5), sender="alice")
    [request] = asked(chat)
    first = chat.send("t", "one", sender="alice")
    assert (first.status, first.requests, first.result) == ("queued", (request.id,), None)
    second = queue(chat.ledger, "t", {"messages": [("user", "two")]}, sender="bob")
    assert [(m.id, m.sender) for m in chat.queued("t")] == [(first.message_id, "alice"), (second, "bob")]
    assert work(chat) == []
    Inbox(chat.ledger).decide(request.id, approve(), reviewer="carol")
    assert chat.send("t", "three", sender="alice").requests == (request.id,)  # decided, but not carried out
    runs = work(chat)
    assert [status for status, _ in runs] == ["finished"] * 4
    assert [ids for _, ids in runs[:3]] == [(), (first.message_id,), (second,)]
    assert conversation(graph, "t")[1:] == [
        "ai: ['pay']", "tool: paid 5", "ai: done",
        "human: one", "ai: heard one", "human: two", "ai: heard two", "human: three", "ai: heard three",
    ]  # fmt: skip
    assert work(chat) == []
    events = Counter(chat.ledger.read(lambda tx: [row[0] for row in tx.execute("SELECT event FROM hitl_audit")]))
    assert (events["message.queued"], events["message.delivered"]) == (3, 3)
    assert chat.ledger.verify_audit().ok


async def test_a_message_that_pauses_the_thread_holds_up_the_next_one(chat: Chat, graph: Graph) -> None:
    chat.send("t", calls(5), sender="alice")
    for text in (calls(6), "last"):
        chat.send("t", text, sender="alice")
    await Inbox(chat.ledger).adecide(asked(chat)[0].id, reject("no"), reviewer="carol")
    done = await chat.adeliver("t")
    assert [result.status for result in done] == ["finished", "paused"]
    [request] = asked(chat)
    assert request.action is not None
    assert request.action.args == {"eur": 6}
    Inbox(chat.ledger).decide(request.id, approve(), reviewer="carol")
    assert [result.status for result in chat.deliver("t")] == ["finished", "finished"]
    assert conversation(graph, "t")[-2:] == ["human: last", "ai: heard last"]


def test_what_is_queued_goes_before_what_is_sent_later(chat: Chat, graph: Graph) -> None:
    queue(chat.ledger, "t", "first", sender="bob")
    sent = chat.send("t", "second", sender="alice")
    assert sent.status == "sent"
    assert sent.result["messages"][-1].content == "heard second"
    assert conversation(graph, "t") == ["human: first", "ai: heard first", "human: second", "ai: heard second"]
    queue(chat.ledger, "t", calls(5), sender="bob")
    sent = chat.send("t", "third", sender="alice")
    assert (sent.status, len(asked(chat)), len(chat.queued("t"))) == ("queued", 1, 1)


def test_a_thread_at_work_is_left_alone(chat: Chat, graph: Graph) -> None:
    worker = Worker(graph, chat.ledger)
    assert worker._claim("t")
    sent = chat.send("t", "hello", sender="alice", while_waiting="withdraw")
    assert sent.status == "queued"
    assert work(chat) == []
    assert chat.deliver("t") == []


def test_a_message_is_taken_back(chat: Chat, graph: Graph) -> None:
    chat.send("t", calls(5), sender="alice")
    number = chat.send("t", "never mind", sender="alice").message_id
    assert number is not None
    assert chat.drop("t", number, sender="alice")
    assert not chat.drop("t", number, sender="alice")
    assert chat.queued("t") == []
    assert chat.ledger.verify_audit().ok


def test_a_run_that_fails_with_a_message_goes_on_with_it(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    number = queue(chat.ledger, "t", "fail", sender="bob")
    for ids in ((number,), ()):
        [result] = Worker(graph, chat.ledger).run_once()
        assert (result.status, type(result.error), result.message_ids) == ("failed", ConnectionError, ids)
    queue(chat.ledger, "t", "later", sender="bob")
    assert work(chat) == [("failed", ())]
    (tmp_path / "healed").touch()
    assert [status for status, _ in work(chat)] == ["finished", "finished"]
    assert conversation(graph, "t") == ["human: fail", "ai: heard fail", "human: later", "ai: heard later"]


def test_a_run_that_cannot_go_on_holds_up_what_is_sent_later(chat: Chat, graph: Graph) -> None:
    number = queue(chat.ledger, "t", {"nothing of the state": 1}, sender="bob")
    assert work(chat) == [("failed", (number,))]  # LangGraph has stored it, and refuses to go on with it
    sent = chat.send("t", "hello", sender="alice")
    assert (sent.status, sent.error is not None) == ("queued", True)
    graph.invoke({"messages": [("user", "forget it")]}, of("t"))
    assert [status for status, _ in work(chat)] == ["finished"]
    assert conversation(graph, "t")[-1] == "ai: heard hello"


def test_what_a_worker_began_and_left_is_gone_on_with_before_a_message(
    chat: Chat, graph: Graph, tmp_path: Path
) -> None:
    queue(chat.ledger, "t", "fail", sender="bob")
    assert [status for status, _ in work(chat)] == ["failed"]
    (tmp_path / "healed").touch()
    assert chat.send("t", "hello", sender="alice").status == "sent"
    assert conversation(graph, "t") == ["human: fail", "ai: heard fail", "human: hello", "ai: heard hello"]


def test_another_graph_does_not_get_the_message(chat: Chat, graph: Graph, saver: Checkpointer) -> None:
    chat.send("t", "hello", sender="alice")
    queue(chat.ledger, "t", "for the agent", sender="bob")
    builder = StateGraph(MessagesState)
    builder.add_node("stranger", lambda state: {"messages": [("ai", "I am another one")]})
    builder.add_edge(START, "stranger")
    [result] = Worker(builder.compile(checkpointer=saver), chat.ledger).run_once()
    assert isinstance(result.error, DeliveryError)
    assert "agent" in str(result.error)
    assert [status for status, _ in work(chat)] == ["finished"]
    assert conversation(graph, "t")[-1] == "ai: heard for the agent"


# --- answer ----------------------------------------------------------------------------------------------------------


async def test_a_message_answers_the_one_question(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    chat.send("t", calls(5), sender="alice")
    [request] = asked(chat)
    sent = chat.send("t", "use the other account", sender="alice", while_waiting="answer")
    assert (sent.status, sent.requests, sent.error) == ("answered", (request.id,), None)
    assert conversation(graph, "t")[2:] == ["tool: use the other account", "ai: done"]
    stored = Inbox(chat.ledger).get(request.id)
    assert (stored.state, stored.reviewer, stored.channel) == ("delivered", "alice", "chat")
    assert paid(tmp_path) == []
    ask = [{"name": "ask_human", "args": {"question": "Which one?", "why": "There are two."}, "id": "a"}]
    await chat.asend("t", json.dumps(ask), sender="alice")
    sent = await chat.asend("t", HumanMessage("The red one"), sender="bob", while_waiting="answer")
    assert sent.status == "answered"
    assert "The red one" in conversation(graph, "t")[-2]


def test_what_a_message_cannot_answer_is_refused_and_nothing_is_recorded(chat: Chat, graph: Graph) -> None:
    chat = Chat(graph, chat.ledger, while_waiting="answer")
    chat.send("two", calls(5, 6), sender="alice")
    with pytest.raises(ChatError, match="answers one question") as refused:
        chat.send("two", "yes", sender="alice")
    assert refused.value.request_ids == tuple(request.id for request in asked(chat, "two"))
    assert all(request.id in str(refused.value) for request in asked(chat, "two"))
    chat.send("big", calls(5000), sender="alice")
    with pytest.raises(ChatError, match="takes approve, reject"):
        chat.send("big", "yes", sender="alice")
    chat.send("one", calls(5), sender="alice")
    [request] = asked(chat, "one")
    with pytest.raises(InvalidDecisionError, match="only a text"):
        chat.send("one", {"messages": [("user", "yes")]}, sender="alice")
    assert len(asked(chat, "two")) == 2
    Inbox(chat.ledger).decide(request.id, approve(), reviewer="carol")
    with pytest.raises(AlreadyDecidedError):
        chat.send("one", "yes", sender="alice")
    assert not any(chat.queued(thread) for thread in ("one", "two", "big"))


# --- withdraw --------------------------------------------------------------------------------------------------------


async def test_what_is_withdrawn_never_runs(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    chat.send("t", calls(5), sender="alice")
    [request] = asked(chat)
    sent = await chat.asend("t", "wait, how much?", sender="alice", while_waiting="withdraw")
    assert (sent.status, sent.requests, sent.error) == ("withdrawn", (request.id,), None)
    assert sent.result["messages"][-1].content == "heard wait, how much?"
    said = conversation(graph, "t")
    assert said[2] == f"tool: This call of pay did not run: {WITHDRAWN}. Do not make it again unless you are asked to."
    assert said[3:] == ["human: wait, how much?", "ai: heard wait, how much?"]
    stored = Inbox(chat.ledger).get(request.id)
    assert (stored.state, stored.note) == ("cancelled", WITHDRAWN)
    with pytest.raises(StaleRequestError, match="withdrawn by alice"):
        Inbox(chat.ledger).decide(request.id, approve(), reviewer="carol")
    assert work(chat) == []
    assert paid(tmp_path) == []
    actors = chat.ledger.read(
        lambda tx: tx.execute("SELECT actor FROM hitl_audit WHERE event = 'request.cancelled'").fetchall()
    )
    assert actors == [("alice",)]
    assert chat.ledger.verify_audit().ok


def test_an_answer_that_comes_straight_through_langgraph_is_refused(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    """Withdrawn, and the run with the message has not begun: the pause is still there, and the node refuses."""
    chat.send("t", calls(5), sender="alice")
    [request] = asked(chat)
    other = Worker(graph, chat.ledger)
    assert other._claim("t")
    sent = chat.send("t", "stop", sender="alice", while_waiting="withdraw")
    assert (sent.status, sent.result) == ("withdrawn", None)
    with pytest.raises(StaleRequestError, match="withdrawn by alice"):
        graph.invoke(Command(resume={request.interrupt_id: {"type": "approve"}}), of("t"))
    graph.invoke(None, of("t"))
    assert asked(chat) == []
    chat.ledger.write(claims.release, "t", other._name)
    assert [status for status, _ in work(chat)] == ["finished"]
    assert conversation(graph, "t")[-1] == "ai: heard stop"
    assert paid(tmp_path) == []


def test_siblings_that_ran_keep_their_results(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    both = json.loads(calls(5, 6)) + json.loads(calls(7, name="note"))
    chat.send("t", json.dumps(both), sender="alice")
    five, six = asked(chat)
    Inbox(chat.ledger).decide(five.id, approve(), reviewer="carol")
    with pytest.raises(AlreadyDecidedError, match="approve by carol"):
        chat.send("t", "stop", sender="alice", while_waiting="withdraw")
    assert [request.id for request in asked(chat)] == [six.id]
    assert chat.queued("t") == []
    assert work(chat) == [("paused", ())]
    sent = chat.send("t", "stop", sender="alice", while_waiting="withdraw")
    assert sent.requests == (six.id,)
    said = conversation(graph, "t")
    assert said[2] == "tool: paid 5"
    assert "did not run" in said[3]
    assert said[4:] == ["tool: noted 7", "human: stop", "ai: heard stop"]
    assert paid(tmp_path) == ["pay 5"]


def test_siblings_in_tasks_of_their_own_keep_their_results(saver: Checkpointer, tmp_path: Path) -> None:
    """As `create_agent` runs calls; LangGraph shows what a finished one wrote, and discards it with new input."""
    graph = agent(saver, tmp_path, sends=True)
    chat = Chat(graph, saver.ledger)
    chat.send("t", json.dumps(json.loads(calls(5)) + json.loads(calls(7, name="note"))), sender="alice")
    sent = chat.send("t", "stop", sender="alice", while_waiting="withdraw")
    assert sent.error is None
    said = conversation(graph, "t")
    assert "did not run" in said[2]
    assert said[3:] == ["tool: noted 7", "human: stop", "ai: heard stop"]


def test_messages_queued_before_come_first(chat: Chat, graph: Graph) -> None:
    chat.send("t", calls(5), sender="alice")
    chat.send("t", "one", sender="bob")
    sent = chat.send("t", "two", sender="alice", while_waiting="withdraw")
    assert sent.result["messages"][-1].content == "heard two"
    assert conversation(graph, "t")[3:] == ["human: one", "ai: heard one", "human: two", "ai: heard two"]


def test_a_call_whose_outcome_is_unknown_stays_unknown(chat: Chat, graph: Graph, tmp_path: Path) -> None:
    chat.send("t", calls(5), sender="alice")
    Inbox(chat.ledger).decide(asked(chat)[0].id, approve(), reviewer="carol")

    def interrupted(eur: int) -> str:
        raise KeyboardInterrupt

    tool: Any = graph.nodes["tools"].bound.tools_by_name["pay"]  # type: ignore[attr-defined]
    before, tool.func = tool.func, interrupted
    with pytest.raises(KeyboardInterrupt):
        Worker(graph, chat.ledger).run_once()
    tool.func = before
    assert work(chat) == [("paused", ())]
    [question] = asked(chat)
    assert question.kind == "question"
    chat.send("t", "go on", sender="alice", while_waiting="withdraw")
    assert "It is not known what became of this call of pay" in conversation(graph, "t")[2]


def test_plain_interrupts_are_withdrawn_too(saver: Checkpointer, tmp_path: Path) -> None:
    graph = plain_agent(saver, tmp_path)
    chat = Chat(graph, saver.ledger, while_waiting="withdraw")
    chat.send("t", calls(5), sender="alice")
    sent = chat.send("t", "stop", sender="alice")
    assert (sent.status, sent.error) == ("withdrawn", None)
    said = conversation(graph, "t")
    assert "It is not known what became of this call of pay" in said[2]
    assert said[-1] == "ai: heard stop"
    chat.send("u", calls(6), sender="alice")
    assert chat.send("u", "yes", sender="alice", while_waiting="answer").status == "answered"
    assert conversation(graph, "u")[2] == "tool: paid 6, for they said yes"


def test_what_happens_to_applications_that_call_the_graph_themselves(chat: Chat, graph: Graph) -> None:
    """As LangGraph has it: what waits is superseded, and the model's API refuses the next turn."""
    chat.send("t", calls(5), sender="alice")
    [request] = asked(chat)
    with pytest.raises(ValueError, match="must be followed by tool messages"):
        graph.invoke({"messages": [("user", "hello?")]}, of("t"))
    stored = Inbox(chat.ledger).get(request.id)
    assert (stored.state, stored.note) == ("superseded", "new input came while it waited")


# --- what becomes of it all ------------------------------------------------------------------------------------------


def test_redaction_and_deletion_drop_what_waits(chat: Chat, graph: Graph, saver: Checkpointer) -> None:
    for thread in ("redacted", "deleted"):
        chat.send(thread, calls(5), sender="alice")
        chat.send(thread, "a secret", sender="alice")
    chat.ledger.redact("redacted", actor="dpo", reason="asked for")
    saver.delete_thread("deleted")
    texts = chat.ledger.read(lambda tx: tx.execute("SELECT message FROM hitl_messages").fetchall())
    assert texts == [(None,), (None,)]
    report = chat.ledger.verify_audit()
    assert report.ok, report.problem
    assert work(chat) == []
    assert chat.send("redacted", "hello", sender="alice").status == "sent"  # its pause holds up nobody


def test_a_stored_message_cannot_be_changed_unseen(chat: Chat, graph: Graph) -> None:
    chat.send("t", calls(5), sender="alice")
    chat.send("t", "pay nothing", sender="alice")
    assert chat.ledger.verify_audit().ok

    def forge(tx: Transaction) -> None:
        tx.execute("UPDATE hitl_messages SET message = replace(message, 'nothing', 'everything')")

    chat.ledger.write(forge)
    report = chat.ledger.verify_audit()
    assert report.problem is not None
    assert "message" in report.problem


def test_with_a_foreign_checkpointer(tmp_path: Path, db_path: str) -> None:
    with open_ledger(db_path) as ledger:
        graph = agent(InMemorySaver(), tmp_path, ledger)
        chat = Chat(graph, ledger)
        chat.send("t", calls(5), sender="alice")
        chat.send("t", "later", sender="alice")
        sent = chat.send("t", "stop", sender="alice", while_waiting="withdraw")
        assert (sent.status, sent.error) == ("withdrawn", None)
        assert conversation(graph, "t")[-4:] == ["human: later", "ai: heard later", "human: stop", "ai: heard stop"]
        chat.send("t", calls(6), sender="alice")
        chat.send("t", "afterwards", sender="alice")
        Inbox(ledger).decide(asked(chat)[0].id, respond("no"), reviewer="carol")
        assert [status for status, _ in work(chat)] == ["finished", "finished"]
        plain = Chat(plain_agent(InMemorySaver(), tmp_path), ledger, while_waiting="withdraw")
        plain.send("p", calls(7), sender="alice")
        with pytest.raises(ChatError, match="foreign checkpointer"):
            plain.send("p", "stop", sender="alice")


# --- many processes --------------------------------------------------------------------------------------------------


def decide_or_withdraw(index: int, barrier: Barrier, path: str, folder: str, threads: list[str]) -> list[str]:
    """Half of the processes decide, half withdraw; what came of it, a thread each."""
    outcomes = []
    with open_checkpointer(path) as saver:
        graph = agent(saver, folder)
        chat, inbox = Chat(graph, saver.ledger, while_waiting="withdraw"), Inbox(saver.ledger)
        for thread in threads:
            [request] = saver.ledger.history(thread)
            barrier.wait(60)
            try:
                if index % 2:
                    inbox.decide(request.id, approve(), reviewer=f"p{index}")
                    Worker(graph, saver.ledger).run_once()
                    outcomes.append("decided")
                else:
                    outcomes.append(chat.send(thread, f"stop {index}", sender=f"p{index}").status)
            except RequestError as exc:
                outcomes.append(type(exc).__name__)
    return outcomes


def test_of_a_decision_and_a_withdrawal_one_counts(db_path: str, tmp_path: Path) -> None:
    threads = [f"t{number}" for number in range(6)]
    with open_checkpointer(db_path) as saver:
        graph = agent(saver, tmp_path)
        chat = Chat(graph, saver.ledger)
        for number, thread in enumerate(threads):
            chat.send(thread, calls(number), sender="alice")
        results = race(4, decide_or_withdraw, db_path, str(tmp_path), threads)
        for _ in range(3):
            work(chat)
        ran = Counter(paid(tmp_path))
        for number, thread in enumerate(threads):
            outcomes = Counter(result[number] for result in results)
            [request] = saver.ledger.history(thread)
            assert outcomes["decided"] + min(outcomes["withdrawn"], 1) == 1, outcomes
            assert request.state == ("delivered" if outcomes["decided"] else "cancelled")
            assert ran[f"pay {number}"] == outcomes["decided"]
            messages = graph.get_state(of(thread)).values["messages"]
            assert len({m.tool_call_id for m in messages if isinstance(m, ToolMessage)}) == 1
            heard = Counter(m.content for m in messages if isinstance(m, HumanMessage))
            assert set(heard.values()) == {1}
            taken = sum(result[number] in ("withdrawn", "sent", "queued") for result in results)
            assert len(heard) == 1 + taken
        assert saver.ledger.verify_audit().ok


def deliver_and_die(report: Report, path: str, folder: str) -> None:
    """Die when all that a step has written is stored, and the step itself is not."""
    with open_checkpointer(path) as saver:
        put = saver.put

        def dying(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
            if metadata["source"] == "loop":
                while not getattr(saver.get_tuple(of("t")), "pending_writes", None):
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            return put(config, checkpoint, metadata, new_versions)

        saver.put = dying  # type: ignore[method-assign]
        report("worked", [result.status for result in Worker(agent(saver, folder), saver.ledger).run_once()])


def test_a_step_that_was_written_and_not_stored_is_gone_on_with(db_path: str, tmp_path: Path) -> None:
    """LangGraph shows such a thread as one at its end, with all that was written; new input would discard it."""
    with open_checkpointer(db_path) as saver:
        graph = agent(saver, tmp_path)
        for text in ("first", "second"):
            queue(saver.ledger, "t", text, sender="alice")
        with child(deliver_and_die, db_path, str(tmp_path)) as process:
            assert process.end() == []
        assert graph.get_state(of("t")).next == ()
        assert [status for status, _ in work(Chat(graph, saver.ledger))] == ["finished", "finished"]
        assert conversation(graph, "t") == ["human: first", "ai: heard first", "human: second", "ai: heard second"]


def talk(report: Report, path: str, folder: str, round: int) -> None:
    """Work, and be killed at the `round`-th write."""
    with open_checkpointer(path) as saver:
        graph, left = agent(saver, folder), round

        def counted(write: Any) -> Any:
            def dying(*args: Any, **kwargs: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(*args, **kwargs)

            return dying

        for name in ("write", "execute", "defer"):
            setattr(saver._database, name, counted(getattr(saver._database, name)))
        report("worked", [result.status for result in Worker(graph, saver.ledger).run_once()])


@pytest.mark.slow
def test_a_killed_worker_neither_loses_nor_doubles_a_message(db_path: str, tmp_path: Path) -> None:
    """It dies at its first write, at its fourth one, and so on, until it comes to the end of its work."""
    kills = 0
    with open_checkpointer(db_path) as saver:
        graph = agent(saver, tmp_path)
        chat = Chat(graph, saver.ledger)
        for number in range(0, 150, 3):
            thread = f"t{number}"
            chat.send(thread, calls(5), sender="alice")
            sent = chat.send(thread, "stop", sender="alice", while_waiting="queue")
            assert saver.ledger.write(_withdraw, thread) == sent.requests
            queue(saver.ledger, thread, "more", sender="alice")
            with child(talk, db_path, str(tmp_path), number) as process:
                told = process.end()
            if told:
                break
            kills += 1
        assert kills > 8
        for _ in range(10):
            if not work(chat):
                break
        for number in range(0, 3 * kills + 1, 3):
            said = [line for line in conversation(graph, f"t{number}") if not line.startswith("ai")][1:]
            assert len(said) == 3, said
            assert "did not run" in said[0]
            assert said[1:] == ["human: stop", "human: more"]
        assert paid(tmp_path) == []
        assert saver.ledger.verify_audit().ok


def _withdraw(tx: Transaction, thread: str) -> tuple[str, ...]:
    from hitl_graph.ledger import requests

    asked = requests.select(tx, "thread_id = ? AND state = 'pending'", (thread,))
    for request in asked:
        requests.close(tx, 0, request, "cancelled", WITHDRAWN)
    return tuple(request.id for request in asked)
