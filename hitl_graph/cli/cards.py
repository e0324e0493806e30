"""One request in full, as a card for people and as JSON for scripts."""

import json
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from hitl_graph.card import words
from hitl_graph.card.contents import fields_of
from hitl_graph.card.precedents import Precedents
from hitl_graph.cli import reviews, situations, standings, views
from hitl_graph.documents import RequestDocument
from hitl_graph.model import Request, Word
from hitl_graph.reviewers import Directory
from hitl_graph.voting import Standing

__all__ = ["card", "facts"]

_TYPED: dict[Word, str] = {
    "approve": "hitl approve {id}",
    "edit": "hitl edit {id}    (or: --set NAME=VALUE, --args JSON)",
    "reject": 'hitl reject {id} -m "why"',
    "respond": 'hitl respond {id} -m "text"    (or: --json VALUE)',
}


_IN_ITS_PLACE = {False: "Delivered in its place", True: "It should have been"}


def facts(request: Request, standing: Standing) -> dict[str, Any]:
    """A request as JSON for scripts: the same keys for every request."""
    return RequestDocument.of(request, standing).model_dump(mode="json")


def card(
    out: Console, request: Request, standing: Standing, ran: list[dict[str, Any]], now: datetime, short: str, db: str,
    directory: Directory | None = None, precedents: Precedents | None = None, *, all_alike: bool = False,
) -> list[Text | str]:  # fmt: skip
    """All that a person needs to decide, in the order in which it is needed.

    Args:
        precedents: What people decided about requests like it.
        all_alike: Each of these, not only how many there are.
    """
    heading = words.heading(request)
    lines: list[Text | str] = [Text(heading if heading.endswith("?") else f"{heading}:", style="bold"), ""]
    told = situations.contents(out, request, now)
    if request.is_audit:
        lines += _to_go_by(out, request)
    if request.description and request.kind == "question" and told is None:
        lines += [*views.quoted(out, [views.visible(request.description)], ""), ""]
    if told is not None:
        lines += told
    else:
        lines += reviews.contents(out, request) if request.draft is not None else _contents(out, request)
    lines += _fresh(out, request)
    kind = [("kind", text)] if (text := words.nothing_waits(request)) else []
    about = [
        *kind,
        ("why", views.visible(request.reason) or "-"),
        *([("risk", request.risk)] if request.risk else []),
        ("request", request.id),
        ("thread", views.visible(request.thread_id)),
        *_origin(request),
        ("asked", f"{views.clock(request.created_at)} ({views.age(request.created_at, now)} ago)"),
        ("state", request.state + (f": {views.visible(request.note)}" if request.note else "")),
        ("digest", request.digest if request.interrupt_id else "(redacted)"),
    ]
    lines += ["", *views.pairs(about)]
    lines += standings.contents(out, request, standing, now, directory)
    lines += _decided(out, request, ran, now)
    if precedents is not None:
        lines += _precedents(out, precedents, now, f"hitl show {short} --alike{db}", all_alike=all_alike)
    if request.state == "pending":
        lines += ["", Text("Answers", style="bold")]
        for word in request.allowed:
            lines.append(Text.assemble("  ", (f"{word:<9}", "cyan"), words.meaning(request, word)))
            how = reviews.typed(request, word) if request.draft is not None else situations.typed(word, request)
            typed, hint, other = (how or _TYPED[word]).format(id=short).partition("    ")
            lines.append(Text.assemble("             ", f"{typed}{db}", (hint + other, "dim")))
    return lines


def _fresh(out: Console, request: Request) -> list[Text]:
    """The facts that were read for this question, and what is new about them."""
    if request.fresh is None:
        return []
    lines = [Text(""), Text("As things were when people were asked; read again before it runs", style="bold")]
    for name, value in request.fresh.facts.items():
        first, *rest = views.value_lines(value)
        if rest or first.startswith("| "):
            lines += [Text.assemble("  ", (views.visible(name), "cyan")), *views.quoted(out, [first, *rest], "      ")]
        else:
            lines.append(Text.assemble("  ", (views.visible(name), "cyan"), " = ", first))
    if request.fresh.changed is not None:
        lines += [Text(""), Text("Changed since people were asked before", style="bold")]
        lines += reviews.coloured(out, request.fresh.changed)
    return lines


def _to_go_by(out: Console, request: Request) -> list[Text | str]:
    """What a judgement is about beside the call or the draft."""
    lines: list[Text | str] = []
    if request.description:
        lines += [*views.quoted(out, views.block(request.description), "  "), ""]
    if request.question is not None:
        lines += [*views.quoted(out, views.value_lines(request.question), "  "), ""]
    return lines


def _precedents(
    out: Console, found: Precedents, now: datetime, how: str, *, all_alike: bool
) -> list[Text | str]:  # fmt: skip
    lines: list[Text | str] = ["", *views.pairs([("before", found.told + ("" if all_alike else f"    ({how})"))])]
    for one in found.shown if all_alike else ():
        by = f"{one.done.capitalize()} by {views.visible(one.by)}, {views.age(one.at, now)} ago"
        same = f"; the same: {', '.join(map(views.visible, one.same))}" if one.same else ""
        lines += ["", Text.assemble("  ", (by, "bold"), f"  {one.id}{same}")]
        lines += views.quoted(out, [one.summary], "    ")
        lines += views.quoted(out, list(map(views.visible, one.changes)), "      ")
        lines += views.quoted(out, views.block(one.message), "    ") if one.message else []
    if all_alike and found.more:
        lines += ["", Text(f"  and {found.more} more", style="dim")]
    return lines


def _origin(request: Request) -> list[tuple[str, str]]:
    if (origin := request.origin) is None:
        return []
    people = [("for", origin.requester), ("author", origin.author)]
    graph = " ".join(filter(None, (origin.graph, origin.version)))
    return [(name, views.visible(who)) for name, who in people if who] + (
        [("graph", views.visible(graph))] if graph else []
    )


def _contents(out: Console, request: Request) -> list[Text]:
    if request.action is None:
        shown = request.question if request.question is not None else request.draft
        if shown is None:
            return views.quoted(out, [views.what(request)], "  ")
        whole = isinstance(shown, str)
        lines = views.block(str(shown)) if whole else json.dumps(shown, ensure_ascii=False, indent=2).split("\n")
        return views.quoted(out, lines if whole else list(map(views.visible, lines)), "  ")
    if not request.action.args:
        return [Text("  (no arguments)")]
    told: list[Text] = []
    fields = fields_of(request)
    for field in fields:
        if not field.given:
            continue
        first, *rest = views.value_lines(field.value)
        locked = "edit" in request.allowed and not field.editable
        label, fixed = (views.visible(field.name), "cyan"), ("  (may not be edited)" if locked else "", "dim")
        if rest or first.startswith("| "):
            told += [Text.assemble("  ", label, fixed), *views.quoted(out, [first, *rest], "      ")]
        else:
            told.append(Text.assemble("  ", label, " = ", first, fixed))
    if missing := [views.visible(field.name) for field in fields if not field.given]:
        told.append(Text(f"  (not given: {', '.join(missing)})", style="dim"))
    return told


def _decided(out: Console, request: Request, ran: list[dict[str, Any]], now: datetime) -> list[Text | str]:
    decision, lines = request.decision, list[Text | str]()
    if decision is not None:
        done = words.done(request, decision)
        label = (
            f" [{request.labels[decision.type]}]"
            if decision.type in request.labels and request.kind != "review"
            else ""
        )
        lines += [
            "",
            Text(
                f"{done.capitalize()} by {views.visible(request.reviewer or '?')}{label},"
                f" {views.clock(request.decided_at)} ({views.age(request.decided_at, now)} ago),"
                f" through {views.visible(request.channel or '?')}",
                style="bold",
            ),
        ]
        if decision.args is not None:
            lines += [Text(_IN_ITS_PLACE[True])] if request.is_audit else []
            lines += views.quoted(out, views.lines_of(views.arguments(request, decision.args)), "  ")
        if decision.draft is not None and request.draft is not None:
            lines += ["", Text(f"{_IN_ITS_PLACE[request.is_audit]} (what changed)", style="bold")]
            lines += reviews.changes(out, request.draft, decision.draft)
        if decision.message:
            lines += views.quoted(out, views.block(decision.message), "  ")
        lines += reviews.remarks(out, decision.comments, request.draft)
        if decision.value is not None:
            lines += views.quoted(out, views.value_lines(decision.value), "  ")
        if request.state == "decided":
            lines.append("No worker has carried it out yet: hitl worker MODULE:GRAPH --once")
    for row in ran:
        took = f", took {row['ended_ms'] - row['started_ms']} ms" if row["ended_ms"] else ""
        error = f": {views.visible(row['error'])}" if row["error"] else ""
        lines.append(f"{views.visible(row['tool'])} ran {views.clock(row['started_ms'])}: {row['state']}{took}{error}")
    return lines
