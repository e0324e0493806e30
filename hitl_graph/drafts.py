"""What a review is about, place by place: the files of a draft, where a comment points, what changed. No I/O.

A draft is plain JSON. A string is a text (or a unified patch); a list of objects with a `path` and a `content` or a
`patch` is a list of files; everything else is just JSON.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from pydantic import JsonValue

from hitl_graph.model import Comment

__all__ = ["check_anchor", "difference", "excerpt", "feedback", "files", "is_patch", "locate", "place"]

_LONG = 100  # a line of prose longer than this is compared sentence by sentence
_SENTENCE = re.compile(r"(?<=[.!?;:]) +")
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(?P<start>\d+)(?:,(?P<count>\d+))? @@")
_NAMED = re.compile(r"^\+\+\+ (?:b/)?(?P<path>[^\t\n]+)")
_REMOVED = re.compile(r"^--- (?:a/)?(?P<path>[^\t\n]+)")


def is_patch(text: str) -> bool:
    """Whether a text is a unified patch."""
    lines = text.split("\n")
    headers = any(one.startswith("--- ") and other.startswith("+++ ") for one, other in pairwise(lines))
    return headers and any(map(_HUNK.match, lines))


def files(draft: JsonValue) -> dict[str, str]:
    """The files of a draft by their path, each with its content or its part of the patch; none if it has no files."""
    if isinstance(draft, str):
        return {path: part for path, part in _patched(draft).items() if path} if is_patch(draft) else {}
    found: dict[str, str] = {}
    for item in draft if isinstance(draft, list) else ():
        path = item.get("path") if isinstance(item, dict) else None
        text = (item.get("patch") or item.get("content")) if isinstance(item, dict) else None
        if not isinstance(path, str) or not isinstance(text, str) or not path or path in found:
            return {}
        found[path] = text
    return found


def _patched(patch: str) -> dict[str, str]:
    """The parts of a patch by the file that each is about; "" is what stands around them.

    A removed file keeps its old name.
    """
    found: dict[str, list[str]] = {"": []}
    head, path, old = list[str](), "", ""
    lines, left = patch.split("\n"), [0, 0]  # lines of the current hunk that are still to come: old, new
    for line in lines:
        if path and max(left) > 0 and line[:1] in (" ", "+", "-", ""):
            left[0] -= line[:1] != "+"
            left[1] -= line[:1] != "-"
            found[path].append(line)
        elif line.startswith("--- ") and (match := _REMOVED.match(line)):
            old, path = match["path"], ""
            head.append(line)
        elif line.startswith("+++ ") and (match := _NAMED.match(line)):
            path = old if match["path"] == "/dev/null" else match["path"]
            found.setdefault(path, []).extend([*head, line])
            head = []
        elif path and (match := _HUNK.match(line)):
            counts = re.findall(r"[-+]\d+(?:,(\d+))?", line)[:2]
            left = [int(count or 1) for count in counts]
            found[path].append(line)
        elif line.startswith("\\") and path:
            found[path].append(line)
        else:
            path = ""
            of_next = line.startswith(
                ("diff ", "index ", "new file", "deleted file", "rename ", "old mode", "new mode")
            )
            (head if of_next else found[""]).append(line)
    found[""] += head
    return {name: "\n".join(part) for name, part in found.items()}


# --- where a comment points ------------------------------------------------------------------------------------------


def check_anchor(comment: Comment, draft: JsonValue) -> None:
    """Refuse a comment about a place that the draft does not have.

    Raises:
        ValueError: Says which, and what there is.
    """
    if comment.span is not None:
        start, end = comment.span
        if not isinstance(draft, str):
            raise ValueError("a span is one of a text, and the draft is none; anchor the comment to a field or a file")
        if not 0 <= start < end <= len(draft):
            raise ValueError(f"the span {start}-{end} is not within the text, which has {len(draft)} characters")
    if comment.field is not None:
        _at(draft, comment.field)
    known = files(draft)
    if comment.file is not None and comment.file not in known:
        there = ", ".join(known) or "none"
        raise ValueError(f"the draft has no file {comment.file!r}; its files are: {there}")
    if comment.line is not None:
        if comment.file is None and not isinstance(draft, str):
            raise ValueError("a line is one of a text or of a file; say which file")
        text = known[comment.file] if comment.file is not None else str(draft)
        if not any(comment.line in lines for lines in _lines(text, comment.file is not None)):
            raise ValueError(f"there is no line {comment.line} in {comment.file or 'the text'} as it is shown")


def _lines(text: str, in_file: bool) -> list[range]:
    """The line numbers that are shown: of a patch those of its hunks, in the file as it becomes."""
    if in_file and (hunks := [match for line in text.split("\n") if (match := _HUNK.match(line))]):
        return [range(int(hunk["start"]), int(hunk["start"]) + int(hunk["count"] or 1)) for hunk in hunks]
    return [range(1, len(text.split("\n")) + 1)]


def _at(draft: JsonValue, path: str) -> JsonValue:
    """The value of a field.

    Raises:
        ValueError: There is no such field.
    """
    value, walked = draft, list[str]()
    for name in [path] if isinstance(draft, dict) and path in draft else path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            names = list(value) if isinstance(value, dict) else []
            names = [f"0 to {len(value) - 1}"] if isinstance(value, list) and value else names
            where = f"{'.'.join(walked)} has" if walked else "the draft has"
            raise ValueError(f"there is no field {path!r}; {where} {', '.join(names) or 'no fields'}")
        walked.append(name)
    return value


def locate(draft: JsonValue, where: str) -> dict[str, Any]:
    """The anchor that a person means, as keyword arguments for `Comment`.

    Args:
        where: Of a text `10-25` (characters), `12` (line) or some words of it that occur once; of files `path` or
            `path:12`; else a field such as `items.0.price`.

    Raises:
        ValueError: Nothing in the draft is meant by it, or several places are.
    """
    known = files(draft)
    path, _, line = where.rpartition(":")
    if where in known:
        return {"file": where}
    if path in known and line.isascii() and line.isdecimal():
        return {"file": path, "line": int(line)}
    if isinstance(draft, str):
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", where, re.ASCII):
            return {"span": (int(match[1]), int(match[2]))} if match[2] else {"line": int(match[1])}
        count = draft.count(where) if where else 0
        if count == 1:
            start = draft.index(where)
            return {"span": (start, start + len(where))}
        names = f"; its files are {', '.join(known)}" if known else ""
        occurs = "do not occur in the text" if count == 0 else f"occur {count} times; take more of them"
        raise ValueError(f"the words {where!r} {occurs}{names}")
    if known and not where.split(".")[0].isdecimal():
        raise ValueError(f"the draft has no file {where!r}; its files are: {', '.join(known)}")
    return {"field": where}


def place(comment: Comment) -> str:
    """Where a comment points, for people; empty where it is about the whole draft."""
    if comment.span is not None:
        return f"characters {comment.span[0]}-{comment.span[1]}"
    if comment.field is not None:
        return comment.field
    if comment.file is not None:
        return comment.file if comment.line is None else f"{comment.file}:{comment.line}"
    return "" if comment.line is None else f"line {comment.line}"


def excerpt(comment: Comment, draft: JsonValue) -> str | None:
    """What stands at the place of a comment: the words, the value as JSON, or the line."""
    try:
        check_anchor(comment, draft)
    except ValueError:  # of a finding, which nobody has checked
        return None
    if comment.span is not None:
        return str(draft)[slice(*comment.span)]
    if comment.field is not None:
        return json.dumps(_at(draft, comment.field), ensure_ascii=False)
    if comment.line is not None:
        text = str(draft) if comment.file is None else files(draft)[comment.file]
        return _line(text, comment.line, comment.file is not None)
    return None


def _line(text: str, number: int, in_file: bool) -> str | None:
    lines = text.split("\n")
    if not (in_file and any(map(_HUNK.match, lines))):
        return lines[number - 1]
    at = 0
    for line in lines:
        if match := _HUNK.match(line):
            at = int(match["start"])
        elif at and line[:1] in (" ", "+", ""):
            if at == number:
                return line[1:]
            at += 1
    return None


def feedback(draft: JsonValue, by: str, message: str | None, comments: Iterable[Comment]) -> str:
    """What the writer is told: who wants changes, the text, and each comment with what it is about."""
    lines = [f"Your draft was sent back by {by}. Write it anew, with these changes:"]
    if message:
        lines += ["", message]
    points: list[str] = []
    for comment in comments:
        quote, where = excerpt(comment, draft), place(comment)
        at = f"{where}{f' ({quote.strip()})' if quote is not None else ''}: " if where else ""
        points.append(f"- {at}{comment.text}")
    return "\n".join([*lines, *([""] if points else []), *points])


# --- what changed ----------------------------------------------------------------------------------------------------


def difference(before: JsonValue, after: JsonValue) -> str:
    """From one draft to the next, as a unified diff for people; empty if they are the same.

    A long line of prose is compared sentence by sentence. Files are compared one by one; patches too, and there each
    line has two signs: what changed between the patches, then what the patch itself does.
    """
    if _is_in_files(before) and _is_in_files(after):
        old, new = (_patched(draft) if isinstance(draft, str) else files(draft) for draft in (before, after))
        parts = [_compared(_comparable(old.get(path)), _comparable(new.get(path)), path) for path in {**old, **new}]
        return "\n".join(line for part in parts for line in part)
    return "\n".join(_compared(_shown(before), _shown(after), ""))


def _is_in_files(draft: JsonValue) -> bool:
    """Whether its files are all that it says."""
    items = draft if isinstance(draft, list) else []
    return bool(files(draft)) and all(isinstance(item, dict) and len(item) == 2 for item in items)


def _shown(draft: JsonValue) -> list[str]:
    if not isinstance(draft, str):
        return json.dumps(draft, ensure_ascii=False, indent=2, sort_keys=True).split("\n")
    return [part for line in draft.split("\n") for part in (_SENTENCE.split(line) if len(line) > _LONG else [line])]


def _comparable(text: str | None) -> list[str] | None:
    """The lines of a file or of its part of a patch, where line numbers and hashes do not count as changes."""
    if text is None:
        return None
    if not any(map(_HUNK.match, text.split("\n"))):
        return _shown(text)
    return [_HUNK.sub("@@", line) for line in text.split("\n") if not line.startswith(("index ", "diff "))]


def _compared(before: Sequence[str] | None, after: Sequence[str] | None, path: str) -> list[str]:
    names = ("/dev/null" if before is None else path, "/dev/null" if after is None else path) if path else ("", "")
    lines = list(difflib.unified_diff(before or (), after or (), *names, n=2, lineterm=""))
    return lines if path else lines[2:]
