"""`team_node`: a team of AutoGen as a node of a graph, which pauses where the team would wait for people.

The team runs in a node of its own; what it said and its saved state are in the checkpoint before anybody is asked.
Each question, and each call to be approved, is a task of its own. Then the team goes on from its saved state.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, TypedDict, cast

from autogen_agentchat.base import TaskResult, Team
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    HandoffMessage,
    TextMessage,
    ToolCallExecutionEvent,
    ToolCallSummaryMessage,
)
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.runtime import Runtime
from langgraph.types import Send

from hitl_graph.adapters.autogen.pausing import PutOff, filled
from hitl_graph.adapters.autogen.people import People
from hitl_graph.adapters.autogen.tools import Bridge, running
from hitl_graph.adapters.outside import answer_of, asks
from hitl_graph.errors import HitlError, PolicyError, UnansweredError
from hitl_graph.facts import Inquiry
from hitl_graph.ledger import Ledger
from hitl_graph.model import Action
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import Item, items_of
from hitl_graph.nodes.gate import Gate
from hitl_graph.nodes.terms import on_terms, origin_of, verdict_of
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import Step, Steps, arun, blocking, calling, run

__all__ = ["team_node"]

MakeTeam = Callable[[People], Team]


class _State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    team: dict[str, Any]
    """As the team saves it; with the key `team` in the graph's own state, the team remembers from run to run."""
    hitl_put_off: list[dict[str, Any]]
    hitl_spoke: bool
    hitl_answers: Annotated[dict[str, str], operator.or_]


class _Output(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    team: dict[str, Any]


def team_node(
    make_team: MakeTeam,
    *,
    policy: Policy | None = None,
    rule: Rule | None = None,
    human: str = "user",
    otherwise: str | None = None,
    ledger: Ledger | None = None,
    graph: str | None = None,
    version: str | None = None,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A team of AutoGen as a node, which pauses where it needs people, in any process, for as long as they take.

    `builder.add_node("team", team_node(make_team, policy=policy))`. The team gets what the user said last, and what it
    says becomes messages of the model. It pauses

    - for calls of tools that `people.approved(...)` made, as the policy says;
    - for a `UserProxyAgent` with `input_func=people.ainput`;
    - when it stopped with a `HandoffMessage` to `human` (put `HandoffTermination(human)` into its condition).

    Args:
        make_team: Makes the team, the same each time, from the `People` that it is given. `people.pause` has to be in
            its termination condition, combined with `|`, so that it stops where it has to wait.
        policy: Which calls are allowed, asked about or denied. Without one, every call is asked about.
        rule: Who answers questions, and by when.
        human: Whom handoffs to a person name.
        otherwise: What agents are told where nobody answered in time, or somebody declined. None: that they did not.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        graph, version: Of the graph, as grants and switches name them.

    Raises:
        PolicyError: `rule` says something else than who answers, and by when.
    """
    node = _Node(make_team, policy or Policy(), rule, human, otherwise, ledger, (graph, version))
    builder = StateGraph(_State, output_schema=_Output)
    builder.add_node("run", _both(node.run))
    builder.add_node("call", _both(node.call))
    builder.add_node("ask", _both(node.ask))
    builder.add_edge(START, "run")
    builder.add_conditional_edges("run", _next, ["call", "ask", END])
    builder.add_edge("call", "run")
    builder.add_edge("ask", "run")
    return builder.compile()


class _Node:
    """The parts of the subgraph."""

    def __init__(
        self,
        make_team: MakeTeam,
        policy: Policy,
        rule: Rule | None,
        human: str,
        otherwise: str | None,
        ledger: Ledger | None,
        names: tuple[str | None, str | None],
    ) -> None:
        self._make, self._policy, self._human = make_team, policy, human
        self._otherwise, self._ledger, self._names = otherwise, ledger, names
        self._verdict = verdict_of(rule, "the team asks", PolicyError)
        self._gate = Gate(policy, ledger, _Runner(), "team_node", *names)

    # --- the team ------------------------------------------------------------------------------------------------

    def run(self, state: _State, config: RunnableConfig) -> Steps[dict[str, Any]]:
        asker = Asker.of(config, self._ledger, "team_node")
        people = People(
            asker.ledger, asker.thread_id, policy=self._policy, graph=self._names[0], version=self._names[1]
        )
        people.pause.begin(asker.namespace)
        update: dict[str, Any] = yield calling(self._run_team, people, state)
        return update

    async def _run_team(self, people: People, state: _State) -> dict[str, Any]:
        team = self._make(people)
        people.check()
        saved, before = state.get("team"), [PutOff(**one) for one in state.get("hitl_put_off") or ()]
        task = _task(before, state, self._human)
        if saved:
            if before and not state.get("hitl_spoke"):
                saved = filled(saved, {one.placeholder: _answer(state, one) for one in before if one.placeholder})
            await team.load_state(saved)
        said: list[BaseAgentEvent | BaseChatMessage] = []
        async for message in team.run_stream(task=task, output_task_messages=False):
            if not isinstance(message, TaskResult):
                said.append(message)
        put_off = people.pause.put_off
        if put_off and not people.pause.stopped:
            raise HitlError(
                "the team did not stop where it has to wait for people: put people.pause into its termination"
                " condition, as in TextMentionTermination('DONE') | people.pause. Nothing ran without approval"
            )
        last = next((m for m in reversed(said) if isinstance(m, BaseChatMessage)), None)
        if isinstance(last, HandoffMessage) and last.target == self._human:
            put_off = [*put_off, PutOff(last.id, "handoff", "", question=last.content, source=last.source)]
        words = [one for message in said if (one := _word(message, put_off)) is not None]
        return {
            "messages": [*_heard(before, state, self._human), *words],
            "team": await team.save_state(),
            "hitl_put_off": [one.plain() for one in put_off],
            "hitl_spoke": _spoke(said, put_off),
        }

    # --- people --------------------------------------------------------------------------------------------------

    def call(self, one: dict[str, Any], config: RunnableConfig) -> Steps[dict[str, Any]]:
        what = PutOff(**one)
        bridge = self._bridge(what.name, Asker.of(config, self._ledger, "team_node"))
        call: Any = {"name": what.name, "args": what.args, "id": what.call_id, "type": "tool_call"}
        runtime: Any = Runtime()
        [item] = items_of([call], "tool_calls", {}, "messages", config, runtime, [bridge])
        item = replace(item, key=what.key)
        [item] = yield from self._gate.judged([item], config)
        [item] = yield from self._gate.remembered([item], config)
        told = yield from self._gate.gated(item, config)
        return {"hitl_answers": {what.id: cast(ToolMessage, told).text}}

    def _bridge(self, name: str, asker: Asker) -> Bridge:
        people = People(asker.ledger, asker.thread_id, policy=self._policy)
        self._make(people)
        if name not in people.bridges:
            raise HitlError(f"the team has no approved tool {name!r} any more; thread {asker.thread_id} waits for it")
        return people.bridges[name]

    def ask(self, one: dict[str, Any], config: RunnableConfig) -> Steps[dict[str, Any]]:
        what, asker = PutOff(**one), Asker.of(config, self._ledger, "team_node")
        where = partial(origin_of, asker, graph=self._names[0], version=self._names[1])
        described = asks(asker, Inquiry(question=what.question), what.id)
        request, decision = yield blocking(asker.ask, 0, on_terms(described, asker, self._verdict, where))
        yield blocking(asker.delivered, request.id)
        try:
            answer = answer_of(request, decision)
        except UnansweredError as exc:
            answer = self._otherwise or f"There is no answer: {exc.args[1]}"
        return {"hitl_answers": {what.id: answer}}


class _Runner:
    """Runs an approved call in the node, outside of the team."""

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        """The step; for the gate."""
        return running(cast(Bridge, item.tool), action)

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> ToolMessage:
        """What is wrong with arguments; for the gate."""
        return ToolMessage(str(error), name=item.call["name"], tool_call_id=item.call["id"] or "", status="error")


def _next(state: _State) -> list[Send] | str:
    put_off = state.get("hitl_put_off") or []
    return [Send("call" if one["kind"] == "call" else "ask", one) for one in put_off] or END


def _both(steps: Callable[[Any, RunnableConfig], Steps[dict[str, Any]]]) -> Runnable[Any, dict[str, Any]]:
    def sync(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return run(steps(state, config))

    async def awaited(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return await arun(steps(state, config))

    return RunnableLambda(sync, awaited)


def _answer(state: _State, one: PutOff) -> str:
    return (state.get("hitl_answers") or {})[one.id]


def _task(before: list[PutOff], state: _State, human: str) -> list[BaseChatMessage] | None:
    """What the team is given: what people said, or nothing where it only goes on."""
    if not before:
        spoken = list[AnyMessage]()
        for message in reversed(state.get("messages") or []):
            if not isinstance(message, HumanMessage):
                break
            spoken.insert(0, message)
        return [TextMessage(content=message.text, source=human) for message in spoken] or None
    if (handed := before[-1]).kind == "handoff":
        return [HandoffMessage(content=_answer(state, handed), target=handed.source, source=human)]
    if state.get("hitl_spoke"):
        return [TextMessage(content=f"{one.placeholder}\n{_answer(state, one)}", source=human) for one in before]
    return None


def _heard(before: list[PutOff], state: _State, human: str) -> list[AnyMessage]:
    """What people answered, for the conversation of the graph."""
    return [
        HumanMessage(_answer(state, one), name=human, id=f"answer-{one.id}") for one in before if one.kind != "call"
    ]


def _word(message: BaseAgentEvent | BaseChatMessage, put_off: list[PutOff]) -> AnyMessage | None:
    """What an agent said, for the conversation of the graph; None where it only waits."""
    if not isinstance(message, BaseChatMessage) or any(
        one.placeholder and one.placeholder in message.to_text() for one in put_off
    ):
        return None
    return AIMessage(message.to_text(), name=message.source, id=message.id)


def _spoke(said: Sequence[BaseAgentEvent | BaseChatMessage], put_off: list[PutOff]) -> bool:
    """Whether an agent went on speaking after it was told to wait: then the answer cannot have been there before."""
    waits = False
    for message in said:
        if any(one.placeholder and one.placeholder in message.to_text() for one in put_off):
            waits = True
        elif waits and not isinstance(message, ToolCallExecutionEvent | ToolCallSummaryMessage | HandoffMessage):
            return True
    return False
