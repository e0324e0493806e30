"""Calls that are denied without asking: they are recorded, and after some in a row people are asked what now."""

import json
from collections.abc import Callable
from typing import cast

from langchain_core.messages import ToolMessage

from hitl_graph.facts import Finding, Situation, as_text
from hitl_graph.ledger import denials
from hitl_graph.ledger.denials import Denial
from hitl_graph.model import Action, Request
from hitl_graph.nodes import replies
from hitl_graph.nodes.asking import Asker
from hitl_graph.nodes.calls import Item
from hitl_graph.steps import Steps, blocking
from hitl_graph.terms import Origin

__all__ = ["alone", "at_once", "record"]

_LONGEST = 500


def record(asker: Asker, key: str, action: Action, reason: str, limit: int | None) -> Denial:
    """Put a denial on record; what is on record of this call stays."""
    now_ms = asker.ledger.now_ms()
    return asker.ledger.write(denials.record, now_ms, key, asker.thread_id, action, reason, limit=limit)


def at_once(
    asker: Asker, item: Item, reason: str, told: ToolMessage | None = None, *, limit: int | None
) -> Steps[ToolMessage | None]:
    """A denied call beside others. None: people are asked what now, in a task of its own.

    Args:
        told: What the model is told, if not that the policy denied it.
        limit: From how many in a row people are asked; None: never.
    """
    denial: Denial = yield blocking(record, asker, item.key, cast(Action, item.action), reason, limit)
    yield blocking(asker.dropped, item.key)
    asks = limit is not None and denial.asks
    return None if asks else told or replies.denied(item.call, reason)


def alone(
    asker: Asker,
    item: Item,
    where: Callable[[], Origin | None],
    reason: str,
    told: ToolMessage | None = None,
    *,
    limit: int | None,
) -> Steps[ToolMessage]:
    """A denied call in a task of its own that has asked nothing else: its questions have their numbers.

    Once people were asked what now, they are in every execution, whatever has become of the reason.

    Args:
        where: Tells where the call comes from.
        told: What the model is told, if not that the policy denied it.
        limit: From how many in a row people are asked; None: never.
    """
    limit = (limit or 1) if item.escalated else None if item.asked else limit
    denial: Denial = yield blocking(record, asker, item.key, cast(Action, item.action), reason, limit)
    yield blocking(asker.dropped, item.key)
    if item.escalated or told is None:
        told = replies.denied(item.call, denial.reason if item.escalated else reason)
    if limit is None or not denial.asks:
        return told
    row: list[Denial] = yield blocking(asker.ledger.read, denials.in_a_row, denial)
    request, decision = yield blocking(asker.ask, 0, _question(asker, row, item, where))
    yield blocking(asker.delivered, request.id)
    guidance = replies.guidance(decision) if decision.type == "respond" else None
    return cast(ToolMessage, replies.with_notice(told, guidance))


def _question(
    asker: Asker, row: list[Denial], item: Item, where: Callable[[], Origin | None]
) -> Callable[[str, str], Request]:
    count = len(row)
    again = (
        "The last call of the agent was denied" if count == 1 else f"{count} calls of the agent were denied in a row"
    )
    finding = Finding(
        kind="denied",
        sentence=f"{again}, and nothing ran in between.",
        count=count,
        tried=tuple(_short(f"{d.tool}({json.dumps(d.args, ensure_ascii=False)})") for d in row),
        came_back=tuple(_short(denial.reason) for denial in row),
    )
    steps = ("Tell the agent what to do instead: respond", "Let it be told of the denial, and carry on: approve")
    situation = Situation(findings=(finding,), next_steps=steps)

    def describe(request_id: str, interrupt_id: str) -> Request:
        return Request(
            id=request_id,
            kind="escalation",
            thread_id=asker.thread_id,
            interrupt_id=interrupt_id,
            question=situation.model_dump(mode="json"),
            allowed=("approve", "respond"),
            labels={
                "approve": "carry on: the model is told that the call was denied",
                "respond": "the model gets your text as guidance, with the denial",
            },
            description=as_text(situation),
            reason=f"{count} denied in a row" if count > 1 else "a call was denied",
            tool_call_id=item.call["id"],
            action_key=item.key,
            origin=where(),
        )

    return describe


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]} …"
