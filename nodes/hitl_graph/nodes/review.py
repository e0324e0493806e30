"""`OutputReviewNode`: a draft is shown to people before it is delivered.

It stands between the node that writes and what comes after. Checks and the policy say whether people are asked; what
they approve is delivered, under a permit for exactly that draft, at most once. Feedback sends the draft back.
"""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END
from langgraph.types import Command

from hitl_graph.ledger import Ledger
from hitl_graph.nodes.checking import Check
from hitl_graph.nodes.drafting import Place
from hitl_graph.nodes.releasing import Release
from hitl_graph.policy import Policy
from hitl_graph.steps import Steps, arun, run
from hitl_graph.wire import BRIDGE, Client, ClientName

__all__ = ["OutputReviewNode"]


class OutputReviewNode(Runnable[Any, Command[Any]]):
    """Have a draft reviewed before it is delivered.

    `approve` delivers it, `edit` delivers the person's version, `respond` sends it back to the writer with feedback,
    `reject` ends with a reason. Where `draft` is a key, the state needs `reviews: Annotated[list[Revision],
    operator.add]`; a draft that is a message needs only `messages`.

    Args:
        draft: Key of the state that holds the draft: a text, a pydantic model, or JSON such as a list of files
            (`{"path": ..., "content" or "patch": ...}`). None: the last message of the model.
        revise: The node that writes; it gets the feedback as the last entry of `reviews`, or as a `HumanMessage`.
        deliver: The node where a delivered draft goes on.
        rejected: The node where a rejected or blocked one goes on.
        delivery: A function of the draft that delivers it (sends, publishes ...), sync or async; it runs at most once.
            `idempotency_key()` works in it.
        idempotent: Delivering twice does no more than delivering once: an unknown outcome is tried again.
        delivered: Key of the state that gets what was delivered (None if nothing is), where the state has that key.
        policy: Which drafts are delivered without asking, asked about, or never delivered; who decides, and by when. A
            draft is a call of `review` (`name`) with the argument `draft`; `call.metadata` has `revision` and
            `findings`. Rules with `Sampled` and `Unsure` ask about some. Without a policy, every draft is asked about.
        checks: What looks at a draft before people do; see `hitl_graph.nodes.checking`.
        max_revisions: How often people may send a draft back; then they are asked for a final word.
        max_automatic: How often in a row checks may send it back; then people are asked.
        schema: Type of the draft, for pydantic, if it is not a pydantic model; an edit has to fit it.
        ledger: Where to record it. Not needed with a checkpointer of this library.
        client: With what people answer, as for `ApprovalNode`.
        graph, version: Of the graph, for the record. The server's name of the graph, unless given.
        messages, reviews: Keys of the state.
        name: What rules call a draft.

    Raises:
        PolicyError: A rule of the policy names something else, or a limit is none.
    """

    def __init__(
        self,
        draft: str | None = None,
        *,
        revise: str,
        deliver: str = END,
        rejected: str = END,
        delivery: Callable[[Any], Any] | None = None,
        idempotent: bool = False,
        delivered: str = "delivered",
        policy: Policy | None = None,
        checks: Sequence[Check] = (),
        max_revisions: int = 3,
        max_automatic: int = 2,
        schema: Any = None,
        ledger: Ledger | None = None,
        client: ClientName | Client = BRIDGE,
        graph: str | None = None,
        version: str | None = None,
        messages: str = "messages",
        reviews: str = "reviews",
        name: str = "review",
    ) -> None:
        self.place = Place(draft, messages, reviews, schema, delivered)
        self.release = Release(
            self.place, owner=type(self).__name__, delivery=delivery, idempotent=idempotent, policy=policy,
            checks=checks, max_revisions=max_revisions, max_automatic=max_automatic, ledger=ledger, client=client,
            graph=graph, version=version, name=name,
        )  # fmt: skip
        self.graph, self.revise, self.deliver, self.rejected = graph, revise, deliver, rejected

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where it may go on: `add_node(..., destinations=node.destinations)` draws the arrows."""
        return tuple(dict.fromkeys((self.deliver, self.revise, self.rejected)))

    # --- the two colours -----------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """Review the draft in this state."""
        return run(self._steps(input, config or {}))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Command[Any]:
        """As `invoke`."""
        return await arun(self._steps(input, config or {}))

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Command[Any]]:
        released = yield from self.release.steps(state, config)
        released.stream(config, self.place.messages)
        goto = {"delivered": self.deliver, "revise": self.revise}.get(released.outcome, self.rejected)
        return Command(goto=goto, update=released.changes)
