"""An escalation, or a question of an agent, as a card shows it: what happened, what it cost, what can be done."""

from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.text import Text

from hitl_graph.card.words import kind_of, properties
from hitl_graph.cli import views
from hitl_graph.facts import Inquiry, Situation, facts_of
from hitl_graph.model import Request, Word

__all__ = ["contents", "options", "typed"]

_WIDE = "             "


def contents(out: Console, request: Request, now: datetime) -> list[Text] | None:
    """What the request is about; None if it is not one of these."""
    facts = facts_of(request)
    if isinstance(facts, Situation):
        return _situation(out, facts, request, now)
    return _inquiry(out, facts, request) if isinstance(facts, Inquiry) else None


def options(request: Request) -> tuple[str, ...]:
    """The answers that a question offers, in the order of their numbers."""
    facts = facts_of(request)
    return facts.options if isinstance(facts, Inquiry) else ()


def typed(word: Word, request: Request) -> str | None:
    """The command for an answer, where it is another one than for a tool call."""
    facts = facts_of(request)
    if isinstance(facts, Situation):
        if word == "edit":
            return "hitl edit {id} --set KEY=VALUE    (or: --args JSON, or your editor)"
        return 'hitl respond {id} -m "what to do"' if word == "respond" else None
    if isinstance(facts, Inquiry) and word == "respond":
        if facts.options:
            return "hitl respond {id} --option NUMBER" + ("    (or: -m TEXT)" if facts.free_text else "")
        if properties(request):
            return "hitl respond {id} --set NAME=VALUE    (or: --json VALUE)"
        is_text = (request.answer_schema or {}).get("type") == "string"
        return "hitl respond {id} " + ("-m TEXT" if is_text else "--json VALUE")
    return None


def _situation(out: Console, facts: Situation, request: Request, now: datetime) -> list[Text]:
    lines, told = _text(out, facts.sentence, "  "), set[tuple[str, ...]]()
    for finding in facts.findings:
        if finding.sentence != facts.sentence and finding.kind != "error":
            lines += _text(out, finding.sentence, "  ")
    for title in ("tried", "came back"):
        entries = list(
            dict.fromkeys(
                entry for one in facts.findings for entry in (one.tried if title == "tried" else one.came_back)
            )
        )
        lines += _listed(out, title.capitalize(), entries) if tuple(entries) not in told else []
        told.add(tuple(entries))
    about: list[tuple[str, str]] = []
    if facts.since_message is not None:
        when = f", {views.clock(facts.since)} ({views.age(facts.since, now)} ago)" if facts.since else ""
        about.append(("since", f"message {facts.since_message} of {facts.messages}{when}"))
    if facts.steps or facts.cost is not None:
        about.append(("spent", f"{facts.spent} since then" if facts.steps else f"cost {facts.cost:g}"))
    lines += [Text(""), *views.pairs(about)] if about else []
    lines += _listed(out, "You could", facts.next_steps)
    if request.answer_schema is not None and "edit" in request.allowed:
        lines += [Text(""), Text("State that you may change", style="bold")]
        for name in properties(request):
            if name in facts.state:
                [first, *rest] = views.value_lines(facts.state[name])
                shown = [first, *rest]
                if rest or first.startswith("| "):
                    lines += [Text.assemble("  ", (views.visible(name), "cyan")), *views.quoted(out, shown, "      ")]
                else:
                    lines.append(Text.assemble("  ", (views.visible(name), "cyan"), " = ", first))
            else:
                hint = "  (what you give is added)" if name in facts.adds else "  (not set, or too long to show)"
                lines.append(Text.assemble("  ", (views.visible(name), "cyan"), (hint, "dim")))
    return lines


def _inquiry(out: Console, facts: Inquiry, request: Request) -> list[Text]:
    lines = views.quoted(out, views.block(facts.question), "  ")
    if facts.options:
        lines.append(Text(""))
        for number, option in enumerate(facts.options, 1):
            [first, *rest] = views.quoted(out, [views.visible(option)], "      ")
            lines += [Text.assemble(f"  {number:>2}  ", first.plain.strip()), *rest]
        if facts.free_text:
            lines.append(Text("      or another answer", style="dim"))
    if fields := properties(request):
        required = (request.answer_schema or {}).get("required")
        needed = required if isinstance(required, list) else []
        lines += [Text(""), Text("The answer has", style="bold")]
        for name, schema in fields.items():
            lines.append(
                Text.assemble(
                    "  ",
                    (views.visible(name), "cyan"),
                    f": {kind_of(schema)}",
                    ("" if name in needed else "  (optional)", "dim"),
                )
            )
    elif not facts.options and (kind := kind_of(request.answer_schema)) != "string":
        lines += [Text(""), Text(f"The answer is: {kind}")]
    return lines


def _text(out: Console, text: str, indent: str) -> list[Text]:
    return views.quoted(out, views.block(text), indent)


def _listed(out: Console, title: str, entries: Iterable[str]) -> list[Text]:
    shown: list[Text] = []
    for entry in entries:
        [first, *rest] = views.quoted(out, [views.visible(entry)], "    ")
        shown += [Text.assemble("  - ", first.plain.strip()), *rest]
    return [Text(""), Text(title, style="bold"), *shown] if shown else []
