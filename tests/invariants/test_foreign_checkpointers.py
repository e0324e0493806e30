"""Questions that are not ours on our checkpointer, and our node beside checkpointers that are not ours."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from hitl_graph.errors import InvalidDecisionError, StaleRequestError
from hitl_graph.inbox import Inbox
from hitl_graph.ledger import Ledger
from hitl_graph.model import approve, edit, reject, respond
from hitl_graph.worker import Worker
from tests.databases import open_checkpointer, open_ledger
from tests.invariants.agents import build, config_of, pay_call, ran, said, write_effect
from tests.invariants.scenes import ALICE, AnyGraph, Scene

# --- a plain interrupt() --------------------------------------------------------------------------------------------


Mode = Literal["batched", "per_call"]


class Answers(TypedDict, total=False):
    given: list[Any]


class Age(BaseModel):
    years: int


def asks(scene: Scene, *questions: Any, schema: Any = None) -> AnyGraph:
    """A graph whose node asks each question with `interrupt()`."""

    def node(state: Answers) -> Answers:
        return {"given": [interrupt(question, response_schema=schema) for question in questions]}

    builder = StateGraph(Answers)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=scene.checkpointer)


def given(graph: AnyGraph) -> Any:
    return graph.get_state(config_of("t")).values.get("given")


@pytest.mark.parametrize("answer", ["Bob", {"name": "Bob"}, ["Bob"], 7, 0, False, ""])
def test_a_plain_question_shows_up_in_the_inbox_and_takes_any_answer(own_scene: Scene, answer: Any) -> None:
    scene = own_scene
    graph = asks(scene, {"who": "pays?"})
    scene.go(graph, {"given": []})
    request = scene.the_one()
    assert (request.kind, request.question, request.allowed) == ("question", {"who": "pays?"}, ("respond",))
    with pytest.raises(InvalidDecisionError, match="approve is not offered; it takes respond"):
        scene.decide(request, approve())
    scene.decide(request, respond(answer))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert given(graph) == [answer]
    assert scene.states() == ["delivered"]


def test_two_plain_questions_of_one_node_get_each_their_own_answer(own_scene: Scene) -> None:
    scene = own_scene
    graph = asks(scene, "first?", "second?")
    scene.go(graph, {"given": []})
    first = scene.the_one()
    scene.decide(first, respond("one"))
    assert [result.status for result in scene.work(graph)] == ["paused"]
    with pytest.raises(Exception, match="already decided"):
        scene.inbox.decide(first.id, respond("again"), reviewer="bob")
    scene.work(graph)
    assert scene.the_one().question == "second?"
    scene.decide(scene.the_one(), respond("two"))
    scene.work(graph)
    assert given(graph) == ["one", "two"]


def test_an_answer_that_breaks_the_published_schema_is_refused_before_it_is_recorded(own_scene: Scene) -> None:
    scene = own_scene
    graph = asks(scene, "how old?", schema=Age)
    scene.go(graph, {"given": []})
    for wrong in (respond("old"), respond({"years": "old"}), respond({})):
        with pytest.raises(InvalidDecisionError, match="the answer does not fit"):
            scene.decide(scene.the_one(), wrong)
    scene.decide(scene.the_one(), respond({"years": 7}))
    assert [result.status for result in scene.work(graph)] == ["finished"]


@pytest.mark.parametrize("question", [float("nan"), {"x": float("inf")}, "\ud800", {1: 2}, Path("x"), [[[None]]]])
def test_a_question_that_is_not_json_is_still_asked(own_scene: Scene, question: Any) -> None:
    scene = own_scene
    try:
        scene.checkpointer.serde.dumps_typed(question)
    except Exception:
        pytest.skip("LangGraph itself cannot store it")
    graph = asks(scene, question)
    scene.go(graph, {"given": []})
    scene.decide(scene.the_one(), respond("fine"))
    scene.work(graph)
    assert given(graph) == ["fine"]


@pytest.mark.parametrize(
    "lookalike",
    [
        {"type": "tool_approval", "name": "pay", "args": {"eur": float("nan")}},
        {"type": "tool_approval"},
        {"action_requests": [], "review_configs": []},
        {"action_requests": "pay", "review_configs": None},
        {"hitl": {"request": {"id": "x"}, "digest": "y"}},
        {"hitl": 1},
    ],
    ids=str,
)
def test_what_only_looks_like_a_known_question_is_asked_as_a_plain_one(own_scene: Scene, lookalike: Any) -> None:
    scene = own_scene
    graph = asks(scene, lookalike)
    scene.go(graph, {"given": []})
    assert scene.the_one().answer_shape == "raw"
    scene.decide(scene.the_one(), respond("fine"))
    scene.work(graph)
    assert given(graph) == ["fine"]


# --- LangChain's middleware -----------------------------------------------------------------------------------------


class Model(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self


def middleware_agent(
    scene: Scene, calls: list[dict[str, Any]], mode: Literal["batched", "per_call"], config: Any
) -> Any:
    @tool
    def pay(eur: int, to: str = "bob") -> str:
        """Send money."""
        write_effect(scene.effects, f"t x pay {eur} {to}")
        return f"paid {eur}"

    @tool
    def refund(eur: int) -> str:
        """Take money back."""
        write_effect(scene.effects, f"t x refund {eur}")
        return f"refunded {eur}"

    model = Model(messages=iter([AIMessage("", tool_calls=calls), AIMessage("done")]))
    middleware: Any = HumanInTheLoopMiddleware(interrupt_on=config, interrupt_mode=mode)
    return create_agent(model, [pay, refund], middleware=[middleware], checkpointer=scene.checkpointer)


@pytest.mark.parametrize("mode", ["batched", "per_call"])
@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (approve(), ["pay 1 bob"]),
        (edit({"eur": 7, "to": "eve"}), ["pay 7 eve"]),
        (reject("too much"), []),
        (respond("later"), []),
    ],
)
def test_the_middleware_is_answered_through_inbox_and_worker(
    own_scene: Scene, mode: Mode, decision: Any, expected: list[str]
) -> None:
    scene = own_scene
    graph = middleware_agent(scene, [pay_call(1)], mode, {"pay": True})
    request = scene.start(graph, [])[0]
    assert request.action is not None
    assert (request.action.name, request.action.args) == ("pay", {"eur": 1, "to": "bob"})
    scene.decide(request, decision)
    [result] = scene.work(graph)
    assert (result.status, result.error) == ("finished", None)
    assert scene.ran() == expected
    assert scene.states() == ["delivered"]


@pytest.mark.parametrize(("decision", "expected"), [(approve(), ["pay 1 bob", "pay 2 bob"]), (reject("no"), [])])
def test_a_batch_takes_one_answer_for_all_and_never_too_few(
    own_scene: Scene, decision: Any, expected: list[str]
) -> None:
    """One decision short, and LangChain's middleware has poisoned the thread for good."""
    scene = own_scene
    graph = middleware_agent(scene, [pay_call(1), pay_call(2)], "batched", {"pay": True})
    request = scene.start(graph, [])[0]
    assert request.allowed == ("approve", "reject")
    scene.decide(request, decision)
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert sorted(scene.ran()) == expected


def test_a_batch_without_a_common_answer_can_be_answered_in_full(own_scene: Scene) -> None:
    scene = own_scene
    config = {"pay": {"allowed_decisions": ["approve"]}, "refund": {"allowed_decisions": ["reject"]}}
    calls = [pay_call(1), {"name": "refund", "args": {"eur": 2}, "id": "refund-2"}]
    graph = middleware_agent(scene, calls, "batched", config)
    request = scene.start(graph, [])[0]
    assert request.allowed == ("respond",)
    scene.decide(request, respond({"decisions": [{"type": "approve"}, {"type": "reject", "message": "no"}]}))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 1 bob"]


def test_calls_asked_one_by_one_are_answered_one_by_one(own_scene: Scene) -> None:
    scene = own_scene
    graph = middleware_agent(scene, [pay_call(1), pay_call(2)], "per_call", {"pay": True})
    one, two = scene.start(graph, [])
    scene.decide(one, approve())
    assert [result.status for result in scene.work(graph)] == ["paused"]
    scene.decide(two, reject("no"))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert len(scene.ran()) == 1


def test_the_middleware_gets_no_answer_that_it_would_choke_on(own_scene: Scene) -> None:
    scene = own_scene
    config = {"pay": {"allowed_decisions": ["edit", "reject"]}}
    graph = middleware_agent(scene, [pay_call(1)], "per_call", config)
    request = scene.start(graph, [])[0]
    assert request.allowed == ("edit", "reject")
    for wrong, problem in (
        (approve(), "approve is not offered; it takes edit, reject"),
        (edit({"eur": "seven"}), "eur: Input should be a valid integer"),
        (edit({"to": "eve"}), "eur: Field required"),
    ):
        with pytest.raises(InvalidDecisionError, match=problem):
            scene.decide(request, wrong)
    scene.decide(request, edit({"eur": "7"}))
    assert [result.status for result in scene.work(graph)] == ["finished"]
    assert scene.ran() == ["pay 7 bob"]


# --- our node beside the official savers ----------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path / "ledger.db") as opened:
        yield opened
        assert opened.verify_audit().ok


def test_beside_the_official_sqlite_saver_a_decision_runs_once(tmp_path: Path, ledger: Ledger) -> None:
    effects, inbox = tmp_path / "effects", Inbox(ledger)
    with SqliteSaver.from_conn_string(str(tmp_path / "official.db")) as saver:
        graph = build(saver, effects, ledger=ledger)
        graph.invoke(said([[pay_call(1), pay_call(2)], [pay_call(3)]]), config_of("t"))
    with SqliteSaver.from_conn_string(str(tmp_path / "official.db")) as saver:
        graph = build(saver, effects, ledger=ledger)
        worker = Worker(graph, ledger)
        for answer in (approve(), reject("no"), edit({"eur": 30, "to": "eve"})):
            [request, *_] = sorted(inbox.pending(), key=lambda request: str(request.action))
            inbox.decide(request.id, answer, reviewer=ALICE)
            [result] = worker.run_once()
            assert result.error is None
        assert graph.get_state(config_of("t")).next == ()
    assert ran(effects) == ["t pay-1 pay 1 bob", "t pay-3 pay 30 eve"]
    assert [request.state for request in ledger.history("t")] == ["delivered"] * 3


def test_beside_the_official_async_saver_too(tmp_path: Path, ledger: Ledger) -> None:
    effects, inbox = tmp_path / "effects", Inbox(ledger)

    async def scenario() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "official.db")) as saver:
            graph = build(saver, effects, ledger=ledger)
            await graph.ainvoke(said([[pay_call(1)], [pay_call(2)]]), config_of("t"))
            for _ in range(2):
                [request] = await inbox.apending()
                await inbox.adecide(request.id, approve(), reviewer=ALICE)
                await Worker(graph, ledger).arun_once()

    asyncio.run(scenario())
    assert ran(effects) == ["t pay-1 pay 1 bob", "t pay-2 pay 2 bob"]


def test_a_decision_in_another_ledger_than_the_node_s_runs_nothing(tmp_path: Path, ledger: Ledger) -> None:
    """Our checkpointer indexes what it sees, but the node was told to look elsewhere."""
    effects = tmp_path / "effects"
    with open_checkpointer(str(tmp_path / "agent.db")) as checkpointer:
        graph = build(checkpointer, effects, ledger=ledger)
        graph.invoke(said([pay_call(1)]), config_of("t"))
        [copy] = Inbox(checkpointer.ledger).pending()
        Inbox(checkpointer.ledger).decide(copy.id, approve(), reviewer=ALICE)
        [result] = Worker(graph, checkpointer.ledger).run_once()
        assert result.status == "failed"
        assert "nobody decided it yet" in str(result.error)
        assert ran(effects) == []
        Inbox(ledger).decide(copy.id, approve(), reviewer=ALICE)
        assert [result.status for result in Worker(graph, ledger).run_once()] == ["finished"]
        assert ran(effects) == ["t pay-1 pay 1 bob"]


def test_a_question_of_a_superseded_pause_is_closed_when_it_is_asked_anew(tmp_path: Path, ledger: Ledger) -> None:
    effects, inbox = tmp_path / "effects", Inbox(ledger)
    with SqliteSaver.from_conn_string(str(tmp_path / "official.db")) as saver:
        graph = build(saver, effects, ledger=ledger)
        graph.invoke(said([pay_call(1)]), config_of("t"))
        [old] = inbox.pending()
        graph.update_state(config_of("t"), {"messages": []})
        graph.invoke(None, config_of("t"))
        [new] = inbox.pending()
        assert new.id != old.id
        with pytest.raises(StaleRequestError, match="superseded"):
            inbox.decide(old.id, approve(), reviewer=ALICE)
        graph.invoke(Command(resume={new.interrupt_id: {"type": "approve"}}), config_of("t"))
    assert ran(effects) == ["t pay-1 pay 1 bob"]
