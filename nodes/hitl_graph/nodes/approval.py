"""`ApprovalNode`: a `ToolNode` that asks people before a call runs.

Calls that the policy allows run at once, as in `ToolNode`. As soon as one call of a message has to be asked about,
each call becomes a LangGraph task of its own, so that each is asked, answered and run independently of the others.
Whatever the way, an action runs only through `hitl_graph.effects`, under a permit.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_executor_for_config
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.errors import GraphInterrupt
from langgraph.func import task
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest, ToolInvocationError
from langgraph.runtime import Runtime

from hitl_graph.ledger import Ledger
from hitl_graph.model import Action
from hitl_graph.nodes import replies, together
from hitl_graph.nodes.calls import InputType, Item, Refusing, items_of, part_of, runs_in_a_thread
from hitl_graph.nodes.gate import Gate, Output
from hitl_graph.nodes.wrapping import abound, bound
from hitl_graph.policy import Policy
from hitl_graph.steps import Step, Steps, arun, run
from hitl_graph.wire import BRIDGE, Client, ClientName, client_of

__all__ = ["ApprovalNode"]


class ApprovalNode(ToolNode):
    """Run an agent's tool calls; the risky ones only after a person approved them.

    Put it where `ToolNode(tools)` was. It takes and gives what `ToolNode` does (injected state, store and runtime,
    `Command` results, artifacts, error handling), and pauses with one interrupt for each call that the policy wants
    asked. A rejected or answered call gives the model a `ToolMessage` that says so.

    Args:
        tools: Tools or plain functions, as for `ToolNode`.
        policy: Which calls are allowed, asked about or denied. Without one, every call is asked about.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        client: With what people answer, if not by the inbox: `agent-inbox`, `agent-chat-ui`, `studio`, `ag-ui`,
            `copilotkit` (see the page on clients).
        graph, version: Of the graph, as grants and switches name it. The server's name of the graph, unless given.
        name, tags, handle_tool_errors, messages_key: As for `ToolNode`.
        wrap_tool_call, awrap_tool_call: As for `ToolNode`; they can run the call as it was permitted, or not at all.

    Raises:
        PolicyError: A rule of the policy names none of the tools.
        ValueError: There is no such client.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool | Callable[..., Any]],
        *,
        policy: Policy | None = None,
        ledger: Ledger | None = None,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
        name: str = "tools",
        tags: list[str] | None = None,
        messages_key: str = "messages",
        **options: Any,
    ) -> None:
        self._wraps = False
        for option, bind in (("wrap_tool_call", bound), ("awrap_tool_call", abound)):
            if options.get(option) is not None:
                self._wraps, options[option] = True, bind(options[option])
        super().__init__(tools, name=name, tags=tags, messages_key=messages_key, **options)
        self.policy = policy or Policy()
        self.policy.check(self.tools_by_name)
        self.graph, shown = graph, client_of(client)
        self._gate = Gate(self.policy, ledger, self, type(self).__name__, graph, version, messages_key, client=shown)
        named: Any = task(name=f"{name}_call")
        self._sync_task, self._async_task = named(self._run_task), named(self._arun_task)

    # --- the two colours -----------------------------------------------------------------------------------------

    def _func(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        items, input_type = self._items(input, config, runtime)
        items = run(self._gate.judged(items, config))
        outputs: list[Output] | None = None
        if _is_quiet(items):
            outputs = together.at_once(self._run_together(items, config))
        if outputs is None:
            outputs = run(self._in_tasks(items, config))
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    async def _afunc(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> Any:
        items, input_type = self._items(input, config, runtime)
        items = await arun(self._gate.judged(items, config))
        outputs: list[Output] | None = None
        if _is_quiet(items):
            runs = [arun(self._gate.allowed(item, config, len(items) == 1)) for item in items]
            outputs = together.at_once(await asyncio.gather(*runs, return_exceptions=True))
        if outputs is None:
            outputs = await arun(self._in_tasks(items, config))
        return self._combine_tool_outputs([*self._invalid(input), *outputs], input_type)

    def _run_together(self, items: list[Item], config: RunnableConfig) -> list[Any]:
        def ended(item: Item) -> Any:
            return together.outcome(lambda: run(self._gate.allowed(item, config, len(items) == 1)))

        if len(items) == 1:
            return [ended(items[0])]
        with get_executor_for_config(config) as executor:
            return list(executor.map(ended, items))

    def _run_task(self, item: Item, held: bool) -> Output:
        if held:
            raise GraphInterrupt
        return run(self._gate.gated(item, get_config()))

    async def _arun_task(self, item: Item, held: bool) -> Output:
        if held:
            raise GraphInterrupt
        return await arun(self._gate.gated(item, get_config()))

    # --- in tasks of their own -----------------------------------------------------------------------------------

    def _in_tasks(self, items: list[Item], config: RunnableConfig) -> Steps[list[Output]]:
        """Each call in a task of its own; to a client that does not name what it answers, one pause is shown.

        LangGraph tells the tasks of a node apart by the order in which they are called, so each is called, in the same
        order each time; one that is held pauses without asking anything.
        """
        items = yield from self._gate.remembered(items, config)
        in_turn, pauses, tasks = not self._gate.client.names_interrupt, list[GraphInterrupt](), list[Any]()
        if in_turn:
            try:
                yield from self._gate.ask_together(items, config)
                items = yield from self._gate.remembered(items, config)
            except GraphInterrupt as pause:
                pauses.append(pause)
        is_paused = bool(pauses)
        for item in items:
            waits = in_turn and _may_ask(item)
            tasks.append((yield self._started(item, waits and is_paused)))
            if waits and not is_paused:
                [ended] = yield _ended(tasks[-1:])
                is_paused = isinstance(ended, GraphInterrupt)
        return together.all_of([*(yield _ended(tasks)), *pauses])

    def _started(self, item: Item, held: bool) -> Step:
        async def start() -> list[Any]:  # awaiting it alone would be awaiting its end
            return [self._async_task(item, held)]

        return Step(lambda: [self._sync_task(item, held)], start)

    # --- the calls -----------------------------------------------------------------------------------------------

    def _items(self, input: Any, config: RunnableConfig, runtime: Runtime[Any]) -> tuple[list[Item], InputType]:
        calls, input_type = self._parse_input(input)
        state, tools = self._extract_state(input, config), list(self.tools_by_name.values())
        items = items_of(calls, input_type, state, self._messages_key, config, runtime, tools)
        if not self._wraps:  # a wrapper may bring the tool
            items = [replace(item, refused=item.refused or self._validate_tool_call(item.call)) for item in items]
        return items, input_type

    def _invalid(self, input: Any) -> list[ToolMessage]:
        """Answers to calls whose arguments were not even JSON; without them the model's next turn is refused."""
        state = input if isinstance(input, list) else part_of(input, self._messages_key)
        last = next((m for m in reversed(state or []) if isinstance(m, AIMessage)), None)
        return [replies.not_json(call) for call in (last.invalid_tool_calls if last else []) if call.get("id")]

    # --- the tool ------------------------------------------------------------------------------------------------

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        """The step that runs a tool; for the gate."""
        call = cast(ToolCall, {**item.call, "args": dict(action.args)})
        runtime = replace(item.runtime, config=config)

        def sync() -> Any:
            return self._run_one(call, item.input_type, runtime)

        async def awaited() -> Any:
            return await self._arun_one(call, item.input_type, runtime)

        return Step(sync, awaited, whole=runs_in_a_thread(item.tool))

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> Output:
        """What is wrong with arguments, as `handle_tool_errors` words it; for the gate."""
        refusing: Any = Refusing(error)
        request = ToolCallRequest(item.call, refusing, item.runtime.state, item.runtime)
        return self._execute_tool_sync(request, item.input_type, config)


def _is_quiet(items: list[Item]) -> bool:
    """Whether no person has to be asked, so that all may run at once."""
    return not any(item.verdict and item.verdict.asking for item in items)


def _may_ask(item: Item) -> bool:
    """Whether its task can be expected to pause."""
    return item.answered is None and item.refused is None and (item.verdict is None or item.verdict.outcome != "allow")


def _ended(tasks: Sequence[list[Any]]) -> Step:
    """What became of tasks, or how they failed."""

    async def awaited() -> list[Any]:
        return await asyncio.gather(*(task for [task] in tasks), return_exceptions=True)

    return Step(lambda: [together.outcome(task.result) for [task] in tasks], awaited)
