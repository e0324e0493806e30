"""New arguments for a call: from options, or from the reviewer's editor. Nothing here records anything."""

import difflib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hitl_graph.cli import views
from hitl_graph.cli.app import REFUSED, USAGE, Failure
from hitl_graph.drafts import is_patch
from hitl_graph.errors import InvalidDecisionError
from hitl_graph.model import Request

__all__ = ["Draft", "assigned", "difference", "parsed"]


def parsed(text: str, what: str) -> Any:
    """The JSON in a text.

    Raises:
        Failure: It is none; the message names line and column.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise Failure(USAGE, f"{what}: {twice!r} is given twice; nothing was recorded")
        return found

    def no_number(text: str) -> Any:
        raise Failure(USAGE, f"{what}: {text} is no JSON; nothing was recorded")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except json.JSONDecodeError as exc:
        raise Failure(
            USAGE, f"{what} is not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}; nothing was recorded"
        ) from exc
    except RecursionError:
        raise Failure(USAGE, f"{what} is nested too deep; nothing was recorded") from None


def assigned(request: Request, assignments: Sequence[str]) -> dict[str, Any]:
    """The arguments of a request with some of them set anew, from `name=value`.

    A value is a text where the tool takes a text, else JSON, else a text.
    """
    args: dict[str, Any] = dict(request.action.args) if request.action else {}
    if request.action is None and isinstance(request.draft, dict):
        args = dict(request.draft)
    schema = request.answer_schema or {}
    properties = schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise Failure(USAGE, f"--set takes NAME=VALUE, not {assignment!r}; nothing was recorded")
        if name not in args and name not in known:
            what = "argument" if request.action is not None else "field"
            raise InvalidDecisionError(
                request.id, f"there is no {what} {name!r}; it has {', '.join({**args, **known}) or 'none'}"
            )
        args[name] = _typed(text, _kinds(known.get(name)), args.get(name))
    return args


def _kinds(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return set[str]().union(*map(_kinds, options))
    kinds = schema.get("type")
    return set(kinds) if isinstance(kinds, list) else {kinds} if isinstance(kinds, str) else set()


def _typed(text: str, kinds: set[str], now: Any) -> Any:
    if text == "null" and "null" in kinds:
        return None
    if "string" in kinds or (not kinds and isinstance(now, str)):
        return text
    try:
        return parsed(text, text)
    except Failure:
        return text


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What changed, line by line: `- old`, `+ new`."""
    lines = difflib.unified_diff(views.lines_of(before), views.lines_of(after), n=1, lineterm="")
    return [f"{line[0]} {line[1:]}" for line in list(lines)[2:] if not line.startswith("@@")]


class Draft:
    """What a reviewer edits, as a file in their editor: the arguments of an action, or the draft of a review.

    A draft that is a text is the file as it stands; in JSON, lines that begin with `#` do not count. The file is kept
    when its text could not be recorded.
    """

    def __init__(self, request: Request) -> None:
        action, draft = request.action, request.draft
        if action is None and draft is None:
            raise InvalidDecisionError(request.id, "there is no action to edit")
        self.name = action.name if action is not None else request.kind
        self.before: Any = views.arguments(request) if action is not None else draft
        if action is None and isinstance(draft, dict):
            self.before = views.arguments(request, draft)
        self.is_text = isinstance(self.before, str)
        if isinstance(self.before, str):
            suffix, content = ".patch" if is_patch(self.before) else ".md", self.before
        else:
            suffix = ".json"
            content = self._head(request) + json.dumps(self.before, ensure_ascii=False, indent=2)
        handle, name = tempfile.mkstemp(prefix=f"hitl-{self.name[:20]}-".replace("/", "_"), suffix=suffix)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(content if content.endswith("\n") else f"{content}\n")
        self.path = Path(name)

    def _head(self, request: Request) -> str:
        may = "" if request.editable is None else f"\n# Only these may change: {', '.join(request.editable) or 'none'}."
        thread = views.visible(request.thread_id)
        what = f"The arguments of {views.visible(self.name)}" if request.action else "The draft"
        then = "It runs with" if request.action else "Delivered is"
        return (
            f"# {what}, request {request.id}, thread {thread}.\n"
            f"# {then} what you save. Unchanged or empty: nothing is recorded.{may}\n"
            "# Lines with # do not count.\n"
        )

    def open(self) -> None:
        """Let the reviewer edit.

        Raises:
            Failure: There is no editor, or it did not end well.
        """
        command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
        words = shlex.split(command)
        if not words or shutil.which(words[0]) is None:
            raise Failure(
                USAGE, f"the editor {command!r} is not there; set EDITOR, or use --set NAME=VALUE or --args JSON"
            )
        ended = subprocess.run([*words, str(self.path)], check=False).returncode
        if ended != 0:
            raise Failure(REFUSED, f"the editor ended with {ended}; nothing was recorded")

    def read(self) -> Any:
        """What is in the file now.

        Raises:
            Failure: The file is empty or unchanged, or not JSON where that is needed.
        """
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as exc:
            raise Failure(USAGE, f"{self.path} cannot be read ({exc}); nothing was recorded") from exc
        new: Any = text
        if not self.is_text:
            kept = ["" if line.lstrip().startswith("#") else line for line in text.split("\n")]  # their numbers stay
            text = "\n".join(kept)
        if not text.strip():
            raise Failure(REFUSED, "the file is empty; nothing was recorded")
        if not self.is_text:
            new = parsed(text, "the file")
            if isinstance(self.before, dict) and not isinstance(new, dict):
                raise Failure(USAGE, f"the {self._noun()} a JSON object {{...}}; nothing was recorded")
        elif not self.before.endswith("\n"):
            new = text.removesuffix("\n")  # editors, and we, end a file with one
        if new == self.before and json.dumps(new, sort_keys=True) == json.dumps(self.before, sort_keys=True):
            raise Failure(REFUSED, "nothing was changed; nothing was recorded")
        return new

    def _noun(self) -> str:
        return "draft is" if self.name == "review" else "arguments are"

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
