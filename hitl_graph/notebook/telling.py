"""What a thread asks and what became of it, in words: as text for a terminal, as HTML with everything escaped."""

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from hitl_graph.card import Card, Field, Precedents, card, done, left, what
from hitl_graph.card import age as time_since
from hitl_graph.model import Request
from hitl_graph.notebook.session import Happened, Stand
from hitl_graph.visible import visible

if TYPE_CHECKING:
    from hitl_graph.notebook.run import Run

__all__ = [
    "Line",
    "about",
    "as_html",
    "as_text",
    "before",
    "bundle",
    "card_of",
    "contents",
    "decided",
    "differences",
    "happened",
    "in_short",
    "result",
    "run",
    "value",
]

_LONG = 60  # a text longer than this, or with several lines, stands in a block
_MOST = 4000  # characters of one value


class Line(NamedTuple):
    """A piece of a text: a title, a small heading, a paragraph, a name with what it is, a block as it stands."""

    kind: Literal["title", "head", "text", "dim", "pair", "block"]
    text: str
    name: str = ""


def in_short(request: Request) -> str:
    """What a request is about, in one line."""
    return f"{request.id[:8]} {what(request)}"


def run(found: "Run") -> list[Line]:
    """All of where a thread stands."""
    lines, session = list[Line](), found.session
    lines += happened(found.happened)
    if found.note:
        lines.append(Line("dim", found.note))
    now = session.ledger.clock()
    for number, request in enumerate(found.requests):
        one = card_of(request, found.stand, now)
        picked = f"[{number}]" if len(found) > 1 else ""
        lines += [*([Line("text", "")] if lines else []), *contents(one, now), *about(one, now), *_answers(one, picked)]
    if found.requests:
        lines.append(Line("dim", f"You decide as {visible(session.name)}."))
    elif found.status == "finished":
        lines += [Line("title", f"Thread {visible(found.thread_id)} has finished"), *result(found.stand)]
    else:
        lines.append(Line("title", f"Thread {visible(found.thread_id)}: nobody is asked"))
    return lines


def card_of(request: Request, stand: Stand, now: datetime) -> Card:
    """The card of a request, for who looks at it."""
    who, away = (stand.looking.who, stand.looking.away) if stand.looking is not None else (None, ())
    before = stand.precedents.get(request.id, ())
    return card(request, stand.standings[request.id], now=now, reviewer=who, away=away, precedents=before)


def contents(one: Card, now: datetime, *, fields: bool = True) -> list[Line]:
    """What will happen or is asked.

    Args:
        fields: With the arguments, the draft or the state, where they are not drawn in another way.
    """
    lines = [Line("title", one.heading)]
    lines += [Line("block", one.description)] if one.description else []
    if one.evidence is not None:
        lines += [Line("text", sentence) for sentence in one.evidence.sentences]
        lines += _listed("Tried", one.evidence.tried) + _listed("Came back", one.evidence.came_back)
        lines += [Line("dim", one.evidence.spent)] if one.evidence.spent else []
        lines += _listed("You could", one.evidence.next_steps)
    if one.question is not None:
        lines += [Line("block", one.question.text)]
        lines += [Line("text", f"{i}  {option}") for i, option in enumerate(one.question.options, 1)]
        lines += [Line("dim", f"The answer is: {one.question.answer}")] if one.question.answer else []
    if one.shown is not None:
        lines.append(Line("block", value(one.shown)))
    if one.draft is not None:
        lines += _draft(one, fields)
    if fields:
        lines += _fields(one.fields or (one.evidence.state if one.evidence is not None else ()))
    if one.facts:
        lines += [Line("head", "As things were when people were asked"), *_fields(one.facts)]
    if one.changed:
        lines += [Line("head", "Changed since people were asked before"), Line("block", one.changed)]
    return lines


def _draft(one: Card, fields: bool) -> list[Line]:
    lines = list[Line]()
    assert one.draft is not None
    for remark in one.draft.findings:
        where = f" ({remark.where})" if remark.where else ""
        lines.append(Line("pair", f"{remark.text}{where}", remark.check or "finding"))
    if (feedback := one.draft.feedback) is not None:
        lines += [Line("head", f"Sent back by {feedback.by}")]
        lines += [Line("block", feedback.text)] if feedback.text else []
        lines += [Line("text", f"{remark.where}: {remark.text}") for remark in feedback.remarks]
        lines += [Line("head", "What changed"), Line("block", feedback.diff or "nothing")]
    return [*lines, Line("block", value(one.draft.value))] if fields else lines


def about(one: Card, now: datetime) -> list[Line]:
    """Why it is asked, since when, and who has to decide."""
    rows = [
        ("kind", f"{one.sort}: nothing waits for it" if one.is_audit else ""),
        ("why", one.reason),
        ("risk", one.risk or ""),
        *one.origin,
        ("thread", one.thread),
    ]
    rows += [("asked", f"{time_since(one.created_at, now)} ago"), ("note", one.note)]
    people = one.people
    if people.named:
        rows += [("needed", people.missing), *people.rules]
    for said in people.said:
        behalf = f" for {said.behalf}" if said.behalf else ""
        rows.append((said.by, f"{said.word}{behalf}" + (f": {said.message}" if said.message else "")))
    rows += [("claimed", f"by {claim.by}, for {left(claim.until, now)}") for claim in people.claims]
    rows += [("deadline", f"{coming.short}: {coming.text}") for coming in people.coming]
    rows += [("before", one.precedents.told)] if one.precedents is not None else []
    return [Line("pair", text, name) for name, text in rows if text]


def before(found: Precedents, now: datetime) -> list[Line]:
    """What people decided about requests like it, one by one."""
    lines = list[Line]()
    for one in found.shown:
        lines.append(Line("head", f"{one.done.capitalize()} by {one.by}, {time_since(one.at, now)} ago"))
        lines.append(Line("text", one.summary))
        lines += [Line("dim", f"The same here: {', '.join(one.same)}")] if one.same else []
        lines += [Line("block", "\n".join(one.changes))] if one.changes else []
        lines += [Line("block", one.message)] if one.message else []
    return lines + ([Line("dim", f"and {found.more} more")] if found.more else [])


def _answers(one: Card, picked: str) -> list[Line]:
    given = {
        "approve": "()",
        "edit": "(draft)" if one.draft else "(name=...)",
        "reject": '("why")',
        "respond": '("...")',
    }
    return [Line("pair", answer.means, f"{picked}.{answer.word}{given[answer.word]}") for answer in one.answers]


def _fields(fields: Iterable[Field]) -> Iterator[Line]:
    for one in fields:
        if one.given:
            yield from _named(one.name, one.value)


def _named(name: str, given: Any) -> list[Line]:
    is_long = isinstance(given, str) and ("\n" in given or len(given) > _LONG)
    told = value(given, quoted=not is_long)
    if "\n" in told or len(told) > _LONG:
        return [Line("pair", "", name), Line("block", told)]
    return [Line("pair", told, name)]


def _listed(title: str, entries: Sequence[str]) -> list[Line]:
    return [Line("head", title), *(Line("text", f"- {entry}") for entry in entries)] if entries else []


def value(given: Any, *, quoted: bool = False) -> str:
    """A value in full, up to a length at which nobody reads it."""
    if isinstance(given, str) and not quoted:
        told = given
    else:
        try:
            told = json.dumps(given, ensure_ascii=False)
            told = (
                told
                if len(told) <= _LONG or isinstance(given, str)
                else json.dumps(given, ensure_ascii=False, indent=2)
            )
        except (TypeError, ValueError):
            told = repr(given)
    return told if len(told) <= _MOST else f"{told[:_MOST]} ... ({len(told) - _MOST} more characters)"


def happened(found: Happened) -> list[Line]:
    """Who decided what, what ran, and what came back."""
    lines = list[Line]()
    for request in found.decided:
        lines += decided(request)
    for row in found.ran:
        took = f" in {row['ended_ms'] - row['started_ms']} ms" if row["ended_ms"] else ""
        lines.append(
            Line("pair", f"ran: {row['state']}{took}" + (f": {row['error']}" if row["error"] else ""), row["tool"])
        )
    for name, new in found.news.items():
        if isinstance(new, list) and new and isinstance(new[0], BaseMessage):
            lines += [line for message in new for line in _message(message)]
        elif found.decided or found.ran:
            lines += _named(name, new)
    return lines


def decided(request: Request) -> list[Line]:
    """Who decided a request, and how; or why nobody can any more."""
    decision = request.decision
    if decision is None:
        return [Line("title", f"{request.state.capitalize()}: {what(request)}"), Line("dim", request.note or "")]
    head = f"{done(request, decision).capitalize()} by {request.reviewer}, through {request.channel}: {what(request)}"
    lines = [Line("title", head)]
    if decision.args is not None:
        lines += differences(request.action.args if request.action is not None else {}, decision.args)
    if decision.draft is not None:
        lines.append(Line("block", value(decision.draft)))
    if decision.message:
        lines.append(Line("block", decision.message))
    if decision.value is not None:
        lines.append(Line("block", value(decision.value)))
    return lines


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Line]:
    """What is another one, is new, or is gone."""
    lines = list[Line]()
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            lines.append(Line("pair", f"{value(before[name], quoted=True)} → (not given)", name))
        elif name not in before:
            lines += _named(name, after[name])
        elif json.dumps(before[name], sort_keys=True) != json.dumps(after[name], sort_keys=True):
            lines.append(Line("pair", f"{value(before[name], quoted=True)} → {value(after[name], quoted=True)}", name))
    return lines


def _message(message: BaseMessage) -> list[Line]:
    name = message.name or {"ai": "agent", "human": "user"}.get(message.type, message.type)
    name = "agent gets" if isinstance(message, ToolMessage) else name
    text = message.text
    if isinstance(message, AIMessage) and message.tool_calls and not text:
        return [Line("pair", "calls " + ", ".join(call["name"] for call in message.tool_calls), name)]
    return _named(name, text) if "\n" in text or len(text) > _LONG else [Line("pair", text, name)]


def result(stand: Stand) -> list[Line]:
    """What a graph gave: the last message, else each key of its state."""
    values = stand.values
    if not isinstance(values, Mapping):
        return _named("result", values)
    lines = list[Line]()
    told = [new for news in stand.happened.news.values() if isinstance(news, list) for new in news]
    for name, last in values.items():
        if not (isinstance(last, list) and last and all(isinstance(item, BaseMessage) for item in last)):
            lines += _named(str(name), last)
        elif not any(item is last[-1] for item in told):
            lines += _message(last[-1])
    return lines


def bundle(shown: Any) -> dict[str, Any]:
    """What a notebook is given of an object with a `widget`: that, and the text for where there are no widgets."""
    told = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
    try:
        found = shown.widget._repr_mimebundle_()
    except ImportError:
        return told
    return {**(found[0] if isinstance(found, tuple) else found), **told}


def as_text(lines: Sequence[Line]) -> str:
    """For a terminal: what hides is made visible, a block stands behind a bar."""
    width = max((len(line.name) for line in lines if line.kind == "pair"), default=0)
    told = list[str]()
    for line in lines:
        if line.kind == "block":
            told += [f"    | {visible(part, keep=chr(9))}" for part in line.text.split("\n")]
        elif line.kind == "pair":
            told.append(f"  {visible(line.name):<{min(width, 18)}}  {visible(line.text)}".rstrip())
        else:
            told.append(visible(line.text))
    return "\n".join(told).strip("\n")


_STYLES = {
    "title": "font-weight:600;margin:2px 0 4px",
    "head": "font-weight:600;opacity:.75;margin:6px 0 2px",
    "text": "margin:2px 0",
    "dim": "opacity:.7;margin:2px 0",
    "block": "margin:2px 0 4px;padding:4px 8px;border-left:3px solid rgba(128,128,128,.4);white-space:pre-wrap;"
    "overflow-wrap:anywhere;max-height:24em;overflow-y:auto;font-family:var(--jp-code-font-family,monospace);"
    "font-size:var(--jp-code-font-size,13px);line-height:1.4;background:rgba(128,128,128,.06)",
}
_ROW = "display:flex;gap:8px;margin:1px 0;line-height:1.45"
_NAME = "flex:0 0 130px;text-align:right;opacity:.7;overflow-wrap:anywhere"
_TEXT = "flex:1;min-width:0;white-space:pre-wrap;overflow-wrap:anywhere"


def as_html(lines: Sequence[Line]) -> str:
    """As HTML; every text is escaped, and what hides is made visible."""
    return f'<div style="line-height:1.45">{"".join(map(_html, lines))}</div>'


def _html(line: Line) -> str:
    text = html.escape(visible(line.text, keep="\n\t"))
    if line.kind == "pair":
        name = html.escape(visible(line.name))
        return f'<div style="{_ROW}"><span style="{_NAME}">{name}</span><span style="{_TEXT}">{text}</span></div>'
    tag = "pre" if line.kind == "block" else "div"
    return f'<{tag} style="{_STYLES[line.kind]}">{text}</{tag}>' if text else ""
