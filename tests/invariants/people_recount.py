"""Who let something run, counted from the tables and the log alone, in another way than the library counts."""

import json
from itertools import permutations
from typing import Any

from hitl_graph.ledger import Ledger, requests
from hitl_graph.model import Action, Decision, Request
from tests.invariants.people_oracle import MEANS, known, meant, proposed

__all__ = ["recount"]

_TURNS = ("request.reminded", "request.escalated", "request.timed_out", "request.lapsed")


def recount(ledger: Ledger, request_id: str, action: Action) -> None:
    """A permit was written: enough different people wanted exactly this, each of whom might decide then."""

    def rows(query: str, *parameters: str) -> list[Any]:
        return ledger.read(lambda tx: tx.execute(query, parameters).fetchall())

    request = ledger.read(requests.find, request_id)
    decision = request.decision
    assert decision is not None
    assert request.action is not None
    assert action.args == (decision.args if decision.type == "edit" else request.action.args)
    log = rows("SELECT event, at_ms, body, actor FROM hitl_audit WHERE subject = ? ORDER BY seq", request_id)
    votes = [
        (known(who), known(behalf or who), Decision.model_validate_json(text), at_ms, stage or 0)
        for who, behalf, text, at_ms, stage in rows(
            "SELECT reviewer, behalf, decision, at_ms, stage FROM hitl_votes WHERE request_id = ?", request_id
        )
    ]
    [decided] = [row for row in log if row[0] == "request.decided"]
    if request.reviewer == "deadline":
        assert request.terms is not None
        turn = request.terms.schedule[request.fired - 1]
        assert (turn.then, decision.type) == ("approve", "approve")
        assert turn.at_ms <= decided[1]
        assert all(vote[2].type == "approve" for vote in votes)
        return
    agreeing = [vote for vote in votes if proposed(vote[2]) == proposed(decision)]
    assert agreeing
    for column in (0, 1):  # nobody twice, neither who voted nor whose right it was
        assert len({vote[column] for vote in agreeing}) == len(agreeing)
    if request.terms is not None:
        absences = rows("SELECT reviewer, deputy, from_ms, until_ms FROM hitl_absences")
        _stages(request, agreeing, log, absences)


def _stages(request: Request, agreeing: list[Any], log: list[Any], absences: list[Any]) -> None:
    terms = request.terms
    assert terms is not None
    excluded = {known(name) for name in terms.excluded}
    assert not excluded & {name for vote in agreeing for name in vote[:2]}
    came = zip((row for row in log if row[0] in _TURNS), terms.schedule, strict=False)
    escalated = [(row[1], selector) for row, turn in came if turn.then == "escalate" for selector in turn.to]
    for number, stage in enumerate(terms.stages):
        able = []
        for voter, owner, _, at_ms, of_stage in agreeing:
            if of_stage != number:
                continue
            also = [selector for since, selector in escalated if since <= at_ms]
            selectors = {*stage.reviewers, *also} if stage.reviewers else {"*"}
            able.append({selector for selector in selectors if owner in MEANS[selector]})
            assert able[-1], f"{owner} might not decide in stage {number}"
            if voter != owner:
                assert voter in meant(terms.delegates)
                assert _was_entrusted(voter, owner, at_ms, log, absences), f"{owner} gave nothing to {voter}"
        if stage.distinct_roles:
            places = [*set().union(*able), *["nothing"] * len(able)]
            orders = permutations(places, len(able))
            counted = max(sum(map(lambda place, can: place in can, order, able)) for order in orders)
        else:
            counted = len(able)
        assert counted >= stage.quorum


def _was_entrusted(voter: str, owner: str, at_ms: int, log: list[Any], absences: list[Any]) -> bool:
    """Whether there is a chain of delegations from one to the other, or an absence."""
    away = [known(deputy) for who, deputy, since, until in absences if known(who) == owner and since <= at_ms]
    reached = {owner, *away}
    given = [(known(row[3]), known(json.loads(row[2])["to"])) for row in log if row[0] == "request.delegated"]
    for _ in given:
        reached |= {to for by, to in given if by in reached}
    return voter in reached
