"""LangGraph's functional API: functions whose calls people approve, and questions in the middle of a function.

Each call and each question is a LangGraph task of its own. So what came of it is kept while the function around it runs
again and again, one at each resume, and several of them are asked, answered and carried out independently.
"""

import asyncio
import hashlib
import inspect
import json
from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, cast, overload

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.config import get_config
from langgraph.func import _TaskFunction, task
from langgraph.prebuilt import ToolRuntime
from langgraph.prebuilt.tool_node import ToolInvocationError
from langgraph.pregel import Pregel
from langgraph.runtime import get_runtime
from pydantic import TypeAdapter

from hitl_graph.effects import idempotent as declared_idempotent
from hitl_graph.errors import ArgumentsError, PolicyError, RejectedError
from hitl_graph.ledger import Ledger, requests
from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Action, Request, canonical
from hitl_graph.nodes.arguments import Arguments
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import Item
from hitl_graph.nodes.gate import Gate
from hitl_graph.nodes.human import AskHuman, ask_human
from hitl_graph.nodes.siblings import started, waited
from hitl_graph.nodes.terms import origin_of
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import Step, Steps, arun, blocking, calling, run

__all__ = ["aask", "ask", "requires_approval"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
P = ParamSpec("P")
_NOTHING: Any = object()
_REJECTED = "hitl_rejected"
"""In place of a result, where LangGraph keeps and streams what a task gave: no name of a reviewer is in it."""


# --- calls that people approve ---------------------------------------------------------------------------------------


@overload
def requires_approval(policy: F, /) -> F: ...
@overload
def requires_approval(
    policy: Policy | None = None,
    *,
    name: str | None = None,
    ledger: Ledger | None = None,
    graph: str | None = None,
    version: str | None = None,
    idempotent: bool = False,
    on_reject: Callable[[RejectedError], Any] | None = None,
) -> Callable[[F], F]: ...
def requires_approval(policy: Any = None, **options: Any) -> Any:
    """Put the calls of a function to people before they run, as `ApprovalNode` does with the calls of a model.

    For plain functions, coroutines and `@task`s, called in an `@entrypoint`, in a task or in a node of a graph. It is
    called as before: a function gives its result, a coroutine is awaited, a task gives a future. The arguments are
    those of the action; they and the defaults have to be JSON, or of annotated types that pydantic brings there and
    back. Parameters for what LangGraph gives (`RunnableConfig`, `Runtime`, `StreamWriter`, `BaseStore`) are none.

    A call of which people approve runs as they were shown it, or as they edited it. Where somebody responds instead,
    their text, or value, is its result. It runs at most once; if nobody can know whether it did, people are asked.

    Args:
        policy: Which calls are allowed, asked about or denied. Without one, every call is asked about.
        name: Of the action; default: the function's.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        graph: Its name for grants and switches. The server's name of the graph, unless given.
        version: Of the graph, for grants.
        idempotent: Running it twice does no more than running it once: it is tried again instead of asking.
        on_reject: Gives the result of a call that was refused, in place of the RejectedError. May be a coroutine.

    Raises:
        PolicyError: It is nothing whose calls can be put to people.
        RejectedError: (Of the call.) A person, a deadline, the policy or a switch refused it; it did not run.
        ArgumentsError: (Of the call.) The arguments are not JSON; nobody was asked.
        PermitError: (Of the call.) No graph runs here.
        LedgerMissingError: (Of the call.) There is nowhere to record it.
    """
    if policy is None or isinstance(policy, Policy):
        return partial(_gated, policy=policy or Policy(), **options)
    if options or not (callable(policy) or isinstance(policy, BaseTool | Pregel)):
        raise PolicyError(f"requires_approval(policy): {policy!r:.80} is no Policy")
    return _gated(policy, policy=Policy())


def _gated(function: Any, *, policy: Policy, name: str | None = None, **options: Any) -> Any:
    of_task, plain = isinstance(function, _TaskFunction), function
    more: dict[str, Any] = {}
    if isinstance(function, _TaskFunction):
        plain, more = function.func, {"retry_policy": function.retry_policy or None, "timeout": function.timeout}
        if function.cache_policy is not None:
            raise PolicyError("a task with a cache_policy gives old results unasked; requires_approval() takes none")
    if isinstance(plain, BaseTool):
        raise PolicyError(f"{plain.name} is a tool: give it to an ApprovalNode, or decorate the function that it calls")
    if isinstance(plain, Pregel) or not callable(plain) or inspect.isclass(plain):
        raise PolicyError(f"requires_approval() is for functions and tasks, not for {plain!r:.80}")
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise PolicyError(f"{plain!r:.80} is a generator: what it has done by the time it pauses cannot be undone")
    gated = _Gated(plain, name or str(getattr(plain, "__name__", type(plain).__name__)), policy, **options)
    return gated.callable(of_task, more)


class _Gated:
    """A function behind a gate."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        policy: Policy,
        *,
        ledger: Ledger | None = None,
        graph: str | None = None,
        version: str | None = None,
        idempotent: bool = False,
        on_reject: Callable[[RejectedError], Any] | None = None,
    ) -> None:
        self.function, self.name, self.on_reject = function, name, on_reject
        self.is_async = inspect.iscoroutinefunction(function)
        self.arguments = Arguments(function, name)
        described = inspect.getdoc(function) or name
        self.tool = StructuredTool(
            name=name,
            description=described,
            args_schema=self.arguments.model,
            func=None if self.is_async else function,
            coroutine=function if self.is_async else None,
        )
        if idempotent:
            declared_idempotent(self.tool)
        self.gate = Gate(policy, ledger, self, owner=name, graph=graph, version=version, edited=lambda _: None)

    def callable(self, of_task: bool, options: dict[str, Any]) -> Any:
        """What takes the place of the function."""

        def sync(**args: Any) -> Any:
            return run(self._passed(args, get_config()))

        async def awaited(**args: Any) -> Any:
            return await arun(self._passed(args, get_config()))

        named: Any = task(name=self.name, **options)
        passed = named(awaited if self.is_async else sync)

        def start(*args: Any, **kwargs: Any) -> Any:
            return started(passed, self.name, self.arguments.plain(args, kwargs), _result)

        def call(*args: Any, **kwargs: Any) -> Any:
            plain = self.arguments.plain(args, kwargs)
            return waited(passed, self.name, plain, _result, instead="make it a coroutine")

        async def acall(*args: Any, **kwargs: Any) -> Any:
            return await start(*args, **kwargs)

        return update_wrapper(start if of_task else acall if self.is_async else call, self.function)

    def _passed(self, args: dict[str, Any], config: RunnableConfig) -> Steps[Any]:
        asker, action = self.gate.asker(config), Action(name=self.name, args=args)
        item = Item(
            call=ToolCall(name=self.name, args=args, id=None),
            action=action,
            key=_key(asker, "call", action.digest),
            runtime=_runtime(config),
            input_type="tool_calls",
            tool=self.tool,
        )
        [item] = yield from self.gate.judged([item], config)
        [item] = yield from self.gate.remembered([item], config)
        output: Any = yield from self.gate.gated(item, config)
        if isinstance(output, dict):
            return output["result"]
        told = cast(ToolMessage, output)
        asked: dict[str, list[Request]] = yield blocking(asker.ledger.read, requests.for_actions, [item.key])
        last = next((request for request in reversed(asked[item.key]) if request.decision is not None), None)
        decision = last.decision if last else None
        if told.status == "success" and decision is not None:
            return decision.message if decision.value is None else decision.value
        error = _refused(self.name, told, last)
        if self.on_reject is None:
            return {_REJECTED: list(error.args)}
        return (yield calling(self.on_reject, error))

    def running(self, item: Item, action: Action, config: RunnableConfig) -> Step:
        """The step that runs the function; for the gate."""
        bound = self.arguments.bound(action.args)

        def sync() -> Any:
            return {"result": self.function(*bound.args, **bound.kwargs)}

        async def awaited() -> Any:
            return {"result": await self.function(*bound.args, **bound.kwargs)}

        return Step(sync, awaited if self.is_async else None)

    def unfit(self, item: Item, error: ToolInvocationError, config: RunnableConfig) -> NoReturn:
        """Of what the function would refuse; for the gate."""
        raise ArgumentsError(f"{self.name}: {error}")


# --- questions -------------------------------------------------------------------------------------------------------


@overload
def ask(
    question: str, *, answer: type[T], why: str = "", default: T = ..., rule: Rule | None = None,
    ledger: Ledger | None = None,
) -> T: ...  # fmt: skip
@overload
def ask(
    question: str, *, options: list[str] | None = None, free_text: bool = False, answer: Any = None, why: str = "",
    default: Any = ..., rule: Rule | None = None, ledger: Ledger | None = None,
) -> Any: ...  # fmt: skip
def ask(question: str, **how: Any) -> Any:
    """Ask a person in the middle of an `@entrypoint`, a task or a node, and wait for the answer.

    It is a LangGraph task of its own and a request of kind `question`: `respond` answers it, `reject` declines.

    Args:
        question: Complete in itself.
        options: The answers to choose from.
        free_text: Whether another answer than the options is welcome, too.
        answer: What the answer has to be: a pydantic model, or any type that pydantic can check. Without one, a text.
        why: Why it is asked, and what depends on it.
        default: Given if nobody answers in time, or if the question is declined.
        rule: Who answers, and by when: `Rule("*", "ask", reviewers=["role:support"], deadline=timedelta(hours=4))`.
        ledger: Where to record it. Not needed with a checkpointer of this library.

    Raises:
        RejectedError: It was declined, or not answered in time, and there is no default.
        PolicyError: The rule says something else.
        PermitError: No graph runs here.
        LedgerMissingError: There is nowhere to record it.
    """
    asked = _Question(question, **how)
    return waited(asked.task(wait=False), "ask", asked.shown, asked.typed, instead="await aask()")


@overload
async def aask(
    question: str, *, answer: type[T], why: str = "", default: T = ..., rule: Rule | None = None,
    ledger: Ledger | None = None,
) -> T: ...  # fmt: skip
@overload
async def aask(
    question: str, *, options: list[str] | None = None, free_text: bool = False, answer: Any = None, why: str = "",
    default: Any = ..., rule: Rule | None = None, ledger: Ledger | None = None,
) -> Any: ...  # fmt: skip
async def aask(question: str, **how: Any) -> Any:
    """As `ask`, in a coroutine; with `asyncio.gather` several are asked at once."""
    asked = _Question(question, **how)
    return await cast("asyncio.Future[Any]", started(asked.task(wait=True), "ask", asked.shown, asked.typed))


class _Question:
    """A question of a function."""

    def __init__(
        self, question: str, *, options: list[str] | None = None, free_text: bool = False, answer: Any = None,
        why: str = "", default: Any = _NOTHING, rule: Rule | None = None, ledger: Ledger | None = None,
    ) -> None:  # fmt: skip
        if answer is not None and options is not None:
            raise PolicyError("ask() takes options, or a type for the answer; for both: answer=Literal['a', 'b']")
        self.human: AskHuman = ask_human(answer=answer, name="ask", ledger=ledger, rule=rule)
        self.adapter: TypeAdapter[Any] | None = None if answer is None else TypeAdapter(answer)
        self.default = default
        self.shown = {"question": question, "why": why, "options": options, "free_text": free_text}
        self.ledger = ledger

    def task(self, *, wait: bool) -> Any:
        """What asks, as a task."""

        def asked(**_: Any) -> Any:
            return run(self._answered(get_config()))

        async def aasked(**_: Any) -> Any:
            return await arun(self._answered(get_config()))

        named: Any = task(name="ask")
        return named(aasked if wait else asked)

    def _answered(self, config: RunnableConfig) -> Steps[Any]:
        asker = Asker.of(config, self.ledger, "ask()")
        call = ToolCall(name="ask", args=self.shown, id=None)
        key, origin = (
            _key(asker, "question", canonical(self.shown)),
            partial(origin_of, asker, graph=None, version=None),
        )
        number = 0
        while True:
            verdict = self.human.judged(self.human._verdict)
            request, decision = yield from self.human.answered(asker, call, key, verdict, origin, number)
            if request.action_key == key:
                break
            number += 1  # the function asked something else here before
        if decision.type == "respond":
            return decision.message if decision.value is None else decision.value
        how = "was not answered in time" if request.channel == CHANNEL else "was declined"
        told = f"the question {self.shown['question']!r} {how}" + (f": {decision.message}" if decision.message else "")
        return {_REJECTED: [told, decision.message or "", None, request.id]}

    def typed(self, outcome: Any) -> Any:
        if _is_rejected(outcome) and self.default is not _NOTHING:
            return self.default
        answer = _result(outcome)
        return answer if self.adapter is None else self.adapter.validate_python(answer)


# --- both ------------------------------------------------------------------------------------------------------------


def _refused(name: str, told: ToolMessage, last: Request | None) -> RejectedError:
    """What the caller is told of a call that did not run.

    Args:
        told: What a model would be told.
        last: The last question about it that was answered.
    """
    if last is None or last.decision is None or last.decision.type != "reject":
        return RejectedError(told.text, told.text, name)
    said = last.decision.message or ""
    how = f"a person rejected this call of {name}; it did not run" + (f": {said}" if said else "")
    if last.kind != "approval" or last.channel == CHANNEL:
        how = told.text
    return RejectedError(how, said, name, last.id)


def _result(outcome: Any) -> Any:
    if _is_rejected(outcome):
        raise RejectedError(*outcome[_REJECTED])
    return outcome


def _is_rejected(outcome: Any) -> bool:
    return isinstance(outcome, dict) and outcome.keys() == {_REJECTED}


def _key(asker: Asker, kind: Literal["call", "question"], signature: str) -> str:
    """Names a call by its place: its task is the same in every execution and process, another one for every other."""
    identity = json.dumps([asker.thread_id, kind, asker.namespace, signature])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _runtime(config: RunnableConfig) -> ToolRuntime[Any, Any]:
    runtime: Any = get_runtime()
    return ToolRuntime(
        state=None,
        context=runtime.context,
        config=config,
        stream_writer=runtime.stream_writer,
        tool_call_id=None,
        store=runtime.store,
    )
