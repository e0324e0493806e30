"""What does not go on by itself: for `hitl doctor`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from hitl_graph.card import words
from hitl_graph.cli import queries, standings, views
from hitl_graph.cli.app import FAILED
from hitl_graph.ledger import Ledger, owner, requests
from hitl_graph.model import Request
from hitl_graph.reviewers import Reviewer
from hitl_graph.storage import Transaction

__all__ = ["Finding", "claims", "stuck_effects", "stuck_requests", "undecidable"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `ok`; `note` (worth knowing); `problem` (somebody has to do something).
        advice: What to do.
        code: The exit code that it deserves.
    """

    check: str
    level: Literal["ok", "note", "problem"]
    text: str
    advice: str = ""
    code: int = FAILED


def stuck_requests(ledger: Ledger, stuck: timedelta) -> Iterator[Finding]:
    """What was decided and not carried out, or asked and never paused, for longer than `stuck`."""
    before = ledger.now_ms() - int(stuck.total_seconds() * 1000)
    undelivered: list[Request] = ledger.read(
        requests.select, "state = 'decided' AND decided_ms <= ? ORDER BY decided_ms", (before,)
    )
    unparked: list[Request] = ledger.read(
        requests.select, "state = 'pending' AND parked <> 1 AND created_ms <= ? ORDER BY created_ms", (before,)
    )
    if undelivered:
        yield Finding(
            "decided, not carried out", "problem", _named(ledger, undelivered, "decided_at"),
            "start a worker: hitl worker MODULE:GRAPH. If one runs, see what it says of these threads",
        )  # fmt: skip
    if unparked:
        yield Finding(
            "asked, but the pause was never stored", "problem", _named(ledger, unparked, "created_at"),
            "the agent died while it paused: run the thread again (graph.invoke(None, config)), it will ask anew",
        )  # fmt: skip
    untaken: list[Request] = ledger.read(
        requests.select, "state = 'pending' AND parked = 1 AND deadline_ms <= ? ORDER BY deadline_ms", (before,)
    )
    if untaken:
        yield Finding(
            "deadlines that nobody keeps", "problem", _named(ledger, untaken, "created_at"),
            "start a worker (hitl worker MODULE:GRAPH), or, where something else resumes threads, hitl sweep",
        )  # fmt: skip
    if not undelivered and not unparked and not untaken:
        waiting = len(ledger.pending_rows())
        yield Finding("requests", "ok", f"{waiting} waiting for a person, none stuck")


def undecidable(ledger: Ledger) -> Iterator[Finding]:
    """What waits for more people than the directory knows."""
    asked = [request for request in ledger.pending_rows() if request.terms is not None and request.terms.names_people]
    if not asked:
        return
    known = queries.standings(ledger, asked)
    if not isinstance(ledger.directory, Iterable):
        roles = {s for one in known.values() for s in one.reviewers if ":" in s}
        if roles:
            yield Finding(
                "people", "note", f"{len(asked)} wait for {', '.join(sorted(roles))}; who that is, is not known here",
                "give --directory FILE, and it is checked whether there is anybody",
            )  # fmt: skip
        return
    people: list[Reviewer] = list(ledger.directory)
    short_of = dict[str, list[Request]]()
    for request in asked:
        standing = known[request.id]
        free = [who.name for who in standings.able(request, standing, people)]
        if len(free) < standing.left:
            there = f"the directory has {', '.join(free) if free else 'nobody'}"
            wanted = f"{standing.left} of {words.asked(standing.reviewers)} needed, {there}"
            short_of.setdefault(wanted, []).append(request)
    for wanted, found in short_of.items():
        ends = all(r.terms and len(r.terms.schedule) > r.fired for r in found)
        yield Finding(
            "too few people", "note" if ends else "problem", f"{_named(ledger, found, 'created_at')}: {wanted}",
            "give somebody the role in the directory" + (", or wait for the deadline" if ends else ""),
        )  # fmt: skip
    if not short_of:
        yield Finding("people", "ok", f"for each of {len(asked)} that wait for certain people there are enough")


def _named(ledger: Ledger, found: list[Request], since: str) -> str:
    short, now = queries.short_ids(ledger, [request.id for request in found]), ledger.clock()
    named = [
        f"{short[r.id]} (thread {views.visible(r.thread_id)}, {views.age(getattr(r, since), now)} ago)"
        for r in found[:5]
    ]
    return f"{len(found)}: {', '.join(named)}" + (", ..." if len(found) > 5 else "")


def stuck_effects(ledger: Ledger) -> Iterator[Finding]:
    """Actions that were started and whose end is not known."""

    def work(tx: Transaction) -> list[Any]:
        return tx.execute(
            "SELECT p.thread_id, p.tool, p.action_key, e.state, e.owner, e.started_ms, e.error"
            " FROM hitl_permits p JOIN hitl_effects e ON e.permit_id = p.id WHERE e.state IN"
            " ('reserved', 'unknown', 'failed')"
            " AND p.attempt = (SELECT max(attempt) FROM hitl_permits l WHERE l.action_key = p.action_key)"
            " ORDER BY e.started_ms"
        ).fetchall()

    fine = True
    for thread, tool, key, state, holder, started_ms, error in ledger.read(work):
        dead = owner.is_dead(holder) if state == "reserved" else None
        call = f"{views.visible(tool)} of thread {views.visible(thread)}, started {views.clock(started_ms)}"
        if state == "reserved" and not dead:
            yield Finding("running", "note" if dead is None else "ok", f"{call}, by {_process(holder)}")
            continue
        fine = False
        asked: list[Request] = ledger.read(
            requests.select, "action_key = ? AND kind = 'question' AND state IN ('pending', 'decided')", (key,)
        )
        why = (
            "its process ended before it was done"
            if state == "reserved"
            else views.visible(error or "its end is not known")
        )
        if asked:
            short = queries.short_ids(ledger, [asked[0].id])[asked[0].id]
            if asked[0].state == "decided":
                advice = "a worker carries out what was answered: hitl worker MODULE:GRAPH"
            else:
                advice = f"find out whether it happened, and answer: hitl show {short}"
        else:
            advice = "run the thread again, it then asks: hitl worker, or graph.invoke(None, config)"
        yield Finding("outcome unknown" if state != "failed" else "failed", "problem", f"{call}: {why}", advice)
    if fine:
        yield Finding("effects", "ok", "none with an unknown end")


def _process(holder: str) -> str:
    place = holder.split("/")
    return f"process {place[-2]} on {place[0]}" if len(place) > 2 else holder


def claims(ledger: Ledger) -> Iterator[Finding]:
    """Who resumes which thread."""

    def work(tx: Transaction) -> list[Any]:
        return tx.execute("SELECT thread_id, owner, until_ms FROM hitl_thread_claims ORDER BY thread_id").fetchall()

    for thread, holder, until_ms in ledger.read(work):
        process = holder.partition("|")[0]
        dead = owner.is_dead(process)
        who = f"thread {views.visible(thread)} by {_process(process)}"
        if dead or (dead is None and until_ms < ledger.now_ms()):
            yield Finding("claim", "note", f"{who}, which has ended", "nothing to do: the next worker takes it over")
        elif dead is None:
            yield Finding("claim", "note", f"{who}, on another machine, until {views.clock(until_ms)}")
        else:
            yield Finding("claim", "ok", f"{who}, which runs")
