"""`UserProxyNode`: AutoGen's user proxy, as a node: the person's place in a conversation of agents.

It stands where an agent's message goes. It answers by itself, asks a person, or ends the conversation. The person's
turn is a request of kind `question`, which any door answers, in any process, today or in a month.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast, get_args

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langgraph.constants import END
from langgraph.types import Command
from pydantic import JsonValue

from hitl_graph.errors import ConversationError
from hitl_graph.facts import Inquiry
from hitl_graph.ledger import Ledger, requests, switches
from hitl_graph.ledger.schedule import CHANNEL
from hitl_graph.model import Decision, Request, Word
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.conversing import (
    INTERRUPTED,
    Enter,
    HumanInputMode,
    Judged,
    automatic_replies,
    automatic_reply,
    code_blocks,
    human_reply,
    judge,
    judged_by,
    results,
    sender_of,
    shown,
    spoken,
    words,
)
from hitl_graph.nodes.patching import channels_of, read
from hitl_graph.nodes.routing import Routed, unknown_nodes
from hitl_graph.nodes.scene import Scene, began
from hitl_graph.nodes.terms import graph_of, on_terms, origin_of, verdict_of
from hitl_graph.policy import Rule
from hitl_graph.steps import Steps, blocking
from hitl_graph.termination import Met, Termination, TimeoutTermination, Turn, handoff_of
from hitl_graph.terms import Origin
from hitl_graph.wire import BRIDGE, Client, ClientName, client_of

__all__ = ["UserProxyNode"]

_RUNTIME = "__pregel_runtime"  # langgraph._internal._constants
_UNLIMITED = 100  # AutoGen's MAX_CONSECUTIVE_AUTO_REPLY
_ANSWER = {"type": "string", "pattern": r"\S"}  # silence is no reply


def _says_terminate(message: BaseMessage) -> bool:
    return message.text.strip() == "TERMINATE"


class UserProxyNode(Routed):
    """A person's place among agents: asks at each turn, at the end, or never.

        builder.add_edge("assistant", "user")
        builder.add_node("user", UserProxyNode("assistant", tools="tools", human_input_mode="TERMINATE"))

    | answer | what happens |
    |---|---|
    | approve | AutoGen's Enter: the automatic reply, or the end where it has come to that; the request says which |
    | respond | the text goes to the agent; its pending tool calls get the result `USER INTERRUPTED`. `exit` ends it |
    | reject | the conversation ends |

    The automatic reply to a message with tool calls is to run them (at `tools`), to one with code to run that (at
    `code`), to any other `default_auto_reply`.

    Args:
        agents: The node, or the nodes, whose messages come here and where replies go. Of several, a reply goes to the
            one that sent the message: its messages need its name (`AIMessage(name=...)`; agents of `create_agent` have
            it).
        human_input_mode: `ALWAYS`: a person is asked at each turn. `TERMINATE`: when the conversation is at its end, or
            after so many automatic replies. `NEVER`: nobody is asked; it ends on either.
        is_termination_msg: Which message is the last one: a function of it, or a `hitl_graph.termination` condition. By
            default, one that says TERMINATE and nothing else. If it raises, that counts as the end.
        max_consecutive_auto_reply: How many automatic replies an agent gets until a person says something again; by the
            agent's name, if they differ. None means 100; 0 that there are none.
        default_auto_reply: What is said without a person.
        tools: The node that runs tool calls, best an `ApprovalNode`. Without one, they are answered with an error.
        code: The node that reads the code of a message, a `CodeBlocksNode`.
        languages: Which code that is.
        stop: Where the run goes at the end.
        handoff_tool: The name of the tool by which agents hand over to this node, if not `transfer_to_NAME`.
        rule: Who answers, and by when: `Rule("*", "ask", reviewers=[...], deadline=...)`. If nobody does in time, the
            conversation ends; with `on_deadline="approve"` it goes on as after `approve`.
        client: With what people answer, if not by the inbox; as for `ApprovalNode`.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        name: Of this node, as agents name it who hand over to it.
        messages_key: Where in the state the messages are.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.

    Raises:
        ConversationError: An option makes no sense; or, as soon as it runs, a reply has nowhere to go.
    """

    def __init__(
        self,
        agents: str | Sequence[str],
        *,
        human_input_mode: HumanInputMode = "ALWAYS",
        is_termination_msg: Callable[[BaseMessage], object] | Termination = _says_terminate,
        max_consecutive_auto_reply: int | Mapping[str, int] | None = None,
        default_auto_reply: str = "Please go on.",
        tools: str | None = None,
        code: str | None = None,
        languages: Sequence[str] = ("python", "sh"),
        stop: str = END,
        handoff_tool: str | None = None,
        rule: Rule | None = None,
        client: ClientName | Client = BRIDGE,
        ledger: Ledger | None = None,
        name: str = "user",
        messages_key: str = "messages",
        graph: str | None = None,
        version: str | None = None,
    ) -> None:
        self.agents = (agents,) if isinstance(agents, str) else tuple(agents)
        if not self.agents or not all(isinstance(one, str) and one for one in self.agents):
            raise ConversationError(f"{name} needs the name of the node that it talks to, not {agents!r:.80}")
        if human_input_mode not in get_args(HumanInputMode):
            modes = ", ".join(get_args(HumanInputMode))
            raise ConversationError(f"human_input_mode= takes one of {modes}, not {human_input_mode!r:.80}")
        if not callable(is_termination_msg) or inspect.iscoroutinefunction(is_termination_msg):
            raise ConversationError("is_termination_msg= takes a function that is not async, or a condition")
        if not default_auto_reply.strip():
            raise ConversationError("default_auto_reply= is empty; model providers refuse empty messages")
        limits = max_consecutive_auto_reply
        for limit in limits.values() if isinstance(limits, Mapping) else (limits,):
            if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
                raise ConversationError(f"max_consecutive_auto_reply= takes a number from 0, not {limit!r:.80}")
        self.verdict = verdict_of(rule, "a person is asked", ConversationError)
        self.human_input_mode: HumanInputMode = human_input_mode
        self.is_termination_msg, self.max_consecutive_auto_reply = is_termination_msg, limits
        self.default_auto_reply, self.languages = default_auto_reply, tuple(languages)
        self.tools, self.code, self.stop, self.handoff_tool = tools, code, stop, handoff_tool
        self.ledger, self.name, self.messages_key = ledger, name, messages_key
        self.graph, self.version, self.client = graph, version, client_of(client)
        self._ways = tuple(way for way in (*self.agents, tools, code, stop) if way is not None)
        self._goes_to(self._ways)

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        asker = Asker.of(config, self.ledger, type(self).__name__, self.client)
        for way in unknown_nodes(config, self._ways):
            raise ConversationError(f"{self.name} cannot go to {way!r}: the graph has no node of that name")
        scene = Scene.of(state, asker, self.messages_key)
        asked: Request | None = yield blocking(asker.ledger.read, requests.get, asker.own())
        if asked is not None:  # what was asked once is asked to its end, whatever is judged now
            return (yield from self._asked(scene, None, None))
        sender = sender_of(scene.messages)
        if sender is None and (scene.messages or self.human_input_mode == "NEVER"):
            return self._goto(scene, self._first(config))
        judged: Judged | None = Judged(True, False, "nobody has said anything yet")
        self._agent(sender, config)  # says now where it fails, and not when a person has answered
        if sender is not None:
            met = yield from self._met(scene)
            count = automatic_replies(scene.messages, sender, runs_calls=self.tools is not None)
            judged = judge(self.human_input_mode, met, count, self._limit(sender), sender)
        if judged is None:
            return self._on(scene, sender, self._automatic(scene), self.default_auto_reply)
        if not judged.asks:
            return self._end(scene, sender, judged.why)
        return (yield from self._asked(scene, sender, judged))

    # --- whether the conversation is at its end ------------------------------------------------------------------

    def _met(self, scene: Scene) -> Steps[Met | None]:
        if not isinstance(self.is_termination_msg, Termination):
            return judged_by(self.is_termination_msg, cast(BaseMessage, spoken(scene.messages)))
        elapsed: timedelta | None = None
        if any(isinstance(part, TimeoutTermination) for part in self.is_termination_msg.parts):
            since = yield from began(scene.asker, scene.namespace, self.messages_key, Turn.start(scene.messages))
            elapsed = None if since is None else scene.asker.ledger.clock() - since
        stopped = yield blocking(self._stopped, scene.asker)
        return self.is_termination_msg(Turn.of(scene.messages, elapsed=elapsed, stopped=stopped))

    def _stopped(self, asker: Asker) -> str | None:
        graph = graph_of(asker.config, self.graph)
        switch = asker.ledger.read(switches.stopping, graph, asker.thread_id)
        return None if switch is None else switch.told

    def _limit(self, sender: str) -> int:
        limits = self.max_consecutive_auto_reply
        found = limits.get(sender) if isinstance(limits, Mapping) else limits
        return _UNLIMITED if found is None else found

    # --- asking --------------------------------------------------------------------------------------------------

    def _asked(self, scene: Scene, sender: str | None, judged: Judged | None) -> Steps[Command[Any]]:
        asker = scene.asker

        def describe(request_id: str, interrupt_id: str) -> Request:
            assert judged is not None
            return self._request(request_id, interrupt_id, scene, sender, judged)

        def origin() -> Origin | None:
            return origin_of(asker, graph=self.graph, version=self.version)

        request, decision = yield blocking(asker.ask, 0, on_terms(describe, asker, self.verdict, origin))
        met = yield from self._answered_with(scene, request, decision)
        yield blocking(asker.delivered, request.id)
        return self._answered(scene, request, decision, met)

    def _request(self, request_id: str, interrupt_id: str, scene: Scene, sender: str | None, judged: Judged) -> Request:
        enter: Enter | None = "end" if judged.ends else self._automatic(scene)
        if not judged.ends and (sender is None or self._limit(sender) == 0):
            enter = None
        text = "What shall be done?" if sender is None else shown(scene.messages, scene.calls)
        inquiry = Inquiry(question=text, why=judged.why)
        to = sender or self._first(scene.asker.config)
        labels: dict[Word, str] = {
            "approve": self._meaning(enter, scene),
            "reject": "the conversation ends",
            "respond": f"your words go to {to}"
            + (", and the calls do not run" if scene.calls else "")
            + "; exit ends the conversation",
        }
        if enter is None:
            del labels["approve"]
        asked: dict[str, JsonValue] = {
            "from": sender,
            "enter": enter,
            "reply": self.default_auto_reply,
            "mode": self.human_input_mode,
        }
        identity = json.dumps([scene.asker.thread_id, "user", scene.graph, scene.path])
        return Request(
            id=request_id,
            kind="question",
            thread_id=scene.asker.thread_id,
            interrupt_id=interrupt_id,
            question={**inquiry.model_dump(mode="json"), "conversation": asked},
            allowed=tuple(labels),
            labels=labels,
            answer_schema=cast("Any", _ANSWER),
            description=inquiry.question,
            reason=judged.why,
            action_key=hashlib.sha256(identity.encode()).hexdigest()[:32],
        )

    def _meaning(self, enter: Enter | None, scene: Scene) -> str:
        names = ", ".join(dict.fromkeys(call["name"] for call in scene.calls))
        meanings: dict[Enter | None, str] = {
            "end": "the conversation ends here",
            "reply": f"it goes on with the automatic reply: {self.default_auto_reply}",
            "calls": f"the calls go on to {self.tools}: {names}",
            "code": f"the code goes on to {self.code}",
        }
        return meanings.get(enter, "")

    # --- answering -----------------------------------------------------------------------------------------------

    def _answered_with(self, scene: Scene, request: Request, decision: Decision) -> Steps[Met | None]:
        """Whether the person's words themselves are the end, as `TextMentionTermination("APPROVE")` wants it."""
        if decision.type != "respond" or not isinstance(self.is_termination_msg, Termination):
            return None
        stopped = yield blocking(self._stopped, scene.asker)
        said = human_reply(request, decision, None)
        return self.is_termination_msg(Turn([said], elapsed=timedelta(), stopped=stopped))

    def _answered(self, scene: Scene, request: Request, decision: Decision, met: Met | None) -> Command[Any]:
        asked = cast("dict[str, Any]", cast("dict[str, Any]", request.question)["conversation"])
        sender, enter = cast("str | None", asked["from"]), cast("Enter | None", asked["enter"])
        by = request.reviewer or scene.asker.reviewer
        if decision.type == "reject" and request.channel == CHANNEL:
            return self._end(scene, sender, f"nobody answered in time: {decision.message}")
        if decision.type == "reject" or (decision.type == "respond" and words(decision).strip().lower() == "exit"):
            why = f": {decision.message}" if decision.type == "reject" and decision.message else ""
            return self._end(scene, sender, f"{by} ended it{why}")
        if decision.type == "respond":
            reply = human_reply(request, decision, sender)
            said: list[AnyMessage] = [*results(scene.calls, self._interrupted, request.id), reply]
            if met is not None:
                return self._goto(scene, self.stop, said, stop_reason=met.reason, active=sender)
            return self._goto(scene, self._agent(sender, scene.asker.config), said)
        self._tell(scene, "termination_and_human_reply_no_input", sender)
        if enter == "end":
            return self._end(scene, sender, request.reason)
        return self._on(scene, sender, enter or "reply", asked["reply"])

    def _automatic(self, scene: Scene) -> Enter:
        if scene.calls:
            handed = any(self._is_handoff(call) for call in scene.calls)
            return "reply" if handed or self.tools is None else "calls"
        last = scene.messages[-1] if scene.messages else None
        if self.code is not None and isinstance(last, AIMessage) and code_blocks(last.text, self.languages):
            return "code"
        return "reply"

    def _on(self, scene: Scene, sender: str | None, enter: Enter, reply: str) -> Command[Any]:
        """Go on without a person's words."""
        self._tell(scene, "using_auto_reply", sender)
        if enter in ("calls", "code"):
            way = self.tools if enter == "calls" else self.code
            if way is None:
                raise ConversationError(f"{self.name} has no {enter} node any more, and it was asked with one")
            return self._goto(scene, way)
        said: list[AnyMessage] = list(results(scene.calls, self._nowhere, self._key(scene)))
        if not said or any(self._is_handoff(call) for call in scene.calls):
            said.append(automatic_reply(reply, sender, scene.messages[-1] if scene.messages else None))
        return self._goto(scene, self._agent(sender, scene.asker.config), said)

    def _end(self, scene: Scene, sender: str | None, why: str) -> Command[Any]:
        self._tell(scene, "termination", sender, termination_reason=why)
        said = results(scene.calls, self._interrupted, self._key(scene))
        return self._goto(scene, self.stop, said, stop_reason=why, active=sender)

    def _goto(
        self, scene: Scene, way: str, said: Sequence[AnyMessage] = (), *, stop_reason: str | None = None,
        active: str | None = None,
    ) -> Command[Any]:  # fmt: skip
        update: dict[str, Any] = {self.messages_key: list(said)} if said else {}
        known = channels_of(scene.asker.config)
        if "stop_reason" in known and way not in (self.tools, self.code):
            update["stop_reason"] = stop_reason
        if "active_agent" in known and (now := active if way == self.stop else way) in self.agents:
            update["active_agent"] = now  # a swarm goes on with it when somebody says something new
        return Command(update=update or None, goto=way)

    # --- who is who ----------------------------------------------------------------------------------------------

    def _agent(self, sender: str | None, config: RunnableConfig) -> str:
        if len(self.agents) == 1:
            return self.agents[0]
        if sender is None:
            return self._first(config)
        if sender not in self.agents:
            raise ConversationError(
                f"{self.name} does not know where to answer {sender!r}: it talks to {', '.join(self.agents)}. Give the"
                " messages of each agent its node's name, AIMessage(..., name=...)"
            )
        return sender

    def _first(self, config: RunnableConfig) -> str:
        """Who gets what a person says out of the blue: the agent that is active, else the first."""
        active = read(config, "active_agent") if "active_agent" in channels_of(config) else None
        return str(active) if active in self.agents else self.agents[0]

    def _is_handoff(self, call: ToolCall) -> bool:
        return handoff_of(AIMessage("", tool_calls=[call]), self.name, tool=self.handoff_tool)

    def _interrupted(self, call: ToolCall) -> tuple[str, bool]:
        return (f"Transferred to {self.name}.", False) if self._is_handoff(call) else (INTERRUPTED, True)

    def _nowhere(self, call: ToolCall) -> tuple[str, bool]:
        if self._is_handoff(call):
            return f"Transferred to {self.name}.", False
        return f"Error: {call['name']} did not run; nobody here runs it.", True

    def _key(self, scene: Scene) -> str:
        return f"{self.name}-{scene.messages[-1].id}" if scene.messages else self.name

    def _tell(self, scene: Scene, event: str, sender: str | None, **more: str) -> None:
        """AutoGen's events, for whoever streams the run with `stream_mode="custom"`."""
        runtime = scene.asker.config.get("configurable", {}).get(_RUNTIME)
        if (write := getattr(runtime, "stream_writer", None)) is not None:
            write({"type": event, "node": self.name, "sender": sender, "mode": self.human_input_mode, **more})
