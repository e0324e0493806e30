"""`OutputReviewMiddleware`: the final answer of an agent is shown to people before it is delivered.

It looks where the agent ends (`after_agent`), whichever way it came there: an answer of the model, a structured
response, the result of a tool that is returned directly, or what another middleware said in ending the run.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, hook_config
from langchain_core.messages import AIMessage
from langgraph.config import get_config

from hitl_graph.adapters.langchain.answers import STRUCTURED, Answers
from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Request
from hitl_graph.nodes import guidance
from hitl_graph.nodes.checking import Check
from hitl_graph.nodes.releasing import Release
from hitl_graph.nodes.revisions import MARK
from hitl_graph.nodes.withholding import aquietly, conceal, keep_back, quietly
from hitl_graph.policy import Policy
from hitl_graph.steps import Steps, arun, blocking, run
from hitl_graph.wire import BRIDGE, Client, ClientName

__all__ = ["OutputReviewMiddleware"]

Model = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncModel = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]


class OutputReviewMiddleware(AgentMiddleware[Any, Any, Any]):
    """Have the final answer of an agent reviewed before it is delivered.

        create_agent(model, tools, middleware=[OutputReviewMiddleware(delivery=send)], checkpointer=checkpointer)

    `approve` delivers it, `edit` delivers the person's version, `respond` sends it back to the model with feedback,
    `reject` ends with a reason, and a notice stands in place of the answer. What stands after it in the list of
    middleware cannot change what was approved; what stands before it has hooks `after_agent` that run later.

    Args:
        delivery: A function of the answer that delivers it (sends, publishes ...), sync or async; it runs at most once.
            `idempotency_key()` works in it.
        idempotent: Delivering twice does no more than delivering once: an unknown outcome is tried again.
        policy: Which answers are delivered without asking, asked about, or never delivered; who decides, and by when.
            An answer is a call of `review` (`name`) with the argument `draft`. Without a policy, every answer is asked
            about.
        checks: What looks at an answer before people do; see `hitl_graph.nodes.checking`.
        max_revisions: How often people may send an answer back; then they are asked for a final word.
        max_automatic: How often in a row checks may send it back; then people are asked.
        schema: Type of a structured response, for pydantic: an edit has to fit it, and it is restored with this type.
        withhold: Keep what the model says out of streams of messages; the answer is streamed when it is delivered.
        to_reviewers: With `withhold`: stream the tokens with `stream_mode="custom"`, as `withheld` does.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        client: With what people answer, as for `ApprovalNode`.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.
        name: What rules call an answer. Two of these middlewares in one agent need two names.

    Raises:
        PolicyError: A rule of the policy names something else, or a limit is none.
    """

    def __init__(
        self,
        *,
        delivery: Callable[[Any], Any] | None = None,
        idempotent: bool = False,
        policy: Policy | None = None,
        checks: Sequence[Check] = (),
        max_revisions: int = 3,
        max_automatic: int = 2,
        schema: Any = None,
        withhold: bool = True,
        to_reviewers: bool = False,
        ledger: Ledger | None = None,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
        name: str = "review",
    ) -> None:
        super().__init__()
        self.place = Answers(type_=schema)
        self.release = Release(
            self.place, owner=type(self).__name__, delivery=delivery, idempotent=idempotent, policy=policy,
            checks=checks, max_revisions=max_revisions, max_automatic=max_automatic, ledger=ledger, client=client,
            graph=graph, version=version, name=name,
        )  # fmt: skip
        self.withhold, self.to_reviewers = withhold, to_reviewers
        self._name = type(self).__name__ + ("" if name == "review" else f"[{name}]")

    @property
    def name(self) -> str:
        """Its nodes begin with it."""
        return self._name

    # --- the model: what it says is kept back ----------------------------------------------------------------------

    def wrap_model_call(self, request: ModelRequest[Any], handler: Model) -> ModelResponse[Any]:
        """Called by LangChain."""
        if not self.withhold:
            return self._noted(handler(request))
        return self._noted(quietly(self.to_reviewers, lambda _: handler(request)))

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncModel) -> ModelResponse[Any]:
        """Called by LangChain."""
        if not self.withhold:
            return self._noted(await handler(request))

        async def call(_: Any) -> ModelResponse[Any]:
            return await handler(request)

        return self._noted(await aquietly(self.to_reviewers, call))

    def _noted(self, response: ModelResponse[Any]) -> ModelResponse[Any]:
        if self.withhold:
            keep_back(response.result)
            conceal(get_config().get("callbacks"), response.result)  # that a structured response came says what it is
        if response.structured_response is not None:
            mark = {STRUCTURED: True} | ({"outcome": "unreviewed"} if self.withhold else {})
            for message in response.result:
                if isinstance(message, AIMessage):
                    message.additional_kwargs[MARK] = mark
        return response

    # --- the end of the agent ----------------------------------------------------------------------------------------

    @hook_config(can_jump_to=["model"])
    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Called by LangChain."""
        return run(self._steps(state))

    @hook_config(can_jump_to=["model"])
    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Called by LangChain."""
        return await arun(self._steps(state))

    def _steps(self, state: Any) -> Steps[dict[str, Any] | None]:
        config = get_config()
        if not self.place.is_there(state):
            return None
        draft, asker = self.place.read(state), self.release.asker(config)
        if (yield from self.release.delivered_before(draft, asker)):
            return None
        message = draft.message
        if not draft.structured and not draft.results and message is not None:
            request = yield blocking(asker.ledger.read, requests.get, str(message.id).removeprefix("hitl-"))
            if _is_last_word(request, message, asker.thread_id):
                return None
        released = yield from self.release.steps(state, config)
        released.stream(config, "messages")
        return released.changes | ({"jump_to": "model"} if released.outcome == "revise" else {})


def _is_last_word(request: Request | None, message: AIMessage, thread_id: str) -> bool:
    """Whether this is what a person, or a deadline, said in stopping the run; the ledger tells."""
    if request is None or request.kind != "escalation" or request.thread_id != thread_id:
        return False
    decision = request.decision
    return (
        decision is not None
        and decision.type == "reject"
        and guidance.stopped(request, decision).content == message.content
    )
