"""The questions about one tool call: whether it may run, and what became of it."""

from collections.abc import Callable

from hitl_graph.effects import Lost
from hitl_graph.model import Action, Request
from hitl_graph.nodes.calls import Item, model_of, schema_of
from hitl_graph.nodes.permitting import takes_grants
from hitl_graph.nodes.verdicts import Judged
from hitl_graph.policy import Verdict
from hitl_graph.terms import Terms

__all__ = ["may_it_run", "what_became"]


def may_it_run(
    item: Item, thread_id: str, action: Action, verdict: Verdict, description: str, messages_key: str
) -> Callable[[str, str], Request]:
    """The question whether a call may run."""
    how = item.judged or Judged(verdict)

    def describe(request_id: str, interrupt_id: str) -> Request:
        return Request(
            id=request_id,
            kind="approval",
            thread_id=thread_id,
            interrupt_id=interrupt_id,
            action=action,
            allowed=verdict.allowed,
            editable=verdict.editable,
            answer_schema=schema_of(item.tool),
            description=description,
            reason=verdict.reason,
            tool_call_id=item.call["id"],
            action_key=item.key,
            model_digest=model_of(item.runtime.state, messages_key),
            grantable=None if takes_grants(verdict) else False,
            score=how.score,
            route=how.route,
            propensity=how.propensity,
            reference=how.reference,
        )

    return describe


def what_became(
    item: Item, thread_id: str, action: Action, lost: Lost, terms: Terms | None
) -> Callable[[str, str], Request]:
    """The question what became of a call: for the people who let it run, and no silence answers it."""

    def describe(request_id: str, interrupt_id: str) -> Request:
        return Request(
            id=request_id,
            kind="question",
            thread_id=thread_id,
            interrupt_id=interrupt_id,
            action=action,
            allowed=("approve", "reject", "respond"),
            labels={
                "approve": "run it again",
                "reject": "it was not done",
                "respond": "it was done, with this result",
            },
            description=f"Did this happen? {action.name} was started, and {lost.error}.",
            reason=f"the outcome is {lost.outcome}; it is not run again without a person",
            tool_call_id=item.call["id"],
            action_key=item.key,
            terms=terms and terms.unscheduled,
        )

    return describe
