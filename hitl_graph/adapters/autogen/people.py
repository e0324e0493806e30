"""`People`: whom AutoGen agents ask, and who approve what they do."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from autogen_agentchat.agents import ApprovalRequest, ApprovalResponse, UserProxyAgent
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, FunctionTool
from langchain_core.messages import ToolMessage

from hitl_graph.adapters.autogen.pausing import Pause
from hitl_graph.adapters.autogen.tools import ApprovedTool, Bridge, linked, running
from hitl_graph.adapters.outside import Outside
from hitl_graph.errors import PolicyError, UnansweredError
from hitl_graph.ledger import Ledger
from hitl_graph.model import Action
from hitl_graph.policy import Policy, Rule
from hitl_graph.steps import Step, Steps, arun, run

__all__ = ["People"]

AnyTool = BaseTool[Any, Any] | Callable[..., Any]
_LET_RUN = "let run"


class People:
    """Puts the questions of AutoGen agents, and their calls of risky tools, into the ledger and its inbox.

    One for each conversation. Agents that run by themselves wait for the answer; a team inside of a `team_node`, which
    makes its own, stops instead.

    Args:
        ledger: Or the file or URL of its database.
        thread_id: Names the conversation. A process that goes on with it gives the same, and finds what is open in it.
        policy: Which tool calls are allowed, asked about or denied. Without one, every call is asked about.
        rule: Who answers questions, and by when: `Rule("*", "ask", reviewers=["role:support"], deadline=...)`.
        otherwise: What agents are told where nobody answered in time, or somebody declined. None: it is an error.
        requester: On whose behalf the agents run, for rules that exclude them.
        graph, version: Of the agents, as grants and switches name them.

    Attributes:
        pause: A termination condition. Only a `team_node` needs it; elsewhere it never terminates.

    Raises:
        PolicyError: `rule` says something else than who answers, and by when.
    """

    def __init__(
        self,
        ledger: Ledger | str | os.PathLike[str],
        thread_id: str,
        *,
        policy: Policy | None = None,
        rule: Rule | None = None,
        otherwise: str | None = None,
        requester: str | None = None,
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        self.outside = Outside(
            ledger, thread_id, policy=policy, rule=rule, requester=requester, graph=graph, version=version
        )
        self.otherwise = otherwise
        self.pause = Pause()
        self.bridges: dict[str, Bridge] = {}
        self._checked = False

    @property
    def ledger(self) -> Ledger:
        """Where it is on record."""
        return self.outside.ledger

    # --- questions -----------------------------------------------------------------------------------------------

    def input(self, prompt: str) -> str:
        """Ask people; for a `UserProxyAgent`. AutoGen calls it in a thread, which it cannot cancel: rather `ainput`.

        Raises:
            UnansweredError: Nobody answered in time, or somebody declined, and there is no `otherwise`.
        """
        return run(self._told(prompt, None))

    async def ainput(self, prompt: str, cancellation_token: CancellationToken | None = None) -> str:
        """As `input`: `UserProxyAgent("user", input_func=people.ainput)`. The token cancels the question, too."""
        return await self.aask(prompt, cancellation_token=cancellation_token)

    async def aask(
        self, question: str, *, key: str | None = None, cancellation_token: CancellationToken | None = None
    ) -> str:
        """Ask people anything.

        Args:
            key: Names the question in this conversation: asked again with it, even by another process after it was
                answered, it has the same answer. Without one, a question that a dead process left is found again by
                its words, until its answer was given.

        Raises:
            UnansweredError: Nobody answered in time, or somebody declined, and there is no `otherwise`.
        """
        if self.pause.is_on:
            return self.pause.put_off_question(question)
        answer = await linked(arun(self._told(question, key)), cancellation_token)
        if answer is None:
            raise asyncio.CancelledError
        return str(answer)

    def _told(self, question: str, key: str | None) -> Steps[str]:
        try:
            return (yield from self.outside.question(question, key=key, correlation=_request_id()))
        except UnansweredError:
            if self.otherwise is None:
                raise
            return self.otherwise

    # --- tools ---------------------------------------------------------------------------------------------------

    def approved(self, tools: Iterable[AnyTool], *, metadata: Mapping[str, Any] | None = None) -> list[ApprovedTool]:
        """Tools whose calls pass policy, people and permit before they run, each at most once.

        Args:
            tools: Of `autogen_core.tools`, or functions with a docstring.
            metadata: Of each of them, for rules with predicates (`call.metadata`).

        Raises:
            PolicyError: Two tools have the same name.
        """
        made = []
        for given in tools:
            tool = given if isinstance(given, BaseTool) else _function_tool(given)
            if tool.name in self.bridges:
                raise PolicyError(f"two approved tools are called {tool.name!r}; a rule could not tell them apart")
            bridge = self.bridges[tool.name] = Bridge.to(tool, metadata or {})
            made.append(ApprovedTool(bridge, self._gated))
        return made

    def check(self) -> None:
        """Refuse a policy with rules that name none of the approved tools.

        Raises:
            PolicyError: Names the rule.
        """
        if not self._checked:
            self.outside.policy.check(self.bridges)
            self._checked = True

    async def _gated(self, bridge: Bridge, args: Mapping[str, Any], call_id: str | None) -> ToolMessage:
        self.check()
        if self.pause.is_on:
            return await self.pause.gated(self.outside, bridge, args, call_id)
        return await arun(
            self.outside.call(bridge.name, args, lambda action: running(bridge, action), call_id=call_id, tool=bridge)
        )

    # --- code, and messages of the core --------------------------------------------------------------------------

    async def approve_code(self, request: ApprovalRequest) -> ApprovalResponse:
        """Whether code may run: `CodeExecutorAgent(..., approval_func=people.approve_code)`.

        It is a call of `run_code` with the argument `code` for the policy and for people, who cannot edit it. Each
        approval lets it run once.
        """
        if self.pause.is_on:
            return ApprovalResponse(approved=False, reason="nobody can be asked here; make the code executor a tool")
        action, reason = await self.released("run_code", {"code": request.code}, editable=False)
        return ApprovalResponse(approved=action is not None, reason=reason)

    async def released(
        self, name: str, args: Mapping[str, Any], call_id: str | None = None, *, editable: bool = True
    ) -> tuple[Action | None, str]:
        """The right to do something once that somebody else does: the action as it may be done, or None and why not."""

        def execute(action: Action) -> Step:
            released = ToolMessage(_LET_RUN, tool_call_id="", artifact=action.model_dump(mode="json"))
            return Step(lambda: released)

        told = await arun(self.outside.call(name, args, execute, call_id=call_id, editable=editable))
        released = told.status == "success" and told.artifact is not None
        return (Action.model_validate(told.artifact), told.text) if released else (None, told.text)


def _request_id() -> str | None:
    try:
        return UserProxyAgent.InputRequestContext.request_id()
    except RuntimeError:
        return None


def _function_tool(function: Any) -> BaseTool[Any, Any]:
    if not callable(function):
        raise PolicyError(f"{function!r} is no tool")
    return FunctionTool(function, description=getattr(function, "__doc__", None) or "")
