"""Code that a model writes between fences, as tool calls: so that each block is asked about, permitted and run once.

    builder.add_node("code", CodeBlocksNode("assistant", tools="tools"))
    builder.add_node("tools", ApprovalNode([code_tool(run_in_docker)], policy=policy))
    builder.add_edge("tools", "code")

The blocks of a message run one after the other, each in sight of what came of the one before; after one that failed or
was rejected, the others do not run, and the agent is told.
"""

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool
from langgraph.types import Command

from hitl_graph.errors import ConversationError
from hitl_graph.nodes.conversing import CodeBlock, code_blocks
from hitl_graph.nodes.routing import Routed
from hitl_graph.steps import Steps
from hitl_graph.termination import mark_of, source

__all__ = ["CodeBlocksNode", "CodeResult", "code_tool"]

LANGUAGES = ("python", "sh")


@dataclass(frozen=True)
class CodeResult:
    """What came of running code. An `exit_code` other than 0 is a failure."""

    exit_code: int
    output: str


Runner = Callable[[str, str], CodeResult | Awaitable[CodeResult]]


def code_tool(runner: Runner, *, languages: Sequence[str] = LANGUAGES, name: str = "execute_code") -> BaseTool:
    """A tool that runs code; put it among the tools of an `ApprovalNode`, whose policy says what is asked about.

    Args:
        runner: Runs `(language, code)`, in a sandbox of your choice. It may be async.
        languages: What it can run.
        name: What policies call it.
    """

    def told(result: CodeResult, call_id: str) -> ToolMessage:
        if not isinstance(result, CodeResult):
            raise TypeError(f"the runner of {name} gave {result!r:.80}, not a CodeResult")
        if result.exit_code == 0:
            return ToolMessage(result.output or "(no output)", name=name, tool_call_id=call_id)
        text = f"It failed with exit code {result.exit_code}.\n{result.output}".strip()
        return ToolMessage(text, name=name, tool_call_id=call_id, status="error")

    def execute(language: str, code: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Run code."""
        return told(cast(CodeResult, runner(language, code)), tool_call_id)

    async def aexecute(language: str, code: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Run code."""
        return told(await cast("Awaitable[CodeResult]", runner(language, code)), tool_call_id)

    known: Any = Literal[tuple(languages)]  # the schema says which they are, to models and to people who edit
    execute.__annotations__["language"] = aexecute.__annotations__["language"] = known
    if inspect.iscoroutinefunction(runner):
        return StructuredTool.from_function(coroutine=aexecute, name=name, description="Run code.")
    return StructuredTool.from_function(execute, name=name, description="Run code.")


class CodeBlocksNode(Routed):
    """Make a call of the next block of code in an agent's last message; back to the agent when none is left.

    The agent's message stays as it is. Each block becomes a message of its own with one call, so that the history is
    one that model providers take. An agent's own tool calls come first: the text beside them is not looked at.

    Args:
        agents: The node, or the nodes, whose messages come here, as for `UserProxyNode`.
        tools: The `ApprovalNode` with the `code_tool`; its edge leads back here.
        languages: Which blocks are code to run; others are just text.
        tool: The name of the tool.
        name: Of this node.
        messages_key: Where in the state the messages are.

    Raises:
        ConversationError: No agent is named; or, as soon as it runs, it does not know whose code it is.
    """

    def __init__(
        self,
        agents: str | Sequence[str],
        *,
        tools: str = "tools",
        languages: Sequence[str] = LANGUAGES,
        tool: str = "execute_code",
        name: str = "code",
        messages_key: str = "messages",
    ) -> None:
        self.agents = (agents,) if isinstance(agents, str) else tuple(agents)
        if not self.agents or not all(isinstance(one, str) and one for one in self.agents):
            raise ConversationError(f"{name} needs the name of the node that writes code, not {agents!r:.80}")
        self.tools, self.languages, self.tool = tools, tuple(languages), tool
        self.name, self.messages_key = name, messages_key
        self._goes_to((*self.agents, tools))

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        yield from ()
        messages = state[self.messages_key] if isinstance(state, dict) else getattr(state, self.messages_key)
        at = next((at for at in range(len(messages) - 1, -1, -1) if _is_the_agent_s(messages[at])), None)
        if at is None:
            return Command(goto=self.agents[0])
        origin, since = messages[at], messages[at + 1 :]
        blocks = [] if origin.tool_calls else code_blocks(origin.text, self.languages)
        made = sum(bool(mark_of(message).get("code")) for message in since)
        failed = any(isinstance(message, ToolMessage) and message.status == "error" for message in since)
        if made >= len(blocks) or failed:
            return Command(goto=self._back(origin))
        call = self._call(origin.id or str(at), made, blocks[made])
        message = AIMessage(
            "", name=origin.name, tool_calls=[call], id=f"hitl-{call['id']}", additional_kwargs={"hitl": {"code": True}}
        )
        return Command(update={self.messages_key: [message]}, goto=self.tools)

    def _call(self, message_id: str, number: int, block: CodeBlock) -> ToolCall:
        identity = f"{message_id}\0{number}\0{block.language}\0{block.code}"
        call_id = f"code_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
        return ToolCall(
            name=self.tool, args={"language": block.language, "code": block.code}, id=call_id, type="tool_call"
        )

    def _back(self, origin: AIMessage) -> str:
        if len(self.agents) == 1:
            return self.agents[0]
        if (agent := source(origin)) not in self.agents:
            raise ConversationError(
                f"{self.name} does not know whose code it is: {agent!r} is none of {', '.join(self.agents)}. Give the"
                " messages of each agent its node's name, AIMessage(..., name=...)"
            )
        return agent


def _is_the_agent_s(message: AnyMessage) -> bool:
    return isinstance(message, AIMessage) and not mark_of(message).get("code")
