"""How a draft looks to a person: in full, with what checks found, what was asked for before and what changed since."""

import json
from collections.abc import Sequence

from pydantic import JsonValue
from rich.console import Console
from rich.text import Text

from hitl_graph.cli import views
from hitl_graph.drafts import difference, excerpt, files, place
from hitl_graph.model import Comment, Request, Word

__all__ = ["THEN", "changes", "coloured", "contents", "remarks", "typed"]

_QUOTE = 60  # of what a comment is about
_TYPED: dict[Word, str] = {
    "approve": "hitl approve {id}",
    "edit": "hitl edit {id}    (opens $EDITOR; or: SET)",
    "reject": 'hitl reject {id} -m "why"',
    "respond": 'hitl respond {id} -m "what to change"    (and, about one place: --at WHERE)',
}
THEN: dict[Word, str] = {
    "approve": "delivers it",
    "edit": "delivers your version",
    "reject": "ends it; nothing is delivered",
    "respond": "sends it back to the writer",
}


def typed(request: Request, word: Word) -> str:
    """What to type for an answer."""
    if files(request.draft):
        where = "FILE:LINE=TEXT"
    else:
        where = '"SOME WORDS=TEXT"' if isinstance(request.draft, str) else "FIELD=TEXT"
    sets = "--args JSON" if not isinstance(request.draft, dict) else "--set NAME=VALUE, --args JSON"
    sets = "--text TEXT" if isinstance(request.draft, str) else sets
    return _TYPED[word].replace("SET", sets).replace("WHERE", where)


def contents(out: Console, request: Request) -> list[Text | str]:
    """The draft and all that is known about it."""
    lines: list[Text | str] = [*_draft(out, request)]
    if (review := request.review) is None:
        return lines
    if review.findings:
        lines += ["", Text("Checks found", style="bold")]
        for finding in review.findings:
            head = f"{views.visible(finding.check)}{_at(finding, request.draft)}: "
            lines += views.quoted(out, [f"{head}{views.visible(finding.text)}"], "  ")
    if review.previous is not None:
        by = views.visible(review.sent_back_by or "?")
        lines += ["", Text(f"Asked for by {by}, about the draft before", style="bold")]
        lines += views.quoted(out, views.block(review.feedback), "  ") if review.feedback else []
        lines += remarks(out, review.comments, review.previous)
        lines += ["", Text("Changed since", style="bold"), *coloured(out, review.diff)]
    return lines


def _draft(out: Console, request: Request) -> list[Text]:
    draft = request.draft
    if isinstance(draft, list) and (known := files(draft)):
        return [
            line
            for path, text in known.items()
            for line in (Text(f"  {views.visible(path)}", style="cyan"), *views.quoted(out, views.block(text), "    "))
        ]
    if isinstance(draft, str):
        return views.quoted(out, views.block(draft), "  ")
    whole = views.arguments(request, draft) if isinstance(draft, dict) else draft
    lines = json.dumps(whole, ensure_ascii=False, indent=2).split("\n")
    return views.quoted(out, list(map(views.visible, lines)), "  ")


def remarks(out: Console, comments: Sequence[Comment], draft: JsonValue) -> list[Text]:
    """Comments, each with the place that it is about."""
    said = [f"- {_at(comment, draft).removeprefix(' at ')}: {views.visible(comment.text)}" for comment in comments]
    return views.quoted(out, [line.replace("- : ", "- ", 1) for line in said], "  ")


def _at(comment: Comment, draft: JsonValue) -> str:
    where, quote = place(comment), excerpt(comment, draft)
    if not where:
        return ""
    words = views.visible(" ".join((quote or "").split()))
    if len(words) > _QUOTE:
        words = f"{words[: _QUOTE - 1]}…"
    return f" at {views.visible(where)}{f' ({words})' if words else ''}"


def changes(out: Console, before: JsonValue, after: JsonValue) -> list[Text]:
    """What changed from one draft to another."""
    return coloured(out, difference(before, after))


def coloured(out: Console, diff: str | None) -> list[Text]:
    """A diff, line by line."""
    if not diff:
        return [Text("  nothing", style="dim")]
    styles = {"+": "green", "-": "red", "@": "dim"}
    lines: list[Text] = []
    for line in diff.split("\n"):
        for text in views.quoted(out, views.block(line), "  "):
            text.stylize(styles.get(line[:1], ""))
            lines.append(text)
    return lines
